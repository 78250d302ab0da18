"""The batch systems of clusters as engines, by dask-jobqueue; extra: ``jobqueue``.

::

    factory ══ keeper ── systems, in the process of the cluster
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.executors.jobqueue.factory import cluster_factory as cluster_factory
    from amltk.executors.jobqueue.factory import htcondor_factory as htcondor_factory
    from amltk.executors.jobqueue.factory import lsf_factory as lsf_factory
    from amltk.executors.jobqueue.factory import moab_factory as moab_factory
    from amltk.executors.jobqueue.factory import oar_factory as oar_factory
    from amltk.executors.jobqueue.factory import pbs_factory as pbs_factory
    from amltk.executors.jobqueue.factory import sge_factory as sge_factory
    from amltk.executors.jobqueue.factory import slurm_factory as slurm_factory

_WHERE = {
    "cluster_factory": "amltk.executors.jobqueue.factory",
    "htcondor_factory": "amltk.executors.jobqueue.factory",
    "lsf_factory": "amltk.executors.jobqueue.factory",
    "moab_factory": "amltk.executors.jobqueue.factory",
    "oar_factory": "amltk.executors.jobqueue.factory",
    "pbs_factory": "amltk.executors.jobqueue.factory",
    "sge_factory": "amltk.executors.jobqueue.factory",
    "slurm_factory": "amltk.executors.jobqueue.factory",
}

__all__ = [
    "cluster_factory",
    "htcondor_factory",
    "lsf_factory",
    "moab_factory",
    "oar_factory",
    "pbs_factory",
    "sge_factory",
    "slurm_factory",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
