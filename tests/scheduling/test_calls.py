"""The book of calls, with an engine of the test's own and no run around it.

What users see of it is in ``test_scheduler.py`` and ``test_state_machine.py``.
"""

import threading

import pytest
import support

from amltk.exceptions import WouldDeadlockError
from amltk.executors.registry import adopt, portable
from amltk.executors.sequential import SequentialExecutor
from amltk.scheduling.calls import CallBook


class Desk:
    """A book with the little that it needs of a run."""

    def __init__(self, executor):
        self.told = []
        self.raised = []
        self.book = CallBook(
            engine=adopt(executor),
            emit=lambda event, future: self.told.append((event.name, future.number)),
            wake=lambda: None,
            raised=self.raised.append,
            gate=threading.RLock(),
            later=lambda delay_s, callback: None,
        )
        self.book.is_open = True

    def submit(self, function=support.double, *args):
        return self.book.dispatch(
            portable(function), args, {}, audience=None, told=None, options=None
        )

    def work(self):
        """Do all that waits for the loop."""
        entries = self.book.handoff.entries
        while entries or self.book.work_ahead():
            if entries:
                do, first, second = entries.popleft()
                do(first, second)


@pytest.fixture
def desk(manual):
    return Desk(manual)


@pytest.fixture
def inline():
    return Desk(SequentialExecutor())


def test_nothing_is_told_before_the_loop_comes_to_it(desk, manual):
    desk.submit(support.double, 1)
    manual.finish_all()
    assert desk.told == []
    desk.work()
    assert desk.told == [("scheduler-future-submitted", 0), ("scheduler-future-done", 0)]


def test_a_closed_book_takes_nothing(desk, manual):
    desk.book.is_open = False
    assert desk.submit() is None
    assert (desk.book.n_live, manual.calls) == (0, [])


def test_what_a_call_raises_is_told_after_its_event(desk, manual):
    error = ValueError("broken")
    desk.submit()
    manual.calls[0].fail(error)
    desk.work()
    assert desk.raised == [error]
    assert desk.told[-1] == ("scheduler-future-done", 0)


def test_a_call_that_is_cancelled_twice_is_told_once(inline):
    future = inline.submit(support.double, 1)
    assert [future.cancel(), future.cancel()] == [True, True]
    inline.work()
    assert inline.told == [("scheduler-future-submitted", 0), ("scheduler-future-cancelled", 0)]


def test_an_inline_call_runs_when_the_loop_comes_to_it_and_not_before(inline):
    ran = []
    inline.submit(ran.append, 1)
    assert not ran
    inline.work()
    assert ran == [1]


def test_all_that_has_not_started_is_cancelled_one_by_one(desk, manual):
    futures = [desk.submit(support.double, x) for x in range(3)]
    manual.calls[1].start()
    desk.book.cancel_all_pending()
    desk.work()
    assert [future.cancelled() for future in futures] == [True, False, True]
    assert desk.book.n_live == 1


def test_calls_that_are_being_ended_are_those_that_are_left(desk, manual):
    for x in range(2):
        desk.submit(support.double, x)
    manual.calls[0].finish()
    desk.work()
    assert desk.book.mark_ending() == [manual.calls[1].future]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda call: call.finish(), "2"),
        (lambda call: call.fail(KeyError("broken")), "KeyError('broken')"),
        (lambda call: call.future.cancel(), "cancelled"),
    ],
)
def test_a_call_that_ends_after_the_close_is_completed_and_not_told(desk, manual, end, expected):
    future = desk.submit(support.double, 1)
    desk.work()
    desk.book.handoff.close()
    end(manual.calls[0])
    said = "cancelled" if future.cancelled() else repr(future.exception() or future.result())
    assert said == expected
    assert desk.told == [("scheduler-future-submitted", 0)]


def test_only_the_thread_of_the_loop_may_not_wait_and_only_while_it_runs(desk):
    future = desk.submit(support.double, 1)
    with pytest.raises(WouldDeadlockError):
        future.result(0)
    desk.book.handoff.close()
    with pytest.raises(TimeoutError):
        future.result(0)
