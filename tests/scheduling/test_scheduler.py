import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import pytest
import support

from amltk import Event, Scheduler, Task
from amltk.exceptions import (
    CallbackArgumentsError,
    InvalidOptionError,
    LateCallWarning,
    RunningCallsWarning,
    SchedulerNotRunningError,
    SchedulerRunningError,
    WorkerDiedError,
    WouldDeadlockError,
)
from amltk.executors.traits import Traits
from amltk.scheduling import closing
from amltk.testing import ManualExecutor, VirtualClock

ExitCode = Scheduler.ExitCode

EVENTS = [
    "STARTED", "FUTURE_SUBMITTED", "FUTURE_DONE", "FUTURE_CANCELLED", "EMPTY", "TIMEOUT", "STOP",
    "FINISHING", "FINISHED",
]  # fmt: skip


def note_events(scheduler):
    seen = []
    for name in EVENTS:
        event = getattr(Scheduler, name)
        scheduler.on(event, lambda *_, name=name: seen.append(name), name=f"note-{name}")
    return seen


class TestEventsOfARun:
    def test_a_run_with_one_call(self, sequential):
        seen = note_events(sequential)
        sequential.on_start(lambda: sequential.submit(support.double, 1))
        assert sequential.run() is ExitCode.EXHAUSTED
        assert seen == [
            "STARTED", "FUTURE_SUBMITTED", "FUTURE_DONE", "EMPTY", "FINISHING", "FINISHED",
        ]  # fmt: skip

    def test_a_stopped_run(self, sequential):
        seen = note_events(sequential)
        sequential.on_start(sequential.stop)
        assert sequential.run() is ExitCode.STOPPED
        assert seen == ["STARTED", "STOP", "FINISHING", "FINISHED"]

    def test_a_run_that_times_out(self, scheduler, clock):
        seen = note_events(scheduler)
        assert clock.run(scheduler.async_run(timeout=3600, end_on_empty=False)) is ExitCode.TIMEOUT
        assert clock.time() == pytest.approx(3600)
        assert seen == ["STARTED", "EMPTY", "TIMEOUT", "FINISHING", "FINISHED"]

    def test_an_exception_of_a_call_stops_the_run(self, sequential):
        seen = note_events(sequential)
        sequential.on_start(lambda: sequential.submit(support.fail, "broken"))
        with pytest.raises(ValueError, match="broken"):
            sequential.run()
        assert seen[2:] == ["FUTURE_DONE", "STOP", "FINISHING", "FINISHED"]

    def test_empty_is_told_each_time_the_queue_drains(self, scheduler, manual, clock):
        seen = note_events(scheduler)

        async def drive():
            run = asyncio.ensure_future(scheduler.async_run(end_on_empty=False))
            await asyncio.sleep(1)
            for _ in range(2):
                scheduler.submit(support.double, 1)
                await asyncio.sleep(1)
                manual.finish_all()
                await asyncio.sleep(1)
            scheduler.stop()
            return await run

        assert clock.run(drive()) is ExitCode.STOPPED
        assert seen.count("EMPTY") == 3

    def test_empty_is_not_counted_when_nobody_listens_and_the_run_ends_on_it(self, sequential):
        sequential.run()
        assert sequential.event_counts[Scheduler.EMPTY] == 0

    def test_who_listens_to_empty_may_keep_the_run_going(self, sequential):
        task = Task(support.double, sequential)
        sequential.on_empty(lambda: task(1), limit=3)
        assert sequential.run() is ExitCode.EXHAUSTED
        assert task.n_called == 3

    def test_counts_and_listeners_outlive_a_run(self, sequential):
        seen = note_events(sequential)
        sequential.run()
        sequential.run()
        assert seen == ["STARTED", "EMPTY", "FINISHING", "FINISHED"] * 2
        assert sequential.event_counts[Scheduler.STARTED] == 2


