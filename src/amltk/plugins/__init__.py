"""Ready-made behaviours for a task, one file each; each is loaded when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amltk.plugins.limiter import CallLimiter as CallLimiter

_WHERE = {
    "CallLimiter": "amltk.plugins.limiter",
}

__all__ = ["CallLimiter"]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        message = f"module {__name__!r} has no name {name!r}; it has: {', '.join(__all__)}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(where), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
