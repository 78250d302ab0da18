"""Ray as an engine, on a real one."""

import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import runs
import support

from amltk import Scheduler
from amltk.exceptions import ExecutorError, InvalidOptionError, WorkerDiedError
from amltk.executors.ray.executor import RayExecutor, ray_factory
from amltk.testing.contracts import ExecutorContract

pytestmark = [
    pytest.mark.timeout(240),
    # Ray's own: sockets and files that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class TestRay(ExecutorContract):
    engine = "Ray"

    @pytest.fixture
    def executor(self, ray_executor):
        return ray_executor


def run_calls(executor, function, arguments, **options):
    return runs.results_and_errors(Scheduler(executor), function, arguments, timeout=100, **options)


class TestDeaths:
    @pytest.mark.parametrize("how", ["exit 0", "exit 7", "segfault", "kill"])
    def test_one_costs_one_call_of_thirty(self, ray_executor, how, tmp_path):
        def work(x, folder=str(tmp_path)):
            support.note_and_return(folder, x)
            if x == 3:
                support.die(how)
            return x

        results, errors = run_calls(ray_executor, work, range(30))

        assert sorted(results) == [x for x in range(30) if x != 3]
        assert [type(error) for error in errors] == [WorkerDiedError]
        assert errors[0].__cause__ is not None
        runs = sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
        assert runs == list(range(30))


class TestCancel:
    def test_a_running_call_is_ended_and_no_other(self, ray_executor, tmp_path):
        beat = tmp_path / "beat"
        running = ray_executor.submit(support.heartbeat, beat)
        other = ray_executor.submit(lambda: (time.sleep(2), "fine")[1])
        support.wait_for_file(beat)

        assert running.cancel()
        support.wait_until(running.cancelled)
        time.sleep(0.3)
        last = beat.read_text()
        assert other.result(60) == "fine"
        assert beat.read_text() == last
        assert ray_executor.submit(pow, 2, 5).result(60) == 32

    def test_what_waits_here_never_runs(self, ray_executor, tmp_path):
        blockers = [ray_executor.submit(time.sleep, 1) for _ in range(2)]
        futures = [
            ray_executor.submit(support.note_and_return, str(tmp_path), x) for x in range(50)
        ]
        said = [future.cancel_pending() for future in futures]
        for blocker in blockers:
            blocker.result(60)
        assert ray_executor.submit(pow, 2, 5).result(60) == 32
        ran = {int(path.name.split("-")[0]) for path in tmp_path.iterdir()}
        assert ran == {x for x, cancelled in enumerate(said) if not cancelled}
        assert any(said)

    def test_quick_calls_of_one_function_give_none_of_another_ahead(self, ray_executor):
        quick = [ray_executor.submit(support.double, x) for x in range(1500)]
        assert [future.result(60) for future in quick] == [2 * x for x in range(1500)]
        futures = [ray_executor.submit(time.sleep, 0.05) for _ in range(40)]
        assert sum(future.cancel_pending() for future in futures) >= 30
        assert [future.result(60) for future in futures if not future.cancelled()]

    def test_a_call_that_is_done_cannot_be_cancelled(self, ray_executor):
        future = ray_executor.submit(pow, 2, 5)
        assert future.result(60) == 32
        assert not future.cancel()


def test_nobody_else_can_enter_the_folder_of_a_ray_that_was_started_here(ray_executor):
    import ray

    sockets = Path(ray._private.worker._global_node.get_sockets_dir_path())
    modes = [folder.stat().st_mode & 0o777 for folder in sockets.parents]
    assert 0o700 in modes[: len(sockets.parts) - len(Path(tempfile.gettempdir()).parts)]


class TestOptions:
    def test_a_call_gets_what_it_needs(self, ray_executor):
        seen, errors = run_calls(
            ray_executor, lambda _: time.time(), range(3), task_options={"num_cpus": 2}
        )
        assert (len(seen), errors) == (3, [])

    def test_calls_that_need_all_run_one_by_one(self, ray_executor):
        def span(_):
            began = time.time()
            time.sleep(0.2)
            return began, time.time()

        spans, _ = run_calls(ray_executor, span, range(4), task_options={"num_cpus": 2})
        spans.sort()
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))

    @pytest.mark.parametrize(
        "needs", [{"num_cpus": 64}, {"num_gpus": 1}, {"memory": 1 << 50}, {"resources": {"x": 1}}]
    )
    def test_what_the_cluster_has_not_is_an_error_of_the_call(self, ray_executor, needs):
        results, errors = run_calls(ray_executor, support.double, [1], task_options=needs)
        assert not results
        assert [type(error) for error in errors] == [ExecutorError]
        assert re.search(r"double needs .* which no node of the Ray cluster has", str(errors[0]))

    def test_an_unknown_option_is_refused(self, ray_executor):
        with pytest.raises(InvalidOptionError, match="no_such_option"):
            ray_executor.with_options(no_such_option=1)

    def test_environment_variables_of_a_call(self, ray_executor):
        environment = {"env_vars": {"AMLTK_COLOUR": "red"}}
        results, errors = run_calls(
            ray_executor,
            lambda _: os.environ["AMLTK_COLOUR"],
            [1],
            task_options={"runtime_env": environment},
        )
        assert (results, errors) == (["red"], [])

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"num_cpus": -1}, "num_cpus=-1"),
            ({"num_gpus": "many"}, "num_gpus='many'"),
            ({"address": "127.0.0.1:1", "num_cpus": 2}, "num_cpus cannot be given with an address"),
        ],
    )
    def test_wrong_options_are_refused_before_a_run(self, ray_package, options, match):
        with pytest.raises(InvalidOptionError, match=match):
            ray_factory(**options)


