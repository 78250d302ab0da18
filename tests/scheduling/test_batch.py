"""A batch: what it tells, in which order, and what it keeps to itself."""

import threading
from functools import partial

import pytest
import support

from amltk import CallLimiter, Scheduler, Task, TaskPlugin
from amltk.exceptions import (
    BatchError,
    InvalidOptionError,
    LateCallWarning,
    SchedulerNotRunningError,
)
from amltk.testing import VirtualClock

Batch = Task.Batch

EVENTS = [
    "BATCH_SUBMITTED", "BATCH_RETURNED", "BATCH_DONE", "BATCH_FAILED", "BATCH_CANCELLED",
    "ANY_SUBMITTED", "ANY_DONE", "ANY_RETURNED", "ANY_EXCEPTION", "ANY_CANCELLED",
]  # fmt: skip


def note_events(batch):
    seen = []
    for name in EVENTS:
        batch.on(getattr(Batch, name), lambda *args, name=name: seen.append((name, args)))
    return seen


def names(seen):
    return [name for name, _ in seen]


@pytest.fixture
def task(scheduler):
    return Task(support.double, scheduler)


def run(scheduler, batch, then=lambda: None, **options):
    """Submit a batch, do something once all of it is told as submitted, and run to the end."""
    scheduler.on_start(batch.submit)
    scheduler.on_start(lambda: scheduler.post(then))
    return VirtualClock().run(scheduler.async_run(timeout=3600, **options))


class TestResults:
    def test_they_come_in_the_order_of_the_arguments(self, scheduler, manual, task):
        batch = task.batch([(1,), (2,), (3,)])
        results = []
        batch.on_batch_returned(results.append)
        run(scheduler, batch, lambda: [manual.calls[place].finish() for place in (2, 0, 1)])
        assert results == [[2, 4, 6]]

    def test_none_is_a_result(self, sequential):
        batch = Task(lambda x: x, sequential).batch([(None,), (1,), (None,)])
        seen = []
        batch.on_batch_returned(seen.append)
        batch.on_batch_done(lambda *told: seen.append(told))
        run(sequential, batch)
        assert seen == [[None, 1, None], ([None, 1, None], [], [])]

    def test_each_way_to_end_has_its_place_in_what_is_told_at_last(self, scheduler, manual, task):
        batch = task.batch([(1,), (2,), (3,)])
        error = ValueError("broken")
        seen = note_events(batch)

        def end_each():
            manual.calls[2].finish()
            manual.calls[0].fail(error)
            assert batch.futures()[1].cancel()

        run(scheduler, batch, end_each, end_on_exception=False)
        assert names(seen)[4:] == [
            "ANY_DONE", "ANY_RETURNED", "ANY_DONE", "ANY_EXCEPTION", "ANY_CANCELLED", "BATCH_DONE",
        ]  # fmt: skip
        assert seen[-1][1] == ([6], [error], [batch.futures()[1]])


class TestOrder:
    def test_a_batch_that_returns(self, scheduler, manual, task):
        batch = task.batch([(1,), (2,)])
        seen = note_events(batch)
        run(scheduler, batch, manual.finish_all)
        assert names(seen) == [
            "ANY_SUBMITTED", "ANY_SUBMITTED", "BATCH_SUBMITTED",
            "ANY_DONE", "ANY_RETURNED", "ANY_DONE", "ANY_RETURNED",
            "BATCH_RETURNED", "BATCH_DONE",
        ]  # fmt: skip
        assert seen[2][1] == (batch.futures(),)

    def test_it_is_the_same_on_the_sequential_executor(self, sequential):
        batch = Task(support.double, sequential).batch([(1,), (2,)])
        seen = note_events(batch)
        run(sequential, batch)
        assert names(seen) == [
            "ANY_SUBMITTED", "ANY_SUBMITTED", "BATCH_SUBMITTED",
            "ANY_DONE", "ANY_RETURNED", "ANY_DONE", "ANY_RETURNED",
            "BATCH_RETURNED", "BATCH_DONE",
        ]  # fmt: skip

    @pytest.mark.parametrize("make", [Scheduler.with_processes, Scheduler.with_threads])
    def test_results_are_the_same_on_real_workers(self, make):
        scheduler = make(2)
        batch = Task(support.double, scheduler).batch([(x,) for x in range(10)])
        results = []
        batch.on_batch_returned(results.append)
        scheduler.on_start(batch.submit)
        scheduler.run(timeout=30)
        assert results == [[2 * x for x in range(10)]]

    def test_an_empty_batch_is_submitted_and_done_at_once(self, sequential):
        batch = Task(support.double, sequential).batch([])
        seen = note_events(batch)
        run(sequential, batch)
        assert seen == [
            ("BATCH_SUBMITTED", ([],)), ("BATCH_RETURNED", ([],)), ("BATCH_DONE", ([], [], [])),
        ]  # fmt: skip

    def test_one_submitted_by_another_thread_is_told_as_a_whole(self):
        scheduler = Scheduler.with_threads(2)
        batches = [Task(support.double, scheduler).batch([(1,), (2,)]) for _ in range(50)]
        stories = [note_events(batch) for batch in batches]

        @scheduler.on_start
        def begin():
            submit_all = partial(list, map(Batch.submit, batches))
            threading.Thread(target=lambda: (submit_all(), scheduler.stop())).start()

        scheduler.run(timeout=30, end_on_empty=False)
        for batch, seen in zip(batches, stories, strict=True):
            assert dict(seen)["BATCH_SUBMITTED"] == (batch.futures(),)
            assert names(seen)[-1] == "BATCH_DONE"


