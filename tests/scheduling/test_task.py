"""A task: its events, its counts, its copies and its subclasses."""

from functools import partial

import pytest
import support

from amltk import CallLimiter, Event, Scheduler, SequentialExecutor, Task
from amltk.exceptions import (
    InvalidCallbackError,
    InvalidOptionError,
    LateCallWarning,
    SchedulerNotRunningError,
)
from amltk.testing import VirtualClock

EVENTS = [
    "SUBMITTED", "DONE", "RETURNED", "EXCEPTION", "F_SUBMITTED", "F_RETURNED", "F_EXCEPTION",
    "F_CANCELLED",
]  # fmt: skip


def note_events(task):
    seen = []
    for name in EVENTS:
        task.on(getattr(Task, name), lambda *a, _name=name, **k: seen.append((_name, a, k)))
    return seen


def note_names(task, names=EVENTS):
    seen = []
    for name in names:
        task.on(getattr(Task, name), partial(lambda name, *_: seen.append(name), name))
    return seen


def run(scheduler, begin, then=lambda: None, **options):
    """Do something at the start, something more once its calls are told as submitted."""
    scheduler.on_start(begin, limit=1)
    scheduler.on_start(lambda: scheduler.post(then), limit=1)
    return VirtualClock().run(scheduler.async_run(timeout=3600, **options))


class TestEvents:
    def test_of_a_call_that_returns(self, sequential):
        task = Task(support.add, sequential)
        seen = note_events(task)
        got = []
        run(sequential, lambda: got.append(task(1, y=2)))
        future = got[0]
        assert seen == [
            ("F_SUBMITTED", (future, 1), {"y": 2}),
            ("SUBMITTED", (future,), {}),
            ("DONE", (future,), {}),
            ("RETURNED", (3,), {}),
            ("F_RETURNED", (future, 3), {}),
        ]

    def test_of_a_call_that_raises(self, sequential):
        task = Task(support.fail, sequential)
        seen = note_events(task)
        run(sequential, lambda: task("broken"), end_on_exception=False)
        assert [name for name, _, _ in seen[2:]] == ["DONE", "EXCEPTION", "F_EXCEPTION"]
        future, error = seen[-1][1]
        assert future.exception() is error
        assert seen[-2][1] == (error,)

    def test_of_a_call_that_is_cancelled(self, sequential):
        task = Task(support.double, sequential)
        seen = note_events(task)
        run(sequential, lambda: task(1).cancel())
        assert [name for name, _, _ in seen] == ["F_SUBMITTED", "SUBMITTED", "F_CANCELLED"]
        assert seen[-1][1][0].cancelled()

    def test_each_is_told_the_scheduler_before_the_task(self, sequential):
        task = Task(support.double, sequential)
        seen = note_names(task, ["F_SUBMITTED", "DONE"])
        sequential.on_future_submitted(lambda: seen.append("FUTURE_SUBMITTED"))
        sequential.on_future_done(lambda: seen.append("FUTURE_DONE"))
        run(sequential, lambda: task(1))
        assert seen == ["FUTURE_SUBMITTED", "F_SUBMITTED", "FUTURE_DONE", "DONE"]

    @pytest.mark.parametrize(
        ("function", "names"),
        [
            (support.double, ["RETURNED", "F_RETURNED"]),
            (support.fail, ["EXCEPTION", "F_EXCEPTION"]),
        ],
    )
    def test_both_events_of_an_outcome_go_by_order_of_registration(
        self, sequential, function, names
    ):
        task = Task(function, sequential)
        order = [names[0], names[1], names[1], names[0]]
        seen = note_names(task, order)
        run(sequential, lambda: task(1), end_on_exception=False)
        assert seen == order

    def test_each_event_has_a_subscriber(self, sequential):
        task = Task(support.double, sequential)
        heard = []
        for name in EVENTS:
            getattr(task, f"on_{name.lower()}")(lambda name=name: heard.append(name))
            task.emit(getattr(Task, name))
        assert heard == EVENTS
        assert task.on_cancelled is task.on_f_cancelled

    def test_two_tasks_of_one_function_do_not_hear_of_each_other(self, sequential):
        first, second = (Task(support.double, sequential) for _ in range(2))
        seen = note_names(first)
        run(sequential, lambda: second(1))
        assert not seen
        assert second.event_counts[Task.RETURNED] == 1

    def test_its_state_is_up_to_date_when_its_end_is_told(self, sequential):
        task = Task(support.double, sequential)
        seen = []
        sequential.on_future_done(lambda future: seen.append((future.result(), task.n_running)))
        run(sequential, lambda: task(21))
        assert seen == [(42, 0)]


