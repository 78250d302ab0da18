"""Look for models that are accurate and small: two metrics, and the trade-offs between them.

Run it with ``python examples/two_metrics.py``; ``--help`` lists what can be changed. It needs the
extras ``examples`` and ``optimization``. Optuna proposes forests for handwritten digits. No one of
them is the best: printed is the Pareto front, the forests to which no other one is preferable by
both metrics, and a picture shows it among all trials.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from amltk import Scheduler
from amltk.optimization import History, Metric, OptunaOptimizer, Trial, optimize

ACCURACY = Metric("accuracy", minimize=False, bounds=(0, 1))
NODES = Metric("nodes", minimize=True, bounds=(1, float("inf")))

SPACE = {
    "trees": (1, 60, "log"),
    "depth": (2, 16),
    "features": (0.05, 1.0),
    "leaf": (1, 20, "log"),
}


def evaluate(trial: Trial) -> Trial.Report:
    """Train a forest, and measure how good it is and how large; this runs in a worker."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    features, labels = load_digits(return_X_y=True)
    split = train_test_split(features, labels, test_size=0.3, random_state=0, stratify=labels)
    train_features, test_features, train_labels, test_labels = split
    with trial.begin():
        forest = RandomForestClassifier(
            trial.config["trees"],
            max_depth=trial.config["depth"],
            max_features=trial.config["features"],
            min_samples_leaf=trial.config["leaf"],
            random_state=trial.seed,
        )
        forest.fit(train_features, train_labels)
        accuracy = forest.score(test_features, test_labels)
        nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
        return trial.success(accuracy=accuracy, nodes=nodes)


def draw(history: History, path: Path) -> None:
    """Save a picture of all trials and the front."""
    import matplotlib as mpl

    mpl.use("Agg")  # a picture in a file needs no screen
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    history.plot_pareto([NODES, ACCURACY], ax=axes)
    axes.set_xscale("log")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Search, print the front and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=60, help="trials (60)")
    parser.add_argument("--seed", type=int, default=1, help="seed of Optuna's sampler (1)")
    parser.add_argument(
        "--picture", type=Path, default=Path("two_metrics.png"), help="where to save the picture"
    )
    options = parser.parse_args()

    optimizer = OptunaOptimizer(SPACE, metrics=[ACCURACY, NODES], seed=options.seed)
    history = optimize(evaluate, optimizer, Scheduler.with_processes(2), max_trials=options.trials)

    front = history.pareto_front([ACCURACY, NODES])
    print(f"{len(front)} of {len(history)} trials are on the Pareto front:")
    print("accuracy    nodes")
    for report in sorted(front, key=lambda report: report.metrics["nodes"]):
        print(f"  {report.metrics['accuracy']:.4f}  {report.metrics['nodes']:7.0f}")
    draw(history, options.picture)
    print(f"The picture is in {options.picture}.")


main()
