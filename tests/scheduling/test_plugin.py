"""Plugins: what they see of a call and what they can make of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import support

from amltk import Event, Scheduler, Task, TaskPlugin


def results_of(task, *calls):
    """Run the calls and return what came back, refused ones as ``None``."""
    futures = []
    task.scheduler.on_start(lambda: futures.extend(task(*call) for call in calls))
    task.scheduler.run()
    return [future and future.result() for future in futures]


class Append(TaskPlugin):
    """Adds something to the one argument, which is a text."""

    def __init__(self, text):
        self.text = text
        self.tasks = []

    def attach_task(self, task):
        self.tasks.append(task)

    def pre_submit(self, fn, text):
        return fn, (text + self.text,), {}

    def copy(self):
        return Append(self.text)


class Refuse(TaskPlugin):
    def pre_submit(self, fn, *args, **kwargs):
        return None


class Note(TaskPlugin):
    def __init__(self):
        self.seen = []

    def pre_submit(self, fn, *args, **kwargs):
        self.seen.append((fn, args, kwargs))
        return fn, args, kwargs


class Raise(TaskPlugin):
    name = "raiser"

    def pre_submit(self, fn, *args, **kwargs):
        raise LookupError("a bug")


def test_the_base_class_changes_nothing(sequential):
    task = Task(support.double, sequential, plugins=TaskPlugin())
    assert results_of(task, (1,), (2,)) == [2, 4]
    assert list(TaskPlugin().events()) == []


def test_each_sees_what_the_one_before_it_made(sequential):
    task = Task(str.upper, sequential, plugins=[Append("b"), Append("c")])
    assert results_of(task, ("a",)) == ["ABC"]


def test_it_may_put_another_function_in_the_place_of_the_first(sequential):
    class Swap(TaskPlugin):
        def pre_submit(self, fn, x):
            return (support.add, (x,), {"y": 10}) if x > 1 else (fn, (x,), {})

    task = Task(support.double, sequential, plugins=Swap())
    assert results_of(task, (1,), (2,), (1,)) == [2, 12, 2]


def test_a_function_that_was_put_in_travels_to_workers_too():
    class Wrap(TaskPlugin):
        def pre_submit(self, fn, x):
            return (lambda x: fn(x) + 1), (x,), {}

    task = Task(support.double, Scheduler.with_processes(1), plugins=Wrap())
    assert results_of(task, (1,), (2,)) == [3, 5]


def test_listeners_are_told_the_arguments_that_the_caller_gave(sequential):
    task = Task(str.upper, sequential, plugins=Append("b"))
    told = []
    task.on_f_submitted(lambda future, text: told.append(text))
    assert results_of(task, ("a",)) == ["AB"]
    assert told == ["a"]


def test_a_refused_call_leaves_no_trace(sequential):
    after = Note()
    task = Task(support.double, sequential, plugins=[Refuse(), after])
    assert results_of(task, (1,)) == [None]
    assert (task.n_called, after.seen) == (0, [])
    assert task.event_counts[Task.SUBMITTED] == 0
    assert sequential.event_counts[Scheduler.FUTURE_SUBMITTED] == 0


def test_one_that_raises_is_named_where_the_call_was_submitted(sequential):
    task = Task(support.double, sequential, plugins=[Note(), Raise()])
    caught = []

    @sequential.on_start
    def begin():
        with pytest.raises(LookupError, match="a bug") as info:
            task(1)
        caught.extend(info.value.__notes__)

    assert sequential.run() is Scheduler.ExitCode.EXHAUSTED
    assert caught == ["raised by pre_submit of plugin \"raiser\" of 'double'"]
    assert task.n_called == 0


def test_it_gets_to_know_its_task_once(sequential):
    plugin = Append("b")
    task = Task(str.upper, sequential, plugins=plugin)
    assert results_of(task, ("a",)) == ["AB"]
    assert plugin.tasks == [task]


def test_a_copied_task_has_copies_that_know_it(sequential):
    task = Task(str.upper, sequential, plugins=[Append("b"), TaskPlugin()])
    copy = task.copy()
    assert [type(plugin) for plugin in copy.plugins] == [Append, TaskPlugin]
    assert set(copy.plugins).isdisjoint(task.plugins)
    assert copy.plugins[0].tasks == [copy]
    assert results_of(copy, ("a",)) == ["AB"]


def test_its_events_are_emitted_on_its_task(sequential):
    class Tell(TaskPlugin):
        SEEN: Event[[int]] = Event("seen")

        def attach_task(self, task):
            self.task = task

        def pre_submit(self, fn, x):
            self.task.emit_soon(self.SEEN, x)
            return fn, (x,), {}

        def events(self):
            return (self.SEEN,)

    task = Task(support.double, sequential, plugins=Tell())
    seen = []
    task.on(Tell.SEEN, lambda x: seen.append(x))
    task.on_submitted(lambda future: seen.append("submitted"))
    results_of(task, (1,))
    assert seen == [1, "submitted"]


def test_calls_of_several_threads_are_decided_one_after_the_other():
    class Count(TaskPlugin):
        inside = most = 0

        def pre_submit(self, fn, x):
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.inside -= 1
            return fn, (x,), {}

    plugin = Count()
    task = Task(support.double, Scheduler.with_threads(1), plugins=plugin)

    @task.scheduler.on_start
    def begin():
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(task, range(200)))

    task.scheduler.run()
    assert (task.n_called, plugin.most) == (200, 1)
