"""The future of a call: asking it, awaiting it, cancelling it.

What it has from ``LightFuture`` is tested in ``tests/test_future.py``.
"""

import asyncio
import gc
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import CancelledError, as_completed
from queue import SimpleQueue

import pytest
import support

from amltk import Scheduler, SequentialExecutor, Task, TaskPlugin
from amltk.exceptions import WouldDeadlockError
from amltk.testing import ManualExecutor, VirtualClock

ExitCode = Scheduler.ExitCode


def drive(scheduler, coroutine_function):
    """Run a coroutine beside a run, which ends with it."""

    async def both():
        run = asyncio.ensure_future(scheduler.async_run(end_on_empty=False, end_on_exception=False))
        await asyncio.sleep(1)
        try:
            return await coroutine_function()
        finally:
            scheduler.stop()
            await run

    return VirtualClock().run(both())


def raise_stop():
    raise StopIteration(3)


def test_awaiting_a_call_that_raised_stop_iteration_raises():
    async def main():
        scheduler = Scheduler.with_sequential()
        futures = []
        scheduler.on_start(lambda: futures.append(scheduler.submit(raise_stop)))
        await scheduler.async_run(end_on_exception=False)
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await asyncio.wait_for(wrapped(futures[0]), 10)
        assert isinstance(caught.value.__cause__, StopIteration)

    async def wrapped(future):
        return await future

    asyncio.run(main())


class TestAsking:
    def test_it_tells_what_the_call_returned(self, scheduler, manual):
        async def main():
            future = scheduler.submit(support.double, 21)
            assert (future.done(), future.running()) == (False, False)
            manual.calls[0].start()
            assert (future.done(), future.running()) == (False, True)
            manual.calls[0].finish()
            await asyncio.sleep(1)
            assert (future.done(), future.running()) == (True, False)
            return future.result(), future.exception()

        assert drive(scheduler, main) == (42, None)

    def test_it_tells_what_the_call_raised(self, scheduler, manual):
        error = ValueError("broken")

        async def main():
            future = scheduler.submit(support.double, 21)
            manual.calls[0].fail(error)
            await asyncio.sleep(1)
            with pytest.raises(ValueError, match="broken"):
                future.result()
            return future.exception()

        assert drive(scheduler, main) is error

    @pytest.mark.parametrize("ask", ["result", "exception"])
    def test_the_thread_that_has_to_complete_it_may_not_wait_for_it(self, scheduler, ask):
        async def main():
            future = scheduler.submit(support.double, 1)
            with pytest.raises(WouldDeadlockError, match="call 0 cannot be waited for") as info:
                getattr(future, ask)(timeout=5)
            return info.value.number

        assert drive(scheduler, main) == 0

    def test_a_callback_may_ask_one_that_is_done(self):
        scheduler = Scheduler.with_sequential()
        results = []
        scheduler.on_future_done(lambda future: results.append(future.result()))
        scheduler.on_start(lambda: scheduler.submit(support.double, 21))
        scheduler.run()
        assert results == [42]

    @pytest.mark.parametrize("timeout", [None, 20])
    def test_another_thread_may_wait_for_it(self, scheduler, manual, timeout):
        got = []

        @scheduler.on_start
        def begin():
            future = scheduler.submit(support.double, 21)
            waiter = threading.Thread(target=lambda: got.append(future.result(timeout)))
            future.add_done_callback(lambda _: scheduler.post(waiter.join))
            waiter.start()
            manual.finish_all()

        scheduler.run()
        assert got == [42]

    def test_another_thread_may_give_up_waiting(self, scheduler, manual):
        @scheduler.on_start
        def begin():
            future = scheduler.submit(support.double, 21)
            caught = []

            def wait():
                with pytest.raises(TimeoutError):
                    future.result(timeout=0.01)
                caught.append(True)

            waiter = threading.Thread(target=wait)
            waiter.start()
            waiter.join()
            assert caught
            manual.finish_all()

        assert scheduler.run() is Scheduler.ExitCode.EXHAUSTED

    def test_after_the_run_every_thread_may_ask(self, scheduler):
        futures = []
        scheduler.on_start(lambda: futures.append(scheduler.submit(support.double, 1)))
        scheduler.on_future_submitted(scheduler.stop)
        scheduler.run()
        with pytest.raises(CancelledError):
            futures[0].result()

    def test_the_tools_of_the_standard_library_take_it(self):
        scheduler = Scheduler.with_threads(2)
        results = []

        def wait_for(futures):
            results.extend(future.result() for future in as_completed(futures, timeout=20))
            scheduler.stop()

        @scheduler.on_start
        def begin():
            futures = [scheduler.submit(support.double, x) for x in range(5)]
            threading.Thread(target=wait_for, args=[futures]).start()

        scheduler.run(timeout=30, end_on_empty=False)
        assert sorted(results) == [0, 2, 4, 6, 8]


