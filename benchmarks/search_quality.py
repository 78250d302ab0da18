"""Compare what is found through ``optimize`` with what Optuna's and SMAC's own loops find.

Run it with ``python benchmarks/search_quality.py``; ``--help`` lists what can be changed.

A search is as good as its best trial: of a noisy function, what the trial with the least
observation is worth without the noise. Where both ways try out the very same configurations, which
they should, their best are the same; otherwise a test tells whether the difference is more than
noise. Random search with as many trials shows what the test tells of a difference that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from run import setting, show_setting
from searches import LIBRARIES, PROBLEMS, run_search

from amltk import Scheduler, Task

N_WORKERS = 2
WAYS = ("ours", "own", "random")

#: How many seconds are between two words on the progress.
TELL_EVERY_S = 5.0

#: Differences are called noise unless chance makes such ones in less than this share of cases.
SIGNIFICANT = 0.05

#: The environment of the workers. Each has a processor to itself, so that more threads would only be
#: in the way. Memory that SMAC's trees are done with is kept for the next ones, where glibc would
#: hand it back and get it anew, which took longer than all else. And what SMAC proposes depends on
#: the order of sets, which otherwise is another one in each process.
OF_WORKERS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "1",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "PYTHONHASHSEED": "0",
}

#: The function, the library, the way, how many trials and the seed of a search.
Key = tuple[str, str, str, int, int]

# --------------------------------------------------------------------------- what they came to


@dataclass(frozen=True)
class Comparison:
    """What a library found on a function by both ways, over all seeds."""

    function: str
    library: str
    n_trials: int
    ours: tuple[float, ...]
    own: tuple[float, ...]
    random: tuple[float, ...]
    #: In how many seeds both ways found the same best, and tried out the very same.
    n_same_best: int
    n_same_trials: int

    @property
    def p_paired(self) -> float:
        """How likely chance makes such differences of the pairs, by Wilcoxon's test."""
        from scipy.stats import wilcoxon

        differences = [one - two for one, two in zip(self.ours, self.own, strict=True)]
        return float(wilcoxon(differences).pvalue) if any(differences) else 1.0

    @property
    def p_random(self) -> float:
        """The same of ``ours`` against random search, by the test of Mann and Whitney."""
        from scipy.stats import mannwhitneyu

        return float(mannwhitneyu(self.ours, self.random).pvalue)

    @property
    def verdict(self) -> str:
        """Tell in words whether the two ways differ."""
        if self.n_same_trials == len(self.ours):
            return "the very same trials"
        if self.p_paired > SIGNIFICANT:
            return "no difference beyond noise"
        better = "better" if statistics.median(self.ours) < statistics.median(self.own) else "worse"
        return f"a difference: optimize() is {better}"


def run_all(keys: list[Key]) -> dict[Key, Any]:
    """Run all searches on processes, and tell of the progress on stderr."""
    os.environ.update(OF_WORKERS)
    scheduler = Scheduler.with_processes(N_WORKERS)
    batch = Task(run_search, scheduler).batch(keys)
    found: dict[Key, Any] = {}
    begin = told_at = perf_counter()
    n_done = 0

    @batch.on_any_returned
    def tell() -> None:
        nonlocal n_done, told_at
        n_done += 1
        now = perf_counter()
        if now - told_at > TELL_EVERY_S or n_done == len(keys):
            told_at = now
            line = f"{n_done} of {len(keys)} searches, {now - begin:.0f} s"
            print(line, file=sys.stderr, flush=True)

    batch.on_batch_returned(lambda results: found.update(zip(keys, results, strict=True)))
    scheduler.on_start(batch.submit)
    scheduler.run()
    return found


def compare(libraries: list[str], n_seeds: int, *, quick: bool) -> list[Comparison]:
    """Search with all libraries, and compare."""
    pairs = [(problem, library) for library in libraries for problem in PROBLEMS]
    n_trials = {key: 12 if quick else LIBRARIES[key].n_trials for key in libraries}
    found = run_all(
        [
            (problem, library, way, n_trials[library], seed)
            for problem, library in pairs
            for seed in range(n_seeds)
            for way in WAYS
        ]
    )
    comparisons = []
    for problem, library in pairs:
        of = {
            way: [found[problem, library, way, n_trials[library], seed] for seed in range(n_seeds)]
            for way in WAYS
        }
        best = {way: tuple(value for value, _ in results) for way, results in of.items()}
        both = list(zip(of["ours"], of["own"], strict=True))
        comparisons.append(
            Comparison(
                problem,
                LIBRARIES[library].name,
                n_trials[library],
                **best,
                n_same_best=sum(one[0] == two[0] for one, two in both),
                n_same_trials=sum(one[1] == two[1] for one, two in both),
            )
        )
    return comparisons


# ------------------------------------------------------------------------------------ showing

HEADINGS = (
    "function",
    "library",
    "trials",
    "by optimize()",
    "by its own loop",
    "same best",
    "same trials",
    "p",
    "random search",
    "p of it",
    "verdict",
)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper one."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def show_values(values: Sequence[float]) -> str:
    """Show the median, and between which values the middle half lies."""
    low, median, high = quartiles(values)
    return f"{median:.4g} ({low:.4g}..{high:.4g})"


def cells(one: Comparison) -> tuple[str, ...]:
    """Return one line of the table."""
    n_seeds = len(one.ours)
    return (
        one.function,
        one.library,
        str(one.n_trials),
        show_values(one.ours),
        show_values(one.own),
        f"{one.n_same_best} of {n_seeds}",
        f"{one.n_same_trials} of {n_seeds}",
        f"{one.p_paired:.2g}",
        show_values(one.random),
        f"{one.p_random:.2g}",
        one.verdict,
    )


def show_table(comparisons: list[Comparison]) -> str:
    """Show all comparisons, in columns as wide as they need to be."""
    lines = [HEADINGS, *map(cells, comparisons)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_json(one: Comparison) -> dict[str, Any]:
    """Return a comparison for ``--json``."""
    return {
        "function": one.function,
        "library": one.library,
        "trials": one.n_trials,
        "best": {"ours": one.ours, "own": one.own, "random": one.random},
        "same_best": one.n_same_best,
        "same_trials": one.n_same_trials,
        "p": one.p_paired,
        "p_random": one.p_random,
        "verdict": one.verdict,
    }


def arguments_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds, 20 by default")
    parser.add_argument("--quick", action="store_true", help="3 seeds, and few trials each")
    parser.add_argument(
        "--only", action="append", choices=LIBRARIES, metavar="LIBRARY", help="optuna or smac"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args(arguments)


def main() -> None:
    """Search, print the table, write the file."""
    options = arguments_of()
    n_seeds = options.seeds or (3 if options.quick else 20)
    facts = setting()
    print(show_setting(facts), flush=True)
    wanted = options.only or list(LIBRARIES)
    libraries = [key for key in wanted if find_spec(key) is not None]
    comparisons = compare(libraries, n_seeds, quick=options.quick)
    print(f"\n{show_table(comparisons)}\n")
    print(
        f"medians and quartiles of the best of {n_seeds} seeds; p: Wilcoxon's test, by pairs of a "
        f"seed; p of random search against optimize(): the test of Mann and Whitney"
    )
    for key in sorted(set(wanted) - set(libraries)):
        print(f"left out: {key} is not installed")
    if options.quick:
        print("--quick: with few seeds and few trials, which tell little")
    if options.json is not None:
        report = {
            "setting": {**facts, "quick": options.quick, "seeds": n_seeds},
            "rows": [as_json(one) for one in comparisons],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
