"""What a limited call may use, and the units in which one says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from amltk.exceptions import InvalidOptionError

#: A number in bytes or seconds, or a number with its unit, such as ``(2, "gb")``.
Amount = int | float | tuple[int | float, str]

#: How the process of a call is started.
StartMethod = Literal["fork", "forkserver", "spawn"]

#: What a memory limit counts.
MemoryMode = Literal["address_space", "rss"]

START_METHODS: tuple[StartMethod, ...] = ("fork", "forkserver", "spawn")
MEMORY_MODES: tuple[MemoryMode, ...] = ("address_space", "rss")

_BYTES = {"b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of each call of a task, checked and in bytes and seconds."""

    #: Bytes.
    memory: int | None
    #: Whole seconds.
    cpu_time_s: int | None
    #: Seconds.
    wall_time_s: float | None
    memory_mode: MemoryMode
    #: ``None`` has it chosen in the worker.
    context: StartMethod | None
    #: Modules that the server of *forkserver* imports once.
    preload: tuple[str, ...]

    @property
    def address_space(self) -> int | None:
        """Bytes of address space that the call may add, where that is what is limited."""
        return self.memory if self.memory_mode == "address_space" else None

    @property
    def resident(self) -> int | None:
        """Bytes of resident memory that the call may add, where that is what is limited."""
        return self.memory if self.memory_mode == "rss" else None


def bytes_of(option: str, amount: Amount | None) -> int | None:
    """Turn an amount of memory into bytes, rounded up.

    Args:
        option: The option that it was given for.
        amount: The amount.

    Raises:
        InvalidOptionError: When it is none.
    """
    value = _value_of(option, amount, _BYTES, "bytes")
    return None if value is None else math.ceil(value)


def seconds_of(option: str, amount: Amount | None) -> float | None:
    """Turn an amount of time into seconds.

    Args:
        option: The option that it was given for.
        amount: The amount.

    Raises:
        InvalidOptionError: When it is none.
    """
    return _value_of(option, amount, _SECONDS, "seconds")


def _value_of(
    option: str, amount: object, units: Mapping[str, int], plain: str
) -> int | float | None:
    if amount is None:
        return None
    number, factor = amount, 1
    if isinstance(amount, tuple):
        number, unit = amount if len(amount) == 2 else (None, None)  # noqa: PLR2004 - a pair
        factor = units.get(unit.lower(), 0) if isinstance(unit, str) else 0
    if _is_number(number) and factor:
        return number * factor  # type: ignore[operator] # it is a number
    message = (
        f"{option}={amount!r} is not possible; give a number of {plain} above 0, or a number with "
        f'its unit, such as (2, "{list(units)[-2]}"); units are {", ".join(units)}'
    )
    raise InvalidOptionError(message, option=option, value=amount)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value > 0
        and math.isfinite(value)
    )


def check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that an option is one of a few words.

    Raises:
        InvalidOptionError: When it is not.
    """
    if value not in choices:
        message = f"{option}={value!r} is not possible; it is one of {', '.join(choices)}"
        raise InvalidOptionError(message, option=option, value=value)
