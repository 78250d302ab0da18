"""Bytes in, bytes out: how calls travel, whatever the engine.

::

    driver                                   worker
    pack_call(fn, args, kwargs) ── bytes ──▶ run_packed(bytes)
                                               unpickle, call, pickle the outcome,
                                               each step guarded
    unpack_outcome(bytes)       ◀── bytes ──   never raises

An engine only ever sees bytes, so that nothing that cannot be pickled or unpickled is more than
a failure of that one call. Pickle does the work where it can; cloudpickle takes over for what
pickle cannot do (lambdas, closures) and for what it would do wrongly: things of ``__main__``,
which a worker would look for in a main module of its own.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from amltk.exceptions import (
    CallError,
    CallPicklingError,
    CallUnpicklingError,
    RemoteError,
    RemoteTraceback,
    ResultPicklingError,
    ResultUnpicklingError,
)

P = ParamSpec("P")
R = TypeVar("R")

#: How many functions a worker keeps unpickled.
FUNCTIONS_KEPT = 128

#: What pickle writes for anything that is to be imported; without it, plain data travels.
_NAMES_A_MODULE = pickle.STACK_GLOBAL


def dumps(value: object) -> bytes:
    """Pickle a value, by cloudpickle where pickle cannot do it or would do it wrongly.

    Args:
        value: What is to travel.

    Returns:
        Bytes that plain ``pickle.loads`` reads, where cloudpickle is installed.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value either.
    """
    try:
        payload = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: S110 - cloudpickle is asked next, and its error is raised
        pass
    else:
        # A worker's main module is another one. A false hit costs some time, nothing else.
        if _NAMES_A_MODULE not in payload or not (b"__main__" in payload or _registered_by_value()):
            return payload
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    except NameError:
        from amltk.executors.travel import unevaluated

        return unevaluated.dumps(value)


def _registered_by_value() -> bool:
    """Tell whether the user asked cloudpickle to send some modules by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


class PortableFunction(Generic[P, R]):
    """A function that is pickled once and that a worker unpickles once.

    Copies of it that reach the same worker share one unpickled function, found by the digest
    of its bytes.

    Args:
        function: The function to carry.
    """

    __slots__ = ("__weakref__", "_digest", "_payload", "function")

    def __init__(self, function: Callable[P, R]) -> None:
        self.function: Callable[P, R] = function
        self._payload: bytes | None = None
        self._digest: bytes = b""

    @property
    def payload(self) -> bytes:
        """The pickled function.

        Raises:
            Exception: Whatever pickling it raises.
        """
        if self._payload is None:
            payload = dumps(self.function)
            self._digest = hashlib.blake2b(payload, digest_size=16).digest()
            self._payload = payload
        return self._payload

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that stand for the pickled function."""
        return self._digest if self._payload is not None else self._digest_of_new_payload()

    def _digest_of_new_payload(self) -> bytes:
        self.payload  # noqa: B018 - makes both
        return self._digest

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as digest and bytes."""
        return _function_of, (self.digest, self.payload)


class FunctionCache:
    """The functions that a worker has unpickled, the ones used last kept longest.

    Args:
        capacity: How many are kept.
    """

    def __init__(self, capacity: int = FUNCTIONS_KEPT) -> None:
        self._capacity = capacity
        self._functions: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()
        # Engines with several threads in one worker (Dask) come here at once.
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> Callable[..., Any] | None:
        """Look a function up by its digest."""
        with self._lock:
            function = self._functions.get(digest)
            if function is not None:
                self._functions.move_to_end(digest)
            return function

    def put(self, digest: bytes, function: Callable[..., Any]) -> None:
        """Keep a function, and let go of the one that was not used for longest."""
        with self._lock:
            self._functions[digest] = function
            self._functions.move_to_end(digest)
            if len(self._functions) > self._capacity:
                self._functions.popitem(last=False)


_cache = FunctionCache()


def _function_of(digest: bytes, payload: bytes) -> Callable[..., Any]:
    function = _cache.get(digest)
    if function is None:
        function = pickle.loads(payload)
        _cache.put(digest, function)
    return function


