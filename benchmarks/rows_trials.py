"""Rows about many trials: whether time and memory stay the same however many there are."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from collections.abc import Callable
from functools import partial

from measure import Goal, Result, Row
from rows_optimization import N_WORKERS, no_op, random_search

from amltk import Scheduler, Trial
from amltk.optimization import optimize


def run_many(n: int, look: Callable[[int], None] | None = None) -> list[Trial.Report]:
    """Run ``n`` trials on processes and return their reports.

    Args:
        n: How many.
        look: Called at each report, with how many there are.
    """
    scheduler = Scheduler.with_processes(N_WORKERS)
    task = Trial.Task(no_op, scheduler)
    if look is not None:
        n_reports = 0

        @task.on_report
        def count() -> None:
            nonlocal n_reports
            n_reports += 1
            look(n_reports)

    reports = list(optimize(task, random_search(), scheduler, max_trials=n))
    assert len(reports) == n
    return reports


def last_to_second_quarter(n: int) -> tuple[float, float]:
    """Return the seconds of a trial of the last quarter, and of one of the second quarter.

    The first quarter has the start of the workers.
    """
    at = [report.reported_at or 0.0 for report in run_many(n)]
    quarter = n // 4
    return (at[-1] - at[-1 - quarter]) / quarter, (at[2 * quarter] - at[quarter]) / quarter


def measure_many(*, quick: bool) -> Result:
    """Look whether a trial takes as long after many others as after few."""
    n, repeats = (1_000, 3) if quick else (10_000, 5)
    runs = sorted(
        (last_to_second_quarter(n) for _ in range(repeats)), key=lambda run: run[0] / run[1]
    )
    last, second = (1e6 * figure for figure in runs[repeats // 2])
    note = f"{n:,} trials on {N_WORKERS} processes, {last:.3g} / {second:.3g} us a trial"
    return Result(tuple(last / second for last, second in runs), note)


def bytes_of_many(n: int) -> tuple[float, float]:
    """Return by how many bytes the driver grows with a trial, and how many its report has.

    The growth is that from a quarter of the trials to all of them. A report has what its copy
    takes that comes out of a pickle, as the report itself did when it came from its worker.
    """
    seen: dict[int, int] = {}

    def look(n_reports: int) -> None:
        if n_reports in (n // 4, n):
            seen[n_reports] = _traced_bytes()

    tracemalloc.start()
    try:
        reports = run_many(n, look)
        before = _traced_bytes()
        copies = [pickle.loads(pickle.dumps(report)) for report in reports]
        own = (_traced_bytes() - before) / len(copies)
    finally:
        tracemalloc.stop()
    return (seen[n] - seen[n // 4]) / (n - n // 4), own


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def measure_memory(*, quick: bool) -> Result:
    """Look by how much the driver grows with a trial, beyond its report."""
    n, repeats = (1_000, 1) if quick else (10_000, 2)
    runs = [bytes_of_many(n) for _ in range(repeats)]
    growth, own = (figure / 1024 for figure in runs[0])
    note = (
        f"{n:,} trials, grows by {growth:.3g} KiB a trial, of which the report has {own:.3g}, by "
        f"tracemalloc"
    )
    return Result(tuple((growth - own) / 1024 for growth, own in runs), note)


ROWS = [
    Row(
        "trials-10000",
        "time per no-op trial on processes, last quarter of 10,000 / second quarter",
        Goal(1.2),
        measure_many,
        partial(run_many, 10_000),
    ),
    Row(
        "trials-memory",
        "memory of the driver per trial of 10,000, beyond the reports",
        Goal(1, unit="KiB"),
        measure_memory,
        partial(bytes_of_many, 10_000),
        unit="KiB",
    ),
]
