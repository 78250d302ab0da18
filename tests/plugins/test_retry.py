"""Trying calls again: the same call, one outcome, and nothing hidden."""

import asyncio
import gc
import os
import signal
import threading
import weakref
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import runs
import support

from amltk import CallLimiter, Scheduler, Task
from amltk.exceptions import InvalidOptionError, WorkerDiedError
from amltk.plugins import Retry
from amltk.testing import ManualExecutor, VirtualClock
from amltk.testing.contracts import PluginContract
from amltk.testing.contracts.plugin import ENGINES

ExitCode = Scheduler.ExitCode

WITH_WORKERS = [name for name in ENGINES if name not in {"sequential", "threads"}]

EVENTS = {
    "F_SUBMITTED": Task.F_SUBMITTED,
    "DONE": Task.DONE,
    "RETURNED": Task.RETURNED,
    "EXCEPTION": Task.EXCEPTION,
    "F_CANCELLED": Task.F_CANCELLED,
    "F_RETRIED": Retry.F_RETRIED,
    "RETRIED": Retry.RETRIED,
}
RETRIED = ["F_RETRIED", "RETRIED"]


class TestContract(PluginContract):
    def make(self):
        return Retry(max_retries=1)


def is_first(folder, x):
    try:
        (Path(folder) / str(x)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die_first(folder, x):
    if is_first(folder, x):
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def fail_first(folder, x):
    if is_first(folder, x):
        raise LookupError(f"no {x} yet")
    return x


class Scripted(ManualExecutor):
    """Each call ends at once as the script says; when that is over, calls wait."""

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        #: When calls came.
        self.times = []

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        self.times.append(asyncio.get_running_loop().time())
        if self.script:
            outcome = self.script.pop(0)
            call = self.calls[-1]
            call.fail(outcome) if isinstance(outcome, Exception) else call.succeed(outcome)
        return future


class Scene:
    """A task whose one call ends as the script says, and what is told of it."""

    def __init__(self, *script, plugins):
        self.executor = Scripted(*script)
        self.scheduler = Scheduler(self.executor)
        self.task = Task(support.double, self.scheduler, plugins=plugins)
        self.told = listen(self.task)
        self.scheduler.on_start(self.submit)

    def submit(self):
        self.future = self.task(1)

    def run(self, **options):
        """Run on a clock of its own, and return how the run ended."""
        return VirtualClock().run(self.scheduler.async_run(raises=False, **options))


def listen(task):
    """Note what is told of a task, in order."""
    told = []
    for name, event in EVENTS.items():
        task.on(event, partial(lambda name, *_, **__: told.append(name), name))
    return told


def errors(n):
    return [ValueError(f"no {i}") for i in range(1, n + 1)]


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


class TestEngines:
    @pytest.mark.parametrize("name", WITH_WORKERS)
    def test_a_call_whose_worker_was_killed_runs_again(self, name, tmp_path, stack):
        task = Task(die_first, ENGINES[name](stack), plugins=Retry())
        told, retries = listen(task), []
        task.on(Retry.F_RETRIED, lambda *retry: retries.append(retry))
        (future,) = runs.run_calls(task, (str(tmp_path), 7))
        assert future.result() == 7
        assert told == ["F_SUBMITTED", *RETRIED, "DONE", "RETURNED"]
        assert retries[0][:2] == (future, 1)
        assert isinstance(retries[0][2], WorkerDiedError)

    @pytest.mark.parametrize("name", ENGINES)
    def test_a_call_that_raised_runs_again_as_the_same_call(self, name, tmp_path, stack):
        task = Task(fail_first, ENGINES[name](stack), plugins=Retry(on=LookupError))
        told = listen(task)
        futures = runs.run_calls(task, (str(tmp_path), 1), (str(tmp_path), 2))
        assert [future.result() for future in futures] == [1, 2]
        assert [future.number for future in futures] == [0, 1]
        assert [told.count(name) for name in ("F_SUBMITTED", "RETRIED", "DONE")] == [2, 2, 2]
        assert task.n_called == 2

    @pytest.mark.parametrize("name", ENGINES)
    def test_a_batch_is_told_at_the_end_only(self, name, tmp_path, stack):
        task = Task(fail_first, ENGINES[name](stack), plugins=Retry(on=LookupError))
        batch = task.batch([(str(tmp_path), x) for x in range(3)])
        told = []
        batch.on_any_exception(told.append)
        batch.on_batch_returned(told.append)
        task.scheduler.on_start(batch.submit)
        assert task.scheduler.run(timeout=50) is ExitCode.EXHAUSTED
        assert told == [[0, 1, 2]]

    def test_a_call_that_is_running_its_second_attempt_can_be_cancelled(self, tmp_path):
        scheduler = Scheduler.with_processes(1)
        task = Task(beat_after_failing, scheduler, plugins=Retry(on=LookupError))
        told = listen(task)

        @task.on(Retry.F_RETRIED)
        def cancel_later(future, _retry, _cause):
            def cancel():
                support.wait_for_file(tmp_path / "beat")
                assert future.cancel()

            threads.append(threading.Thread(target=cancel))
            threads[0].start()

        threads = []
        (future,) = runs.run_calls(task, (str(tmp_path),))
        threads[0].join()
        assert future.cancelled()
        assert told == ["F_SUBMITTED", *RETRIED, "F_CANCELLED"]


def beat_after_failing(folder):
    fail_first(folder, 0)
    support.heartbeat(Path(folder) / "beat")


class TestTelling:
    def test_the_last_failure_is_the_outcome(self):
        script = errors(3)
        scene = Scene(*script, plugins=Retry(max_retries=2, on=ValueError))
        retries = []
        scene.task.on(Retry.RETRIED, lambda *retry: retries.append(retry))
        assert scene.run(end_on_exception=False) is ExitCode.EXHAUSTED
        assert scene.told == ["F_SUBMITTED", *RETRIED, *RETRIED, "DONE", "EXCEPTION"]
        assert retries == [(1, script[0]), (2, script[1])]
        assert scene.future.exception() is script[2]

    def test_what_attempts_before_it_raised_is_noted(self):
        script = errors(3)
        Scene(*script, plugins=Retry(on=ValueError, max_retries=2)).run()
        assert script[2].__notes__ == [
            "attempt 1 failed with ValueError: no 1",
            "attempt 2 failed with ValueError: no 2",
        ]
        assert not hasattr(script[0], "__notes__")

    def test_an_object_that_is_raised_again_and_again_is_noted_once(self):
        error, other = ValueError("the same one"), KeyError("another one")
        for _ in range(2):
            plugins = Retry(on=(ValueError, KeyError), max_retries=2)
            assert Scene(error, other, error, plugins=plugins).run() is error
        assert error.__notes__ == ["attempt 2 failed with KeyError: 'another one'"]

    def test_listeners_of_both_events_are_called_as_they_came(self):
        scene = Scene(*errors(1), 2, plugins=Retry(on=ValueError))
        order = []
        scene.task.on(Retry.RETRIED, lambda: order.append("first"))
        scene.task.on(Retry.F_RETRIED, lambda: order.append("second"))
        scene.task.on(Retry.RETRIED, lambda: order.append("third"))
        scene.run()
        assert order == ["first", "second", "third"]

    def test_only_the_outcome_ends_the_run(self):
        assert Scene(*errors(3), 2, plugins=Retry(on=ValueError)).run() is ExitCode.EXHAUSTED
        script = errors(2)
        scene = Scene(*script, plugins=Retry(on=ValueError, max_retries=1))
        assert scene.run(end_on_exception=ValueError) is script[1]

    def test_a_listener_that_raises_ends_the_run_and_the_call(self):
        scene = Scene(*errors(1), plugins=Retry(on=ValueError))
        scene.task.on(Retry.RETRIED, partial(support.fail, "a bug"))
        error = scene.run()
        assert (type(error), len(scene.executor.calls)) == (ValueError, 1)
        assert scene.told[-2:] == ["DONE", "EXCEPTION"]


class TestWaiting:
    def times(self, n, **options):
        scene = Scene(*errors(n), 2, plugins=Retry(on=ValueError, max_retries=n, **options))
        assert scene.run() is ExitCode.EXHAUSTED
        start, *later = scene.executor.times
        return [time - start for time in later]

    def test_by_default_there_is_none(self):
        assert self.times(3) == pytest.approx([0, 0, 0])

    def test_it_doubles_up_to_a_limit(self):
        assert self.times(5, backoff=1, max_backoff=5) == pytest.approx([1, 3, 7, 12, 17])
        assert self.times(1, backoff=60) == pytest.approx([60])

    def test_it_does_not_overflow(self):
        retry = Retry(backoff=1e-300, max_backoff=2)
        assert retry._delay(10_000) == 2

    def test_a_function_says_how_long(self):
        assert self.times(3, backoff=lambda retry: 100 * retry) == pytest.approx([100, 300, 600])

    def test_a_call_that_waits_counts_as_running(self):
        scene = Scene(*errors(1), plugins=[Retry(on=ValueError, backoff=10)])
        seen = []

        @scene.task.on(Retry.F_RETRIED)
        def look(future, *_):
            loop = asyncio.get_running_loop()
            loop.call_later(5, lambda: seen.append((scene.task.n_running, future.done())))
            loop.call_later(15, scene.executor.finish_all)

        assert scene.run() is ExitCode.EXHAUSTED
        assert seen == [(1, False)]
        assert scene.future.result() == 2

    def test_no_other_call_takes_its_place(self):
        plugins = [CallLimiter(max_concurrent=1), Retry(on=ValueError, backoff=10)]
        scene = Scene(*errors(1), 2, 3, plugins=plugins)
        refused = []
        scene.task.on(Retry.RETRIED, lambda: refused.append(scene.task(5)))
        scene.task.on_returned(lambda: scene.task(6), limit=1)
        scene.run()
        assert refused == [None]
        assert scene.task.n_called == 2


class TestEnding:
    @pytest.mark.parametrize("after_s", [0, 5])
    def test_a_call_that_waits_can_be_cancelled(self, after_s):
        scene = Scene(*errors(1), plugins=Retry(on=ValueError, backoff=10))
        said = []

        @scene.task.on(Retry.F_RETRIED)
        def cancel(future, *_):
            def now():
                said.extend([future.cancel(), future.cancelled()])

            asyncio.get_running_loop().call_later(after_s, now) if after_s else now()

        assert scene.run() is ExitCode.EXHAUSTED
        assert said == [True, True]
        assert scene.told == ["F_SUBMITTED", *RETRIED, "F_CANCELLED"]
        assert len(scene.executor.calls) == 1

    @pytest.mark.parametrize("how", ["stop", "stop at once", "timeout", "cancel"])
    @pytest.mark.parametrize("error", [ValueError("no"), WorkerDiedError("gone")])
    @pytest.mark.parametrize("wait", [True, False])
    def test_a_call_that_waits_as_the_run_ends_has_failed(self, how, error, wait):
        scene = Scene(error, plugins=Retry(on=type(error), backoff=10))

        async def main():
            run = asyncio.ensure_future(scene.scheduler.async_run(timeout=5, wait=wait))
            if how == "stop at once":
                scene.task.on(Retry.RETRIED, scene.scheduler.stop)
            elif how != "timeout":
                end = scene.scheduler.stop if how == "stop" else run.cancel
                asyncio.get_running_loop().call_later(1, end)
            return await run

        code = {"timeout": ExitCode.TIMEOUT, "cancel": ExitCode.CANCELLED}.get(how)
        assert VirtualClock().run(main()) is (code or ExitCode.STOPPED)
        assert scene.told == ["F_SUBMITTED", *RETRIED, "DONE", "EXCEPTION"]
        assert scene.future.exception() is error
        assert len(scene.executor.calls) == 1

    def test_an_attempt_that_has_not_started_as_the_run_ends_leaves_what_the_last_one_raised(self):
        script = errors(1)
        scene = Scene(*script, plugins=Retry(on=ValueError, backoff=1))
        assert scene.run(timeout=5) is ExitCode.TIMEOUT
        assert scene.executor.calls[1].future.cancelled()
        assert scene.future.exception() is script[0]
        assert scene.told[-2:] == ["DONE", "EXCEPTION"]

    def test_an_attempt_that_fails_as_the_run_ends_is_the_last_one(self):
        scene = Scene(*errors(1), plugins=Retry(on=ValueError))
        last = ValueError("last")

        def end():
            scene.executor.calls[1].start()
            scene.scheduler.stop()
            asyncio.get_running_loop().call_later(3, scene.executor.calls[1].fail, last)

        scene.task.on(Retry.RETRIED, lambda: asyncio.get_running_loop().call_later(1, end))
        assert scene.run() is ExitCode.STOPPED
        assert scene.future.exception() is last
        assert last.__notes__ == ["attempt 1 failed with ValueError: no 1"]

    def test_an_engine_that_takes_no_further_attempt_is_the_reason_why_the_call_ends(self):
        script = errors(1)
        scene = Scene(*script, plugins=Retry(on=Exception))
        scene.task.on(Retry.RETRIED, lambda: scene.executor.shutdown())
        error = scene.run()
        assert "is shut down" in str(error)
        assert error.__cause__ is script[0]
        assert error.__notes__ == ["attempt 1 failed with ValueError: no 1"]
        assert scene.told == ["F_SUBMITTED", *RETRIED, "DONE", "EXCEPTION"]


class TestDeciding:
    def test_what_is_not_asked_for_is_not_tried_again(self):
        script = errors(1)
        scene = Scene(*script, plugins=Retry(on=KeyError))
        assert scene.run() is script[0]
        assert len(scene.executor.calls) == 1

    def test_a_function_may_decide(self):
        script = [OSError(1, "again"), OSError(2, "not again")]
        scene = Scene(*script, plugins=Retry(on=lambda error: error.errno == 1))
        assert scene.run() is script[1]

    def test_with_no_retries_it_does_nothing(self):
        script = errors(1)
        assert Scene(*script, plugins=Retry(max_retries=0, on=ValueError)).run() is script[0]

    @pytest.mark.parametrize(
        ("options", "kind", "match"),
        [
            ({"backoff": lambda _: 1 / 0}, ZeroDivisionError, "division"),
            ({"backoff": lambda _: -1}, InvalidOptionError, "returned -1 for retry 1"),
            ({"backoff": lambda _: None}, InvalidOptionError, "returned None for retry 1"),
            ({"on": lambda error: error.errno}, AttributeError, "errno"),
        ],
    )
    def test_a_bug_in_an_option_ends_the_run_and_the_call(self, options, kind, match):
        script = errors(1)
        scene = Scene(*script, plugins=Retry(**{"on": ValueError, **options}))
        with pytest.raises(kind, match=match) as info:
            raise scene.run()
        assert info.value.__notes__ == ["raised by retry of plugin \"retry\" of 'double'"]
        assert scene.told == ["F_SUBMITTED", "DONE", "EXCEPTION"]
        assert scene.future.exception() is script[0]

    def test_the_first_plugin_that_wants_another_attempt_says_when(self):
        plugins = [
            Retry(on=KeyError),
            Retry(on=ValueError, max_retries=1, backoff=5),
            Retry(on=ValueError, max_retries=2, backoff=7),
        ]
        scene = Scene(*errors(3), 2, plugins=plugins)
        scene.run()
        start = scene.executor.times[0]
        assert [time - start for time in scene.executor.times] == pytest.approx([0, 5, 12, 26])

    def test_each_call_has_its_own_retries(self, sequential, tmp_path):
        task = Task(fail_first, sequential, plugins=Retry(on=LookupError, max_retries=1))
        futures = runs.run_calls(task, *[(tmp_path, x) for x in range(20)])
        assert [future.result() for future in futures] == list(range(20))


class TestKeeping:
    def test_nothing_is_kept_of_calls_that_are_over(self, sequential, tmp_path):
        plugin, books = Retry(on=LookupError), []
        task = Task(fail_first, sequential, plugins=plugin)
        sequential.on_start(lambda: books.append(sequential._run._book))
        runs.run_calls(task, *[(tmp_path, x % 50) for x in range(1000)])
        kept = [plugin._n_retries, books[0]._resting, books[0]._futures, task.futures()]
        assert [len(one) for one in kept] == [0, 0, 0, 0]
        assert task.event_counts[Retry.RETRIED] == 50

    def test_a_kept_future_keeps_neither_arguments_nor_earlier_failures(self):
        class OwnError(Exception):
            """Takes weak references."""

        error = OwnError("no")
        scene = Scene(error, 2, plugins=Retry(on=OwnError))
        scene.run()
        future = scene.future
        dead = [weakref.ref(error), weakref.ref(scene.task)]
        del error, scene
        gc.collect()
        assert [one() for one in dead] == [None, None]
        assert future.result() == 2


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("max_retries", -1, "a whole number from 0"),
        ("max_retries", 1.0, "a whole number from 0"),
        ("max_retries", True, "a whole number from 0"),
        ("on", (), "an exception type"),
        ("on", int, "an exception type"),
        ("on", ValueError("x"), "an exception type"),
        ("on", (ValueError, "x"), "an exception type"),
        ("on", None, "an exception type"),
        ("backoff", -1, "a number of seconds from 0"),
        ("backoff", float("nan"), "a number of seconds from 0"),
        ("backoff", float("inf"), "a number of seconds from 0"),
        ("backoff", True, "a number of seconds from 0"),
        ("backoff", "1", "a number of seconds from 0"),
        ("backoff", int, "a number of seconds from 0"),
        ("backoff", 61, "is more than max_backoff=60.0; give a larger max_backoff"),
        ("max_backoff", -1, "a number of seconds from 0"),
        ("max_backoff", float("inf"), "a number of seconds from 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option, value, match):
    with pytest.raises(InvalidOptionError, match=match) as info:
        Retry(**{option: value})
    assert info.value.option == option
    assert info.value.value is value
