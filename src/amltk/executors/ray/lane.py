"""Calls on Ray, those that wait here and those that Ray has; see `executor`."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from amltk._future import LightFuture
from amltk.exceptions import CallPicklingError, ExecutorError, WorkerDiedError
from amltk.executors.travel.envelope import name_of, unpack_outcome
from amltk.executors.travel.parcel import Held, Parcel, pack_parcel

P = ParamSpec("P")
R = TypeVar("R")

#: How much work is given to Ray ahead of its room for calls, in seconds.
AHEAD_S = 0.05

#: How many calls may be with Ray at once, however short they are and however little they need.
_MOST_WITH_RAY = 1000

#: How old the knowledge of the cluster's resources may be.
_RESOURCES_S = 5.0

#: Options of calls that say how much of a resource one needs, and the resource.
_NEEDS = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


class RayFuture(LightFuture[Any]):
    """The future of a call on Ray."""

    #: Ray's reference to the outcome, once the call was given to Ray.
    _ref: Any = None
    #: Whether it is being ended.
    _end_asked = False
    _holds_blobs = False

    def __init__(self, lane: Lane, parcel: Parcel, pace: Pace) -> None:
        self._lane = lane
        self._parcel = parcel
        self._pace = pace
        self._handed_at = 0.0

    def cancel(self) -> bool:
        """Cancel the call; if it is running, end its worker.

        Returns:
            ``True`` if it is cancelled, or will be as soon as its worker has ended; ``False`` if it
            is done.
        """
        return self.cancel_pending() or self._lane.end(self)

    def cancel_pending(self) -> bool:
        """Cancel the call only if it was not given to Ray.

        Returns:
            ``True`` if it is cancelled and will never run.
        """
        return self.cancelled() or self._lane.drop(self)


@dataclass(eq=False, slots=True)
class Pace:
    """How quick the calls of one function are.

    Attributes:
        mean_s: How long a call takes, from Ray and back; each new one counts a tenth. As long as
            none is known, no call is given ahead.
        n_with_ray: How many of them Ray has.
    """

    mean_s: float = 1.0
    n_with_ray: int = 0


class Owner(Protocol):
    """Whose lanes they are; what they share is there."""

    #: Ray, as it is imported.
    _ray: Any
    #: Guards what the lanes and their owner write.
    _lock: AbstractContextManager[Any]
    #: All calls that have not ended, of all lanes.
    _live: dict[RayFuture, None]
    #: Large arguments that Ray holds.
    _blobs: Held[Any]
    #: What each node of the cluster has.
    _nodes: list[Mapping[str, float]]
    #: Whether the cluster may get more than it has.
    _may_grow: bool

    def _require_open(self, name: str) -> None:
        """Raise if calls are not taken any more."""

    def _hand_back(self, lane: Lane, future: RayFuture, inner: Any) -> None:
        """Have a call taken that is done; called in Ray's thread."""


