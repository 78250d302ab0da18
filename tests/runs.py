"""Runs of a few calls, and what became of these, for tests of what is around them."""

from functools import partial

from amltk import Scheduler, Task


def run_all(scheduler, calls, *, timeout=50, ends_as=Scheduler.ExitCode.EXHAUSTED, **options):
    """Run what submits a call each, and return the futures; the scheduler can be used again."""
    futures = []
    start = scheduler.on_start(lambda: futures.extend(call() for call in calls), name="the calls")
    try:
        assert scheduler.run(timeout=timeout, **options) is ends_as
    finally:
        scheduler.on_start.remove(start)
    return futures


def run_calls(task, *calls, **options):
    """Run calls of a task, each of them a tuple of arguments, and return their futures."""
    return run_all(task.scheduler, [partial(task, *call) for call in calls], **options)


def outcomes_of(futures):
    """Return what calls have returned or raised; ``None`` for one that was refused."""
    return [future and (future.exception(0) or future.result(0)) for future in futures]


def results_and_errors(scheduler, function, arguments, *, task_options=None, **options):
    """Run a call for each argument; return results and exceptions as they came."""
    task = Task(function, scheduler).options(**(task_options or {}))
    results, errors = [], []
    task.on_returned(results.append)
    task.on_exception(errors.append)
    calls = [(argument,) for argument in arguments]
    run_calls(task, *calls, end_on_exception=False, **options)
    return results, errors
