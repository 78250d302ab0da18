"""The thread that looks after the calls of one executor on Airflow.

::

    submit ──▶ waiting here ──▶ written to the store, run triggered ──▶ with Airflow
                  │ drop            one POST at a time, tried again            │
                  ▼                                                            ▼
              cancelled ◀── end asked: mark in the store, run failed ◀── outcome in the store,
                                                                    or ended without one: lost

All requests and all files are this thread's affair, so that ``submit`` and ``cancel`` never wait.
Trouble with the network or the store only makes it pause; after a limit all calls fail.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from amltk._future import LightFuture
from amltk._logs import log_failure
from amltk.exceptions import ExecutorError, WorkerDiedError
from amltk.executors.airflow.api import ENDED, AirflowApi, RefusedError, UnreachableError
from amltk.executors.airflow.lost import lost_call, trouble_lines, unstarted_call
from amltk.executors.airflow.reach import Reach, Settings
from amltk.executors.airflow.store import Packed, PayloadStore

logger: logging.Logger = logging.getLogger(__name__)

#: How often a folder of this machine is looked at for outcomes.
_LOOK_S = 0.05

#: How often a run is triggered again whose task failed before it started.
_MOST_TRIGGERS = 3

#: How long a call may take to end when that is asked for: Airflow sends its signals 5 s apart.
_END_S = 15.0

#: How long a shutdown may take to have Airflow forget the runs.
_FORGET_S = 10.0


class AirflowFuture(LightFuture[Any]):
    """The future of a call on Airflow."""

    #: When it was asked to end while Airflow had it, and whether the store says so.
    _end_asked_at: float | None = None
    _is_marked = False
    #: The run that Airflow has of it, and how many there were.
    _run_id: str | None = None
    _n_triggers = 0
    _is_stored = False
    #: When Airflow said first that it has ended, while there was no outcome.
    _ended_at: float | None = None

    def __init__(self, calls: Calls, name: str, packed: Packed) -> None:
        self._calls = calls
        self._name = name
        self._packed = packed
        self._number = 0

    def cancel(self) -> bool:
        """Cancel the call; if Airflow has it, end it.

        Returns:
            ``True`` if it is cancelled, or will be as soon as its task has ended; ``False`` if it
            is done.
        """
        return self.cancel_pending() or self._calls.end(self)

    def cancel_pending(self) -> bool:
        """Cancel the call only if Airflow was not told of it.

        Returns:
            ``True`` if it is cancelled and will never run.
        """
        return self.cancelled() or self._calls.drop(self)


class Calls:
    """The calls of one executor, and the thread that looks after them.

    Args:
        settings: How to behave.
        executor_id: What tells its runs and files from those of others.
        api: Airflow's REST API.
        store: The executor's folder in the payload store.
    """

    def __init__(
        self, settings: Settings, executor_id: str, api: AirflowApi, store: PayloadStore
    ) -> None:
        self._settings = settings
        self._prefix = f"amltk__{executor_id}__"
        self._api = api
        self._store = store
        # Reentrant: a forgotten executor is closed by the collector, in whatever thread that runs.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._waiting: deque[AirflowFuture] = deque()
        #: Calls that are being written and triggered, or that Airflow has.
        self._begun: dict[int, AirflowFuture] = {}
        self._n_submitted = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._reach = Reach(settings, api, store)
        self._next_poll = 0.0
        self._to_fail: deque[str] = deque()
        self._to_forget: list[str] = []

    # ------------------------------------------------------------- from any thread

    def submit(self, future: AirflowFuture) -> None:
        """Take a call.

        Raises:
            ExecutorError: When no more calls are taken.
        """
        with self._lock:
            if self._is_closed:
                message = f"{future._name} could not be submitted: this executor is shut down"
                raise ExecutorError(message)
            self._n_submitted += 1
            future._number = self._n_submitted
            self._waiting.append(future)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="amltk-airflow", daemon=True
                )
                self._thread.start()
        self._wake.set()

    def drop(self, future: AirflowFuture) -> bool:
        """Cancel a call that waits here."""
        with self._lock:
            try:
                self._waiting.remove(future)
            except ValueError:
                return False
        future._set_cancelled()
        self._wake.set()
        return True

    def end(self, future: AirflowFuture) -> bool:
        """Have a call ended that Airflow has, or is about to have."""
        with self._lock:
            if self._begun.get(future._number) is not future:
                return False
            if future._end_asked_at is None:
                future._end_asked_at = time.monotonic()
        self._wake.set()
        return True

    def live(self) -> list[AirflowFuture]:
        """Return all calls that are not done."""
        with self._lock:
            return [*self._begun.values(), *self._waiting]

    def close(self) -> None:
        """Take no more calls; the thread ends after the last one."""
        with self._lock:
            self._is_closed = True
            is_unused = self._thread is None
        self._wake.set()
        if is_unused:
            self._api.close()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def is_own_thread(self) -> bool:
        """Tell whether this is the thread that completes calls."""
        return threading.current_thread() is self._thread

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        try:
            while not self._is_over():
                self._guarded_round()
                self._wake.wait(self._pause_s())
                self._wake.clear()
        except BaseException as error:
            log_failure(logger, "the thread that looks after calls on Airflow ended")
            with self._lock:
                self._is_closed = True
            self._fail_all(f"amltk's own thread ended by a {type(error).__qualname__}", error)
        finally:
            self._finish()

    def _is_over(self) -> bool:
        with self._lock:
            return self._is_closed and not self._begun and not self._waiting

    def _is_idle(self) -> bool:
        return not self.live() and not self._to_fail

    def _pause_s(self) -> float | None:
        if self._is_idle():
            return 0.0 if self._is_over() else None
        due = max(self._reach.next_try, self._next_poll) - time.monotonic()
        look_s = _LOOK_S if self._store.is_local else self._settings.poll_interval_s
        return max(0.005, min(look_s, due) if due > 0 else look_s)

    def _guarded_round(self) -> None:
        try:
            self._round()
        except RefusedError as error:
            self._reach.is_ready = False
            self._fail_all(f"Airflow refuses: {error}; {_advice(error)}", error)
        except ExecutorError as error:
            self._fail_all(str(error), error)
        except Exception as error:
            # Airflow or the store is in trouble; the calls hear of it when it lasts too long.
            why = self._reach.note_trouble(error)
            if why is not None:
                self._fail_all(why, error)

    def _round(self) -> None:
        if self._is_idle():
            return
        self._give_up_ends()
        self._collect()
        self._mark_ends()
        if time.monotonic() < self._reach.next_try or not self._reach.get_ready():
            return
        self._fail_runs()
        self._trigger_more()
        if time.monotonic() >= self._next_poll:
            self._poll()
            self._next_poll = time.monotonic() + self._settings.poll_interval_s
        self._reach.note_success()

    # ------------------------------------------------------------------ triggering

    def _trigger_more(self) -> None:
        # What was begun in an earlier round and could not be triggered then comes first.
        for future in self._sorted_begun():
            if future._run_id is None and future._end_asked_at is None:
                self._trigger(future)
        while (following := self._next_waiting()) is not None:
            self._trigger(following)

    def _next_waiting(self) -> AirflowFuture | None:
        with self._lock:
            if not self._waiting or len(self._begun) >= self._settings.max_workers:
                return None
            future = self._waiting.popleft()
            self._begun[future._number] = future
            return future

    def _trigger(self, future: AirflowFuture) -> None:
        number = future._number
        if not future._is_stored:
            self._store.put_call(number, future._packed)
            future._is_stored = True
        run_id = self._next_run_id(future)
        conf = {"folder": self._store.folder, "number": number}
        try:
            self._api.trigger(run_id, conf)
        except RefusedError as error:
            if error.status in (401, 403):
                raise
            message = f"Airflow refuses to run {future._name}: {error}"
            self._complete(future, error=_with_cause(ExecutorError(message), error))
            return
        future._run_id = run_id
        future._n_triggers += 1

    def _next_run_id(self, future: AirflowFuture) -> str:
        again = f"__again{future._n_triggers}" if future._n_triggers else ""
        return f"{self._prefix}{future._number}{again}"

    # ------------------------------------------------------------------ collecting

    def _collect(self) -> None:
        """Complete the calls whose outcomes have arrived."""
        if not any(future._is_stored for future in self._sorted_begun()):
            return
        for number in sorted(self._store.finished() & self._begun.keys()):
            self._take_outcome(self._begun[number])

    def _take_outcome(self, future: AirflowFuture) -> None:
        returned, value = self._store.outcome(future._number)
        if returned:
            self._complete(future, result=value)
        else:
            self._complete(future, error=value)

    def _poll(self) -> None:
        """Ask Airflow which calls have not ended; the others have, with or without an outcome."""
        asked = [f for f in self._sorted_begun() if f._run_id is not None]
        if not asked and not self._to_forget:
            return
        states = self._api.unfinished(self._prefix)
        for future in asked:
            state = states.get(future._run_id or "")
            if state == "running" and not future.running() and not future.done():
                future.set_running_or_notify_cancel()
            elif state is None and not future._is_marked:
                self._look_for(future)
        self._forget(states)

    def _look_for(self, future: AirflowFuture) -> None:
        """See what became of a call that Airflow does not run any more."""
        if future._number in self._store.finished():
            self._take_outcome(future)
            return
        task = self._api.task(future._run_id or "")
        if task is not None and task["state"] not in ENDED:
            return
        now = time.monotonic()
        if future._ended_at is None:
            future._ended_at = now
        if now - future._ended_at < self._settings.settle_s:
            return
        # The outcome is written before the task ends, so it is there now if there is one.
        if future._number in self._store.finished():
            self._take_outcome(future)
        elif task is not None and not self._store.has_started(future._number):
            self._lose_unstarted(future, task)
        else:
            error = lost_call(self._api, future._name, future._run_id or "", task)
            # A task whose supervisor was killed goes on as an orphan: this ends it.
            self._store.put_cancel_mark(future._number)
            self._complete(future, error=error)

    def _lose_unstarted(self, future: AirflowFuture, task: Mapping[str, Any]) -> None:
        """Trigger a call again that never began: it waited too long, or the task's start failed."""
        lines = trouble_lines(self._api, future._run_id or "", task)
        error = unstarted_call(future._name, lines, future._n_triggers, _MOST_TRIGGERS)
        if error is not None:
            self._complete(future, error=error)
        else:
            future._run_id, future._ended_at = None, None

    # ---------------------------------------------------------------------- ending

    def _mark_ends(self) -> None:
        """Tell the tasks by the store which calls are to end; that works without Airflow's API."""
        for future in self._sorted_begun():
            if future._end_asked_at is None or future._is_marked:
                continue
            if not future._is_stored:
                self._complete(future)
                continue
            # The task does the same the other way round: either it sees this mark or we see its.
            self._store.put_cancel_mark(future._number)
            future._is_marked = True
            # Also where the POST got no answer: it may have got through.
            self._to_fail.append(future._run_id or self._next_run_id(future))
            if not self._store.has_started(future._number):
                self._complete(future)

    def _give_up_ends(self) -> None:
        """Complete what should have ended long ago; here nothing is waited for."""
        now = time.monotonic()
        for future in self._sorted_begun():
            if future._end_asked_at is not None and now - future._end_asked_at > _END_S:
                self._complete(future)

    def _fail_runs(self) -> None:
        while self._to_fail:
            self._api.fail_run(self._to_fail[0])
            self._to_fail.popleft()

    def _complete(
        self, future: AirflowFuture, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        with self._lock:
            del self._begun[future._number]
            is_ended = future._end_asked_at is not None
        if future._is_stored:
            keeps_mark = is_ended or isinstance(error, WorkerDiedError)
            self._store.remove_call(future._number, future._packed, keeps_mark=keeps_mark)
        if future._run_id is not None and not self._settings.keep_runs:
            self._to_forget.append(future._run_id)
        if is_ended:
            future._set_cancelled()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _fail_all(self, why: str, cause: BaseException) -> None:
        self._to_fail.clear()
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
            self._begun.update((future._number, future) for future in waiting)
        for future in self._sorted_begun():
            message = f"{future._name} could not be run on Airflow: {why}"
            self._complete(future, error=_with_cause(ExecutorError(message), cause))

    def _forget(self, unfinished: Iterable[str]) -> None:
        """Delete runs of calls that are done, once Airflow is done with them as well."""
        for run_id in [run_id for run_id in self._to_forget if run_id not in unfinished]:
            if self._api.delete_run(run_id):
                self._to_forget.remove(run_id)

    def _finish(self) -> None:
        if not self._reach.is_in_trouble:
            with suppress(RefusedError, UnreachableError):
                self._fail_runs()
        limit = time.monotonic() + _FORGET_S
        while self._to_forget and time.monotonic() < limit:
            try:
                self._forget(self._api.unfinished(self._prefix))
            except (RefusedError, UnreachableError) as error:
                logger.warning("some runs could not be deleted from Airflow: %s", error)
                break
            if self._to_forget:
                time.sleep(_LOOK_S)
        self._store.close()
        self._api.close()

    def _sorted_begun(self) -> list[AirflowFuture]:
        with self._lock:
            return sorted(self._begun.values(), key=lambda future: future._number)


def _with_cause(error: ExecutorError, cause: BaseException) -> ExecutorError:
    error.__cause__ = cause
    return error


def _advice(error: RefusedError) -> str:
    if error.status in (401, 403):
        return "check auth=, and that this user may read, trigger and edit runs of the DAG"
    return "check url="
