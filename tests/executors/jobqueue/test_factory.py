"""Clusters as engines: real batch systems where they are up, and stand-ins for the rest."""

import asyncio
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import support
from started.clusters import SCRIPTS, SYSTEMS, make_executor, options_of, queue_of

from amltk import Scheduler, Task
from amltk.exceptions import ExecutorError, InvalidOptionError, WorkerDiedError
from amltk.executors.jobqueue import factory
from amltk.executors.jobqueue.systems import SYSTEMS as SYSTEMS_ASKED
from amltk.testing.contracts import ExecutorContract

REAL = [name for name, system in SYSTEMS.items() if system.is_real]
STAND_INS = [name for name, system in SYSTEMS.items() if not system.is_real]
#: The mechanism is ours and the same everywhere; the longer stories are told on one real system and
#: on one that needs nothing.
TWO = ["slurm", "pbs-stand-in"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def on(names):
    return pytest.mark.parametrize("batch_system", names, indirect=True)


def scheduler_on(system, n_workers=2, **options):
    constructor = getattr(Scheduler, system.constructor)
    return constructor(n_workers, **{**options_of(system), **options})


@pytest.fixture
def task(batch_system, tmp_path):
    """Return a task that doubles, kills its worker at 3, and notes what it gets and raises."""
    scheduler = scheduler_on(batch_system)

    def work(x):
        if x == 3:
            os._exit(7)
        return 2 * x

    task = Task(work, scheduler)
    task.results, task.errors = [], []
    task.on_returned(task.results.append)
    task.on_exception(task.errors.append)
    return task


@on([*REAL, *STAND_INS])
def test_calls_run_in_jobs_and_no_job_is_left(batch_system, task):
    """The fixture looks into the queue at the end; a second run is like the first."""
    task.scheduler.on_start(lambda: [task(x) for x in range(6)])

    for _ in range(2):
        assert (
            task.scheduler.run(timeout=90, end_on_exception=False) is Scheduler.ExitCode.EXHAUSTED
        )
        support.wait_until(lambda: not queue_of(batch_system), 30)

    assert sorted(task.results) == sorted([0, 2, 4, 8, 10] * 2)
    assert [type(error) for error in task.errors] == [WorkerDiedError] * 2
    assert re.search(r"job \S+ of", str(task.errors[0]))


class OnOneCluster:
    """All tests of a class share a cluster, whose jobs come and go."""

    system: ClassVar[str]

    @pytest.fixture
    def executor(self, shared_cluster):
        return shared_cluster

    def test_it_is_known_which_jobs_there_are(self, executor):
        batch_system = SYSTEMS[self.system]
        system = SYSTEMS_ASKED[batch_system.constructor.removeprefix("with_")]
        assert executor.submit(pow, 2, 5).result(60) == 32
        known = [n for n in numbers_of_jobs(batch_system) if asyncio.run(system.has(n))]
        assert known
        assert asyncio.run(system.state_of(known[-1]))
        assert asyncio.run(system.has("99999")) is False
        assert "not in the queue" in asyncio.run(system.state_of("99999"))


class ClusterContract(OnOneCluster, ExecutorContract):
    timeout_s = 60.0


class Stories(ClusterContract):
    """What is told on two systems."""

    def test_workers_leave_when_there_is_no_work_although_results_are_held(self, executor):
        """Surprise: with Dask's own executor a held future keeps its worker."""
        futures = [executor.submit(support.double, x) for x in range(4)]
        assert [future.result(60) for future in futures] == [0, 2, 4, 6]
        support.wait_until(lambda: n_workers_of(executor) == 0, 60)
        assert executor.submit(pow, 2, 5).result(60) == 32

    def test_everything_of_ours_listens_on_the_interface_that_was_asked_for(self, executor):
        assert executor.submit(pow, 2, 5).result(60) == 32
        scheduler, *family = executor._client.run_on_scheduler(
            lambda dask_scheduler: [os.getpid(), *worker_families(dask_scheduler)]
        )
        assert listening(scheduler) == {"127.0.0.1"}
        assert set().union(*map(listening, family)) == {"127.0.0.1"}

    def test_a_running_call_is_ended_by_cancel(self, executor, tmp_path):
        begun = tmp_path / "begun"
        future = executor.submit(lambda: (begun.touch(), time.sleep(600)))
        support.wait_for_file(begun, 60)
        assert future.cancel()
        assert executor.submit(pow, 2, 5).result(60) == 32


class StoriesOfHome(Stories):
    def test_jobs_that_start_in_the_home_directory_find_the_drivers(self, executor):
        assert executor.submit(os.getcwd).result(60) == str(Path.cwd())


class ManyCalls(ClusterContract):
    def test_a_thousand_calls(self, executor):
        futures = [executor.submit(support.double, x) for x in range(1000)]
        assert [future.result(90) for future in futures] == [2 * x for x in range(1000)]


def listening(pid):
    """Return the addresses at which a process listens; a worker may just have left."""
    with suppress(psutil.NoSuchProcess):
        connections = psutil.Process(pid).net_connections("inet")
        return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return set()


def rows_of(name, *kinds):
    """Return the tests of some kinds on a system."""
    system = SYSTEMS[name]
    members = {"engine": system.title, "system": name}
    return type(f"Test{name}", kinds, members)


TestSlurm = rows_of("slurm", Stories, ManyCalls)
TestGridEngine = rows_of("sge", ManyCalls)
TestHTCondor = rows_of("htcondor", ManyCalls)
TestOAR = rows_of("oar", ManyCalls)
TestPBSOnSlurm = rows_of("pbs-on-slurm", ManyCalls)
TestPBSStandIn = rows_of("pbs-stand-in", StoriesOfHome)
TestLSFStandIn = rows_of("lsf-stand-in", ClusterContract)
TestMoabStandIn = rows_of("moab-stand-in", ClusterContract)
TestHTCondorStandIn = rows_of("htcondor-stand-in", OnOneCluster)
TestOARStandIn = rows_of("oar-stand-in", OnOneCluster)


def numbers_of_jobs(system):
    """Return the numbers of the jobs in the queue; some systems print a line that has none."""
    lines = queue_of(system).splitlines()
    return [found.group() for line in lines if (found := re.search(r"\d+", line))]


def cancel_jobs(system):
    """Cancel all jobs of the queue by the system's own command."""
    numbers = numbers_of_jobs(system)
    for number in numbers:
        subprocess.run([*system.cancels, number], capture_output=True, check=False)
    return numbers


@on([*REAL, "pbs-stand-in", "lsf-stand-in", "moab-stand-in"])
def test_a_job_that_is_cancelled_costs_its_call_and_comes_back(batch_system, tmp_path):
    begun = tmp_path / "begun"
    scheduler = scheduler_on(batch_system, 1)
    task = Task(lambda x: (begun.touch(), time.sleep(600)) if x == 0 else x, scheduler)
    results, errors = [], []
    task.on_returned(results.append)
    task.on_exception(errors.append)
    scheduler.on_start(lambda: [task(x) for x in range(3)])

    @scheduler.on_start
    def cancel_when_it_runs():
        import threading

        def watch():
            support.wait_for_file(begun, 60)
            cancel_jobs(batch_system)

        threading.Thread(target=watch).start()

    code = scheduler.run(timeout=100, end_on_exception=False)

    assert [type(error) for error in errors] == [WorkerDiedError]
    assert "job" in str(errors[0])
    assert code is Scheduler.ExitCode.EXHAUSTED
    assert sorted(results) == [1, 2]


def test_a_system_that_is_out_of_reach_says_nothing_of_its_jobs(tmp_path, monkeypatch):
    broken = tmp_path / "squeue"
    broken.write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert asyncio.run(SYSTEMS_ASKED["slurm"].has("1")) is None
    broken.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(SYSTEMS_ASKED["slurm"].state_of("1")) is None


@on(["lsf-stand-in"])
def test_a_job_is_replaced_where_the_system_cannot_be_asked(batch_system, tmp_path, monkeypatch):
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("bsub", "bkill"):
        (commands / name).symlink_to(Path(batch_system.path) / name)
    monkeypatch.setenv("PATH", os.environ["PATH"].replace(batch_system.path, str(commands)))
    begun = tmp_path / "begun"
    with make_executor(batch_system, 1) as executor:
        future = executor.submit(lambda: (begun.touch(), time.sleep(600)))
        support.wait_for_file(begun, 60)
        cancel_jobs(batch_system)
        assert isinstance(future.exception(60), WorkerDiedError)
        assert executor.submit(pow, 2, 5).result(60) == 32


@on(["lsf-stand-in"])
def test_a_system_that_answers_late_has_its_answer_in_the_error(
    batch_system, tmp_path, monkeypatch
):
    """Another worker is free in the meantime, and does not get the call."""
    slow = tmp_path / "bjobs"
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {batch_system.path}/bjobs "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with make_executor(batch_system, 2, adaptive=False) as executor:
        support.wait_until(lambda: n_workers_of(executor) == 2, 60)
        error = executor.submit(os._exit, 7).exception(60)
    assert isinstance(error, WorkerDiedError)
    assert re.search(r"job \d+ of LSF: \w", str(error))


@on(["slurm"])
def test_a_cause_that_slurm_knows_is_told(batch_system, tmp_path):
    begun = tmp_path / "begun"
    with make_executor(batch_system, 1) as executor:
        future = executor.submit(lambda: (begun.touch(), time.sleep(600)))
        support.wait_for_file(begun, 60)
        cancel_jobs(batch_system)
        error = future.exception(60)
    assert isinstance(error, WorkerDiedError)
    assert re.search(r"job \d+ of Slurm: (CANCELLED|COMPLETING)", str(error))


@on(TWO)
def test_a_job_that_is_cancelled_before_its_worker_came_is_replaced(
    batch_system, tmp_path, monkeypatch
):
    """Surprise: dask-jobqueue never notices such a job."""
    slow = {"job_script_prologue": ["sleep 3"]}
    with make_executor(batch_system, 1, **slow) as executor:
        future = executor.submit(pow, 2, 5)
        support.wait_until(lambda: queue_of(batch_system), 30)
        assert cancel_jobs(batch_system)
        assert future.result(90) == 32


@on(TWO)
def test_without_adapting_all_workers_come_at_once_and_lost_ones_are_replaced(
    batch_system, tmp_path
):
    """Surprise: ``scale(n)`` of dask-jobqueue does not replace a lost job."""
    with make_executor(batch_system, 2, adaptive=False) as executor:
        support.wait_until(lambda: n_workers_of(executor) == 2, 60)
        cancel_jobs(batch_system)
        support.wait_until(lambda: n_workers_of(executor) < 2, 30)
        support.wait_until(lambda: n_workers_of(executor) == 2, 60)


def n_workers_of(executor):
    return len(executor._client.scheduler_info(n_workers=-1)["workers"])


@on(TWO)
def test_no_more_jobs_than_workers_were_asked_for(batch_system, tmp_path):
    with make_executor(batch_system, 2) as executor:
        futures = [executor.submit(time.sleep, 0.2) for _ in range(20)]
        most = 0
        while not all(future.done() for future in futures):
            most = max(most, len(queue_of(batch_system).splitlines()))
            time.sleep(0.1)
    assert 1 <= most <= 2


@on(["slurm", "lsf-stand-in"])
def test_a_refused_submission_is_told_to_all_calls(batch_system, tmp_path):
    """Surprise: dask-jobqueue logs it and leaves the calls pending."""
    with make_executor(batch_system, 2, queue="no-such-queue") as executor:
        futures = [executor.submit(support.double, x) for x in range(3)]
        errors = [future.exception(60) for future in futures]
        assert {type(error) for error in errors} == {ExecutorError}
        assert "no job could be submitted" in str(errors[0])
        later = executor.submit(support.double, 1).exception(60)
        assert isinstance(later, ExecutorError)


@on(["slurm"])
def test_what_slurm_says_of_a_refusal_is_in_the_error(batch_system, tmp_path):
    with make_executor(batch_system, 1, queue="no-such-queue") as executor:
        assert "invalid partition" in str(executor.submit(pow, 2, 5).exception(60))


@on(TWO)
def test_a_missing_command_is_told_at_once(batch_system, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    scheduler = scheduler_on(batch_system)
    with pytest.raises(ExecutorError, match="is not found on this machine"):
        scheduler.run(timeout=30)


@pytest.fixture
def own_command(batch_system, tmp_path):
    """Return what makes a command that does something before it is the system's own."""
    submit = "sbatch" if batch_system.constructor == "with_slurm" else "qsub"

    def make(before, command=submit, after=""):
        own = tmp_path / f"own-{command}"
        own.write_text(f'#!/bin/sh\ncd {tmp_path}\n{before}\n{command} "$@"\n{after}\n')
        own.chmod(0o755)
        return str(own)

    return make


@on(TWO)
def test_commands_of_ones_own_are_used(batch_system, own_command, tmp_path):
    own = own_command("touch submitted; shift")
    with make_executor(batch_system, 1, submit_command=f"{own} --extra") as executor:
        assert executor.submit(pow, 2, 5).result(60) == 32
    assert (tmp_path / "submitted").exists()


@on(["pbs-stand-in"])
def test_submissions_may_fail_for_a_while_where_jobs_were_taken_before(
    batch_system, own_command, tmp_path
):
    begun, away = tmp_path / "begun", tmp_path / "away"
    own = own_command("if [ -e away ]; then echo nobody is there >&2; exit 1; fi")
    with make_executor(batch_system, 1, submit_command=own) as executor:
        future = executor.submit(lambda: (begun.touch(), time.sleep(600)))
        support.wait_for_file(begun, 60)
        away.touch()
        cancel_jobs(batch_system)
        assert isinstance(future.exception(60), WorkerDiedError)
        later = executor.submit(pow, 2, 5)
        with pytest.raises(TimeoutError):
            later.result(10)  # when no job had been taken before, it would have failed by now
        away.unlink()
        assert later.result(60) == 32


@on(TWO)
def test_a_job_that_is_being_submitted_when_the_run_ends_is_cancelled(
    batch_system, own_command, tmp_path
):
    own = own_command("touch began; sleep 2", after="touch submitted")
    executor = make_executor(batch_system, 1, submit_command=own, adaptive=False)
    support.wait_until((tmp_path / "began").exists, 60)
    executor.shutdown()
    assert (tmp_path / "submitted").exists()
    support.wait_until(lambda: not queue_of(batch_system), 30)  # jobs take a moment to be gone


@on(TWO)
def test_a_cancel_command_that_fails_is_tried_again(batch_system, own_command, tmp_path):
    once = "if [ ! -e tried ]; then touch tried; exit 1; fi"
    own = own_command(once, batch_system.cancels[0])
    with make_executor(batch_system, 1, cancel_command=own, adaptive=False) as executor:
        assert executor.submit(pow, 2, 5).result(60) == 32
    assert (tmp_path / "tried").exists()
    support.wait_until(lambda: not queue_of(batch_system), 30)  # jobs take a moment to be gone


@on(["slurm"])
def test_a_walltime_that_is_over_costs_the_call_and_says_so(batch_system, tmp_path):
    """Slurm counts walltimes in minutes, so the cause is looked at with a job of one minute."""
    with make_executor(batch_system, 1, walltime="00:00:01") as executor:
        future = executor.submit(time.sleep, 600)
        error = future.exception(110)
    assert isinstance(error, WorkerDiedError)
    assert re.search(r"job \d+ of Slurm: (TIMEOUT|COMPLETING)", str(error))


@on(TWO)
def test_connections_are_encrypted_where_that_is_asked_for(batch_system, tmp_path):
    pytest.importorskip("cryptography", reason="the extra tls is not installed")
    own_folder = {"shared_temp_directory": str(tmp_path)}
    with make_executor(batch_system, 1, security=True, **own_folder) as executor:
        assert executor._client.scheduler.address.startswith("tls://")
        assert executor.submit(pow, 2, 5).result(60) == 32


@on(["slurm"])
def test_a_hundred_megabytes_for_twenty_calls(batch_system, tmp_path):
    data = os.urandom(100 << 20)
    options = {"memory": "2GB"}
    with make_executor(batch_system, **options) as executor:
        futures = [executor.submit(len, data) for _ in range(20)]
        assert [future.result(90) for future in futures] == [100 << 20] * 20


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_workers": 0}, "n_workers=0"),
        ({"n_workers": True}, "n_workers=True"),
        ({"n_workers": 1, "memory": "1GB"}, "cores"),
        ({"n_workers": 1, "cores": 1, "memory": "1GB", "colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_before_a_run(options, match):
    pytest.importorskip("dask_jobqueue", reason="the extra jobqueue is not installed")
    with pytest.raises(InvalidOptionError, match=match):
        Scheduler.with_slurm(**options)


def test_what_a_program_does_about_ctrl_c_is_kept(tmp_path):
    """dask-jobqueue replaces the handler when it is imported."""
    pytest.importorskip("dask_jobqueue", reason="the extra jobqueue is not installed")
    script = tmp_path / "driver.py"
    script.write_text("""
import signal
from amltk import Scheduler

signal.signal(signal.SIGINT, lambda number, frame: print("told to end"))
Scheduler.with_slurm(1, cores=1, memory="1GB")
signal.raise_signal(signal.SIGINT)
""")
    process = support.start_script(script)
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["told to end"]
    assert process.returncode == 0


SCRIPT = """
import json, sys, time
from pathlib import Path
from amltk import Scheduler, Task

def work(folder, x):
    Path(folder, str(x)).touch()
    time.sleep(600)

constructor, folder, options = sys.argv[1:]
scheduler = getattr(Scheduler, constructor)(2, **json.loads(options))
task = Task(work, scheduler)
scheduler.on_start(lambda: [task(folder, x) for x in range(4)])
try:
    scheduler.run()
except KeyboardInterrupt:
    print("interrupted")
"""


@on([*REAL, "lsf-stand-in"])
class TestDriver:
    """A script whose calls run in jobs, two running and two waiting."""

    @pytest.fixture
    def driver(self, batch_system, tmp_path):
        import json

        script, begun = tmp_path / "driver.py", tmp_path / "begun"
        script.write_text(SCRIPT)
        begun.mkdir(mode=0o777)
        options = json.dumps(options_of(batch_system))
        process = support.start_script(script, batch_system.constructor, begun, options)
        support.wait_until(lambda: len(list(begun.iterdir())) == 2, 60)
        yield process
        process.kill()
        process.communicate()

    def test_ctrl_c_leaves_no_job(self, batch_system, driver):
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=40)
        assert "interrupted" in output
        support.wait_until(lambda: not queue_of(batch_system), 20)

    def test_a_killed_driver_leaves_no_job(self, batch_system, driver):
        driver.kill()
        support.wait_until(lambda: not queue_of(batch_system), 30)


#: The daemon of a node, what becomes of a call when it is killed, and the command that has the
#: system forget jobs that it still waits for then. OAR has no daemon on its nodes.
NODE_DAEMONS = {
    "slurm": ("slurmd", None, ()),
    "sge": ("sge_execd", None, ("qdel", "-f", "-u", "*")),
    "htcondor": ("condor_startd", WorkerDiedError, ("condor_rm", "-forcex", "-all")),
}


@on(NODE_DAEMONS)
def test_the_daemon_of_a_node_may_be_killed_under_a_running_call(request, batch_system, tmp_path):
    """It is started again, and so is what it took along."""
    daemon, error, forget = NODE_DAEMONS[request.node.callspec.params["batch_system"]]
    begun = tmp_path / "begun"
    with make_executor(batch_system, 1) as executor:
        future = executor.submit(lambda: (begun.touch(), time.sleep(5), "fine")[-1])
        support.wait_for_file(begun, 60)
        try:
            daemons = [p for p in psutil.process_iter(["name"]) if p.info["name"] == daemon]
            assert daemons
            for process in daemons:
                process.kill()
            if error is None:
                assert future.result(60) == "fine"
            else:
                assert isinstance(future.exception(60), error)
        finally:
            up = SCRIPTS / batch_system.up
            subprocess.run([up], capture_output=True, check=True, timeout=100)
        assert executor.submit(pow, 2, 5).result(60) == 32
        family = executor._client.run_on_scheduler(worker_families)
    if forget:
        subprocess.run(forget, capture_output=True, check=False)
    # The batch system ends them in its own time.
    support.wait_until(lambda: not any(support.is_alive(pid) for pid in family), 40)


def worker_families(dask_scheduler):
    workers = [worker.pid for worker in dask_scheduler.workers.values()]
    return [pid for worker in workers for pid in (worker, psutil.Process(worker).ppid())]


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ([], ["127.0.0.1:0"]),
        (["--no-dashboard"], ["127.0.0.1:0"]),
        (["--dashboard-address", "10.0.0.1:0"], ["10.0.0.1:0"]),
    ],
)
def test_a_worker_has_a_server_for_http_only_where_that_was_asked_for(given, addresses):
    arguments = factory._with_defaults("slurm", {"worker_extra_args": given})["worker_extra_args"]

    places = [place for place, each in enumerate(arguments) if each == "--dashboard-address"]
    assert [arguments[place + 1] for place in places] == addresses
