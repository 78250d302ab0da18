"""Pickling a value that needs things of scripts: told by their names, with a list of what they are."""

from __future__ import annotations

import dis
import inspect
import io
import linecache
import pickle
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cloudpickle import cloudpickle as library

from amltk.executors.travel.namespaces import INTRINSIC, Home, globals_at, home_of, thing_named
from amltk.executors.travel.parts import Need
from amltk.executors.travel.pickler import Pickler, Reduced, place_of

#: How the body of a class looks up what may be global.
_LOOKS_UP = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})


class _Globals:
    """Travels in the place of the globals of a function."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __reduce__(self) -> Reduced:
        return globals_at, (self._home,)


class Outbound(Pickler):
    """Tells things of scripts by their names, and keeps a list of what is needed of them.

    Args:
        file: Where to write.
        group: What is to be written by value.
        bound: What is told by the name that it is bound to, by its id.
    """

    def __init__(
        self,
        file: io.BytesIO,
        group: frozenset[Need] = frozenset(),
        bound: Mapping[int, Need] = MappingProxyType({}),
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._group = group
        self._bound = bound
        #: What is told by its name here, and so has to be read before.
        self.references: dict[Need, None] = {}
        #: What functions look up when they run.
        self.uses: dict[Need, None] = {}
        #: What may be looked up when a class is made in a function, or be a name of its own there.
        self.maybes: dict[Need, None] = {}
        #: The namespaces of all of these, by the ids of their homes.
        self.spaces: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, str] = {}

    def persistent_id(self, obj: object) -> Need | None:
        """Return what something is bound to, if that is how it is told; called for everything."""
        need = self._bound.get(id(obj))
        if need is None or need in self._group:
            return None
        self.references[need] = None
        return need

    def reducer_override(self, obj: Any) -> Any:
        """Return how something is to be pickled; called for all but plain data."""
        if type(obj) is types.CodeType:
            source = self._source_of(obj.co_filename)
            if source:
                make, args = super().reducer_override(obj)
                return code_with_source, (make, args, obj.co_filename, source)
        return super().reducer_override(obj)

    def by_name(self, thing: object, name: str | None) -> Reduced | None:
        """Return how a thing of a script is told by its name, if it is found by that."""
        place = place_of(thing, name)
        home = None if place is None else home_of(place[0])
        if place is None or home is None:
            return None
        namespace, dotted = place
        need = Need(home, dotted.partition(".")[0])
        if need in self._group:
            return None
        self.references[need] = None
        self.spaces[home.id] = namespace
        return thing_named, (home, dotted)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Reduced:
        reduced: Reduced = super()._dynamic_function_reduce(func)
        namespace = func.__globals__
        home = home_of(namespace)
        if home is None:
            return reduced
        self.spaces[home.id] = namespace
        code = func.__code__
        looked_up = library._extract_code_globals(code)
        for book, names in ((self.uses, looked_up), (self.maybes, _names_in_classes(code))):
            for name in names:
                if name in namespace and name not in INTRINSIC:
                    book[Need(home, name)] = None
        make, (_code, _globals, *rest), (attributes, slots), *more = reduced
        slots = {**slots, "__globals__": {}}
        return (make, (code, _Globals(home), *rest), (attributes, slots), *more)

    def _source_of(self, filename: str) -> str:
        """Return the source of code that is in no file, such as that of a notebook's cell."""
        if filename not in self._sources:
            is_file = Path(filename).is_file()
            self._sources[filename] = "" if is_file else "".join(linecache.getlines(filename))
        return self._sources[filename]


def code_with_source(make: Any, args: tuple[Any, ...], filename: str, source: str) -> Any:
    """Make code whose source is in no file, and let tracebacks show it."""
    if filename not in linecache.cache:
        linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
    return make(*args)


def _names_in_classes(code: types.CodeType) -> Iterator[str]:
    """Tell what the bodies of classes look up that are made in a function."""
    for const in code.co_consts:
        if not isinstance(const, types.CodeType):
            continue
        if not const.co_flags & inspect.CO_OPTIMIZED:
            for step in dis.get_instructions(const):
                if step.opname in _LOOKS_UP:
                    yield step.argval
        yield from _names_in_classes(const)
