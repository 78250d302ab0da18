"""What one Python proves is run once: the marker ``once``, by the folder where a test is.

===================================  ============================================================
``not slow and not once and not row``  what touches the interpreter, for each further Python
``not slow and not once``              that, and a row of each engine, plugin and optimizer
===================================  ============================================================
"""

import re

import pytest

from suite.groups import group_of

#: Where tests are about our own logic or about another library, whichever Python runs them.
ONCE = re.compile(
    r"^tests/(benchmarks|display|engines|examples|guide|optimization|plugins)/"
    r"|^tests/executors/(airflow|dask|jobqueue|ray)/"
    r"|^docs/(optimization|engines|plugins)/"
)

#: What there is about the interpreter all the same: processes, contexts of warnings and logging,
#: pickling of exceptions.
INTERPRETER = re.compile(
    r"^tests/optimization/(trials/test_trial|search/test_loop|records/test_record)\.py"
    r"|^tests/plugins/test_(alone|limiter|retry)\.py"
    r"|^tests/plugins/test_comm\.py.*\[(processes|threads)\]"
    r"|^tests/plugins/test_worker_logs\.py.*on_every_engine\[processes\]"
    r"|^tests/plugins/test_warning_filter\.py.*(two_calls_at_once|own_threads)"
    r"|^tests/plugins/test_pynisher\.py.*(a_call_returns_what|address_space_counts|come_through_as_they)"
    r"|^tests/plugins/test_pynisher\.py.*(compilers_that_warn|where_warnings_are_errors)"
)

#: A row of each engine, plugin and optimizer.
ROWS = re.compile(
    r"^tests/executors/dask/.*::TestDask::"
    r"|^tests/executors/ray/.*::TestRay::"
    r"|^tests/optimization/optimizers/test_contract\.py.*Random"
    r"|^tests/plugins/test_contract\.py"
    r"|^tests/plugins/test_(emissions|threadpoolctl|wandb|warning_filter|worker_logs)\.py"
    r".*an_engine_works.*\[(processes|threads)\]"
)


def is_row(nodeid: str) -> bool:
    """Tell whether a test is one of a row."""
    if INTERPRETER.match(nodeid):
        return group_of(nodeid) in ("dask", "ray")
    return bool(ROWS.match(nodeid))


def is_once(nodeid: str) -> bool:
    """Tell whether a test is for one Python."""
    return bool(ONCE.match(nodeid)) and not INTERPRETER.match(nodeid) and not is_row(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run once, but for what only some Pythons can prove, and the rows."""
    for item in items:
        if is_row(item.nodeid):
            item.add_marker("row")
        elif is_once(item.nodeid) and item.get_closest_marker("skipif") is None:
            item.add_marker("once")