class TestCalls:
    def test_builtins_partials_and_methods(self, ray_executor):
        from functools import partial

        assert ray_executor.submit(partial(pow, 2), 5).result(60) == 32
        assert ray_executor.submit("a-b".split, "-").result(60) == ["a", "b"]

    def test_an_array_may_be_written_to(self, ray_executor):
        numpy = pytest.importorskip("numpy")

        def add_one(array):
            array += 1
            return float(array.sum())

        assert ray_executor.submit(add_one, numpy.zeros(300_000)).result(60) == 300_000

    @pytest.mark.slow
    def test_a_hundred_megabytes_are_put_once_for_twenty_calls(self, ray_executor):
        data = os.urandom(100 << 20)
        puts = []
        put = ray_executor._blobs._put
        ray_executor._blobs._put = lambda digest, blob: (puts.append(digest), put(digest, blob))[1]
        try:
            futures = [ray_executor.submit(len, data) for _ in range(20)]
            assert [future.result(100) for future in futures] == [100 << 20] * 20
        finally:
            ray_executor._blobs._put = put
        assert len(puts) == 1

    def test_a_thousand_calls(self, ray_executor):
        results, errors = run_calls(ray_executor, support.double, range(1000))
        assert sorted(results) == [2 * x for x in range(1000)]
        assert not errors

    def test_a_second_executor_uses_the_same_ray_and_leaves_it_alone(
        self, ray_executor, ray_package
    ):
        with RayExecutor() as second:
            assert second.submit(pow, 2, 5).result(60) == 32
        assert ray_package.is_initialized()
        assert ray_executor.submit(pow, 2, 5).result(60) == 32

    def test_after_shutdown_no_call_is_taken(self, ray_executor):
        executor = RayExecutor()
        executor.shutdown()
        with pytest.raises(ExecutorError, match="this RayExecutor is shut down"):
            executor.submit(pow, 2, 5)

    def test_no_callback_ends_the_thread_that_completes_calls(self, ray_executor, tmp_path):
        support.check_that_no_callback_ends_the_engine(ray_executor, tmp_path / "go")

    def test_a_future_that_a_stranger_completes_costs_no_other_call(self, ray_executor, caplog):
        future = ray_executor.submit(time.sleep, 0.3)
        future.set_result("mine")
        support.wait_until(lambda: "could not be completed" in caplog.text)
        assert ray_executor.submit(pow, 2, 5).result(60) == 32
        assert future.result() == "mine"

    def test_shutting_down_in_a_callback_waits_for_nothing_there(self, ray_executor):
        executor = RayExecutor()
        futures = [executor.submit(time.sleep, seconds) for seconds in (0.3, 1)]
        futures[0].add_done_callback(lambda _: executor.shutdown())
        assert [future.result(60) for future in futures] == [None, None]
        assert ray_executor.submit(pow, 2, 5).result(60) == 32

    def test_shutdown_without_waiting_lets_calls_end(self, ray_executor):
        executor = RayExecutor()
        futures = [executor.submit(time.sleep, 0.3) for _ in range(6)]
        executor.shutdown(wait=False, cancel_futures=True)
        outcomes = [future.cancelled() or future.result(60) for future in futures]
        assert set(outcomes) <= {True, None}
        assert outcomes[-1] is True


