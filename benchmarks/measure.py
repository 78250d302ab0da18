"""How the benchmarks measure: in pairs, several times, never one figure alone.

A machine that does other things too slows down both sides of a pair about alike, so a ratio taken
within a pair says more than two figures taken apart::

    ours, baseline, baseline, ours, ours, baseline, …   one ratio for each pair
    ──────────────  ──────────────  ──────────────

What is reported is the median of these ratios and how far they lie apart.
"""

from __future__ import annotations

import cProfile
import gc
import io
import json
import operator
import pstats
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

#: Where the benchmarks are.
FOLDER = Path(__file__).resolve().parent

#: Measures one side once and returns a figure, mostly seconds.
Side = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row has to reach.

    Attributes:
        bound: The figure itself.
        at_least: Whether the figure is the least, and not the most, that is allowed.
        unit: What the figure is measured in; nothing for a ratio.
    """

    bound: float
    at_least: bool = False
    unit: str = ""

    def __str__(self) -> str:
        """Show it as it stands in the table."""
        return f"{'>=' if self.at_least else '<='} {self.bound:g} {self.unit}".rstrip()

    def is_met_by(self, figure: float) -> bool:
        """Tell whether a figure is good enough."""
        return figure >= self.bound if self.at_least else figure <= self.bound


@dataclass(frozen=True, slots=True)
class Result:
    """What a row came to.

    Attributes:
        ratios: The ratio, or the difference, of each pair.
        note: What was measured, with the figures behind the ratio.
        broken: What else was promised and not kept, if anything.
    """

    ratios: tuple[float, ...]
    note: str
    broken: str = ""

    @property
    def median(self) -> float:
        """The one figure that is held against the goal."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which figures the middle half of the pairs lies."""
        if len(self.ratios) == 1:
            return self.ratios[0], self.ratios[0]
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    @property
    def ends(self) -> tuple[float, float]:
        """Between which figures all pairs lie."""
        return min(self.ratios), max(self.ratios)


class Measure(Protocol):
    """Measures a row."""

    def __call__(self, *, quick: bool) -> Result:
        """Measure, at small sizes or at those that were promised."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: For ``--only``.
        title: What is measured.
        goal: What it has to reach; ``None`` for a row that is there for comparison.
        measure: Measures it, quickly or at full size.
        ours: Runs our side once, to be profiled.
        unit: What the figure is measured in; nothing for a ratio.
    """

    name: str
    title: str
    goal: Goal | None
    measure: Measure
    ours: Callable[[], object]
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What both sides came to, pair by pair.

    Attributes:
        ours: The figures of our side.
        baseline: The figures of what it is compared with.
    """

    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def slowdowns(self) -> tuple[float, ...]:
        """Our time over the baseline's, for each pair."""
        return tuple(map(operator.truediv, self.ours, self.baseline))

    @property
    def rates(self) -> tuple[float, ...]:
        """Our rate over the baseline's, for each pair of times."""
        return tuple(map(operator.truediv, self.baseline, self.ours))

    @property
    def differences(self) -> tuple[float, ...]:
        """Our figure less the baseline's, for each pair."""
        return tuple(map(operator.sub, self.ours, self.baseline))

    def typical(self, scale: float) -> str:
        """Show both sides of the pair whose ratio is the median, multiplied by a scale.

        Not the medians of both sides: on a machine whose speed changes, these may come from
        different moments and then tell of another ratio.
        """
        ratios = self.slowdowns
        place = ratios.index(statistics.median_low(ratios))
        return f"{self.ours[place] * scale:.3g} / {self.baseline[place] * scale:.3g}"


def in_pairs(ours: Side, baseline: Side, repeats: int) -> Pairs:
    """Measure both sides alternately; which of them comes first alternates too.

    Args:
        ours: Our side.
        baseline: What it is compared with.
        repeats: How many pairs are measured, after one that does not count.
    """
    figures: tuple[list[float], list[float]] = ([], [])
    sides = (ours, baseline)
    for repeat in range(repeats + 1):
        for place in (0, 1) if repeat % 2 else (1, 0):
            gc.collect()
            figure = sides[place]()
            if repeat:
                figures[place].append(figure)
    return Pairs(tuple(figures[0]), tuple(figures[1]))


def in_fresh_interpreter(*arguments: str) -> Any:
    """Run Python with these arguments and return what it prints, read as JSON.

    Args:
        *arguments: As on the command line.
    """
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    return json.loads(done.stdout)


def profile(body: Callable[[], object], n_lines: int = 15) -> str:
    """Run something under ``cProfile`` and show the functions that took most time themselves.

    Threads that the body starts are shown too, one table each, where Python allows several
    profilers at once (up to 3.11). A profiler makes calls of Python functions look dearer than
    they are: read it for where time goes, not for how much.

    Args:
        body: What to run.
        n_lines: How many functions are shown of each thread.
    """
    others: list[tuple[str, cProfile.Profile]] = []

    def profile_thread(*_event: object) -> None:
        own = cProfile.Profile()
        others.append((threading.current_thread().name, own))
        own.enable()

    main = cProfile.Profile()
    if sys.version_info < (3, 12):
        threading.setprofile(profile_thread)
    try:
        main.runcall(body)
    finally:
        threading.setprofile(None)
    return "\n".join(_shown(name, one, n_lines) for name, one in [("main", main), *others])


def _shown(name: str, profiler: cProfile.Profile, n_lines: int) -> str:
    out = io.StringIO()
    stats = pstats.Stats(profiler, stream=out)
    stats.strip_dirs().sort_stats("tottime").print_stats(n_lines)
    lines = [line for line in out.getvalue().splitlines() if line.strip()]
    return "\n".join([f"thread {name}:", *lines])
