"""The batch systems of clusters: which are up on this machine, how to use them, what is in the queue.

``scripts/engines/NAME-up`` installs and starts them, as root on Debian; the stand-ins under
``scripts/engines/standin`` are commands that look like a system's own, and run jobs as processes.
"""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pytest
import support

from started import missing

SCRIPTS = support.ROOT / "scripts" / "engines"

#: What makes a cluster small, and keeps it on loopback.
SMALL = {"cores": 1, "processes": 1, "memory": "500MB", "interface": "lo"}


@dataclass(frozen=True)
class BatchSystem:
    """A batch system, or what stands in for one."""

    title: str
    constructor: str
    options: dict = field(default_factory=dict)
    up: str | None = None
    "The script that starts it; none for a stand-in."
    path: str = ""
    "A folder of commands that come first."
    asks: tuple[str, ...] = ()
    "The command that prints something as long as there is a job."
    cancels: tuple[str, ...] = ()
    "The command that cancels a job whose number is added."

    @property
    def is_real(self):
        return self.up is not None


TEN_MINUTES = {"walltime": "00:10:00"}
CONDOR = {"disk": "100MB"}
OAR = {**TEN_MINUTES, "memory_per_core_property_name": "memcore"}
TORQUE = "/opt/slurm-torque/bin"
LIST = (str(SCRIPTS / "standin" / "batch.py"), "list")


def stand_in(title, constructor, options, cancels):
    folder = str(SCRIPTS / "standin" / constructor.removeprefix("with_"))
    return BatchSystem(
        f"{title} (stand-in)", constructor, options, path=folder, asks=LIST, cancels=(cancels,)
    )


SYSTEMS = {
    "slurm": BatchSystem(
        "Slurm", "with_slurm", TEN_MINUTES, "slurm-up", "", ("squeue", "-h"), ("scancel",)
    ),
    "sge": BatchSystem(
        "Grid Engine", "with_sge", TEN_MINUTES, "sge-up", "", ("qstat", "-u", "*"), ("qdel",)
    ),
    "htcondor": BatchSystem(
        "HTCondor", "with_htcondor", CONDOR, "condor-up", "",
        ("condor_q", "-all", "-af", "ClusterId"), ("condor_rm",),
    ),
    "oar": BatchSystem("OAR", "with_oar", OAR, "oar-up", "", ("oarstat",), ("oardel",)),
    "pbs-on-slurm": BatchSystem(
        "PBS commands on Slurm", "with_pbs", TEN_MINUTES, "slurm-up", TORQUE,
        ("squeue", "-h"), ("scancel",),
    ),
    "pbs-stand-in": stand_in("PBS", "with_pbs", TEN_MINUTES, "qdel"),
    "lsf-stand-in": stand_in("LSF", "with_lsf", {"walltime": "00:10"}, "bkill"),
    "moab-stand-in": stand_in("Moab", "with_moab", TEN_MINUTES, "canceljob"),
    "htcondor-stand-in": stand_in("HTCondor", "with_htcondor", CONDOR, "condor_rm"),
    "oar-stand-in": stand_in("OAR", "with_oar", OAR, "oardel"),
}  # fmt: skip


@lru_cache
def answers(command):
    """Tell whether a system's own command answers."""
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    return done.returncode == 0


@contextmanager
def ready(name, folder):
    """Have a system ready for use, with an empty queue at the end."""
    pytest.importorskip("dask_jobqueue", reason="the extra jobqueue is not installed")
    system = SYSTEMS[name]
    if system.is_real and os.environ.get("AMLTK_REQUIRE_ENGINES") != "1":
        # Its jobs may be somebody's work.
        pytest.skip(
            f"these tests cancel all jobs of {system.title} and kill its daemons, so they use only "
            f"one that was started for them: scripts/test --all-engines"
        )
    if system.is_real and not answers(system.asks):
        missing(f"{system.title} is not up on this machine; scripts/engines/{system.up} starts it")
    with pytest.MonkeyPatch.context() as patch:
        if system.path:
            patch.setenv("PATH", system.path + os.pathsep + os.environ["PATH"])
        patch.setenv("STANDIN_SPOOL", str(folder / "spool"))
        # OAR leaves its output where it is called; HTCondor's jobs belong to another account.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            Path(home).chmod(0o777)
            patch.chdir(home)
            yield system
            support.wait_until(lambda: not queue_of(system), 30)
            patch.undo()


@pytest.fixture
def batch_system(request, tmp_path):
    """Return the system named by the parameter."""
    with ready(request.param, tmp_path) as system:
        yield system


@pytest.fixture(scope="class")
def shared_cluster(request, tmp_path_factory):
    """Return an executor on the system that a test class names, for all of its tests."""
    folder = tmp_path_factory.mktemp("cluster")
    with ready(request.cls.system, folder) as system, make_executor(system) as executor:
        yield executor


def queue_of(system):
    """Return what the system prints of its queue: nothing when there is no job."""
    done = subprocess.run(system.asks, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def options_of(system):
    """Return the options that a cluster of this machine needs."""
    folder = str(Path.cwd())
    return {**SMALL, **system.options, "log_directory": folder, "local_directory": folder}


def make_executor(system, n_workers=2, **options):
    """Return an executor on a system."""
    from amltk.executors.jobqueue.factory import cluster_factory

    name = system.constructor.removeprefix("with_")
    return cluster_factory(name, n_workers, **{**options_of(system), **options})()
