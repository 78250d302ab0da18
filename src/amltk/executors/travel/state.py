"""Telling functions that keep something between calls from those that do not."""

from __future__ import annotations

import functools
import pickletools
import types
from typing import Any

#: How deep it is looked into functions that hold functions.
_DEEPEST = 20

#: What cannot be changed, and holds nothing that can.
_ATOMS = (int, float, complex, str, bytes, type(None), range, type, types.ModuleType)

#: What ``functools.cache`` and ``functools.lru_cache`` make.
_CACHED = type(functools.cache(lambda: None))

#: What plain pickle writes for something that is found by its name, and for nothing else.
_NAME_STEPS = frozenset(
    {"PROTO", "FRAME", "SHORT_BINUNICODE", "BINUNICODE", "MEMOIZE", "BINGET", "STACK_GLOBAL"}
    | {"STOP"}
)

#: The payload of something that is found by its name is no longer than this.
_LONGEST_NAME = 1000


def keeps_state(function: object, depth: int = 0) -> bool:
    """Tell whether calls of a function may see what others of its calls have left in it.

    Those of a plain function or a class may not, but for its module's globals, which are the same
    for all. The object of a bound method, an instance that can be called, the arguments of a
    ``partial``, what a closure holds and what defaults are, are part of the function: they are its state.

    Args:
        function: What is called.
        depth: How many functions hold it.
    """
    if depth > _DEEPEST:
        return True
    wrapped = getattr(type(function), "stateless_around", None)
    if isinstance(function, _CACHED):
        wrapped = "__wrapped__"  # what a cache remembers is what the function returns anyway
    if wrapped is not None:
        return keeps_state(getattr(function, wrapped), depth + 1)
    if isinstance(function, types.FunctionType):
        held = [_contents(cell) for cell in function.__closure__ or ()]
        if "<" in function.__qualname__:  # else it is found by its name, and is one for all
            held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        return any(_keeps(one, depth) for one in held)
    if isinstance(function, types.BuiltinFunctionType | types.MethodType):
        return not isinstance(function.__self__, type | types.ModuleType | None)
    if isinstance(function, functools.partial):
        held = [*function.args, *function.keywords.values()]
        return keeps_state(function.func, depth + 1) or any(_keeps(one, depth) for one in held)
    return not isinstance(function, type)


def _keeps(value: object, depth: int) -> bool:
    if isinstance(value, _ATOMS):
        return False
    if isinstance(value, tuple | frozenset):
        return depth > _DEEPEST or any(_keeps(one, depth + 1) for one in value)
    return not callable(value) or keeps_state(value, depth + 1)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def is_name(payload: bytes) -> bool:
    """Tell whether a payload of plain pickle is the name of something, and nothing else."""
    if len(payload) > _LONGEST_NAME:
        return False
    return all(step.name in _NAME_STEPS for step, _, _ in pickletools.genops(payload))
