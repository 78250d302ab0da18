"""Airflow as an engine: on a real one, and against a server that misbehaves."""

import gc
import json
import os
import signal
import sys
import time

import psutil
import pytest
import runs
import support

from amltk import Scheduler, Task
from amltk.exceptions import (
    CallPicklingError,
    CallUnpicklingError,
    ExecutorError,
    InvalidOptionError,
    RemoteError,
    RemoteTraceback,
    ResultPicklingError,
    UnprotectedWarning,
    WorkerDiedError,
)
from amltk.executors.airflow.executor import airflow_factory
from amltk.plugins import Retry, WarningFilter
from amltk.testing.contracts import ExecutorContract, functions
from amltk.testing.contracts import executor as contract

pytestmark = pytest.mark.timeout(300)

#: How long anything may take; a machine with other work is slow.
LONG_S = 100


@pytest.fixture(autouse=True)
def send_the_tests_along(sent_by_value):
    """The workers have nothing but Airflow and cloudpickle: no amltk, no tests."""
    sent_by_value(functions, contract, support, sys.modules[__name__])


class TestAirflow(ExecutorContract):
    engine = "Airflow"
    timeout_s = 120.0
    n_many = 12
    n_chain = 5

    @pytest.fixture
    def executor(self, airflow_executor):
        return airflow_executor


def note_pid_and_wait(folder, seconds):
    """Leave process id and supervisor's process id in a file, and wait for a file ``go``."""
    support.write_atomically(f"{folder}/pid", f"{os.getpid()} {os.getppid()}")
    end = time.monotonic() + seconds
    while time.monotonic() < end and not os.path.exists(f"{folder}/go"):  # noqa: PTH110
        time.sleep(0.05)
    return "waited"


def pids_in(folder):
    return [int(word) for word in support.wait_for_file(folder / "pid", LONG_S).split()]


class TestOutcomes:
    def test_what_cannot_travel_is_said(self, airflow_executor):
        submit = airflow_executor.submit
        unpicklable = submit(support.return_unpicklable)
        two_arguments = submit(support.raise_two_arguments)
        missing = submit(pickled_by_name("no_such_module_there"))
        interrupted = submit(support.raise_keyboard_interrupt)

        assert type(unpicklable.exception(LONG_S)) is ResultPicklingError
        assert type(two_arguments.exception(LONG_S)) is RemoteError
        assert "TwoArgumentsError" in two_arguments.exception().type_name
        assert type(missing.exception(LONG_S)) is CallUnpicklingError
        assert "no_such_module_there" in str(missing.exception())
        assert type(interrupted.exception(LONG_S)) is KeyboardInterrupt

    def test_an_exception_has_the_workers_traceback(self, airflow_executor):
        error = airflow_executor.submit(support.fail, "broken").exception(LONG_S)
        assert type(error) is ValueError
        assert isinstance(error.__cause__, RemoteTraceback)
        assert "in fail" in str(error.__cause__)

    def test_what_cannot_be_pickled_here_fails_at_once(self, airflow_executor):
        future = airflow_executor.submit(len, (i for i in range(3)))
        assert type(future.exception(0)) is CallPicklingError

    def test_the_worker_needs_no_amltk(self, airflow_executor):
        def look():
            import importlib.util

            return importlib.util.find_spec("amltk")

        assert airflow_executor.submit(look).result(LONG_S) is None

    def test_a_plugin_that_acts_in_the_worker_does_and_says_so(self, airflow_executor):
        scheduler = Scheduler(airflow_executor)
        task = Task(support.double, scheduler, plugins=WarningFilter())
        errors = []
        task.on_exception(errors.append)
        scheduler.on_start(lambda: task(1))
        scheduler.run(timeout=250, end_on_exception=False)
        assert type(errors[0]) is CallUnpicklingError
        assert "No module named 'amltk'" in str(errors[0])

    def test_a_plugin_that_acts_in_the_driver_needs_none(self, airflow_executor):
        scheduler = Scheduler(airflow_executor)
        task = Task(support.fail, scheduler, plugins=Retry(max_retries=1, on=ValueError))
        told = []
        task.on(Retry.RETRIED, lambda number, error: told.append((number, str(error))))
        task.on_exception(lambda error: told.append(error.__notes__))
        scheduler.on_start(lambda: task("again"))
        scheduler.run(timeout=250, end_on_exception=False)
        assert told == [(1, "again"), ["attempt 1 failed with ValueError: again"]]

    def test_nothing_is_left_in_the_store(self, airflow):
        scheduler = Scheduler.with_airflow(**airflow.options)
        before = set(airflow.store.iterdir())
        for _ in range(2):
            results, errors = runs.results_and_errors(
                scheduler, support.double, [1, 2], timeout=250
            )
            assert (sorted(results), errors) == ([2, 4], [])
        assert set(airflow.store.iterdir()) == before

    def test_runs_can_be_forgotten(self, airflow):
        before = set(airflow.states())
        with airflow_factory(**airflow.options, keep_runs=False)() as executor:
            assert executor.submit(pow, 2, 3).result(LONG_S) == 8
        assert set(airflow.states()) == before


