import threading

import pytest
import support

from amltk.exceptions import ExecutorError
from amltk.executors.sequential import SequentialExecutor, sequential_factory


@pytest.fixture
def executor():
    with SequentialExecutor() as executor:
        yield executor


def test_a_call_runs_in_the_thread_that_submits(executor):
    future = executor.submit(threading.get_ident)
    assert future.done()
    assert future.result() == threading.get_ident()


def test_calls_run_in_the_order_of_submission(executor):
    seen = []
    for x in range(5):
        executor.submit(seen.append, x)
    assert seen == [0, 1, 2, 3, 4]


def test_arguments_are_not_copied(executor):
    lock = threading.Lock()
    assert executor.submit(lambda x, *, y: (x, y), lock, y=lock).result() == (lock, lock)


def test_an_exception_is_the_calls(executor):
    error = executor.submit(support.fail, "broken").exception()
    assert (type(error), str(error)) == (ValueError, "broken")


def test_a_call_that_exits_does_not_end_the_program(executor):
    assert isinstance(executor.submit(support.raise_system_exit).exception(), SystemExit)


def test_an_interrupt_is_the_programs(executor):
    with pytest.raises(KeyboardInterrupt):
        executor.submit(support.raise_keyboard_interrupt)
    assert executor.submit(support.double, 1).result() == 2


def test_a_call_may_submit_another(executor):
    assert executor.submit(lambda: executor.submit(support.double, 3).result()).result() == 6


def test_map_works(executor):
    assert list(executor.map(support.add, [1, 2], [3, 4])) == [4, 6]


def test_nothing_is_taken_after_shutdown(executor):
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(ExecutorError, match=r"double.* could not be run.*shut down"):
        executor.submit(support.double, 1)


def test_the_factory_makes_a_new_one_each_time():
    make = sequential_factory()
    make().shutdown()
    assert make().submit(support.double, 2).result() == 4