class TestEndings:
    @pytest.mark.parametrize("ends", [True, ValueError, (KeyError, ValueError)])
    def test_an_exception_that_ends_the_run_is_raised_or_returned(self, sequential, ends):
        sequential.on_start(lambda: sequential.submit(support.fail, "broken"))
        with pytest.raises(ValueError, match="broken"):
            sequential.run(end_on_exception=ends)
        assert isinstance(sequential.run(end_on_exception=ends, raises=False), ValueError)

    @pytest.mark.parametrize("ends", [False, KeyError, ()])
    def test_other_exceptions_do_not_end_the_run(self, sequential, ends):
        sequential.on_start(lambda: sequential.submit(support.fail, "broken"))
        assert sequential.run(end_on_exception=ends) is ExitCode.EXHAUSTED

    def test_the_exception_has_the_workers_traceback_as_its_cause(self):
        scheduler = Scheduler.with_processes(1)
        scheduler.on_start(lambda: scheduler.submit(support.fail, "broken"))
        with pytest.raises(ValueError, match="broken") as caught:
            scheduler.run()
        assert "in fail" in str(caught.value.__cause__)

    def test_stop_ignores_what_it_is_given(self, sequential):
        sequential.on_start(lambda: sequential.submit(support.double, 1))
        sequential.on_future_done(sequential.stop)
        assert sequential.run() is ExitCode.STOPPED

    def test_stop_without_a_run_does_nothing(self, sequential):
        sequential.stop()
        assert sequential.run() is ExitCode.EXHAUSTED

    def test_stop_twice_is_stop_once(self, sequential):
        seen = note_events(sequential)
        sequential.on_start(lambda: (sequential.stop(), sequential.stop()))
        sequential.on_stop(sequential.stop)
        assert sequential.run() is ExitCode.STOPPED
        assert seen.count("STOP") == 1

    def test_stop_from_another_thread(self):
        scheduler = Scheduler.with_threads(1)
        scheduler.on_start(lambda: threading.Timer(0.1, scheduler.stop).start())
        assert scheduler.run(timeout=20, end_on_empty=False) is ExitCode.STOPPED

    def test_stop_is_seen_between_two_calls_of_the_sequential_executor(self, sequential):
        task = Task(support.double, sequential)
        sequential.on_start(lambda: [task(x) for x in range(10)])
        task.on_returned(sequential.stop, limit=1)
        sequential.run()
        assert task.event_counts[Task.RETURNED] == 1
        assert task.event_counts[Task.F_CANCELLED] == 9

    def test_a_timeout_is_seen_between_two_calls_of_the_sequential_executor(self, sequential):
        task = Task(time.sleep, sequential)
        sequential.on_start(lambda: [task(0.05) for _ in range(100)])
        assert sequential.run(timeout=0.2) is ExitCode.TIMEOUT
        assert task.event_counts[Task.RETURNED] < 20

    def test_a_timeout_ends_an_endless_chain(self, sequential):
        task = Task(support.double, sequential)
        sequential.on_start(lambda: task(1))
        task.on_returned(lambda: task(1))
        assert sequential.run(timeout=0.2) is ExitCode.TIMEOUT

    def test_calls_that_have_not_started_are_cancelled_and_running_ones_waited_for(
        self, scheduler, manual, clock
    ):
        task = Task(support.double, scheduler)

        async def drive():
            run = asyncio.ensure_future(scheduler.async_run())
            await asyncio.sleep(1)
            manual.calls[0].start()
            scheduler.stop()
            await asyncio.sleep(1)
            assert manual.calls[1].future.cancelled()
            assert task(9) is None  # finishing: nothing new is accepted
            manual.calls[0].finish()
            return await run

        scheduler.on_start(lambda: [task(x) for x in range(2)])
        assert clock.run(drive()) is ExitCode.STOPPED
        assert task.event_counts[Task.RETURNED] == 1

    def test_a_cancelled_coroutine_ends_the_run(self, scheduler, clock):
        seen = note_events(scheduler)

        async def drive():
            run = asyncio.ensure_future(scheduler.async_run(end_on_empty=False))
            await asyncio.sleep(1)
            run.cancel()
            return await run

        assert clock.run(drive()) is ExitCode.CANCELLED
        assert seen[-2:] == ["FINISHING", "FINISHED"]

    def test_running_calls_are_ended_without_wait(self, tmp_path):
        scheduler = Scheduler.with_processes(2)
        task = Task(support.ignore_term_and_beat, scheduler)
        cancelled = []
        task.on_cancelled(cancelled.append)
        scheduler.on_start(lambda: task(tmp_path / "beat"))
        task.on_submitted(
            lambda: threading.Thread(
                target=lambda: (support.wait_for_file(tmp_path / "beat"), scheduler.stop())
            ).start()
        )
        assert scheduler.run(wait=False) is ExitCode.STOPPED
        assert cancelled[0].cancelled()
        last = (tmp_path / "beat").read_text()
        time.sleep(0.1)
        assert (tmp_path / "beat").read_text() == last

    def test_all_ends_are_told_however_long_callbacks_take(self, monkeypatch):
        monkeypatch.setattr(closing, "GRACE_S", 0.05)
        scheduler = Scheduler.with_processes(1)
        task = Task(support.sleep_for_ever, scheduler)
        cancelled, futures = [], []
        task.on_cancelled(lambda future: (cancelled.append(future), time.sleep(0.02)))
        scheduler.on_start(lambda: futures.extend(task() for _ in range(30)))
        scheduler.on_start(lambda: threading.Timer(0.3, scheduler.stop).start())
        assert scheduler.run(wait=False) is ExitCode.STOPPED
        assert set(cancelled) == set(futures)

    def test_threads_are_waited_for_with_a_warning(self):
        scheduler = Scheduler.with_threads(1)
        task = Task(time.sleep, scheduler)
        scheduler.on_start(lambda: task(0.5))
        with pytest.warns(RunningCallsWarning, match="cannot be ended"):
            assert scheduler.run(timeout=0.1, wait=False) is ExitCode.TIMEOUT
        assert task.event_counts[Task.RETURNED] == 1

    def test_terminate_false_leaves_running_calls_alone(self):
        with ThreadPoolExecutor(1) as executor:
            scheduler = Scheduler(executor, terminate=False)
            futures = []
            scheduler.on_start(lambda: futures.append(scheduler.submit(time.sleep, 0.5)))
            assert scheduler.run(timeout=0.1, wait=False) is ExitCode.TIMEOUT
            assert not futures[0].done()
            assert futures[0].result(10) is None  # completed, although nobody is told any more
        assert scheduler.event_counts[Scheduler.FUTURE_DONE] == 0

    def test_terminate_may_be_a_function_of_the_executor(self, manual, clock):
        def end_all(executor):
            for call in executor.waiting:
                call.fail(RuntimeError("ended by hand"))

        scheduler = Scheduler(manual, terminate=end_all)
        task = Task(support.double, scheduler)
        scheduler.on_start(lambda: (task(1), manual.calls[0].start()))
        assert clock.run(scheduler.async_run(timeout=1, wait=False)) is ExitCode.TIMEOUT
        assert task.event_counts[Task.EXCEPTION] == 1

    def test_nothing_is_cancelled_where_nobody_can_tell_what_started(self, manual):
        class Opaque(ManualExecutor):
            traits = Traits(pickles=False, tells_started=False)

        executor = Opaque()
        scheduler = Scheduler(executor)
        scheduler.on_start(lambda: scheduler.submit(support.double, 1))
        scheduler.on_finishing(executor.finish_all)
        scheduler.on_future_submitted(scheduler.stop)
        scheduler.run()
        assert scheduler.event_counts[Scheduler.FUTURE_DONE] == 1


