"""Each engine has its constructor, which refuses wrong options before a run."""

import inspect
import sys

import pytest

from amltk import Scheduler
from amltk.exceptions import InvalidOptionError, MissingExtraError
from amltk.executors.registry import _FACTORIES
from amltk.scheduling.constructors import Constructors

CLUSTERS = ["slurm", "pbs", "sge", "lsf", "moab", "htcondor", "oar"]


def test_there_is_one_for_each_engine_of_the_registry():
    assert {f"with_{engine}" for engine in _FACTORIES} | {"with_engine"} == {
        name for name in dir(Constructors) if name.startswith("with_")
    }


def test_all_cluster_constructors_take_the_same_arguments():
    signatures = {str(inspect.signature(getattr(Scheduler, f"with_{name}"))) for name in CLUSTERS}

    assert len(signatures) == 1


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_without_workers_is_refused(name):
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(InvalidOptionError, match="n_workers=0"):
        getattr(Scheduler, f"with_{name}")(0, cores=1, memory="1GB")


@pytest.mark.parametrize(
    ("constructor", "package", "asked", "arguments"),
    [
        ("with_loky", "loky", "loky", {}),
        ("with_dask", "distributed", "distributed", {}),
        ("with_ray", "ray", "ray", {}),
        *[
            (f"with_{name}", "dask_jobqueue", "dask-jobqueue", {"n_workers": 1})
            for name in CLUSTERS
        ],
        (
            "with_airflow",
            "httpx",
            "httpx",
            {"url": "http://127.0.0.1:1", "auth": "token", "payload_store": "."},
        ),
    ],
)
def test_a_missing_package_is_told_at_once(monkeypatch, constructor, package, asked, arguments):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "{asked}[<>]=?\d'):
        getattr(Scheduler, constructor)(**arguments)


def test_an_engine_goes_by_its_name_too():
    assert Scheduler.with_engine("sequential").run() is Scheduler.ExitCode.EXHAUSTED