def pickled_by_name(module):
    """Return something that pickles here and is imported from a module at the other side."""

    class Away:
        def __reduce__(self):
            return __import__, (module,)

        def __call__(self):
            """Be a function."""

    return Away()


class TestSafety:
    def test_a_store_that_airflow_does_not_know_is_refused(self, airflow, tmp_path):
        options = {**airflow.options, "payload_store": tmp_path}
        with airflow_factory(**options)() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert type(error) is ExecutorError
        assert "is not in the payload store of this Airflow" in str(error)

    def test_a_wrong_password_is_said_at_once(self, airflow):
        options = {**airflow.options, "auth": ("amltk", "wrong")}
        with airflow_factory(**options)() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert type(error) is ExecutorError
        assert "check auth=" in str(error)

    def test_a_missing_dag_is_said(self, airflow):
        options = {**airflow.options, "dag_id": "no_such_dag", "start_timeout_s": 0.5}
        with airflow_factory(**options)() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert "amltk airflow install-dag" in str(error)

    def test_a_call_of_another_python_is_not_unpickled(self, airflow, monkeypatch):
        monkeypatch.setattr("amltk.executors.airflow.store.PYTHON", "3.7")
        with airflow_factory(**airflow.options)() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert type(error) is ExecutorError
        assert "pickled by Python 3.7" in str(error)


class TestCancel:
    def test_a_running_call_is_ended_and_no_other(self, airflow_executor, tmp_path):
        beat = tmp_path / "beat"
        running = airflow_executor.submit(support.heartbeat, str(beat))
        other = airflow_executor.submit(lambda: (time.sleep(3), "fine")[1])
        support.wait_for_file(beat, LONG_S)

        assert running.cancel()
        support.wait_until(running.cancelled, LONG_S)
        last = beat.read_text()
        assert other.result(LONG_S) == "fine"
        assert beat.read_text() == last

    def test_waiting_calls_are_dropped_here(self, airflow_executor, tmp_path):
        running = airflow_executor.submit(note_pid_and_wait, str(tmp_path), 60)
        others = [
            airflow_executor.submit(support.note_and_return, str(tmp_path), x) for x in range(20)
        ]
        assert others[-1].cancel_pending()
        assert all(future.cancel() for future in others[::-1])
        (tmp_path / "go").touch()
        assert running.result(LONG_S) == "waited"
        support.wait_until(lambda: all(future.cancelled() for future in others), LONG_S)

    def test_running_is_told(self, airflow_executor, tmp_path):
        future = airflow_executor.submit(note_pid_and_wait, str(tmp_path), 60)
        support.wait_until(future.running, LONG_S)
        (tmp_path / "go").touch()
        assert future.result(LONG_S) == "waited"
        assert not future.cancel()

    def test_shutting_down_in_a_callback_waits_for_nothing_there(self, airflow):
        executor = airflow_factory(**airflow.options)()
        futures = [executor.submit(time.sleep, seconds) for seconds in (0.1, 1)]
        futures[0].add_done_callback(lambda _: executor.shutdown())
        assert [future.result(LONG_S) for future in futures] == [None, None]

    def test_a_shut_down_executor_takes_nothing(self, airflow):
        executor = airflow_factory(**airflow.options)()
        futures = [executor.submit(time.sleep, 0.1) for _ in range(12)]
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(ExecutorError, match="shut down"):
            executor.submit(pow, 2, 3)
        executor.shutdown()
        assert futures[-1].cancelled()
        assert all(future.done() for future in futures)