def test_everything_listens_on_loopback(ray_executor):
    addresses = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that has ended since, of another test
            if "ray" in " ".join(process.cmdline()):
                listening = process.net_connections("inet")
                addresses |= {c.laddr.ip for c in listening if c.status == psutil.CONN_LISTEN}
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


# Each of these is a program of its own, since a program has one Ray.

OPTIONS = "num_cpus=2, object_store_memory=100_000_000"


KILL_RAYLET = """
import os, psutil, sys, threading, time
from amltk import Scheduler, Task

scheduler = Scheduler.with_ray({options})
task = Task(time.sleep, scheduler)
errors = []
task.on_exception(lambda error: errors.append(type(error).__name__))
scheduler.on_start(lambda: [task(600) for _ in range(4)])

def kill():
    time.sleep(3)
    for process in {family}.children(recursive=True):
        if "raylet/raylet" in " ".join(process.cmdline()):
            process.kill()

scheduler.on_start(threading.Thread(target=kill).start)
print(scheduler.run(end_on_exception=False).name, errors)
"""

KILLED_RAYLET = KILL_RAYLET.format(options=OPTIONS, family="psutil.Process()")

# The environment says which process the cluster is below.
KILLED_NODE = KILL_RAYLET.format(
    options='f"127.0.0.1:{sys.argv[1]}"', family="psutil.Process(int(os.environ['CLUSTER']))"
)


def finish(process, timeout_s=90):
    try:
        output, _ = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, output


def script(tmp_path, code):
    path = tmp_path / "driver.py"
    path.write_text(code)
    return support.start_script(path, tmp_path)


@pytest.mark.slow
def test_a_second_run_is_like_the_first_and_nothing_is_left(ray_package, tmp_path):
    code = f"""
import glob, os, psutil, tempfile
from amltk import Scheduler, Task

scheduler = Scheduler.with_ray({OPTIONS})
task = Task(lambda x: 2 * x, scheduler)
results = []
task.on_returned(results.append)
scheduler.on_start(lambda: [task(x) for x in range(3)])
print(scheduler.run().name, scheduler.run().name, sorted(results))
print(psutil.wait_procs(psutil.Process().children(recursive=True), timeout=20)[1])
print([name for name in os.environ if name.startswith("RAY_AUTH")])
"""
    code, output = finish(script(tmp_path, code))
    assert code == 0, output
    assert output.splitlines()[-3:] == ["EXHAUSTED EXHAUSTED [0, 0, 2, 2, 4, 4]", "[]", "[]"]


@pytest.mark.slow
def test_ray_may_have_been_imported_before(ray_package, tmp_path):
    """As most scripts do: it listens on loopback all the same, and keeps the script's handlers."""
    code = f"""
import ray
import psutil
import signal
from amltk.executors.ray.executor import ray_factory

def say(number, frame): print("told to end")

signal.signal(signal.SIGTERM, say)
with ray_factory({OPTIONS})() as executor:
    print(executor.submit(pow, 2, 5).result(60))
    family = psutil.Process().children(recursive=True)
    listening = [c for p in family for c in p.net_connections("inet") if c.status == "LISTEN"]
    print({{c.laddr.ip.removeprefix("::ffff:") for c in listening}})
    signal.raise_signal(signal.SIGTERM)
"""
    code, output = finish(script(tmp_path, code))
    assert code == 0, output
    assert output.splitlines()[-3:] == ["32", "{'127.0.0.1'}", "told to end"]


@pytest.mark.slow
def test_executors_share_a_ray_that_the_last_one_shuts_down(ray_package, tmp_path):
    code = f"""
import os, ray, tempfile
from amltk.exceptions import InvalidOptionError
from amltk.executors.ray.executor import ray_factory

make = ray_factory({OPTIONS})
first, second = make(), make()
first.shutdown()
print(second.submit(pow, 2, 5).result(60), ray.is_initialized())
second.shutdown()
print(ray.is_initialized())
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    os.environ["HOME"] = folder  # Ray keeps a token there
    ray.init(address="local", num_cpus=1, object_store_memory=100_000_000, _temp_dir=folder)
    try:
        make()
    except InvalidOptionError as error:
        print(error.option)
    with ray_factory()() as third:
        print(third.submit(pow, 2, 5).result(60))
    print(ray.is_initialized())
    ray.shutdown()
"""
    code, output = finish(script(tmp_path, code))
    assert code == 0, output
    last = ["32 True", "False", "num_cpus", "32", "True"]
    assert [line for line in output.splitlines() if line in last] == last, output


