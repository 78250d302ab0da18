"""The clock of a run: it is the clock of its loop."""

import asyncio
import time

import pytest

from amltk.scheduling.clock import Clock
from amltk.testing import VirtualClock


def test_it_tells_the_time_of_a_loop_that_has_its_own():
    virtual = VirtualClock()

    async def main():
        clock = Clock(asyncio.get_running_loop())
        before = clock.now()
        await asyncio.sleep(3600)
        return clock.now() - before

    assert virtual.run(main()) == pytest.approx(3600)


def test_on_a_plain_loop_it_is_the_same_clock_without_a_detour():
    async def main():
        loop = asyncio.get_running_loop()
        now = Clock(loop).now
        assert now is time.monotonic
        before, told, after = loop.time(), now(), loop.time()
        return before <= told <= after

    assert asyncio.run(main())


def test_a_timer_goes_off_after_its_delay_unless_it_is_called_off():
    virtual, told = VirtualClock(), []

    async def main():
        clock = Clock(asyncio.get_running_loop())
        clock.call_later(5, lambda: told.append(clock.now()))
        clock.call_later(3, lambda: told.append("called off")).cancel()
        await asyncio.sleep(10)

    virtual.run(main())
    assert told == [pytest.approx(5)]