class TestDeaths:
    def test_a_killed_task_costs_its_call_and_no_other(self, airflow, tmp_path):
        scheduler = Scheduler.with_airflow(**airflow.options)
        doomed, fine = tmp_path / "doomed", tmp_path / "fine"
        doomed.mkdir(), fine.mkdir()
        task = Task(note_pid_and_wait, scheduler)
        seen = []
        task.on_exception(seen.append)
        task.on_returned(seen.append)
        scheduler.on_start(lambda: (task(str(doomed), 200), task(str(fine), 200)))
        task.on_exception(lambda _: (fine / "go").touch())

        @scheduler.on_start
        def kill_soon():
            support_thread(lambda: os.kill(pids_in(doomed)[0], signal.SIGKILL))

        scheduler.run(timeout=LONG_S, end_on_exception=False)
        assert type(seen[0]) is WorkerDiedError
        assert seen[0].run_id.startswith("amltk__")
        assert seen[0].state == "failed"
        assert "signal" in " ".join(seen[0].log_lines)
        assert seen[1:] == ["waited"]

    def test_a_result_outlives_its_supervisor(self, airflow_executor, tmp_path):
        future = airflow_executor.submit(note_pid_and_wait, str(tmp_path), 60)
        os.kill(pids_in(tmp_path)[1], signal.SIGKILL)
        (tmp_path / "go").touch()
        assert future.result(LONG_S) == "waited"

    @pytest.mark.slow
    def test_a_killed_supervisor_costs_its_call_and_leaves_no_orphan(
        self, airflow_executor, tmp_path
    ):
        future = airflow_executor.submit(note_pid_and_wait, str(tmp_path), 600)
        task, supervisor = pids_in(tmp_path)
        os.kill(supervisor, signal.SIGKILL)
        assert type(future.exception(LONG_S)) is WorkerDiedError
        support.wait_until(lambda: not support.is_alive(task), LONG_S)
        assert airflow_executor.submit(pow, 2, 3).result(LONG_S) == 8

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "components", [["scheduler"], ["api-server"], ["execution-api"]], ids=" ".join
    )
    def test_airflow_may_be_restarted(self, airflow, tmp_path, components):
        def work(x, folder=str(tmp_path)):
            time.sleep(2)
            return support.note_and_return(folder, x)

        with airflow_factory(**airflow.options)() as executor:
            futures = [executor.submit(work, x) for x in range(8)]
            support.wait_until(lambda: any(future.running() for future in futures), LONG_S)
            airflow.kill(*components)
            time.sleep(1)
            airflow.up()
            assert [future.result(LONG_S) for future in futures] == list(range(8))
        runs = sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
        assert runs == list(range(8))

    def test_a_password_that_travels_readable_is_warned_of(self, tmp_path):
        options = {"auth": ("amltk", "pass-word"), "payload_store": tmp_path, "secret": "sec-ret"}
        with pytest.warns(UnprotectedWarning, match="10.0.0.1 without TLS"):
            make = airflow_factory("http://10.0.0.1:8080", **options)
        assert "pass-word" not in repr(make)
        assert "sec-ret" not in repr(make)

    def test_an_airflow_that_stays_away_fails_the_calls(self, tmp_path):
        (port,) = {19}  # nobody listens there
        make = airflow_factory(
            f"http://127.0.0.1:{port}",
            auth=("amltk", "x"),
            payload_store=tmp_path,
            start_timeout_s=0.5,
        )
        with make() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
            assert type(error) is ExecutorError
            assert "start_timeout_s=0.5" in str(error)
            assert type(executor.submit(pow, 2, 3).exception(LONG_S)) is ExecutorError


def support_thread(function):
    import threading

    threading.Thread(target=function, daemon=True).start()


UNFINISHED = ("queued", "running")

