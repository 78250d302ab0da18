"""Keeps as many jobs of a batch system as a Dask cluster needs; runs in the cluster's process.

::

    every second     calls that wait or run ──▶ how many jobs are wanted
                     jobs that were submitted ─ their workers came? ─ are they still there?
                          │ too few             │ lost             │ too many, idle
                          ▼                     ▼                  ▼
                       submit                forget             cancel

dask-jobqueue writes the job scripts and knows the commands; the rest is done here, since its own
ways do not replace all jobs that are lost, never notice one that ends before its worker came, and
hide refused submissions in a log.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from amltk._contexts import context
from amltk.exceptions import ExecutorError
from amltk.executors.jobqueue.systems import SYSTEMS, System

logger: logging.Logger = logging.getLogger(__name__)

#: How often it is looked what is to be done.
_LOOK_S = 0.5

#: How long a worker may be away until its job counts as lost: a nanny starts a dead one anew.
_AWAY_S = 10.0

#: How long a job may be without workers until the batch system is asked for it, and how often.
_ASK_AFTER_S = 5.0

#: How long a job may be idle beyond what is wanted until it is cancelled.
_IDLE_S = 5.0

#: The pause after a submission that was refused; doubled after each further one, up to the longest.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0

#: How long submissions may be refused until calls are told: what was never taken is likely wrong,
#: and where jobs were taken before, the batch system is likely out of reach for a while.
_REFUSED_S = 7.0
_REFUSED_LATER_S = 600.0

#: How long submitting a job may take; longer than the system's own limit, so that it is known what
#: became of it.
_SUBMIT_S = 120.0

#: How long cancelling a job may take.
_COMMAND_S = 30.0

#: How long jobs may take to be gone after they were cancelled.
_GONE_S = 15.0

#: How soon jobs that are still there are cancelled again: the command may have failed.
_CANCEL_AGAIN_S = 4.0


@dataclass(eq=False, slots=True)
class _Tracked:
    """A job of ours."""

    job: Any
    name: str
    #: The command that submits it.
    start: asyncio.Future[None]
    submitted_at: float = field(default_factory=time.monotonic)
    asked_at: float = field(default_factory=time.monotonic)
    #: When it was last seen with a worker, if ever.
    seen_at: float | None = None
    idle_since: float | None = None


class JobKeeper:
    """Submits, watches and cancels jobs.

    Args:
        cluster: The cluster of dask-jobqueue, which never starts jobs itself.
        system: The batch system.
        n_workers: How many workers at most.
        adaptive: Whether workers come and go with the load.
        commands: ``submit_command`` and ``cancel_command``, where they are not the system's own.
    """

    def __init__(
        self,
        cluster: Any,
        system: System,
        *,
        n_workers: int,
        adaptive: bool,
        commands: Mapping[str, str],
    ) -> None:
        self._cluster = cluster
        self._dask = cluster.scheduler
        self._system = system
        self._adaptive = adaptive
        self._commands = commands
        self._numbers = itertools.count()
        self._jobs: dict[str, _Tracked] = {}
        #: Jobs that were given up while they were being submitted.
        self._late: list[_Tracked] = []
        dummy = cluster._dummy_job
        self._per_job: int = dummy.worker_processes
        self._threads: int = dummy.worker_process_threads
        self._most_jobs: int = math.ceil(n_workers / self._per_job)
        self._has_submitted = False
        self._is_broken = False
        #: Since when submissions are refused, if they are, how often, and when to try again.
        self._refused_since: float | None = None
        self._n_refusals = 0
        self._next_try = 0.0

    async def run(self) -> None:
        """Keep the jobs until cancelled."""
        while True:
            try:
                await self._look()
            except Exception:
                logger.exception("looking after the jobs of %s failed", self._system.title)
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Cancel all jobs, and wait until they are gone."""
        jobs = [*self._jobs.values(), *self._late]
        deadline = time.monotonic() + _GONE_S
        while jobs and time.monotonic() < deadline:
            await asyncio.gather(*(self._cancel(tracked) for tracked in jobs))
            jobs = await self._left_of(jobs, time.monotonic() + _CANCEL_AGAIN_S)
        if jobs:
            ids = ", ".join(str(tracked.job.job_id) for tracked in jobs)
            title = self._system.title
            logger.error("jobs of %s may be left, which it did not cancel: %s", title, ids)

    async def _left_of(self, jobs: list[_Tracked], deadline: float) -> list[_Tracked]:
        """Wait for jobs to be gone; return those that are not, as far as the system tells."""
        while True:
            jobs = [tracked for tracked in jobs if await self._may_be_there(tracked)]
            if not jobs or time.monotonic() >= deadline:
                return jobs
            await asyncio.sleep(_LOOK_S)

    def note_worker(self, worker_name: object) -> None:
        """Note that a worker has come, which may be gone again before it is looked for."""
        tracked = self._job_of(worker_name)
        if tracked is not None:
            tracked.seen_at = time.monotonic()

    async def tell_end(self, worker_name: object) -> str:
        """Tell what is known of the job of a worker that is gone."""
        tracked = self._job_of(worker_name)
        if tracked is None:
            return ""
        job_id = tracked.job.job_id
        state = await self._system.state_of(job_id)
        if state is None:
            return f"job {job_id} of {self._system.title}"
        return f"job {job_id} of {self._system.title}: {state}"

    async def _look(self) -> None:
        now = time.monotonic()
        self._note_workers(now)
        for tracked in list(self._jobs.values()):
            if await self._is_lost(tracked, now):
                del self._jobs[tracked.name]
                await self._cancel(tracked)
        surplus = len(self._jobs) - self._wanted()
        if surplus > 0:
            await self._let_go(surplus, now)
        if surplus >= 0:
            self._refused_since, self._n_refusals = None, 0
        elif now >= self._next_try and not self._is_broken:
            await self._submit(-surplus)

    def _wanted(self) -> int:
        if not self._adaptive:
            return self._most_jobs
        dask = self._dask
        n_calls: int = len(dask.queued) + len(dask.unrunnable)
        n_calls += sum(len(worker.processing) for worker in dask.workers.values())
        return min(self._most_jobs, math.ceil(n_calls / (self._threads * self._per_job)))

    def _job_of(self, worker_name: object) -> _Tracked | None:
        name = str(worker_name)
        return self._jobs.get(name) or self._jobs.get(name.rpartition("-")[0])

    def _note_workers(self, now: float) -> None:
        busy: set[str] = set()
        for worker in self._dask.workers.values():
            tracked = self._job_of(worker.name)
            if tracked is not None:
                tracked.seen_at = now
                if worker.processing:
                    busy.add(tracked.name)
        for tracked in self._jobs.values():
            if tracked.name in busy or tracked.seen_at is None:
                tracked.idle_since = None
            elif tracked.idle_since is None:
                tracked.idle_since = now

    async def _is_lost(self, tracked: _Tracked, now: float) -> bool:
        if tracked.seen_at == now:
            return False
        if tracked.seen_at is not None and now - tracked.seen_at > _AWAY_S:
            return True
        since = tracked.seen_at or tracked.submitted_at
        # Sooner where the system says so itself.
        if now - max(since, tracked.asked_at) < (1.0 if tracked.seen_at else _ASK_AFTER_S):
            return False
        tracked.asked_at = now
        return await self._is_there(tracked) is False

    async def _is_there(self, tracked: _Tracked) -> bool | None:
        """Ask whether a job waits or runs; ``None`` where the system does not tell."""
        return await self._system.has(tracked.job.job_id)

    async def _may_be_there(self, tracked: _Tracked) -> bool:
        if tracked.job.job_id is None:
            return False
        is_there = await self._is_there(tracked)
        return self._system.can_be_asked() if is_there is None else is_there

    async def _let_go(self, count: int, now: float) -> None:
        idle = [
            tracked
            for tracked in self._jobs.values()
            if (tracked.idle_since is not None and now - tracked.idle_since >= _IDLE_S)
            or (tracked.seen_at is None and now - tracked.submitted_at >= _IDLE_S)
        ]
        for tracked in idle[:count]:
            workers = [w for w in self._dask.workers.values() if self._belongs(w, tracked)]
            if any(worker.processing for worker in workers):
                continue  # it got a call while others were let go
            for worker in workers:  # at once, so that it gets none from here on
                self._dask.handle_worker_status_change(
                    "closing_gracefully", worker, stimulus_id=f"amltk-idle-{tracked.name}"
                )
            del self._jobs[tracked.name]
            if workers:
                await self._dask.retire_workers(workers=[worker.address for worker in workers])
            await self._cancel(tracked)

    @staticmethod
    def _belongs(worker: Any, tracked: _Tracked) -> bool:
        name = str(worker.name)
        return tracked.name in (name, name.rpartition("-")[0])

    async def _submit(self, count: int) -> None:
        """Submit jobs; if that fails for too long, tell all calls and give up."""
        for _ in range(count):
            try:
                await self._submit_once()
            except Exception as refused:  # the calls hear of it when it lasts
                self._note_refusal(refused)
                return
            self._has_submitted, self._refused_since, self._n_refusals = True, None, 0

    def _note_refusal(self, error: Exception) -> None:
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
            title = self._system.title
            logger.warning("%s takes no job at the moment, trying again: %s", title, error)
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._n_refusals)
        self._n_refusals += 1
        self._next_try = now + pause_s
        limit_s = _REFUSED_LATER_S if self._has_submitted else _REFUSED_S
        is_missing = isinstance(error, FileNotFoundError) and not self._has_submitted
        if is_missing or now - self._refused_since > limit_s:
            self._break(error)

    async def _submit_once(self) -> None:
        name = f"{self._cluster.name}-{next(self._numbers)}"
        job = self._cluster.job_cls(
            self._dask.contact_address or self._dask.address,
            name=name,
            **self._cluster._job_kwargs,
        )
        for attribute, command in self._commands.items():
            setattr(job, attribute, command)
        # Known before it is submitted: a run that ends in this moment has to cancel it.
        tracked = self._jobs[name] = _Tracked(job, name, asyncio.ensure_future(job.start()))
        await asyncio.wait([tracked.start], timeout=_SUBMIT_S)
        if tracked.start.done() and tracked.start.exception() is None:
            return
        del self._jobs[name]
        if not tracked.start.done():
            self._late.append(tracked)
            raise TimeoutError(f"nothing was heard of it within {_SUBMIT_S:g} s")
        tracked.start.result()

    async def _cancel(self, tracked: _Tracked) -> None:
        with suppress(Exception):  # it is gone already, or the time limit of its job ends it
            await asyncio.wait([tracked.start], timeout=_COMMAND_S)
            await asyncio.wait_for(tracked.job.close(), _COMMAND_S)

    def _break(self, error: Exception) -> None:
        self._is_broken = True
        submit = self._commands.get("submit_command", self._system.submit_command)
        message = (
            f"no job could be submitted to {self._system.title} by {submit!r}: {error}; is this "
            f"machine allowed to submit, and do queue, memory and time limit fit the cluster?"
        )
        from amltk.executors.dask.calls import CallKeeper

        keeper = self._dask.plugins.get(CallKeeper.name)
        if keeper is not None:
            keeper.fail_all(ExecutorError(message))


