"""Where the globals of functions live that travel by value: one module for each, in every process.

::

    driver   __main__ ──── home_of ───▶ Home(id, "__main__", file)
                                          │ travels with whatever names something of it
    worker   a module of that name ◀──────┘ made on first use, and the same one ever after

Functions of the script travel by value, since a worker does not import the script. All of them,
whichever payload brings them, find their globals in the one module that stands for the script in a
worker. A worker that has the script itself, because it was forked or because multiprocessing has
imported it there, uses that.

The same holds for modules that the user has told cloudpickle to send by value, and for functions
whose globals belong to no module at all, such as those of ``exec``.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any
from uuid import uuid4

#: The script, and the script as multiprocessing calls it in a process that it has spawned.
MAIN_NAMES = ("__main__", "__mp_main__")

#: Under this name a namespace knows which one it is.
_MARK = "__amltk_namespace__"

#: What a module is made with, and nobody has to send.
INTRINSIC = frozenset(
    {"__name__", "__file__", "__package__", "__path__", "__builtins__", "__spec__", "__loader__"}
    | {"__doc__", "__cached__", "__debug__", _MARK}
)

_lock = threading.RLock()

#: The namespaces here that stand for those of drivers, by their ids, and the modules made for them.
_spaces: dict[str, dict[str, Any]] = {}
_made: dict[str, ModuleType] = {}

#: Packages whose main modules start workers, and are nobody's script.
_LAUNCHERS = frozenset({"loky", "joblib", "distributed", "dask", "multiprocessing"})


@dataclass(frozen=True, slots=True)
class Home:
    """Where globals live.

    Attributes:
        id: Stands for the namespace in all processes.
        name: The name of the module; a name that is made up where it is none.
        file: Where its source is, if it has any.
        package: What relative imports start from.
    """

    id: str
    name: str
    file: str | None
    package: str | None


def by_value(module_name: str) -> bool:
    """Tell whether things of a module travel by value, since workers do not import it."""
    if module_name in MAIN_NAMES:
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    registered = cloudpickle.list_registry_pickle_by_value() if cloudpickle is not None else ()
    return any(module_name == name or module_name.startswith(f"{name}.") for name in registered)


def may_name_script(payload: bytes) -> bool:
    """Tell whether plain pickle may have written names of things that workers do not import.

    Args:
        payload: What it wrote. A false hit costs some time, nothing else.
    """
    # What it writes for anything that is to be imported; without it, plain data travels.
    if pickle.STACK_GLOBAL not in payload:
        return False
    if b"_main__" in payload:
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


def home_of(namespace: dict[str, Any]) -> Home | None:
    """Return where these globals live, or ``None`` for those of a module that workers import.

    Args:
        namespace: The globals of a function.
    """
    name = namespace.get("__name__")
    shown = name if isinstance(name, str) else "<exec>"
    is_modules = getattr(sys.modules.get(shown), "__dict__", None) is namespace
    if is_modules and not by_value(shown):
        return None
    file, package = namespace.get("__file__"), namespace.get("__package__")
    return Home(
        _identify(namespace),
        shown,
        file if isinstance(file, str) else None,
        package if isinstance(package, str) else None,
    )


def _identify(namespace: dict[str, Any]) -> str:
    """Return what stands for a namespace, in it itself, so that forked processes know it too."""
    mark = namespace.get(_MARK)
    # A copy of a namespace has its mark as well, and is another namespace.
    if type(mark) is tuple and mark[1] == id(namespace):
        return str(mark[0])
    with _lock:
        return _set_mark(namespace, uuid4().hex)


def _set_mark(namespace: dict[str, Any], name: str) -> str:
    namespace[_MARK] = (name, id(namespace))
    return name


def _is_marked(module: object, name: str) -> bool:
    namespace = getattr(module, "__dict__", None)
    if not isinstance(namespace, dict):
        return False
    return bool(namespace.get(_MARK) == (name, id(namespace)))


def globals_at(home: Home) -> dict[str, Any]:
    """Return the globals of functions that live there, in this process; made on first use."""
    found = _spaces.get(home.id)
    if found is None:
        with _lock:
            found = _spaces.get(home.id) or _own(home) or _spawned(home) or _make(home)
            _spaces[home.id] = found
    return found


def namespaces_called(name: str) -> list[dict[str, Any]]:
    """Return the namespaces here that have a name and may hold what came from a driver."""
    found = [space for space in list(_spaces.values()) if space.get("__name__") == name]
    module = sys.modules.get(name)
    space = getattr(module, "__dict__", None)
    if isinstance(space, dict) and by_value(name) and not any(space is one for one in found):
        found.insert(0, space)
    return found


def find(namespace: dict[str, Any], dotted: str) -> Any:
    """Return what a dotted name stands for, in a class if it has dots, or ``None``."""
    first, *rest = dotted.split(".")
    found = namespace.get(first)
    for name in rest:
        if not isinstance(found, type):  # what a function has need not be there elsewhere
            return None
        found = getattr(found, name, None)
    return found


class _Sent(threading.local):
    """What has come with the payload that is being read, by namespace and name."""

    things: Mapping[tuple[str, str], Any] = MappingProxyType({})
    n_readers = 0


_sent = _Sent()


class reading_with:  # noqa: N801 - used as a function; `contextmanager` cannot pass on all that is raised
    """Have names found among these things first, in this thread, while the context lasts.

    Args:
        things: By the id of a namespace and a name in it.
    """

    def __init__(self, things: Mapping[tuple[str, str], Any]) -> None:
        self._things = things

    def __enter__(self) -> None:
        self._before, _sent.things = _sent.things, self._things
        _sent.n_readers += 1

    def __exit__(self, *_error: object) -> None:
        _sent.things = self._before
        _sent.n_readers -= 1


def is_reading() -> bool:
    """Tell whether this thread is unpickling what a driver has sent, and importing what that needs."""
    return _sent.n_readers > 0


def thing_named(home: Home, dotted: str) -> Any:
    """Return what a name stands for in this process; what is pickled by name comes back by this.

    Args:
        home: The namespace.
        dotted: The name in it.

    Raises:
        AttributeError: When there is no such thing.
    """
    first, _, rest = dotted.partition(".")
    found = _sent.things.get((home.id, first))
    if found is None:
        found = find(globals_at(home), dotted)
    elif rest:
        found = find({first: found}, dotted)
    if found is None:
        message = f'there is no "{dotted}" in the script {home.file or home.name} here'
        raise AttributeError(message)
    return found


def has_script(home: Home) -> bool:
    """Tell whether this process has the script itself, and not what was sent of it."""
    return _own(home) is not None and home.id not in _made


def _own(home: Home) -> dict[str, Any] | None:
    """Return the very namespace, in its own process and in those that were forked from it."""
    for name in dict.fromkeys((home.name, *MAIN_NAMES)):
        space = getattr(sys.modules.get(name), "__dict__", None)
        if isinstance(space, dict) and space.get(_MARK) == (home.id, id(space)):
            return space
    return None


def _spawned(home: Home) -> dict[str, Any] | None:
    """Return the script's as multiprocessing has imported it in a process that it has spawned."""
    module = sys.modules.get("__mp_main__")
    if module is None or home.name not in MAIN_NAMES or not _is_same_file(module, home.file):
        return None
    space = module.__dict__
    for thing in list(space.values()):
        # The module has a copy of what the script has made; its functions go by the original.
        if isinstance(thing, FunctionType) and thing.__globals__.get("__name__") == "__mp_main__":
            space = thing.__globals__
            break
    _set_mark(space, home.id)
    return space