DRIVER = """
import json, sys
from amltk import Scheduler, Task

options = json.loads(sys.argv[1])
options["auth"] = tuple(options["auth"])
scheduler = Scheduler.with_airflow(**options)

def work(folder):
    import os, time
    with open(f"{folder}/part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{folder}/part", f"{folder}/pid")
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.05)

task = Task(work, scheduler)
scheduler.on_start(lambda: [task(sys.argv[2]) for _ in range(6)])
scheduler.run()
"""


@pytest.fixture
def driver(airflow, unfinished, tmp_path):
    """Return a script that runs six calls that do not end, with one of them running."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    options = {**airflow.options, "payload_store": str(airflow.store)}
    process = support.start_script(script, json.dumps(options), tmp_path)
    support.wait_for_file(tmp_path / "pid", LONG_S)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def unfinished(airflow):
    """Return a function that lists the runs of this test that have not ended."""
    before = set(airflow.states())

    def look():
        states = airflow.states()
        return [run for run in states if run not in before and states[run] in UNFINISHED]

    return look


class TestDriver:
    def test_ctrl_c_ends_it_and_its_runs(self, driver, unfinished):
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=60)  # it took 1 s
        assert driver.returncode != 0
        assert "KeyboardInterrupt" in output
        support.wait_until(lambda: not unfinished(), LONG_S)

    def test_what_a_killed_driver_leaves(self, airflow, driver, unfinished, tmp_path):
        before = set(airflow.store.iterdir())
        driver.kill()
        driver.wait(20)
        assert 1 <= len(unfinished()) <= 4  # those that Airflow was told of, and no more
        (tmp_path / "go").touch()
        support.wait_until(lambda: not unfinished(), LONG_S)
        assert set(airflow.store.iterdir()) == before  # its folder stays


class TestSize:
    @pytest.mark.slow
    def test_a_hundred_calls(self, airflow):
        scheduler = Scheduler.with_airflow(**airflow.options)
        results, errors = runs.results_and_errors(
            scheduler, support.double, range(100), timeout=250
        )
        assert sorted(results) == [2 * x for x in range(100)]
        assert not errors

    @pytest.mark.slow
    def test_a_large_argument_is_in_the_store_once(self, airflow):
        data = bytes(os.urandom(1000)) * 100_000
        blobs = []

        def look(_result):
            large = [f for f in airflow.store.glob("*/blobs/*") if f.stat().st_size > 50_000_000]
            blobs.append(len(large))

        scheduler = Scheduler.with_airflow(**airflow.options)
        task = Task(lambda data, x: len(data) + x, scheduler)
        results = []
        task.on_returned(results.append)
        task.on_returned(look)
        scheduler.on_start(lambda: [task(data, x) for x in range(20)])
        before = psutil.Process().memory_info().rss
        assert scheduler.run(timeout=250) is Scheduler.ExitCode.EXHAUSTED
        gc.collect()
        assert sorted(results) == [100_000_000 + x for x in range(20)]
        assert set(blobs) == {1}
        assert psutil.Process().memory_info().rss - before < 500_000_000


GOOD = {"url": "http://127.0.0.1:8080", "auth": "token", "payload_store": "/tmp/store"}


class TestOptions:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("url", "127.0.0.1:8080"),
            ("url", "ftp://host"),
            ("url", "http://host/api/v2"),
            ("url", 5),
            ("auth", ("user",)),
            ("auth", ""),
            ("auth", None),
            ("payload_store", ""),
            ("payload_store", "memory://here"),
            ("payload_store", 7),
            ("max_workers", 0),
            ("max_workers", True),
            ("poll_interval_s", 0),
            ("start_timeout_s", -1),
            ("api_down_limit_s", "long"),
            ("settle_s", -2),
        ],
    )
    def test_a_value_that_makes_no_sense_is_named(self, option, value):
        with pytest.raises(InvalidOptionError, match=option) as caught:
            airflow_factory(**{**GOOD, option: value})
        assert caught.value.option == option

    def test_an_unused_executor_shuts_down(self):
        with airflow_factory(**GOOD)() as executor:
            assert executor.traits.ends_running_calls
