"""Ray as an engine; extra: ``ray``.

::

    submit ──▶ _Lane: waits here, where it can be cancelled ──▶ Ray ──▶ worker: run_parcel
                 ▲ as many as Ray has room for, and 50 ms of work ahead    │
                 └──────────── _returned ◀── the outcome's bytes ──────────┘

Ray does not tell a call that waits from one that runs, so calls wait here, one lane for each set of
options, and Ray gets what it has room for. What was given to Ray counts as started. For calls that
take milliseconds a few more are given ahead, as many as are done within `AHEAD_S`, since each way
to Ray and back costs a few milliseconds.
"""

from __future__ import annotations

import importlib
import os
import queue
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, InvalidStateError
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from amltk._future import LightFuture
from amltk._optional import require
from amltk.exceptions import CallPicklingError, ExecutorError, InvalidOptionError, WorkerDiedError
from amltk.executors._parcel import Held, Parcel, pack_parcel, run_parcel
from amltk.executors._signals import kept_handler
from amltk.executors.envelope import name_of, unpack_outcome
from amltk.executors.traits import Traits

P = ParamSpec("P")
R = TypeVar("R")

#: How much work is given to Ray ahead of its room for calls, in seconds.
AHEAD_S = 0.05

#: How many calls may be with Ray at once, however short they are and however little they need.
_MOST_WITH_RAY = 1000

#: How old the knowledge of the cluster's resources may be.
_RESOURCES_S = 5.0

#: How often it is looked whether Ray is still there.
_WATCH_S = 1.0

#: How long Ray may take to say which nodes it has, until its calls are given up.
_ANSWER_S = 20.0

#: How long the calls that are being ended may take at a shutdown.
_END_S = 15.0

#: Ray's one switch for listening on loopback only, meant for other systems.
_CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

#: What a Ray that is started here gets, unless the environment says something else: it listens on
#: loopback only, and reports nothing.
_PRIVATE = {_CLUSTER_SWITCH: "0", "RAY_USAGE_STATS_ENABLED": "0"}

#: What Ray itself sets when it starts: that the new cluster asks for a token.
_SET_BY_RAY = "RAY_AUTH_MODE"

#: Options of ``ray.init`` that size a Ray that is started.
_SIZES = ("num_cpus", "num_gpus", "_memory")

#: Options of calls that say how much of a resource one needs, and the resource.
_NEEDS = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


class RayFuture(LightFuture[Any]):
    """The future of a call on Ray."""

    #: Ray's reference to the outcome, once the call was given to Ray.
    _ref: Any = None
    #: Whether it is being ended.
    _end_asked = False
    _holds_blobs = False

    def __init__(self, lane: _Lane, parcel: Parcel) -> None:
        self._lane = lane
        self._parcel = parcel
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


