"""What is to be known of each batch system: its class in dask-jobqueue, and how to ask for a job."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass

#: How long a batch system may take to answer.
_ANSWER_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A batch system.

    Attributes:
        title: What people call it.
        cluster: The class in dask-jobqueue.
        submit_command: Its own command to submit a job.
        asks: The command that tells of a job, with ``{job}`` for its id.
        state: Finds the state in the answer; all of the answer is none of a job's state by default.
        gone: States of jobs that have ended, if the command still tells of those.
        unknown: Finds, in exit code and answer, that there is no such job. Any other failure says
            nothing of the job: a system may be out of reach for a while.
    """

    title: str
    cluster: str
    submit_command: str
    asks: tuple[str, ...] = ()
    state: str = ""
    gone: frozenset[str] = frozenset()
    unknown: str = ""

    def can_be_asked(self) -> bool:
        """Tell whether this machine has the command that tells of jobs."""
        return bool(self.asks) and shutil.which(self.asks[0]) is not None

    async def has(self, job_id: str | None) -> bool | None:
        """Tell whether a job waits or runs; ``None`` where that cannot be known."""
        text = await self._ask(job_id)
        return None if text is None else bool(text) and self._state_in(text) not in self.gone

    async def state_of(self, job_id: str | None) -> str | None:
        """Tell a job's state in the system's own word, ``None`` where that cannot be known."""
        text = await self._ask(job_id)
        if text is None:
            return None
        if not text:
            return "it is not in the queue any more"
        return self._state_in(text) or "it is still in the queue"

    async def _ask(self, job_id: str | None) -> str | None:
        """Return what the system tells of a job: nothing when there is none."""
        if job_id is None or not self.asks:
            return None
        command = [part.format(job=job_id) for part in self.asks]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        except OSError:
            return None
        try:
            out, err = await asyncio.wait_for(process.communicate(), _ANSWER_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            return None
        if not process.returncode:
            return out.decode(errors="replace").strip()
        failure = f"{process.returncode} {(out + err).decode(errors='replace')}"
        return "" if self.unknown and re.search(self.unknown, failure) else None

    def _state_in(self, text: str) -> str | None:
        found = re.search(self.state, text) if self.state else None
        return found.group(1) if found else None


_SLURM_GONE = "BOOT_FAIL CANCELLED COMPLETED COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT"

SYSTEMS = {
    "slurm": System(
        title="Slurm",
        cluster="SLURMCluster",
        submit_command="sbatch",
        asks=("squeue", "--noheader", "--states=all", "--format=%T", "--jobs={job}"),
        state=r"(\w+)",
        gone=frozenset(_SLURM_GONE.split()),
        unknown="Invalid job id",
    ),
    "pbs": System(
        title="PBS",
        cluster="PBSCluster",
        submit_command="qsub",
        asks=("qstat", "{job}"),
        state=r"\s([A-Z])\s+\S+\s*$",
        gone=frozenset("CEFX"),
        unknown="^153 |Unknown Job|Job has finished",
    ),
    "sge": System(
        title="Grid Engine",
        cluster="SGECluster",
        submit_command="qsub",
        asks=("qstat", "-j", "{job}"),
        unknown="do not exist",
    ),
    "lsf": System(
        title="LSF",
        cluster="LSFCluster",
        submit_command="bsub",
        asks=("bjobs", "-noheader", "-o", "stat", "{job}"),
        state=r"(\w+)",
        gone=frozenset({"DONE", "EXIT"}),
        unknown="is not found",
    ),
    "moab": System(
        title="Moab",
        cluster="MoabCluster",
        submit_command="msub",
        asks=("checkjob", "{job}"),
        state=r"State:\s*(\w+)",
        gone=frozenset({"Completed", "Removed", "Vacated"}),
        unknown="invalid job|cannot locate job",
    ),
    "htcondor": System(
        title="HTCondor",
        cluster="HTCondorCluster",
        submit_command="condor_submit",
        asks=("condor_q", "{job}", "-af", "JobStatus"),
        state=r"(\d)",
        gone=frozenset("34"),  # removed, completed
    ),
    "oar": System(
        title="OAR",
        cluster="OARCluster",
        submit_command="oarsub",
        asks=("oarstat", "--state", "--job", "{job}"),
        state=r":\s*(\w+)",
        gone=frozenset({"Terminated", "Error", "Finishing", "toError"}),
    ),
}
