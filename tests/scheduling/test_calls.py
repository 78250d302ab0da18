"""The book of calls, with an engine of the test's own and no run around it.

What users see of it is in ``test_scheduler.py`` and ``test_state_machine.py``.
"""

import threading
from functools import partial

import pytest
import support

from amltk._future import LightFuture
from amltk.exceptions import WorkerDiedError, WouldDeadlockError
from amltk.executors.registry import adopt, portable
from amltk.executors.sequential import SequentialExecutor
from amltk.executors.traits import Traits
from amltk.scheduling.calls import CallBook
from amltk.testing import ManualExecutor


class Alarm:
    """A timer that goes off when the test says so."""

    def __init__(self, delay_s, callback):
        self.delay_s, self.callback = delay_s, callback
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True

    def ring(self):
        if not self.is_cancelled:
            self.callback()


class Listener:
    """An audience that has each call tried again after a second, unless the test says otherwise."""

    may_hold = may_retry = True

    def __init__(self, told):
        self.told = told
        self.decide = lambda future: 1.0

    def call_held(self, future, release):
        return False

    def call_retried(self, future, error):
        self.told.append(("retry", future.number))
        return self.decide(future)

    def __getattr__(self, name):
        note = {"call_ended": "ended", "call_raised": "raised", "call_cancelled": "cancelled"}
        return lambda future, *_: name in note and self.told.append((note[name], future.number))


class EndingFuture(LightFuture):
    """The future of a call whose worker ends some time after it was asked to."""

    def cancel(self):
        return super().cancel() or not self.done()


class EndingExecutor(ManualExecutor):
    """Can end running calls; the test says when their workers are gone."""

    traits = Traits(pickles=False, ends_running_calls=True)

    def submit(self, fn, /, *args, **kwargs):
        super().submit(fn, *args, **kwargs)
        self.calls[-1].future = EndingFuture()
        return self.calls[-1].future


class Desk:
    """A book with the little that it needs of a run."""

    def __init__(self, executor, gate=None):
        self.told = []
        self.raised = []
        self.alarms = []
        self.listener = Listener(self.told)
        self.book = CallBook(
            engine=adopt(executor),
            emit=lambda event, future: self.told.append((event.name, future.number)),
            wake=lambda: None,
            raised=self.raised.append,
            gate=gate or threading.RLock(),
            later=self.later,
        )
        self.book.is_open = True

    def later(self, delay_s, callback):
        self.alarms.append(Alarm(delay_s, callback))
        return self.alarms[-1]

    def submit(self, function=support.double, *args, audience=None):
        return self.book.dispatch(
            portable(function), args, {}, audience=audience, told=None, options=None
        )

    def submit_and_fail(self, error=None):
        """Let the first attempt of a call fail that may be tried again, and forget what was told."""
        future = self.submit(partial(support.fail, "no"), audience=self.listener)
        if not self.book.engine.traits.runs_inline:
            self.book.engine.executor.calls[-1].fail(error or ValueError("no"))
        self.work()
        self.told.clear()
        return future

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


def test_calls_of_several_threads_are_announced_in_the_order_of_their_numbers(manual):
    gate = support.WatchedLock()
    desk = Desk(manual, gate)
    put, is_putting = desk.book.handoff.put, threading.Event()

    def put_slowly(entry):
        if not is_putting.is_set():
            is_putting.set()
            assert gate.is_waited_for.wait(20)
        put(entry)

    desk.book.handoff.put = put_slowly
    first, second = (threading.Thread(target=desk.submit) for _ in range(2))
    first.start()
    assert is_putting.wait(20)
    second.start()
    gate.wait_for(second)
    for thread in (first, second):
        thread.join(20)
    desk.work()
    assert desk.told == [("scheduler-future-submitted", 0), ("scheduler-future-submitted", 1)]


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


@pytest.fixture(params=["manual", "inline"])
def either(request, manual):
    return Desk(manual if request.param == "manual" else SequentialExecutor())


