"""Rows about ``optimize``: what it costs beyond the optimizer, and whether workers are kept busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from measure import Goal, Result, Row, in_pairs

from amltk import Optimizer, RandomSearch, Scheduler, Trial
from amltk.optimization import Metric, OptunaOptimizer, optimize

LOSS = Metric("loss")
SPACE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
SEED = 1

#: How many workers the loop has where its cost is measured: what a small machine has.
N_WORKERS = 2

MakeOptimizer = Callable[[], Optimizer]


def no_op(trial: Trial) -> Trial.Report:
    """Do nothing, so that all that is measured is the way there and back."""
    with trial.begin():
        pass
    return trial.success(loss=trial.config["x"])


def random_search(*, is_quick: bool = True) -> Optimizer:
    """Return what proposes trials in the least time.

    Args:
        is_quick: Whether it is called in the loop's thread, and not in one of its own.
    """
    optimizer = RandomSearch(SPACE, metrics=LOSS, seed=SEED)
    optimizer.is_quick = is_quick
    return optimizer


# ---------------------------------------------------------------------------- time per trial


def time_optimize(make: MakeOptimizer, n: int, *, n_workers: int = N_WORKERS) -> float:
    """Return the seconds of each of ``n`` trials through ``optimize``, on threads."""
    optimizer, scheduler = make(), Scheduler.with_threads(n_workers)
    begin = perf_counter()
    history = optimize(no_op, optimizer, scheduler, max_trials=n)
    seconds = perf_counter() - begin
    assert len(history) == n
    return seconds / n


def time_bare(make: MakeOptimizer, n: int) -> float:
    """Return the seconds of each of ``n`` trials when nothing but their three calls is done."""
    optimizer = make()
    begin = perf_counter()
    for _ in range(n):
        optimizer.tell(no_op(optimizer.ask()))
    return (perf_counter() - begin) / n


def measure_overhead(make: MakeOptimizer, *, quick: bool) -> Result:
    """Compare a trial through ``optimize`` with asking, calling and telling in a loop."""
    n, repeats = (300, 3) if quick else (5_000, 7)
    pairs = in_pairs(partial(time_optimize, make, n), partial(time_bare, make, n), repeats)
    extra_us = tuple(difference * 1e6 for difference in pairs.differences)
    return Result(
        extra_us,
        f"{n:,} trials of RandomSearch, {N_WORKERS} threads, {pairs.typical(1e6)} us a trial",
    )


# --------------------------------------------------------------------------- beside Optuna


def optuna_study() -> Any:
    """Return a study in memory that draws at random and shows nothing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))


def optuna_optimizer() -> Optimizer:
    """Return an optimizer with such a study."""
    return OptunaOptimizer(SPACE, metrics=LOSS, study=optuna_study())


def suggest_and_do_nothing(trial: Any) -> float:
    """Draw from the same space, for Optuna's own loop."""
    values = [trial.suggest_float(key, *ends) for key, ends in SPACE.items()]
    return float(values[0])


def time_study(n: int) -> float:
    """Return the seconds of each of ``n`` trials of ``study.optimize``."""
    study = optuna_study()
    begin = perf_counter()
    study.optimize(suggest_and_do_nothing, n_trials=n, n_jobs=1)
    return (perf_counter() - begin) / n


def time_ask_and_tell(n: int) -> float:
    """Return the seconds of each of ``n`` trials that a study is asked for and told of."""
    study = optuna_study()
    begin = perf_counter()
    for _ in range(n):
        trial = study.ask()
        study.tell(trial, suggest_and_do_nothing(trial))
    return (perf_counter() - begin) / n


def measure_beside_optuna(baseline: Callable[[int], float], *, quick: bool) -> Result:
    """Compare a trial through ``optimize``, with one worker, with one of Optuna alone."""
    n, repeats = (100, 3) if quick else (1_000, 7)
    pairs = in_pairs(
        partial(time_optimize, optuna_optimizer, n, n_workers=1), partial(baseline, n), repeats
    )
    return Result(pairs.slowdowns, f"{n:,} trials, 1 thread, {pairs.typical(1e6)} us a trial")


# ----------------------------------------------------------------- workers with a slow optimizer


@dataclass(frozen=True, slots=True)
class Pace:
    """How long trials and tells take, and for how long it is looked at.

    The run's time is up in the middle of a round of trials, which then comes to its end, so that
    what ends the run does not count as idleness.
    """

    trial_s: float
    tell_s: float
    n_rounds: int

    @property
    def timeout_s(self) -> float:
        """After how many seconds no trial is begun any more."""
        return (self.n_rounds - 0.5) * self.trial_s