class RayExecutor(Executor):
    """Runs calls as tasks of Ray.

    If this program has a Ray already, that one is used and left alone. Otherwise one is started on
    this machine, or that at the address is attached to, and left when the executor is shut down.

    Args:
        address: Where a Ray cluster is.
        call_options: Options of all calls, as of ``ray.remote``; ``max_retries`` is 0 by default,
            so that no call runs twice.
        may_grow: Whether the cluster may get more than it has: calls that need more than there is
            then wait for it instead of failing.
        **init_options: Of ``ray.init``.

    Raises:
        InvalidOptionError: When an option makes no sense.
        ExecutorError: When Ray could not be started or reached.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        call_options: Mapping[str, Any] | None = None,
        may_grow: bool = False,
        **init_options: Any,
    ) -> None:
        self._ray, self._leave = _connect(address, init_options)
        self.traits: Traits = Traits(
            packs_itself=True, shares_machine=False, ends_running_calls=True
        )
        self._may_grow = may_grow
        self._lock = threading.RLock()
        self._is_shut_down = False
        self._live: dict[RayFuture, None] = {}
        #: What each node of the cluster has.
        self._nodes: list[Mapping[str, float]] = []
        self._blobs: Held[Any] = Held(lambda _digest, blob: self._ray.put(blob))
        self._call_options = {"max_retries": 0, **(call_options or {})}
        self._lanes: dict[str, _Lane] = {}
        self._lane = self._lane_of({})
        self._is_finished = threading.Event()
        self._done: queue.SimpleQueue[tuple[_Lane, RayFuture, Any] | None] = queue.SimpleQueue()
        fault = self._ask_nodes()
        if fault is not None:
            self._leave()
            raise ExecutorError(f"no calls can be given to Ray: the cluster {fault}")
        threading.Thread(target=self._take_done, name="amltk-ray-done", daemon=True).start()
        threading.Thread(target=self._watch_nodes, name="amltk-ray-watch", daemon=True).start()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RayFuture:
        """Hand a call to Ray.

        Args:
            fn: What to call. A ``PortableFunction`` is pickled only once.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The call's future. If the call cannot be pickled, or the cluster cannot have what it
            needs, the future has failed already.

        Raises:
            ExecutorError: When the executor is shut down, or Ray is.
        """
        return self._lane.submit(fn, *args, **kwargs)

    def with_options(self, **options: Any) -> Executor:
        """Return this executor as it takes calls with options.

        Args:
            **options: As of ``ray.remote``, such as ``num_cpus``, ``num_gpus``, ``memory``,
                ``resources``, ``runtime_env`` or ``max_retries``.

        Raises:
            InvalidOptionError: When Ray takes no such option, or not with this value.
        """
        return self._lane_of(options)

    def put(self, value: Any) -> Any:
        """Put a value where all workers find it, and return Ray's reference to it.

        Large arguments are put once by themselves; this is for values inside of others.
        """
        return self._ray.put(value)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's signature
        """Take no more calls, and leave Ray when the last one has ended.

        Args:
            wait: Whether live calls are waited for.
            cancel_futures: Whether calls that were not given to Ray are cancelled.
        """
        with self._lock:
            is_first, self._is_shut_down = not self._is_shut_down, True
            live = list(self._live)
        if cancel_futures:
            for future in live:
                future.cancel_pending()
        if wait:
            wait_for(live)
        if is_first and (wait or all(future.done() for future in live)):
            self._finish()
        elif is_first:
            finish = partial(self._finish_later, live)
            threading.Thread(target=finish, name="amltk-ray-shutdown", daemon=True).start()

    def _watch_nodes(self) -> None:
        while not self._is_finished.wait(_WATCH_S):
            fault = self._ask_nodes()
            if fault is not None and self._live:
                self._lose_all(fault)

    def _ask_nodes(self) -> str | None:
        """Learn what each node has; return what is wrong, if no node is left.

        Ray leaves those calls pending that its own nodes had. Where its control service is gone,
        asking takes a minute, after which Ray ends the program: so a thread is sent.
        """
        answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put([node["Resources"] for node in self._ray.nodes() if node["Alive"]])
            except Exception as error:  # told by whoever waits for the answer
                answers.put(error)

        threading.Thread(target=ask, name="amltk-ray-nodes", daemon=True).start()
        try:
            answer = answers.get(timeout=_ANSWER_S)
        except queue.Empty:
            return "does not answer"
        if isinstance(answer, Exception):
            return f"does not answer: {answer}"
        self._nodes = answer or self._nodes
        return None if answer else "has no node any more"

    def _lose_all(self, fault: str) -> None:
        message = f"the call is lost, since the Ray cluster {fault}"
        with self._lock:
            live, self._live = list(self._live), {}
        for future in live:
            with suppress(InvalidStateError):  # it was quicker
                future.set_exception(
                    WorkerDiedError(message, pid=None, exit_code=None, signal_name=None)
                )

    def _finish_later(self, live: list[RayFuture]) -> None:
        wait_for(live)
        self._finish()

    def _finish(self) -> None:
        self._is_finished.set()
        self._done.put(None)
        self._blobs.clear()
        self._leave()

    def _take_done(self) -> None:
        """Complete calls in a thread of our own, so that Ray's is free for what comes next."""
        while (done := self._done.get()) is not None:
            lane, future, inner = done
            lane.take(future, inner)

    def _lane_of(self, options: Mapping[str, Any]) -> _Lane:
        with self._lock:
            key = repr(sorted(options.items(), key=lambda item: item[0]))
            if key not in self._lanes:
                merged = {**self._call_options, **options}
                try:
                    remote = self._ray.remote(**merged)(run_parcel)
                except (TypeError, ValueError) as error:
                    message = f"Ray does not take calls with {dict(options)!r}: {error}"
                    names = ", ".join(options)
                    raise InvalidOptionError(message, option=names, value=dict(options)) from error
                self._lanes[key] = _Lane(self, remote, _needs_of(merged))
            return self._lanes[key]

    def _require_open(self, name: str) -> None:
        if self._is_shut_down:
            message = f"{name} could not be submitted: this RayExecutor is shut down"
            raise ExecutorError(message)
        # Without this, Ray would start another cluster by itself.
        if not self._ray.is_initialized():
            message = f"{name} could not be submitted: Ray is shut down; make a new executor"
            raise ExecutorError(message)


