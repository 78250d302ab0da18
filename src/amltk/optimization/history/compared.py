"""Reports that are compared by metrics, and drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from amltk.exceptions import HistoryError
from amltk.optimization.history import ranking
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ComparedReports(Sequence[Report]):
    """Reports that are compared by metrics, and drawn."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """All that any of the trials declares to be measured by, in order."""

    # ---------------------------------------------------------------------------- comparing

    def best(self, metric: Metric | str | None = None) -> Report:
        """Return the best success; of several that are equally good the first.

        Args:
            metric: By what, or the name of it; where there is only one, that one by default.

        Raises:
            HistoryError: When no success has this metric, or it is not clear which one is meant.
        """
        return ranking.best(self, self.metric(metric))

    def sorted_by(self, metric: Metric | str | None = None) -> list[Report]:
        """Return the successes, the best first; those equally good as they arrived.

        Args:
            metric: See ``best``.

        Raises:
            HistoryError: When it is not clear which metric is meant.
        """
        return ranking.best_first(self, self.metric(metric))

    def incumbents(self, metric: Metric | str | None = None) -> list[Report]:
        """Return the successes that were better than all before when they arrived.

        Args:
            metric: See ``best``.

        Raises:
            HistoryError: When it is not clear which metric is meant.
        """
        return ranking.incumbents(self, self.metric(metric))

    def pareto_front(self, metrics: Iterable[Metric | str] | None = None) -> list[Report]:
        """Return the successes that no other one dominates, as they arrived.

        One dominates another if it is as good by all metrics and better by one. Of those that are
        equally good by all metrics, all are returned.

        Args:
            metrics: By what, or the names of it; all that trials declare by default.

        Raises:
            HistoryError: When it is not clear which metrics are meant.
        """
        return ranking.front(self, self._several(metrics))

    def metric(self, metric: Metric | str | None = None) -> Metric:
        """Return the metric that is meant.

        Args:
            metric: Itself, its name, or nothing where there is only one.

        Raises:
            HistoryError: When there is no such metric, or more than one.
        """
        if isinstance(metric, Metric):
            return metric
        found = [each for each in self.metrics if metric is None or each.name == metric]
        if len(found) == 1:
            return found[0]
        known = ", ".join(map(str, self.metrics)) or "none that trials declare"
        which = "which metric is meant" if metric is None else f"what {metric!r} is"
        message = f"it is not clear {which}; there are: {known}; give one: Metric(name, minimize=…)"
        raise HistoryError(message, metric=metric)

    # ----------------------------------------------------------------------------- plotting

    def plot_score(
        self,
        metric: Metric | str | None = None,
        *,
        x: Literal["trials", "time"] = "trials",
        ax: Axes | None = None,
    ) -> Axes:
        """Draw how a metric went: each success, and the best so far as steps.

        Crashed and failed trials are marks at the worse edge.

        Args:
            metric: See ``best``.
            x: Along what: the number of reports, or the time since the first trial was sent off.
            ax: Where to draw; a new figure by default.

        Raises:
            HistoryError: When no success has the metric.
            MissingExtraError: When matplotlib is not installed.
        """
        from amltk.optimization.history import plots

        return plots.plot_score(self, self.metric(metric), x=x, ax=ax)

    def plot_parallel(
        self,
        metric: Metric | str | None = None,
        *,
        keys: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw each configuration as a line across its values, coloured by a metric.

        Args:
            metric: See ``best``.
            keys: Which keys of the configurations, in which order; those that vary by default.
            ax: Where to draw; a new figure by default.

        Raises:
            HistoryError: When no success has the metric, or no configuration has a key.
            MissingExtraError: When matplotlib is not installed.
        """
        from amltk.optimization.history import plots

        return plots.plot_parallel(self, self.metric(metric), keys=keys, ax=ax)

    def plot_pareto(
        self, metrics: Iterable[Metric | str] | None = None, *, ax: Axes | None = None
    ) -> Axes:
        """Draw the successes by two metrics, and those that no other dominates as steps.

        Args:
            metrics: Two metrics or their names; those that trials declare by default.
            ax: Where to draw; a new figure by default.

        Raises:
            HistoryError: When they are not two, or no success has both.
            MissingExtraError: When matplotlib is not installed.
        """
        from amltk.optimization.history import plots

        return plots.plot_pareto(self, self._several(metrics), ax=ax)

    def plot_timeline(self, *, ax: Axes | None = None) -> Axes:
        """Draw what each worker was doing when: a lane for each, a bar for each trial.

        Args:
            ax: Where to draw; a new figure by default.

        Raises:
            HistoryError: When no report has a time.
            MissingExtraError: When matplotlib is not installed.
        """
        from amltk.optimization.history import plots

        return plots.plot_timeline(self, ax=ax)

    def _several(self, metrics: Iterable[Metric | str] | None) -> tuple[Metric, ...]:
        if isinstance(metrics, (str, Metric)):
            metrics = (metrics,)
        chosen = self.metrics if metrics is None else tuple(map(self.metric, metrics))
        if not chosen:
            message = (
                "it is not clear which metrics are meant, since no trial declares any; give them"
            )
            raise HistoryError(message, metrics=metrics)
        return chosen
