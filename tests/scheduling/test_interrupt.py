"""Ctrl-C, and killed drivers, with real programs in interpreters of their own."""

import asyncio
import os
import signal
import threading
import time

import psutil
import pytest
import support

from amltk import Scheduler, Task

#: A driver has so long to end, and its workers too.
END_S = 10

#: A program gets a process group of its own, as in a terminal.
PRELUDE = """
import asyncio, os, signal, sys, time
from pathlib import Path
import support
from amltk import Scheduler, Task
os.setpgid(0, 0)
folder = Path(sys.argv[1])

def work(name):
    support.write_atomically(folder / name, str(os.getpid()))
    time.sleep(600)

def stubborn(name):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work(name)

def give_work(scheduler, function=work):
    scheduler.on_start(lambda: [scheduler.submit(function, name) for name in ("one", "two")])
    scheduler.on_finishing((folder / "ending").touch)
    return scheduler
"""


class Driver:
    """A program whose calls note their process ids in ``one`` and ``two``."""

    def __init__(self, folder, body):
        (folder / "script.py").write_text(PRELUDE + body)
        self.folder = folder
        self.process = support.start_script(folder / "script.py", folder)
        self.family = []

    def wait_for(self, *names):
        pids = [int(support.wait_for_file(self.folder / name)) for name in names]
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return pids

    def interrupt(self, whole_group=True):
        (os.killpg if whole_group else os.kill)(self.process.pid, signal.SIGINT)

    def output(self):
        return self.process.communicate(timeout=END_S)[0]

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=END_S)

    def wait_for_family_to_end(self):
        support.wait_until(lambda: not any(support.is_alive(p.pid) for p in self.family), END_S)


@pytest.fixture
def start(tmp_path):
    drivers = []

    def start(body):
        drivers.append(Driver(tmp_path, body))
        return drivers[-1]

    yield start
    for driver in drivers:
        if driver.process.poll() is None:
            driver.kill()
        driver.process.stdout.close()


RUNS = {
    "processes": "give_work(Scheduler.with_processes(2)).run()",
    "without wait": "give_work(Scheduler.with_processes(2)).run(wait=False)",
    "standard pool": (
        "import multiprocessing\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "context = multiprocessing.get_context('fork')\n"
        "give_work(Scheduler(lambda: ProcessPoolExecutor(2, context))).run()"
    ),
    "loky": "give_work(Scheduler.with_loky(2)).run()",
    "asyncio": "asyncio.run(give_work(Scheduler.with_processes(2)).async_run())",
    "inside a loop": (
        "async def main(): give_work(Scheduler.with_processes(2)).run()\nasyncio.run(main())"
    ),
}


class TestCtrlC:
    @pytest.mark.slow
    @pytest.mark.parametrize("whole_group", [True, False], ids=["group", "driver alone"])
    @pytest.mark.parametrize("run", RUNS)
    def test_it_ends_the_run_and_the_workers(self, start, run, whole_group):
        driver = start(RUNS[run])
        workers = driver.wait_for("one", "two")
        driver.interrupt(whole_group)
        assert "KeyboardInterrupt" in driver.output()
        assert driver.process.returncode != 0
        assert {process.pid for process in driver.family} >= set(workers)
        driver.wait_for_family_to_end()

    def test_it_interrupts_a_call_in_the_main_thread(self, start):
        driver = start("give_work(Scheduler.with_sequential()).run()")
        driver.wait_for("one")
        driver.interrupt()
        said = driver.output()
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert not (driver.folder / "two").exists()

    @pytest.mark.parametrize("plugin", ["WarningFilter()", "Comm.Plugin()", "PynisherPlugin()"])
    def test_it_interrupts_such_a_call_inside_of_plugins_too(self, start, plugin):
        if "Pynisher" in plugin:
            pytest.importorskip("pynisher")
        driver = start(
            "from amltk.plugins import Comm, PynisherPlugin, WarningFilter\n"
            "def limited(name, comm=None): work(name)\n"
            "scheduler = Scheduler.with_sequential()\n"
            f"task = Task(limited, scheduler, plugins={plugin})\n"
            "scheduler.on_start(lambda: task('one'))\n"
            "scheduler.run()\n"
        )
        driver.wait_for("one")
        driver.interrupt(whole_group=False)
        assert driver.output().rstrip().endswith("KeyboardInterrupt")
        driver.wait_for_family_to_end()

    def test_it_interrupts_a_callback(self, start):
        driver = start(
            "scheduler = Scheduler.with_sequential()\n"
            "scheduler.on_start(lambda: work('one'))\n"
            "scheduler.on_finished(lambda: print('finished'))\n"
            "scheduler.run()\n"
        )
        driver.wait_for("one")
        driver.interrupt()
        said = driver.output()
        assert "finished" in said
        assert said.rstrip().endswith("KeyboardInterrupt")

    @pytest.mark.parametrize(
        "run",
        [
            "scheduler.run()",
            "asyncio.run(scheduler.async_run())",
        ],
    )
    def test_it_ends_calls_as_cancelled_and_the_run_in_order(self, start, run):
        driver = start(
            "scheduler = give_work(Scheduler.with_processes(2))\n"
            "scheduler.on_future_cancelled(lambda future: print('cancelled'))\n"
            "scheduler.on_finished(lambda: print('finished'))\n"
            f"try: {run}\n"
            "except KeyboardInterrupt: print('raised')\n"
            "print('still' if scheduler.running() else 'no longer')\n"
        )
        driver.wait_for("one", "two")
        driver.interrupt()
        expected = ["cancelled", "cancelled", "finished", "raised", "no longer"]
        assert driver.output().splitlines() == expected

    def test_it_is_back_to_normal_after_a_run(self, start):
        driver = start(
            "scheduler = Scheduler.with_sequential()\n"
            "scheduler.run()\n"
            "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
            "work('one')\n"
        )
        driver.wait_for("one")
        driver.interrupt()
        assert "KeyboardInterrupt" in driver.output()

    def test_a_handler_of_the_user_stays_in_force(self, start):
        driver = start(
            "scheduler = give_work(Scheduler.with_processes(2))\n"
            "signal.signal(signal.SIGINT, lambda *_: (print('mine'), scheduler.stop()))\n"
            "print(scheduler.run(wait=False).name)\n"
        )
        driver.wait_for("one", "two")
        driver.interrupt()
        assert driver.output().split() == ["mine", "STOPPED"]

    @pytest.mark.slow
    @pytest.mark.parametrize("run", ["processes", "asyncio"])
    @pytest.mark.parametrize("times", [1, 2])
    def test_workers_that_ignore_term_do_not_outlive_it(self, start, run, times):
        driver = start(f"give_work.__defaults__ = (stubborn,)\n{RUNS[run]}")
        driver.wait_for("one", "two")
        driver.interrupt()
        support.wait_for_file(driver.folder / "ending")
        if times == 2:
            driver.interrupt()
        assert "KeyboardInterrupt" in driver.output()
        driver.wait_for_family_to_end()


