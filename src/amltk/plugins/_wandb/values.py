"""Configurations and the like as Weights & Biases keeps them: one level, plain values."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

#: Between the keys of nested mappings; a point would be read as nesting by wandb itself.
SEPARATOR = "/"

#: Texts longer than this are cut.
MAX_TEXT = 5000


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a mapping, or the fields of an object, to one level of plain values.

    Args:
        values: A mapping with whatever keys and values, or an object with attributes.
        prefix: What all keys begin with.

    Returns:
        Plain values by keys such as ``"optimizer/lr"``.
    """
    found: dict[str, Any] = {}
    for key, value in _items_of(values):
        name = f"{prefix}{plain_key(key)}"
        if isinstance(value, Mapping) and value:
            found.update(flat(value, name + SEPARATOR))
        else:
            found[name] = plain(value)
    return found


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: itself, a scalar or list of the same, or its ``repr``.

    Infinite numbers and NaN stay what they are.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return flat(value)
    if isinstance(value, list | tuple | AbstractSet):
        return [plain(each) for each in value]
    return value if value is None else _scalar(value)


def _scalar(value: Any) -> Any:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # of numpy and its like
        value = value.item()
    if isinstance(value, str):
        return short(str(value))
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)  # a subclass would be pickled and written as what it is
    return short_repr(value)


def nan_as_text(value: Any) -> Any:
    """Write NaN as text, in lists and mappings too: wandb keeps it in rows, but nowhere else."""
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - true for NaN alone
        return "NaN"
    if isinstance(value, list):
        return [nan_as_text(each) for each in value]
    if isinstance(value, dict):
        return {key: nan_as_text(each) for key, each in value.items()}
    return value


def plain_key(key: Any) -> str:
    """Return a key as text."""
    return str(plain(key))


def short(text: str) -> str:
    """Cut a text that is too long."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def short_repr(value: object) -> str:
    """Return the ``repr`` of whatever it is, cut if need be; never raises."""
    try:
        return short(repr(value))
    except Exception:  # the value's own fault, which says nothing of the call
        return f"an object of {type(value).__qualname__}"


def _items_of(values: Any) -> list[tuple[Any, Any]]:
    if values is None:
        return []
    if isinstance(values, Mapping):
        return list(values.items())
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return [(f.name, getattr(values, f.name)) for f in dataclasses.fields(values)]
    if hasattr(values, "__dict__"):
        return [(k, v) for k, v in vars(values).items() if not k.startswith("_")]
    return [("value", values)]
