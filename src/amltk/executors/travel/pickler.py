"""Pickling by value what a worker cannot import, with what cloudpickle alone cannot do.

Added to it are what ``functools`` puts around functions of a script (``cache``, ``singledispatch``,
``cached_property``), what pickles itself as nothing but a name (``NewType``, ``ParamSpec``,
singletons), annotations that nobody can evaluate, and code that knows its file.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ForwardRef

import cloudpickle
from cloudpickle import cloudpickle as library

from amltk.executors.travel.namespaces import by_value, find, namespaces_called

#: What a reducer returns.
Reduced = tuple[Any, ...]

#: What ``functools.cache`` and ``functools.lru_cache`` make.
_CACHED = type(functools.cache(lambda: None))

#: By this code a function is known that ``functools.singledispatch`` has made.
_DISPATCHING = getattr(functools.singledispatch(lambda _first: None), "__code__")  # noqa: B009 - no type has it


def dumps(value: object) -> bytes:
    """Pickle a value with all that belongs to it.

    Args:
        value: What is to travel.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    with io.BytesIO() as file:
        Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()


def place_of(thing: Any, name: str | None = None) -> tuple[dict[str, Any], str] | None:
    """Tell where something of a script is found by its name.

    Args:
        thing: A function, a class, or what else has a name of its own.
        name: The name, where it says another one than what it is called.

    Returns:
        The namespace, and the dotted name in it; ``None`` where it is not found by its name.
    """
    dotted = name or getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    module_name = getattr(thing, "__module__", None)
    if not isinstance(dotted, str):
        return None
    # The globals of a function need not be those of a module.
    spaces = [getattr(getattr(thing, "__wrapped__", thing), "__globals__", None)]
    if isinstance(module_name, str):
        spaces += namespaces_called(module_name)
    for space in spaces:
        if isinstance(space, dict) and find(space, dotted) is thing:
            return space, dotted
    return None


if TYPE_CHECKING:

    class _CloudPickler(pickle.Pickler):
        """What is used of cloudpickle's, which has no types."""

        def _dynamic_function_reduce(self, func: types.FunctionType) -> Any: ...

        def _function_reduce(self, func: types.FunctionType) -> Any: ...

else:
    _CloudPickler = cloudpickle.CloudPickler


class Pickler(_CloudPickler):
    """Pickles all things of scripts by value; subclasses know some by their names."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how something is to be pickled; called for all but plain data."""
        kind = type(obj)
        if kind is types.FunctionType:
            return self.by_name(obj, None) or _reduce_dispatching(obj) or self.of_function(obj)
        if issubclass(kind, type):
            return self.by_name(obj, None) or self._class(obj)
        reduce = _REDUCERS.get(kind)
        if reduce is not None:
            return self.by_name(obj, None) or reduce(obj)
        if by_value(kind.__module__):
            return self._instance(obj)
        return NotImplemented

    def by_name(self, thing: object, name: str | None) -> Reduced | None:
        """Return how a thing is told by its name, or ``None`` if it has to travel by value.

        Args:
            thing: The thing.
            name: What it says that its name is; what it is called by default.
        """
        del thing, name
        return None

    def of_function(self, function: types.FunctionType) -> Any:
        """Return how a function is to be pickled that is not told by its name in a script."""
        try:
            if by_value(function.__module__ or ""):
                return self._dynamic_function_reduce(function)
            return self._function_reduce(function)
        except NameError:
            return self._dynamic_function_reduce(_with_text(function))

    def _class(self, kind: type) -> Any:
        if by_value(kind.__module__):
            return library._dynamic_class_reduce(kind)
        return super().reducer_override(kind)

    def _instance(self, thing: Any) -> Any:
        """Reduce an instance of a class of a script, which may say no more than its name."""
        kind = type(thing)
        if kind in self.dispatch_table:
            return NotImplemented
        reduced = thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if not isinstance(reduced, str):
            return reduced
        return self.by_name(thing, reduced) or (object.__new__, (kind,), dict(vars(thing)))


# ------------------------------------------------------------- what is made once more elsewhere


def _reduce_cached(function: Any) -> Reduced:
    asked = function.cache_parameters()
    return remake_cached, (function.__wrapped__, asked["maxsize"], asked["typed"])


def remake_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:  # noqa: FBT001 - by position, over the wire
    """Make a function with a cache, which is empty."""
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_dispatching(function: types.FunctionType) -> Reduced | None:
    if function.__code__ is not _DISPATCHING:
        return None
    registered = dict(function.registry)  # type: ignore[attr-defined] # as functools makes it
    base = registered.pop(object)
    return remake_dispatching, (base, list(registered.items()))


def remake_dispatching(
    base: Callable[..., Any], registered: list[tuple[type, Callable[..., Any]]]
) -> Any:
    """Make a function that goes by the type of its first argument."""
    function = functools.singledispatch(base)
    for kind, implementation in registered:
        function.register(kind, implementation)
    return function


def _reduce_cached_property(thing: Any) -> Reduced:
    return remake_cached_property, (thing.func, thing.attrname)


def remake_cached_property(function: Callable[..., Any], name: str | None) -> Any:
    """Make a property that is asked for once."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _reduce_new_type(thing: Any) -> Reduced:
    return remake_new_type, (thing.__name__, thing.__supertype__, thing.__module__)


def remake_new_type(name: str, supertype: Any, module: str) -> Any:
    """Make a type of ``typing.NewType``."""
    made = typing.NewType(name, supertype)  # type: ignore[misc] # by a name that is known only here
    made.__module__ = module
    return made


def _reduce_parameters(thing: Any) -> Reduced:
    return type(thing), (thing.__name__,)


def _reduce_alias(thing: Any) -> Reduced:
    return type(thing), (thing.__name__, thing.__value__)


def _reduce_forward(thing: ForwardRef) -> Reduced:
    # As dataclasses keep them since Python 3.14; they know the dictionary of the class.
    return ForwardRef, (thing.__forward_arg__,)


def _reduce_code(code: types.CodeType) -> Reduced:
    # As cloudpickle does it, but with the file, which a traceback is to name.
    return types.CodeType, (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_nlocals,
        code.co_stacksize,
        code.co_flags,
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_filename,
        code.co_name,
        code.co_qualname,
        code.co_firstlineno,
        code.co_linetable,
        code.co_exceptiontable,
        code.co_freevars,
        code.co_cellvars,
    )


_REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    _CACHED: _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_parameters,
    typing.TypeVarTuple: _reduce_parameters,
    types.CodeType: _reduce_code,
    ForwardRef: _reduce_forward,
}
_ALIAS = getattr(typing, "TypeAliasType", None)
if _ALIAS is not None:  # Python 3.12 and later
    _REDUCERS[_ALIAS] = _reduce_alias


def _with_text(function: types.FunctionType) -> types.FunctionType:
    """Return a function that is the same but for its annotations, which are text.

    Python 3.14 and later evaluate annotations when somebody asks, so that naming what only type
    checkers import is no error in a program. cloudpickle asks.
    """
    lib = importlib.import_module("annotationlib")  # earlier Pythons never come here
    twin = types.FunctionType(
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
