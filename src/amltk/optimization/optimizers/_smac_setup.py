"""How SMAC is set up: its scenario, its facade, and where it writes."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk._contexts import context
from amltk._optional import require
from amltk.exceptions import InvalidOptionError, InvalidSpaceError
from amltk.optimization.trials.metric import Metric

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from smac import Scenario
    from smac.facade.abstract_facade import AbstractFacade

#: What the facades are called here.
FACADES = {
    "hyperparameter": "HyperparameterOptimizationFacade",
    "multi-fidelity": "MultiFidelityFacade",
    "hyperband": "HyperbandFacade",
    "blackbox": "BlackBoxFacade",
    "random": "RandomFacade",
    "algorithm": "AlgorithmConfigurationFacade",
}

#: What a scenario is given by an option of its own.
_OWN = {
    *("configspace", "name", "output_directory", "objectives", "deterministic"),
    *("n_trials", "min_budget", "max_budget", "seed"),
}


def facade_type(facade: str | type[AbstractFacade]) -> type[AbstractFacade]:
    """Return a facade of SMAC by its name.

    Args:
        facade: Its name, or the facade itself.

    Raises:
        InvalidOptionError: When there is none of this name.
    """
    library = require("smac", extra="smac", purpose="SMACOptimizer")
    if not isinstance(facade, str):
        return facade
    if facade not in FACADES:
        message = f"facade={facade!r} is none of SMAC's; choose one of {', '.join(FACADES)}"
        raise InvalidOptionError(message, option="facade", value=facade)
    kind: type[AbstractFacade] = getattr(library, FACADES[facade])
    return kind


def scenario_options(
    space: ConfigurationSpace,
    metrics: tuple[Metric, ...],
    *,
    more: Mapping[str, Any],
    **own: Any,
) -> dict[str, Any]:
    """Return what a scenario is made of.

    Args:
        space: What is tried out.
        metrics: What trials are measured by.
        more: What the user wants beside what there are options for.
        **own: What there are options for.

    Raises:
        InvalidOptionError: When something is given twice.
    """
    twice = sorted(_OWN & set(more))
    if twice:
        message = (
            f"scenario={more!r} has {twice[0]!r}, which SMACOptimizer gives to SMAC itself; use "
            f"its option for it, or leave it out"
        )
        raise InvalidOptionError(message, option="scenario", value=more)
    names = [metric.name for metric in metrics]
    worst = [metric.loss(metric.worst_possible) for metric in metrics]
    single = len(metrics) == 1
    return {
        "configspace": space,
        "objectives": names[0] if single else names,
        "crash_cost": worst[0] if single else worst,
        **own,
        **more,
    }


def make_facade(
    kind: type[AbstractFacade],
    options: Mapping[str, Any],
    *,
    output_directory: Path | None,
    components: Callable[[Scenario], Mapping[str, Any]] | None,
) -> AbstractFacade:
    """Make a facade that asks nothing on the terminal and leaves logging alone.

    Args:
        kind: Which one.
        options: What its scenario is made of.
        output_directory: Where SMAC writes; nothing is left of what it writes without.
        components: Makes what the facade is to have in the place of its own parts.

    Raises:
        InvalidOptionError: When there is a run in the output directory, or the budgets do not fit.
    """
    library = require("smac", extra="smac", purpose="SMACOptimizer")
    with _folder(output_directory) as folder:
        scenario = library.Scenario(output_directory=folder, **options)
        if any(scenario.output_directory.glob("*.json")):
            message = (
                f"output_directory={output_directory} has the files of another run, in "
                f"{scenario.output_directory}; give another folder, name or seed, or remove it"
            )
            raise InvalidOptionError(message, option="output_directory", value=output_directory)
        parts = dict(components(scenario)) if components is not None else {}
        if "model" not in parts:
            parts["model"] = _frugal(kind.get_model(scenario))
        if scenario.count_objectives() > 1:
            # The default of SMAC is a mean with fixed weights, which finds one point of the front.
            parts.setdefault("multi_objective_algorithm", _parego(scenario))
        facade: AbstractFacade = kind(scenario, None, **{"logging_level": False, **parts})
    _check_budgets(facade)
    return facade


def check_choices(space: ConfigurationSpace) -> None:
    """Check that SMAC can write the configurations of a user's own space.

    Raises:
        InvalidSpaceError: When it cannot; names the key.
    """
    for key, part in space.items():
        found = getattr(part, "choices", None) or getattr(part, "sequence", None)
        values = found if found is not None else [getattr(part, "value", None)]
        for value in values:
            try:
                json.dumps(value, default=lambda each: each.item())  # numpy's numbers
            except (TypeError, ValueError, AttributeError):
                message = (
                    f"the space's key {key!r} cannot be {value!r:.200} with SMAC, which writes "
                    f"configurations as JSON; write the space as a mapping, where a choice can be "
                    f"anything"
                )
                raise InvalidSpaceError(message, key=str(key), value=value) from None


def crash_cost_of(scenario: Scenario, n_metrics: int) -> list[float]:
    """Return what a crash costs by each metric, infinite where that is not known beforehand."""
    cost: Any = scenario.crash_cost
    return [float(each) for each in (cost if isinstance(cost, Iterable) else [cost] * n_metrics)]


def _check_budgets(facade: AbstractFacade) -> None:
    scenario, intensifier = facade.scenario, facade.intensifier
    low, high = scenario.min_budget, scenario.max_budget
    kind = type(facade).__name__
    if not isinstance(intensifier, _successive_halving()):
        if low is None and high is None:
            return
        message = (
            f"min_budget={low!r} and max_budget={high!r} are of no use to {kind}, which has no "
            f'budgets; use facade="multi-fidelity" or facade="hyperband", or leave them out'
        )
        raise InvalidOptionError(message, option="min_budget", value=low)
    if intensifier.uses_instances and low is None and high is None:
        return  # as many as there are instances
    if low is not None and high is not None and 0 < low <= high < math.inf:
        return
    message = (
        f"min_budget={low!r} and max_budget={high!r} are not possible for {kind}; give the least "
        f"and the most that a trial can be given, such as min_budget=1 and max_budget=27"
    )
    raise InvalidOptionError(message, option="min_budget", value=low)


def _frugal(model: Any) -> Any:
    """Have a random forest of SMAC do the same with less.

    By default, SMAC makes room for a million leaves in each tree of each forest, which takes up to
    seconds a forest, and grows trees on all cores, which the workers are to have. There are never
    more leaves than trials, and the trees are the same ones.
    """
    options = getattr(model, "_rf_opts", None)
    if isinstance(options, dict) and options.get("max_leaf_nodes") == 2**20:
        options.update(max_leaf_nodes=2**14, n_jobs=1)
    return model


def _successive_halving() -> type:
    from smac.intensifier.successive_halving import SuccessiveHalving

    kind: type = SuccessiveHalving
    return kind


def _parego(scenario: Scenario) -> Any:
    from smac.multi_objective.parego import ParEGO

    return ParEGO(scenario)


@context
def _folder(given: Path | None) -> Iterator[Path]:
    """Yield the user's folder, or one that is removed when SMAC has written its settings to it."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="amltk-smac-") as folder:
        yield Path(folder)