class _Lane(Executor):
    """Calls with the same options, those that wait and those that Ray has.

    Args:
        executor: Whose calls these are.
        remote: Ray's remote function with the options.
        needs: What a call needs of each resource.
    """

    def __init__(self, executor: RayExecutor, remote: Any, needs: Mapping[str, float]) -> None:
        self._executor = executor
        self._remote = remote
        self._needs = needs
        self._lock = executor._lock
        self._waiting: deque[RayFuture] = deque()
        self._n_with_ray = 0
        #: How long a call takes, from Ray and back; each new one counts a tenth.
        self._mean_s = 1.0
        self._room = 0
        self._counted_at = float("-inf")

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RayFuture:
        """Hand a call to Ray; see ``RayExecutor.submit``."""
        executor, name = self._executor, name_of(fn)
        executor._require_open(name)
        try:
            future = RayFuture(self, pack_parcel(fn, args, kwargs))
            self._require_possible(name)
        except (CallPicklingError, ExecutorError) as error:
            future = RayFuture(self, Parcel(b""))
            future.set_exception(error)
            return future
        with self._lock:
            executor._live[future] = None
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
            self._executor._live.pop(future, None)
        future._set_cancelled()
        return True

    def end(self, future: RayFuture) -> bool:
        """End a call that Ray has."""
        with self._lock:
            if future not in self._executor._live:
                return False
            future._end_asked = True
            ref = future._ref
        if ref is not None:  # else whoever is handing it over sees to it
            self._executor._ray.cancel(ref, force=True, recursive=True)
        return True

    def _require_possible(self, name: str) -> None:
        executor = self._executor
        nodes = executor._nodes
        if executor._may_grow or any(_fits(self._needs, node) for node in nodes):
            return
        wanted = ", ".join(f"{amount:g} {what}" for what, amount in self._needs.items())
        largest = [f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes]
        message = (
            f"{name} needs {wanted}, which no node of the Ray cluster has ({'; '.join(largest)}); "
            f"ask for less, or give may_grow=True if the cluster is going to get more"
        )
        raise ExecutorError(message)

    def _advance(self) -> None:
        """Give Ray what it has room for."""
        while True:
            with self._lock:
                if not self._waiting or self._n_with_ray >= self._window():
                    return
                future = self._waiting.popleft()
                self._n_with_ray += 1
            self._hand_over(future)

    def _window(self) -> int:
        if self._executor._may_grow:
            return _MOST_WITH_RAY  # what Ray has to run is what a cluster grows by
        now = time.monotonic()
        if now - self._counted_at > _RESOURCES_S:
            self._counted_at = now
            nodes = self._executor._nodes
            self._room = sum(_count(self._needs, node) for node in nodes)
        ahead = int(self._room * AHEAD_S / max(self._mean_s, 1e-6))
        return max(1, min(self._room + ahead, _MOST_WITH_RAY))

    def _hand_over(self, future: RayFuture) -> None:
        future._handed_at = time.monotonic()
        try:
            blobs = self._executor._blobs.take(future._parcel)
            future._holds_blobs = True
            ref = self._remote.remote(future._parcel.payload, *blobs)
            with self._lock:
                future._ref = ref
                end_asked = future._end_asked
            if end_asked:
                self._executor._ray.cancel(ref, force=True, recursive=True)
            # A future of Ray's, whose own `cancel` would leave the task running.
            inner = ref.future()
        except Exception as error:
            self._complete(future, None, error)
        else:
            inner.add_done_callback(partial(self._returned, future))

    def _returned(self, future: RayFuture, inner: Any) -> None:
        """Hand over a call that is done; called in Ray's thread."""
        self._executor._done.put((self, future, inner))

    def take(self, future: RayFuture, inner: Any) -> None:
        """Complete a call, and give Ray the next ones."""
        error = inner.exception()
        self._complete(future, None if error else inner.result(), error)
        self._advance()

    def _complete(
        self, future: RayFuture, outcome: bytes | None, error: BaseException | None
    ) -> None:
        with self._lock:
            self._n_with_ray -= 1
            took_s = time.monotonic() - future._handed_at
            # A window of calls shares the workers, so that the time of one is less than it took.
            shared_s = took_s * self._room / max(self._n_with_ray + 1, self._room, 1)
            self._mean_s += (shared_s - self._mean_s) / 10
            is_late = self._executor._live.pop(future, future) is future
        if future._holds_blobs:
            self._executor._blobs.release(future._parcel)
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

    def _fail(self, future: RayFuture, error: BaseException) -> None:
        exceptions = self._executor._ray.exceptions
        if isinstance(error, exceptions.TaskCancelledError):
            future._set_cancelled()  # by somebody else, such as Ray's own command line
        else:
            future.set_exception(_translated(exceptions, error))


