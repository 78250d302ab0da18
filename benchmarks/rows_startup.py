"""Rows about starting: what importing costs, each time in a fresh interpreter."""

from __future__ import annotations

from functools import partial

from measure import Goal, Result, Row, in_fresh_interpreter, in_pairs

BASELINE = "import concurrent.futures.process, asyncio"


def time_import(statement: str) -> float:
    """Return the seconds that a statement takes in a fresh interpreter."""
    program = (
        "from time import perf_counter\n"
        "begin = perf_counter()\n"
        f"{statement}\n"
        "print(perf_counter() - begin)"
    )
    return float(in_fresh_interpreter("-c", program))


def measure_import(statement: str, *, quick: bool) -> Result:
    """Compare an import with that of the standard modules that any such library needs."""
    pairs = in_pairs(
        partial(time_import, statement), partial(time_import, BASELINE), 7 if quick else 25
    )
    return Result(pairs.slowdowns, f"{pairs.typical(1e3)} ms")


def _row(name: str, statement: str, goal: Goal | None) -> Row:
    return Row(
        name,
        f"`{statement}` / `{BASELINE}`",
        goal,
        partial(measure_import, statement),
        partial(exec, statement),
    )


ROWS = [
    _row("import", "import amltk", Goal(1.5)),
    _row("import-names", "from amltk import Scheduler, Task", None),
]
