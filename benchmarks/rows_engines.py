"""Rows about engines beyond this process: our rate through a scheduler over that of their own API.

An engine that is not there is left out by name, never silently. Batch systems are reached through
Dask, so the row of Dask is theirs too.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from measure import Goal, Result, Row, in_pairs
from rows_calls import no_op, scheduled_delay, time_scheduled

N_WORKERS = 2


@contextmanager
def dask() -> Iterator[tuple[Executor, Callable[[int], None]]]:
    """Open a cluster of this machine; give an executor on it and what uses Dask's own API."""
    from distributed import Client, wait

    from amltk.executors.dask import DaskExecutor, dask_factory

    with dask_factory(n_workers=N_WORKERS)() as cluster:
        client: Any = cluster._client  # type: ignore[attr-defined] # the cluster's own address
        with Client(client.scheduler.address, set_as_default=False) as bare:

            def run(n: int) -> None:
                wait([bare.submit(no_op, pure=False) for _ in range(n)])

            yield DaskExecutor(client), run


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
    from engines_airflow import Airflow

    url, passwords, store = access.split()
    auth = next(iter(json.loads(Path(passwords).read_text()).items()))
    airflow, n = Airflow(url, auth, store), 8 if quick else 30
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


def is_installed(package: str) -> bool:
    """Tell whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


#: Engines whose packages are here, and the names of those that are left out.
ROWS: list[Row] = []
LEFT_OUT: list[str] = []
for name, package, opened in (("dask", "distributed", dask), ("ray", "ray", ray)):
    if is_installed(package):
        ROWS += rows_of(name, opened)
    else:
        LEFT_OUT.append(f"{name}: {package} is not installed")

access = os.environ.get("AMLTK_AIRFLOW")
if access:
    ROWS.append(airflow_row(access))
else:
    LEFT_OUT.append('airflow: set AMLTK_AIRFLOW="URL PASSWORDS_FILE STORE" of one that runs')
