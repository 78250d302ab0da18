"""Measure what amltk promises, each promise as a ratio within one run.

Run it with ``python benchmarks/run.py``; ``--help`` lists what can be changed. A row that misses
its goal is no failure of the program: other work on the machine shows in the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import rows_calls
import rows_engines
import rows_events
import rows_optimization
import rows_plugins
import rows_queue
import rows_startup
import rows_trials
from measure import Result, Row, profile

import amltk

ROWS = [
    *rows_events.ROWS,
    *rows_calls.ROWS,
    *rows_queue.ROWS,
    *rows_startup.ROWS,
    *rows_engines.ROWS,
    *rows_plugins.ROWS,
    *rows_optimization.ROWS,
    *rows_trials.ROWS,
]


def setting() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "amltk": amltk.__version__,
    }


def show_setting(facts: dict[str, Any]) -> str:
    """Show the setting in one line."""
    load = ", ".join(f"{figure:.2f}" for figure in facts["load"])
    return (
        f"Python {facts['python']}, {facts['cpus']} CPUs, load {load} (1, 5, 15 minutes), "
        f"amltk {facts['amltk']}"
    )


def verdict(row: Row, result: Result) -> str:
    """Tell in a word whether a row meets its goal."""
    if result.broken:
        return "no"
    if row.goal is None:
        return "-"
    return "yes" if row.goal.is_met_by(result.median) else "no"


def cells(row: Row, result: Result) -> tuple[str, ...]:
    """Return one line of the table."""
    return (
        row.name,
        f"{result.median:.3g} {row.unit}".rstrip(),
        "{:.3g}..{:.3g}".format(*result.quartiles),
        "{:.3g}..{:.3g}".format(*result.ends),
        str(len(result.ratios)),
        "-" if row.goal is None else str(row.goal),
        verdict(row, result),
        row.title,
    )


HEADINGS = (
    "row",
    "median",
    "quartiles",
    "min..max",
    "pairs",
    "goal",
    "met",
    "what",
)


def show_table(results: list[tuple[Row, Result]]) -> str:
    """Show all rows, in columns as wide as they need to be."""
    lines = [HEADINGS, *(cells(row, result) for row, result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    padded.insert(1, ["-" * width for width in widths[:-1]] + ["-" * len(HEADINGS[-1])])
    return "\n".join("  ".join(line).rstrip() for line in padded)


def show_notes(results: list[tuple[Row, Result]]) -> str:
    """Show the figures behind the ratios, and what else was not kept."""
    lines = ["behind it, ours / baseline of the median pair:"]
    for row, result in results:
        broken = f" -- NOT KEPT: {result.broken}" if result.broken else ""
        lines.append(f"  {row.name}: {result.note}{broken}")
    return "\n".join(lines)


def as_json(row: Row, result: Result) -> dict[str, Any]:
    """Return a row for ``--json``."""
    (low, high), (least, most) = result.quartiles, result.ends
    return {
        "name": row.name,
        "title": row.title,
        "ratio": result.median,
        "unit": row.unit,
        "spread": {"min": least, "q1": low, "q3": high, "max": most},
        "pairs": list(result.ratios),
        "goal": None if row.goal is None else str(row.goal),
        "met": {"yes": True, "no": False, "-": None}[verdict(row, result)],
        "note": result.note,
        "broken": result.broken,
    }


def measure_rows(rows: list[Row], *, quick: bool) -> list[tuple[Row, Result]]:
    """Measure one row after the other and tell of each on stderr."""
    results = []
    for row in rows:
        begin = time.perf_counter()
        result = row.measure(quick=quick)
        results.append((row, result))
        took = time.perf_counter() - begin
        line = f"{row.name}: {result.median:.3g} {row.unit}".rstrip()
        print(f"{line}  ({took:.1f} s)", file=sys.stderr, flush=True)
    return results


def arguments_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [row.name for row in ROWS]
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repeats")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--profile", action="store_true", help="show where the time of rows that miss goes"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print the table, write the file."""
    options = arguments_of()
    facts = setting()
    print(show_setting(facts), flush=True)
    rows = [row for row in ROWS if options.only is None or row.name in options.only]
    results = measure_rows(rows, quick=options.quick)
    print(f"\n{show_table(results)}\n\n{show_notes(results)}")
    for name in rows_engines.LEFT_OUT:
        print(f"left out: {name}")
    if options.quick:
        print("\n--quick: at small sizes, not those that were promised")
    if options.json is not None:
        report = {
            "setting": {**facts, "quick": options.quick},
            "rows": [as_json(row, result) for row, result in results],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.profile:
        for row, result in results:
            if options.only or verdict(row, result) == "no":
                print(f"\n== {row.name}: our side under cProfile ==\n{profile(row.ours)}")


if __name__ == "__main__":
    main()
