"""One Ray and one Dask for all tests that name an engine: each would start one of its own, for seconds."""

import re

import pytest
from suite.groups import group_of

from amltk import Scheduler

#: Where tests take engines by their names from the contract of plugins.
_BY_NAME = re.compile(r"^tests/(plugins|optimization)/")

#: The fixture of each engine that is shared. Such a test gets it before all else, so that the
#: engine's processes are not taken for something that the test has left over.
_SHARED = {"ray": "ray_executor", "dask": "dask_client"}


def _engine_of(item):
    return group_of(item.nodeid) if _BY_NAME.match(item.nodeid) else None


def pytest_collection_modifyitems(items):
    """Have the engine that a test names up before it begins."""
    for item in items:
        fixture = _SHARED.get(_engine_of(item))
        if fixture:
            item.fixturenames = [fixture, *item.fixturenames]


@pytest.fixture(autouse=True)
def one_dask_for_all(request):
    """Have the contract's own way to a Dask lead to the one that is there."""
    if _engine_of(request.node) != "dask":
        yield
        return
    from amltk.testing.contracts.plugin import ENGINES

    client = request.getfixturevalue("dask_client")
    address, security = client.scheduler.address, client.security
    # Not the test's own patches: those would then outlive other fixtures of it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            ENGINES, "dask", lambda _stack: Scheduler.with_dask(address, security=security)
        )
        yield
