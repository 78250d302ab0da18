"""The executor contract over every engine that needs nothing but this machine."""

import concurrent.futures
import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import support

from amltk.executors.processes.executor import ProcessExecutor
from amltk.executors.sequential import SequentialExecutor
from amltk.testing.contracts import ExecutorContract


class TestSequential(ExecutorContract):
    engine = "sequential"

    @pytest.fixture
    def executor(self):
        with SequentialExecutor() as executor:
            yield executor


class TestThreads(ExecutorContract):
    engine = "threads"

    @pytest.fixture
    def executor(self):
        with ThreadPoolExecutor(2) as executor:
            yield executor


class TestProcesses(ExecutorContract):
    engine = "processes"

    @pytest.fixture
    def executor(self):
        with ProcessExecutor(2) as executor:
            yield executor


class TestInterpreters(ExecutorContract):
    @pytest.fixture
    def executor(self):
        if sys.version_info < (3, 14):
            pytest.skip("InterpreterPoolExecutor is of Python 3.14 and later")
        with concurrent.futures.InterpreterPoolExecutor(2) as executor:
            yield executor


@pytest.mark.slow
class TestProcessesOfAContext(ExecutorContract):
    @pytest.fixture(params=["spawn", "forkserver", "fork"])
    def executor(self, request):
        with ProcessExecutor(2, multiprocessing.get_context(request.param)) as executor:
            yield executor


class TestStandardPool(ExecutorContract):
    @pytest.fixture
    def executor(self):
        with support.standard_pool() as executor:
            yield executor


class TestLoky(ExecutorContract):
    @pytest.fixture
    def executor(self):
        loky = pytest.importorskip("loky", reason="the extra loky is not installed")
        with loky.ProcessPoolExecutor(2) as executor:
            yield executor


@pytest.fixture(scope="module")
def dask_client():
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address=support.ANY_PORT,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class TestDaskClient(ExecutorContract):
    @pytest.fixture
    def executor(self, dask_client):
        executor = dask_client.get_executor(pure=False)
        yield executor
        executor.shutdown(wait=True)

    def test_a_worker_that_dies_costs_one_call(self):
        pytest.skip("the workers of this client are threads of the test itself")
