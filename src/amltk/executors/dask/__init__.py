"""Dask as an engine; extra: ``dask``.

::

    factory ── executor ── session ══ cluster, a process beside the driver; calls, inside of Dask's own
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.executors.dask.executor import DaskExecutor as DaskExecutor
    from amltk.executors.dask.factory import dask_factory as dask_factory

_WHERE = {
    "DaskExecutor": "amltk.executors.dask.executor",
    "dask_factory": "amltk.executors.dask.factory",
}

__all__ = [
    "DaskExecutor",
    "dask_factory",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
