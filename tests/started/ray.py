"""One Ray for the whole session, started by ourselves, with two processors."""

import gc
import warnings

import pytest

from started import missing


@pytest.fixture(scope="session")
def ray_package():
    """Return the package, or skip."""
    from amltk.exceptions import MissingExtraError
    from amltk.executors.ray.executor import ray_factory

    try:
        ray_factory()  # imports it in the environment that keeps it on loopback
    except MissingExtraError:
        missing('Ray is not installed: pip install ".[ray]"')
    import ray

    return ray


@pytest.fixture(scope="session")
def ray_executor(ray_package):
    """Return an executor on a Ray of this machine; tests do not shut it down."""
    from amltk.executors.ray.executor import RayExecutor

    with RayExecutor(num_cpus=2, object_store_memory=400_000_000) as executor:
        yield executor
    with warnings.catch_warnings():
        # Ray drops its processes and log files without closing them: let that happen here.
        warnings.simplefilter("ignore", ResourceWarning)
        del executor
        gc.collect()