FULL = Pace(trial_s=1.0, tell_s=0.5, n_rounds=5)
QUICK = Pace(trial_s=0.2, tell_s=0.1, n_rounds=3)


class SlowLearner(RandomSearch):
    """A random search that takes its time to learn, until it is told not to."""

    tell_s = 0.0
    n_slow = 0

    def tell(self, report: Trial.Report) -> None:
        """Take the time."""
        if self.tell_s:
            time.sleep(self.tell_s)
            self.n_slow += 1
        super().tell(report)


def wait_a_while(trial: Trial, *, trial_s: float) -> Trial.Report:
    """Take the time of a trial."""
    with trial.begin():
        time.sleep(trial_s)
    return trial.success(loss=trial.config["x"])


def run_slow_learner(pace: Pace, *, n_workers: int, ask_ahead: int) -> tuple[float, int, int]:
    """Run trials with an optimizer that is slow to learn.

    Returns:
        The share of their time for which the workers were busy, from the first beginning until
        the time was up and all trials had ended; how many trials there were, and how many of them
        the optimizer had learnt from when the time was up.
    """
    scheduler = Scheduler.with_threads(n_workers)
    task = Trial.Task(partial(wait_a_while, trial_s=pace.trial_s), scheduler)
    optimizer = SlowLearner(SPACE, metrics=LOSS, seed=SEED)
    optimizer.is_quick = False
    optimizer.tell_s = pace.tell_s
    times: list[Any] = []
    task.on_report(lambda report: times.append(report.time))
    up: list[tuple[float, int]] = []

    @scheduler.on_timeout
    def hurry() -> None:
        up.append((time.time(), optimizer.n_slow))
        optimizer.tell_s = 0.0  # what comes after the run is not what is measured

    optimize(task, optimizer, scheduler, ask_ahead=ask_ahead, timeout=pace.timeout_s)
    ((up_at, n_learnt),) = up
    end = max(up_at, *(each.ended_at for each in times))
    span = end - min(each.started_at for each in times)
    return sum(each.wall_s for each in times) / (n_workers * span), len(times), n_learnt


def measure_busy(*, quick: bool) -> Result:
    """Look for what share of their time 8 workers have a trial."""
    pace, repeats = (QUICK, 2) if quick else (FULL, 3)
    runs = [run_slow_learner(pace, n_workers=8, ask_ahead=8) for _ in range(repeats)]
    shares, counts, n_learnt = zip(*runs, strict=True)
    note = (
        f"{_and(counts)} trials in {pace.n_rounds} rounds of {pace.trial_s:g} s, tell takes "
        f"{pace.tell_s:g} s and was done with {_and(n_learnt)} of them when time was up"
    )
    return Result(shares, note)


def _and(counts: tuple[int, ...]) -> str:
    return ", ".join(map(str, counts))


ROWS = [
    Row(
        "trial-overhead",
        "a no-op trial by optimize(), on threads, beyond ask, call and tell in a loop",
        Goal(100, unit="us"),
        partial(measure_overhead, random_search),
        partial(time_optimize, random_search, 5_000),
        unit="us",
    ),
    Row(
        "trial-overhead-thread",
        "trial-overhead of an optimizer that may be slow, so that it has a thread of its own",
        None,
        partial(measure_overhead, partial(random_search, is_quick=False)),
        partial(time_optimize, partial(random_search, is_quick=False), 5_000),
        unit="us",
    ),
    Row(
        "busy-workers",
        "share of time that 8 workers have a trial of 1 s, if tell takes 0.5 s, with ask_ahead=8",
        Goal(0.95, at_least=True),
        measure_busy,
        partial(run_slow_learner, FULL, n_workers=8, ask_ahead=8),
    ),
]

if find_spec("optuna") is not None:
    ROWS += [
        Row(
            f"trial-rate-{name}",
            f"time per no-op trial by optimize() with Optuna's random sampler / by {other}",
            None,
            partial(measure_beside_optuna, baseline),
            partial(time_optimize, optuna_optimizer, 1_000, n_workers=1),
        )
        for name, other, baseline in [
            ("optuna", "study.optimize(n_jobs=1)", time_study),
            ("optuna-ask", "study.ask and study.tell in a loop", time_ask_and_tell),
        ]
    ]
