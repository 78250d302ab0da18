"""Plugins: what they see of a call and what they can make of it."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import runs
import support

from amltk import Event, Scheduler, Task, TaskPlugin
from amltk.exceptions import InvalidOptionError
from amltk.testing import ManualExecutor, VirtualClock


def results_of(task, *calls):
    """Run the calls and return what came back, refused ones as ``None``."""
    return runs.outcomes_of(runs.run_calls(task, *calls))


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


class Tell(TaskPlugin):
    """Emits an event in a hook that sees a call before it runs, and one in a hook that is told its end."""

    SEEN: Event[[int]] = Event("seen")
    ENDED: Event[[int]] = Event("ended")

    def pre_submit(self, fn, x):
        self.emit_soon(self.SEEN, x)
        return fn, (x,), {}

    def hold(self, future, release):
        self.emit(self.ENDED, result=future._inner.result())
        return False


def listen_to_tell(emitter):
    seen = []
    emitter.on(Tell.SEEN, lambda x: seen.append(("seen", x)))
    emitter.on(Tell.ENDED, lambda result: seen.append(("ended", result)))
    return seen


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
    task = Task(support.double, sequential, plugins=Tell())
    seen = listen_to_tell(task)
    task.on_submitted(lambda future: seen.append("submitted"))
    results_of(task, (1,))
    assert seen == [("seen", 1), "submitted", ("ended", 2)]


def test_its_events_are_emitted_on_the_batch_that_the_calls_belong_to(sequential):
    task = Task(support.double, sequential, plugins=Tell())
    batch = task.batch([(1,), (2,)])
    seen, elsewhere = listen_to_tell(batch), listen_to_tell(task)
    sequential.on_start(batch.submit)
    sequential.run()
    assert seen == [("seen", 1), ("seen", 2), ("ended", 2), ("ended", 4)]
    assert elsewhere == []


def test_one_without_a_task_has_nobody_to_tell():
    plugin = Tell()
    plugin.emit(Tell.ENDED, result=1)
    plugin.emit_soon(Tell.SEEN, 1)


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


class Hook(TaskPlugin):
    """One hook, as the test wants it."""

    name = "hook"


def with_hook(hook, function):
    """Make a plugin with this one hook."""
    return type("Hooked", (Hook,), {hook: staticmethod(function)})()


def listen(task):
    told = []
    for event in (Task.SUBMITTED, Task.DONE, Task.F_CANCELLED):
        task.on(event, lambda future, name=event.name: told.append(name))
    return told


def bug(*_args):
    raise LookupError("a bug")


class TestHooksThatRaise:
    @pytest.mark.parametrize("hook", ["hold", "retry"])
    def test_the_call_ends_as_it_would_and_the_run_with_the_bug(self, sequential, hook):
        task = Task(support.fail, sequential, plugins=with_hook(hook, bug))
        told, futures = listen(task), []
        sequential.on_start(lambda: futures.append(task("own")))
        with pytest.raises(LookupError, match="a bug") as info:
            sequential.run(timeout=20)
        assert info.value.__notes__ == [f"raised by {hook} of plugin \"hook\" of 'fail'"]
        assert told == ["task-submitted", "task-done"]
        assert str(futures[0].exception()) == "own"
        assert (task.n_running, len(sequential.snapshot().tasks)) == (0, 1)

    def test_a_result_is_not_lost_by_a_hold(self, sequential):
        task = Task(support.double, sequential, plugins=with_hook("hold", bug))
        futures = []
        sequential.on_start(lambda: futures.append(task(21)))
        with pytest.raises(LookupError, match="a bug"):
            sequential.run(timeout=20)
        assert futures[0].result() == 42

    def test_the_end_is_told_whatever_a_plugin_makes_of_it(self, sequential):
        task = Task(support.double, sequential, plugins=with_hook("ended", bug))
        told, futures = listen(task), []
        sequential.on_start(lambda: futures.append(task(21)))
        with pytest.raises(LookupError, match="a bug") as info:
            sequential.run(timeout=20)
        assert info.value.__notes__ == ["raised by ended of plugin \"hook\" of 'double'"]
        assert told == ["task-submitted", "task-done"]
        assert futures[0].result() == 42

    def test_a_call_that_a_plugin_did_not_get_to_know_is_none(self, sequential):
        task = Task(support.double, sequential, plugins=with_hook("submitted", bug))
        told, caught = listen(task), []

        @sequential.on_start
        def begin():
            with pytest.raises(LookupError, match="a bug") as info:
                task(1)
            caught.extend(info.value.__notes__)

        assert sequential.run(timeout=20) is Scheduler.ExitCode.EXHAUSTED
        assert caught == ["raised by submitted of plugin \"hook\" of 'double'"]
        assert (task.n_called, task.n_running, told) == (0, 0, [])

    @pytest.mark.parametrize("delay", [True, -1, "1", float("nan"), float("inf")])
    def test_what_cannot_be_waited_for_is_a_bug_too(self, sequential, delay):
        task = Task(support.fail, sequential, plugins=with_hook("retry", lambda *_: delay))
        told = listen(task)
        sequential.on_start(lambda: task("own"))
        with pytest.raises(InvalidOptionError, match='plugin "hook" wants a call tried again'):
            sequential.run(timeout=20)
        assert told == ["task-submitted", "task-done"]


class TestHolding:
    def test_an_outcome_is_told_when_all_have_released_it(self, sequential):
        releases, asked = [], []

        def hold(future, release):
            asked.append(future.done())
            if len(releases) < 2:
                threading.Timer(0.01, release).start()
                releases.append(release)
                return True
            return False

        task = Task(support.double, sequential, plugins=with_hook("hold", hold))
        assert results_of(task, (1,)) == [2]
        assert asked == [False, False, False]

    def test_what_is_held_is_waited_for_as_the_run_ends(self, scheduler, manual):
        releases = []

        def hold(_future, release):
            if not releases:
                releases.append(release)
                asyncio.get_running_loop().call_later(5, release)
                return True
            return False

        task = Task(support.double, scheduler, plugins=with_hook("hold", hold))
        futures = []
        scheduler.on_start(lambda: (futures.append(task(1)), manual.finish_all()))
        code = VirtualClock().run(scheduler.async_run(timeout=1))
        assert code is Scheduler.ExitCode.TIMEOUT
        assert futures[0].result() == 2

    def test_a_failure_is_tried_again_once_it_is_released_and_a_second_release_is_nothing(
        self, scheduler, manual
    ):
        order, releases = [], []

        def hold(_future, release):
            order.append("hold")
            releases.append(release)
            if len(releases) == 1:
                asyncio.get_running_loop().call_later(1, release)
                return True
            return False

        def retry(*_):
            order.append("retry")
            asyncio.get_running_loop().call_later(1, releases[0])
            asyncio.get_running_loop().call_later(5, releases[0])
            asyncio.get_running_loop().call_later(7, lambda: manual.finish_all())
            return 3

        plugins = [with_hook("retry", retry), with_hook("hold", hold)]
        task = Task(support.double, scheduler, plugins=plugins)
        futures = []
        scheduler.on_start(lambda: (futures.append(task(1)), manual.calls[0].fail(KeyError())))
        VirtualClock().run(scheduler.async_run(timeout=20))
        assert order == ["hold", "hold", "retry", "hold"]
        assert futures[0].result() == 2


class TestRetrying:
    def run(self, manual, scheduler, retry, *, end=None, **options):
        task = Task(support.double, scheduler, plugins=with_hook("retry", retry))
        told, futures = listen(task), []
        scheduler.on_start(lambda: (futures.append(task(1)), end and end(manual.calls[0])))
        VirtualClock().run(scheduler.async_run(raises=False, **options))
        return futures[0], told

    @pytest.mark.parametrize("how", ["finish", "cancel"])
    def test_only_what_raised_is_asked_about(self, scheduler, manual, how):
        def end(call):
            call.finish() if how == "finish" else call.future.cancel()

        self.run(manual, scheduler, bug, end=end)

    def test_nobody_is_asked_once_the_run_ends(self, scheduler, manual):
        def end(call):
            call.start()
            scheduler.stop()
            asyncio.get_running_loop().call_later(5, call.fail, ValueError("own"))

        future, told = self.run(manual, scheduler, bug, end=end)
        assert str(future.exception()) == "own"
        assert told == ["task-submitted", "task-done"]

    def test_a_call_may_be_cancelled_while_it_is_decided_about(self, scheduler, manual):
        said = []

        def retry(future, _error):
            said.append(future.cancel())

        future, told = self.run(
            manual, scheduler, retry, end=lambda call: call.fail(ValueError("own"))
        )
        assert said == [True]
        assert future.cancelled()
        assert told == ["task-submitted", "task-future-cancelled"]

    def test_the_options_of_a_call_are_those_of_each_attempt(self):
        class WithOptions(ManualExecutor):
            def with_options(self, **options):
                view = ManualExecutor()
                view.calls = self.calls
                seen.append((options, view))
                view.submit = lambda fn, /, *args: (
                    used.append(view) or ManualExecutor.submit(view, fn, *args)
                )
                return view

        seen, used = [], []
        manual = WithOptions()
        scheduler = Scheduler(manual)
        delays = iter([0, 0, None])
        task = Task(support.double, scheduler, plugins=with_hook("retry", lambda *_: next(delays)))
        fail = lambda: [call.fail(ValueError("no")) for call in manual.waiting]  # noqa: E731

        @scheduler.on_start
        def begin():
            task.options(cpus=2)(1)
            for after_s in (1, 2, 3):
                asyncio.get_running_loop().call_later(after_s, fail)

        VirtualClock().run(scheduler.async_run(end_on_exception=False))
        assert [options for options, _ in seen] == [{"cpus": 2}]
        assert used == [seen[0][1]] * 3

    def test_what_is_needed_for_another_attempt_is_kept_for_those_who_may_want_one(self, scheduler):
        plugins = [(), Note(), with_hook("hold", lambda *_: False), with_hook("retry", bug)]
        tasks = [Task(support.double, scheduler, plugins=plugin) for plugin in plugins]
        kept = []
        scheduler.on_start(lambda: kept.extend(task(1)._plan is not None for task in tasks))
        scheduler.on_start(scheduler.stop)
        VirtualClock().run(scheduler.async_run())
        assert kept == [False, False, False, True]
