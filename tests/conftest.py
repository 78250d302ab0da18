"""What all tests share: each leaves the machine as it found it."""

import gc
import threading
import time

import pytest
from family import children
from hypothesis import settings

from amltk import Scheduler
from amltk.testing import ManualExecutor, VirtualClock

# An example may take its time: beside other work of the machine the usual 200 ms pass by themselves.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def threads() -> set[threading.Thread]:
    ours = ("amltk", "ThreadPoolExecutor")
    return {t for t in threading.enumerate() if t.name.startswith(ours)}


@pytest.fixture(autouse=True)
def nothing_is_left_over(request):
    """After each test: no process and no thread of ours that was not there before."""
    before_children, before_threads = frozenset(children()), threads()
    yield
    if request.node.get_closest_marker("leaves"):
        return
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = (children(before_children) - before_children) | (threads() - before_threads)
        if not left:
            return
        gc.collect()
        time.sleep(0.02)
    pytest.fail(f"left over: {left}")


@pytest.fixture
def manual():
    """Return an executor whose calls end when the test says so."""
    return ManualExecutor()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def scheduler(manual):
    return Scheduler(manual)


@pytest.fixture
def sequential():
    return Scheduler.with_sequential()
