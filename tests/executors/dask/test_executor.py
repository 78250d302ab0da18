"""Dask as an engine, on real clusters of worker processes."""

import asyncio
import gc
import os
import random
import signal
import threading
import time

import psutil
import pytest
import runs
import support

from amltk import Scheduler, Task
from amltk.exceptions import (
    ExecutorError,
    InvalidOptionError,
    UnprotectedWarning,
    WorkerDiedError,
    WouldDeadlockError,
)
from amltk.executors.dask.executor import DaskExecutor
from amltk.executors.dask.factory import dask_factory
from amltk.testing.contracts import ExecutorContract


class TestDask(ExecutorContract):
    engine = "Dask"

    @pytest.fixture
    def executor(self, dask_executor):
        return dask_executor


class TestBorrowedDaskClient(ExecutorContract):
    @pytest.fixture
    def executor(self, dask_client):
        with DaskExecutor(dask_client) as executor:
            yield executor
        assert dask_client.status == "running"


def run_calls(executor, function, arguments):
    return runs.results_and_errors(Scheduler(executor), function, arguments)


def worker_pids(executor):
    return executor._client.run_on_scheduler(
        lambda dask_scheduler: {worker.pid for worker in dask_scheduler.workers.values()}
    )


def held_in_memory(executor, key):
    return executor._client.run_on_scheduler(
        lambda dask_scheduler: dask_scheduler.tasks[key].state == "memory"
    )


def kept_of_calls(executor):
    """Return what Dask's scheduler has of calls, in its own books and in ours."""

    def look(dask_scheduler):
        keeper = dask_scheduler.plugins["amltk-calls"]
        calls = [key for key in dask_scheduler.tasks if key.startswith("amltk-call-")]
        return [*calls, *keeper._given, *keeper._lost, *keeper._outcomes]

    return executor._client.run_on_scheduler(look)


def wait_until_both_workers_are_up(executor):
    """Wait for the one that comes back, where a test before this one has killed it."""
    support.wait_until(lambda: len(worker_pids(executor)) == 2, 30)


def hold(folder, name):
    """Note the process that runs this, and when, and wait until all may go on."""
    note = f"{os.getpid()} {time.time_ns()}"
    support.write_atomically(folder / name, note)
    support.wait_for_file(folder / "go on")
    return note


def die_at_three(how):
    def work(x):
        if x == 3:
            support.die(how)
        return x

    return work


class TestDeaths:
    @pytest.mark.parametrize("how", ["exit 0", "exit 7", "segfault", "kill"])
    def test_one_costs_one_call_of_sixty(self, dask_executor, how):
        results, errors = run_calls(dask_executor, die_at_three(how), range(60))

        assert sorted(results) == [x for x in range(60) if x != 3]
        assert [type(error) for error in errors] == [WorkerDiedError]
        assert "pid" in str(errors[0])
        assert errors[0].pid > 0

    @pytest.mark.slow
    def test_no_call_that_began_runs_again(self, dask_executor, tmp_path):
        """The worker dies right after a call has returned, or so; nobody knows where it was."""

        def work(x, folder=str(tmp_path)):
            support.note_and_return(folder, x)
            if x % 5 == 0:
                threading.Timer(random.random() / 50, os._exit, (1,)).start()
            time.sleep(0.01)
            return x

        results, errors = run_calls(dask_executor, work, range(60))

        runs = [int(path.name.split("-")[0]) for path in tmp_path.iterdir()]
        assert len(runs) == len(set(runs))
        assert set(results) <= set(runs)
        assert len(results) + len(errors) == 60
        assert {type(error) for error in errors} == {WorkerDiedError}

    def test_a_call_whose_outcome_was_told_does_not_run_again(
        self, dask_executor, tmp_path, monkeypatch
    ):
        """Dask would run it once more, as long as the driver has not let go of it."""
        held, forget = [], dask_executor._forget
        monkeypatch.setattr(
            dask_executor, "_forget", lambda future: (held.append(future._dask), forget(future))[1]
        )

        def work(folder=str(tmp_path)):
            support.note_and_return(folder, 1)
            return os.getpid()

        pid = dask_executor.submit(work).result(30)
        os.kill(pid, signal.SIGKILL)
        support.wait_until(lambda: pid not in worker_pids(dask_executor))
        support.wait_until(lambda: held_in_memory(dask_executor, held[0].key))

        assert len(list(tmp_path.iterdir())) == 1

    def test_a_worker_without_work_is_replaced(self, dask_executor):
        pids, _ = run_calls(dask_executor, lambda _: os.getpid(), range(4))
        os.kill(pids[0], signal.SIGKILL)
        support.wait_until(lambda: pids[0] not in worker_pids(dask_executor))

        results, errors = run_calls(dask_executor, support.double, range(10))

        assert (len(results), errors) == (10, [])

    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_workers_that_die_again_and_again_come_back_each_time(self, dask_executor):
        """By itself Dask gives one up for ever that is away 15 s after an earlier death."""
        deadline = time.monotonic() + 17
        while time.monotonic() < deadline:
            futures = [dask_executor.submit(os._exit, 1) for _ in range(2)]
            assert {type(future.exception(30)) for future in futures} == {WorkerDiedError}

        support.wait_until(lambda: len(worker_pids(dask_executor)) == 2, 30)

    @pytest.mark.slow
    def test_too_much_memory_costs_the_call_that_took_it(self, distributed):
        def work(x):
            if x:
                data = bytearray(800 << 20)
                time.sleep(20)
                return len(data)
            return x

        with dask_factory(n_workers=1, memory_limit="400MB")() as executor:
            results, errors = run_calls(executor, work, [1, 0])

        assert results == [0]
        assert [type(error) for error in errors] == [WorkerDiedError]


