"""Try many networks for a few epochs and the best ones for longer: SMAC with multi-fidelity.

Run it with ``python examples/smac_multi_fidelity.py``; ``--help`` lists what can be changed. It
needs the extras ``examples`` and ``optimization``. SMAC decides after how many epochs of training
a network is looked at, in rounds of successive halving. Printed are, for each number of epochs,
how many networks got that far and the best of them.
"""

from __future__ import annotations

import argparse

from amltk import Scheduler
from amltk.optimization import Metric, SMACOptimizer, Trial, optimize
from amltk.plugins import ThreadPoolCTLPlugin

ERROR = Metric("error", bounds=(0, 1))

SPACE = {
    "width": (8, 128, "log"),
    "learning_rate": (1e-4, 1e-1, "log"),
    "alpha": (1e-6, 1e-1, "log"),
    "batch_size": [16, 32, 64, 128],
}


def train(trial: Trial) -> Trial.Report:
    """Train a network for as many epochs as the trial asks for; this runs in a worker."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    features, labels = load_digits(return_X_y=True)
    split = train_test_split(features / 16, labels, test_size=0.3, random_state=0, stratify=labels)
    train_features, test_features, train_labels, test_labels = split
    epochs = round(trial.fidelities["epochs"])
    with trial.begin():
        network = MLPClassifier(
            (trial.config["width"],),
            learning_rate_init=trial.config["learning_rate"],
            alpha=trial.config["alpha"],
            batch_size=trial.config["batch_size"],
            random_state=trial.seed,
        )
        for _ in range(epochs):
            network.partial_fit(train_features, train_labels, classes=range(10))
        return trial.success(error=1 - network.score(test_features, test_labels))


def main() -> None:
    """Search, and print how the networks did by the number of epochs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=60, help="trials (60)")
    parser.add_argument("--epochs", type=int, default=27, help="epochs of the longest (27)")
    parser.add_argument("--seed", type=int, default=1, help="seed of SMAC (1)")
    options = parser.parse_args()

    optimizer = SMACOptimizer(
        SPACE,
        metrics=ERROR,
        facade="multi-fidelity",
        fidelity="epochs",
        min_budget=1,
        max_budget=options.epochs,
        n_trials=options.trials,
        seed=options.seed,
    )
    history = optimize(
        train,
        optimizer,
        Scheduler.with_processes(2),
        max_trials=options.trials,
        plugins=ThreadPoolCTLPlugin(1),  # two workers share two processors best that way
    )

    print("epochs  networks  least error")
    for epochs in sorted({report.trial.fidelities["epochs"] for report in history}):
        group = [r.metrics["error"] for r in history if r.trial.fidelities["epochs"] == epochs]
        print(f"{epochs:6.0f}  {len(group):8}  {min(group):11.4f}")
    n_epochs = sum(report.trial.fidelities["epochs"] for report in history)
    print(f"{len(history)} trials took {n_epochs:.0f} epochs, not {options.epochs * len(history)}.")
    best = history.best(ERROR)
    print(f"The best network is {best.name}: {dict(best.config)}")


main()
