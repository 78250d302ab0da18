"""Ray as an engine; extra: ``ray``.

::

    submit ──▶ Lane: waits here, where it can be cancelled ──▶ Ray ──▶ worker: run_parcel
                 ▲ as many as Ray has room for, and 50 ms of work ahead    │
                 └──────────── _returned ◀── the outcome's bytes ──────────┘

Ray does not tell a call that waits from one that runs, so calls wait here, one lane for each set of
options, and Ray gets what it has room for. What was given to Ray counts as started. For calls that
take milliseconds a few more are given ahead, as many as are done within `AHEAD_S`, since each way
to Ray and back costs a few milliseconds.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, InvalidStateError
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from amltk._logs import log_failure
from amltk._optional import require
from amltk.exceptions import ExecutorError, InvalidOptionError, WorkerDiedError
from amltk.executors.ray.lane import Lane, RayFuture, needs_of
from amltk.executors.ray.session import address_meant, connect
from amltk.executors.traits import Factory, Traits
from amltk.executors.travel.parcel import Held, run_parcel

logger: logging.Logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: How often it is looked whether Ray is still there.
_WATCH_S = 1.0

#: How long Ray may take to say which nodes it has, until its calls are given up.
_ANSWER_S = 20.0


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
        self._ray, self._leave = connect(address, init_options)
        self.traits: Traits = Traits(
            packs_itself=True, shares_machine=None, ends_running_calls=True
        )
        self._may_grow = may_grow
        self._lock: AbstractContextManager[Any] = threading.RLock()
        self._is_shut_down = False
        self._live: dict[RayFuture, None] = {}
        #: What each node of the cluster has.
        self._nodes: list[Mapping[str, float]] = []
        self._blobs: Held[Any] = Held(lambda _digest, blob: self._ray.put(blob))
        self._call_options = {"max_retries": 0, **(call_options or {})}
        self._lanes: dict[str, Lane] = {}
        self._lane = self._lane_of({})
        self._is_finished = threading.Event()
        self._done: queue.SimpleQueue[tuple[Lane, RayFuture, Any] | None] = queue.SimpleQueue()
        fault = self._ask_nodes()
        if fault is not None:
            self._leave()
            raise ExecutorError(f"no calls can be given to Ray: the cluster {fault}")
        self._taker = threading.Thread(target=self._take_done, name="amltk-ray-done", daemon=True)
        self._taker.start()
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
            wait: Whether live calls are waited for. In a callback of a future nothing is: it runs
                in the thread that completes them.
            cancel_futures: Whether calls that were not given to Ray are cancelled.
        """
        with self._lock:
            is_first, self._is_shut_down = not self._is_shut_down, True
            live = list(self._live)
        if cancel_futures:
            for future in live:
                future.cancel_pending()
        is_inside = threading.current_thread() is self._taker
        if wait and not is_inside:
            wait_for(live)
        if is_first and (is_inside or any(not future.done() for future in live)):
            finish = partial(self._finish_later, live)
            threading.Thread(target=finish, name="amltk-ray-shutdown", daemon=True).start()
        elif is_first:
            self._finish()

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

    def _hand_back(self, lane: Lane, future: RayFuture, inner: Any) -> None:
        """Have a call taken that is done; called in Ray's thread."""
        self._done.put((lane, future, inner))

    def _take_done(self) -> None:
        """Complete calls in a thread of our own, so that Ray's is free for what comes next."""
        while (done := self._done.get()) is not None:
            lane, future, inner = done
            try:
                lane.take(future, inner)
            except BaseException:  # such as of a future that a stranger has completed
                log_failure(logger, "a call on Ray could not be completed; others go on")

    def _lane_of(self, options: Mapping[str, Any]) -> Lane:
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
                self._lanes[key] = Lane(self, remote, needs_of(merged))
            return self._lanes[key]

    def _require_open(self, name: str) -> None:
        if self._is_shut_down:
            message = f"{name} could not be submitted: this RayExecutor is shut down"
            raise ExecutorError(message)
        # Without this, Ray would start another cluster by itself.
        if not self._ray.is_initialized():
            message = f"{name} could not be submitted: Ray is shut down; make a new executor"
            raise ExecutorError(message)


def ray_factory(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    call_options: Mapping[str, Any] | None = None,
    may_grow: bool = False,
    **init_options: Any,
) -> Factory:
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
    address = address_meant(address)
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
    make = partial(
        RayExecutor,
        address,
        call_options=call_options,
        may_grow=may_grow,
        **given,
        **init_options,
    )
    n_workers = None if num_cpus is None else max(1, int(num_cpus))
    return Factory(make, Traits(shares_machine=None, n_workers=n_workers))