class TestCallbacks:
    def test_what_one_raises_to_end_the_program_ends_the_run_in_any_thread(self):
        scheduler, raised = Scheduler(SequentialExecutor()), []

        @scheduler.on_start
        def begin():
            future = scheduler.submit(pow, 2, 5)
            future.add_done_callback(lambda _: sys.exit("a callback"))

        def run():
            with pytest.raises(SystemExit, match="a callback"):
                scheduler.run(timeout=20)
            raised.append(True)

        run()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(20)
        assert raised == [True, True]


class TestAwaiting:
    def test_it_raises_what_the_call_raised(self, scheduler, manual):
        async def main():
            future = scheduler.submit(support.fail, "broken")
            manual.finish_all()
            await future

        with pytest.raises(ValueError, match="broken"):
            drive(scheduler, main)

    def test_several_may_await_it(self, scheduler, manual):
        async def main():
            future = scheduler.submit(support.double, 21)

            async def one():
                return await future

            asyncio.get_running_loop().call_later(1, manual.finish_all)
            return await asyncio.gather(one(), one())

        assert drive(scheduler, main) == [42, 42]

    def test_one_that_is_cancelled_raises(self, scheduler):
        async def main():
            future = scheduler.submit(support.double, 1)
            asyncio.get_running_loop().call_later(1, future.cancel)
            with pytest.raises(asyncio.CancelledError):
                await future
            return future.cancelled()

        assert drive(scheduler, main)

    def test_who_stops_awaiting_cancels_the_call(self, scheduler, manual):
        async def main():
            future = scheduler.submit(support.double, 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 5)
            await asyncio.sleep(1)
            return future.cancelled(), manual.calls[0].future.cancelled()

        assert drive(scheduler, main) == (True, True)

    def test_a_shield_keeps_the_call(self, scheduler, manual):
        async def main():
            future = scheduler.submit(support.double, 21)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), 5)
            manual.finish_all()
            return await future

        assert drive(scheduler, main) == 42


