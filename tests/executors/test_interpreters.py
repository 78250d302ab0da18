"""The standard library's pool of interpreters, as an executor that a user brings."""

import concurrent.futures
import os
import sys
import threading

import pytest

from amltk import Comm, Scheduler, Task
from amltk.exceptions import CallError, InvalidOptionError
from amltk.optimization import Metric, RandomSearch, optimize
from amltk.plugins.warning_filter import WarningFilter

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="InterpreterPoolExecutor is of Python 3.14 and later"
)

TIMEOUT = 30


@pytest.fixture
def scheduler():
    with concurrent.futures.InterpreterPoolExecutor(2) as pool:
        yield Scheduler(pool)


def run(task, *calls):
    futures = []
    task.scheduler.on_start(lambda: futures.extend(task(*call) for call in calls))
    code = task.scheduler.run(timeout=TIMEOUT, end_on_exception=False)
    assert code is Scheduler.ExitCode.EXHAUSTED
    return futures


def test_calls_run_in_this_process_and_share_nothing_of_it(scheduler):
    # Functions of this file travel by value only as closures: importing it needs pytest.
    marked = threading.current_thread()
    marked.a_mark = True

    def look():
        return os.getpid(), hasattr(threading.main_thread(), "a_mark")

    (future,) = run(Task(look, scheduler), ())
    assert future.result() == (os.getpid(), False)
    del marked.a_mark


def test_what_refuses_to_be_imported_there_fails_its_call_only(scheduler):
    def load(name):
        return __import__(name).__name__

    refused, fine = run(Task(load, scheduler), ("psutil",), ("json",))
    assert isinstance(refused.exception(), ImportError)
    assert fine.result() == "json"


def test_arguments_that_cannot_be_pickled_fail_their_call_only(scheduler):
    refused, fine = run(Task(lambda x: x, scheduler), (threading.Lock(),), (1,))
    assert isinstance(refused.exception(), CallError)
    assert fine.result() == 1


def test_calls_talk_to_the_driver(scheduler):
    def talk(x, comm: Comm | None = None):
        with comm:
            comm.send(x)
            return comm.request("more?", timeout=20)

    task = Task(talk, scheduler, plugins=Comm.Plugin())
    heard = []
    task.on_message(lambda message: heard.append(message.data))
    task.on_request(lambda message: message.respond("no"))
    (future,) = run(task, (1,))
    assert (heard, future.result()) == ([1], "no")


def test_trials_are_tried_there(scheduler):
    def evaluate(trial):
        with trial.begin():
            loss = trial.config["lr"]
        return trial.success(loss=loss)

    space = RandomSearch({"lr": (0.0, 1.0)}, metrics=Metric("loss"), seed=1)
    history = optimize(evaluate, space, scheduler, max_trials=4)
    assert [report.status.name for report in history] == ["SUCCESS"] * 4


def test_a_plugin_that_refuses_threads_refuses_these(scheduler):
    with pytest.raises(InvalidOptionError, match="threads of one process"):
        Task(len, scheduler, plugins=WarningFilter("ignore"))
