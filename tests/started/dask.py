"""One Dask cluster for the whole session, with two worker processes, and clients of it."""

import pytest

from started import missing


@pytest.fixture(scope="session")
def distributed():
    """Return the package, or skip."""
    try:
        import distributed as package
    except ModuleNotFoundError:
        missing("Dask is not installed: pip install distributed")
    return package


@pytest.fixture(scope="session")
def dask_executor(distributed):
    """Return an executor on a cluster of this machine; tests do not shut it down."""
    from amltk.executors.dask.factory import dask_factory

    with dask_factory(n_workers=2)() as executor:
        yield executor


@pytest.fixture(scope="session")
def dask_client(dask_executor):
    """Return a client that is a test's to use, and not to close."""
    return dask_executor._client
