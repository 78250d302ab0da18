"""Dask as an engine; extra: ``dask``.

::

    submit ──▶ _waiting ──┐ once a turn of the client's loop: all of them as one graph
                          ▼
    Dask's client ──▶ Dask's scheduler: queue ──▶ worker: run_call
                          │  CallKeeper knows what has started, and that nothing starts twice
                          ▼
    _returned, _lost ◀── outcomes, as soon as they are there; then Dask forgets the call

No result stays on a worker: one that dies takes no finished call along, and a cluster that adapts
can let go of idle workers. What a worker's death means for a call is decided where it is known, in
Dask's scheduler; see `calls.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from amltk._future import LightFuture
from amltk.exceptions import (
    CallPicklingError,
    ExecutorError,
    InvalidOptionError,
    WouldDeadlockError,
)
from amltk.executors.dask.session import has_lone_workers, install_keeper, no_size_warning
from amltk.executors.termination import end_processes
from amltk.executors.traits import Traits
from amltk.executors.travel.envelope import name_of, unpack_outcome
from amltk.executors.travel.parcel import Held, Parcel, pack_parcel

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between TERM and KILL for a worker whose running call is cancelled.
GRACE_S = 2.0

#: How often it is looked whether Dask gave a call up without telling.
_LOOK_S = 0.5

#: What ``Task.options`` may say of single calls.
CALL_OPTIONS = frozenset({"priority", "resources"})


class DaskFuture(LightFuture[Any]):
    """The future of a call on Dask."""

    def __init__(self, executor: DaskExecutor, key: str, parcel: Parcel) -> None:
        self._executor = executor
        self._key = key
        self._parcel = parcel
        #: Dask's own future, held until the call has ended: without it Dask would drop the call.
        self._dask: Any = None
        self._holds_blobs = False

    def cancel(self) -> bool:
        """Cancel the call; if it is running, end its worker where that costs no other call.

        Returns:
            ``True`` if it will not run, or not any further.

        Raises:
            WouldDeadlockError: In a callback of a future, which runs in Dask's own thread.
        """
        return self.cancelled() or self._executor._cancel(self)

    def cancel_pending(self) -> bool:
        """Ask for the call to be cancelled if it has not started.

        Many are asked for at once, so the answer comes later: the future is cancelled then.

        Returns:
            ``True`` if it is cancelled already.
        """
        return self.cancelled() or self._executor._cancel_soon(self)


class DaskExecutor(Executor):
    """Runs calls on a Dask cluster through a client of it.

    Args:
        client: The client, which is not an asynchronous one.
        close: Called last when the executor is shut down; nothing by default, so that the client
            stays open.
        ends_running_calls: Whether workers are such that ending one costs a single call: one
            thread each, under a nanny. Asked of the workers there are by default.

    Raises:
        InvalidOptionError: When the client is an asynchronous one.
        ExecutorError: When the cluster cannot be told how calls are kept.
    """

    def __init__(
        self,
        client: Any,
        *,
        close: Callable[[], object] | None = None,
        ends_running_calls: bool | None = None,
    ) -> None:
        from amltk.executors.dask.calls import lost_op, outcome_op

        if client.asynchronous:
            message = f"{client!r} cannot be used, since it is asynchronous; give one that is not"
            raise InvalidOptionError(message, option="client", value=client)
        self._client = client
        self._close = close
        self._loop = client.loop.asyncio_loop
        self._ids = itertools.count()
        self._id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._waiting: deque[tuple[DaskFuture, str, Mapping[str, Any]]] = deque()
        self._live: dict[str, DaskFuture] = {}
        self._sweep: list[DaskFuture] = []
        self._is_shut_down = False
        self._blobs: Held[Any] = Held(self._put_blob, lambda blob: blob.release())
        self._looks_after = False
        install_keeper(client)
        client._stream_handlers[outcome_op(self._id)] = self._returned
        client._stream_handlers[lost_op(self._id)] = self._lost
        if ends_running_calls is None:
            ends_running_calls = has_lone_workers(client)
        self.traits: Traits = Traits(
            packs_itself=True, shares_machine=None, ends_running_calls=ends_running_calls
        )

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> DaskFuture:
        """Hand a call to Dask.

        Args:
            fn: What to call. A ``PortableFunction`` is pickled only once.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The call's future. If the call cannot be pickled, the future has failed already.

        Raises:
            ExecutorError: When the executor is shut down or the client is closed.
        """
        return self._submit({}, fn, args, kwargs)

    def with_options(self, **options: Any) -> Executor:
        """Return this executor as it takes calls with options.

        Args:
            **options: ``priority``, a number, the higher the sooner; ``resources``, what a worker
                must have been started with, such as ``{"GPU": 1}``.

        Raises:
            InvalidOptionError: When Dask takes no such option.
        """
        for option, value in options.items():
            if option not in CALL_OPTIONS:
                known = ", ".join(sorted(CALL_OPTIONS))
                message = f"Dask takes no option {option}={value!r} of a call, but {known}"
                raise InvalidOptionError(message, option=option, value=value)
        return _View(self, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's signature
        """Take no more calls, and let go of the cluster.

        Args:
            wait: Whether live calls are waited for. In a callback of a future nothing is: it runs
                in the thread that completes them.
            cancel_futures: Whether calls that have not started are cancelled.
        """
        with self._lock:
            is_first, self._is_shut_down = not self._is_shut_down, True
            live = list(self._live.values())
        if cancel_futures:
            for future in live:
                future.cancel_pending()
        is_inside = self._is_in_loop()
        if wait and not is_inside:
            wait_for(live)
        if is_first and (is_inside or any(not future.done() for future in live)):
            thread = threading.Thread(
                target=self._finish_later, args=(live,), name="amltk-dask-shutdown", daemon=True
            )
            thread.start()
        elif is_first:
            self._finish()

    # ---------------------------------------------------------------------- from any thread

    def _submit(
        self,
        options: Mapping[str, Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> DaskFuture:
        from amltk.executors.dask.calls import key_of

        name = name_of(fn)
        key = key_of(_plain(name), self._id, next(self._ids))
        try:
            parcel = pack_parcel(fn, args, kwargs)
        except CallPicklingError as error:
            failed = DaskFuture(self, key, Parcel(b""))
            failed.set_exception(error)
            return failed
        future = DaskFuture(self, key, parcel)
        with self._lock:
            self._require_open(name)
            self._live[key] = future
            is_first = not self._waiting
            self._waiting.append((future, name, options))
        if is_first:
            self._loop.call_soon_threadsafe(self._flush)
        return future

    def _require_open(self, name: str) -> None:
        if self._is_shut_down:
            message = f"{name} could not be submitted: this DaskExecutor is shut down"
            raise ExecutorError(message)
        if self._client.status not in ("running", "connecting"):
            message = (
                f"{name} could not be submitted: the Dask client is {self._client.status}; make a "
                f"new executor with a client that is connected"
            )
            raise ExecutorError(message)

    def _cancel(self, future: DaskFuture) -> bool:
        if self._drop_waiting(future):
            return True
        if future.done():
            return future.cancelled()
        if self._is_in_loop():
            message = (
                "whether a call can be cancelled is for Dask's scheduler to say, which cannot be "
                "waited for in a callback of a future, since that runs in the thread that hears of "
                "it; call cancel() in another thread, or cancel_pending() here"
            )
            raise WouldDeadlockError(message)
        try:
            answer = self._client.sync(self._ask_to_end, future)
        except OSError:  # the connection is lost: the call is told so, as an error
            return future.cancelled()
        for _, address, pid in answer["to_end"]:
            self._end_worker(address, pid)
            self._forget(future, cancelled=True)
        return future.cancelled()

    def _is_in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _end_worker(self, address: str, pid: int) -> None:
        try:
            self._client.run(
                end_processes, [pid], GRACE_S, workers=[address], nanny=True, on_error="raise"
            )
        except Exception:
            if address in self._client.scheduler_info(n_workers=-1)["workers"]:
                raise

    def _cancel_soon(self, future: DaskFuture) -> bool:
        if self._drop_waiting(future):
            return True
        with self._lock:
            is_first = not self._sweep
            self._sweep.append(future)
        if is_first:
            with suppress(RuntimeError):  # the loop is closed: all futures have ended
                self._loop.call_soon_threadsafe(self._start_sweep)
        return False

    def _drop_waiting(self, future: DaskFuture) -> bool:
        with self._lock:
            for waiting in self._waiting:
                if waiting[0] is future:
                    self._waiting.remove(waiting)
                    break
            else:
                return False
        self._forget(future, cancelled=True)
        return True

    def _forget(self, future: DaskFuture, *, cancelled: bool = False) -> bool:
        """Take a call off the books; ``False`` if somebody else did."""
        with self._lock:
            if self._live.pop(future._key, None) is None:
                return False
        if future._holds_blobs:
            self._blobs.release(future._parcel)
        # The payload is not needed any more, and with its last future Dask forgets the call.
        future._parcel, future._dask = Parcel(b""), None
        if cancelled:
            future._set_cancelled()
        return True

    def _finish(self) -> None:
        """Close what is ours, once the last call has ended."""
        from amltk.executors.dask.calls import lost_op, outcome_op

        self._blobs.clear()
        for op in (outcome_op(self._id), lost_op(self._id)):
            self._client._stream_handlers.pop(op, None)
        if self._close is not None:
            self._close()

    def _finish_later(self, live: list[DaskFuture]) -> None:
        wait_for(live)
        self._finish()

    # ------------------------------------------------------------------- in the client's loop

    def _flush(self) -> None:
        """Submit all that came in, as one graph where that is possible."""
        from amltk.executors.dask.calls import run_call

        with self._lock:
            calls, self._waiting = list(self._waiting), deque()
        plain = [call for call in calls if not call[2] and not call[0]._parcel.blobs]
        special = [call for call in calls if call[2] or call[0]._parcel.blobs]
        if plain:
            futures = [future for future, _, _ in plain]
            keys = [future._key for future in futures]
            payloads = [future._parcel.payload for future in futures]
            submit = partial(self._client.map, run_call, keys, payloads, key=keys, pure=False)
            self._submit_to_dask(futures, submit)
        for future, _, options in special:
            self._submit_to_dask([future], partial(self._submit_one, future, options))

    def _submit_one(self, future: DaskFuture, options: Mapping[str, Any]) -> list[Any]:
        from amltk.executors.dask.calls import run_call

        key, parcel = future._key, future._parcel
        blobs = self._blobs.take(parcel)
        future._holds_blobs = True
        submitted = self._client.submit(
            run_call, key, parcel.payload, *blobs, key=key, pure=False, **options
        )
        return [submitted]

    def _submit_to_dask(self, futures: list[DaskFuture], submit: Callable[[], list[Any]]) -> None:
        try:
            with no_size_warning():
                dask_futures = submit()
        except Exception as error:
            for future in futures:
                self._fail(future, _given_up(error))
            return
        for future, dask_future in zip(futures, dask_futures, strict=True):
            future._dask = dask_future
        if not self._looks_after:
            self._looks_after = True
            self._looking = self._loop.create_task(self._look_after())

    def _returned(self, key: str, payload: bytes) -> None:
        """Complete a call; called when Dask's scheduler sends an outcome."""
        future = self._live.get(key)
        if future is not None and self._forget(future):
            returned, value = unpack_outcome(payload)
            (future.set_result if returned else future.set_exception)(value)

    def _lost(self, key: str, payload: bytes) -> None:
        """Complete a call whose worker is gone; called when Dask's scheduler tells so."""
        future = self._live.get(key)
        if future is not None:
            self._fail(future, pickle.loads(payload))

    def _fail(self, future: DaskFuture, error: BaseException) -> None:
        if self._forget(future):
            future.set_exception(error)

    async def _look_after(self) -> None:
        """Find calls that Dask gave up for reasons of its own, such as a lost connection."""
        while self._live:
            await asyncio.sleep(_LOOK_S)
            for future in list(self._live.values()):
                dask_future = future._dask
                if dask_future is None:
                    continue
                if dask_future.status == "error":
                    self._fail(future, _given_up(await dask_future.exception()))
                elif dask_future.status in ("cancelled", "lost"):
                    self._fail(future, _given_up(f"its state is {dask_future.status!r} there"))
        self._looks_after = False

    def _put_blob(self, digest: str, blob: bytes) -> Any:
        # A task and no scattered data: what its worker takes along, Dask makes again.
        return self._client.submit(_same, blob, key=f"amltk-blob-{self._id}-{digest}", pure=False)

    def _start_sweep(self) -> None:
        self._loop.create_task(self._cancel_swept())

    async def _cancel_swept(self) -> None:
        with self._lock:
            futures, self._sweep = self._sweep, []
        with suppress(OSError):  # the connection is lost: the calls are told so
            await self._ask_to_cancel([future._key for future in futures], end_running=False)

    async def _ask_to_end(self, future: DaskFuture) -> Any:
        """Ask for one call, and give up when the connection is lost, which Dask tries for long."""
        asking = asyncio.ensure_future(self._ask_to_cancel([future._key], end_running=True))
        while not asking.done():
            if self._client.status != "running":
                asking.cancel()
                message = "the connection to Dask's scheduler is lost"
                raise ConnectionError(message)
            await asyncio.wait([asking], timeout=_LOOK_S)
        return asking.result()

    async def _ask_to_cancel(self, keys: list[str], *, end_running: bool) -> Any:
        """Have calls cancelled that have not started, and complete their futures."""
        from amltk.executors.dask.calls import CANCEL

        ask = getattr(self._client.scheduler, CANCEL)
        answer = await ask(client=self._client.id, keys=keys, end_running=end_running)
        for key in answer["cancelled"]:
            future = self._live.get(key)
            if future is not None:
                self._forget(future, cancelled=True)
        return answer


