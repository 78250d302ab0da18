"""Threads of BLAS and OpenMP: limited while a call runs, and as before after it."""

import os
import subprocess
import sys
from functools import partial
from typing import ClassVar

import pytest
import runs
import support

from amltk import Scheduler, Task
from amltk.exceptions import CallError, InvalidOptionError, MissingExtraError
from amltk.plugins.threadpoolctl import ThreadPoolCTLPlugin
from amltk.testing.contracts import PluginContract

pytest.importorskip("threadpoolctl")

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PROCESSORS = len(os.sched_getaffinity(0))


def numbers():
    """Return how many threads each library that is loaded may use."""
    import threadpoolctl

    return {
        library["user_api"]: library["num_threads"] for library in threadpoolctl.threadpool_info()
    }


def variables():
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def import_numpy(*, then_fail=False):
    import numpy as np

    assert np.ones(2).sum() == 2
    if then_fail:
        raise LookupError("failed inside")
    return numbers()


def import_openmp():
    import sklearn.utils._openmp_helpers

    assert sklearn.utils._openmp_helpers
    return numbers()


def is_loaded(name):
    return name in sys.modules


def child_says():
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def outcomes(scheduler, *calls):
    """Run calls one after the other and return what became of them."""
    submitting = [partial(task, *args, **kwargs) for task, args, kwargs in calls]
    return runs.outcomes_of(runs.run_all(scheduler, submitting, end_on_exception=False))


