import os
import signal
import subprocess
import sys
import time

import pytest
import support

from amltk.executors import guard as guards
from amltk.executors.guard import Guard

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is none elsewhere")

#: A driver with a worker that does not see its end: it holds on to the interpreter's lock.
DRIVER = """
import sys, time
from pathlib import Path
from amltk import Scheduler, Task
{more}
def hold(path):
    import os, subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    Path(path + ".part").write_text(f"{{os.getpid()}} {{child.pid}}")
    os.replace(path + ".part", path)
    sum(range(10**12))

if __name__ == "__main__":
    scheduler = {make}
    scheduler.on_start(lambda: scheduler.submit(hold, sys.argv[1]))
    scheduler.run()
"""


@pytest.mark.parametrize(
    ("make", "more"),
    [
        ("Scheduler.with_processes(1)", ""),
        ("Scheduler(ProcessPoolExecutor(1))", "from concurrent.futures import ProcessPoolExecutor"),
        ("Scheduler.with_loky(1)", ""),
    ],
    ids=["processes", "standard", "loky"],
)
def test_of_a_killed_driver_no_worker_lives_on(tmp_path, make, more):
    if "loky" in make:
        pytest.importorskip("loky")
    script, path = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(DRIVER.format(make=make, more=more))
    driver = subprocess.Popen([sys.executable, script, path], stderr=subprocess.DEVNULL)
    try:
        pids = [int(pid) for pid in support.wait_for_file(path).split()]
    finally:
        driver.kill()
        driver.wait()
    try:
        support.wait_until(lambda: not any(map(support.is_alive, pids)), 20)
    finally:
        for pid in pids:
            if support.is_alive(pid):
                os.kill(pid, signal.SIGKILL)


class TestGuard:
    def test_it_leaves_when_it_is_told_to(self):
        guard = Guard()
        guard.add([os.getpid()])
        process = guard._process
        guard.end()

        assert process.returncode == 0

    def test_without_workers_none_is_started(self):
        guard = Guard()
        guard.end()

        assert guard._process is None

    def test_one_that_was_told_to_leave_takes_no_more(self):
        guard = Guard()
        guard.end()
        guard.add([os.getpid()])

        assert guard._process is None

    def test_where_no_process_can_be_started_workers_are_on_their_own(self, monkeypatch):
        def fail(*_, **__):
            raise OSError

        monkeypatch.setattr(guards.subprocess, "Popen", fail)
        guard = Guard()
        guard.add([os.getpid()])
        guard.remove([os.getpid()])
        guard.end()

    def test_a_number_that_was_given_to_another_process_is_left_alone(self):
        """What was noted of a worker is its start as well."""
        read, write = os.pipe()
        os.write(write, f"+{os.getpid()}\n".encode())
        os.close(write)
        workers = guards._listen(read)
        os.close(read)

        assert workers == {os.getpid(): guards._started(os.getpid())}
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            time.sleep(0.02)
            assert guards._started(other.pid) != workers[os.getpid()]
            other.kill()