def pack_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bytes:
    """Turn a call into bytes for ``run_packed``.

    Args:
        function: What to call; give a ``PortableFunction`` to have it pickled only once.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The bytes of the call.

    Raises:
        CallPicklingError: When function or arguments cannot be pickled; the cause says why.
    """
    try:
        return dumps((function, args, kwargs))
    except Exception as error:
        raise pickling_failure(function, args, kwargs) from error


def pickling_failure(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> CallPicklingError:
    """Make the error that names which part of a call cannot be pickled."""
    parts: list[tuple[str, object]] = [("the function", function)]
    parts += [(f"argument {place}", value) for place, value in enumerate(args, 1)]
    parts += [(f'argument "{name}"', value) for name, value in kwargs.items()]
    culprits = [f"{label} ({_short_repr(part)})" for label, part in parts if not _pickles(part)]
    message = (
        f"the call of {name_of(function)} could not be sent to a worker: "
        f"{' and '.join(culprits) or 'the call'} cannot be pickled; make such things inside the "
        f"function, or run it on threads"
    )
    return CallPicklingError(message)


def _pickles(value: object) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


def run_packed(payload: bytes) -> bytes:
    """Run a packed call in the worker.

    Args:
        payload: What ``pack_call`` made.

    Returns:
        The packed outcome, for ``unpack_outcome``. Nothing is raised, not even ``SystemExit``.
    """
    try:
        function, args, kwargs = pickle.loads(payload)
    except BaseException as error:
        return pack_unreadable(error)
    return run_to_bytes(function, args, kwargs)


def run_to_bytes(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bytes:
    """Call a function and pack what becomes of it; nothing is raised."""
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        return pack_exception(error)
    try:
        return dumps((True, result))
    except BaseException as error:
        message = (
            f"the result of {name_of(function)} ({_short_repr(result)}) could not be pickled, so "
            f"it could not be sent back; return plain data instead"
        )
        return _pack_failure(ResultPicklingError(message), error)


def pack_unreadable(error: BaseException) -> bytes:
    """Pack the failure of a call whose function or arguments could not be unpickled."""
    message = (
        f"the worker could not unpickle the function or its arguments: {_short(error)}; is "
        f"everything that they need importable in the worker?"
    )
    return _pack_failure(CallUnpicklingError(message), error)


def _pack_failure(failure: CallError, cause: BaseException) -> bytes:
    return dumps((False, failure, traceback_text(cause)))


def pack_exception(error: BaseException) -> bytes:
    """Pack an exception, or its text where it does not survive pickling."""
    text = traceback_text(error)
    try:
        # Loaded once here: what fails to load would otherwise be found out by the driver.
        payload = dumps((False, error, text))
        pickle.loads(payload)
    except BaseException as reason:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        message = f"the call raised {kind}: {_short(error)} (the exception could not be pickled: {_short(reason)})"
        remote = RemoteError(message, type_name=kind, traceback_text=text)
        return dumps((False, remote, text))
    return payload


def unpack_outcome(payload: bytes | bytearray) -> tuple[bool, Any]:
    """Read a packed outcome in the driver.

    Args:
        payload: What ``run_packed`` returned.

    Returns:
        ``(True, result)`` or ``(False, exception)``; the exception has the worker's traceback
        as its cause. An outcome that cannot be read is a ``ResultUnpicklingError``.
    """
    try:
        outcome = pickle.loads(payload)
    except BaseException as error:
        message = f"the call's result could not be unpickled: {_short(error)}"
        failure = ResultUnpicklingError(message)
        failure.__cause__ = error
        return False, failure
    if outcome[0]:
        return True, outcome[1]
    exception: BaseException = outcome[1]
    exception.__cause__ = RemoteTraceback(outcome[2])
    return False, exception


def name_of(function: object) -> str:
    """Name a function as a person would."""
    if isinstance(function, PortableFunction):
        return name_of(function.function)
    return getattr(function, "__qualname__", None) or _short_repr(function)


def traceback_text(error: BaseException) -> str:
    """Return an exception with its traceback, as text; never raises."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{type(error).__qualname__} (its traceback could not be formatted)\n"


def _short(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"[:500]
    except Exception:
        return type(error).__qualname__


def _short_repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"an object of {type(value).__qualname__}"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004