class Lane(Executor):
    """Calls with the same options, those that wait and those that Ray has.

    Args:
        owner: Whose calls these are.
        remote: Ray's remote function with the options.
        needs: What a call needs of each resource.
    """

    def __init__(self, owner: Owner, remote: Any, needs: Mapping[str, float]) -> None:
        self._owner = owner
        self._remote = remote
        self._needs = needs
        self._lock = owner._lock
        self._waiting: deque[RayFuture] = deque()
        self._n_with_ray = 0
        self._paces: weakref.WeakKeyDictionary[Any, Pace] = weakref.WeakKeyDictionary()
        #: When the last call ended.
        self._done_at = 0.0
        #: The paces of the calls that Ray has.
        self._active: set[Pace] = set()
        self._room = 0
        self._counted_at = float("-inf")

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RayFuture:
        """Hand a call to Ray; see ``RayExecutor.submit``."""
        owner, name = self._owner, name_of(fn)
        owner._require_open(name)
        try:
            future = RayFuture(self, pack_parcel(fn, args, kwargs), self._pace_of(fn))
            self._require_possible(name)
        except (CallPicklingError, ExecutorError) as error:
            future = RayFuture(self, Parcel(b""), Pace())
            future.set_exception(error)
            return future
        with self._lock:
            owner._live[future] = None
            self._waiting.append(future)
        self._advance()
        return future

    def drop(self, future: RayFuture) -> bool:
        """Cancel a call that waits here."""
        with self._lock:
            try:
                self._waiting.remove(future)
            except ValueError:
                return False
            self._owner._live.pop(future, None)
        future._set_cancelled()
        return True

    def end(self, future: RayFuture) -> bool:
        """End a call that Ray has."""
        with self._lock:
            if future not in self._owner._live:
                return False
            future._end_asked = True
            ref = future._ref
        if ref is not None:  # else whoever is handing it over sees to it
            self._owner._ray.cancel(ref, force=True, recursive=True)
        return True

    def _require_possible(self, name: str) -> None:
        nodes = self._owner._nodes
        if self._owner._may_grow or any(_fits(self._needs, node) for node in nodes):
            return
        wanted = ", ".join(f"{amount:g} {what}" for what, amount in self._needs.items())
        largest = [f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes]
        message = (
            f"{name} needs {wanted}, which no node of the Ray cluster has ({'; '.join(largest)}); "
            f"ask for less, or give may_grow=True if the cluster is going to get more"
        )
        raise ExecutorError(message)

    def _pace_of(self, fn: object) -> Pace:
        with self._lock:
            try:
                return self._paces.setdefault(fn, Pace())
            except TypeError:  # it cannot be kept in mind: none of its calls is given ahead
                return Pace()

    def _advance(self) -> None:
        """Give Ray what it has room for."""
        while True:
            with self._lock:
                if not self._waiting or self._n_with_ray >= self._window(self._waiting[0]._pace):
                    return
                future = self._waiting.popleft()
                self._n_with_ray += 1
                future._pace.n_with_ray += 1
                self._active.add(future._pace)
            self._hand_over(future)

    def _window(self, following: Pace) -> int:
        if self._owner._may_grow:
            return _MOST_WITH_RAY  # what Ray has to run is what a cluster grows by
        now = time.monotonic()
        if now - self._counted_at > _RESOURCES_S:
            self._counted_at = now
            nodes = self._owner._nodes
            self._room = sum(_count(self._needs, node) for node in nodes)
        # The slowest counts: behind it the others would wait with Ray.
        mean_s = max(pace.mean_s for pace in (following, *self._active))
        ahead = int(self._room * AHEAD_S / max(mean_s, 1e-6))
        return max(1, min(self._room + ahead, _MOST_WITH_RAY))

    def _hand_over(self, future: RayFuture) -> None:
        future._handed_at = time.monotonic()
        try:
            blobs = self._owner._blobs.take(future._parcel)
            future._holds_blobs = True
            ref = self._remote.remote(future._parcel.payload, *blobs)
            with self._lock:
                future._ref = ref
                end_asked = future._end_asked
            if end_asked:
                self._owner._ray.cancel(ref, force=True, recursive=True)
            # A future of Ray's, whose own `cancel` would leave the task running.
            inner = ref.future()
        except Exception as error:
            self._complete(future, None, error)
        else:
            inner.add_done_callback(partial(self._returned, future))

    def _returned(self, future: RayFuture, inner: Any) -> None:
        """Hand over a call that is done; called in Ray's thread."""
        self._owner._hand_back(self, future, inner)

    def take(self, future: RayFuture, inner: Any) -> None:
        """Complete a call, and give Ray the next ones."""
        error = inner.exception()
        try:
            self._complete(future, None if error else inner.result(), error)
        finally:
            self._advance()

    def _complete(
        self, future: RayFuture, outcome: bytes | None, error: BaseException | None
    ) -> None:
        with self._lock:
            self._note_pace(future)
            is_late = self._owner._live.pop(future, future) is future
        if future._holds_blobs:
            self._owner._blobs.release(future._parcel)
        future._parcel, future._ref = Parcel(b""), None
        if is_late:
            return  # told as lost, with all of Ray
        if future._end_asked:
            future._set_cancelled()
        elif outcome is not None:
            returned, value = unpack_outcome(outcome)
            (future.set_result if returned else future.set_exception)(value)
        elif error is not None:
            self._fail(future, error)

    def _note_pace(self, future: RayFuture) -> None:
        pace, now = future._pace, time.monotonic()
        # Calls that were given ahead have waited for others, so their own time is that since the
        # last one ended, on as many workers as were busy.
        own_s = now - max(future._handed_at, self._done_at)
        own_s *= max(1, min(self._room, self._n_with_ray))
        pace.mean_s += (own_s - pace.mean_s) / 10
        self._done_at = now
        self._n_with_ray -= 1
        pace.n_with_ray -= 1
        if not pace.n_with_ray:
            self._active.discard(pace)

    def _fail(self, future: RayFuture, error: BaseException) -> None:
        exceptions = self._owner._ray.exceptions
        if isinstance(error, exceptions.TaskCancelledError):
            future._set_cancelled()  # by somebody else, such as Ray's own command line
        else:
            future.set_exception(_translated(exceptions, error))


def needs_of(options: Mapping[str, Any]) -> dict[str, float]:
    """Return how much of each of a node's resources a call with these options takes."""
    needs = {what: options[name] for name, what in _NEEDS.items() if options.get(name)}
    needs.update(options.get("resources") or {})
    if options.get("num_cpus") is None:
        needs["CPU"] = 1  # Ray's own default
    return needs


def _fits(needs: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(node.get(what, 0) >= amount for what, amount in needs.items())


def _count(needs: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Tell for how many calls a node has room."""
    rooms = [node.get(what, 0) / amount for what, amount in needs.items() if amount]
    return int(min([*rooms, _MOST_WITH_RAY]))


def _translated(exceptions: Any, error: BaseException) -> BaseException:
    """Turn an error of Ray into ours; calls' own errors come as outcomes."""
    died = (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
        exceptions.ObjectLostError,
        exceptions.RayActorError,
    )
    first_line = str(error).strip().split("\n", maxsplit=1)[0]
    translated: BaseException
    if isinstance(error, died):
        message = f"the Ray worker of this call is gone ({type(error).__name__}): {first_line}"
        translated = WorkerDiedError(message, pid=None, exit_code=None, signal_name=None)
    else:
        message = f"Ray gave the call up ({type(error).__name__}): {first_line}"
        translated = ExecutorError(message)
    translated.__cause__ = error
    return translated
