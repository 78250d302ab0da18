"""A callback that raises, in each event of tasks, batches and plugins.

The events of the scheduler itself are in ``test_scheduler.py``.
"""

import pytest
import support

from amltk import CallLimiter, Scheduler, Task
from amltk.testing import ManualExecutor, VirtualClock

Batch = Task.Batch

TASK_EVENTS = [
    Task.SUBMITTED, Task.DONE, Task.RETURNED, Task.EXCEPTION, Task.F_SUBMITTED, Task.F_RETURNED,
    Task.F_EXCEPTION, Task.F_CANCELLED,
]  # fmt: skip
BATCH_EVENTS = [
    Batch.BATCH_SUBMITTED, Batch.BATCH_RETURNED, Batch.BATCH_DONE, Batch.BATCH_FAILED,
    Batch.BATCH_CANCELLED, Batch.ANY_SUBMITTED, Batch.ANY_DONE, Batch.ANY_RETURNED,
    Batch.ANY_EXCEPTION, Batch.ANY_CANCELLED,
]  # fmt: skip
LIMITER_EVENTS = [CallLimiter.CALL_LIMIT_REACHED, CallLimiter.CONCURRENT_LIMIT_REACHED]


class Story:
    """One run with calls of each kind, each of which has started or ended when it is told."""

    def __init__(self):
        self.made = []
        self.scheduler = Scheduler(self.make_executor)
        self.seen = []
        self.futures = []
        for event in (Scheduler.STOP, Scheduler.FINISHING, Scheduler.FINISHED):
            self.scheduler.on(event, lambda event=event: self.seen.append(event))

    def make_executor(self):
        self.made.append(ManualExecutor())
        return self.made[-1]

    def task(self, **options):
        return Task(support.double, self.scheduler, **options)

    def listen(self, emitter, event):
        emitter.on(event, broken)
        emitter.on(event, lambda: self.seen.append(event))

    def run(self, begin):
        self.scheduler.on_start(begin)
        clock = VirtualClock()
        with pytest.raises(LookupError, match="a bug") as caught:
            clock.run(self.scheduler.async_run(timeout=3600, end_on_exception=False))
        assert clock.time() < 3600
        return caught.value

    def end_each_in_its_way(self):
        """Let the first call return, the second one raise and the others be cancelled."""
        first, second, *others = self.made[0].calls
        first.succeed(42)
        second.fail(ValueError("broken"))
        for call in others:
            call.future.cancel()

    def assert_in_order(self, error, event, emitter):
        note = f'raised in callback "broken" of event "{event.name}" of "{emitter.name}"'
        assert error.__notes__ == [note]
        assert self.seen[0] is event  # others still hear of it
        assert [one for one in self.seen if one is not event] == [
            Scheduler.STOP, Scheduler.FINISHING, Scheduler.FINISHED,
        ]  # fmt: skip
        assert [executor.is_shut_down for executor in self.made] == [True]


def broken():
    raise LookupError("a bug")


def outcomes(futures):
    """Tell what became of calls, waiting for none of them."""
    assert all(future.done() for future in futures)
    return [
        "cancelled" if future.cancelled() else repr(future.exception(0) or future.result(0))
        for future in futures
    ]


@pytest.fixture
def story():
    return Story()


@pytest.mark.parametrize("event", TASK_EVENTS, ids=lambda event: event.name)
def test_in_an_event_of_a_task(story, event):
    task = story.task()
    story.listen(task, event)

    def begin():
        story.futures.extend(task(x) for x in range(3))
        story.end_each_in_its_way()

    error = story.run(begin)
    story.assert_in_order(error, event, task)
    assert outcomes(story.futures) == ["42", "ValueError('broken')", "cancelled"]
    assert task.n_running == 0


@pytest.mark.parametrize("event", BATCH_EVENTS, ids=lambda event: event.name)
def test_in_an_event_of_a_batch(story, event):
    limit = 3 if event is Batch.BATCH_FAILED else None
    task = story.task(plugins=CallLimiter(max_calls=limit))
    batch = task.batch([(x,) for x in range(4)], cancel_on_failed_submission=False)
    story.listen(batch, event)

    def begin():
        story.futures.extend(batch.submit())
        if event is Batch.BATCH_RETURNED:
            return [call.succeed(42) for call in story.made[0].calls]
        story.end_each_in_its_way()
        return event is Batch.BATCH_CANCELLED and batch.cancel()

    error = story.run(begin)
    story.assert_in_order(error, event, batch)
    all_returned = event is Batch.BATCH_RETURNED
    each = ["42"] * 4 if all_returned else ["42", "ValueError('broken')", "cancelled", "cancelled"]
    assert outcomes(story.futures) == each[: limit or 4]


@pytest.mark.parametrize("event", LIMITER_EVENTS, ids=lambda event: event.name)
def test_in_an_event_of_a_limiter(story, event):
    is_total = event is CallLimiter.CALL_LIMIT_REACHED
    limiter = CallLimiter(**{"max_calls" if is_total else "max_concurrent": 3})
    task = story.task(plugins=limiter)
    story.listen(task, event)

    def begin():
        story.futures.extend(task(x) for x in range(4))
        story.end_each_in_its_way()

    error = story.run(begin)
    story.assert_in_order(error, event, task)
    assert story.futures.pop() is None
    assert outcomes(story.futures) == ["42", "ValueError('broken')", "cancelled"]


def test_every_event_there_is_has_its_place_here():
    def events_of(kind):
        return {name: value for name, value in vars(kind).items() if name.isupper()}

    assert set(events_of(Task).values()) == set(TASK_EVENTS)
    assert set(events_of(Batch).values()) == set(BATCH_EVENTS)
    assert set(CallLimiter().events()) == set(LIMITER_EVENTS)


def test_what_a_task_told_before_is_told_of_the_other_calls_too(story):
    task = story.task()
    results = []
    task.on_returned(broken, limit=1)
    task.on_returned(results.append)

    def begin():
        story.futures.extend(task(x) for x in range(3))
        for call in story.made[0].calls:
            call.finish()

    story.run(begin)
    assert results == [0, 2, 4]


def test_the_next_run_is_as_clean_as_the_first(story):
    task = story.task()
    task.on_submitted(broken, limit=1)
    task.on_submitted(lambda: story.made[-1].finish_all())
    story.run(lambda: task(1))
    assert story.scheduler.run() is Scheduler.ExitCode.EXHAUSTED
    assert task.event_counts[Task.RETURNED] == 2
    assert [executor.is_shut_down for executor in story.made] == [True, True]


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), KeyError("a")], ids=repr)
def test_errors_of_all_kinds_end_the_run_in_order(story, error):
    def raise_it():
        raise error

    story.scheduler.on_start(raise_it)
    assert story.scheduler.run(raises=False) is error
    assert story.seen == [Scheduler.STOP, Scheduler.FINISHING, Scheduler.FINISHED]


def test_without_a_run_it_is_raised_where_the_event_was_emitted(story):
    task = story.task()
    task.on_returned(broken)
    with pytest.raises(LookupError, match="a bug") as caught:
        task.emit(Task.RETURNED, 1)
    assert caught.value.__notes__ == [
        'raised in callback "broken" of event "task-returned" of "double"'
    ]
