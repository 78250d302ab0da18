"""Rows about plugins: messages between calls and driver, and what each plugin costs a call."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from measure import Goal, Result, Row, in_pairs

from amltk import CallLimiter, Comm, Scheduler, Task, TaskPlugin, plugins

N_REQUESTS = 3_000
N_MESSAGES = 30_000

#: Made without forking the driver, as the workers of the scheduler are.
CONTEXT = multiprocessing.get_context("spawn")


# -------------------------------------------------------------------------------- in the workers


def ask(n: int, comm: Comm | None = None) -> float:
    """Return the seconds that a number of requests take, one after the other."""
    assert comm is not None
    with comm:
        comm.request(0)
        begin = perf_counter()
        for x in range(n):
            comm.request(x)
        return perf_counter() - begin


def tell(n: int, comm: Comm | None = None) -> None:
    """Send a number of messages."""
    assert comm is not None
    with comm:
        for x in range(n):
            comm.send(x)


def ask_by_pipe(pipe: Connection, n: int) -> None:
    """Do the same through a pipe, and send the seconds."""
    pipe.send(0)
    pipe.recv()
    begin = perf_counter()
    for x in range(n):
        pipe.send(x)
        pipe.recv()
    pipe.send(perf_counter() - begin)


def tell_by_pipe(pipe: Connection, n: int) -> None:
    """Do the same through a pipe."""
    for x in range(n):
        pipe.send(x)


# ---------------------------------------------------------------------------------- in the driver


def run_one(function: Any, n: int, **callbacks: Any) -> Any:
    """Run one call with a comm, and return its result."""
    scheduler = Scheduler.with_processes(1)
    task = Task(function, scheduler, plugins=[Comm.Plugin()])
    results: list[Any] = []
    for event, callback in callbacks.items():
        getattr(task, event)(callback)
    task.on_returned(results.append)
    scheduler.on_start(lambda: task(n))
    scheduler.run()
    return results[0]


def time_requests(n: int) -> float:
    """Return the seconds of requests to a callback that answers."""
    seconds: float = run_one(ask, n, on_request=lambda msg: msg.respond(msg.data))
    return seconds


def time_messages(n: int) -> float:
    """Return the seconds from the first message that is heard to the last one."""
    times: list[float] = []
    run_one(tell, n, on_message=lambda _: times.append(perf_counter()))
    assert len(times) == n
    return times[-1] - times[0]


def time_pipe_requests(n: int) -> float:
    """Return the seconds of requests through a pipe to a thread that waits for them."""
    here, there = CONTEXT.Pipe()
    worker = CONTEXT.Process(target=ask_by_pipe, args=(there, n))
    worker.start()
    for _ in range(n + 1):
        here.send(here.recv())
    seconds: float = here.recv()
    worker.join()
    return seconds


def time_pipe_messages(n: int) -> float:
    """Return the seconds of messages through a pipe to a thread that waits for them."""
    here, there = CONTEXT.Pipe()
    worker = CONTEXT.Process(target=tell_by_pipe, args=(there, n))
    worker.start()
    times: list[float] = []
    for _ in range(n):
        here.recv()
        times.append(perf_counter())
    worker.join()
    return times[-1] - times[0]


def measure_requests(*, quick: bool) -> Result:
    """Compare the round trip of a request."""
    n, repeats = (N_REQUESTS // 10, 3) if quick else (N_REQUESTS, 9)
    pairs = in_pairs(partial(time_requests, n), partial(time_pipe_requests, n), repeats)
    return Result(pairs.slowdowns, f"{n} requests, {pairs.typical(1e6 / n)} us each")


def measure_messages(*, quick: bool) -> Result:
    """Compare how many messages go through in a second."""
    n, repeats = (N_MESSAGES // 10, 3) if quick else (N_MESSAGES, 9)
    pairs = in_pairs(partial(time_messages, n), partial(time_pipe_messages, n), repeats)
    return Result(pairs.rates, f"{n} messages, {pairs.typical(1e6 / n)} us each")


# ------------------------------------------------------------------------ what a plugin costs


@dataclass(frozen=True, slots=True)
class Added:
    """A plugin whose cost per call is measured.

    Attributes:
        make: Makes it, given a folder for what it writes.
        n_calls: How many calls are made, one after the other.
        unit: What the figure is shown in.
        package: The package that it needs.
    """

    make: Callable[[str], TaskPlugin]
    n_calls: int = 300
    unit: str = "us"
    package: str | None = None


SCALES = {"us": 1e6, "ms": 1e3}


def wandb_tracker(folder: str) -> TaskPlugin:
    """Return a tracker that writes to a folder."""
    made = plugins.WandbPlugin(project="benchmark", mode="offline", dir=folder)
    tracker: TaskPlugin = made.task_tracker()
    return tracker


ADDED: Mapping[str, Added] = {
    "limiter": Added(lambda _: CallLimiter(max_concurrent=1)),
    "retry": Added(lambda _: plugins.Retry()),
    "comm": Added(lambda _: Comm.Plugin()),
    "worker-logs": Added(lambda _: plugins.WorkerLogs()),
    "warnings": Added(lambda _: plugins.WarningFilter()),
    "threadpoolctl": Added(lambda _: plugins.ThreadPoolCTLPlugin(), package="threadpoolctl"),
    "pynisher": Added(
        lambda _: plugins.PynisherPlugin(wall_time_limit=60), 30, "ms", package="pynisher"
    ),
    "wandb": Added(wandb_tracker, 30, "ms", package="wandb"),
    "emissions": Added(lambda _: plugins.EmissionsTracker("DEU"), 20, "ms", package="codecarbon"),
}


def use_comm(comm: Comm | None = None) -> None:
    """Do nothing, with the comm open."""
    assert comm is not None
    with comm:
        pass


def do_nothing() -> None:
    """Do nothing."""


def time_calls(function: Callable[..., None], added: Added | None, n: int) -> float:
    """Return the median seconds from one call's submission to the next one's, in a chain."""
    with tempfile.TemporaryDirectory() as folder:
        beside = [] if added is None else [added.make(folder)]
        scheduler = Scheduler.with_processes(1)
        task = Task(function, scheduler, plugins=beside)
        times: list[float] = []
        n_warm = max(3, n // 10)

        @scheduler.on_start
        @task.on_returned
        def go_on() -> None:
            times.append(perf_counter())
            if len(times) <= n + n_warm:
                task()

        scheduler.run()
        steps = [after - before for before, after in pairwise(times)]
        return statistics.median(steps[n_warm:])


def measure_added(name: str, *, quick: bool) -> Result:
    """Compare calls with a plugin and without."""
    added = ADDED[name]
    n, repeats = (max(5, added.n_calls // 10), 3) if quick else (added.n_calls, 5)
    function = use_comm if name == "comm" else do_nothing
    pairs = in_pairs(
        partial(time_calls, function, added, n), partial(time_calls, do_nothing, None, n), repeats
    )
    scale = SCALES[added.unit]
    extra = tuple(difference * scale for difference in pairs.differences)
    return Result(extra, f"median of {n} calls in a chain, {pairs.typical(scale)} {added.unit}")


def is_there(added: Added) -> bool:
    """Tell whether the package is installed that a plugin needs."""
    return added.package is None or find_spec(added.package) is not None


ROWS = [
    Row(
        "comm-request",
        "round trip of comm.request / of a raw multiprocessing.Pipe",
        Goal(2.2),
        measure_requests,
        partial(time_requests, N_REQUESTS),
    ),
    Row(
        "comm-messages",
        "messages a second by comm.send / by a raw multiprocessing.Pipe",
        Goal(1, at_least=True),
        measure_messages,
        partial(time_messages, N_MESSAGES),
    ),
    *(
        Row(
            f"plugin-{name}",
            f"a no-op call with the plugin {name}, beyond the same call without",
            None,
            partial(measure_added, name),
            partial(time_calls, do_nothing, added, added.n_calls),
            unit=added.unit,
        )
        for name, added in ADDED.items()
        if is_there(added)
    ),
]