class TestCounts:
    def test_they_add_up(self, scheduler, manual):
        task = Task(support.double, scheduler)
        seen = []

        def look():
            seen.append((task.n_called, task.n_running, len(task.futures())))

        def end_two():
            manual.calls[0].finish()
            manual.calls[1].future.cancel()
            scheduler.post(look)
            scheduler.post(manual.finish_all)

        run(scheduler, lambda: ([task(x) for x in range(3)], look()), end_two)
        look()
        assert seen == [(3, 3, 3), (3, 1, 1), (3, 0, 0)]

    def test_futures_are_those_that_have_not_ended(self, scheduler, manual):
        task = Task(support.double, scheduler)
        got, left = [], []

        def end_the_second():
            manual.calls[1].finish()
            scheduler.post(lambda: left.extend(task.futures()))
            scheduler.post(manual.finish_all)

        run(scheduler, lambda: got.extend(task(x) for x in range(3)), end_the_second)
        assert left == [got[0], got[2]]

    def test_a_call_that_the_executor_does_not_take_is_not_counted(self, scheduler, manual):
        task = Task(support.double, scheduler)
        manual.shutdown()
        with pytest.raises(RuntimeError, match="shut down"):
            run(scheduler, lambda: task(1))
        assert (task.n_called, task.n_running, task.futures()) == (0, 0, [])

    def test_a_call_left_behind_is_running_until_it_ends(self, manual):
        scheduler = Scheduler(manual, terminate=False)
        task = Task(support.double, scheduler)
        run(scheduler, lambda: (task(1), manual.calls[0].start(), scheduler.stop()), wait=False)
        run(scheduler, lambda: task(2), lambda: manual.calls[1].finish())
        assert task.n_running == 1  # the second call has the same number, in its own run
        manual.calls[0].finish()
        assert (task.n_called, task.n_running) == (2, 0)
        assert task.event_counts[Task.RETURNED] == 1

    def test_a_snapshot_has_them_all(self, sequential):
        task = Task(lambda x: 1 // x, sequential, name="divide")
        run(
            sequential,
            lambda: (task(1), task(0), task(1), task(1).cancel()),
            end_on_exception=False,
        )
        snapshot = task.snapshot()
        assert (snapshot.name, snapshot.submitted, snapshot.running) == ("divide", 4, 0)
        assert (snapshot.returned, snapshot.failed, snapshot.cancelled) == (2, 1, 1)


async def train_later(x):
    return x


class TestRefused:
    @pytest.mark.parametrize(
        "function", [train_later, partial(train_later, 1)], ids=["plain", "partial"]
    )
    def test_a_coroutine_function_is_no_task(self, sequential, function):
        with pytest.raises(InvalidCallbackError, match="coroutine function"):
            Task(function, sequential)

    def test_nor_can_it_be_submitted(self, sequential):
        with pytest.raises(InvalidCallbackError, match="coroutine function"):
            sequential.submit(train_later, 1)

    def test_a_plugin_has_to_be_made(self, sequential):
        with pytest.raises(InvalidOptionError, match=r"CallLimiter.*CallLimiter\("):
            Task(support.double, sequential, plugins=[CallLimiter])

    def test_an_event_is_none_by_a_name_that_is_nearly_its(self, sequential):
        task = Task(support.double, sequential)
        with pytest.raises(InvalidOptionError, match=r"give Task.RETURNED, or use on_returned"):
            task.on("return", print)


class TestMaking:
    def test_what_cannot_be_called_is_refused(self, sequential):
        with pytest.raises(InvalidCallbackError, match="needs a function to run, not 3"):
            Task(3, sequential)

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (support.double, "double"),
            (partial(support.add, 1), "add"),
            (support.Unreadable().__reduce__, "Unreadable.__reduce__"),
            (type("Model", (), {"__call__": lambda self: 1})(), "Model"),
        ],
    )
    def test_it_is_named_after_its_function(self, sequential, function, name):
        assert Task(function, sequential).name == name

    def test_it_may_be_given_a_name(self, sequential):
        assert Task(support.double, sequential, name="doubling").name == "doubling"

    def test_calling_and_submitting_are_the_same(self, sequential):
        task = Task(support.add, sequential)
        futures = []
        run(sequential, lambda: futures.extend([task(1, y=2), task.submit(1, y=2)]))
        assert [future.result() for future in futures] == [3, 3]

    def test_it_needs_a_run(self, sequential):
        task = Task(support.double, sequential)
        with pytest.raises(SchedulerNotRunningError, match="submit from a callback of on_start"):
            task(1)
        assert task.n_called == 0

    def test_while_the_run_is_finishing_plugins_are_not_even_asked(self, sequential):
        limiter = CallLimiter(max_calls=0)
        task = Task(support.double, sequential, plugins=limiter)
        got = []
        sequential.on_finishing(lambda: got.append(task(1)))
        with pytest.warns(LateCallWarning):
            sequential.run()
        assert got == [None]
        assert task.event_counts[limiter.CALL_LIMIT_REACHED] == 0

    def test_an_event_may_be_emitted_soon_from_anywhere_while_a_run_is_on(self, sequential):
        task = Task(support.double, sequential)
        mine: Event[[int]] = Event("mine")
        seen = []
        task.on(mine, seen.append)
        run(sequential, lambda: (task.emit_soon(mine, 1), seen.append("first")))
        assert seen == ["first", 1]