class TestCancelling:
    def test_one_that_waits_never_runs(self, scheduler, manual):
        task = Task(support.double, scheduler)
        told = []
        task.on_cancelled(told.append)

        async def main():
            future = task(1)
            assert future.cancel()
            assert future.cancelled()
            assert not manual.calls[0].start()
            await asyncio.sleep(1)
            return [future]

        assert drive(scheduler, main) == told

    def test_one_that_runs_where_nobody_can_end_it_goes_on_and_says_so(self, scheduler, manual):
        async def main():
            future = scheduler.submit(support.double, 21)
            manual.calls[0].start()
            assert not future.cancel()
            manual.calls[0].finish()
            result = await future
            assert not future.cancel()
            return result

        assert drive(scheduler, main) == 42

    def test_a_running_call_is_cancelled_once_its_worker_is_gone(self, tmp_path):
        scheduler = Scheduler.with_processes(1)
        task = Task(support.heartbeat, scheduler)
        told = []

        @scheduler.on_start
        def begin():
            future = task(tmp_path / "beat")
            told.append(future)

            def cancel():
                support.wait_for_file(tmp_path / "beat")
                told.append(future.cancel())

            threading.Thread(target=cancel).start()

        task.on_cancelled(lambda future: told.append(future.cancelled()))
        scheduler.run(timeout=30)
        assert told[1:] == [True, True]

    def test_the_sequential_executor_skips_a_call_that_was_cancelled(self):
        scheduler = Scheduler.with_sequential()
        ran = []
        futures = []
        scheduler.on_start(lambda: futures.extend(scheduler.submit(ran.append, x) for x in "ab"))
        scheduler.on_start(lambda: futures[0].cancel())
        scheduler.run()
        assert ran == ["b"]
        assert [future.cancelled() for future in futures] == [True, False]

    def test_a_call_on_the_sequential_executor_cannot_cancel_itself(self):
        scheduler = Scheduler.with_sequential()
        futures = []
        said = []

        def call():
            said.extend([futures[0].running(), futures[0].cancel()])
            return 42

        scheduler.on_start(lambda: futures.append(scheduler.submit(call)))
        scheduler.run()
        assert said == [True, False]
        assert futures[0].result() == 42

    def test_who_cancels_while_it_is_handed_over_cancels_what_was_handed_over(self):
        """The executor's future is known to whoever cancels, however early he is."""
        began, cancelled = threading.Event(), []

        class Slow(ManualExecutor):
            def submit(self, fn, /, *args, **kwargs):
                canceller.start()
                began.wait(20)
                return super().submit(fn, *args, **kwargs)

        manual = Slow()
        scheduler = Scheduler(manual)
        task = Task(support.double, scheduler)

        def cancel():
            future = task.futures()[0]
            began.set()
            cancelled.append(future.cancel())

        canceller = threading.Thread(target=cancel)
        scheduler.on_start(lambda: (task(1), canceller.join()))
        scheduler.run()
        assert cancelled == [True]
        assert manual.calls[0].future.cancelled()


class TestDoneCallbacks:
    @pytest.mark.parametrize("how", ["finish", "fail", "cancel"])
    def test_they_are_called_once_however_the_call_ends(self, scheduler, manual, how):
        heard = []

        async def main():
            future = scheduler.submit(support.double, 1)
            future.add_done_callback(heard.append)
            call = manual.calls[0]
            {"finish": call.finish, "fail": lambda: call.fail(KeyError()), "cancel": future.cancel}[
                how
            ]()
            await asyncio.sleep(1)
            return [future]

        assert drive(scheduler, main) == heard

    def test_they_are_called_before_the_event_is_told(self):
        scheduler = Scheduler.with_sequential()
        order = []

        @scheduler.on_start
        def begin():
            future = scheduler.submit(support.double, 1)
            future.add_done_callback(lambda _: order.append("callback"))

        scheduler.on_future_done(lambda: order.append("event"))
        scheduler.run()
        assert order == ["callback", "event"]


class Again(TaskPlugin):
    """Has a call tried again ten seconds after a KeyError."""

    def retry(self, future, error):
        return 10 if isinstance(error, KeyError) else None


