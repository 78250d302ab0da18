"""Calling an optimizer in a thread of its own, so that a slow one stalls nobody.

::

    the loop's thread                     the optimizer's thread, one call at a time
    want(3) ──────▶ wanted: 3 ┐
    tell(report) ─▶ tells: …  ┴─ next ──▶ optimizer.tell(report) ──▶ told(report)
                                          optimizer.ask() ─────────▶ asked(trial)

Reports are told in the order in which they came. With ``in_order`` all of them are told before the
next ask. Otherwise asks and tells that both wait get equal shares of the thread's time, whatever
each of them takes: a slow tell does not hold up quick asks, nor do slow asks put off all tells.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from amltk._errors import add_note
from amltk._words import short_repr
from amltk.exceptions import ExhaustedError
from amltk.optimization.optimizer import Forgets, Optimizer
from amltk.optimization.trials.report import Report
from amltk.optimization.trials.trial import Trial

logger: logging.Logger = logging.getLogger(__name__)

#: How many seconds the end waits for a call of the optimizer that is under way.
LAST_CALL_S = 60.0
#: The same where an error or Ctrl-C ends the run.
LAST_CALL_IN_HASTE_S = 2.0


class Hearer(Protocol):
    """Who is told what the optimizer said."""

    def asked(self, trial: Trial) -> None:
        """A trial was proposed."""

    def exhausted(self, error: ExhaustedError) -> None:
        """There is nothing left to try; stands for one trial that was wanted."""

    def told(self, report: Report) -> None:
        """The optimizer has learnt from a report."""

    def forgotten(self, trial: Trial) -> None:
        """The optimizer has heard of a trial that will have no report."""

    def failed(self, error: BaseException) -> None:
        """The optimizer raised."""


#: A method of the hearer, and what it is told.
Saying: TypeAlias = tuple[Callable[[Any], None], Any]

#: Has it called where the hearer lives; a ``RuntimeError`` says that this is not possible any more.
Deliver: TypeAlias = Callable[[Callable[[Any], None], Any], object]


class Asker:
    """Calls an optimizer, at once and in the calling thread.

    Args:
        optimizer: The optimizer.
        hearer: Who is told what it said.
    """

    def __init__(self, optimizer: Optimizer, hearer: Hearer) -> None:
        self._optimizer = optimizer
        self._hearer = hearer
        self._n_told = 0

    def want(self, count: int) -> None:
        """Have so many trials proposed."""
        for _ in range(count):
            self._say(*self._ask())

    def tell(self, report: Report) -> None:
        """Have the optimizer learn from a report."""
        self._say(*self._tell(report))

    def forget(self, trial: Trial) -> None:
        """Have the optimizer hear of a trial that will have no report."""
        self._say(*self._forget(trial))

    def close(self, *, patience_s: float, last_call_s: float) -> int:
        """Have nothing more proposed.

        Args:
            patience_s: For how many seconds the reports that are left are still told.
            last_call_s: How many seconds to wait for a call that is under way then.

        Returns:
            How many reports were not told.
        """
        del patience_s, last_call_s
        return 0

    def _say(self, say: Callable[[Any], None], what: Any) -> None:
        say(what)

    def _ask(self) -> Saying:
        try:
            trial: object = self._optimizer.ask()
        except ExhaustedError as error:
            return self._hearer.exhausted, error
        except BaseException as error:  # the hearer raises it
            return self._failed("ask", error)
        if isinstance(trial, Trial):  # the hearer refuses what is none
            trial.n_told = self._n_told
        return self._hearer.asked, trial

    def _tell(self, report: Report) -> Saying:
        try:
            self._optimizer.tell(report)
        except BaseException as error:  # the hearer raises it
            return self._failed(f"tell, of the report of {report.name!r},", error)
        self._n_told += 1
        return self._hearer.told, report

    def _forget(self, trial: Trial) -> Saying:
        try:
            if isinstance(self._optimizer, Forgets):
                self._optimizer.forget(trial)
        except BaseException as error:  # the hearer raises it
            return self._failed(f"forget, of {trial.name!r},", error)
        return self._hearer.forgotten, trial

    def _failed(self, where: str, error: BaseException) -> Saying:
        add_note(error, f"raised by {where} of the optimizer {short_repr(self._optimizer)}")
        return self._hearer.failed, error


class ThreadedAsker(Asker):
    """Calls an optimizer in a thread of its own.

    Args:
        optimizer: The optimizer.
        hearer: Who is told what it said.
        deliver: Has a method of the hearer called where it lives.
        in_order: Whether each ask waits until all reports that came before are told.
    """

    def __init__(
        self, optimizer: Optimizer, hearer: Hearer, *, deliver: Deliver, in_order: bool
    ) -> None:
        super().__init__(optimizer, hearer)
        self._deliver = deliver
        self._in_order = in_order
        #: So many trials are wanted, a report to tell, a trial to forget, or a look around.
        self._jobs: queue.SimpleQueue[int | Report | Trial | None] = queue.SimpleQueue()
        self._tells: deque[Report] = deque()
        self._n_wanted = 0
        self._asking_s = self._telling_s = 0.0
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._work, name="amltk-optimizer", daemon=True)
        self._thread.start()

    def want(self, count: int) -> None:
        """Have so many trials proposed."""
        self._jobs.put(count)

    def tell(self, report: Report) -> None:
        """Have the optimizer learn from a report."""
        self._jobs.put(report)

    def forget(self, trial: Trial) -> None:
        """Have the optimizer hear of a trial that will have no report."""
        self._jobs.put(trial)

    def close(self, *, patience_s: float, last_call_s: float) -> int:
        """Have nothing more proposed, and end the thread."""
        self._give_up_at = time.monotonic() + patience_s
        self._jobs.put(None)
        self._thread.join(patience_s + last_call_s)
        if self._thread.is_alive():
            logger.warning(
                "the optimizer %r has not come back from a call, which goes on in its thread; do "
                "not use it as long as the thread %r is alive",
                self._optimizer,
                self._thread.name,
            )
        return len(self._tells)

    # ------------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        while not self._is_over():
            self._take_jobs()
            if self._tells and not self._prefers_asking():
                self._tell_next()
            elif self._n_wanted and self._give_up_at is None:
                self._ask_next()

    def _is_over(self) -> bool:
        if self._give_up_at is None:
            return False
        self._take_jobs()
        return not self._tells or time.monotonic() >= self._give_up_at

    def _take_jobs(self) -> None:
        """Sort what has come in; wait for it if there is nothing to do."""
        idle = not self._tells and not self._n_wanted and self._give_up_at is None
        while idle or not self._jobs.empty():
            job = self._jobs.get()
            idle = False
            if isinstance(job, Report):
                self._tells.append(job)
            elif isinstance(job, Trial):
                self._say(*self._forget(job))
            elif job is not None:
                self._n_wanted += job

    def _prefers_asking(self) -> bool:
        if self._in_order or not self._n_wanted or self._give_up_at is not None:
            return False
        return self._asking_s < self._telling_s

    def _ask_next(self) -> None:
        self._n_wanted -= 1
        begun = time.perf_counter()
        say, what = self._ask()
        self._asking_s += time.perf_counter() - begun
        self._say(say, what)

    def _tell_next(self) -> None:
        begun = time.perf_counter()
        say, what = self._tell(self._tells[0])
        self._telling_s += time.perf_counter() - begun
        self._tells.popleft()  # only now, so that one that does not end counts as not told
        self._say(say, what)

    def _say(self, say: Callable[[Any], None], what: Any) -> None:
        if self._give_up_at is None:
            try:
                self._deliver(say, what)
            except RuntimeError:  # the run is over, and nobody listens any more
                pass
            else:
                return
        if isinstance(what, BaseException):
            logger.error("the optimizer failed when the run was over", exc_info=what)
        elif isinstance(what, Trial) and say == self._hearer.asked:
            self._jobs.put(what)  # nobody will send it off: to be forgotten
