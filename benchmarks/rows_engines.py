"""Rows about engines beyond this process: our rate through a scheduler over that of their own API.

An engine that is not there is left out by name, never silently. Batch systems are measured only
where ``AMLTK_CLUSTERS`` names them, such as ``"slurm sge htcondor oar"``, since that submits jobs:
two to each, sized for what ``scripts/engines`` starts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import rows_calls
from measure import Goal, Result, Row, in_pairs
from rows_calls import no_op, scheduled_delay, time_scheduled

N_WORKERS = 2

#: How long workers may take to come.
WORKERS_S = 120

#: What a job asks for, and what each batch system needs beyond that.
JOB = {"cores": 1, "processes": 1, "memory": "500MB", "interface": "lo"}
CLUSTERS: Mapping[str, Mapping[str, str]] = {
    "slurm": {"walltime": "00:30:00"},
    "sge": {"walltime": "00:30:00"},
    "htcondor": {"disk": "100MB"},
    "oar": {"walltime": "00:30:00", "memory_per_core_property_name": "memcore"},
}


@contextmanager
def on_dask(
    make: Callable[[], Executor],
) -> Iterator[tuple[Executor, Callable[[int], None]]]:
    """Open a cluster of Dask; give an executor on it and what uses Dask's own API."""
    from distributed import Client, wait

    with make() as cluster:
        address = cluster._client.scheduler.address  # type: ignore[attr-defined] # the cluster's
        with Client(address, set_as_default=False) as bare:
            bare.wait_for_workers(N_WORKERS, timeout=WORKERS_S)

            def run(n: int) -> None:
                with bare.as_current():  # of several clients, the one that is waited by
                    wait([bare.submit(no_op, pure=False) for _ in range(n)])

            yield cluster, run


@contextmanager
def dask() -> Iterator[tuple[Executor, Callable[[int], None]]]:
    """Start a Dask of this machine."""
    from amltk.executors.dask import dask_factory

    with on_dask(dask_factory(n_workers=N_WORKERS)) as opened:
        yield opened


@contextmanager
def batch_system(name: str) -> Iterator[tuple[Executor, Callable[[int], None]]]:
    """Have two jobs of a batch system, and a Dask of workers in them."""
    from amltk.executors.jobqueue import cluster_factory

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chdir(folder):
        Path(folder).chmod(0o777)  # jobs may belong to another account
        places = {"log_directory": folder, "local_directory": folder}
        options = {**JOB, **CLUSTERS[name], **places}
        with on_dask(cluster_factory(name, N_WORKERS, adaptive=False, **options)) as opened:
            yield opened


@contextmanager
def ray() -> Iterator[tuple[Executor, Callable[[int], None]]]:
    """Start a Ray of this machine; give an executor on it and what uses Ray's own API."""
    from amltk.executors.ray import ray_factory

    with ray_factory(num_cpus=N_WORKERS, object_store_memory=200_000_000)() as executor:
        import ray as package

        remote = package.remote(no_op)

        def run(n: int) -> None:
            package.get([remote.remote() for _ in range(n)])

        yield executor, run


def measure_rate(opened: Any, *, quick: bool) -> Result:
    """Compare the rate of no-op calls through a scheduler with that of the engine's own API."""
    n, repeats = (500, 3) if quick else (3_000, 7)
    with opened() as (executor, run):
        for _ in range(2):
            time_scheduled(executor, n)

        def bare() -> float:
            begin = perf_counter()
            run(n)
            return perf_counter() - begin

        pairs = in_pairs(partial(time_scheduled, executor, n), bare, repeats)
    return Result(pairs.rates, f"{n:,} tasks, {pairs.typical(1e6 / n)} us a task")


def measure_round_trip(opened: Any, *, quick: bool) -> Result:
    """Compare the time of one call after the other with that of the engine's own API."""
    n, repeats = (10, 3) if quick else (50, 7)
    with opened() as (executor, run):
        scheduled_delay(executor, n)

        def one_by_one(call: Callable[[int], object]) -> float:
            begin = perf_counter()
            for _ in range(n):
                call(1)
            return (perf_counter() - begin) / n

        ours = partial(one_by_one, lambda _: executor.submit(no_op).result())
        pairs = in_pairs(ours, partial(one_by_one, run), repeats)
    return Result(pairs.slowdowns, f"{n} calls, {pairs.typical(1e3)} ms a call")


def run_scheduled(opened: Any) -> None:
    """Run many calls, for a profile."""
    with opened() as (executor, _):
        time_scheduled(executor, 3_000)


def rows_of(name: str, opened: Any) -> list[Row]:
    """Return the rows of an engine."""
    return [
        Row(
            name,
            f"no-op tasks through a scheduler on {name}: rate / {name}'s own API",
            Goal(0.9, at_least=True),
            partial(measure_rate, opened),
            partial(run_scheduled, opened),
        ),
        Row(
            f"{name}-round-trip",
            f"one call after the other on {name}: time / {name}'s own API",
            None,
            partial(measure_round_trip, opened),
            partial(run_scheduled, opened),
        ),
    ]


def measure_airflow(access: str, *, quick: bool) -> Result:
    """Compare calls through a scheduler with bare runs of a DAG that does nothing."""
    import cloudpickle
    import engines_airflow

    cloudpickle.register_pickle_by_value(engines_airflow)  # the workers do not have it
    url, passwords, store = access.split()
    auth = next(iter(json.loads(Path(passwords).read_text()).items()))
    airflow, n = engines_airflow.Airflow(url, auth, store), 8 if quick else 30
    pairs = in_pairs(partial(airflow.scheduled, n), partial(airflow.bare, n), 3)
    return Result(pairs.slowdowns, f"{n} calls, {pairs.typical(1 / n)} s a call")


def airflow_row(access: str) -> Row:
    """Return the row of Airflow, given its URL, the file of its passwords and a payload store."""
    measure = partial(measure_airflow, access)
    return Row(
        "airflow",
        "no-op tasks through a scheduler on Airflow: time / bare runs of a DAG",
        Goal(1.2),
        measure,
        partial(measure, quick=True),
    )


def loky_pool(n_workers: int) -> Executor:
    """Make a pool of loky, whose package is an extra."""
    from loky.process_executor import ProcessPoolExecutor as LokyPool

    pool: Executor = LokyPool(n_workers)
    return pool


def is_installed(package: str) -> bool:
    """Tell whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


#: Engines whose packages are here, and the names of those that are left out.
ROWS: list[Row] = []
LEFT_OUT: list[str] = []
if is_installed("loky"):
    ROWS.append(
        Row(
            "loky",
            "no-op tasks with one on_returned on a pool of loky: rate / itself, submit + wait",
            None,
            partial(rows_calls.measure_rate, loky_pool, None),
            partial(rows_calls.run_scheduled, loky_pool),
        )
    )
else:
    LEFT_OUT.append("loky: loky is not installed")
for name, package, opened in (("dask", "distributed", dask), ("ray", "ray", ray)):
    if is_installed(package):
        ROWS += rows_of(name, opened)
    else:
        LEFT_OUT.append(f"{name}: {package} is not installed")

named = os.environ.get("AMLTK_CLUSTERS", "").split()
for name in CLUSTERS:
    if name in named:
        ROWS += rows_of(name, partial(batch_system, name))
    else:
        LEFT_OUT.append(f"{name}: AMLTK_CLUSTERS does not name it")

access = os.environ.get("AMLTK_AIRFLOW")
if access:
    ROWS.append(airflow_row(access))
else:
    LEFT_OUT.append('airflow: set AMLTK_AIRFLOW="URL PASSWORDS_FILE STORE" of one that runs')