class TestCancel:
    def test_a_running_call_is_ended_with_its_worker_and_no_other(self, dask_executor, tmp_path):
        beat = tmp_path / "beat"
        wait_until_both_workers_are_up(dask_executor)
        running = dask_executor.submit(support.heartbeat, beat)
        other = dask_executor.submit(hold, tmp_path, "other")
        support.wait_for_file(beat)
        support.wait_for_file(tmp_path / "other")

        assert running.cancel()
        assert running.cancelled()
        last = beat.read_text()
        (tmp_path / "go on").touch()
        assert other.result(30) == support.wait_for_file(tmp_path / "other")
        assert beat.read_text() == last
        assert dask_executor.submit(pow, 2, 5).result(30) == 32

    def test_a_call_that_is_done_cannot_be_cancelled(self, dask_executor):
        future = dask_executor.submit(pow, 2, 5)
        assert future.result(30) == 32
        assert not future.cancel()
        assert not future.cancel_pending()

    def test_a_cancelled_call_never_runs(self, dask_executor, tmp_path):
        go_on, noted = tmp_path / "go on", tmp_path / "noted"
        noted.mkdir()
        blockers = [dask_executor.submit(support.wait_for_file, go_on) for _ in range(2)]
        futures = [dask_executor.submit(support.note_and_return, str(noted), x) for x in range(10)]
        time.sleep(0.3)
        said = [future.cancel() for future in futures]
        go_on.touch()
        for blocker in blockers:
            blocker.result(30)
        done = dask_executor.submit(pow, 2, 5)
        assert done.result(30) == 32
        assert said == [True] * 10
        assert not list(noted.iterdir())

    def test_beside_other_calls_in_the_same_worker_it_is_refused(self, distributed, tmp_path):
        with dask_factory(n_workers=1, threads_per_worker=2)() as executor:
            assert not executor.traits.ends_running_calls
            futures = [executor.submit(hold, tmp_path, name) for name in ("one", "two")]
            for name in ("one", "two"):
                support.wait_for_file(tmp_path / name)
            assert [future.cancel() for future in futures] == [False, False]
            (tmp_path / "go on").touch()
            for name, future in zip(("one", "two"), futures, strict=True):
                assert future.result(30) == support.wait_for_file(tmp_path / name)


