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

#: What is run on each Python all the same: a row of each engine, plugin and optimizer, and what is
#: about the interpreter: processes, warnings and logging of its contexts, pickling of exceptions.
ROWS = re.compile(
    r"^tests/executors/dask/.*::TestDask::"
    r"|^tests/executors/ray/.*::TestRay::"
    r"|^tests/optimization/(trials/test_trial|search/test_loop|records/test_record)\.py"
    r"|^tests/optimization/optimizers/test_contract\.py.*Random"
    r"|^tests/plugins/test_(alone|contract|limiter|retry)\.py"
    r"|^tests/plugins/test_comm\.py.*\[(processes|threads)\]"
    r"|^tests/plugins/test_(emissions|threadpoolctl|wandb|warning_filter|worker_logs)\.py"
    r".*an_engine_works.*\[(processes|threads)\]"
    r"|^tests/plugins/test_worker_logs\.py.*on_every_engine\[processes\]"
    r"|^tests/plugins/test_warning_filter\.py.*(two_calls_at_once|own_threads)"
    r"|^tests/plugins/test_pynisher\.py.*(a_call_returns_what|address_space_counts|come_through_as_they)"
    r"|^tests/plugins/test_pynisher\.py.*(compilers_that_warn|where_warnings_are_errors)"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run once, but for what only some Pythons can prove."""
    for item in items:
        is_once = ONCE.match(item.nodeid) and not ROWS.match(item.nodeid)
        if is_once and item.get_closest_marker("skipif") is None:
            item.add_marker("once")