@context
def in_jobs(options: Mapping[str, Any]) -> Iterator[str]:
    """Open a cluster of jobs of a batch system.

    Args:
        options: ``system``, ``n_workers``, ``adaptive``, ``commands``, and ``cluster``, the options
            of the class of dask-jobqueue.

    Yields:
        Where its scheduler is.
    """
    import dask_jobqueue

    system = SYSTEMS[options["system"]]
    cluster = getattr(dask_jobqueue, system.cluster)(**options["cluster"])
    try:
        keeper = JobKeeper(
            cluster,
            system,
            n_workers=options["n_workers"],
            adaptive=options["adaptive"],
            commands=options["commands"],
        )
        with _running(cluster.loop.asyncio_loop, keeper):
            yield cluster.scheduler.contact_address or cluster.scheduler_address
    finally:
        with suppress(AssertionError):  # of a cluster that is closed while it starts
            cluster.close()


@context
def _running(loop: asyncio.AbstractEventLoop, keeper: JobKeeper) -> Iterator[None]:
    """Have a keeper work in the loop of its cluster."""
    context = _in_loop(keeper)
    asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result()


@asynccontextmanager
async def _in_loop(keeper: JobKeeper) -> AsyncIterator[None]:
    from amltk.executors.dask.calls import CallKeeper

    plugin = CallKeeper(tell_end=keeper.tell_end, note_worker=keeper.note_worker)
    await keeper._dask.register_scheduler_plugin(plugin, idempotent=True)
    work = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        await keeper.close()
