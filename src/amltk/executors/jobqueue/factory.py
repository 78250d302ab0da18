"""The batch systems of clusters as engines, by dask-jobqueue; extra: ``jobqueue``.

::

    driver                    the cluster's process                    the batch system
    DaskExecutor ──────▶ Dask's scheduler ◀────────────────────── workers in jobs
                              JobKeeper ── sbatch, scancel, squeue ──▶ queue

The cluster's process is the driver's companion on the same machine; see `amltk.executors.dask.cluster`. When the
driver is gone, it cancels the jobs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from amltk._checks import check_whole
from amltk._optional import require
from amltk.exceptions import ExecutorError, InvalidOptionError
from amltk.executors._signals import kept_handler
from amltk.executors.dask.executor import DaskExecutor
from amltk.executors.dask.session import open_cluster, security_of
from amltk.executors.jobqueue.keeper import in_jobs
from amltk.executors.jobqueue.systems import SYSTEMS
from amltk.executors.traits import Factory, Traits


def cluster_factory(
    system: str,
    n_workers: int,
    *,
    adaptive: bool = True,
    submit_command: str | None = None,
    cancel_command: str | None = None,
    **cluster_options: Any,
) -> Factory:
    """Return what makes an executor on a cluster.

    Args:
        system: The batch system, one of ``SYSTEMS``.
        n_workers: How many workers at most.
        adaptive: Whether workers come and go with the load; if not, all are asked for at once, and
            those that are lost are replaced.
        submit_command: What submits a job, instead of the system's own command.
        cancel_command: What cancels a job, instead of the system's own command.
        **cluster_options: Of the class of dask-jobqueue, such as ``cores``, ``memory``,
            ``walltime`` and ``queue``.

    Raises:
        MissingExtraError: When dask-jobqueue is not installed.
        InvalidOptionError: When an option makes no sense.
    """
    purpose = f'the "{system}" executor'
    with kept_handler(signal.SIGINT):  # importing it replaces that
        jobqueue = require("dask_jobqueue", extra="jobqueue", purpose=purpose)
    distributed = require("distributed", extra="jobqueue", purpose=purpose)
    check_whole("n_workers", n_workers, least=1)
    cluster = _with_defaults(system, cluster_options)
    threads = _check_job(getattr(jobqueue, SYSTEMS[system].cluster), cluster)
    commands = {"submit_command": submit_command, "cancel_command": cancel_command}
    options = {
        "system": system,
        "n_workers": n_workers,
        "adaptive": adaptive,
        "commands": {name: command for name, command in commands.items() if command is not None},
        "cluster": cluster,
    }
    make = partial(_open, distributed, options, alone=threads == 1)
    return Factory(make, Traits(shares_machine=False, n_workers=n_workers * threads))


#: Takes the arguments of ``cluster_factory`` but for the system.
_Make = Callable[..., Factory]

slurm_factory: _Make = partial(cluster_factory, "slurm")
pbs_factory: _Make = partial(cluster_factory, "pbs")
sge_factory: _Make = partial(cluster_factory, "sge")
lsf_factory: _Make = partial(cluster_factory, "lsf")
moab_factory: _Make = partial(cluster_factory, "moab")
htcondor_factory: _Make = partial(cluster_factory, "htcondor")
oar_factory: _Make = partial(cluster_factory, "oar")


def _with_defaults(system: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Add what is safer than the defaults of dask-jobqueue, where the user says nothing."""
    scheduler_options = {"dashboard_address": "127.0.0.1:0", "dashboard": False}
    scheduler_options.update(options.get("scheduler_options") or {})
    worker_args = list(options.get("worker_extra_args") or [])
    asked = {str(argument) for argument in worker_args if "dashboard" in str(argument)}
    if asked <= {"--no-dashboard"}:
        # It would listen on all addresses, and so would what is left of it without its pages.
        worker_args += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    prologue = [_export_path()]
    if system in ("pbs", "moab"):  # their jobs start in the home directory
        prologue.append(f"cd {shlex.quote(str(Path.cwd()))}")
    prologue += options.get("job_script_prologue") or []
    added = {
        "scheduler_options": scheduler_options,
        "worker_extra_args": worker_args,
        "job_script_prologue": prologue,
    }
    return {"silence_logs": "error", **options, **added}


def _export_path() -> str:
    """Have workers find modules where the driver finds them, such as those beside its script."""
    folders = [str(Path(folder).resolve()) for folder in sys.path if Path(folder).is_dir()]
    return f"export PYTHONPATH={shlex.quote(os.pathsep.join(folders))}"


def _check_job(kind: Any, options: Mapping[str, Any]) -> int:
    """Have the job script written once, and return how many threads a worker has."""
    of_cluster = {"scheduler_options", "silence_logs", "security", "shared_temp_directory", "name"}
    job_options = {name: value for name, value in options.items() if name not in of_cluster}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come again, when the cluster is opened
            job = kind.job_cls("tcp://127.0.0.1:0", name="check", **job_options)
    except (TypeError, ValueError) as error:
        message = f"{kind.__name__} of dask-jobqueue cannot be made with {job_options!r}: {error}"
        raise InvalidOptionError(message, option="cluster_options", value=job_options) from error
    threads: int = job.worker_process_threads
    return threads


def _open(distributed: Any, options: Mapping[str, Any], *, alone: bool) -> DaskExecutor:
    system = SYSTEMS[options["system"]]
    command = options["commands"].get("submit_command", system.submit_command)
    if shutil.which(shlex.split(command)[0]) is None:
        message = (
            f"no jobs can be submitted to {system.title}: the command {command!r} is not found on "
            f"this machine; run the driver where it is, or give submit_command="
        )
        raise ExecutorError(message)
    security = security_of(options["cluster"].get("security"))
    cluster = {**options["cluster"], "security": security}
    client, close = open_cluster(
        distributed, in_jobs, {**options, "cluster": cluster}, security=security
    )
    return DaskExecutor(client, close=close, ends_running_calls=alone)
