"""What proposes trials and learns from their reports."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from amltk.optimization.trials.report import Report
from amltk.optimization.trials.trial import Trial


@runtime_checkable
class Optimizer(Protocol):
    """What proposes trials and learns from their reports.

    Anything with these two methods is one. They are called by one thread at a time, which is not
    that of the callbacks. It may have more:

    - ``metrics``, a tuple of ``Metric``, so that ``optimize`` need not be told of them;
    - ``forget(trial)``, by which it hears of a trial that will have no report;
    - ``is_quick = True``, if none of its methods ever takes longer than a moment: ``optimize`` then
      calls them where the callbacks are, which saves the way to another thread.
    """

    def ask(self) -> Trial:
        """Propose a trial, with a name that no other one has.

        Raises:
            ExhaustedError: When there is nothing left to try.
        """
        ...

    def tell(self, report: Report) -> None:
        """Learn from what became of a trial.

        Args:
            report: The report, successful or not, of a trial that was asked for.
        """
        ...


@runtime_checkable
class Forgets(Protocol):
    """An optimizer that wants to hear of trials that will have no report."""

    def forget(self, trial: Trial) -> None:
        """Forget a trial that was cancelled, or never sent off.

        Args:
            trial: A trial that was asked for.
        """