def of_client(executor: Any) -> DaskExecutor:
    """Return an executor over the client of a ``ClientExecutor`` of Dask's.

    That one's futures stay "pending" until they are done, and cancelling one does not stop the call. Both
    executor and client stay open.

    Args:
        executor: What ``client.get_executor()`` returned.
    """
    return DaskExecutor(executor._client)


class _View(Executor):
    """A Dask executor as it takes calls with options."""

    def __init__(self, executor: DaskExecutor, options: Mapping[str, Any]) -> None:
        self._executor = executor
        self._options = options

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Hand a call with these options to Dask."""
        return self._executor._submit(self._options, fn, args, kwargs)


def _given_up(why: object) -> ExecutorError:
    """Make the error of a call that Dask gave up; calls' own errors come as outcomes."""
    told = f"{type(why).__qualname__}: {why}" if isinstance(why, BaseException) else why
    message = (
        f"Dask gave the call up, as it does when the connection to its scheduler is lost: {told}"
    )
    error = ExecutorError(message)
    error.__cause__ = why if isinstance(why, BaseException) else None
    return error


def _plain(name: str) -> str:
    """Make a part of a key that Dask's dashboard shows as it is."""
    return "".join(c if c.isalnum() else "_" for c in name)[:60] or "call"


def _same(blob: bytes) -> bytes:
    return blob