@pytest.fixture
def one_worker(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return Scheduler.with_processes(1)


class TestContract(PluginContract):
    refuses: ClassVar = {"threads": "setting of the whole process.*with_processes"}

    def make(self):
        return ThreadPoolCTLPlugin(limits={"blas": 1, "openmp": 2})


class TestLibraries:
    @pytest.fixture(autouse=True)
    def _numpy(self):
        pytest.importorskip("numpy")

    def test_one_that_is_loaded_inside_the_call_is_limited_there(self, one_worker):
        loaded = Task(is_loaded, one_worker)
        limited = Task(import_numpy, one_worker, plugins=ThreadPoolCTLPlugin(limits=1))
        before, inside = outcomes(one_worker, (loaded, ["numpy"], {}), (limited, [], {}))
        assert before is False
        assert inside["blas"] == 1

    @pytest.mark.parametrize("fails", [False, True])
    def test_one_that_was_loaded_inside_is_not_limited_after_it(self, one_worker, fails):
        limited = Task(import_numpy, one_worker, plugins=ThreadPoolCTLPlugin(limits=1))
        free = Task(numbers, one_worker)
        inside, after = outcomes(one_worker, (limited, [], {"then_fail": fails}), (free, [], {}))
        assert isinstance(inside, LookupError) is fails
        assert after["blas"] == PROCESSORS

    def test_one_that_was_loaded_inside_gets_what_the_environment_says(self, monkeypatch):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
        monkeypatch.setenv("MKL_NUM_THREADS", "1")
        scheduler = Scheduler.with_processes(1)
        limited = Task(import_numpy, scheduler, plugins=ThreadPoolCTLPlugin(limits=2))
        inside, after = outcomes(scheduler, (limited, [], {}), (Task(numbers, scheduler), [], {}))
        assert inside["blas"] == min(2, PROCESSORS)
        assert after["blas"] == 1

    @pytest.mark.parametrize("fails", [False, True])
    def test_one_that_was_loaded_before_is_limited_and_then_free_again(self, one_worker, fails):
        free = Task(import_numpy, one_worker)
        limited = Task(import_numpy, one_worker, plugins=ThreadPoolCTLPlugin(limits=1))
        calls = [(free, [], {}), (limited, [], {"then_fail": fails}), (free, [], {})]
        before, inside, after = outcomes(one_worker, *calls)
        assert before == after == {"blas": PROCESSORS}
        assert inside == {"blas": 1} or fails

    def test_the_second_call_is_limited_like_the_first(self, one_worker):
        limited = Task(import_numpy, one_worker, plugins=ThreadPoolCTLPlugin(limits=1))
        first, second = outcomes(one_worker, (limited, [], {}), (limited, [], {}))
        assert first == second == {"blas": 1}

    def test_a_kind_that_is_not_named_is_left_alone(self, one_worker):
        plugin = ThreadPoolCTLPlugin(limits=1, user_api="openmp")
        free = Task(import_numpy, one_worker)
        limited = Task(import_numpy, one_worker, plugins=plugin)
        before, inside = outcomes(one_worker, (free, [], {}), (limited, [], {}))
        assert before["blas"] == inside["blas"] == PROCESSORS

    def test_it_works_in_the_thread_of_the_loop(self, sequential):
        before = import_numpy()
        limited = Task(import_numpy, sequential, plugins=ThreadPoolCTLPlugin(limits=1))
        inside = outcomes(sequential, (limited, [], {}))[0]
        assert set(inside.values()) == {1}
        assert numbers() == before


class TestOpenMP:
    def test_it_is_limited_apart_from_blas(self, one_worker):
        pytest.importorskip("sklearn")
        plugin = ThreadPoolCTLPlugin(limits={"openmp": 3})
        limited, free = Task(import_openmp, one_worker, plugins=plugin), Task(numbers, one_worker)
        inside, after = outcomes(one_worker, (limited, [], {}), (free, [], {}))
        assert (inside["openmp"], after["openmp"]) == (3, PROCESSORS)

    def test_what_it_said_in_a_list_is_what_it_gets_back(self, monkeypatch):
        pytest.importorskip("sklearn")
        monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
        scheduler = Scheduler.with_processes(1)
        limited = Task(import_openmp, scheduler, plugins=ThreadPoolCTLPlugin(limits=1))
        inside, after = outcomes(scheduler, (limited, [], {}), (Task(numbers, scheduler), [], {}))
        assert (inside["openmp"], after["openmp"]) == (1, 4)


class TestEnvironment:
    def test_it_says_the_limits_while_a_call_runs(self, one_worker):
        plugin = ThreadPoolCTLPlugin(limits={"blas": 1, "openmp": 3})
        limited, free = Task(variables, one_worker, plugins=plugin), Task(variables, one_worker)
        inside, after = outcomes(one_worker, (limited, [], {}), (free, [], {}))
        assert inside == {
            "OMP_NUM_THREADS": "3",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        assert after == {}

    def test_what_it_said_before_comes_back(self, sequential, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        task = Task(support.fail, sequential, plugins=ThreadPoolCTLPlugin(limits=1))
        assert isinstance(outcomes(sequential, (task, [], {}))[0], ValueError)
        assert os.environ["OMP_NUM_THREADS"] == "5"

    def test_processes_that_the_call_starts_are_limited_too(self, one_worker):
        limited = Task(child_says, one_worker, plugins=ThreadPoolCTLPlugin(limits=2))
        assert outcomes(one_worker, (limited, [], {})) == ["2"]


def test_two_calls_at_once_in_threads_of_one_worker_are_told_apart(sequential):
    plugin = ThreadPoolCTLPlugin()
    with pytest.raises(CallError, match="give each worker process one thread"):
        support.call_while_another_runs(plugin)
    assert plugin.wrap(support.double)(1) == 2


class TestOptions:
    @pytest.mark.parametrize("limits", [0, -1, 1.5, True, "2", None, {"blas": 0}, {"openmp": "1"}])
    def test_what_is_no_number_of_threads_is_refused(self, limits):
        with pytest.raises(
            InvalidOptionError, match=r"limits=.* a whole number of threads"
        ) as info:
            ThreadPoolCTLPlugin(limits)
        assert (info.value.option, info.value.value) == ("limits", limits)

    @pytest.mark.parametrize("limits", [{}, {"bals": 1}, {1: 1}])
    def test_what_is_no_kind_of_library_is_refused(self, limits):
        with pytest.raises(InvalidOptionError, match=r'limits=.* name "blas" or "openmp"'):
            ThreadPoolCTLPlugin(limits)

    def test_a_kind_is_for_one_number_only(self):
        with pytest.raises(InvalidOptionError, match="leave user_api out"):
            ThreadPoolCTLPlugin({"blas": 1}, user_api="blas")

    def test_an_unknown_kind_is_refused(self):
        with pytest.raises(InvalidOptionError, match=r'user_api=.* give "blas" or "openmp"'):
            ThreadPoolCTLPlugin(1, user_api="mkl")

    def test_without_the_package_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
        with pytest.raises(MissingExtraError, match=r"pip install \"threadpoolctl[<>]=?\d"):
            ThreadPoolCTLPlugin()
