"""The one place that asks for a package of an extra."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

from amltk.exceptions import MissingExtraError

#: A requirement as packages' metadata have it, as far as it matters here.
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*(?P<range>[^;]*)")


def require(package: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a package of an optional extra.

    Args:
        package: The name to import.
        extra: The extra of amltk that installs it.
        purpose: Who needs it, for the message, such as ``'the "loky" executor'``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: When it is not installed; the message has the install command.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        # A package that is there but misses one of its own dependencies is another fault,
        # and its own message is the better one.
        if error.name is None or error.name.split(".")[0] != package.split(".", maxsplit=1)[0]:
            raise
        name = package.split(".", maxsplit=1)[0]
        message = (
            f'{purpose} needs "{name}", which is not installed; '
            f'install it with: pip install "{_requirement_of(name)}"'
        )
        raise MissingExtraError(message, extra=extra, package=name) from error


def _requirement_of(name: str) -> str:
    """Return a package with the range of versions that amltk's own metadata ask for.

    It is named itself, and not an extra of amltk: where amltk came from, nobody knows here, and its name
    may be another project's where the hint is read.
    """
    from importlib import metadata

    try:
        asked = metadata.requires("amltk") or ()
    except metadata.PackageNotFoundError:  # run from its sources
        asked = ()
    for requirement in asked:
        match = _REQUIREMENT.match(requirement)
        if match is not None and _plain(match["name"]) == _plain(name):
            return f"{match['name']}{(match['range'] or '').strip()}"
    return name


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
