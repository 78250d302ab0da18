"""Several plugins on one task, in whatever order they are given."""

import logging
import os
import signal
import time
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import support

from amltk import CallLimiter, Comm, Scheduler, Task
from amltk.optimization import Trial
from amltk.plugins import (
    PynisherPlugin,
    Retry,
    ThreadPoolCTLPlugin,
    WandbPlugin,
    WarningFilter,
    WorkerLogs,
)
from amltk.testing.contracts.plugin import ENGINES

pytest.importorskip("pynisher", reason="the extra pynisher is not installed")


def do_all(folder, x, comm=None):
    """Talk in all ways, die at the first attempt, and take too long where x is 2."""
    warnings.warn("collected", UserWarning, stacklevel=1)
    print("printed", x)  # noqa: T201 - it is caught
    logging.getLogger("mine").info("logged %s", x)
    with comm:
        comm.send(x)
        answer = comm.request(x, timeout=30)
        attempt = Path(folder) / str(x)
        if not attempt.exists():
            attempt.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (Path(folder) / f"{x} got through").touch()
        if x == 2:
            time.sleep(600)
    return answer


def tell_with_room(story, path, *called):
    """Tell a story of calls where each of them has the time to get through at its second attempt."""
    folders = []

    def run(limit_s):
        folders.append(path / f"{limit_s} s")
        folders[-1].mkdir()
        return story(limit_s, folders[-1])

    def have_got_through():
        return all((folders[-1] / f"{x} got through").exists() for x in called)

    return support.with_room(run, have_got_through, 1, 5, 25)


def plugins_for(limit_s, folder):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    pytest.importorskip("threadpoolctl", reason="the extra threadpoolctl is not installed")
    return [
        PynisherPlugin(wall_time_limit=limit_s),
        Comm.Plugin(),
        WandbPlugin(project="together", mode="disabled", dir=folder).task_tracker(),
        WorkerLogs(),
        ThreadPoolCTLPlugin(),
        WarningFilter("collect"),
        Retry(max_retries=1),
        CallLimiter(max_concurrent=2),
    ]


def tell_of_three_calls(engine, turned, limit_s, folder):
    """Return the task, what was heard of it, what has ended by its limit, and the results."""
    plugins = plugins_for(limit_s, folder)
    heard, timeouts, results = [], [], []
    with ExitStack() as stack:
        scheduler = ENGINES[engine](stack)
        task = Task(do_all, scheduler, plugins=plugins[::-1] if turned else plugins)
        task.on_request(lambda msg: msg.respond(msg.data * 10))
        task.on_message(lambda msg: heard.append(("message", msg.data)))
        task.on_comm_close(lambda msg: heard.append(("close", msg.future.number + 1)))
        task.on(Retry.F_RETRIED, lambda f, n, e: heard.append(("retried", f.number + 1)))
        task.on(WorkerLogs.LOG, lambda f, r: heard.append(("log", f.number + 1)))
        task.on(WorkerLogs.OUTPUT, lambda f, name, line: heard.append((line, f.number + 1)))
        task.on(WarningFilter.WARNED, lambda f, caught: heard.append(("warned", f.number + 1)))
        task.on_done(lambda f: heard.append(("done", f.number + 1)))
        task.on(PynisherPlugin.WALL_TIME_LIMIT_REACHED, timeouts.append)
        task.on_returned(results.append)
        scheduler.on_start(lambda: (task(folder, 1), task(folder, 2), task(folder, 3)))
        scheduler.run(timeout=50, end_on_exception=False)
    return task, heard, timeouts, results


@pytest.mark.slow
@pytest.mark.timeout(180)  # where it takes more than one try
@pytest.mark.parametrize("engine", ["processes", "loky", "dask"])
@pytest.mark.parametrize("turned", [False, True])
def test_they_all_work_on_one_task_in_any_order(engine, turned, tmp_path):
    story = partial(tell_of_three_calls, engine, turned)
    task, heard, timeouts, results = tell_with_room(story, tmp_path, 1, 2)
    assert results == [10]
    assert len(timeouts) == 1
    assert task.n_called == 2  # the limiter has refused the third
    for number in (1, 2):
        story = [what for what, of in heard if of == number]
        assert story.count("message") == story.count("log") == story.count("close") == 2
        assert story.count(f"printed {number}") == 2
        assert story.count("retried") == story.count("done") == 1
        assert story.index("retried") < story.index("done") == len(story) - 1
    assert [of for what, of in heard if what == "warned"] == [1]  # a killed call cannot tell


def try_out(trial, folder, comm=None):
    """Do all of that as a trial, whose comm is at the trial too."""
    assert comm is trial.plugins["comm"]
    with trial.begin():
        trial.plugins["wandb"].log({"loss": 1})
        answer = do_all(folder, trial.config["x"], comm)
        if trial.config["x"] == 3:
            raise LookupError("no 3")
    return trial.crashed() if trial.exception is not None else trial.success(answer=answer)


def tell_of_trials(turned, limit_s, folder):
    """Return the reports by the names of their trials, and what has ended by its limit."""
    plugins = plugins_for(limit_s, folder)
    plugins[2] = WandbPlugin(project="together", mode="disabled", dir=folder).trial_tracker()
    plugins[-1] = CallLimiter(max_calls=4)
    task = Trial.Task(
        try_out, Scheduler.with_processes(2), plugins=plugins[::-1] if turned else plugins
    )
    told, timeouts = {}, []
    task.on_request(lambda msg: msg.respond(msg.data * 10))
    task.on_report(lambda report: told.update({report.name: report}))
    task.on(PynisherPlugin.TIMEOUT, timeouts.append)
    trials = [Trial(f"{x}", {"x": x}) for x in range(6)]
    task.scheduler.on_start(lambda: [task(trial, folder) for trial in trials])
    task.scheduler.run(timeout=50, end_on_exception=False)
    return told, timeouts


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("turned", [False, True])
def test_they_all_work_on_one_task_of_trials(turned, tmp_path):
    told, timeouts = tell_with_room(partial(tell_of_trials, turned), tmp_path, 0, 1, 2, 3)
    assert {name: report.status.value for name, report in told.items()} == {
        "0": "success",
        "1": "success",
        "2": "crashed",
        "3": "crashed",
    }
    assert told["1"].metrics == {"answer": 10}
    assert isinstance(told["2"].exception, PynisherPlugin.WallTimeoutException)
    assert timeouts == [told["2"].exception]
    assert isinstance(told["3"].exception, LookupError)
    assert told["3"].time.wall_s > 0


def talk_and_hang(n, path, comm=None):
    with comm:
        for x in range(n):
            comm.send(x)
        path.touch()
        time.sleep(600)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_call_that_is_ended_by_a_limit_has_been_heard(order, tmp_path):
    has_sent_all = tmp_path / "has sent all"

    def run(limit_s):
        both = [PynisherPlugin(wall_time_limit=limit_s), Comm.Plugin()]
        task = Task(talk_and_hang, Scheduler.with_processes(1), plugins=[both[i] for i in order])
        heard = []
        task.on_message(lambda msg: heard.append(msg.data))
        task.on_comm_close(lambda: heard.append("close"))
        task.on_done(lambda: heard.append("done"))
        task.on(PynisherPlugin.TIMEOUT, lambda: heard.append("timeout"))
        task.scheduler.on_start(lambda: task(1000, has_sent_all))
        task.scheduler.run(timeout=40, end_on_exception=False)
        return heard

    heard = support.with_room(run, has_sent_all.exists, 1, 4, 16)
    assert heard == [*range(1000), "close", "done", "timeout"]