class TestCallbacksThatRaise:
    @pytest.mark.parametrize("name", EVENTS)
    def test_the_run_ends_in_order_and_the_error_names_event_and_callback(self, name):
        scheduler = Scheduler.with_sequential()
        seen = note_events(scheduler)
        task = Task(support.double, scheduler)

        def broken():
            raise LookupError("a bug")

        scheduler.on(getattr(Scheduler, name), broken)
        scheduler.on_start(lambda: (task(1), task(2).cancel(), task(3)))
        timeout = 0.05 if name == "TIMEOUT" else 20
        if name == "STOP":
            scheduler.on_empty(scheduler.stop)
        with pytest.raises(LookupError, match="a bug") as caught:
            scheduler.run(timeout=timeout, end_on_empty=name != "TIMEOUT")
        event = getattr(Scheduler, name).name
        assert caught.value.__notes__ == [
            f'raised in callback "broken" of event "{event}" of "scheduler"'
        ]
        assert seen.count("FINISHING") == 1
        assert seen[-1] == "FINISHED"
        assert task.n_running == 0

    @pytest.mark.parametrize("name", ["SUBMITTED", "DONE", "RETURNED", "F_SUBMITTED", "F_RETURNED"])
    def test_the_outcome_of_a_call_stays_what_it_is(self, name):
        scheduler = Scheduler.with_sequential()
        task = Task(support.double, scheduler)
        results = []

        def broken(*_):
            raise LookupError("a bug")

        task.on(getattr(Task, name), broken)
        task.on_returned(results.append)
        futures = []
        scheduler.on_start(lambda: futures.append(task(21)))
        with pytest.raises(LookupError, match="a bug"):
            scheduler.run()
        done = not futures[0].cancelled()
        assert results == ([42] if done else [])
        assert done == (name not in {"SUBMITTED", "F_SUBMITTED"})

    def test_an_error_in_the_callback_of_a_failure_does_not_hide_which_came_first(self):
        scheduler = Scheduler.with_sequential()
        task = Task(support.fail, scheduler)

        @task.on_exception
        def broken():
            raise LookupError("a bug")

        scheduler.on_start(lambda: task("broken"))
        with pytest.raises(LookupError, match="a bug"):
            scheduler.run(end_on_exception=False)

    def test_it_is_returned_where_nothing_is_to_be_raised(self, sequential):
        def broken():
            raise LookupError("a bug")

        sequential.on_start(broken)
        assert isinstance(sequential.run(raises=False), LookupError)

    def test_other_callbacks_of_the_event_still_hear_of_it(self, sequential):
        heard = []

        def broken():
            raise LookupError("a bug")

        sequential.on_start(broken)
        sequential.on_start(lambda: heard.append(1))
        with pytest.raises(LookupError):
            sequential.run()
        assert heard == [1]

    def test_later_errors_are_logged(self, sequential, caplog):
        def broken():
            raise LookupError("a bug")

        def broken_too():
            raise KeyError("another bug")

        sequential.on_start(broken)
        sequential.on_finished(broken_too)
        with pytest.raises(LookupError, match="a bug"):
            sequential.run()
        assert "another bug" in caplog.text

    def test_arguments_that_do_not_fit_are_named(self, sequential):
        def picky(one, two):
            return one, two

        sequential.on(Scheduler.STARTED, picky)
        with pytest.raises(CallbackArgumentsError, match=r"picky.*scheduler-started"):
            sequential.run()

    def test_after_an_error_nothing_new_is_taken(self, sequential):
        task = Task(support.double, sequential)

        def broken():
            raise LookupError("a bug")

        sequential.on_start(broken)
        sequential.on_start(lambda: task(1))
        with pytest.raises(LookupError):
            sequential.run()
        assert task.n_called == 0


