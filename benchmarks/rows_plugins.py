"""Rows about plugins: messages between calls and driver, and what each plugin costs a call."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from measure import Goal, Row, in_pairs

from amltk import Comm, Scheduler, Task

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