def ray_factory(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    call_options: Mapping[str, Any] | None = None,
    may_grow: bool = False,
    **init_options: Any,
) -> Callable[[], RayExecutor]:
    """Return what makes an executor on Ray.

    Args:
        address: Where a Ray cluster is; by default the program's own is used, or one is started.
        num_cpus: How many processors a Ray that is started here may use.
        num_gpus: How many graphics processors it may use.
        memory: How many bytes of memory calls may reserve of it.
        call_options: Options of all calls, as of ``ray.remote``.
        may_grow: Whether calls that need more than the cluster has wait for it.
        **init_options: Of ``ray.init``.

    Raises:
        MissingExtraError: When ray is not installed.
        InvalidOptionError: When an option makes no sense.
    """
    require("ray", extra="ray", purpose='the "ray" executor')
    address = _address_meant(address)
    sizes = {"num_cpus": num_cpus, "num_gpus": num_gpus, "_memory": memory}
    given = {name: value for name, value in sizes.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, (int, float)) or value < 0:
            option = name.lstrip("_")
            message = f"{option}={value!r} is not possible; give a number from 0"
            raise InvalidOptionError(message, option=option, value=value)
    if address is not None and given:
        names = ", ".join(name.lstrip("_") for name in given)
        message = (
            f"{names} cannot be given with an address: that cluster has what it has. What a call "
            f"needs is said by task.options({names.split(', ')[0]}=…) or call_options="
        )
        raise InvalidOptionError(message, option=names, value=given)
    return partial(
        RayExecutor,
        address,
        call_options=call_options,
        may_grow=may_grow,
        **given,
        **init_options,
    )


def _address_meant(address: str | None) -> str | None:
    """Return where to attach to; ``None`` for a Ray of this program, as ``"local"`` is for Ray."""
    return None if address == "local" else address or os.environ.get("RAY_ADDRESS") or None


def _connect(address: str | None, options: Mapping[str, Any]) -> tuple[Any, Callable[[], object]]:
    """Return Ray, initialized, and what leaves it again."""
    ray = importlib.import_module("ray")
    address = _address_meant(address)
    options = {"log_to_driver": False, "logging_level": "ERROR", **options}
    with _door:
        if ray.is_initialized():
            if _ours.n_users:
                return ray, _share_of(ray)
            _refuse_sizes(options)
            return ray, _leave_alone
        with kept_handler(signal.SIGTERM):
            folder = None
            if address is not None:
                _attach(ray, address, options)
            else:
                folder = _start(ray, {"include_dashboard": False, **options})
        _ours.folder = folder
        return ray, _share_of(ray)


