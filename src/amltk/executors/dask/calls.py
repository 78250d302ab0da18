"""What runs inside Dask's own processes: calls in workers, and who keeps them in its scheduler.

::

    scheduler   queued ──▶ processing ──────────────────────────────▶ memory: outcome told
                  │            │   ▲ outcome, ahead of "finished"
    worker        │            │   └── run_call
                  │            └── the worker is gone, or closed ──▶ lost: told, never run again
                  └─ cancelled: it will never run

Dask gives a call to a worker only when the worker is free for it, since all calls are marked as
root tasks here; those wait in the scheduler's queue. So a call that is queued has not started, and
one that was given to a worker counts as started. All of this happens in the one thread of Dask's
scheduler, so that what is said of a call stays true.

Outcomes go to the driver through the scheduler and are not kept by workers. One is on its way
before its worker gets the next call, so a death takes none along.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from dask._task_spec import Task
from distributed import get_worker
from distributed.comm.core import CommClosedError
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.serialize import Serialize

from amltk.exceptions import WorkerDiedError
from amltk.executors.travel.parcel import run_parcel

#: All keys of calls begin with it, and no others do.
CALL_PREFIX = "amltk-call-"

#: The name of the scheduler's handler that cancels calls.
CANCEL = "amltk_cancel"

#: States in which Dask has not given a call to a worker.
_NOT_STARTED = frozenset({"released", "waiting", "queued", "no-worker"})

#: A worker tells the scheduler the outcome of a call.
_OUTCOME = "amltk-outcome"


def key_of(name: str, executor_id: str, number: int) -> str:
    """Return the key of a call; Dask's dashboard shows the part before the id."""
    return f"{CALL_PREFIX}{name}-{executor_id}-{number}"


def outcome_op(executor_id: str) -> str:
    """Return what messages with outcomes are called that an executor is sent."""
    return f"{_OUTCOME}-{executor_id}"


def lost_op(executor_id: str) -> str:
    """Return what messages about lost calls are called that an executor is sent."""
    return f"amltk-lost-{executor_id}"


def run_call(key: str, payload: bytes, *blobs: bytes) -> None:
    """Run a packed call in a worker, and send its outcome on its way."""
    outcome = run_parcel(payload, *blobs)
    worker = get_worker()
    message = {"op": _OUTCOME, "key": key, "payload": Serialize(outcome)}  # type: ignore[no-untyped-call] # Dask's
    # The worker's own "finished" comes by the same loop and the same stream, after this.
    worker.loop.add_callback(_send, worker.batched_stream, message)


def _send(stream: Any, message: dict[str, Any]) -> None:
    with suppress(CommClosedError):  # the worker is being closed: the call is told as lost
        stream.send(message)


def lost_error(*, address: str, pid: int, name: object, finished: bool) -> WorkerDiedError:
    """Make the error of a call whose worker is gone."""
    what = (
        "had finished this call, but its result was lost" if finished else "was running this call"
    )
    message = (
        f"the Dask worker {name} at {address} (pid {pid}) {what} when it died or was closed; the "
        f"call is not run again"
    )
    return WorkerDiedError(
        message, pid=pid, exit_code=None, signal_name=None, address=address, worker=name
    )


def _raise_lost(payload: bytes) -> None:
    raise pickle.loads(payload)


def _do_nothing() -> None:
    """Stand in for a call whose outcome was told."""


