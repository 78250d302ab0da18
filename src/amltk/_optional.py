"""The one place that asks for a package of an extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from amltk.exceptions import MissingExtraError


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
        message = (
            f'{purpose} needs "{package}", which is not installed; '
            f'install it with: pip install "amltk[{extra}]"'
        )
        raise MissingExtraError(message, extra=extra, package=package) from error