@pytest.mark.slow
def test_when_raylet_is_killed_every_call_ends(ray_package, tmp_path):
    _, output = finish(script(tmp_path, KILLED_RAYLET))
    assert re.search(r"EXHAUSTED \[('\w+Error',? ?){4}\]", output), output


@pytest.mark.slow
class TestDriver:
    @pytest.fixture
    def driver(self, ray_package, tmp_path, monkeypatch):
        code = f"""
import sys, time
from pathlib import Path
from amltk import Scheduler, Task

def work(folder, x):
    Path(folder, f"begun-{{x}}").touch()
    time.sleep(600)

scheduler = Scheduler.with_ray({OPTIONS})
task = Task(work, scheduler)
scheduler.on_start(lambda: [task(sys.argv[1], x) for x in range(4)])
try:
    scheduler.run()
except KeyboardInterrupt:
    print("interrupted")
"""
        # A driver that is killed does not remove what it has there.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            monkeypatch.setenv("TMPDIR", folder)
            process = script(tmp_path, code)
            support.wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, 60)
            family = psutil.Process(process.pid).children(recursive=True)
            yield process, family
            process.kill()
            process.communicate()

    def test_ctrl_c_ends_it_and_leaves_nothing(self, driver):
        process, family = driver
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=40)
        assert "interrupted" in output
        support.wait_until(lambda: not any(support.is_alive(p.pid) for p in family), 30)

    def test_when_it_is_killed_the_calls_end_in_seconds(self, driver):
        """Two agents of Ray stay for a minute or two; they are Ray's own."""
        process, family = driver
        calls = [p for p in family if "ray::run_parcel" in " ".join(p.cmdline())]
        assert len(calls) == 2
        process.kill()
        support.wait_until(lambda: not any(support.is_alive(p.pid) for p in calls), 30)
        for left in family:
            if support.is_alive(left.pid):
                left.kill()


@pytest.mark.slow
class TestAttaching:
    """A Ray of somebody else, started by Ray's own command."""

    @pytest.fixture
    def cluster(self, ray_package):
        # Not in pytest's own folder, whose path is too long for the sockets.
        with tempfile.TemporaryDirectory(
            prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
        ) as folder:
            yield from self.started(Path(folder))

    def started(self, folder):
        environment = {
            **os.environ,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "ab" * 32,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        port = support.free_port()
        command = [
            sys.executable, "-c", "from ray.scripts.scripts import main; main()",
            "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
            "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}",
            "--object-store-memory=100000000",
        ]  # fmt: skip
        with (folder / "log").open("w+") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                support.wait_until(
                    lambda: "Ray runtime started" in (folder / "log").read_text(), 60
                )
                yield port, {**environment, "CLUSTER": str(process.pid)}
            finally:
                process.terminate()
                process.wait(30)

    CODE = """
import sys
from amltk import Scheduler, Task

scheduler = Scheduler.with_ray(f"127.0.0.1:{sys.argv[1]}")
task = Task(lambda x: 2 * x, scheduler)
task.on_returned(print)
scheduler.on_start(lambda: task(21))
print(scheduler.run().name)
"""

    def attach(self, tmp_path, port, environment, code=CODE):
        path = tmp_path / "driver.py"
        path.write_text(code)
        paths = os.pathsep.join([str(support.ROOT / "src"), str(support.ROOT / "tests")])
        return subprocess.run(
            [sys.executable, path, str(port)],
            env={**environment, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def test_by_its_address_and_it_stays(self, cluster, tmp_path):
        port, environment = cluster
        for _ in range(2):
            done = self.attach(tmp_path, port, environment)
            assert done.stdout.splitlines() == ["42", "EXHAUSTED"], done.stderr

    def test_when_its_node_is_killed_every_call_ends(self, cluster, tmp_path):
        port, environment = cluster
        done = self.attach(tmp_path, port, environment, KILLED_NODE)
        assert re.search(r"EXHAUSTED \[('\w+Error',? ?){4}\]", done.stdout), done.stderr

    def test_without_its_token_the_error_names_the_variables(self, cluster, tmp_path):
        port, environment = cluster
        bare = {k: v for k, v in environment.items() if not k.startswith("RAY_AUTH")}
        done = self.attach(tmp_path, port, bare)
        assert done.returncode == 1
        assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in done.stderr
