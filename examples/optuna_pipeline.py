"""Tune a scikit-learn pipeline with Optuna over two processes, and keep what happened.

Run it with ``python examples/optuna_pipeline.py``; ``--help`` lists what can be changed. It needs
the extras ``examples`` and ``optimization``. It prints the best pipeline, saves a picture of the
search, and all reports as JSON lines, which ``History.load`` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from amltk import Scheduler
from amltk.optimization import History, Metric, OptunaOptimizer, Trial, optimize
from amltk.plugins import ThreadPoolCTLPlugin

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ACCURACY = Metric("accuracy", minimize=False, bounds=(0, 1))

SPACE = {
    "scaler": ["standard", "robust", "minmax"],
    "components": (2, 20),
    "kernel": ["rbf", "linear"],
    "C": (1e-2, 1e2, "log"),
    "gamma": (1e-4, 1e0, "log"),
}


def make_pipeline(trial: Trial) -> Pipeline:
    """Make the pipeline of a configuration."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
    from sklearn.svm import SVC

    config = trial.config
    scalers = {"standard": StandardScaler(), "robust": RobustScaler(), "minmax": MinMaxScaler()}
    model = SVC(kernel=config["kernel"], C=config["C"], gamma=config["gamma"])
    return Pipeline(
        [
            ("scale", scalers[config["scaler"]]),
            ("reduce", PCA(config["components"], random_state=trial.seed)),
            ("classify", model),
        ]
    )


def evaluate(trial: Trial) -> Trial.Report:
    """Cross-validate a pipeline; this runs in a worker."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import cross_val_score

    features, labels = load_breast_cancer(return_X_y=True)
    with trial.begin():
        scores = cross_val_score(make_pipeline(trial), features, labels, cv=5)
        trial.summary["folds"] = [round(float(score), 4) for score in scores]
        return trial.success(accuracy=scores.mean())


def draw(history: History, path: Path) -> None:
    """Save a picture: the accuracy of trial after trial, and below what each worker did."""
    import matplotlib as mpl

    mpl.use("Agg")  # a picture in a file needs no screen
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(9, 6), height_ratios=[3, 1], layout="constrained"
    )
    history.plot_score(ACCURACY, ax=upper)
    history.plot_timeline(ax=lower)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--trials", type=int, default=40, help="trials (40)")
    parser.add_argument("--seed", type=int, default=1, help="seed of Optuna's sampler (1)")
    parser.add_argument(
        "--out", type=Path, default=Path("optuna_pipeline"), help="where to save, without ending"
    )
    return parser.parse_args()


def main() -> None:
    """Search, print, save and draw."""
    options = parse_options()
    history = optimize(
        evaluate,
        OptunaOptimizer(SPACE, metrics=ACCURACY, seed=options.seed),
        Scheduler.with_processes(options.workers),
        max_trials=options.trials,
        plugins=ThreadPoolCTLPlugin(1),  # two workers share two processors best that way
    )

    best = history.best(ACCURACY)
    print(f"The best of {len(history)} trials is {best.name}: {best.metrics['accuracy']:.4f}")
    for key, value in best.config.items():
        print(f"  {key} = {value:.3g}" if isinstance(value, float) else f"  {key} = {value}")
    print(f"  folds: {best.trial.summary['folds']}")

    records, picture = options.out.with_suffix(".jsonl"), options.out.with_suffix(".png")
    history.save(records)
    draw(history, picture)
    print(f"The reports are in {records}, the picture is in {picture}.")


main()