class TestFailedSubmission:
    def test_the_others_are_cancelled(self, scheduler):
        limiter = CallLimiter(max_calls=2)
        batch = Task(support.double, scheduler, plugins=limiter).batch([(1,), (2,), (3,), (4,)])
        seen = note_events(batch)
        run(scheduler, batch)
        assert names(seen) == [
            "ANY_SUBMITTED", "ANY_SUBMITTED", "BATCH_FAILED", "ANY_CANCELLED", "ANY_CANCELLED",
            "BATCH_DONE",
        ]  # fmt: skip
        assert seen[-1][1] == ([], [], batch.futures())

    def test_the_others_go_on_if_that_is_asked_for(self, scheduler, manual):
        limiter = CallLimiter(max_calls=2)
        task = Task(support.double, scheduler, plugins=limiter)
        batch = task.batch([(1,), (2,), (3,)], cancel_on_failed_submission=False)
        seen = note_events(batch)
        run(scheduler, batch, manual.finish_all)
        assert names(seen)[2] == "BATCH_FAILED"
        assert "BATCH_RETURNED" not in names(seen)
        assert seen[-1] == ("BATCH_DONE", ([2, 4], [], []))

    def test_calls_after_the_refused_one_are_submitted_if_that_is_asked_for(self, sequential):
        class NoTwo(TaskPlugin):
            def pre_submit(self, fn, x):
                return None if x == 2 else (fn, (x,), {})

        task = Task(support.double, sequential, plugins=NoTwo())
        batch = task.batch([(1,), (2,), (3,)], cancel_on_failed_submission=False)
        seen = note_events(batch)
        run(sequential, batch)
        assert seen[-1] == ("BATCH_DONE", ([2, 6], [], []))

    def test_it_is_told_before_the_end_even_if_all_had_ended_by_then(self, scheduler, manual):
        class FinishThenRefuse(TaskPlugin):
            def pre_submit(self, fn, x):
                manual.finish_all()
                return (fn, (x,), {}) if x == 1 else None

        batch = Task(support.double, scheduler, plugins=FinishThenRefuse()).batch([(1,), (2,)])
        seen = note_events(batch)
        run(scheduler, batch)
        assert names(seen) == [
            "ANY_SUBMITTED", "ANY_DONE", "ANY_RETURNED", "BATCH_FAILED", "BATCH_DONE",
        ]  # fmt: skip

    def test_a_batch_of_which_nothing_is_taken_is_failed_and_done(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter(max_calls=0))
        batch = task.batch([(1,), (2,)])
        seen = note_events(batch)
        run(sequential, batch)
        assert seen == [("BATCH_FAILED", ()), ("BATCH_DONE", ([], [], []))]

    def test_a_batch_submitted_while_the_run_is_finishing_is_failed(self, sequential):
        batch = Task(support.double, sequential).batch([(1,)])
        seen = note_events(batch)
        sequential.on_finishing(lambda: batch.submit())
        with pytest.warns(LateCallWarning, match="not taken"):
            sequential.run()
        assert names(seen) == ["BATCH_FAILED", "BATCH_DONE"]


