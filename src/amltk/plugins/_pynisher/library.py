"""Imports pynisher, quietly: Python 3.14 and later warn of its source when they compile it."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

from amltk._optional import require


def load() -> ModuleType:
    """Import pynisher.

    Its 1.0.10 has a ``return`` in a ``finally``, which each process that compiles it would print a
    warning of, and fail at where warnings are errors.

    Returns:
        The module.

    Raises:
        MissingExtraError: When it is not installed.
    """
    found = sys.modules.get("pynisher")
    if found is not None:  # the usual case: filters of warnings belong to all threads
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return require("pynisher", extra="pynisher", purpose="PynisherPlugin")