class TestAttempts:
    def test_a_call_rests_until_its_time_has_come(self, desk, manual):
        future = desk.submit_and_fail()
        assert [alarm.delay_s for alarm in desk.alarms] == [1.0]
        assert (len(manual.calls), desk.book.n_live, future.done()) == (1, 1, False)
        desk.alarms[0].ring()
        manual.calls[1].succeed(42)
        desk.work()
        assert future.result() == 42
        assert desk.told == [("ended", 0), ("scheduler-future-done", 0)]
        assert not desk.book._resting

    def test_one_that_is_cancelled_as_it_rests_does_not_wake_up(self, either):
        future = either.submit_and_fail()
        assert (future.cancel(), future.cancelled()) == (True, True)
        either.alarms[0].ring()
        either.work()
        ended = [("ended", 0), ("scheduler-future-cancelled", 0), ("cancelled", 0)]
        assert either.told == ended
        assert not either.book._resting

    def test_one_that_is_cancelled_as_its_time_has_come_does_not_run(self, inline):
        future = inline.submit_and_fail()
        inline.alarms[0].ring()
        assert future.cancel()
        inline.work()
        assert inline.told[-1] == ("cancelled", 0)

    def test_one_whose_time_comes_as_the_book_closes_has_had_its_last_attempt(self, either):
        future = either.submit_and_fail()
        either.book.is_open = False
        either.alarms[0].ring()
        assert future._inner is None
        assert not either.book._backlog
        either.book.cancel_all_pending()
        either.work()
        assert str(future.exception()) == "no"
        assert either.told == [("ended", 0), ("scheduler-future-done", 0), ("raised", 0)]

    def test_one_that_waits_for_its_turn_as_the_book_closes_has_had_it_too(self, either):
        future = either.submit_and_fail()
        either.alarms[0].ring()
        either.book.is_open = False
        either.book.cancel_all_pending()
        either.work()
        assert str(future.exception()) == "no"
        assert either.told[-1] == ("raised", 0)
        assert either.book.n_live == 0

    def test_one_whose_worker_died_before_is_not_being_ended_now(self, desk, manual):
        error = WorkerDiedError("gone")
        future = desk.submit_and_fail(error)
        desk.book.is_open = False
        desk.book.cancel_all_pending()
        assert desk.book.mark_ending() == []
        desk.work()
        assert future.exception() is error

    def test_one_that_is_being_ended_is_not_tried_again(self, desk, manual):
        future = desk.submit_and_fail()
        desk.alarms[0].ring()
        manual.calls[1].start()
        desk.book.mark_ending()
        manual.calls[1].fail(WorkerDiedError("gone"))
        desk.work()
        assert future.cancelled()
        assert ("retry", 0) not in desk.told

    def test_who_cancels_an_attempt_that_waits_is_told_so_even_as_the_book_closes(
        self, desk, manual
    ):
        future = desk.submit_and_fail()
        desk.alarms[0].ring()
        desk.book.is_open = False
        assert future.cancel()
        desk.work()
        assert desk.told[-1] == ("cancelled", 0)

    def test_an_attempt_that_is_cancelled_while_it_runs_is_so_even_as_the_book_closes(self):
        executor = EndingExecutor()
        desk = Desk(executor)
        future = desk.submit_and_fail()
        desk.alarms[0].ring()
        executor.calls[1].start()
        assert future.cancel()
        desk.book.is_open = False
        executor.calls[1].future._set_cancelled()
        desk.work()
        assert desk.told[-1] == ("cancelled", 0)

    def test_one_that_is_cancelled_while_others_decide_stays_cancelled(self, either):
        either.listener.decide = lambda future: future.cancel() and 1.0
        future = either.submit_and_fail()
        assert future.cancelled()
        assert not either.alarms
        assert not either.book._resting

    def test_one_that_ended_after_the_close_is_not_tried_again(self, desk, manual):
        future = desk.submit(support.double, 1, audience=desk.listener)
        desk.work()
        desk.book.handoff.close()
        manual.calls[0].fail(KeyError("late"))
        assert repr(future.exception()) == "KeyError('late')"
        assert desk.told[-1] == ("ended", 0)