class TestBetweenAttempts:
    def test_it_neither_runs_nor_is_done(self, scheduler, manual):
        task = Task(support.double, scheduler, plugins=Again())

        async def main():
            future = task(21)
            states = []
            manual.calls[0].start()
            manual.calls[0].fail(KeyError("first"))
            await asyncio.sleep(5)
            states.append((future.running(), future.done(), len(manual.calls)))
            await asyncio.sleep(10)
            manual.calls[1].start()
            states.append((future.running(), future.done(), len(manual.calls)))
            manual.calls[1].finish()
            return states, await future

        assert drive(scheduler, main) == ([(False, False, 1), (True, False, 2)], 42)

    def test_who_awaits_it_gets_the_outcome_of_the_last_one(self, scheduler, manual):
        task = Task(support.double, scheduler, plugins=Again())

        async def main():
            future = task(21)
            heard = []
            future.add_done_callback(lambda done: heard.append(done.exception()))
            for call in range(3):
                manual.calls[call].fail(KeyError(call) if call < 2 else ValueError("last"))
                await asyncio.sleep(15)
            with pytest.raises(ValueError, match="last") as info:
                await future
            assert heard == [info.value]
            return info.value.__notes__

        notes = ["attempt 1 failed with KeyError: 0", "attempt 2 failed with KeyError: 1"]
        assert drive(scheduler, main) == notes

    def test_who_stops_awaiting_cancels_the_call(self, scheduler, manual):
        task = Task(support.double, scheduler, plugins=Again())

        async def main():
            future = task(21)
            manual.calls[0].fail(KeyError("first"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 5)
            await asyncio.sleep(15)
            return future.cancelled(), len(manual.calls)

        assert drive(scheduler, main) == (True, 1)

    def test_a_call_that_ran_in_the_loop_goes_back_to_where_it_can_be_cancelled(self):
        scheduler = Scheduler.with_sequential()

        class CancelIt(TaskPlugin):
            def retry(self, future, error):
                said.extend([future.running(), future.cancel(), future.cancelled()])
                return 0

        said = []
        task = Task(support.fail, scheduler, plugins=CancelIt())
        scheduler.on_start(lambda: task())
        assert scheduler.run() is Scheduler.ExitCode.EXHAUSTED
        assert said == [False, True, True]

    def test_whoever_cancels_whenever_each_call_ends_once_as_was_said(self):
        """Threads cancel calls that fail and rest and start again, at any moment of it."""
        tried, n_calls, n_cancellers = SimpleQueue(), 1000, 4

        class Soon(TaskPlugin):
            def retry(self, future, error):
                tried.put(future)
                return future.number % 3 * 0.0004

        def cancel():
            while (future := tried.get(timeout=40)) is not None:
                said.append(future.cancel() and (future.cancelled() or future.exception(20)))

        said, ends = [], Counter()
        scheduler = Scheduler.with_threads(2)
        task = Task(support.fail, scheduler, plugins=Soon())
        task.on_done(lambda future: ends.update([future]))
        task.on_cancelled(lambda future: ends.update([future]))
        cancellers = [threading.Thread(target=cancel) for _ in range(n_cancellers)]
        scheduler.on_start(lambda: [task() for _ in range(n_calls)])
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for canceller in cancellers:
                canceller.start()
            assert scheduler.run(timeout=40, end_on_exception=False) is ExitCode.EXHAUSTED
        finally:
            sys.setswitchinterval(interval)
            for _ in cancellers:
                tried.put(None)
            for canceller in cancellers:
                canceller.join()
        assert set(said) <= {True, False}
        assert (len(ends), set(ends.values())) == (n_calls, {1})
        assert task.event_counts[Task.F_CANCELLED] == n_calls


def test_each_is_a_key_of_its_own():
    scheduler = Scheduler.with_sequential()
    futures = []
    scheduler.on_start(lambda: futures.append(scheduler.submit(support.double, 1)))
    scheduler.run()
    scheduler.run()
    assert [future.number for future in futures] == [0, 0]  # each run counts from 0
    assert len(dict.fromkeys(futures)) == 2


def test_a_kept_future_keeps_neither_task_nor_scheduler_alive():
    # Not one of the scheduler's own, whose closing thread may be there for a moment longer.
    scheduler = Scheduler(SequentialExecutor())
    task = Task(support.double, scheduler)
    futures = []
    scheduler.on_start(lambda task=task: futures.append(task(1)))
    scheduler.run()
    dead = [weakref.ref(task), weakref.ref(scheduler)]
    del task, scheduler
    gc.collect()
    assert [ref() for ref in dead] == [None, None]
    assert futures[0].result() == 2