class TestSubmit:
    def test_it_needs_a_run(self, sequential):
        with pytest.raises(SchedulerNotRunningError, match="submit from a callback of on_start"):
            sequential.submit(support.double, 1)

    def test_it_returns_none_while_finishing(self, sequential):
        got = []
        sequential.on_finishing(lambda: got.append(sequential.submit(support.double, 1)))
        with pytest.warns(LateCallWarning, match="a call of double is not taken"):
            sequential.run()
        assert got == [None]

    def test_calls_are_numbered_in_order_of_submission(self, sequential):
        futures = []
        sequential.on_start(lambda: futures.append(sequential.submit(support.double, 1)), repeat=3)
        sequential.run()
        assert [future.number for future in futures] == [0, 1, 2]

    def test_callbacks_never_run_inside_it(self, sequential):
        inside = []

        @sequential.on_start
        def begin():
            inside.append("in")
            sequential.submit(support.double, 1)
            inside.append("out")

        sequential.on_future_submitted(lambda: inside.append("submitted"))
        sequential.on_future_done(lambda: inside.append("done"))
        sequential.run()
        assert inside == ["in", "out", "submitted", "done"]

    def test_what_the_executor_refuses_is_raised_where_it_was_submitted(self, manual, scheduler):
        manual.shutdown()
        scheduler.on_start(lambda: scheduler.submit(support.double, 1))
        with pytest.raises(RuntimeError, match="shut down"):
            scheduler.run()
        assert scheduler.snapshot().n_running == 0

    def test_from_many_threads(self):
        scheduler = Scheduler.with_threads(2)
        task = Task(support.double, scheduler)
        results = []
        task.on_returned(results.append)

        def submit_many():
            for x in range(100):
                task(x)

        @scheduler.on_start
        def begin():
            threads = [threading.Thread(target=submit_many) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        scheduler.run()
        assert len(results) == 400
        assert task.n_called == 400


class TestExecutors:
    def test_a_borrowed_executor_is_left_open(self):
        with ThreadPoolExecutor(1) as executor:
            Scheduler(executor).run()
            assert executor.submit(support.double, 1).result(10) == 2

    def test_an_owned_executor_is_made_and_closed_by_each_run(self):
        made = []

        def make():
            made.append(ManualExecutor())
            return made[-1]

        scheduler = Scheduler(make)
        scheduler.run()
        scheduler.run()
        assert [executor.is_shut_down for executor in made] == [True, True]

    def test_a_factory_that_raises_starts_no_run(self):
        def make():
            raise LookupError("no cluster")

        scheduler = Scheduler(make)
        seen = note_events(scheduler)
        with pytest.raises(LookupError, match="no cluster"):
            scheduler.run()
        assert not seen
        assert not scheduler.running()

    @pytest.mark.parametrize("wrong", [None, 3, "processes"])
    def test_what_is_no_executor_is_refused(self, wrong):
        with pytest.raises(InvalidOptionError, match="with_processes"):
            Scheduler(wrong)

    def test_a_wrong_terminate_is_refused(self, manual):
        with pytest.raises(InvalidOptionError, match="terminate"):
            Scheduler(manual, terminate=3)

    @pytest.mark.parametrize(
        "options",
        [
            {"timeout": -1},
            {"timeout": float("nan")},
            {"end_on_exception": 3},
            {"end_on_exception": (3,)},
        ],
    )
    def test_wrong_options_of_a_run_are_refused(self, sequential, options):
        with pytest.raises(InvalidOptionError, match=r"not possible|cannot last"):
            sequential.run(**options)


class TestLoops:
    def test_two_runs_at_once_are_refused(self, sequential):
        caught = []

        @sequential.on_start
        def again():
            with pytest.raises(SchedulerRunningError, match="running already"):
                sequential.run()
            caught.append(True)

        sequential.run()
        assert caught

    def test_run_works_inside_a_running_loop(self):
        scheduler = Scheduler.with_threads(1)
        scheduler.on_start(lambda: scheduler.submit(support.double, 1))

        async def notebook():
            return scheduler.run()

        assert asyncio.run(notebook()) is ExitCode.EXHAUSTED

    def test_errors_of_a_run_inside_a_running_loop_are_raised_there(self, sequential):
        sequential.on_start(lambda: sequential.submit(support.fail, "broken"))

        async def notebook():
            return sequential.run()

        with pytest.raises(ValueError, match="broken"):
            asyncio.run(notebook())

    def test_others_of_the_loop_get_their_turn(self):
        scheduler = Scheduler.with_sequential()
        task = Task(support.double, scheduler)
        scheduler.on_start(lambda: [task(x) for x in range(20_000)])
        longest = 0.0

        async def watch():
            nonlocal longest
            last = time.perf_counter()
            while scheduler.running() or last == 0:
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now

        async def both():
            run = asyncio.ensure_future(scheduler.async_run())
            await asyncio.sleep(0)
            await watch()
            return await run

        assert asyncio.run(both()) is ExitCode.EXHAUSTED
        # The slice is 5 ms; what is left is room for a busy machine, and far below the 0.5 s
        # and more that all completions at once take.
        assert longest < 0.3

    def test_the_loop_is_left_as_it_was_found(self):
        scheduler = Scheduler.with_threads(1)
        scheduler.on_start(lambda: scheduler.submit(support.double, 1))

        async def main():
            loop = asyncio.get_running_loop()
            before = loop.get_exception_handler(), len(asyncio.all_tasks())
            await scheduler.async_run()
            return before == (loop.get_exception_handler(), len(asyncio.all_tasks()))

        assert asyncio.run(main())

    def test_a_future_can_be_awaited(self, scheduler, manual, clock):
        async def drive():
            run = asyncio.ensure_future(scheduler.async_run(end_on_empty=False))
            await asyncio.sleep(1)
            future = scheduler.submit(support.double, 21)
            asyncio.get_running_loop().call_later(1, manual.finish_all)
            result = await future
            scheduler.stop()
            await run
            return result

        assert clock.run(drive()) == 42

    def test_waiting_in_a_callback_is_an_error_instead_of_a_deadlock(self, scheduler):
        scheduler.on_start(lambda: scheduler.submit(support.double, 1).result())
        with pytest.raises(WouldDeadlockError, match="await the future"):
            scheduler.run()

    def test_another_thread_may_wait_for_a_future(self):
        scheduler = Scheduler.with_threads(1)
        got = []

        @scheduler.on_start
        def begin():
            future = scheduler.submit(support.double, 21)
            threading.Thread(
                target=lambda: (wait([future]), got.append(future.result(10)), scheduler.stop())
            ).start()

        scheduler.run(timeout=20, end_on_empty=False)
        assert got == [42]


class TestCompletionOrder:
    @staticmethod
    def note(seen, name, first, *_):
        seen.append((name, getattr(first, "number", first)))

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
    def test_callbacks_are_a_function_of_the_order_of_completions(self, order):
        def once():
            manual, clock, seen = ManualExecutor(), VirtualClock(), []
            scheduler = Scheduler(manual)
            task = Task(support.double, scheduler)
            for event in (Task.SUBMITTED, Task.DONE, Task.F_RETURNED, Task.RETURNED):
                task.on(event, partial(self.note, seen, event.name))

            async def drive():
                run = asyncio.ensure_future(scheduler.async_run())
                await asyncio.sleep(1)
                for place in order:
                    manual.calls[place].finish()
                return await run

            scheduler.on_start(lambda: [task(x) for x in range(3)])
            clock.run(drive())
            return seen

        first, second = once(), once()
        assert first == second
        assert [n for name, n in first if name == "task-returned"] == [2 * x for x in order]


def test_an_event_of_ones_own_may_be_emitted_on_a_scheduler(sequential):
    event: Event[int] = Event("mine")
    seen = []
    sequential.on(event, seen.append)
    sequential.emit(event, 3)
    assert seen == [3]


def test_a_snapshot_tells_phase_and_tasks(sequential):
    task = Task(support.double, sequential, name="doubling")
    phases = []
    sequential.on_start(lambda: (task(1), phases.append(sequential.snapshot())))
    sequential.on_finishing(lambda: phases.append(sequential.snapshot()))
    sequential.run(timeout=60)
    running, finishing = phases
    assert (running.phase, running.n_running) == ("running", 1)
    assert 0 < running.remaining_s <= 60
    assert (finishing.phase, finishing.tasks[0].returned) == ("finishing", 1)
    assert sequential.snapshot().phase == "idle"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_chain_of_a_million_calls_runs_in_constant_stack_and_memory(sequential):
    import psutil

    task = Task(support.double, sequential)
    sizes = []

    @sequential.on_start
    @task.on_returned
    def go_on():
        if task.n_called % 250_000 == 0:
            sizes.append(psutil.Process().memory_info().rss)
        if task.n_called < 1_000_000:
            task(1)

    assert sequential.run() is ExitCode.EXHAUSTED
    assert task.event_counts[Task.RETURNED] == 1_000_000
    assert sizes[-1] - sizes[1] < 20e6


@pytest.mark.parametrize("how", ["SIGKILL", "segfault", "out of memory", "exit 0", "exit 7"])
def test_a_worker_that_dies_is_an_exception_of_one_call_among_twenty(how, tmp_path):
    scheduler = Scheduler.with_processes(2)
    good = Task(support.note_and_return, scheduler)
    bad = Task(support.die, scheduler)
    results, errors = [], []
    good.on_returned(results.append)
    bad.on_exception(errors.append)

    @scheduler.on_start
    def submit():
        for x in range(19):
            good(tmp_path, x)
            if x == 9:
                bad(how)

    assert scheduler.run(timeout=30, end_on_exception=False) is ExitCode.EXHAUSTED
    assert sorted(results) == list(range(19))
    assert len(list(tmp_path.iterdir())) == 19
    assert [type(error) for error in errors] == [WorkerDiedError]
    assert scheduler.event_counts[Scheduler.FUTURE_DONE] == 20