class CallKeeper(SchedulerPlugin):
    """Keeps each call from starting twice, and cancels calls truthfully.

    Args:
        tell_end: Tells, for the name of a worker that is gone, what is known of its end.
        note_worker: Is told the name of each worker that comes.
    """

    name = "amltk-calls"
    idempotent = True

    def __init__(
        self,
        tell_end: Callable[[object], Awaitable[str]] | None = None,
        note_worker: Callable[[object], None] | None = None,
    ) -> None:
        self._tell_end = tell_end
        self._note_worker = note_worker
        #: Why no call can run any more, if so.
        self._broken: bytes | None = None

    async def start(self, scheduler: Any) -> None:
        """Take up work; called by Dask."""
        self._scheduler = scheduler
        #: Which worker had each call that was given to one.
        self._given: dict[str, tuple[str, int, object]] = {}
        #: Calls that were taken back from a worker, with their errors.
        self._lost: dict[str, WorkerDiedError] = {}
        #: Outcomes of calls that Dask has not noted as finished yet.
        self._outcomes: dict[str, Any] = {}
        scheduler.handlers[CANCEL] = self.cancel
        scheduler.stream_handlers[_OUTCOME] = self.take_outcome

    def take_outcome(self, key: str, payload: Any, **_more: Any) -> None:
        """Take the outcome of a call; called when a worker sends one."""
        if key in self._given:
            self._outcomes[key] = payload

    def update_graph(self, scheduler: Any, *, tasks: Iterable[Any], **_more: Any) -> None:
        """Have calls wait in the scheduler until a worker is free; called by Dask."""
        calls = [key for key in tasks if _is_call(key)]
        for key in calls:
            run_spec = scheduler.tasks[key].run_spec
            if run_spec is not None:
                run_spec._data_producer = True
        if self._broken is not None:
            # After Dask has taken them in.
            asyncio.get_running_loop().call_soon(self._fail, calls, self._broken)

    def fail_all(self, error: BaseException) -> None:
        """Fail all calls that have not started, and all that are to come."""
        self._broken = pickle.dumps(error)
        tasks = self._scheduler.tasks.values()
        waiting = [task.key for task in tasks if _is_call(task.key) and task.state in _NOT_STARTED]
        self._fail(waiting, self._broken)

    def _fail(self, keys: Iterable[str], payload: bytes) -> None:
        for key in keys:
            self._report(self._release(key), key, lost_op, payload)

    def _release(self, key: str) -> list[str]:
        """Have Dask forget a call; return who wanted it."""
        clients = self._clients_of(key)
        for client in clients:
            self._scheduler.client_releases_keys(keys=[key], client=client)
        return clients

    def transition(self, key: Any, start: str, finish: str, *_args: Any, **_more: Any) -> None:
        """Follow a call; called by Dask after each change of its state."""
        if not _is_call(key):
            return
        if finish == "processing":
            worker = self._scheduler.tasks[key].processing_on
            self._given[key] = (worker.address, worker.pid, worker.name)
        elif finish == "forgotten":
            for book in (self._given, self._lost, self._outcomes):
                book.pop(key, None)
        elif key in self._given and finish in ("memory", "released", "waiting", "erred"):
            if key in self._outcomes:
                self._report(self._clients_of(key), key, outcome_op, self._outcomes.pop(key))
                del self._given[key]
                self._keep_from_running(key, finish)
            elif finish in ("released", "waiting"):
                self._give_up(key, finished=start == "memory")
        elif start == "memory":
            self._keep_from_running(key, finish)

    def _keep_from_running(self, key: str, finish: str) -> None:
        """See to it that a call whose outcome was told is not run again by Dask.

        It would be if its worker is gone before it tells of the end, or before the client has let
        go of the call: Dask then misses the nothing that the call has left there.
        """
        if finish in ("released", "waiting"):
            self._scheduler.tasks[key].run_spec = Task(key, _do_nothing)

    def _give_up(self, key: str, *, finished: bool) -> None:
        address, pid, name = self._given.pop(key)
        error = lost_error(address=address, pid=pid, name=name, finished=finished)
        self._lost[key] = error
        payload = pickle.dumps(error)
        # Dask is about to give it to another worker: then this is what runs there.
        self._scheduler.tasks[key].run_spec = Task(key, _raise_lost, payload)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Tell of a new worker; called by Dask."""
        if self._note_worker is not None:
            self._note_worker(scheduler.workers[worker].name)

    def remove_worker(
        self,
        scheduler: Any,  # noqa: ARG002 - Dask's signature
        worker: str,  # noqa: ARG002 - Dask's signature
        **_more: Any,
    ) -> Awaitable[None] | None:
        """Tell of lost calls; called by Dask."""
        lost, self._lost = self._lost, {}
        # At once, before the cause is asked for: else another worker would get to tell of the loss,
        # and would do so without the cause.
        clients = {key: self._release(key) for key in lost}
        return self._tell_lost(lost, clients) if lost else None

    async def _tell_lost(
        self, lost: Mapping[str, WorkerDiedError], clients: Mapping[str, list[str]]
    ) -> None:
        for key, error in lost.items():
            payload = pickle.dumps(await self._cause(error))
            self._report(clients[key], key, lost_op, payload)

    async def _cause(self, error: WorkerDiedError) -> WorkerDiedError:
        """Add what is known of the worker's end."""
        told = ""
        if self._tell_end is not None:
            told = await self._tell_end(error.__dict__["worker"])
        if not told:
            return error
        return WorkerDiedError(f"{error} ({told})", **{**error.__dict__, "job": told})

    def _clients_of(self, key: str) -> list[str]:
        task = self._scheduler.tasks.get(key)
        return [] if task is None else [client.client_key for client in task.who_wants or ()]

    def _report(
        self, clients: Iterable[str], key: str, op: Callable[[str], str], payload: Any
    ) -> None:
        message = {"op": op(key.rsplit("-", 2)[1]), "key": key, "payload": payload}
        for client in clients:
            self._scheduler.report(message, client=client)

    async def cancel(
        self,
        client: str,
        keys: Iterable[str],
        end_running: bool = False,  # noqa: FBT001, FBT002 - called by name, over the wire
    ) -> dict[str, list[Any]]:
        """Cancel calls that have not started; called by our client.

        Args:
            client: The client's id.
            keys: The keys of the calls.
            end_running: Whether calls that run are given up as well, where their worker runs
                nothing else and is going to be replaced when it is ended.

        Returns:
            ``"cancelled"``: keys that will never run. ``"to_end"``: keys, addresses and process
            ids of workers that are to be ended now; their calls are given up already.
        """
        scheduler = self._scheduler
        cancelled: list[str] = []
        to_end: list[tuple[str, str, int]] = []
        for key in keys:
            task = scheduler.tasks.get(key)
            if task is None:
                continue
            if task.state in _NOT_STARTED:
                cancelled.append(key)
            elif end_running and task.state == "processing" and _is_alone(task):
                worker = task.processing_on
                to_end.append((key, worker.address, worker.pid))
                # It must not get another call in the moment before it is ended.
                scheduler.handle_worker_status_change(
                    "closing_gracefully", worker, stimulus_id=f"amltk-end-{key}"
                )
        gone = [*cancelled, *(key for key, _, _ in to_end)]
        for key in gone:
            self._given.pop(key, None)
        if gone:
            scheduler.client_releases_keys(keys=gone, client=client)
        return {"cancelled": cancelled, "to_end": [list(one) for one in to_end]}


def _is_call(key: object) -> bool:
    return isinstance(key, str) and key.startswith(CALL_PREFIX)


def _is_alone(task: Any) -> bool:
    worker = task.processing_on
    return bool(worker.nanny) and worker.nthreads == 1 and len(worker.processing) == 1