class TestKilledDriver:
    @pytest.mark.parametrize("function", ["work", "stubborn"])
    def test_its_workers_end(self, start, function):
        driver = start(f"give_work(Scheduler.with_processes(2), {function}).run()")
        workers = driver.wait_for("one", "two")
        driver.kill()
        assert {process.pid for process in driver.family} > set(workers)
        driver.wait_for_family_to_end()

    def test_the_children_of_its_workers_end(self, start):
        driver = start(
            "scheduler = Scheduler.with_processes(1)\n"
            "scheduler.on_start(\n"
            "    lambda: scheduler.submit(support.spawn_grandchild, folder / 'one'))\n"
            "scheduler.run()\n"
        )
        (grandchild,) = driver.wait_for("one")
        driver.kill()
        assert grandchild in {process.pid for process in driver.family}
        driver.wait_for_family_to_end()


def stop_once_there(scheduler, path):
    """Stop a run when a call has left a file."""

    def look():
        support.wait_for_file(path)
        scheduler.stop()

    threading.Thread(target=look).start()


class TestEndOfARun:
    @pytest.mark.slow
    def test_a_grandchild_ends_without_wait(self, tmp_path):
        path = tmp_path / "pid"
        scheduler = Scheduler.with_processes(1)
        scheduler.on_start(lambda: scheduler.submit(support.spawn_grandchild, path))
        scheduler.on_start(lambda: stop_once_there(scheduler, path))
        assert scheduler.run(wait=False) is Scheduler.ExitCode.STOPPED
        assert not support.is_alive(int(path.read_text()))

    @pytest.mark.slow
    def test_a_call_that_ignores_term_ends_cancelled_without_wait(self, tmp_path):
        path, cancelled, moments = tmp_path / "beat", [], []
        scheduler = Scheduler.with_processes(1)
        task = Task(support.ignore_term_and_beat, scheduler)
        task.on_f_cancelled(cancelled.append)
        scheduler.on_start(lambda: task(path))
        scheduler.on_start(lambda: stop_once_there(scheduler, path))
        scheduler.on_stop(lambda: moments.append(time.monotonic()))
        scheduler.run(wait=False)
        assert time.monotonic() - moments[0] < 8
        assert [future.cancelled() for future in cancelled] == [True]

    @pytest.mark.slow
    def test_a_call_cancelled_while_it_runs_stops_and_its_siblings_go_on(self, tmp_path):
        path, beats, results = tmp_path / "beat", [], []
        scheduler = Scheduler.with_processes(2)
        beating, sibling = Task(support.heartbeat, scheduler), Task(time.sleep, scheduler)
        scheduler.on_start(lambda: (beating(path), sibling(2)))
        scheduler.on_start(
            lambda: (support.wait_for_file(path), [f.cancel() for f in beating.futures()])
        )
        beating.on_f_cancelled(lambda _: beats.append(path.read_text()))
        sibling.on_returned(results.append)
        assert scheduler.run() is Scheduler.ExitCode.EXHAUSTED
        assert beats == [path.read_text()]
        assert results == [None]

    def test_a_run_inside_a_loop_has_events_and_results(self):
        async def cell():
            scheduler, results = Scheduler.with_processes(1), []
            task = Task(support.double, scheduler)
            scheduler.on_start(lambda: task(4))
            task.on_returned(results.append)
            return scheduler.run(), results, asyncio.get_running_loop().is_running()

        assert asyncio.run(cell()) == (Scheduler.ExitCode.EXHAUSTED, [8], True)
