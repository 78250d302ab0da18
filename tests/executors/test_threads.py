import threading

import pytest
import support

from amltk.exceptions import InvalidOptionError
from amltk.executors.threads import threads_factory

TIMEOUT = 20


def test_calls_run_in_named_threads():
    with threads_factory(1, thread_name_prefix="amltk-mine")() as pool:
        name = pool.submit(lambda: threading.current_thread().name).result(TIMEOUT)
    assert name.startswith("amltk-mine")


def test_so_many_calls_run_at_once():
    barrier = threading.Barrier(3)
    with threads_factory(3)() as pool:
        places = [pool.submit(barrier.wait, TIMEOUT) for _ in range(3)]
        assert sorted(place.result(TIMEOUT) for place in places) == [0, 1, 2]


def test_the_initializer_runs_in_each_thread():
    local = threading.local()
    make = threads_factory(1, initializer=lambda x: setattr(local, "x", x), initargs=[7])
    with make() as pool:
        assert pool.submit(lambda: local.x).result(TIMEOUT) == 7
    assert not hasattr(local, "x")


@pytest.mark.parametrize("number", [0, -2])
def test_numbers_that_make_no_sense_are_refused_at_once(number):
    with pytest.raises(InvalidOptionError, match=f"not max_workers={number}"):
        threads_factory(number)


def test_each_pool_is_a_new_one():
    make = threads_factory(2)
    make().shutdown()
    with make() as pool:
        assert pool.submit(support.double, 2).result(TIMEOUT) == 4
