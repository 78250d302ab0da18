"""Train small PyTorch networks on the CPU, and let the driver end those that get no better.

Run it with ``python examples/torch_cpu.py``; ``--help`` lists what can be changed. It needs the
extra ``examples``, and PyTorch: ``pip install torch``. After each epoch a network asks the driver
whether it shall go on; the driver answers "stop" when its accuracy has not risen for a while.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amltk import Comm, Scheduler
from amltk.optimization import Metric, RandomSearch, Trial, optimize

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

ACCURACY = Metric("accuracy", minimize=False, bounds=(0, 1))

SPACE = {
    "width": (16, 128, "log"),
    "dropout": (0.0, 0.5),
    "lr": (1e-4, 1e-1, "log"),
    "batch_size": [32, 64, 128],
}

MOST_EPOCHS = 50


@dataclass
class Patience:
    """Tells of one network whether it still gets better."""

    epochs: int
    best: float = 0.0
    n_vain: int = 0

    def is_over(self, accuracy: float) -> bool:
        """Note the accuracy after an epoch, and tell whether it is time to stop."""
        self.n_vain = 0 if accuracy > self.best else self.n_vain + 1
        self.best = max(self.best, accuracy)
        return self.n_vain >= self.epochs


def train(trial: Trial) -> Trial.Report:
    """Train a network until the driver says stop; this runs in a worker."""
    import torch

    torch.set_num_threads(1)  # two workers share two processors best that way
    torch.manual_seed(trial.seed or 0)
    comm = trial.plugins["comm"]
    images, test_images, labels, test_labels = load_data()
    with trial.begin():
        network = make_network(trial)
        optimizer = torch.optim.Adam(network.parameters(), lr=trial.config["lr"])
        for epoch in range(1, MOST_EPOCHS + 1):
            trial.summary["epochs"] = epoch
            for batch in torch.randperm(len(images)).split(trial.config["batch_size"]):
                train_batch(network, optimizer, images[batch], labels[batch])
            accuracy = score(network, test_images, test_labels)
            if comm.request((trial.name, accuracy)) == "stop":
                break
        return trial.success(accuracy=accuracy)


def load_data() -> list[Tensor]:
    """Return images to train and to test with, and the labels of both."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images.astype("float32") / 16, labels, random_state=0)
    return [torch.from_numpy(part) for part in parts]


def make_network(trial: Trial) -> nn.Module:
    """Make the network of a configuration."""
    from torch import nn

    width = trial.config["width"]
    dropout = nn.Dropout(trial.config["dropout"])
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), dropout, nn.Linear(width, 10))


def train_batch(
    network: nn.Module, optimizer: optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """Make one step downhill."""
    from torch.nn.functional import cross_entropy

    network.train()
    optimizer.zero_grad()
    cross_entropy(network(images), labels).backward()
    optimizer.step()


def score(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return how many of the images get their label, from 0 to 1."""
    import torch

    network.eval()
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).float().mean())


def main() -> None:
    """Search, and print what became of each network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=8, help="networks (8)")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better one (5)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the search (1)")
    options = parser.parse_args()

    scheduler = Scheduler.with_processes(2)
    task = Trial.Task(train, scheduler, plugins=Comm.Plugin())
    networks: dict[str, Patience] = {}

    @task.on_request
    def decide(msg: Comm.Msg) -> None:
        name, accuracy = msg.data
        patience = networks.setdefault(name, Patience(options.patience))
        msg.respond("stop" if patience.is_over(accuracy) else "go on")

    @task.on_success
    def tell(report: Trial.SuccessReport) -> None:
        epochs, accuracy = report.trial.summary["epochs"], report.metrics["accuracy"]
        print(f"{report.name:>10}: accuracy {accuracy:.4f} after {epochs} epochs")

    optimizer = RandomSearch(SPACE, metrics=ACCURACY, seed=options.seed)
    history = optimize(task, optimizer, scheduler, max_trials=options.trials)
    best = history.best(ACCURACY)
    print(f"The best of {len(history)} networks is {best.name}: {dict(best.config)}")


main()
