"""Names of a package that are loaded when somebody first asks for them."""

from __future__ import annotations

import importlib
from typing import Any


def resolve(package: dict[str, Any], name: str) -> Any:
    """Return a name of a package from the module where it is, and keep it in the package.

    Args:
        package: The globals of the package: its ``_WHERE`` tells the module of each name.
        name: What was asked for.

    Raises:
        AttributeError: When the package has no such name; the message lists those it has.
    """
    where = package["_WHERE"].get(name)
    if where is None:
        names = ", ".join(package["__all__"])
        message = f"module {package['__name__']!r} has no name {name!r}; it has: {names}"
        raise AttributeError(message)
    value = package[name] = getattr(importlib.import_module(where), name)
    return value
