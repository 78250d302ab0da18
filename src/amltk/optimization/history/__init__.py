"""What is kept of a search: reports in order, and pictures of them.

::

    history ── compared ── plots ── parallel, timeline ── drawing, ranking
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.optimization.history.history import History as History

_WHERE = {
    "History": "amltk.optimization.history.history",
}

__all__ = [
    "History",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