def _is_same_file(module: ModuleType, file: str | None) -> bool:
    own = getattr(module, "__file__", None)
    if not isinstance(own, str) or file is None:
        return False
    return os.path.realpath(own) == os.path.realpath(file)


def _make(home: Home) -> dict[str, Any]:
    module = ModuleType(home.name)
    module.__package__ = home.package
    if home.file is not None:
        module.__file__ = home.file
    _made[home.id] = module
    _set_mark(module.__dict__, home.id)
    if home.name in MAIN_NAMES and _is_nobodys(sys.modules["__main__"]):
        # What a call pickles by itself, to a file say, is then found by its name as in the script.
        for name in MAIN_NAMES:
            sys.modules[name] = module
    return module.__dict__


def _is_nobodys(main: ModuleType) -> bool:
    """Tell whether a main module is but what starts a worker."""
    if main in _made.values():
        return False
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name).partition(".")[0] in _LAUNCHERS
    if isinstance(file, str):
        return Path(file).name == "default_worker.py"  # Ray's
    things = [thing for thing in main.__dict__.values() if isinstance(thing, type | FunctionType)]
    is_used = any(thing.__module__ in MAIN_NAMES for thing in things)
    return not is_used and not hasattr(sys, "ps1")


# Now, so that processes that are forked from this one know whose script they have.
home_of(sys.modules["__main__"].__dict__)
