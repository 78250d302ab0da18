"""What the keeper in Dask's scheduler has in its books, against as much of a scheduler as it uses."""

import asyncio
import pickle
from types import SimpleNamespace

import pytest

from amltk.exceptions import WorkerDiedError

KEY = "amltk-call-work-executor-0"
WORKER = SimpleNamespace(address="tcp://127.0.0.1:1", pid=7, name="worker 3")


class LittleScheduler:
    def __init__(self):
        self.handlers, self.stream_handlers = {}, {}
        client = SimpleNamespace(client_key="client")
        call = SimpleNamespace(key=KEY, processing_on=WORKER, who_wants=[client], run_spec=None)
        self.tasks = {KEY: call}
        self.told = []

    def report(self, message, client):
        self.told.append((client, message["op"], message["payload"]))

    def client_releases_keys(self, keys, client):
        for key in keys:
            del self.tasks[key]


@pytest.fixture
def scheduler():
    return LittleScheduler()


@pytest.fixture
def keeper(distributed, scheduler):
    """Return one whose scheduler has just given the call to a worker."""
    from amltk.executors.dask.calls import CallKeeper

    keeper = CallKeeper()
    asyncio.run(keeper.start(scheduler))
    keeper.transition(KEY, "queued", "processing")
    return keeper


def books(keeper):
    return [keeper._given, keeper._lost, keeper._outcomes]


def test_an_outcome_is_told_and_nothing_is_kept_of_its_call(keeper, scheduler):
    scheduler.stream_handlers["amltk-outcome"](key=KEY, payload=b"4")
    keeper.transition(KEY, "processing", "memory")

    assert scheduler.told == [("client", "amltk-outcome-executor", b"4")]
    assert books(keeper) == [{}, {}, {}]


def test_a_call_whose_outcome_was_told_does_not_run_again_without_its_worker(keeper, scheduler):
    keeper.take_outcome(KEY, b"4")
    keeper.transition(KEY, "processing", "memory")
    scheduler.tasks[KEY].run_spec = lambda: pytest.fail("it runs again")
    keeper.transition(KEY, "memory", "released")

    assert scheduler.tasks[KEY].run_spec() is None
    assert keeper.remove_worker(scheduler, WORKER.address) is None
    assert len(scheduler.told) == 1


@pytest.mark.parametrize("finish", ["released", "waiting"])
def test_nor_does_one_whose_worker_dies_before_it_tells_of_the_end(keeper, scheduler, finish):
    scheduler.tasks[KEY].run_spec = lambda: pytest.fail("it runs again")
    keeper.take_outcome(KEY, b"4")
    keeper.transition(KEY, "processing", finish)

    assert scheduler.tasks[KEY].run_spec() is None
    assert scheduler.told == [("client", "amltk-outcome-executor", b"4")]
    assert keeper.remove_worker(scheduler, WORKER.address) is None


@pytest.mark.parametrize("has_outcome", [False, True])
def test_nothing_is_kept_of_a_call_that_dask_forgets(keeper, scheduler, has_outcome):
    if has_outcome:
        keeper.take_outcome(KEY, b"4")
    keeper.transition(KEY, "processing", "forgotten")

    assert books(keeper) == [{}, {}, {}]
    assert scheduler.told == []


def test_nothing_is_kept_of_a_call_that_is_lost(keeper, scheduler):
    keeper.transition(KEY, "processing", "released")
    asyncio.run(keeper.remove_worker(scheduler, WORKER.address))

    (client, op, payload), *more = scheduler.told
    assert (client, op, more) == ("client", "amltk-lost-executor", [])
    error = pickle.loads(payload)
    assert type(error) is WorkerDiedError
    assert "was running this call" in str(error)
    assert books(keeper) == [{}, {}, {}]
    assert scheduler.tasks == {}


def test_a_lost_call_that_dask_forgets_first_is_not_kept_either(keeper):
    keeper.transition(KEY, "processing", "released")
    keeper.transition(KEY, "released", "forgotten")

    assert books(keeper) == [{}, {}, {}]


def test_an_outcome_that_comes_when_its_call_is_gone_is_not_kept(keeper):
    keeper.transition(KEY, "processing", "forgotten")
    keeper.take_outcome(KEY, b"4")

    assert books(keeper) == [{}, {}, {}]
