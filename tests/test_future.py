"""The light future beside the standard one: both have to pass, and to agree."""

import asyncio
import pickle
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    InvalidStateError,
    as_completed,
    wait,
)
from functools import partial

import pytest
import support
from hypothesis import given
from hypothesis import strategies as st

from amltk._future import LightFuture

TIMEOUT = 20


@pytest.fixture(params=[Future, LightFuture])
def make(request):
    return request.param


@pytest.fixture
def future(make):
    return make()


def raise_it(error, _):
    raise error


def in_threads(*bodies):
    barrier = threading.Barrier(len(bodies))

    def guarded(body):
        barrier.wait(TIMEOUT)
        body()

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads)


class TestResult:
    def test_a_result_is_returned(self, future):
        future.set_result(3)
        assert (future.result(), future.exception(), future.done()) == (3, None, True)

    def test_none_is_a_result(self, future):
        future.set_result(None)
        assert future.result(0) is None

    def test_an_exception_is_raised_as_it_is(self, future):
        error = ValueError("no")
        future.set_exception(error)
        assert future.exception() is error
        with pytest.raises(ValueError, match="no") as caught:
            future.result()
        assert caught.value is error

    @pytest.mark.parametrize("ask", ["result", "exception"])
    def test_who_waits_too_long_gets_a_timeout(self, future, ask):
        with pytest.raises(TimeoutError):
            getattr(future, ask)(0.01)
        assert not future.done()

    @pytest.mark.parametrize("ask", ["result", "exception"])
    def test_a_cancelled_future_has_neither(self, future, ask):
        future.cancel()
        with pytest.raises(CancelledError):
            getattr(future, ask)(0)

    def test_starting_does_not_wake_who_waits(self, future):
        waiter = threading.Timer(0.05, future.set_result, [5])
        future.set_running_or_notify_cancel()
        waiter.start()
        assert future.result(TIMEOUT) == 5
        waiter.join()


class TestStates:
    def test_a_new_future_is_pending(self, future):
        assert not any([future.running(), future.done(), future.cancelled()])
        assert "pending" in repr(future)

    def test_a_started_future_runs_and_cannot_be_cancelled(self, future):
        assert future.set_running_or_notify_cancel()
        assert future.running()
        assert not future.cancel()
        assert not future.cancelled()

    def test_a_cancelled_future_does_not_start(self, future):
        assert future.cancel()
        assert not future.set_running_or_notify_cancel()
        assert future.cancelled()

    def test_cancelling_twice_says_the_same_twice(self, future):
        assert [future.cancel(), future.cancel()] == [True, True]

    def test_a_finished_future_cannot_be_cancelled(self, future):
        future.set_result(1)
        assert not future.cancel()
        assert future.result() == 1

    @pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel"])
    @pytest.mark.parametrize("again", ["set_result", "set_exception"])
    @pytest.mark.parametrize("waited_for", [False, True])
    def test_a_future_ends_only_once(self, future, end, again, waited_for):
        error = ValueError()
        if waited_for:
            wait([future], timeout=0)
        getattr(future, end)(*{"set_result": (1,), "set_exception": (error,)}.get(end, ()))
        with pytest.raises(InvalidStateError):
            getattr(future, again)(error)
        ends = {"set_result": lambda: future.result() == 1, "cancel": future.cancelled}
        assert ends.get(end, lambda: future.exception() is error)()

    def test_a_light_future_starts_only_once(self):
        future = LightFuture()
        future.set_running_or_notify_cancel()
        with pytest.raises(InvalidStateError, match="RUNNING cannot start"):
            future.set_running_or_notify_cancel()

    @pytest.mark.parametrize("waited_for", [False, True])
    def test_a_running_light_future_can_be_ended_as_cancelled(self, waited_for):
        future, seen = LightFuture(), []
        future.add_done_callback(seen.append)
        future.set_running_or_notify_cancel()
        if waited_for:
            wait([future], timeout=0)
        future._set_cancelled()
        assert future.cancelled()
        assert seen == [future]

    def test_ending_a_cancelled_light_future_as_cancelled_calls_nobody_again(self):
        future, seen = LightFuture(), []
        future.add_done_callback(seen.append)
        future.cancel()
        future._set_cancelled()
        assert seen == [future]

    def test_a_light_future_makes_no_lock_before_somebody_waits(self):
        future = LightFuture()
        future.add_done_callback(print)
        assert future._own_condition is None
        wait([future], timeout=0)
        assert future._own_condition is not None

    def test_a_future_does_not_travel(self, future):
        wait([future], timeout=0)
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(future)


