"""Functions to be minimized, and how they are: through ``optimize`` or by a library's own loop.

Both ways get the same function, space, seed and number of trials, one after the other.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amltk import Optimizer, RandomSearch, Scheduler, Trial
from amltk.optimization import Metric, OptunaOptimizer, SMACOptimizer, optimize

LOSS = Metric("loss")

#: Where a trial was, and what was observed there.
Tried = tuple[tuple[float, ...], float]

# --------------------------------------------------------------------------------- functions


def branin(x: Sequence[float]) -> float:
    """Return Branin's function, which has three equal minima of 0.397887."""
    b, c, t = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return (x[1] - b * x[0] ** 2 + c * x[0] - 6) ** 2 + 10 * (1 - t) * math.cos(x[0]) + 10


HARTMANN_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
HARTMANN_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann(x: Sequence[float]) -> float:
    """Return Hartmann's function of six numbers, which has a minimum of -3.32237."""
    rows = zip((1.0, 1.2, 3.0, 3.2), HARTMANN_A, HARTMANN_P, strict=True)
    return -sum(
        weight * math.exp(-sum(a * (v - p) ** 2 for a, p, v in zip(steep, at, x, strict=True)))
        for weight, steep, at in rows
    )


@dataclass(frozen=True)
class Problem:
    """A function to be minimized, and where; with noise of that standard deviation."""

    value: Callable[[Sequence[float]], float]
    space: Mapping[str, tuple[float, float]]
    noise: float = 0.0


BRANIN_SPACE = {"x0": (-5.0, 10.0), "x1": (0.0, 15.0)}

PROBLEMS = {
    "branin": Problem(branin, BRANIN_SPACE),
    "hartmann-6": Problem(hartmann, {f"x{place}": (0.0, 1.0) for place in range(6)}),
    "noisy branin": Problem(branin, BRANIN_SPACE, noise=1.0),
}


class Watched:
    """A function of a configuration that notes what was tried out.

    Noise depends on the configuration, the seed of the search, and ``draw``, nothing else: both
    ways see the same noise where they do the same.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.seed = seed
        self.tried: list[Tried] = []

    def __call__(self, config: Mapping[str, Any], draw: int) -> float:
        """Return what is observed."""
        place = tuple(float(config[key]) for key in self.problem.space)
        noise = random.Random(f"{self.seed} {draw} {place}").gauss(0.0, self.problem.noise)  # noqa: S311 - no secret
        self.tried.append((place, self.problem.value(place) + noise))
        return self.tried[-1][1]

    def best(self) -> float:
        """Return what the trial is worth without noise of which the least was observed."""
        return self.problem.value(min(self.tried, key=lambda tried: tried[1])[0])


# --------------------------------------------------------------------------- ways to search


def search(watched: Watched, optimizer: Optimizer, n_trials: int) -> None:
    """Search through ``optimize``, with one worker."""

    def target(trial: Trial) -> Trial.Report:
        with trial.begin():
            loss = watched(trial.config, trial.info.get("number", trial.seed))
        return trial.success(loss=loss)

    scheduler = Scheduler.with_threads(1)
    optimize(target, optimizer, scheduler, max_trials=n_trials, on_crash="raise")


def random_search(watched: Watched, n_trials: int) -> None:
    """Search at random."""
    search(watched, RandomSearch(watched.problem.space, metrics=LOSS, seed=watched.seed), n_trials)


def optuna_ours(watched: Watched, n_trials: int) -> None:
    """Search with TPE through ``optimize``."""
    import optuna

    sampler = optuna.samplers.TPESampler(seed=watched.seed)
    search(watched, OptunaOptimizer(watched.problem.space, metrics=LOSS, sampler=sampler), n_trials)


def optuna_own(watched: Watched, n_trials: int) -> None:
    """Search with TPE by Optuna's own loop."""
    import optuna

    def objective(trial: optuna.Trial) -> float:
        space = watched.problem.space
        config = {key: trial.suggest_float(key, *ends) for key, ends in space.items()}
        return watched(config, trial.number)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=watched.seed))
    study.optimize(objective, n_trials=n_trials, n_jobs=1)


def smac_ours(watched: Watched, n_trials: int) -> None:
    """Search with SMAC's facade for hyperparameters through ``optimize``."""
    optimizer = SMACOptimizer(
        watched.problem.space,
        metrics=LOSS,
        n_trials=n_trials,
        deterministic=not watched.problem.noise,
        seed=watched.seed,
    )
    search(watched, optimizer, n_trials)


def smac_own(watched: Watched, n_trials: int) -> None:
    """Search with the same facade by SMAC's own loop."""
    from ConfigSpace import ConfigurationSpace
    from smac import HyperparameterOptimizationFacade, Scenario

    def target(config: Mapping[str, Any], seed: int) -> float:
        return watched(config, seed)

    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            ConfigurationSpace(dict(watched.problem.space)),
            n_trials=n_trials,
            seed=watched.seed,
            deterministic=not watched.problem.noise,
            output_directory=Path(folder),
        )
        HyperparameterOptimizationFacade(scenario, target, logging_level=30).optimize()


@dataclass(frozen=True)
class Library:
    """A library, how many trials it gets, and how to search with it."""

    name: str
    n_trials: int
    ours: Callable[[Watched, int], None]
    own: Callable[[Watched, int], None]


LIBRARIES = {
    "optuna": Library("Optuna's TPE", 40, optuna_ours, optuna_own),
    "smac": Library("SMAC's HPO facade", 30, smac_ours, smac_own),
}


def run_search(problem: str, library: str, way: str, n_trials: int, seed: int) -> Any:
    """Run one search in a worker, and return its best and all that it tried out."""
    watched = Watched(PROBLEMS[problem], seed)
    ways = {"ours": LIBRARIES[library].ours, "own": LIBRARIES[library].own, "random": random_search}
    ways[way](watched, n_trials)
    assert len(watched.tried) == n_trials, (way, len(watched.tried))
    return watched.best(), watched.tried
