"""Patience: each wait ends when it is done, or when it has become too urgent."""

import asyncio
import threading

import pytest

from amltk.scheduling.patience import Patience


def test_a_wait_ends_when_it_is_done(clock):
    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_later(5, done.set_result, None)
        assert await Patience(print).wait_for(done, until_urgency=1)
        return loop.time()

    assert clock.run(main()) == pytest.approx(5)


@pytest.mark.parametrize("until_urgency", [1, 2, 3])
def test_a_wait_ends_when_it_has_become_too_urgent_for_it(clock, until_urgency):
    async def main():
        loop, patience = asyncio.get_running_loop(), Patience(print)
        for second in range(1, 4):
            loop.call_later(second, patience.lose)
        never = loop.create_future()
        assert not await patience.wait_for(never, until_urgency=until_urgency)
        assert not never.cancelled()
        return loop.time()

    assert clock.run(main()) == pytest.approx(until_urgency)


def test_where_it_is_too_urgent_already_nobody_waits(clock):
    async def main():
        patience = Patience(print)
        patience.lose()
        never = asyncio.get_running_loop().create_future()
        return await patience.wait_for(never, until_urgency=1)

    assert clock.run(main()) is False


def test_what_is_done_counts_however_urgent_it_is(clock):
    async def main():
        patience = Patience(print)
        patience.lose()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return await patience.wait_for(done, until_urgency=1)

    assert clock.run(main()) is True


def test_who_cancels_the_coroutine_is_told_and_the_wait_goes_on(clock):
    told = []

    async def main():
        loop = asyncio.get_running_loop()
        done, patience = loop.create_future(), Patience(lambda: told.append(loop.time()))
        task = loop.create_task(patience.wait_for(done, until_urgency=1))
        loop.call_later(1, task.cancel)
        loop.call_later(2, done.set_result, None)
        assert await task
        assert not task.cancelling()  # the request is answered
        return loop.time()

    assert clock.run(main()) == pytest.approx(2)
    assert told == [pytest.approx(1)]


def test_an_enclosing_timeout_is_answered_by_the_end_of_the_wait(clock):
    async def main():
        loop = asyncio.get_running_loop()
        patience = Patience(lambda: patience.lose())
        async with asyncio.timeout(3):
            done = await patience.wait_for(loop.create_future(), until_urgency=1)
            await asyncio.sleep(5)  # not cut short a second time
        return done, asyncio.current_task().cancelling(), loop.time()

    assert clock.run(main()) == (False, 0, pytest.approx(8))


class TestInThread:
    def test_it_works_in_another_thread_which_is_gone_then(self):
        threads = []

        async def main():
            work = lambda: threads.append(threading.current_thread())  # noqa: E731
            return await Patience(print).in_thread(work, until_urgency=1)

        assert asyncio.run(main()) is True
        assert threads[0] is not threading.current_thread()
        threads[0].join(10)
        assert not threads[0].is_alive()

    @pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
    def test_what_the_work_raises_is_raised(self, error):
        def work():
            raise error

        async def main():
            with pytest.raises(type(error)) as info:
                await Patience(print).in_thread(work, until_urgency=1)
            return info.value

        assert asyncio.run(main()) is error

    def test_what_takes_too_long_is_left_behind_and_finds_the_loop_closed(self):
        go_on, ended = threading.Event(), threading.Event()

        async def main():
            patience = Patience(print)
            asyncio.get_running_loop().call_soon(patience.lose)
            work = lambda: (go_on.wait(20), ended.set())  # noqa: E731
            return await patience.in_thread(work, until_urgency=1)

        assert asyncio.run(main()) is False
        go_on.set()
        assert ended.wait(20)