class TestCancel:
    def test_a_cancelled_batch_says_so_and_nothing_more(self, scheduler, manual, task):
        batch = task.batch([(1,), (2,)])
        seen = note_events(batch)

        def cancel():
            manual.calls[0].start()  # cannot be cancelled any more
            assert batch.cancel()
            manual.calls[0].finish()

        run(scheduler, batch, cancel)
        assert names(seen)[3:] == ["BATCH_CANCELLED"]
        assert [future.cancelled() for future in batch.futures()] == [False, True]

    def test_a_listener_that_cancels_is_the_last_to_be_told(self, sequential):
        batch = Task(support.double, sequential).batch([(1,), (2,)])
        seen = note_events(batch)
        batch.on_any_returned(batch.cancel, limit=1)
        run(sequential, batch)
        assert names(seen)[-2:] == ["ANY_RETURNED", "BATCH_CANCELLED"]
        assert batch.futures()[1].cancelled()

    def test_there_is_nothing_to_cancel_twice_or_in_one_that_is_done(self, sequential):
        task = Task(support.double, sequential)
        batch, done = task.batch([(1,)]), task.batch([(1,)])
        run(sequential, done)
        assert [batch.cancel(), batch.cancel(), done.cancel()] == [True, False, False]

    def test_after_cancel_even_a_failed_submission_is_not_told(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter(max_calls=1))
        batch = task.batch([(1,), (2,)])
        seen = note_events(batch)
        sequential.on_start(lambda: (batch.submit(), batch.cancel()))
        sequential.run()
        assert names(seen) == ["BATCH_CANCELLED"]

    def test_the_end_of_a_run_cancels_its_calls_one_by_one(self, scheduler, task):
        batch = task.batch([(1,), (2,)])
        seen = note_events(batch)
        run(scheduler, batch, scheduler.stop)
        assert names(seen)[3:] == ["ANY_CANCELLED", "ANY_CANCELLED", "BATCH_DONE"]
        assert seen[-1][1] == ([], [], batch.futures())


class TestUse:
    def test_the_original_task_sees_nothing(self, sequential):
        limiter = CallLimiter(max_calls=1)
        task = Task(support.double, sequential, plugins=limiter)
        seen = []
        for event in (Task.SUBMITTED, Task.DONE, Task.RETURNED, limiter.CALL_LIMIT_REACHED):
            task.on(event, seen.append)
        batch = task.batch([(1,), (2,)])
        run(sequential, batch)
        assert batch.event_counts[Batch.BATCH_FAILED] == 1
        assert not seen
        assert task.n_called == 0

    def test_two_batches_of_a_task_do_not_hear_of_each_other(self, sequential):
        task = Task(support.double, sequential)
        first, second = task.batch([(1,)]), task.batch([(2,)])
        seen = note_events(first)
        sequential.on_start(lambda: (first.submit(), second.submit()))
        sequential.run()
        assert names(seen).count("ANY_SUBMITTED") == 1
        assert seen[-1] == ("BATCH_DONE", ([2], [], []))

    def test_it_is_submitted_once(self, sequential):
        batch = Task(support.double, sequential).batch([(1,)])
        seen = note_events(batch)
        run(sequential, batch)
        with pytest.raises(BatchError, match=r"was submitted before; make a new one"):
            batch.submit()
        assert names(seen).count("BATCH_DONE") == 1

    def test_a_cancelled_one_is_not_submitted(self, sequential):
        batch = Task(support.double, sequential).batch([(1,)])
        batch.cancel()
        with pytest.raises(BatchError, match="was cancelled before"):
            batch.submit()

    def test_without_a_run_it_is_left_as_it_was(self, sequential):
        batch = Task(support.double, sequential).batch([(1,)])
        with pytest.raises(SchedulerNotRunningError):
            batch.submit()
        seen = note_events(batch)
        run(sequential, batch)
        assert seen[-1] == ("BATCH_DONE", ([2], [], []))

    def test_its_arguments_are_tuples(self, sequential):
        with pytest.raises(InvalidOptionError, match=r"call 1 .* write \(3,\) for one argument"):
            Task(support.double, sequential).batch([(1,), 3])

    def test_its_length_is_that_of_its_arguments(self, sequential):
        task = Task(support.add, sequential)
        assert len(task.batch((x, x) for x in range(3))) == 3

    def test_futures_come_in_the_order_of_the_arguments(self, sequential):
        batch = Task(support.double, sequential).batch([(3,), (1,), (2,)])
        submitted = []
        sequential.on_start(lambda: submitted.extend(batch.submit()))
        sequential.run()
        assert [future.result() for future in submitted] == [6, 2, 4]
        assert batch.futures() == submitted
