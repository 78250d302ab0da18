"""Apache Airflow as an engine; extra: ``airflow``.

::

    executor ── calls ── reach, lost ── api, store ══ dag, in Airflow's workers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.executors.airflow.executor import AirflowExecutor as AirflowExecutor
    from amltk.executors.airflow.executor import airflow_factory as airflow_factory

_WHERE = {
    "AirflowExecutor": "amltk.executors.airflow.executor",
    "airflow_factory": "amltk.executors.airflow.executor",
}

__all__ = [
    "AirflowExecutor",
    "airflow_factory",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
