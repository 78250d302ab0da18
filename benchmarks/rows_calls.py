"""Rows about calls: how many a second, and how soon one hears of them."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from functools import partial
from time import perf_counter

from measure import Goal, Result, Row, in_pairs

from amltk import Scheduler, Task
from amltk.executors.processes import ProcessExecutor

N_WORKERS = 2

#: Between two calls of which the delay is measured, so that loop and workers are idle again.
PAUSE_S = 0.005

MakeExecutor = Callable[[int], Executor]


def no_op() -> None:
    """Do nothing, so that all that is measured is the way there and back."""


def now() -> float:
    """Return the time at the end of a call; all processes of a machine share this clock."""
    return time.monotonic()


def warm_up(executor: Executor) -> None:
    """Have all workers started before anything is measured."""
    wait([executor.submit(time.sleep, 0.2) for _ in range(N_WORKERS)])


# --------------------------------------------------------------------------------- throughput


def time_scheduled(executor: Executor, n: int) -> float:
    """Return the seconds of a run with ``n`` calls, all submitted at its start."""
    scheduler = Scheduler(executor)
    task = Task(no_op, scheduler)
    n_returned = 0

    @scheduler.on_start
    def submit_all() -> None:
        for _ in range(n):
            task()

    @task.on_returned
    def count(_result: None) -> None:
        nonlocal n_returned
        n_returned += 1

    begin = perf_counter()
    scheduler.run()
    seconds = perf_counter() - begin
    assert n_returned == n
    return seconds


def time_bare(executor: Executor, n: int) -> float:
    """Return the seconds of submitting ``n`` calls and waiting for them."""
    begin = perf_counter()
    wait([executor.submit(no_op) for _ in range(n)])
    return perf_counter() - begin


def measure_rate(
    make: MakeExecutor,
    make_baseline: MakeExecutor | None,
    *,
    quick: bool,
) -> Result:
    """Compare a scheduler's rate with that of an executor, both warm; by default of its own one."""
    n, repeats = (2_000, 5) if quick else (20_000, 7)
    with make(N_WORKERS) as executor, (make_baseline or make)(N_WORKERS) as other:
        warm_up(executor)
        warm_up(other)
        bare = other if make_baseline else executor
        pairs = in_pairs(partial(time_scheduled, executor, n), partial(time_bare, bare, n), repeats)
    return Result(pairs.rates, f"{n:,} tasks, {pairs.typical(1e6 / n)} us a task")


def run_scheduled(make: MakeExecutor) -> None:
    """Run many calls, for a profile."""
    with make(N_WORKERS) as executor:
        warm_up(executor)
        time_scheduled(executor, 20_000)


# -------------------------------------------------------------------------------------- delay


def scheduled_delay(executor: Executor, n: int) -> float:
    """Return the median delay, in seconds, from a call's end to its callback in an idle loop."""
    scheduler = Scheduler(executor)
    task = Task(now, scheduler)
    delays: list[float] = []

    @scheduler.on_start
    @scheduler.on_empty
    def call_again() -> None:
        if len(delays) < n:
            asyncio.get_running_loop().call_later(PAUSE_S, task)
        else:
            scheduler.stop()

    @task.on_returned
    def note(ended_at: float) -> None:
        delays.append(time.monotonic() - ended_at)

    scheduler.run(end_on_empty=False)
    return statistics.median(delays)


def bare_delay(executor: Executor, n: int) -> float:
    """Return the median delay, in seconds, from a call's end to its ``add_done_callback``."""
    delays: list[float] = []
    noted = threading.Event()

    def note(future: Future[float]) -> None:
        delays.append(time.monotonic() - future.result())
        noted.set()

    for _ in range(n):
        time.sleep(PAUSE_S)
        noted.clear()
        executor.submit(now).add_done_callback(note)
        noted.wait()
    return statistics.median(delays)


def measure_delay(*, quick: bool) -> Result:
    """Compare how soon one hears of a call's end."""
    n, repeats = (20, 5) if quick else (100, 11)
    with ProcessExecutor(N_WORKERS) as executor:
        warm_up(executor)
        pairs = in_pairs(
            partial(scheduled_delay, executor, n), partial(bare_delay, executor, n), repeats
        )
    extra_ms = tuple(difference * 1e3 for difference in pairs.differences)
    return Result(extra_ms, f"medians of {n} calls, {pairs.typical(1e3)} ms")


def run_delays() -> None:
    """Run calls one by one, for a profile."""
    with ProcessExecutor(N_WORKERS) as executor:
        warm_up(executor)
        scheduled_delay(executor, 100)


ROWS = [
    Row(
        "processes",
        "no-op tasks with one on_returned on processes: rate / bare ProcessExecutor, submit + wait",
        Goal(0.9, at_least=True),
        partial(measure_rate, ProcessExecutor, None),
        partial(run_scheduled, ProcessExecutor),
    ),
    Row(
        "processes-standard",
        "processes / bare concurrent.futures.ProcessPoolExecutor",
        None,
        partial(measure_rate, ProcessExecutor, ProcessPoolExecutor),
        partial(run_scheduled, ProcessExecutor),
    ),
    Row(
        "threads",
        "no-op tasks with one on_returned on threads: rate / bare ThreadPoolExecutor, submit + wait",
        Goal(0.5, at_least=True),
        partial(measure_rate, ThreadPoolExecutor, None),
        partial(run_scheduled, ThreadPoolExecutor),
    ),
    Row(
        "standard-pool",
        "no-op tasks with one on_returned on ProcessPoolExecutor: rate / itself, submit + wait",
        None,
        partial(measure_rate, ProcessPoolExecutor, None),
        partial(run_scheduled, ProcessPoolExecutor),
    ),
    Row(
        "delay",
        "from a call's end to its callback, idle loop, on processes, beyond the bare executor",
        Goal(1, unit="ms"),
        measure_delay,
        run_delays,
        unit="ms",
    ),
]
