"""Names of a package that are loaded when somebody first asks for them, also by an older road."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
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


class _OlderRoads:
    """Finds modules that have moved by their older names, as the same objects.

    Scripts import by them, and so do pickles of earlier days. It is a finder and a loader by its
    methods, since the base classes for that take longer to import than all of this package's door.
    """

    def __init__(self, moved: Mapping[str, str]) -> None:
        self._moved = moved
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        """Find an older name only."""
        del path, target
        return ModuleSpec(fullname, self) if fullname in self._moved else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module where it is now."""
        module = importlib.import_module(self._moved[spec.name])
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own description back, which the import has replaced."""
        name = module.__spec__.name if module.__spec__ else ""
        module.__spec__ = self._specs.pop(name, module.__spec__)


def keep_older_roads(package: str, moved: Mapping[str, str]) -> None:
    """Have modules of a package found by the names that they had before they moved.

    Args:
        package: The package's name, below which both names are.
        moved: The new name of each older one, such as ``{"trial": "trials.trial"}``.
    """
    roads = {f"{package}.{old}": f"{package}.{new}" for old, new in moved.items()}
    sys.meta_path.append(_OlderRoads(roads))
