"""Trials that SMAC proposes: hyperparameter optimization, also at several fidelities.

::

    ask()     facade.ask() ──▶ TrialInfo ──▶ Trial: config, seed, fidelities
    tell()    success ──▶ SUCCESS with its losses      fail, crash ──▶ CRASHED with the worst loss
    forget()  ──▶ taken back, and asked for again once
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk._optional import require
from amltk.exceptions import ExhaustedError
from amltk.optimization.optimizers import _smac_history as history
from amltk.optimization.optimizers import _smac_setup as setup
from amltk.optimization.optimizers._configspace import (
    decode,
    own_copy,
    plain_config,
    to_configspace,
)
from amltk.optimization.optimizers._draws import SEEDS, rng_of
from amltk.optimization.optimizers.base import BaseOptimizer, Proposal
from amltk.optimization.space import Dimension, is_configspace, parse_space
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report, SuccessReport

if TYPE_CHECKING:
    from smac import Scenario
    from smac.facade.abstract_facade import AbstractFacade

    from amltk.optimization.space import SpaceLike


class SMACOptimizer(BaseOptimizer):
    """Proposes what SMAC proposes, and tells it what became of it.

    ::

        SMACOptimizer({"lr": (1e-5, 1e-1, "log")}, metrics=Metric("loss"), seed=1)

    A trial that failed or crashed costs the worst that its metrics can be, or where they have no
    bounds, the worst that was seen.

    Args:
        space: What is tried out: a mapping or a ``ConfigurationSpace``.
        metrics: What trials are measured by; several are combined by ParEGO.
        facade: Which of SMAC's facades: ``"hyperparameter"`` with random forests,
            ``"multi-fidelity"`` with Hyperband as well, ``"hyperband"`` by itself, ``"blackbox"``
            with Gaussian processes, ``"random"``, ``"algorithm"``; or a facade of your own.
        n_trials: How many trials are planned. At most a quarter of them are SMAC's initial design;
            it can be asked for more.
        deterministic: Whether a configuration has the same result each time. If not, the best ones
            are tried out with up to three seeds.
        min_budget: The least that a trial is given, with ``"multi-fidelity"`` or ``"hyperband"``.
        max_budget: The most that a trial is given.
        fidelity: How the budget is called in ``trial.fidelities``.
        seed: Makes the search repeatable, as far as SMAC is: in another process only with the same
            ``PYTHONHASHSEED``.
        output_directory: Where SMAC writes its files; it leaves none without.
        scenario: More options of ``smac.Scenario``, such as ``instances``.
        components: A function that is given the scenario, and returns what the facade is to have
            in the place of its own parts, such as an ``intensifier``.
        name: What the names of its trials begin with.

    Raises:
        MissingExtraError: When SMAC is not installed.
        InvalidSpaceError: When the space makes no sense, or SMAC cannot write a part of it.
        InvalidOptionError: When options do not fit each other, or there is a run in the folder.
    """

    def __init__(
        self,
        space: SpaceLike,
        *,
        metrics: Metric | Iterable[Metric],
        facade: str | type[AbstractFacade] = "hyperparameter",
        n_trials: int = 100,
        deterministic: bool = False,
        min_budget: float | None = None,
        max_budget: float | None = None,
        fidelity: str = "budget",
        seed: int | None = None,
        output_directory: Path | str | None = None,
        scenario: Mapping[str, Any] | None = None,
        components: Callable[[Scenario], Mapping[str, Any]] | None = None,
        name: str = "smac",
    ) -> None:
        super().__init__(metrics, name=name)
        kind = setup.facade_type(facade)
        #: How the budget is called in ``trial.fidelities``.
        self.fidelity: str = fidelity
        self._dimensions: dict[str, Dimension] | None = None
        if is_configspace(space):
            configspace = own_copy(space)
            setup.check_choices(configspace)
        else:
            mapping: Any = space
            self._dimensions = parse_space(mapping)
            configspace = to_configspace(self._dimensions)
        options = setup.scenario_options(
            configspace,
            self.metrics,
            more=scenario or {},
            name=name,
            n_trials=n_trials,
            deterministic=deterministic,
            min_budget=min_budget,
            max_budget=max_budget,
            seed=rng_of(None).randrange(SEEDS) if seed is None else seed,
        )
        self._has_folder = output_directory is not None
        #: The facade, for all else that SMAC can do with it.
        self.facade: AbstractFacade = setup.make_facade(
            kind,
            options,
            output_directory=None if output_directory is None else Path(output_directory),
            components=components,
        )
        self._begin_search = history.bound(self.facade)
        self._crash_cost = setup.crash_cost_of(self.facade.scenario, len(self.metrics))
        #: The worst losses that were seen, by metric.
        self._worst: list[float] | None = None
        #: Crashes that were told with what may not be the worst for ever.
        self._crashes: list[Any] = []
        #: Crashes that are told when it is known what they cost.
        self._waiting: list[tuple[Any, dict[str, Any]]] = []
        self._taken_back: set[Any] = set()

    def propose(self) -> Proposal:
        """Return what is to be tried out next.

        Raises:
            ExhaustedError: When SMAC finds no other configuration.
        """
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        self._begin_search()
        try:
            info = self.facade.ask()
        except (StopIteration, ConfigurationSpaceExhaustedException, history.NothingNewError) as e:
            message = (
                f"{self.name!r} has nothing left to try: SMAC finds no configuration that it has "
                f"not asked for; make the space larger, or ask for fewer trials"
            )
            raise ExhaustedError(message) from e
        known = {
            "config_id": info.config.config_id,
            "origin": info.config.origin,
            "instance": info.instance,
        }
        return Proposal(
            config=self._config_of(info),
            seed=info.seed,
            fidelities={} if info.budget is None else {self.fidelity: float(info.budget)},
            info={key: value for key, value in known.items() if value is not None},
            handle=info,
        )

    def learn(self, handle: Any, report: Report) -> None:
        """Learn from a report.

        Args:
            handle: The trial as SMAC knows it.
            report: What became of it.
        """
        about = _about(report)
        losses = [report.loss(metric) for metric in self.metrics]
        # A surrogate cannot be trained on what is infinite.
        if not isinstance(report, SuccessReport) or not all(map(math.isfinite, losses)):
            self._crash(handle, about)
            return
        self._tell(handle, losses, "SUCCESS", about)
        worst = losses if self._worst is None else list(map(max, losses, self._worst))
        if worst != self._worst:
            self._worst = worst
            for info in self._crashes:
                history.set_cost(self.facade.runhistory, info, self._cost(self._crash_losses()))
        waiting, self._waiting = self._waiting, []
        for info, of_crash in waiting:
            self._crash(info, of_crash)

    def drop(self, handle: Any) -> None:
        """Hear of a trial that will have no report: it is asked for again, but once only.

        Args:
            handle: The trial as SMAC knows it.
        """
        key = history.key_of(self.facade.runhistory, handle)
        if key in self._taken_back:
            self._crash(handle, {"additional_info": {"status": "forgotten"}})
            return
        self._taken_back.add(key)
        history.take_back(self.facade.runhistory, handle)

    def _config_of(self, info: Any) -> dict[str, Any]:
        if self._dimensions is None:
            return plain_config(info.config)
        return decode(info.config, self._dimensions)

    def _crash(self, info: Any, about: dict[str, Any]) -> None:
        losses = self._crash_losses()
        if losses is None:
            self._waiting.append((info, about))
            return
        self._tell(info, losses, "CRASHED", about)
        if not all(map(math.isfinite, self._crash_cost)):
            self._crashes.append(info)

    def _crash_losses(self) -> list[float] | None:
        """Return what a crash costs, or ``None`` as long as that is not known."""
        if all(map(math.isfinite, self._crash_cost)):
            return self._crash_cost
        if self._worst is None:
            return None
        pairs = zip(self._crash_cost, self._worst, strict=True)
        return [cost if math.isfinite(cost) else worst for cost, worst in pairs]

    def _tell(self, info: Any, losses: list[float], status: str, about: dict[str, Any]) -> None:
        library = require("smac.runhistory", extra="smac", purpose="SMACOptimizer")
        kind = getattr(library.StatusType, status)
        value = library.TrialValue(cost=self._cost(losses), status=kind, **about)
        self.facade.tell(info, value, save=self._has_folder)

    def _cost(self, losses: list[float] | None) -> Any:
        assert losses is not None  # noqa: S101 - something was seen
        return losses[0] if len(losses) == 1 else losses


def _about(report: Report) -> dict[str, Any]:
    """Return what SMAC can note of a trial beside its cost."""
    noted: dict[str, Any] = {"trial": report.name, "status": report.status.value}
    if report.exception is not None:
        noted["error"] = f"{report.exception!r:.1000}"
    if report.time is None:
        return {"additional_info": noted}
    return {
        "time": report.time.wall_s,
        "cpu_time": report.time.cpu_s,
        "starttime": report.time.started_at,
        "endtime": report.time.ended_at,
        "additional_info": noted,
    }