class TestCalls:
    def test_a_coroutine_function_gives_no_coroutine_back(self, dask_executor):
        async def later():
            await asyncio.sleep(0)

        error = dask_executor.submit(later).exception(30)
        assert error is not None

    def test_what_the_worker_cannot_import_fails_its_call_only(self, dask_executor):
        class Reference:
            def __reduce__(self):
                return __import__, ("no_such_module_anywhere",)

        failed = dask_executor.submit(support.double, Reference())
        assert "no_such_module_anywhere" in str(failed.exception(30))
        assert dask_executor.submit(support.double, 2).result(30) == 4

    @pytest.mark.slow
    def test_a_hundred_megabytes_are_sent_once_for_twenty_calls(self, dask_executor):
        data = os.urandom(100 << 20)
        puts = []
        put = dask_executor._blobs._put
        dask_executor._blobs._put = lambda digest, blob: (puts.append(digest), put(digest, blob))[1]
        try:
            results, errors = run_calls(dask_executor, lambda _: len(data), range(20))
            assert (results, errors) == ([100 << 20] * 20, [])
            assert len(puts) == 1  # the function, which holds on to the data
            puts.clear()
            futures = [dask_executor.submit(len, data) for _ in range(20)]
            assert [future.result(60) for future in futures] == [100 << 20] * 20
        finally:
            dask_executor._blobs._put = put
        assert len(puts) == 1

    def test_a_thousand_calls(self, dask_executor):
        results, errors = run_calls(dask_executor, support.double, range(1000))
        assert sorted(results) == [2 * x for x in range(1000)]
        assert not errors

    def test_nothing_is_kept_of_calls_that_are_over(self, dask_executor):
        running = dask_executor.submit(time.sleep, 60)
        futures = [dask_executor.submit(f, 4) for f in (support.double, support.fail)]
        assert [type(future.exception(30)) for future in futures] == [type(None), ValueError]
        assert running.cancel()
        support.wait_until(lambda: kept_of_calls(dask_executor) == [])

        assert not dask_executor._live
        for future in (running, *futures):
            assert (future._parcel.payload, future._dask) == (b"", None)

    def test_options_of_calls(self, dask_executor):
        scheduler = Scheduler(dask_executor)
        task = Task(support.double, scheduler).options(priority=10)
        results = []
        task.on_returned(results.append)
        scheduler.on_start(lambda: task(4))
        scheduler.run(timeout=30)
        assert results == [8]

    def test_an_unknown_option_is_refused_by_name(self, dask_executor):
        with pytest.raises(InvalidOptionError, match="num_cpus=2"):
            dask_executor.with_options(num_cpus=2)


class TestCallbacks:
    """Callbacks of futures run in the thread that hears of Dask, which must not wait for itself."""

    def test_shutting_down_waits_for_nothing_there(self, dask_client):
        """Surprise: with Dask's own executor this never returns, and the client is dead."""
        executor = DaskExecutor(dask_client)
        futures = [executor.submit(time.sleep, seconds) for seconds in (0.3, 1)]
        futures[0].add_done_callback(lambda _: executor.shutdown())

        assert [future.result(30) for future in futures] == [None, None]
        with pytest.raises(ExecutorError, match="shut down"):
            executor.submit(pow, 2, 5)
        with DaskExecutor(dask_client) as other:
            assert other.submit(pow, 2, 5).result(30) == 32

    @pytest.mark.slow
    def test_a_cluster_of_its_own_ends_all_the_same(self, distributed):
        executor = dask_factory(n_workers=1)()
        closed = threading.Event()
        close, executor._close = executor._close, lambda: (close(), closed.set())
        executor.submit(time.sleep, 0.3).add_done_callback(lambda _: executor.shutdown())
        assert closed.wait(30)

    def test_one_that_would_end_the_thread_is_logged_and_others_go_on(
        self, dask_executor, tmp_path, caplog
    ):
        support.check_that_no_callback_ends_the_engine(dask_executor, tmp_path / "go")
        assert "EndOfAllError" in caplog.text

    def test_cancelling_there_says_that_it_cannot_wait_for_the_answer(
        self, dask_executor, tmp_path
    ):
        raised, go_on = [], tmp_path / "go on"

        def cancel(_):
            with pytest.raises(
                WouldDeadlockError, match=r"call cancel\(\) in another thread"
            ) as info:
                other.cancel()
            raised.append(info.value)

        wait_until_both_workers_are_up(dask_executor)
        other = dask_executor.submit(support.wait_for_file, go_on)
        done = dask_executor.submit(time.sleep, 0.3)
        done.add_done_callback(cancel)
        done.add_done_callback(lambda future: raised.append(future.cancel()))
        support.wait_until(lambda: len(raised) == 2, 30)
        assert raised[1] is False
        go_on.touch()
        assert other.result(30) == ""


