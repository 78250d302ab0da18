"""Write an optimizer of your own: a (1+1) evolution strategy in twenty lines.

Run it with ``python examples/own_optimizer.py``; it needs nothing but amltk. It looks for the
minimum of Himmelblau's function over two processes, and prints each improvement.
"""

from __future__ import annotations

import argparse
import random

from amltk import Scheduler
from amltk.optimization import Metric, Trial, optimize

LOSS = Metric("loss")


class OnePlusOne:
    """Changes the best configuration so far a little, by larger steps while that goes well."""

    metrics = (LOSS,)

    def __init__(self, start: dict[str, float], *, step: float, seed: int) -> None:
        self.best, self.best_loss = start, float("inf")
        self.step = step
        self._rng = random.Random(seed)
        self._n_asked = 0

    def ask(self) -> Trial:
        """Propose a neighbour of the best configuration."""
        config = {key: x + self._rng.gauss(0, self.step) for key, x in self.best.items()}
        self._n_asked += 1
        return Trial(f"neighbour-{self._n_asked}", config)

    def tell(self, report: Trial.Report) -> None:
        """Go there if it is better. One success in five tries leaves the step as it is."""
        loss = report.loss(LOSS)  # infinite if the trial failed or crashed
        is_better = loss < self.best_loss
        if is_better:
            self.best, self.best_loss = dict(report.config), loss
        self.step *= 1.5 if is_better else 1.5**-0.25


def himmelblau(trial: Trial) -> Trial.Report:
    """Compute the loss of a configuration; this runs in a worker."""
    with trial.begin():
        x, y = trial.config["x"], trial.config["y"]
        loss = (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2
    return trial.success(loss=loss)


def main() -> None:
    """Search, and print what gets better."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=200, help="trials (200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the optimizer (1)")
    options = parser.parse_args()

    optimizer = OnePlusOne({"x": 0.0, "y": 0.0}, step=1.0, seed=options.seed)
    history = optimize(
        himmelblau, optimizer, Scheduler.with_processes(2), max_trials=options.trials
    )

    for report in history.incumbents(LOSS):
        x, y = report.config["x"], report.config["y"]
        print(f"{report.name:>14}: x={x:+.4f} y={y:+.4f} loss={report.metrics['loss']:.2e}")
    print(f"The best of {len(history)} trials is {history.best(LOSS).name}.")


main()
