"""Writes down which engine passes which test of the executor contract, as a page of the docs.

``pytest --contract-table=docs/engines/contract.md`` writes it after the run, from what has just
happened, so the page can say nothing that no test has shown. Classes say the engine's name by an
attribute ``engine``; those without one are left out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from amltk.testing.contracts import ExecutorContract

#: What reports say of the test of a contract: its name and its engine.
PROPERTY = "contract"

PASSED, SKIPPED, FAILED = "yes", "no", "FAILED"

HEAD = """# The contract, engine by engine

This page is written by the test suite, from a run of `amltk.testing.contracts.ExecutorContract` on the real engines;
those called a stand-in say so. A **no** has a number, and the reason stands below.

"""


def sentence_of(test: str) -> str:
    """Turn a test's name into the sentence that it proves."""
    return test.removeprefix("test_").replace("_", " ")


@dataclass
class Table:
    """What became of each test on each engine."""

    outcomes: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def note(self, test: str, engine: str, outcome: str, reason: str) -> None:
        """Note an outcome; of several, the worst counts."""
        if self.outcomes[test].get(engine) != FAILED:
            self.outcomes[test][engine] = outcome
        if outcome == SKIPPED:
            self.reasons[test, engine] = reason

    def __str__(self) -> str:
        """Return the page."""
        engines = sorted(
            {engine for row in self.outcomes.values() for engine in row}, key=str.lower
        )
        notes: dict[str, int] = {}
        lines = [
            "| | " + " | ".join(engines) + " |",
            "|---|" + "---|" * len(engines),
        ]
        for test, row in sorted(self.outcomes.items()):
            cells = [self._cell(test, engine, row, notes) for engine in engines]
            lines.append(f"| {sentence_of(test)} | " + " | ".join(cells) + " |")
        explained = [f"{number}. {reason}" for reason, number in notes.items()]
        return HEAD + "\n".join([*lines, "", *explained]) + "\n"

    def _cell(self, test: str, engine: str, row: dict[str, str], notes: dict[str, int]) -> str:
        outcome = row.get(engine, "-")
        if outcome != SKIPPED:
            return outcome
        number = notes.setdefault(self.reasons[test, engine], len(notes) + 1)
        return f"no ({number})"


class ContractTable:
    """Collects the outcomes of a session, also those of its workers, by what their reports say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = Table()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a test."""
        known = dict(report.user_properties).get(PROPERTY)
        if known is None or (report.passed and report.when != "call"):
            return
        outcome = {"passed": PASSED, "skipped": SKIPPED}.get(report.outcome, FAILED)
        reason = report.longrepr[2] if isinstance(report.longrepr, (tuple, list)) else ""
        self.table.note(*known, outcome, reason.removeprefix("Skipped: "))

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        self.path.write_text(str(self.table), encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the reports of a contract's tests tell which test of which engine they are."""
    for item in items:
        kind = getattr(item, "cls", None)
        engine = getattr(kind, "engine", None)
        if engine is not None and issubclass(kind, ExecutorContract):
            name = getattr(item, "originalname", item.name)
            if name in vars(ExecutorContract):
                item.user_properties.append((PROPERTY, (name, engine)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--contract-table", type=Path, metavar="FILE", help="write which engine passes what there"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect if it was asked for."""
    path = config.getoption("--contract-table")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ContractTable(path))
