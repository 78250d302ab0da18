"""The limiter: never one call too many, and each refused call is told."""

import threading

import pytest
import support
from hypothesis import given
from hypothesis import strategies as st

from amltk import CallLimiter, Scheduler, Task
from amltk.exceptions import InvalidOptionError
from amltk.testing import ManualExecutor, VirtualClock


def note_refusals(task):
    seen = []
    task.on(CallLimiter.CALL_LIMIT_REACHED, lambda *a, **k: seen.append(("calls", a, k)))
    task.on(CallLimiter.CONCURRENT_LIMIT_REACHED, lambda *a, **k: seen.append(("running", a, k)))
    return seen


def submit_at_start(task, n_calls):
    """Submit calls when the run starts and return the list that their futures come to."""
    futures = []
    task.scheduler.on_start(lambda: futures.extend(task(x) for x in range(n_calls)))
    return futures


class TestMaxCalls:
    @pytest.mark.parametrize("limit", [0, 1, 3])
    def test_so_many_calls_are_made_and_no_more(self, sequential, limit):
        task = Task(support.double, sequential, plugins=CallLimiter(max_calls=limit))
        futures = submit_at_start(task, 5)
        sequential.run()
        assert [future is not None for future in futures] == [x < limit for x in range(5)]
        assert task.event_counts[Task.RETURNED] == limit

    def test_it_counts_over_all_runs(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter(max_calls=3))
        submit_at_start(task, 2)
        sequential.run()
        sequential.run()
        assert task.n_called == 3

    def test_what_is_refused_is_told_with_its_arguments(self, sequential):
        task = Task(support.add, sequential, plugins=CallLimiter(max_calls=1))
        seen = note_refusals(task)
        sequential.on_start(lambda: (task(1), task(2, y=3), task(x=4)))
        sequential.run()
        assert seen == [("calls", (2,), {"y": 3}), ("calls", (), {"x": 4})]

    def test_a_call_that_the_executor_does_not_take_does_not_count(self):
        manual = ManualExecutor()
        scheduler = Scheduler(manual)
        task = Task(support.double, scheduler, plugins=CallLimiter(max_calls=1))
        manual.shutdown()
        submit_at_start(task, 1)
        with pytest.raises(RuntimeError, match="shut down"):
            scheduler.run()
        manual.is_shut_down = False
        scheduler.on_future_submitted(manual.finish_all)
        assert scheduler.run() is Scheduler.ExitCode.EXHAUSTED
        assert task.n_called == 1


class TestMaxConcurrent:
    def test_a_call_is_taken_once_another_has_ended(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter(max_concurrent=1))
        seen = note_refusals(task)
        task.on_returned(lambda: task(10), limit=3)
        submit_at_start(task, 3)
        sequential.run()
        assert task.n_called == 4
        assert seen == [("running", (1,), {}), ("running", (2,), {})]

    @pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
    def test_a_place_is_free_again_however_a_call_ends(self, end):
        manual = ManualExecutor()
        scheduler = Scheduler(manual)
        task = Task(support.double, scheduler, plugins=CallLimiter(max_concurrent=1))
        ends = {
            "finish": lambda: manual.calls[0].finish(),
            "fail": lambda: manual.calls[0].fail(ValueError("broken")),
            "cancel": lambda: manual.calls[0].future.cancel(),
        }
        scheduler.on_start(lambda: (task(1), scheduler.post(ends[end])))
        scheduler.on_empty(lambda: (task(2), manual.finish_all()), limit=1)
        VirtualClock().run(scheduler.async_run(end_on_exception=False))
        assert task.n_called == 2

    def test_none_may_run_at_all(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter(max_concurrent=0))
        submit_at_start(task, 2)
        seen = note_refusals(task)
        sequential.run()
        assert [what for what, _, _ in seen] == ["running", "running"]

    @given(st.lists(st.sampled_from(["submit", "end"]), max_size=30), st.integers(0, 3))
    def test_there_are_never_more_whatever_comes_and_goes(self, steps, limit):
        manual = ManualExecutor()
        scheduler = Scheduler(manual)
        task = Task(support.double, scheduler, plugins=CallLimiter(max_concurrent=limit))

        def take(step):
            if step == "submit":
                free = task.n_running < limit
                assert (task(1) is not None) is free
            elif manual.waiting:
                manual.waiting[0].finish()
            assert len(manual.waiting) <= limit

        scheduler.on_start(lambda: [scheduler.post(take, step) for step in steps])
        scheduler.on_finishing(manual.finish_all)
        VirtualClock().run(scheduler.async_run(timeout=1))
        assert task.n_running == 0


class TestBoth:
    def test_the_limit_of_calls_is_told_where_both_are_reached(self, sequential):
        limiter = CallLimiter(max_calls=1, max_concurrent=1)
        task = Task(support.double, sequential, plugins=limiter)
        seen = note_refusals(task)
        submit_at_start(task, 2)
        sequential.run()
        assert [what for what, _, _ in seen] == ["calls"]

    def test_without_limits_nothing_is_refused(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter())
        submit_at_start(task, 10)
        sequential.run()
        assert task.n_called == 10

    def test_it_says_which_events_it_has(self):
        events = set(CallLimiter().events())
        assert events == {CallLimiter.CALL_LIMIT_REACHED, CallLimiter.CONCURRENT_LIMIT_REACHED}

    def test_a_copy_has_the_same_limits_and_has_counted_nothing(self, sequential):
        limiter = CallLimiter(max_calls=1, max_concurrent=2)
        task = Task(support.double, sequential, plugins=limiter)
        copy = limiter.copy()
        other = Task(support.double, sequential, plugins=copy)
        submit_at_start(task, 2)
        submit_at_start(other, 2)
        sequential.run()
        assert (copy.max_calls, copy.max_concurrent) == (1, 2)
        assert (task.n_called, other.n_called) == (1, 1)

    def test_it_belongs_to_one_task(self, sequential):
        limiter = CallLimiter(max_calls=1)
        Task(support.double, sequential, name="first", plugins=limiter)
        with pytest.raises(InvalidOptionError, match="belongs to the task 'first' already"):
            Task(support.double, sequential, plugins=limiter)

    def test_without_a_task_it_lets_calls_pass(self):
        planned = CallLimiter(max_calls=0).pre_submit(support.add, 1, y=2)
        assert planned == (support.add, (1,), {"y": 2})


@pytest.mark.parametrize("option", ["max_calls", "max_concurrent"])
@pytest.mark.parametrize("value", [-1, 1.0, True, False, "3", float("inf")])
def test_what_is_no_number_of_calls_is_refused(option, value):
    with pytest.raises(InvalidOptionError, match=f"{option}=.* a whole number from 0") as info:
        CallLimiter(**{option: value})
    assert (info.value.option, info.value.value) == (option, value)


@pytest.mark.parametrize("option", ["max_calls", "max_concurrent"])
def test_many_threads_together_never_get_one_too_many(option):
    manual = ManualExecutor()
    scheduler = Scheduler(manual)
    task = Task(support.double, scheduler, plugins=CallLimiter(**{option: 50}))
    barrier = threading.Barrier(8)

    def submit_many():
        barrier.wait()
        for x in range(25):
            task(x)

    @scheduler.on_start
    def begin():
        threads = [threading.Thread(target=submit_many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manual.finish_all()

    scheduler.run()
    assert len(manual.calls) == task.n_called == 50
    refusals = [task.event_counts[event] for event in CallLimiter().events()]
    assert sum(refusals) == 8 * 25 - 50