class TestCopy:
    def test_it_has_the_same_function_scheduler_and_name(self, sequential):
        task = Task(support.double, sequential, name="doubling")
        copy = task.copy()
        assert (copy.function, copy.scheduler, copy.name) == (
            support.double, sequential, "doubling",
        )  # fmt: skip

    def test_it_has_listeners_and_counts_of_its_own(self, sequential):
        task = Task(support.double, sequential)
        seen = note_names(task)
        copy = task.copy()
        run(sequential, lambda: copy(1))
        assert not seen
        assert (task.n_called, copy.n_called) == (0, 1)

    def test_its_plugins_are_copies(self, sequential):
        task = Task(support.double, sequential, plugins=CallLimiter(max_calls=1))
        copy = task.copy()
        run(sequential, lambda: (task(1), copy(1), copy(1)))
        assert (task.n_called, copy.n_called) == (1, 1)
        assert copy.plugins[0] is not task.plugins[0]


class Trial(Task):
    BETTER: Event[[float]] = Event("better")

    def __init__(self, function, scheduler, **options):
        super().__init__(function, scheduler, **options)
        self.on_better = self.subscriber(self.BETTER)


class TestSubclass:
    def test_it_adds_events_with_subscribers(self, sequential):
        task = Trial(support.double, sequential)
        seen = []
        task.on_better(seen.append)
        task.on_returned(lambda result: task.emit(Trial.BETTER, result))
        run(sequential, lambda: task(2))
        assert seen == [4]

    def test_its_copies_and_batches_are_of_its_kind(self, sequential):
        task = Trial(support.double, sequential)
        assert type(task.copy()) is Trial
        assert type(task.batch([(1,)])._task) is Trial


class OptionalExecutor(SequentialExecutor):
    """Notes the options of single calls."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def with_options(self, **options):
        return _View(self, options)


class _View(SequentialExecutor):
    def __init__(self, executor, options):
        super().__init__()
        self.executor, self.options = executor, options

    def submit(self, fn, /, *args, **kwargs):
        self.executor.seen.append(self.options)
        return super().submit(fn, *args, **kwargs)


class TestOptions:
    @pytest.fixture
    def executor(self):
        return OptionalExecutor()

    @pytest.fixture
    def task(self, executor):
        return Task(support.double, Scheduler(executor))

    def test_they_reach_the_engine_with_the_calls_of_the_view_only(self, task, executor):
        run(task.scheduler, lambda: (task.options(num_cpus=2)(1), task(2)))
        assert executor.seen == [{"num_cpus": 2}]
        assert task.event_counts[Task.RETURNED] == 2

    def test_the_view_is_the_same_task(self, task):
        view = task.options(num_cpus=2)
        results = []
        task.on_returned(results.append)
        view.on_returned(results.append)
        run(task.scheduler, lambda: view(4))
        assert results == [8, 8]
        assert (task.n_called, view.n_called, task.n_running) == (1, 1, 0)

    def test_they_add_up(self, task, executor):
        run(task.scheduler, lambda: task.options(a=1, b=1).options(b=2)(1))
        assert executor.seen == [{"a": 1, "b": 2}]

    def test_batches_and_copies_have_them(self, task, executor):
        view = task.options(a=1)
        run(task.scheduler, lambda: (view.batch([(1,), (2,)]).submit(), view.copy()(3)))
        assert executor.seen == [{"a": 1}] * 3

    def test_limits_of_plugins_hold_over_all_views(self, executor):
        task = Task(support.double, Scheduler(executor), plugins=CallLimiter(max_calls=2))
        got = []
        run(task.scheduler, lambda: got.extend([task.options(a=1)(1), task(2), task(3)]))
        assert [future is None for future in got] == [False, False, True]

    def test_an_engine_without_options_refuses_them_at_the_call(self, sequential):
        task = Task(support.double, sequential)
        with pytest.raises(InvalidOptionError, match="num_gpus"):
            run(sequential, lambda: task.options(num_gpus=1)(1))
        assert task.n_called == 0
