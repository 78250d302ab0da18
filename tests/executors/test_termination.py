import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from contextlib import suppress

import pytest
import support

from amltk.executors import termination
from amltk.executors.termination import end_processes, end_workers, worker_pids

TIMEOUT = 20

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, sys, time; from pathlib import Path\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "Path(sys.argv[1]).touch(); time.sleep(600)\n"
)
#: A shell that starts a child when it is asked to end, and goes on.
BREEDER = """
trap 'sleep 600 & echo $! > "$2"; mv "$2" "$3"' TERM
touch "$1"
while :; do sleep 0.02; done
"""


@pytest.fixture
def start():
    started = []

    def start(code, *args):
        started.append(subprocess.Popen([sys.executable, "-c", code, *map(str, args)]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_processes_are_asked_to_end(start):
    sleepers = [start(SLEEPER) for _ in range(3)]
    assert end_processes([s.pid for s in sleepers], TIMEOUT) == []
    assert [s.wait(TIMEOUT) for s in sleepers] == [-15, -15, -15]


def test_those_that_do_not_are_killed_after_the_grace_and_named(start, tmp_path):
    polite, stubborn = start(SLEEPER), start(STUBBORN, tmp_path / "up")
    support.wait_for_file(tmp_path / "up")
    begun = time.monotonic()
    assert end_processes([polite.pid, stubborn.pid], 0.3) == [stubborn.pid]
    assert 0.3 <= time.monotonic() - begun < 3
    assert (polite.wait(TIMEOUT), stubborn.wait(TIMEOUT)) == (-15, -9)


def test_their_children_end_with_them(start, tmp_path):
    process = start(
        f"import subprocess, sys, time; from pathlib import Path\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])\n"
        f"part = Path(sys.argv[1] + '.part'); part.write_text(str(child.pid))\n"
        f"part.rename(sys.argv[1]); time.sleep(600)\n",
        tmp_path / "pid",
    )
    child = int(support.wait_for_file(tmp_path / "pid"))
    end_processes([process.pid], TIMEOUT)
    assert not support.is_alive(child)


def test_children_that_are_started_in_the_grace_end_too(start, tmp_path, monkeypatch):
    up, born, pid = tmp_path / "up", tmp_path / "born", tmp_path / "pid"
    process = subprocess.Popen(["/bin/sh", "-c", BREEDER, "sh", up, born, pid])
    support.wait_for_file(up)
    wait = termination._wait

    def wait_for_the_child(processes, timeout_s):  # and not longer: the parent never ends
        support.wait_for_file(pid)
        return wait(processes, 0.0 if timeout_s == TIMEOUT else timeout_s)

    monkeypatch.setattr(termination, "_wait", wait_for_the_child)
    killed = end_processes([process.pid], TIMEOUT)
    child = int(pid.read_text())
    try:
        assert {process.pid, child} <= set(killed)
        assert not support.is_alive(child)
    finally:
        process.wait(TIMEOUT)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_one_that_has_ended_is_not_waited_for(start):
    ended = start("pass")
    support.wait_until(lambda: not support.is_alive(ended.pid))  # a zombie: nobody collected it
    begun = time.monotonic()
    assert end_processes([ended.pid], TIMEOUT) == []
    ended.wait(TIMEOUT)
    assert end_processes([ended.pid], TIMEOUT) == []
    assert time.monotonic() - begun < 5


def test_nobody_to_end_is_fine():
    assert end_processes([], 0.0) == []


def test_the_workers_of_a_standard_pool_are_ended():
    with support.standard_pool() as pool:
        running = [pool.submit(time.sleep, 600) for _ in range(2)]
        support.wait_until(lambda: len(worker_pids(pool)) == 2)
        workers = worker_pids(pool)
        assert os.getpid() not in workers
        end_workers(pool, TIMEOUT)
        assert not any(support.is_alive(pid) for pid in workers)
        assert all(isinstance(f.exception(TIMEOUT), BrokenExecutor) for f in running)


def test_a_pool_without_workers_has_none_to_end():
    pool = support.standard_pool(1)
    pool.shutdown()
    assert end_workers(pool, 0.0) == worker_pids(pool) == []