class TestClusters:
    @pytest.mark.slow
    def test_with_dask_starts_one_for_each_run_and_leaves_nothing(self, distributed):
        scheduler = Scheduler.with_dask(n_workers=2)
        results = []
        scheduler.on_start(lambda: scheduler.submit(pow, 2, 5))
        scheduler.on_future_done(lambda future: results.append(future.result()))

        assert scheduler.run(timeout=50) is scheduler.run(timeout=50)
        assert results == [32, 32]

    def test_other_users_cannot_command_it(self, dask_client):
        assert dask_client.scheduler.address.startswith("tls://")

    def test_without_cryptography_it_is_said_that_they_can(self, distributed, monkeypatch):
        monkeypatch.setattr("amltk.executors.dask.factory.find_spec", lambda _name: None)
        with pytest.warns(
            UnprotectedWarning, match=r"install cryptography, or say by security=False"
        ):
            Scheduler.with_dask(n_workers=1)

    def test_by_its_clients_own_executor_running_calls_are_ended_too(self, dask_client, tmp_path):
        scheduler = Scheduler(dask_client.get_executor())
        futures = []
        scheduler.on_start(lambda: futures.append(scheduler.submit(support.sleep_for_ever)))
        scheduler.on_start(lambda: scheduler.call_later(1, scheduler.stop))

        assert scheduler.run(timeout=40, wait=False) is Scheduler.ExitCode.STOPPED
        assert futures[0].cancelled()
        assert dask_client.status == "running"

    def test_everything_listens_on_loopback(self, dask_executor):
        addresses = {
            connection.laddr.ip
            for process in psutil.Process().children(recursive=True)
            if "amltk.executors.dask.cluster" in " ".join(process.cmdline())
            for family in [process, *process.children(recursive=True)]
            for connection in family.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}

    def test_an_address_nobody_listens_at_is_told(self, distributed):
        make = dask_factory("tcp://127.0.0.1:1", timeout=1)
        with pytest.raises(
            ExecutorError, match=r"no Dask scheduler could be reached.*127\.0\.0\.1"
        ):
            make()

    def test_by_its_address(self, dask_client):
        security = dask_client.security
        with dask_factory(dask_client.scheduler.address, security=security)() as executor:
            assert executor.submit(pow, 2, 5).result(30) == 32
            assert executor.traits.ends_running_calls
        assert dask_client.status == "running"

    @pytest.mark.slow
    def test_whoever_has_no_certificate_of_an_encrypted_one_is_refused(self, distributed):
        pytest.importorskip("cryptography", reason="the extra tls is not installed")
        with dask_factory(n_workers=1, security=True)() as executor:
            address = executor._client.scheduler.address
            assert address.startswith("tls://")
            assert executor.submit(pow, 2, 5).result(30) == 32
            for options in ({}, {"security": distributed.security.Security.temporary()}):
                with pytest.raises(ExecutorError, match="no Dask scheduler could be reached"):
                    dask_factory(address, timeout=1, **options)()

    @pytest.mark.parametrize("address", ["tls://127.0.0.1:1", "tcp://127.0.0.1:1", "nonsense://"])
    def test_a_client_that_cannot_connect_is_closed_at_once(self, distributed, address):
        # As garbage it would close whenever, in whichever thread, and could keep one from starting.
        def clients():
            return {c for c in gc.get_objects() if isinstance(c, distributed.Client)}

        before, threads = clients(), set(threading.enumerate())
        with pytest.raises(ExecutorError, match="no Dask scheduler could be reached") as refused:
            dask_factory(address, timeout=1)()
        assert refused.value.__traceback__ is not None  # which keeps the client
        assert {client.status for client in clients() - before} <= {"closed", "newly-created"}
        assert "IO loop" not in {thread.name for thread in set(threading.enumerate()) - threads}

    def test_options_that_it_does_not_know_are_told_with_what_it_said(self, distributed):
        with pytest.raises(ExecutorError, match="no_such_option"):
            dask_factory(n_workers=1, no_such_option=1)()

    @pytest.mark.parametrize(
        ("given", "options", "match"),
        [
            (None, {"n_workers": 0}, "n_workers=0"),
            (None, {"threads_per_worker": 0}, "threads_per_worker=0"),
            (7, {}, "7 is neither an address nor a client"),
            ("tcp://127.0.0.1:1", {"n_workers": 2}, "n_workers cannot be given with an address"),
        ],
    )
    def test_wrong_options_are_refused_before_a_run(self, distributed, given, options, match):
        with pytest.raises(InvalidOptionError, match=match):
            dask_factory(given, **options)

    def test_an_asynchronous_client_is_refused(self, distributed, dask_client):
        class Asynchronous:
            asynchronous = True

        with pytest.raises(InvalidOptionError, match="asynchronous"):
            DaskExecutor(Asynchronous())

    @pytest.mark.slow
    def test_when_its_scheduler_is_killed_every_call_ends(self, distributed):
        executor = dask_factory(n_workers=1)()
        futures = [executor.submit(time.sleep, 600) for _ in range(3)]
        time.sleep(1)
        cluster = [
            process
            for process in psutil.Process().children()
            if "amltk.executors.dask.cluster" in " ".join(process.cmdline())
        ]
        newest = max(cluster, key=lambda process: process.create_time())
        newest.kill()
        assert not futures[0].cancel()  # neither hangs nor raises
        errors = [future.exception(40) for future in futures]
        assert {type(error) for error in errors} == {ExecutorError}
        executor.shutdown()


