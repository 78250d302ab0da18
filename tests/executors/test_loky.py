import os
import time

import pytest
import support

from amltk import Scheduler, Task
from amltk.exceptions import InvalidOptionError
from amltk.executors.loky import loky_factory
from amltk.executors.registry import traits_of

loky = pytest.importorskip("loky", reason="the extra loky is not installed")

TIMEOUT = 30


def test_calls_run_in_other_processes():
    with loky_factory(1)() as pool:
        assert pool.submit(os.getpid).result(TIMEOUT) != os.getpid()


def test_a_death_is_known_to_spread():
    with loky_factory(1)() as pool:
        assert traits_of(pool).death_spreads


def test_options_are_passed_on():
    make = loky_factory(1, env={"AMLTK_TEST": "set"})
    with make() as pool:
        assert pool.submit(os.getenv, "AMLTK_TEST").result(TIMEOUT) == "set"


def test_no_workers_are_refused():
    with pytest.raises(InvalidOptionError, match="max_workers=0"):
        loky_factory(0)


def test_a_scheduler_runs_on_it_again_and_again():
    scheduler, results = Scheduler.with_loky(2), []
    task = Task(lambda x: x + 1, scheduler)
    task.on_returned(results.append)
    scheduler.on_start(lambda: [task(x) for x in range(3)])
    codes = [scheduler.run(timeout=TIMEOUT) for _ in range(2)]
    assert codes == [Scheduler.ExitCode.EXHAUSTED] * 2
    assert sorted(results) == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("recover", "error"), [(True, "WorkerDiedError"), (False, "TerminatedWorkerError")]
)
def test_a_worker_that_dies_ends_the_call_with_an_exception(recover, error):
    scheduler, errors = Scheduler.with_loky(1, recover=recover), []
    task = Task(lambda: os._exit(3), scheduler)
    task.on_exception(errors.append)
    scheduler.on_start(task)
    scheduler.run(timeout=TIMEOUT, end_on_exception=False)
    assert [type(error).__name__ for error in errors] == [error]


def test_running_calls_are_ended_without_wait(tmp_path):
    path, scheduler = tmp_path / "pid", Scheduler.with_loky(1)

    def note_and_sleep():
        support.write_atomically(path, str(os.getpid()))
        time.sleep(600)

    task = Task(note_and_sleep, scheduler)
    scheduler.on_start(task)
    task.on_submitted(lambda: (support.wait_for_file(path), scheduler.stop()))
    assert scheduler.run(wait=False) is Scheduler.ExitCode.STOPPED
    assert task.event_counts[task.F_CANCELLED] == 1
    assert not support.is_alive(int(path.read_text()))
