"""Every test has an end, and so has the run.

pytest-timeout ends a test that takes too long, but switches itself off once a phase of it has
failed, and cannot end what does not come back to Python. So each phase (setup, call, teardown) has
a second, wider limit here, which needs nothing of the interpreter: it prints the stacks of all
threads and ends the process. Beside other workers the run goes on without that test, which failed.
"""

import faulthandler
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

#: How much longer than the limit of its test a phase may take.
BEYOND_S = 60

#: How long the test process may take to end after its last test.
EXIT_S = 120


class Ends:
    """Sees to it that each phase and the run come to an end."""

    def __init__(self, config: pytest.Config) -> None:
        self._stderr = os.dup(2)  # later on pytest puts its capture there
        self._default_s = float(config.getini("timeout") or 120)
        self._is_worker = hasattr(config, "workerinput")
        # Where workers run the tests, the process that hands them out looks after the whole run.
        limit_s = 0 if self._is_worker else config.getoption("--run-limit")
        self._run_ends_at = time.monotonic() + limit_s if limit_s else None
        self._watch(None)

    def _watch(self, limit_s: float | None) -> None:
        """Have the process ended after so many seconds, or when the run's time is over."""
        if self._run_ends_at is not None:
            left_s = max(self._run_ends_at - time.monotonic(), 1.0)
            limit_s = left_s if limit_s is None else min(limit_s, left_s)
        faulthandler.cancel_dump_traceback_later()
        if limit_s is not None:
            faulthandler.dump_traceback_later(limit_s, exit=True, file=self._stderr)

    @contextmanager
    def limited(self, item: pytest.Item) -> Iterator[None]:
        """Limit one phase of a test."""
        marker = item.get_closest_marker("timeout")
        limit_s = float(marker.args[0]) if marker and marker.args else self._default_s
        self._watch(limit_s + BEYOND_S)
        try:
            yield
        finally:
            self._watch(None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        with self.limited(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item):
        with self.limited(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item):
        with self.limited(item):
            return (yield)

    def pytest_unconfigure(self) -> None:
        """A thread that does not end fails the run, instead of holding it up for ever.

        Workers wait here for the others, and are ended by the process that started them.
        """
        faulthandler.cancel_dump_traceback_later()
        if not self._is_worker:
            faulthandler.dump_traceback_later(EXIT_S, exit=True, file=self._stderr)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--run-limit",
        type=float,
        default=2700,
        metavar="SECONDS",
        help="end the whole run after so many seconds, with the stacks of all threads; 0 for never",
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin to look after the run."""
    config.pluginmanager.register(Ends(config), "ends")
