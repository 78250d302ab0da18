"""What a plugin has to do to work with every task and engine, as tests to subclass.

::

    class TestMyPlugin(PluginContract):
        refuses = {"threads": "process-wide"}

        def make(self):
            return MyPlugin(level=3)

An engine is either one on which calls work, or one that is refused when the task is made, with a
sentence that says why.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

from amltk.events import Event
from amltk.exceptions import InvalidOptionError, WorkerDiedError
from amltk.scheduling.plugin import Layer, TaskPlugin
from amltk.scheduling.scheduler import Scheduler
from amltk.scheduling.task import Task
from amltk.testing.contracts.functions import work


class _Refuse(TaskPlugin):
    name: ClassVar[str] = "refuse"

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return None if args[0] == 13 else (fn, args, kwargs)


def _standard_pool(stack: ExitStack) -> Scheduler:
    context = multiprocessing.get_context("forkserver")
    return Scheduler(stack.enter_context(ProcessPoolExecutor(2, context)))


def _loky(_stack: ExitStack) -> Scheduler:
    pytest.importorskip("loky", reason="the extra loky is not installed")
    return Scheduler.with_loky(2)


def _dask(_stack: ExitStack) -> Scheduler:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    return Scheduler.with_dask(n_workers=2)


def _ray(_stack: ExitStack) -> Scheduler:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    return Scheduler.with_ray(num_cpus=2)


#: Makes a scheduler of each engine that needs nothing but this machine.
ENGINES: dict[str, Callable[[ExitStack], Scheduler]] = {
    "sequential": lambda _stack: Scheduler.with_sequential(),
    "threads": lambda _stack: Scheduler.with_threads(2),
    "processes": lambda _stack: Scheduler.with_processes(2),
    "standard pool": _standard_pool,
    "loky": _loky,
    "dask": _dask,
    "ray": _ray,
}


class PluginContract:
    """Tests of one plugin; subclass it and override ``make``."""

    #: Engines on which the plugin cannot work, with a pattern that its refusal matches.
    refuses: ClassVar[Mapping[str, str]] = {}

    #: What tasks run; ``work``, with whatever else the plugin wants of it.
    function: ClassVar[Callable[..., Any]] = staticmethod(work)

    #: No run takes longer than so many seconds.
    timeout_s: ClassVar[float] = 50.0

    #: The engine of the tests that need only one.
    engine: ClassVar[str] = "processes"

    def make(self) -> TaskPlugin:
        """Return a new plugin."""
        raise NotImplementedError

    @pytest.fixture
    def stack(self) -> Iterator[ExitStack]:
        """What is closed after the test."""
        with ExitStack() as stack:
            yield stack

    @pytest.fixture
    def scheduler(self, stack: ExitStack) -> Scheduler:
        """A scheduler of the engine that the plugin works on."""
        return ENGINES[self.engine](stack)

    def task(self, scheduler: Scheduler, *beside: TaskPlugin) -> Task[..., Any]:
        """Return a task with the plugin, and with others after it."""
        return Task(self.function, scheduler, plugins=[self.make(), *beside])

    def results(self, task: Task[..., Any], *calls: tuple[Any, ...]) -> list[Any]:
        """Run calls and return what became of them, in order; ``None`` for those refused."""
        futures: list[Any] = []
        scheduler: Any = task.scheduler
        start = scheduler.on_start(lambda: futures.extend(task(*call) for call in calls))
        code = scheduler.run(timeout=self.timeout_s, end_on_exception=False)
        scheduler.on_start.remove(start)
        assert code is Scheduler.ExitCode.EXHAUSTED
        return [f and (f.exception() or f.result()) for f in futures]

    def test_it_says_what_it_is(self) -> None:
        """Messages and views have a name for it, and its place is known."""
        plugin = self.make()
        assert plugin.name != TaskPlugin.name
        assert isinstance(plugin.layer, Layer)

    def test_its_events_are_the_same_ones_in_every_process(self) -> None:
        """They can be imported from where they are."""
        for event in self.make().events():
            assert isinstance(event, Event)
            assert pickle.loads(pickle.dumps(event)) is event

    def test_it_belongs_to_one_task(self, scheduler: Scheduler) -> None:
        """A second task is told so."""
        plugin = self.make()
        Task(self.function, scheduler, plugins=plugin)
        with pytest.raises(InvalidOptionError, match="belongs to"):
            Task(self.function, scheduler, plugins=plugin)

    def test_a_copy_has_the_settings_and_no_task(self, scheduler: Scheduler) -> None:
        """Public attributes are settings."""
        plugin = self.make()
        settings = _settings_of(plugin)
        Task(self.function, scheduler, plugins=plugin)
        copied = plugin.copy()
        assert type(copied) is type(plugin)
        assert copied is not plugin
        assert copied.task is None
        assert _settings_of(copied) == settings

    def test_the_function_is_the_same_one_for_each_call(self, scheduler: Scheduler) -> None:
        """So it is sent to a worker once."""
        task = self.task(scheduler)
        planned: list[Any] = []

        @scheduler.on_start
        def plan() -> None:
            planned.extend(task._lineup.plan(task.function, (x,), {}) for x in (1, 2))

        scheduler.run(timeout=self.timeout_s)
        assert planned[0][0] is planned[1][0]

    def test_results_and_exceptions_come_through(self, scheduler: Scheduler) -> None:
        """As they would without it."""
        first, failed, second = self.results(self.task(scheduler), (1,), (0,), (2, 2))
        assert (first, second) == (2, 4)
        assert type(failed) is LookupError
        assert str(failed) == "cannot work with 0"

    def test_another_plugin_may_refuse_a_call(self, scheduler: Scheduler) -> None:
        """Whatever this one had planned for it."""
        task = self.task(scheduler, _Refuse())
        assert self.results(task, (1,), (13,), (2,)) == [2, None, 3]
        assert task.n_called == 2

    def test_a_batch_is_unseen_by_the_task_itself(self, scheduler: Scheduler) -> None:
        """It works with a copy of the plugin."""
        task = self.task(scheduler)
        batch = task.batch([(x, x) for x in range(1, 5)])
        results: list[list[int]] = []
        batch.on_batch_returned(results.append)
        scheduler.on_start(batch.submit)
        assert scheduler.run(timeout=self.timeout_s) is Scheduler.ExitCode.EXHAUSTED
        assert results == [[2, 4, 6, 8]]
        assert not any(task.event_counts.values())

    def test_a_second_run_is_like_the_first(self, scheduler: Scheduler) -> None:
        """Nothing of the first is in its way."""
        task = self.task(scheduler)
        assert self.results(task, (1,), (2,)) == [2, 3]
        assert self.results(task, (1,), (2,)) == [2, 3]
        assert not task.futures()

    def test_a_worker_that_dies_costs_one_call(self, scheduler: Scheduler) -> None:
        """And the plugin does not wait for it in vain."""
        if scheduler.traits.runs_in_threads or scheduler.traits.runs_inline:
            pytest.skip("there is no worker beside this process")
        outcomes = self.results(self.task(scheduler), (1,), (-1,), (2,))
        self.check_death(outcomes.pop(1))
        assert outcomes == [2, 3]

    def check_death(self, error: object) -> None:
        """Check what a call raises whose worker has died."""
        assert isinstance(error, WorkerDiedError)

    @pytest.mark.parametrize("name", ENGINES)
    def test_an_engine_works_or_is_refused_with_a_reason(self, name: str, stack: ExitStack) -> None:
        """When the task is made, not when its calls have run for a while."""
        scheduler = ENGINES[name](stack)
        if name in self.refuses:
            with pytest.raises(InvalidOptionError, match=self.refuses[name]):
                self.task(scheduler)
            return
        assert self.results(self.task(scheduler), (1,), (2, 2)) == [2, 4]


def _settings_of(plugin: TaskPlugin) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(plugin).items()
        if not name.startswith("_") and name != "task"
    }
