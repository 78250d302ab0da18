"""The thread that runs a pool of worker processes.

::

    submit ──▶ waiting ──┐                    ┌──▶ worker ──┐
    submit ──▶ waiting ──┼── manager thread ──┼──▶ worker ──┼──▶ manager thread ──▶ futures
    cancel ──▶ asked ────┘    (feeds)         └──▶ worker ──┘     (reads, buries)

Each worker has a socket of its own and at most one call, so that its death costs that call and
nothing else, and no lock is shared with it. The manager never blocks on a worker: sockets are
non-blocking, and ending a worker, which takes time, is done by a thread of its own.

Who may touch what: ``lock`` guards what other threads touch too (``waiting``, ``asked``, flags and
the two marks of a future); workers and selector are the manager's alone.
"""

from __future__ import annotations

import itertools
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import ExitStack, suppress
from typing import Any

from amltk._logs import log_failure
from amltk.exceptions import ExecutorError, WorkerStartError
from amltk.executors.guard import Guard
from amltk.executors.processes.deaths import death_of
from amltk.executors.processes.frames import NO_DIGEST, Channel, Kind
from amltk.executors.processes.future import NO_CALL, PackedCall, PoolFuture
from amltk.executors.processes.handle import Handle
from amltk.executors.processes.launch import Process, require_descriptors
from amltk.executors.processes.starts import Starts
from amltk.executors.termination import end_processes
from amltk.executors.travel.envelope import unpack_outcome

logger: logging.Logger = logging.getLogger(__name__)

#: How long a worker may take to leave when it is asked to, and to end once its socket is closed.
_LEAVE_S = 5.0
_END_S = 1.0

#: So many workers may die before they have read one and the same call.
MAX_UNREAD = 3

#: How often ends are looked for where the system has no descriptor that tells.
_LOOK_S = 0.05


