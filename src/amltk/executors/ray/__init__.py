"""Ray as an engine; extra: ``ray``.

::

    executor ── lane ══ Ray;  session: Ray's start and end
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.executors.ray.executor import RayExecutor as RayExecutor
    from amltk.executors.ray.executor import ray_factory as ray_factory

_WHERE = {
    "RayExecutor": "amltk.executors.ray.executor",
    "ray_factory": "amltk.executors.ray.executor",
}

__all__ = [
    "RayExecutor",
    "ray_factory",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
