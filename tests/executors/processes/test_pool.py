"""What the pool's thread does at moments that seldom meet; tests of all else use the executor."""

import os
import select
import signal
import threading

import pytest
import support

from amltk.executors.processes import launch
from amltk.executors.processes.executor import ProcessExecutor

TIMEOUT = 20


def return_late(path, value):
    support.wait_for_file(path)
    return value


def has_come(path):
    try:
        support.wait_for_file(path, 5)
    except AssertionError:
        return False
    return True


@pytest.fixture
def held_up():
    """Return what has the pool's thread wait in a future's callback, and what lets it go on."""
    is_there, goes_on = threading.Event(), threading.Event()

    def hold_up(_):
        is_there.set()
        goes_on.wait(TIMEOUT)

    def begin(future):
        future.add_done_callback(hold_up)
        return is_there

    yield begin, goes_on.set
    goes_on.set()


def test_an_outcome_that_is_told_before_a_death_counts(monkeypatch, tmp_path, held_up):
    """Where no descriptor tells of a worker's end, that may be seen before its last words are."""
    monkeypatch.setattr(launch, "open_sentinel", lambda _pid: None)
    hold_up, let_go = held_up
    with ProcessExecutor(2) as executor:
        busy, last = (executor.submit(return_late, tmp_path / name, name) for name in ("a", "b"))
        support.wait_until(lambda: busy.running() and last.running())
        is_held_up = hold_up(busy)
        (tmp_path / "a").touch()
        assert is_held_up.wait(TIMEOUT)

        worker = next(worker for worker in executor._pool._workers if worker.call is last)
        (tmp_path / "b").touch()
        assert select.select([worker.channel.sock], [], [], TIMEOUT)[0]
        os.kill(worker.process.pid, signal.SIGKILL)
        # Not by its state: that of its main thread tells of its end before its exit code is known.
        os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)
        let_go()

        assert last.result(TIMEOUT) == "b"


def test_a_call_that_comes_as_its_worker_falls_idle_waits_for_no_callback(tmp_path):
    """Its submitter saw no idle worker, and the pool's thread no call that waits."""
    with ProcessExecutor(1) as executor:
        pool, told = executor._pool, []
        feed = pool._feed

        def feed_with_one_that_is_late(worker):
            was_fed = feed(worker)
            if not was_fed and first.running() and not told:
                told.append(executor.submit((tmp_path / "ran").touch))
            return was_fed

        first = executor.submit(return_late, tmp_path / "go", 1)
        support.wait_until(first.running)
        first.add_done_callback(lambda _: told.append(has_come(tmp_path / "ran")))
        pool._feed = feed_with_one_that_is_late
        (tmp_path / "go").touch()
        assert first.result(TIMEOUT) == 1
        support.wait_until(lambda: len(told) == 2)
        assert told[1] is True
        assert told[0].result(TIMEOUT) is None