SCRIPT = """
import sys, time
from amltk import Scheduler, Task
from pathlib import Path

def work(folder, x):
    import os
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

scheduler = Scheduler.with_dask(n_workers=2)
task = Task(work, scheduler)
scheduler.on_start(lambda: [task(sys.argv[1], x) for x in range(4)])
try:
    scheduler.run()
except KeyboardInterrupt:
    print("interrupted")
"""


PARENTS = """
import subprocess, sys, time
from amltk import Scheduler, Task
from pathlib import Path

def work(folder):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder, str(child.pid)).touch()
    time.sleep(600)

scheduler = Scheduler.with_dask(n_workers=1)
task = Task(work, scheduler)
scheduler.on_start(lambda: task(sys.argv[1]))
scheduler.run()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("distributed")
def test_what_calls_have_started_ends_with_a_killed_driver(tmp_path):
    (tmp_path / "driver.py").write_text(PARENTS)
    (tmp_path / "pids").mkdir()
    driver = support.start_script(tmp_path / "driver.py", tmp_path / "pids")
    support.wait_until(lambda: list((tmp_path / "pids").iterdir()), 40)
    child = int(next((tmp_path / "pids").iterdir()).name)
    driver.kill()
    driver.communicate()
    support.wait_until(lambda: not support.is_alive(child), 30)


@pytest.mark.slow
class TestDriver:
    """A script without a guard, as users write it."""

    @pytest.fixture
    def driver(self, distributed, tmp_path):
        script = tmp_path / "driver.py"
        script.write_text(SCRIPT)
        (tmp_path / "pids").mkdir()
        process = support.start_script(script, tmp_path / "pids")
        support.wait_until(lambda: len(list((tmp_path / "pids").iterdir())) == 2, 40)
        family = psutil.Process(process.pid).children(recursive=True)
        yield process, family
        process.kill()
        process.communicate()

    def test_ctrl_c_ends_it_and_leaves_nothing(self, driver):
        process, family = driver
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert "interrupted" in output
        support.wait_until(lambda: not any(support.is_alive(p.pid) for p in family), 20)

    def test_when_it_is_killed_nothing_is_left(self, driver):
        process, family = driver
        process.kill()
        support.wait_until(lambda: not any(support.is_alive(p.pid) for p in family), 30)
