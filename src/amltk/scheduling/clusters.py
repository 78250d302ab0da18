"""One constructor of a scheduler for each batch system: all take the same, and run calls in jobs.

::

    Scheduler.with_slurm(10, queue="short") ──▶ factory_of("slurm", …) ──▶ Scheduler(factory)
                                                   checks packages and options at once
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Self

from amltk.executors.registry import factory_of

if TYPE_CHECKING:
    from amltk.scheduling.closing import Terminate


class ClusterConstructors:
    """The ``with_…`` constructors of ``Scheduler`` for batch systems."""

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        *,
        terminate: Terminate = True,
        recover: bool = True,
    ) -> None:
        raise NotImplementedError  # a scheduler has its own

    @classmethod
    def with_slurm(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a Slurm cluster; needs the extra ``jobqueue``.

        Workers are jobs of the cluster. They are asked for when there are calls for them, and no
        job is left in the queue when the run has ended.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load; if not, all are asked for at
                once and kept until the run ends.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.SLURMCluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "slurm",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_pbs(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a PBS cluster; needs the extra ``jobqueue``.

        All arguments are those of ``with_slurm``, with the options of ``PBSCluster``.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.PBSCluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "pbs",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_sge(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a Grid Engine cluster; needs the extra ``jobqueue``.

        All arguments are those of ``with_slurm``, with the options of ``SGECluster``.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.SGECluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "sge",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_lsf(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a LSF cluster; needs the extra ``jobqueue``.

        All arguments are those of ``with_slurm``, with the options of ``LSFCluster``.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.LSFCluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "lsf",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_moab(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a Moab cluster; needs the extra ``jobqueue``.

        All arguments are those of ``with_slurm``, with the options of ``MoabCluster``.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.MoabCluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "moab",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_htcondor(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a HTCondor cluster; needs the extra ``jobqueue``.

        All arguments are those of ``with_slurm``, with the options of ``HTCondorCluster``.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.HTCondorCluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "htcondor",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_oar(
        cls,
        n_workers: int,
        *,
        adaptive: bool = True,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        terminate: Terminate = True,
        **cluster_options: Any,
    ) -> Self:
        """Run calls in jobs of a OAR cluster; needs the extra ``jobqueue``.

        All arguments are those of ``with_slurm``, with the options of ``OARCluster``.

        Args:
            n_workers: How many workers at most.
            adaptive: Whether workers come and go with the load.
            submit_command: What submits a job, instead of the system's own command.
            cancel_command: What cancels a job, instead of the system's own command.
            terminate: See the class.
            **cluster_options: Passed on to ``dask_jobqueue.OARCluster``.

        Raises:
            MissingExtraError: When dask-jobqueue is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "oar",
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            **cluster_options,
        )
        return cls(factory, terminate=terminate)