class TestCallbacks:
    def test_they_are_called_in_order_when_it_is_done(self, future):
        seen = []
        future.add_done_callback(lambda f: seen.append((1, f)))
        future.add_done_callback(lambda f: seen.append((2, f)))
        assert seen == []
        future.set_result(0)
        assert seen == [(1, future), (2, future)]

    @pytest.mark.parametrize("end", [lambda f: f.cancel(), lambda f: f.set_exception(ValueError())])
    def test_they_are_called_however_it_ends(self, future, end):
        seen = []
        future.add_done_callback(seen.append)
        end(future)
        assert seen == [future]

    def test_one_added_late_is_called_at_once(self, future):
        seen = []
        future.set_result(0)
        future.add_done_callback(seen.append)
        assert seen == [future]

    def test_one_added_by_another_is_called_too(self, future):
        seen = []
        future.add_done_callback(lambda f: f.add_done_callback(seen.append))
        future.set_result(0)
        assert seen == [future]

    def test_one_that_raises_is_logged_and_the_others_are_called(self, future, caplog):
        seen = []
        future.add_done_callback(lambda _: 1 / 0)
        future.add_done_callback(seen.append)
        future.set_result(0)
        assert seen == [future]
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize("waited_for", [False, True])
    def test_none_ends_a_thread_that_completes_light_futures(self, waited_for, caplog):
        future, seen = LightFuture(), []
        if waited_for:
            wait([future], timeout=0)

        def complete():
            future.set_result(0)
            seen.append("goes on")

        for error in (SystemExit, KeyboardInterrupt, support.EndOfAllError):
            future.add_done_callback(partial(raise_it, error))
        future.add_done_callback(lambda _: seen.append("told"))
        in_threads(complete)
        assert seen == ["told", "goes on"]
        assert [record.exc_info[0] for record in caplog.records] == [
            SystemExit,
            KeyboardInterrupt,
            support.EndOfAllError,
        ]

    @pytest.mark.parametrize("attribute", ["__notes__", "__cause__", "__traceback__"])
    def test_nor_does_one_that_cannot_be_logged(self, attribute, caplog):
        def refuse(self):
            raise support.EndOfAllError

        error = type(
            "HostileError", (BaseException,), {attribute: property(refuse), "__str__": refuse}
        )
        future, seen = LightFuture(), []
        future.add_done_callback(partial(raise_it, error))
        future.add_done_callback(lambda _: seen.append("told"))
        in_threads(lambda: (future.set_result(0), seen.append("goes on")))
        assert seen == ["told", "goes on"]
        assert "HostileError" in caplog.text

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, support.EndOfAllError])
    def test_the_main_thread_hears_of_what_ends_a_program(self, future, error):
        future.add_done_callback(partial(raise_it, error))
        with pytest.raises(error):
            future.set_result(0)
        assert future.result(0) == 0

    def test_the_result_is_there_when_they_are_called(self, future):
        seen = []
        future.add_done_callback(lambda f: seen.append(f.result(0)))
        future.set_result(4)
        assert seen == [4]


