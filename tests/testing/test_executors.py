"""The manual executor: nothing happens before the test says so."""

from concurrent.futures import wait

import pytest
import support

from amltk.exceptions import ExecutorError


def test_a_call_is_kept_and_not_run(manual):
    ran = []
    future = manual.submit(ran.append, 1)
    assert not future.done()
    assert not ran


def test_finishing_a_call_really_calls_its_function(manual):
    future = manual.submit(support.add, 1, y=2)
    manual.calls[0].finish()
    assert future.result(0) == 3


def test_a_call_knows_what_was_submitted(manual):
    manual.submit(support.add, 1, y=2)
    call = manual.calls[0]
    assert (call.function, call.args, call.kwargs) == (support.add, (1,), {"y": 2})


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_the_function_raises_is_the_exception_of_the_call(manual, error):
    def raise_it():
        raise error

    future = manual.submit(raise_it)
    manual.calls[0].finish()
    assert future.exception(0) is error


def test_calls_end_in_the_order_that_the_test_chooses(manual):
    futures = [manual.submit(support.double, x) for x in range(3)]
    ended = []
    for future in futures:
        future.add_done_callback(lambda future: ended.append(future.result(0)))
    for place in (2, 0, 1):
        manual.calls[place].finish()
    assert ended == [4, 0, 2]


def test_a_call_may_end_without_being_run(manual):
    ran = []
    futures = [manual.submit(ran.append, x) for x in range(2)]
    error = ValueError("broken")
    manual.calls[0].succeed("result")
    manual.calls[1].fail(error)
    assert (futures[0].result(0), futures[1].exception(0)) == ("result", error)
    assert not ran


def test_a_started_call_is_running_and_cannot_be_cancelled(manual):
    future = manual.submit(support.double, 1)
    assert manual.calls[0].start()
    assert future.running()
    assert not future.cancel()
    manual.calls[0].finish()
    assert future.result(0) == 2


def test_a_cancelled_call_does_not_start_and_is_not_run(manual):
    ran = []
    future = manual.submit(ran.append, 1)
    assert future.cancel()
    assert not manual.calls[0].start()
    assert not ran


def test_finishing_a_cancelled_call_leaves_it_cancelled(manual):
    ran = []
    future = manual.submit(ran.append, 1)
    future.cancel()
    manual.calls[0].finish()
    assert future.cancelled()
    assert not ran
    assert wait([future], timeout=0).done  # those who wait have been told


def test_those_that_wait_are_all_that_have_not_ended(manual):
    futures = [manual.submit(support.double, x) for x in range(4)]
    manual.calls[0].finish()
    futures[1].cancel()
    manual.calls[2].start()
    assert manual.waiting == [manual.calls[2], manual.calls[3]]


def test_finish_all_finishes_what_waits_now_in_order_of_submission(manual):
    ran = []

    def run_and_submit(x):
        ran.append(x)
        manual.submit(run_and_submit, x + 10)

    manual.submit(run_and_submit, 1)
    manual.submit(run_and_submit, 2)
    manual.finish_all()
    assert ran == [1, 2]
    manual.finish_all()
    assert ran == [1, 2, 11, 12]


def test_after_the_shutdown_no_call_is_taken(manual):
    manual.shutdown()
    with pytest.raises(ExecutorError, match="this ManualExecutor is shut down"):
        manual.submit(support.double, 1)
    assert manual.calls == []


@pytest.mark.parametrize("cancel_futures", [True, False])
def test_a_shutdown_cancels_what_waits_if_that_is_asked_for(manual, cancel_futures):
    started, waiting = (manual.submit(support.double, x) for x in range(2))
    manual.calls[0].start()
    manual.shutdown(cancel_futures=cancel_futures)
    assert waiting.cancelled() is cancel_futures
    assert not started.done()