class Pool:
    """Workers, the calls that wait for them, and the thread that brings them together.

    Args:
        max_workers: How many workers at most.
        launch: Starts a worker, given what a forked one has to close.
        setup: The first frame of each worker.
        max_tasks_per_child: After how many calls a worker is replaced.
        grace_s: Seconds between TERM and KILL for a worker whose call is cancelled.
    """

    def __init__(
        self,
        *,
        max_workers: int,
        launch: Callable[[list[Any]], tuple[Process, Channel]],
        setup: bytes,
        max_tasks_per_child: int | None,
        grace_s: float,
    ) -> None:
        self._max_workers = max_workers
        self._launch = launch
        self._setup = setup
        self._max_tasks = max_tasks_per_child
        self.grace_s = grace_s
        self._lock = threading.Lock()
        self._waiting: deque[PoolFuture] = deque()
        self._wake_sent = False
        self._asked: deque[Callable[[], object]] = deque()
        self._closing = False
        self._broken: WorkerStartError | None = None
        self._thread: threading.Thread | None = None
        self._workers: list[Handle] = []
        self._idle: list[Handle] = []
        self._starts = Starts()
        self._guard = Guard()
        self._numbers = itertools.count(1)

    # -------------------------------------------------------------------- from any thread

    def submit(self, future: PoolFuture) -> None:
        """Take a call.

        Raises:
            ExecutorError: When the pool is shut down.
            WorkerStartError: When workers do not start.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                message = f"{future._name} could not be run: this ProcessExecutor is shut down"
                raise ExecutorError(message)
            if self._thread is None:
                self._start_thread()
            self._waiting.append(future)
            # While every worker is busy, its next outcome makes the manager feed it anyway.
            wake = self._idle or len(self._workers) < self._max_workers
        if wake:
            self._wake()

    def ask_to_end(self, future: PoolFuture) -> bool:
        """Ask for the end of the worker that runs a call."""
        with self._lock:
            if future._decided or not future.running():
                return future.cancelled()
            if future._end_asked:
                return True
            future._end_asked = True
            self._asked.append(lambda: self._end_call(future))
        self._wake()
        return True

    def live_futures(self) -> list[PoolFuture]:
        """Return the futures of all calls that have not ended, as far as can be seen from here."""
        with self._lock:
            running = [worker.call for worker in self._workers if worker.call is not None]
            return [*running, *self._waiting]

    def close(self) -> None:
        """Take no more calls; workers leave when there is nothing to do for them."""
        with self._lock:
            self._closing = True
            if self._thread is None:
                return
        self._wake()

    def join(self) -> None:
        """Wait until the manager is gone, and with it all workers."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _wake(self) -> None:
        if not self._wake_sent:
            self._wake_sent = True
            with suppress(OSError):  # the manager has left: nothing is waiting for it
                self._wake_writer.send(b"w")

    def _start_thread(self) -> None:
        with ExitStack() as undo:
            self._wake_reader, self._wake_writer = socket.socketpair()
            undo.callback(self._wake_reader.close)
            undo.callback(self._wake_writer.close)
            self._wake_reader.setblocking(False)
            self._wake_writer.setblocking(False)
            self._selector = selectors.DefaultSelector()
            undo.callback(self._selector.close)
            self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
            thread = threading.Thread(target=self._manage, name="amltk-pool", daemon=True)
            thread.start()
            undo.pop_all()
        self._thread = thread

    # -------------------------------------------------------------- in the manager's thread

    def _manage(self) -> None:
        try:
            while not self._is_over():
                for key, _ in self._selector.select(self._time_to_sleep()):
                    if key.data is None:
                        self._drain_wake()
                    else:
                        self._guarded(key.data)
                while self._asked:
                    self._guarded(self._asked.popleft())
                self._guarded(self._look_around)
        finally:
            self._guard.end()
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()

    def _guarded(self, step: Callable[[], object]) -> None:
        """Do one thing; whatever it raises must not stop the others."""
        try:
            step()
        except BaseException:
            log_failure(logger, "the pool met an error in its own code; it goes on")

    def _drain_wake(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass
        # After draining, never before: a wake-up that comes in between would be drained with its
        # flag left set, and nobody would ever wake us again.
        self._wake_sent = False

    def _is_over(self) -> bool:
        with self._lock:
            return self._closing and not (self._workers or self._waiting or self._asked)

    def _time_to_sleep(self) -> float | None:
        moments = [w.deadline for w in self._workers if w.deadline is not None]
        if self._waiting and self._starts.next_at and len(self._workers) < self._max_workers:
            moments.append(self._starts.next_at)
        wait = max(0.0, min(moments) - time.monotonic()) if moments else None
        if any(w.sentinel is None for w in self._workers):
            return _LOOK_S if wait is None else min(wait, _LOOK_S)
        return wait

    def _look_around(self) -> None:
        """Feed, start, end and bury, whatever is due."""
        while self._idle and self._feed(self._idle[-1]):
            self._idle.pop()
        self._start_workers()
        if self._closing and not self._waiting:
            for worker in list(self._idle):
                self._ask_to_leave(worker)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.deadline is not None and now >= worker.deadline:
                worker.deadline = None
                self._end(worker)
            if worker.sentinel is None or worker.was_ended:
                self._bury_if_dead(worker)
        if self._closing and not self._waiting:
            for worker in self._workers:
                if not worker.is_ready:  # started in vain
                    self._end(worker)

    # ------------------------------------------------------------------ workers come and go

    def _start_workers(self) -> None:
        if self._broken is not None or not self._waiting:
            return
        n_coming = sum(not worker.is_ready for worker in self._workers)
        room = self._max_workers - len(self._workers)
        wanted = min(room, len(self._waiting) - n_coming)
        if wanted > 0 and time.monotonic() >= self._starts.next_at:
            for _ in range(wanted):
                if not self._start_worker():
                    return

    def _start_worker(self) -> bool:
        """Start one more worker; tell whether that could be done."""
        inherited = [self._wake_reader, self._wake_writer, self._selector, self._guard]
        inherited += [worker.channel for worker in self._workers]
        try:
            require_descriptors(self._wake_reader)
            process, channel = self._launch(inherited)
        except Exception as error:
            self._start_failed(error)
            return False
        worker = Handle(process, channel)
        self._workers.append(worker)
        self._guard.add([process.pid])
        self._selector.register(channel.sock, selectors.EVENT_READ, lambda: self._on_socket(worker))
        if worker.sentinel is not None:
            self._selector.register(
                worker.sentinel, selectors.EVENT_READ, lambda: self._bury_if_dead(worker)
            )
        self._send(worker, Kind.SETUP, 0, self._setup)
        return True

    def _start_failed(self, error: BaseException | None) -> None:
        self._starts.note_failure(error)
        if self._starts.are_hopeless and not self._workers:
            self._give_up()  # else those that there are go on, and more are tried now and then

    def _give_up(self) -> None:
        with self._lock:
            self._broken = broken = self._starts.error()
            futures, self._waiting = list(self._waiting), deque()
        for future in futures:
            if future.set_running_or_notify_cancel():
                self._complete(future, error=broken)
        for worker in self._workers:
            if worker.call is None:
                self._end(worker)

    def _ask_to_leave(self, worker: Handle) -> None:
        """Let a worker go that has nothing to do."""
        if worker in self._idle:
            self._idle.remove(worker)
        worker.is_leaving = True
        worker.deadline = time.monotonic() + _LEAVE_S
        self._send(worker, Kind.LEAVE, 0, b"")

    def _end_call(self, future: PoolFuture) -> None:
        for worker in self._workers:
            if worker.call is future:
                self._end(worker)
                return

    def _end(self, worker: Handle) -> None:
        """End a worker with its children, in a thread, since that takes time."""
        if worker.is_being_ended:
            return
        worker.is_being_ended = worker.is_leaving = True
        if worker in self._idle:
            self._idle.remove(worker)

        def body() -> None:
            try:
                end_processes([worker.process.pid], self.grace_s)
            finally:
                with self._lock:
                    self._asked.append(lambda: self._ended(worker))
                self._wake()

        try:
            threading.Thread(target=body, name="amltk-pool-end", daemon=True).start()
        except RuntimeError:  # the system has no thread for us now: once more a little later
            worker.is_being_ended = False
            worker.deadline = time.monotonic() + _END_S

    def _ended(self, worker: Handle) -> None:
        worker.was_ended = True
        self._bury_if_dead(worker)

    def _bury_if_dead(self, worker: Handle) -> None:
        """Report and replace a worker that has ended; leave alone one that has not."""
        if worker not in self._workers or not worker.has_ended():
            return
        if worker.is_being_ended and not worker.was_ended:
            return  # its children are still being ended: the call is not over before they are
        self._read(worker)  # what it said last counts
        worker.kill_group()
        exit_code = worker.process.exit_code()
        self._forget(worker)
        call, worker.call = worker.call, None
        if call is not None:
            self._complete_dead(call, worker, exit_code)
        elif not worker.is_ready and not worker.is_being_ended:
            self._start_failed(None)

    def _forget(self, worker: Handle) -> None:
        with self._lock:
            self._workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        with suppress(KeyError, ValueError):
            self._selector.unregister(worker.channel.sock)
        if worker.sentinel is not None:
            self._selector.unregister(worker.sentinel)
        self._guard.remove([worker.process.pid])
        worker.close()

    def _complete_dead(self, call: PoolFuture, worker: Handle, exit_code: int | None) -> None:
        if worker.channel.was_not_read and self._take_back(call, worker.packed):
            return
        if self._decide(call):
            self._complete_cancelled(call)
            return
        error = death_of(worker.process.pid, exit_code, call._name, n_readers=call._n_unread)
        self._complete(call, error=error)

    def _take_back(self, call: PoolFuture, packed: PackedCall) -> bool:
        """Let a call wait again whose worker was dead before it had read it; tell whether it may.

        Most of these workers were dead before it came. But a call whose mere reading ends a worker, for
        want of memory, say, would go from one to the next for ever.
        """
        call._n_unread += 1
        with self._lock:
            if call._n_unread >= MAX_UNREAD or call._end_asked or not call._back_to_waiting():
                return False
            call._packed = packed
            self._waiting.appendleft(call)
            return True

    # ------------------------------------------------------------------------- calls

    def _feed(self, worker: Handle) -> bool:
        """Give a worker the next call; tell whether there was one."""
        while True:
            try:
                future = self._waiting.popleft()
            except IndexError:
                return False
            if future.set_running_or_notify_cancel():
                break
        worker.call = future
        worker.n_calls += 1
        number = worker.number = next(self._numbers)
        worker.packed, future._packed = future._packed, NO_CALL
        function, parts = worker.packed.function, worker.packed.parts
        if worker.lacks(worker.functions, function):
            self._send(worker, Kind.FUNCTION, 0, function.digest + function.data)
        if parts is not None and worker.lacks(worker.parts, parts):
            self._send(worker, Kind.PARTS, 0, parts.digest + parts.data)
        digests = function.digest + (NO_DIGEST if parts is None else parts.digest)
        self._send(worker, Kind.CALL, number, digests + worker.packed.arguments)
        return True

    def _send(self, worker: Handle, kind: Kind, number: int, payload: bytes) -> None:
        with suppress(OSError):  # it died: its socket and its sentinel tell
            worker.channel.send(kind, number, payload)
        if worker.channel.wants_to_write():
            self._watch(worker, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _watch(self, worker: Handle, events: int) -> None:
        sock = worker.channel.sock
        with suppress(KeyError):
            self._selector.modify(sock, events, self._selector.get_key(sock).data)

    def _on_socket(self, worker: Handle) -> None:
        if worker.channel.wants_to_write():
            with suppress(OSError):
                worker.channel.flush()
            if not worker.channel.wants_to_write():
                self._watch(worker, selectors.EVENT_READ)
        frames, is_open = worker.channel.receive()
        for number, kind, payload in frames:
            self._on_frame(worker, number, kind, payload)
        if not is_open:
            self._on_hang_up(worker)

    def _read(self, worker: Handle) -> None:
        """Read all that a dead worker has said."""
        is_open = True
        while is_open:
            frames, is_open = worker.channel.receive()
            for number, kind, payload in frames:
                self._on_frame(worker, number, kind, payload)
            if not frames:
                return

    def _on_hang_up(self, worker: Handle) -> None:
        with suppress(KeyError):
            self._selector.unregister(worker.channel.sock)
        worker.is_leaving = True
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.deadline is None:
            worker.deadline = time.monotonic() + _END_S  # one that lives on without us is ended
        self._bury_if_dead(worker)

    def _on_frame(self, worker: Handle, number: int, kind: int, payload: bytes | bytearray) -> None:
        if kind == Kind.OUTCOME:
            if number == worker.number:  # else of an earlier call, by whoever says so
                self._on_outcome(worker, payload)
        elif kind == Kind.READY:
            worker.is_ready = True
            self._starts.note_success()
            self._make_available(worker)
        elif kind == Kind.SETUP_FAILED:
            _, error = unpack_outcome(payload)
            self._starts.note_cause(error)

    def _on_outcome(self, worker: Handle, payload: bytes | bytearray) -> None:
        call, worker.call, worker.packed = worker.call, None, NO_CALL
        if call is None:
            return  # said by a worker after its call was written off
        if not worker.is_leaving:
            self._make_available(worker)  # first of all: it should not wait for us
        if self._decide(call):
            self._complete_cancelled(call)
            return
        returned, value = unpack_outcome(payload)
        if returned:
            self._complete(call, result=value)
        else:
            self._complete(call, error=value)

    def _make_available(self, worker: Handle) -> None:
        if self._max_tasks is not None and worker.n_calls >= self._max_tasks:
            self._ask_to_leave(worker)
        elif not self._feed(worker):
            with self._lock:
                self._idle.append(worker)
            # Between the look at what waits and the lock a call may have come, whose submitter
            # saw no idle worker: look once more.
            if self._waiting:
                self._idle.remove(worker)
                if not self._feed(worker):
                    self._idle.append(worker)

    def _decide(self, call: PoolFuture) -> bool:
        """Fix the outcome of a call; tell whether its end was asked for before."""
        with self._lock:
            call._decided = True
            return call._end_asked

    def _complete(
        self, call: PoolFuture, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        with suppress(InvalidStateError):  # completed by a stranger: there is nobody to tell
            if error is not None:
                call.set_exception(error)
            else:
                call.set_result(result)

    def _complete_cancelled(self, call: PoolFuture) -> None:
        with suppress(InvalidStateError):  # completed by a stranger: there is nobody to tell
            call._set_cancelled()
