"""What one Python proves is run once: the marker ``once``, by the folder where a test is.

``pytest -m "not slow and not once"`` is for further Pythons: what touches the interpreter, and one
row of each engine.
"""

import re

import pytest

#: Where tests are about our own logic or about another library, whichever Python runs them.
ONCE = re.compile(
    r"^tests/(benchmarks|display|engines|examples|guide|optimization|plugins)/"
    r"|^tests/executors/(airflow|dask|jobqueue|ray)/"
    r"|^docs/(optimization|engines|plugins)/"
)

#: What is run on each Python all the same: a row of each engine, plugin and optimizer.
ROWS = re.compile(
    r"^tests/executors/dask/.*::TestDask::"
    r"|^tests/executors/ray/.*::TestRay::"
    r"|^tests/optimization/(trials/test_trial|search/test_loop)\.py"
    r"|^tests/plugins/test_(limiter|retry)\.py"
    r"|^tests/plugins/test_comm\.py.*\[(processes|threads)\]"
    r"|^tests/optimization/optimizers/test_contract\.py.*Random"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run once."""
    for item in items:
        if ONCE.match(item.nodeid) and not ROWS.match(item.nodeid):
            item.add_marker("once")
