"""Rows about many calls: whether time, memory and stack stay the same however many there are."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
import types
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import psutil
from measure import FOLDER, Goal, Result, Row, in_fresh_interpreter, in_pairs

from amltk import Scheduler, Task
from amltk.executors.processes import ProcessExecutor
from amltk.testing import ManualExecutor

N_WORKERS = 2
FEW = 1_000

#: After how many calls of the chain the stack is looked at again; not a divisor of what the loop
#: does in one go.
LOOK_EVERY = 97


def no_op(_number: int) -> None:
    """Do nothing."""


# ----------------------------------------------------------------- time with many calls queued


def time_queued(make: Callable[[], Any], n: int) -> float:
    """Return the seconds from the first of ``n`` submissions to the last callback.

    All calls are queued before the first callback; a ManualExecutor's are then finished at once.
    """
    executor = make()
    scheduler = Scheduler(executor)
    task = Task(no_op, scheduler)
    times = [0.0, 0.0]
    n_returned = 0

    @scheduler.on_start
    def submit_all() -> None:
        times[0] = perf_counter()
        for number in range(n):
            task(number)
        if isinstance(executor, ManualExecutor):
            asyncio.get_running_loop().call_soon(executor.finish_all)

    @task.on_returned
    def count(_result: None) -> None:
        nonlocal n_returned
        n_returned += 1
        if n_returned == n:
            times[1] = perf_counter()

    scheduler.run()
    assert n_returned == n
    return times[1] - times[0]


def time_a_task(make: Callable[[], Any], n_queued: int, n_total: int) -> float:
    """Return the seconds that a task takes, with so many queued; so many are run in total."""
    rounds = n_total // n_queued
    return sum(time_queued(make, n_queued) for _ in range(rounds)) / (rounds * n_queued)


def _compare_queued(make: Callable[[], Any], *, quick: bool) -> Result:
    many, few_in_total, repeats = (10_000, 3_000, 3) if quick else (100_000, 20_000, 5)
    pairs = in_pairs(
        partial(time_a_task, make, many, many),
        partial(time_a_task, make, FEW, few_in_total),
        repeats,
    )
    return Result(pairs.slowdowns, f"{many:,} / {FEW:,} queued, {pairs.typical(1e6)} us a task")


def measure_queued_on_processes(*, quick: bool) -> Result:
    """Compare the time of a task among many queued with that among few, on warm processes."""
    with ProcessExecutor(N_WORKERS) as executor:
        return _compare_queued(lambda: executor, quick=quick)


def measure_queued_alone(*, quick: bool) -> Result:
    """Compare the same without workers, so that the scheduler is most of it."""
    return _compare_queued(ManualExecutor, quick=quick)


def run_queued_on_processes() -> None:
    """Run many calls, for a profile."""
    with ProcessExecutor(N_WORKERS) as executor:
        time_queued(lambda: executor, 100_000)


# --------------------------------------------------------------- memory with many calls queued


def scheduled_bytes(n: int) -> float:
    """Return the bytes that each of ``n`` queued calls needs, with the executor's own.

    Looked at twice, right after the submissions and when all of them were announced; the more
    counts.
    """
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    task = Task(no_op, scheduler)
    seen: list[int] = []

    @task.on_returned
    def listen(_result: None) -> None:
        pass

    @scheduler.on_start
    def submit_all() -> None:
        before = _traced_bytes()
        for number in range(n):
            task(number)
        seen.append(_traced_bytes() - before)
        asyncio.get_running_loop().call_later(0.01, look_and_finish, before)

    def look_and_finish(before: int) -> None:
        if scheduler.event_counts[scheduler.FUTURE_SUBMITTED] < n:
            asyncio.get_running_loop().call_later(0.01, look_and_finish, before)
            return
        seen.append(_traced_bytes() - before)
        executor.finish_all()

    _while_tracing(scheduler.run)
    assert len(seen) == 2
    return max(seen) / n


def bare_bytes(n: int) -> float:
    """Return the bytes that each of ``n`` calls needs in the executor alone."""
    executor = ManualExecutor()
    seen: list[int] = []

    def submit_all() -> None:
        before = _traced_bytes()
        for number in range(n):
            executor.submit(no_op, number)
        seen.append(_traced_bytes() - before)

    _while_tracing(submit_all)
    return seen[0] / n


def _while_tracing(body: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        body()
    finally:
        tracemalloc.stop()


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def measure_memory(*, quick: bool) -> Result:
    """Compare what a queued call needs of a scheduler with what it needs of the executor alone."""
    n, repeats = (2_000, 3) if quick else (20_000, 5)
    pairs = in_pairs(partial(scheduled_bytes, n), partial(bare_bytes, n), repeats)
    extra_kib = tuple(difference / 1024 for difference in pairs.differences)
    return Result(extra_kib, f"{n:,} queued, {pairs.typical(1 / 1024)} KiB a call, by tracemalloc")


# ---------------------------------------------------------------------------------- the chain


def run_chain(n: int) -> dict[str, Any]:
    """Run a chain of ``n`` calls, each submitted by the callback of the one before.

    Returns:
        How many ran, the seconds, the deepest stack that calls and callbacks saw in each tenth of
        the chain, and the bytes by which the process grew from the first tenth to the end.
    """
    scheduler = Scheduler.with_sequential()
    deepest = [0] * 10
    sizes: dict[int, int] = {}
    n_run, tenth = 0, n // 10

    def look(number: int) -> None:
        place = number // tenth
        deepest[place] = max(deepest[place], _depth())

    def call(number: int) -> int:
        if number % LOOK_EVERY == 0:
            look(number)
        return number + 1

    task = Task(call, scheduler)
    scheduler.on_start(partial(task, 0))

    @task.on_returned
    def go_on(number: int) -> None:
        nonlocal n_run
        n_run += 1
        if number % LOOK_EVERY == 0 and number < n:
            look(number)
        if number % tenth == 0:
            sizes[number] = _resident_bytes()
        if number < n:
            task(number)

    begin = perf_counter()
    scheduler.run()
    return {
        "n": n_run,
        "seconds": perf_counter() - begin,
        "deepest": deepest,
        "growth": sizes[n] - sizes[tenth],
    }


def _depth() -> int:
    frame: types.FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def measure_chain(*, quick: bool) -> Result:
    """Run the chain in a fresh interpreter and look whether stack and memory stay the same."""
    n, repeats = (100_000, 1) if quick else (1_000_000, 3)
    program = f"import json, rows_queue; print(json.dumps(rows_queue.run_chain({n})))"
    path = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); "
    chains = [in_fresh_interpreter("-c", path + program) for _ in range(repeats)]
    broken = ""
    if any(chain["n"] != n for chain in chains):
        broken = f"not all of {n:,} calls ran"
    elif any(max(chain["deepest"]) > chain["deepest"][0] for chain in chains):
        broken = "the stack grows"
    first, last = (max(chain["deepest"][place] for chain in chains) for place in (0, -1))
    a_call_us = min(chain["seconds"] for chain in chains) / n * 1e6
    growth = ", ".join(f"{chain['growth'] / 1024:.0f}" for chain in chains)
    note = (
        f"{n:,} calls, {a_call_us:.3g} us a call, deepest stack {first} frames in the first tenth "
        f"and {last} in the last, grew by {growth} KiB from 10 % to 100 %"
    )
    return Result(tuple(chain["growth"] / (0.9 * n) for chain in chains), note, broken)


ROWS = [
    Row(
        "queued",
        "time per task with many queued / with few, on processes",
        Goal(1.2),
        measure_queued_on_processes,
        run_queued_on_processes,
    ),
    Row(
        "queued-alone",
        "queued on a ManualExecutor, which has no workers",
        None,
        measure_queued_alone,
        partial(time_queued, ManualExecutor, 100_000),
    ),
    Row(
        "memory",
        "memory per queued call beyond the executor's own, on a ManualExecutor",
        Goal(1, unit="KiB"),
        measure_memory,
        partial(scheduled_bytes, 20_000),
        unit="KiB",
    ),
    Row(
        "chain",
        "chain of calls on the sequential executor: growth of memory per call, at constant stack",
        Goal(1, unit="B"),
        measure_chain,
        partial(run_chain, 100_000),
        unit="B",
    ),
]
