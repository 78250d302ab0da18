import threading

import pytest

from amltk import Scheduler
from amltk.exceptions import (
    InvalidCallbackError,
    InvalidOptionError,
    SchedulerNotRunningError,
)

EXHAUSTED, STOPPED, TIMEOUT = (
    getattr(Scheduler.ExitCode, name) for name in ("EXHAUSTED", "STOPPED", "TIMEOUT")
)


@pytest.fixture
def scheduler():
    return Scheduler.with_threads(1)


def test_callbacks_are_called_in_the_order_of_their_times(scheduler):
    heard = []
    scheduler.on_start(lambda: scheduler.call_later(0.04, lambda: heard.append("second")))
    scheduler.on_start(lambda: scheduler.call_later(0.02, lambda: heard.append("first")))

    assert scheduler.run(timeout=20) is EXHAUSTED
    assert heard == ["first", "second"]


def test_it_runs_in_the_thread_of_all_callbacks_and_may_submit(scheduler):
    futures, threads = [], []

    def later():
        threads.append(threading.current_thread())
        futures.append(scheduler.submit(abs, -1))

    @scheduler.on_start
    def begin() -> None:
        threads.append(threading.current_thread())
        # Asked for by another thread.
        other = threading.Thread(target=lambda: scheduler.call_later(0.01, later))
        other.start()
        other.join()

    assert scheduler.run(timeout=20) is EXHAUSTED
    assert futures[0].result() == 1
    assert threads[0] is threads[1]


def test_one_that_was_called_off_is_not_called_and_keeps_no_run(scheduler):
    heard, cancelled = [], []

    @scheduler.on_start
    def begin() -> None:
        later = scheduler.call_later(30, lambda: heard.append("later"))
        scheduler.call_later(0.01, lambda: cancelled.extend([later.cancel(), later.cancel()]))

    assert scheduler.run(timeout=20) is EXHAUSTED
    assert (heard, cancelled) == ([], [True, False])


@pytest.mark.parametrize("options", [{"timeout": 0.05}, {"timeout": 20}])
def test_when_the_run_finishes_it_is_dropped(scheduler, options):
    heard, laters = [], []
    scheduler.on_start(lambda: laters.append(scheduler.call_later(30, lambda: heard.append(1))))
    if options["timeout"] == 20:
        scheduler.on_start(lambda: scheduler.call_later(0.01, scheduler.stop))

    assert scheduler.run(**options) is (TIMEOUT if options["timeout"] < 1 else STOPPED)
    assert heard == []
    assert not laters[0].cancel()


def test_of_a_run_that_finishes_none_is_taken(scheduler):
    laters = []
    scheduler.on_finishing(lambda: laters.append(scheduler.call_later(0, lambda: None)))
    scheduler.run(timeout=20)

    assert not laters[0].cancel()


def test_what_it_raises_ends_the_run_and_is_named(scheduler):
    def fail():
        raise KeyError("no")

    scheduler.on_start(lambda: scheduler.call_later(0.01, fail))
    with pytest.raises(KeyError) as caught:
        scheduler.run(timeout=20)

    assert "of call_later" in caught.value.__notes__[0]


async def coroutine():
    pass


@pytest.mark.parametrize(
    ("seconds", "callback", "error"),
    [
        (-1, print, InvalidOptionError),
        (float("nan"), print, InvalidOptionError),
        ("1", print, InvalidOptionError),
        (1, None, InvalidCallbackError),
        (1, coroutine, InvalidCallbackError),
    ],
)
def test_what_makes_no_sense_is_refused(scheduler, seconds, callback, error):
    scheduler.on_start(lambda: scheduler.call_later(seconds, callback))

    with pytest.raises(error):
        scheduler.run(timeout=20)


def test_without_a_run_there_is_nothing_to_wait_in(scheduler):
    with pytest.raises(SchedulerNotRunningError):
        scheduler.call_later(1, print)
