"""Functions by value whose annotations name what only type checkers import.

Python 3.14 and later evaluate annotations when somebody asks, so that this is no error in a program.
cloudpickle asks. Here such annotations travel as the text that they are.
"""

from __future__ import annotations

import importlib
import io
import pickle
from types import FunctionType
from typing import Any, ForwardRef

import cloudpickle


def dumps(value: object) -> bytes:
    """Pickle a value by cloudpickle.

    Args:
        value: What is to travel.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    with io.BytesIO() as file:
        _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc] # which has no types
    def reducer_override(self, obj: Any) -> Any:
        if (
            type(obj) is ForwardRef
        ):  # as dataclasses keep them; they know the dictionary of the class
            return ForwardRef, (obj.__forward_arg__,)
        try:
            return super().reducer_override(obj)
        except NameError:
            if type(obj) is not FunctionType:
                raise
            return super().reducer_override(_with_text(obj))


def _with_text(function: FunctionType) -> FunctionType:
    """Return a function that is the same but for its annotations, which are text."""
    lib = importlib.import_module("annotationlib")  # earlier Pythons never come here
    twin = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__dict__.update(function.__dict__)
    for name in ("__kwdefaults__", "__module__", "__qualname__", "__doc__", "__type_params__"):
        setattr(twin, name, getattr(function, name))
    twin.__annotations__ = lib.get_annotations(function, format=lib.Format.STRING)
    return twin