def _refuse_sizes(options: Mapping[str, Any]) -> None:
    sizes = {name.lstrip("_"): options[name] for name in _SIZES if name in options}
    if sizes:
        names = ", ".join(sizes)
        message = (
            f"{names} cannot be given: this program has started Ray already, and that Ray has what "
            f"it has; leave them out, or call ray.shutdown() before"
        )
        raise InvalidOptionError(message, option=names, value=sizes)


class _Ours:
    """What is known of the Ray that executors of this program have started or attached to."""

    n_users = 0
    folder: str | None = None


_ours = _Ours()

#: Held while Ray is initialized or left: a program has one, whatever the number of executors.
_door = threading.Lock()


def _share_of(ray: Any) -> Callable[[], object]:
    """Count a user of our Ray; the last one to leave shuts it down."""
    _ours.n_users += 1

    def leave() -> None:
        with _door:
            _ours.n_users -= 1
            if not _ours.n_users:
                ray.shutdown()
                _forget_token()
                _remove(_ours.folder)

    return leave


def _start(ray: Any, options: Mapping[str, Any]) -> str | None:
    """Start a Ray on this machine and return the folder to remove after it."""
    folder = None
    if "_temp_dir" not in options:
        # Short, since sockets are in it; and our own, since Ray's default one is never tidied up.
        folder = tempfile.mkdtemp(prefix="amltk-ray-")
        options = {**options, "_temp_dir": folder}
    try:
        with _private_environment(ray):
            ray.init(address="local", **options)
    except BaseException as error:
        _remove(folder)
        if not isinstance(error, Exception):
            raise
        message = f"Ray could not be started on this machine with {dict(options)!r}: {error}"
        raise ExecutorError(message) from error
    return folder


def _attach(ray: Any, address: str, options: Mapping[str, Any]) -> None:
    try:
        ray.init(address=address, **options)
    except Exception as error:
        message = (
            f"no Ray could be reached at {address!r}: {error}. If it asks for a token, set "
            f"RAY_AUTH_MODE=token and RAY_AUTH_TOKEN before Ray is imported; an address that begins "
            f'with "ray://" needs ray[client]'
        )
        raise ExecutorError(message) from error


def _leave_alone() -> None:
    """Do nothing: Ray is the program's own."""


def _remove(folder: str | None) -> None:
    if folder is None:
        return
    # Ray's agents may be writing their last lines.
    deadline = time.monotonic() + _END_S
    while os.path.exists(folder) and time.monotonic() < deadline:  # noqa: PTH110 - a str of tempfile
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


@contextmanager
def _private_environment(ray: Any) -> Iterator[None]:
    """Have what a Ray that is started here must find in the environment, for as long as it starts.

    Its workers find modules where this program finds them.
    """
    before = dict(os.environ)
    path = os.pathsep.join(folder for folder in sys.path if isinstance(folder, str))
    os.environ.update({**_PRIVATE, "RAY_AUTH_TOKEN": _token, **before, "PYTHONPATH": path})
    constants = ray._private.ray_constants
    clusters = constants.ENABLE_RAY_CLUSTER
    if _CLUSTER_SWITCH not in before:
        # Ray read the switch when it was imported, which may have been the program's doing.
        constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        for name in (*_PRIVATE, _SET_BY_RAY, "RAY_AUTH_TOKEN", "PYTHONPATH"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def _forget_token() -> None:
    """Have Ray read the environment again, for a Ray that the program itself may start next."""
    with suppress(ImportError, AttributeError):  # no public ways
        raylet = importlib.import_module("ray._raylet")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
        raylet.Config.initialize("")


#: The token of a Ray that is started here.
_token = secrets.token_hex(32)


def _needs_of(options: Mapping[str, Any]) -> dict[str, float]:
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
