"""What an executor has to do to work under a scheduler, as tests to subclass.

::

    class TestMyExecutor(ExecutorContract):
        @pytest.fixture
        def executor(self):
            with MyExecutor() as executor:
                yield executor

A test that an engine cannot pass by its nature asks its `Traits` and skips with the reason.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, wait
from typing import Any, ClassVar

import pytest

from amltk.events import Event
from amltk.exceptions import CallExitError, WorkerDiedError
from amltk.executors.registry import Traits, traits_of
from amltk.scheduling.scheduler import Scheduler
from amltk.scheduling.task import Task
from amltk.testing.contracts.functions import (
    Counter,
    Refusing,
    add,
    fail,
    fork_and_return,
    print_much,
    raise_frozen,
    raise_speechless,
    repeat,
    script,
)


class ExecutorContract:
    """Tests of one executor; subclass it and give it a fixture ``executor``."""

    #: What the engine is called in reports.
    engine: ClassVar[str | None] = None

    #: No single wait takes longer than so many seconds.
    timeout_s: ClassVar[float] = 30.0

    #: How many calls are many; fewer for an engine that takes long for each.
    n_many: ClassVar[int] = 300

    #: How many calls there are in a chain, each submitted when the one before has returned.
    n_chain: ClassVar[int] = 30

    @pytest.fixture
    def traits(self, executor: Executor) -> Traits:
        """What the executor says it can do."""
        return traits_of(executor)

    @pytest.fixture
    def scheduler(self, executor: Executor) -> Scheduler:
        """A scheduler over the executor, which stays the fixture's."""
        return Scheduler(executor)

    def run(self, scheduler: Scheduler, **options: Any) -> Any:
        """Run with a limit, so that what hangs fails."""
        code = scheduler.run(timeout=self.timeout_s, **options)
        assert code is not Scheduler.ExitCode.TIMEOUT, "the run did not come to an end in time"
        return code

    def collect(self, task: Task[..., Any], *events: Event[...]) -> list[tuple[str, Any]]:
        """Note a task's events, by name with their last argument."""
        seen: list[tuple[str, Any]] = []
        for event in events:
            name = event.name

            def note(*args: Any, name: str = name) -> None:
                seen.append((name, args[-1]))

            task.on(event, note)
        return seen

    def test_a_future_has_the_result(self, executor: Executor, traits: Traits) -> None:
        """The bare executor works."""
        if traits.pickles and not traits.packs_itself:
            assert executor.submit(pow, 2, 10).result(self.timeout_s) == 1024
        else:
            assert executor.submit(lambda: 1024).result(self.timeout_s) == 1024

    def test_a_call_returns_through_its_events(self, scheduler: Scheduler) -> None:
        """The events of a result come in their order."""
        task = Task(add, scheduler)
        seen = self.collect(task, task.SUBMITTED, task.DONE, task.RETURNED)
        scheduler.on_start(lambda: task(1, y=2))
        assert self.run(scheduler) is Scheduler.ExitCode.EXHAUSTED
        assert [name for name, _ in seen] == ["task-submitted", "task-done", "task-returned"]
        assert seen[-1][1] == 3

    def test_an_exception_arrives_as_itself(self, scheduler: Scheduler) -> None:
        """Type and message survive."""
        task = Task(fail, scheduler)
        seen = self.collect(task, task.EXCEPTION)
        scheduler.on_start(lambda: task("broken"))
        self.run(scheduler, end_on_exception=False)
        assert type(seen[0][1]) is ValueError
        assert str(seen[0][1]) == "broken"

    def test_end_on_exception_raises_it(self, scheduler: Scheduler) -> None:
        """The run ends with the original exception."""
        task = Task(fail, scheduler)
        scheduler.on_start(lambda: task("broken"))
        with pytest.raises(ValueError, match="broken"):
            self.run(scheduler)

    def test_lambdas_and_closures_are_fine(self, scheduler: Scheduler) -> None:
        """What pickle cannot send still runs."""
        offset = 40
        task = Task(lambda x: x + offset, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: task(2))
        self.run(scheduler)
        assert [value for _, value in seen] == [42]

    def test_none_is_a_result(self, scheduler: Scheduler) -> None:
        """A call that returns nothing has returned."""
        task = Task(lambda: None, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(task)
        self.run(scheduler)
        assert seen == [("task-returned", None)]

    def test_an_argument_that_cannot_be_pickled_fails_its_call_only(
        self, scheduler: Scheduler, traits: Traits
    ) -> None:
        """The executor takes no harm."""
        if not traits.pickles:
            pytest.skip("nothing is pickled on this engine")
        task = Task(lambda x: x, scheduler)
        seen = self.collect(task, task.EXCEPTION, task.RETURNED)
        scheduler.on_start(lambda: (task(Refusing()), task(1)))
        self.run(scheduler, end_on_exception=False)
        assert sorted(name for name, _ in seen) == ["task-exception", "task-returned"]

    def test_a_result_that_cannot_be_pickled_fails_its_call_only(
        self, scheduler: Scheduler, traits: Traits
    ) -> None:
        """The executor takes no harm."""
        if not traits.pickles:
            pytest.skip("nothing is pickled on this engine")
        task = Task(lambda x: (i for i in range(3)) if x else 0, scheduler)
        seen = self.collect(task, task.EXCEPTION, task.RETURNED)
        scheduler.on_start(lambda: (task(1), task(0)))
        self.run(scheduler, end_on_exception=False)
        assert sorted(name for name, _ in seen) == ["task-exception", "task-returned"]

    def test_each_call_has_a_fresh_copy_of_its_object(
        self, scheduler: Scheduler, traits: Traits
    ) -> None:
        """No call goes on where another one has left off."""
        if not traits.pickles:
            pytest.skip("nothing is pickled on this engine")
        task = Task(Counter().count, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: [task() for _ in range(6)])
        self.run(scheduler)
        assert [value for _, value in seen] == [1] * 6

    def test_globals_of_a_script_are_one_set(self, scheduler: Scheduler) -> None:
        """What one of its functions binds, its caches, and what goes by types."""
        task = Task(script()["work"], scheduler)
        seen = self.collect(task, task.RETURNED, task.EXCEPTION)
        scheduler.on_start(task)
        self.run(scheduler, end_on_exception=False)
        assert [value for _, value in seen] == [([1, 2, 3], 6, 1, "number", "thing")]

    def test_strange_exceptions_are_told(self, scheduler: Scheduler) -> None:
        """Those that take no attributes, and those that cannot say what they are."""
        told: list[str] = []
        for function in (raise_frozen, raise_speechless):
            task = Task(function, scheduler)
            task.on_exception(lambda error: told.append(type(error).__name__))
            scheduler.on_start(task)
        self.run(scheduler, end_on_exception=False)
        assert sorted(told) == ["FrozenError", "SpeechlessError"]

    def test_calls_may_print_as_much_as_they_like(self, scheduler: Scheduler) -> None:
        """Nobody has to read it for the calls to go on."""
        task = Task(print_much, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: [task() for _ in range(3)])
        self.run(scheduler)
        assert [value for _, value in seen] == [1] * 3

    def test_children_of_calls_have_no_say(self, scheduler: Scheduler, traits: Traits) -> None:
        """A child that is forked and comes out of the function changes no outcome."""
        if traits.runs_inline or traits.runs_in_threads:
            pytest.skip("there is no worker beside this process")
        task = Task(fork_and_return, scheduler)
        seen = self.collect(task, task.F_RETURNED, task.F_EXCEPTION)
        asked: dict[Any, int] = {}
        told: list[tuple[int, int]] = []
        task.on_f_submitted(lambda future, x: asked.update({future: x}))
        task.on_f_returned(lambda future, result: told.append((asked[future], result)))
        scheduler.on_start(lambda: [task(x) for x in range(4)])
        self.run(scheduler, end_on_exception=False)
        assert len(seen) == 4
        assert sorted(told) == [(x, x) for x in range(4)]

    def test_large_results_on_their_way_hold_up_no_end(
        self, scheduler: Scheduler, traits: Traits
    ) -> None:
        """Each call ends, whether its result has arrived by the time it is ended or not."""
        task = Task(bytes, scheduler)
        seen = self.collect(task, task.RETURNED, task.F_CANCELLED)
        scheduler.on_start(lambda: [task(4 << 20) for _ in range(8)])
        task.on_returned(scheduler.stop, limit=1)
        waits = not traits.ends_running_calls
        assert self.run(scheduler, wait=waits) is Scheduler.ExitCode.STOPPED
        assert len(seen) == 8

    def test_many_calls_all_return(self, scheduler: Scheduler) -> None:
        """Nothing is lost among them."""
        task = Task(add, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: [task(x) for x in range(self.n_many)])
        self.run(scheduler)
        assert sorted(value for _, value in seen) == list(range(1, self.n_many + 1))

    def test_each_callback_may_submit_the_next(self, scheduler: Scheduler) -> None:
        """A chain goes on as long as callbacks submit."""
        task = Task(add, scheduler)

        @task.on_returned
        def go_on(value: int) -> None:
            if value < self.n_chain:
                task(value)

        scheduler.on_start(lambda: task(0))
        self.run(scheduler)
        assert task.n_called == self.n_chain

    def test_equal_calls_are_all_run(self, scheduler: Scheduler) -> None:
        """A call is no pure function: the same one twice is two calls."""
        task = Task(os.urandom, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: [task(8) for _ in range(10)])
        self.run(scheduler)
        assert len({value for _, value in seen}) == 10

    def test_all_keywords_reach_the_function(self, scheduler: Scheduler) -> None:
        """Also those that an engine has uses for itself."""
        names = ("fn", "function", "key", "name", "priority", "pure", "resources", "retries")
        keywords = {name: name for name in (*names, "self", "timeout", "workers", "num_cpus")}
        task = Task(repeat, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: task(**keywords))
        self.run(scheduler)
        assert [value for _, value in seen] == [keywords]

    def test_a_large_argument_is_shared_by_many_calls(self, scheduler: Scheduler) -> None:
        """Each call gets all of it."""
        task = Task(len, scheduler)
        data = os.urandom(8 << 20)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: [task(data) for _ in range(10)])
        self.run(scheduler)
        assert [value for _, value in seen] == [8 << 20] * 10

    def test_leaving_the_interpreter_fails_its_call_only(self, scheduler: Scheduler) -> None:
        """It is told as a ``CallExitError``, which an ``except Exception`` of the driver sees."""
        task = Task(lambda x: sys.exit(x) if x else 0, scheduler)
        seen = self.collect(task, task.EXCEPTION, task.RETURNED)
        scheduler.on_start(lambda: (task(3), task(0)))
        self.run(scheduler, end_on_exception=False)
        assert sorted(name for name, _ in seen) == ["task-exception", "task-returned"]
        assert [type(value) for name, value in seen if name == "task-exception"] == [CallExitError]

    def test_a_worker_that_dies_costs_one_call(self, scheduler: Scheduler, traits: Traits) -> None:
        """The others return, whether they had started or not."""
        if traits.runs_inline or traits.runs_in_threads:
            pytest.skip("there is no worker beside this process")
        if traits.death_spreads:
            pytest.skip("a worker's death takes others with it on this engine")
        task = Task(lambda x: os._exit(7) if x == 3 else x, scheduler)
        seen = self.collect(task, task.EXCEPTION, task.RETURNED)
        scheduler.on_start(lambda: [task(x) for x in range(10)])
        self.run(scheduler, end_on_exception=False)
        errors = [value for name, value in seen if name == "task-exception"]
        assert [isinstance(error, (WorkerDiedError, BrokenExecutor)) for error in errors] == [True]
        assert sorted(value for name, value in seen if name == "task-returned") == [
            x for x in range(10) if x != 3
        ]

    def test_callbacks_run_in_one_thread(self, scheduler: Scheduler) -> None:
        """Whatever thread completes a call."""
        task = Task(add, scheduler)
        threads: set[int] = set()
        task.on_submitted(lambda: threads.add(threading.get_ident()))
        task.on_returned(lambda: threads.add(threading.get_ident()))
        scheduler.on_start(lambda: [task(x) for x in range(20)])
        self.run(scheduler)
        assert threads == {threading.get_ident()}

    def test_a_batch_returns_in_the_order_of_its_arguments(self, scheduler: Scheduler) -> None:
        """Whatever order the calls end in."""
        task = Task(add, scheduler)
        batch = task.batch([(x, x) for x in range(10)])
        results: list[list[int]] = []
        batch.on_batch_returned(results.append)
        scheduler.on_start(batch.submit)
        self.run(scheduler)
        assert results == [[2 * x for x in range(10)]]

    def test_a_second_run_is_like_the_first(self, scheduler: Scheduler) -> None:
        """Listeners stay, and so does the executor."""
        task = Task(add, scheduler)
        seen = self.collect(task, task.RETURNED)
        scheduler.on_start(lambda: task(1))
        assert self.run(scheduler) is self.run(scheduler)
        assert len(seen) == 2
        assert not task.futures()

    def test_stop_cancels_what_has_not_started(self, scheduler: Scheduler, traits: Traits) -> None:
        """Each call ends exactly once, run or cancelled, and the executor goes on."""
        task = Task(time.sleep, scheduler)
        seen = self.collect(task, task.RETURNED, task.F_CANCELLED)
        scheduler.on_start(lambda: [task(0.05) for _ in range(40)])
        task.on_returned(scheduler.stop)
        assert self.run(scheduler) is Scheduler.ExitCode.STOPPED
        assert len(seen) == 40
        if traits.tells_started:
            assert any(name == "task-future-cancelled" for name, _ in seen)

    def test_cancel_tells_the_truth(self, scheduler: Scheduler) -> None:
        """What ``cancel`` says is what becomes of the calls."""
        task = Task(time.sleep, scheduler)
        said: list[bool] = []

        @scheduler.on_start
        def begin() -> None:
            futures = [task(0.05) for _ in range(10)]
            said.extend(future.cancel() for future in futures if future is not None)
            wait([], timeout=0)

        self.run(scheduler)
        assert task.event_counts[task.F_CANCELLED] == sum(said)
        assert task.event_counts[task.RETURNED] == len(said) - sum(said)

    def test_a_running_call_is_ended_where_that_is_possible(
        self, scheduler: Scheduler, traits: Traits
    ) -> None:
        """By ``wait=False``."""
        if not traits.ends_running_calls:
            pytest.skip("single running calls cannot be ended on this engine")
        task = Task(time.sleep, scheduler)
        seen = self.collect(task, task.RETURNED, task.F_CANCELLED)
        scheduler.on_start(lambda: task(600))

        @task.on_submitted
        def stop_when_it_runs() -> None:
            threading.Timer(0.5, scheduler.stop).start()

        assert self.run(scheduler, wait=False) is Scheduler.ExitCode.STOPPED
        assert [name for name, _ in seen] == ["task-future-cancelled"]
