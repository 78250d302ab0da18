"""Engines that take seconds to start are started once and shared: see ``tests/started``."""

import re

import support

TESTS = support.ROOT / "tests"

#: What starts a cluster, or another engine of some seconds.
STARTS = re.compile(
    r"Scheduler\.with_dask\((?!\w*address|client|dask_client)|\bLocalCluster\("
    r"|dask_factory\((?:\)|n_workers)|with_ray\((?!address)|\bRayExecutor\(|\bcluster_factory\("
)

#: The files that do, how often, and what they show that a shared one cannot.
OWN = {
    "channel/test_channel.py": (1, "workers on another host"),
    "engines/test_same_script.py": (2, "scripts as users have them"),
    "executors/dask/test_executor.py": (
        10,
        "starting and ending, other options, the driver's death",
    ),
    "executors/ray/test_executor.py": (8, "starting and ending, other options, the driver's death"),
    "executors/travel/test_script.py": (2, "scripts as users have them"),
    "executors/test_contract.py": (1, "threads as Dask's workers"),
    "optimization/search/test_loop.py": (1, "a cluster for each run"),
    "stress/chaos/driver.py": (2, "a driver for each seed"),
    "started/clusters.py": (1, "this is where it is done"),
    "started/dask.py": (1, "this is where it is done"),
    "started/ray.py": (1, "this is where it is done"),
}


def test_no_further_test_starts_an_engine_of_its_own():
    """Take ``dask_executor``, ``ray_executor``, ``shared_cluster``, or in plugins the engine's name."""
    found = {
        path.relative_to(TESTS).as_posix(): len(STARTS.findall(path.read_text("utf-8")))
        for path in TESTS.rglob("*.py")
        if path.name != "test_engines.py"
    }
    known = {name: n for name, (n, _) in OWN.items()}

    assert {name: n for name, n in found.items() if n} == known
