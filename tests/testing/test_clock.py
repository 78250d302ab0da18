"""The virtual clock: it jumps where nothing but time is waited for, and nowhere else."""

import asyncio
import threading
import time

import pytest

from amltk import Scheduler
from amltk.testing import ManualExecutor


def test_it_starts_at_0_and_stands_still_while_something_is_done(clock):
    async def main():
        for _ in range(100):
            await asyncio.sleep(0)

    clock.run(main())
    assert clock.time() == 0


def test_a_day_passes_in_no_time(clock):
    before = time.monotonic()
    clock.run(asyncio.sleep(86_400))
    assert clock.time() == pytest.approx(86_400)
    assert time.monotonic() - before < 20


def test_it_is_the_clock_of_its_loop(clock):
    async def main():
        await asyncio.sleep(7)
        return asyncio.get_running_loop().time()

    assert clock.run(main()) == clock.time()


def test_timers_go_off_in_order_each_at_its_time(clock):
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        for delay in (3, 1, 2):
            loop.call_later(delay, lambda delay=delay: seen.append((delay, loop.time())))
        await asyncio.sleep(10)

    clock.run(main())
    assert seen == [(delay, pytest.approx(delay)) for delay in (1, 2, 3)]


def test_time_goes_on_from_one_run_to_the_next(clock):
    clock.run(asyncio.sleep(5))
    clock.run(asyncio.sleep(5))
    assert clock.time() == pytest.approx(10)


def test_what_a_thread_hands_in_is_waited_for_where_no_timer_is_set(clock):
    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, 42)).start()
        return await done

    assert clock.run(main()) == 42
    assert clock.time() == 0


def test_it_returns_and_raises_what_the_coroutine_does(clock):
    async def returns():
        return 42

    async def raises():
        raise LookupError("gone")

    assert clock.run(returns()) == 42
    with pytest.raises(LookupError, match="gone"):
        clock.run(raises())


def test_a_scheduler_takes_its_time_from_it(clock):
    scheduler = Scheduler(ManualExecutor())
    run = scheduler.async_run(timeout=1_000_000, end_on_empty=False)
    assert clock.run(run) is Scheduler.ExitCode.TIMEOUT
    assert clock.time() == pytest.approx(1_000_000)
