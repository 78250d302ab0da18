"""What a callable takes, whichever names its annotations use."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

_OPTIONS: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    # Annotations are evaluated when somebody asks. Of a name that only type checkers import, which
    # is fine until then, they would raise a NameError here.
    from annotationlib import Format

    _OPTIONS["annotation_format"] = Format.FORWARDREF


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a callable.

    Args:
        function: The callable.

    Raises:
        TypeError: When it cannot have one.
        ValueError: When it does not tell it, as some builtins.
    """
    return inspect.signature(function, **_OPTIONS)
