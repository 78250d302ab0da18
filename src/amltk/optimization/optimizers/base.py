"""What the delivered optimizers share: names of trials, and which of them have no report yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amltk.exceptions import UnknownTrialError
from amltk.optimization.trials.metric import Metric, as_metrics
from amltk.optimization.trials.report import Report
from amltk.optimization.trials.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an optimizer wants to be tried out."""

    #: The configuration, plain values by name.
    config: Mapping[str, Any]
    #: For what is random in the trial.
    seed: int | None = None
    #: How thoroughly it is to be tried out.
    fidelities: Mapping[str, float] = field(default_factory=dict)
    #: Plain values that are kept with the trial.
    info: Mapping[str, Any] = field(default_factory=dict)
    #: What stays here until the report comes, such as another library's own trial.
    handle: Any = None


class BaseOptimizer:
    """Base class of the delivered optimizers; override ``propose`` and ``learn``.

    Args:
        metrics: What trials are measured by.
        name: What the names of its trials begin with.

    Raises:
        InvalidOptionError: When there is no metric, or there are two of one name.
    """

    def __init__(self, metrics: Metric | Iterable[Metric], *, name: str) -> None:
        self.metrics: tuple[Metric, ...] = as_metrics(metrics)
        self.name: str = name
        self._n_asked = 0
        #: What is kept of each trial that has no report yet.
        self._open: dict[str, Any] = {}

    def propose(self) -> Proposal:
        """Return what is to be tried out next.

        Raises:
            ExhaustedError: When there is nothing left to try.
        """
        raise NotImplementedError

    def learn(self, handle: Any, report: Report) -> None:
        """Learn from a report.

        Args:
            handle: What was given with the proposal.
            report: What became of it.
        """

    def drop(self, handle: Any) -> None:
        """Hear of a trial that will have no report.

        Args:
            handle: What was given with its proposal.
        """

    def ask(self) -> Trial:
        """Propose a trial.

        Raises:
            ExhaustedError: When there is nothing left to try.
        """
        proposal = self.propose()
        trial = Trial(
            f"{self.name}-{self._n_asked}",
            proposal.config,
            metrics=self.metrics,
            seed=proposal.seed,
            fidelities=proposal.fidelities,
            info=proposal.info,
        )
        self._n_asked += 1
        self._open[trial.name] = proposal.handle
        return trial

    def tell(self, report: Report) -> None:
        """Learn from what became of a trial.

        Args:
            report: The report of a trial that was asked for.

        Raises:
            UnknownTrialError: When it was not asked for here, or was told of before.
        """
        self.learn(self._close(report.trial), report)

    def forget(self, trial: Trial) -> None:
        """Forget a trial that was cancelled, or never sent off.

        Args:
            trial: A trial that was asked for.

        Raises:
            UnknownTrialError: When it was not asked for here, or was told of before.
        """
        self.drop(self._close(trial))

    def _close(self, trial: Trial) -> Any:
        if trial.name not in self._open:
            message = (
                f"{self.name!r} cannot be told of {trial.name!r}, which it was not asked for, or "
                f"was told of before; tell it once of each trial that its ask() has returned"
            )
            raise UnknownTrialError(message, trial=trial.name)
        return self._open.pop(trial.name)
