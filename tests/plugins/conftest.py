"""One Ray and one Dask for all tests of plugins: each would start one of its own, for seconds."""

from pathlib import Path

import pytest
from suite.groups import group_of

from amltk import Scheduler
from amltk.testing.contracts.plugin import ENGINES

#: The fixture of each engine that is shared. Tests that name the engine get it before all else, so
#: that its processes are not taken for something that the test has left over.
SHARED = {"ray": "ray_executor", "dask": "dask_client"}


def pytest_collection_modifyitems(items):
    """Have the engine that a test names up before it begins."""
    for item in items:
        fixture = SHARED.get(group_of(item.nodeid))
        if fixture and Path(__file__).parent in item.path.parents:
            item.fixturenames = [fixture, *item.fixturenames]


@pytest.fixture(autouse=True)
def one_dask_for_all(request, monkeypatch):
    """Have the contract's own way to a Dask lead to the one that is there."""
    if group_of(request.node.nodeid) == "dask":
        address = request.getfixturevalue("dask_client").scheduler.address
        monkeypatch.setitem(ENGINES, "dask", lambda _stack: Scheduler.with_dask(address))