class TestHelpersOfTheStandardLibrary:
    def test_wait_returns_at_the_first(self, make):
        futures = [make() for _ in range(3)]
        timer = threading.Timer(0.02, futures[1].set_result, [1])
        timer.start()
        done, not_done = wait(futures, TIMEOUT, FIRST_COMPLETED)
        timer.join()
        assert (done, not_done) == ({futures[1]}, {futures[0], futures[2]})

    def test_wait_returns_at_the_first_exception(self, make):
        futures = [make() for _ in range(3)]
        futures[0].set_result(1)
        timer = threading.Timer(0.02, futures[2].set_exception, [ValueError()])
        timer.start()
        done, not_done = wait(futures, TIMEOUT, FIRST_EXCEPTION)
        timer.join()
        assert (done, not_done) == ({futures[0], futures[2]}, {futures[1]})

    def test_wait_waits_for_all_however_they_end(self, make):
        futures = [make() for _ in range(3)]

        def end_all():
            futures[0].set_result(1)
            futures[1].set_exception(ValueError())
            futures[2].cancel()
            futures[2].set_running_or_notify_cancel()

        timer = threading.Timer(0.02, end_all)
        timer.start()
        assert wait(futures, TIMEOUT, ALL_COMPLETED) == (set(futures), set())
        timer.join()

    def test_wait_gives_up_in_time(self, future):
        assert wait([future], timeout=0.01) == (set(), {future})

    def test_as_completed_yields_in_the_order_of_the_ends(self, make):
        futures = [make() for _ in range(4)]
        seen = []
        futures[2].set_result(2)
        for future in as_completed(futures, TIMEOUT):
            seen.append(futures.index(future))
            if len(seen) < 4:
                futures[[3, 0, 1][len(seen) - 1]].set_result(0)
        assert seen == [2, 3, 0, 1]

    def test_as_completed_gives_up_in_time(self, future):
        with pytest.raises(TimeoutError, match=r"1 .*unfinished"):
            list(as_completed([future], timeout=0.01))

    def test_light_and_standard_futures_can_be_waited_for_together(self):
        futures = [LightFuture(), Future()]
        for future in futures:
            future.set_result(1)
        assert wait(futures, TIMEOUT).done == set(futures)

    def test_asyncio_wraps_it(self, future):
        async def main():
            threading.Timer(0.02, future.set_result, [7]).start()
            return await asyncio.wait_for(asyncio.wrap_future(future), TIMEOUT)

        assert asyncio.run(main()) == 7

    def test_cancelling_what_asyncio_wrapped_cancels_it(self, future):
        async def main():
            asyncio.wrap_future(future).cancel()
            await asyncio.sleep(0)

        asyncio.run(main())
        assert future.cancelled()


OPERATIONS = {
    "start": lambda f, _: f.set_running_or_notify_cancel(),
    "cancel": lambda f, _: f.cancel(),
    "succeed": lambda f, _: f.set_result("result"),
    "fail": lambda f, _: f.set_exception(ValueError("no")),
    "listen": lambda f, seen: f.add_done_callback(lambda f: seen.append(f._state)),
    "wait": lambda f, _: len(wait([f], timeout=0).done),
    "result": lambda f, _: f.result(timeout=0),
    "exception": lambda f, _: str(f.exception(timeout=0)),
}


def story_of(future, names):
    """Tell what each operation returned or raised, and what could be seen after it."""
    story, seen = [], []
    for name in names:
        try:
            said = OPERATIONS[name](future, seen)
        except RuntimeError:  # the standard future's word for it
            said = InvalidStateError
        except Exception as error:
            said = type(error)
        story.append((name, said, future.running(), future.done(), future.cancelled(), [*seen]))
    return story


@given(st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=8))
def test_it_tells_the_same_story_as_the_standard_future(names):
    assert story_of(LightFuture(), names) == story_of(Future(), names)


class TestFromManyThreads:
    def test_one_of_many_who_end_it_succeeds(self):
        for _ in range(200):
            future, wins, losses = LightFuture(), [], []

            def end(x, future=future, wins=wins, losses=losses):
                try:
                    future.set_result(x)
                    wins.append(x)
                except InvalidStateError:
                    losses.append(x)

            in_threads(*[lambda x=x: end(x) for x in range(4)])
            assert wins == [future.result(0)]
            assert len(losses) == 3

    def test_each_callback_is_called_once_whenever_it_was_added(self):
        for _ in range(100):
            future, seen = LightFuture(), []

            def add(place, future=future, seen=seen):
                for x in range(20):
                    future.add_done_callback(lambda _, x=x: seen.append((place, x)))

            in_threads(lambda: add(0), lambda: add(1), lambda future=future: future.set_result(0))
            assert sorted(seen) == [(place, x) for place in range(2) for x in range(20)]

    def test_nobody_waits_in_vain(self):
        for _ in range(200):
            future, seen = LightFuture(), []

            def ask(future=future, seen=seen):
                seen.append(future.result(TIMEOUT))

            def look(future=future, seen=seen):
                seen.append(len(wait([future], TIMEOUT).done))

            in_threads(ask, ask, look, lambda future=future: future.set_result(1))
            assert seen == [1, 1, 1]

    def test_it_is_either_cancelled_or_started(self):
        for _ in range(200):
            future, said = LightFuture(), {}

            def cancel(future=future, said=said):
                said["cancelled"] = future.cancel()

            def start(future=future, said=said):
                said["started"] = future.set_running_or_notify_cancel()

            in_threads(cancel, start)
            assert said["cancelled"] != said["started"]
            assert future.cancelled() == said["cancelled"]
