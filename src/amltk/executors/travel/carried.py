"""Exceptions that pickle cannot make again from their arguments, made again without being asked.

Pickle calls the class with ``args``, which many classes do not take, and sets attributes one by one,
which those of a frozen dataclass refuse.
"""

from __future__ import annotations

from typing import Any

#: How exceptions pickle that do not say how.
_PICKLING = ("__reduce__", "__reduce_ex__")


def can_be_carried(error: BaseException) -> bool:
    """Tell whether an exception leaves it to us how it travels, by not saying it itself."""
    return all(getattr(type(error), name) is getattr(BaseException, name) for name in _PICKLING)


class Carried:
    """Travels in the place of an exception and arrives as that exception.

    Args:
        error: The exception.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as type, arguments and attributes."""
        return parts_of(self._error)


def parts_of(error: BaseException) -> tuple[Any, ...]:
    """Return how an exception is made again, as ``__reduce__`` does."""
    return remade, (type(error), error.args, dict(vars(error)))


def remade(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    """Make an exception again.

    Args:
        kind: Its type.
        args: Its ``args``.
        attributes: What else it has.
    """
    try:
        error = kind.__new__(kind, *args)
    except TypeError:  # of two builtin ones, such as a MemoryError that is another thing too
        error = BaseException.__new__(kind, *args)
    BaseException.args.__set__(error, args)  # type: ignore[attr-defined] # also where the class takes none
    vars(error).update(attributes)
    return error
