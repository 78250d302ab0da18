"""Tune a classifier on handwritten digits: an event-driven random search over two processes.

Run it with ``python examples/digits_search.py``; ``--help`` lists what can be changed. It needs
the extra ``examples``. It prints the best configurations and saves a picture of the search.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amltk import CallLimiter, Scheduler, Task
from amltk.scheduling import Future

Config = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What a worker reports of one configuration."""

    config: Config
    accuracy: float
    pid: int
    started_at: float
    ended_at: float


@dataclass
class Search:
    """What the driver knows so far."""

    results: list[Trained] = field(default_factory=list)
    n_since_best: int = 0

    def add(self, trained: Trained) -> None:
        """Note a result, and whether it is the best so far."""
        is_best = all(trained.accuracy > other.accuracy for other in self.results)
        self.n_since_best = 0 if is_best else self.n_since_best + 1
        self.results.append(trained)


def train(config: Config) -> Trained:
    """Score a configuration by cross-validation; this runs in a worker."""
    limit_threads()
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started_at = time.time()
    features, labels = load_digits(return_X_y=True)
    model = make_pipeline(
        StandardScaler(),
        MLPClassifier(
            hidden_layer_sizes=(config["width"],) * config["depth"],
            learning_rate_init=config["learning_rate"],
            alpha=config["alpha"],
            batch_size=config["batch_size"],
            max_iter=config["epochs"],
            random_state=0,
        ),
    )
    # A search tries short trainings too; that they have not converged is no news.
    model.set_params(mlpclassifier__tol=0.0, mlpclassifier__n_iter_no_change=config["epochs"])
    accuracy = float(cross_val_score(model, features, labels, cv=3).mean())
    return Trained(config, accuracy, os.getpid(), started_at, time.time())


def limit_threads() -> None:
    """Let a worker compute with one thread: two workers share two processors best that way."""
    import warnings

    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore", message=".*Maximum iterations.*")


def propose(rng: random.Random) -> Config:
    """Draw a configuration."""
    return {
        "width": rng.choice([16, 32, 64, 128]),
        "depth": rng.choice([1, 2]),
        "learning_rate": 10 ** rng.uniform(-4, -1),
        "alpha": 10 ** rng.uniform(-6, -1),
        "batch_size": rng.choice([32, 64, 128]),
        "epochs": rng.choice([5, 10, 20]),
    }


def search_digits(options: argparse.Namespace) -> Search:
    """Search until a limit, the time or patience is reached."""
    rng = random.Random(options.seed)
    search = Search()
    scheduler = Scheduler.with_processes(options.workers)
    limiter = CallLimiter(max_calls=options.trials)
    task = Task(train, scheduler, plugins=[limiter])

    @scheduler.on_start(repeat=options.workers)
    @task.on_done
    def try_another() -> None:
        task(propose(rng))

    @task.on_returned
    def note(trained: Trained) -> None:
        search.add(trained)

    @task.on_f_exception
    def tell(future: Future[Trained], error: BaseException) -> None:
        print(f"trial {future.number} failed: {error!r}")

    @task.on_returned(when=lambda: search.n_since_best >= options.patience)
    def stop_early() -> None:
        print(f"no better configuration in {options.patience} trials: stopping")
        scheduler.stop()

    exit_code = scheduler.run(
        timeout=options.timeout, end_on_exception=False, display=not options.quiet
    )
    print(f"The search ended: {exit_code}, after {len(search.results)} trials.")
    return search


def print_best(search: Search, count: int = 5) -> None:
    """Print the best configurations as a table."""
    from rich.console import Console
    from rich.table import Table

    best = sorted(search.results, key=lambda trained: -trained.accuracy)[:count]
    table = Table(title=f"The best {len(best)} of {len(search.results)}")
    table.add_column("accuracy", justify="right")
    for key in best[0].config:
        table.add_column(key, justify="right")
    table.add_column("seconds", justify="right")
    for trained in best:
        values = [f"{v:.2g}" if isinstance(v, float) else str(v) for v in trained.config.values()]
        seconds = trained.ended_at - trained.started_at
        table.add_row(f"{trained.accuracy:.4f}", *values, f"{seconds:.1f}")
    console = Console()
    console.print(table, width=None if console.is_terminal else 100)


def draw(search: Search, path: Path) -> None:
    """Save a picture: accuracy over time with the best so far, and what each worker did."""
    import matplotlib as mpl

    mpl.use("Agg")  # a picture in a file needs no screen
    from matplotlib import pyplot as plt

    results = sorted(search.results, key=lambda trained: trained.ended_at)
    origin = min(trained.started_at for trained in results)
    ended = [trained.ended_at - origin for trained in results]
    accuracies = [trained.accuracy for trained in results]
    best = [max(accuracies[: place + 1]) for place in range(len(accuracies))]
    lanes = {pid: lane for lane, pid in enumerate(dict.fromkeys(t.pid for t in results))}

    figure, (upper, lower) = plt.subplots(
        2, 1, sharex=True, figsize=(9, 6), height_ratios=[3, 1], layout="constrained"
    )
    upper.scatter(ended, accuracies, c=accuracies, cmap="viridis", label="a trial", zorder=2)
    upper.step(ended, best, where="post", color="black", linewidth=1.2, label="best so far")
    upper.set(ylabel="accuracy (3-fold)", title="Random search on the digits data")
    upper.legend(loc="lower right")
    upper.grid(alpha=0.3)
    for trained in results:
        lower.barh(
            lanes[trained.pid],
            trained.ended_at - trained.started_at,
            left=trained.started_at - origin,
            color=plt.colormaps["viridis"](
                (trained.accuracy - min(accuracies)) / (max(accuracies) - min(accuracies) or 1.0)
            ),
            edgecolor="white",
        )
    lower.set_yticks(list(lanes.values()), [f"worker {lane + 1}" for lane in lanes.values()])
    lower.set(xlabel="seconds since the first trial began", title="What each worker did")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--trials", type=int, default=40, help="trials at most (40)")
    parser.add_argument("--timeout", type=float, default=40.0, help="seconds at most (40)")
    parser.add_argument(
        "--patience", type=int, default=20, help="stop after so many trials without a better one"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the proposals (1)")
    parser.add_argument("--quiet", action="store_true", help="show no live view")
    parser.add_argument(
        "--picture", type=Path, default=Path("digits_search.png"), help="where to save the picture"
    )
    return parser.parse_args()


def main() -> None:
    """Search, print and draw."""
    options = parse_options()
    search = search_digits(options)
    if not search.results:
        print("No trial came to an end in time; give it a longer --timeout.")
        return
    print_best(search)
    draw(search, options.picture)
    print(f"The picture is in {options.picture}.")


main()
