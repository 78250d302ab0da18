"""Bytes in, bytes out: how calls travel, whatever the engine.

::

    driver                                   worker
    pack_call(fn, args, kwargs) ── bytes ──▶ run_packed(bytes)
                                               unpickle, call, pickle the outcome,
                                               each step guarded
    unpack_outcome(bytes)       ◀── bytes ──   never raises

An engine only ever sees bytes, so that nothing that cannot be pickled or unpickled is more than
a failure of that one call. Pickle does the work where it can; for what it cannot do (lambdas,
closures), and for things of a script, which a worker does not import, see `parts`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from amltk._errors import set_cause
from amltk._words import short_error, short_repr, traceback_text
from amltk.exceptions import (
    CallError,
    CallExitError,
    CallPicklingError,
    CallUnpicklingError,
    RemoteError,
    RemoteTraceback,
    ResultPicklingError,
    ResultUnpicklingError,
)
from amltk.executors.travel.carried import Carried, can_be_carried
from amltk.executors.travel.children import end_child
from amltk.executors.travel.loading import NOTHING, Bundle
from amltk.executors.travel.packing import dumps, dumps_returning, pack
from amltk.executors.travel.parts import require_sendable
from amltk.executors.travel.portable import Kept, PortableFunction, Received, Wire

__all__ = [
    "PortableFunction",
    "call",
    "dumps",
    "name_of",
    "pack_call",
    "pack_exception",
    "pack_unreadable",
    "pickling_failure",
    "run_packed",
    "run_to_bytes",
    "traceback_text",
    "unpack_call",
    "unpack_outcome",
]

P = ParamSpec("P")
R = TypeVar("R")

#: What may be raised by strangers' methods when something is pickled, and is the call's failure.
#: `KeyboardInterrupt` is not: it comes from the user.
CANNOT_PICKLE = (Exception, SystemExit, GeneratorExit)


def pack_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bytes:
    """Turn a call into bytes for ``run_packed``.

    Args:
        function: What to call; give a ``PortableFunction`` to have it packed only once.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The bytes of the call.

    Raises:
        CallPicklingError: When function or arguments cannot be pickled; the cause says why.
    """
    try:
        wire = portable(function).wire()
        arguments, parts = pack_arguments(args, kwargs)
        return pickle.dumps((wire, arguments, parts), protocol=pickle.HIGHEST_PROTOCOL)
    except CANNOT_PICKLE as error:
        raise pickling_failure(function, args, kwargs) from error


def pack_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], *, has_script: bool = False
) -> tuple[bytes, Wire | None]:
    """Pack the arguments of a call.

    Args:
        args: The positional ones.
        kwargs: The keyword ones.
        has_script: Whether workers may have the script itself, and so what cannot be sent of it.

    Returns:
        Their bytes, and what they need of scripts, if anything.

    Raises:
        Exception: Whatever pickling them raises.
    """
    packed = pack((args, dict(kwargs)), has_script=has_script)
    if not packed.parts:
        return packed.payload, None
    if not has_script:
        require_sendable(packed.parts)
    return packed.payload, Wire.of(packed.parts)


def portable(function: Callable[P, R]) -> PortableFunction[P, R]:
    """Wrap a function for its way to workers, if it is not wrapped yet."""
    return function if isinstance(function, PortableFunction) else PortableFunction(function)


def pickling_failure(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> CallPicklingError:
    """Make the error that names which part of a call cannot be pickled, and why."""
    if isinstance(function, PortableFunction):
        function = function.function
    reasons = {f"the function ({name_of(function)})": _why_not(function)}
    for place, value in [*enumerate(args, 1), *((f'"{name}"', v) for name, v in kwargs.items())]:
        reasons[f"argument {place} ({short_repr(value)})"] = _why_not(value)
    culprits = {label: why for label, why in reasons.items() if why is not None}
    why = next(iter(culprits.values()), "")
    message = (
        f"the call of {name_of(function)} could not be sent to a worker: "
        f"{' and '.join(culprits) or 'the call'} cannot be pickled{why}; make such things inside the "
        f"function, or run it on threads"
    )
    return CallPicklingError(message)


def _why_not(value: object) -> str | None:
    """Return why something cannot be pickled, as far as that can be said; ``None`` if it can."""
    try:
        packed = pack(value)
    except CANNOT_PICKLE as error:
        return f" ({short_error(error)})"
    failed = [part.failure for part in packed.parts if part.failure]
    return f" ({failed[0]})" if failed else None


def run_packed(payload: bytes) -> bytes:
    """Run a packed call in the worker.

    Args:
        payload: What ``pack_call`` made.

    Returns:
        The packed outcome, for ``unpack_outcome``. Nothing is raised, not even ``SystemExit``.
    """
    try:
        function, args, kwargs = unpack_call(payload)
    except BaseException as error:
        return pack_unreadable(error)
    return run_to_bytes(function, args, kwargs)


def unpack_call(payload: bytes) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Read a packed call in the worker.

    Args:
        payload: What ``pack_call`` made.

    Returns:
        The function, its positional arguments, and its keyword arguments.

    Raises:
        BaseException: Whatever unpickling raises.
    """
    wire, arguments, parts = pickle.loads(payload)
    function = received_from(wire.digest, lambda: wire.data).function()
    bundle = NOTHING if parts is None else bundle_from(parts.digest, lambda: parts.data)
    args, kwargs = bundle.read(arguments)
    return function, args, kwargs


def received_from(digest: bytes, data: Callable[[], bytes]) -> Received:
    """Return the function of a wire; the same one for the same wire.

    Args:
        digest: Of the wire.
        data: Its bytes, asked for if they are not here.
    """
    received = _functions.get(digest)
    if received is None:
        read = data()
        received = Received(read)
        _functions.put(digest, received, len(read))
    return received


def bundle_from(digest: bytes, data: Callable[[], bytes]) -> Bundle:
    """Return what arguments need of scripts; the same for the same wire."""
    bundle = _bundles.get(digest)
    if bundle is None:
        read = data()
        bundle = Bundle(pickle.loads(read))
        _bundles.put(digest, bundle, len(read))
    return bundle


_functions: Kept[Received] = Kept()
_bundles: Kept[Bundle] = Kept()


def run_received(
    received: Received, arguments: bytes | memoryview, bundle: Bundle | None = None
) -> bytes:
    """Unpickle function and arguments, call, and pack what becomes of it; nothing is raised.

    Args:
        received: The function.
        arguments: Its arguments, packed.
        bundle: What these need of scripts.
    """
    try:
        function = received.function()
        args, kwargs = (bundle or NOTHING).read(arguments)
    except BaseException as error:
        return pack_unreadable(error)
    return run_to_bytes(function, args, kwargs)


def run_to_bytes(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    on_end: Callable[[BaseException | None], object] | None = None,
) -> bytes:
    """Call a function and pack what becomes of it; nothing is raised.

    Args:
        function: What to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        on_end: Called once it has ended, before the outcome is packed, with what it has raised.
    """
    try:
        result = call(function, args, kwargs, name_of(function))
    except BaseException as error:
        if on_end is not None:
            on_end(error)
        return pack_exception(error)
    if on_end is not None:
        on_end(None)
    try:
        return dumps_returning((True, result))
    except BaseException as error:
        message = (
            f"the result of {name_of(function)} ({short_repr(result)}) could not be pickled, so "
            f"it could not be sent back; return plain data instead"
        )
        return _pack_failure(ResultPicklingError(message), error)


def call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str
) -> Any:
    """Call a function; forked children of it do not come back from it.

    Args:
        function: What to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        name: What the call is called.

    Raises:
        CallExitError: When it wants to end its program.
        BaseException: What else it raises.
    """
    pid = os.getpid()
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        if os.getpid() != pid:
            end_child(error)
        if isinstance(error, SystemExit):
            raise exit_error(error, name) from error
        raise
    if os.getpid() != pid:
        end_child(None)
    return result


def exit_error(error: SystemExit, name: str) -> CallExitError:
    """Make the error of a call that wants to end its program.

    Args:
        error: What it raised.
        name: What the call is called.
    """
    code = error.code if isinstance(error.code, int | str | None) else short_repr(error.code)
    message = (
        f"{name} called sys.exit({'' if code is None else repr(code)}); a call is no program that "
        f"could be ended so: let it return, or raise another exception"
    )
    return CallExitError(message, code=code)


def pack_unreadable(error: BaseException) -> bytes:
    """Pack the failure of a call whose function or arguments could not be unpickled."""
    hint = "is everything that they need importable in the worker?"
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        hint = (
            f"let the worker find {error.name}: install it there or name its folder in PYTHONPATH; or "
            f"have it sent: cloudpickle.register_pickle_by_value({error.name})"
        )
    message = (
        f"the worker could not unpickle the function or its arguments: {short_error(error)}; {hint}"
    )
    return _pack_failure(CallUnpicklingError(message), error)


def _pack_failure(failure: CallError, cause: BaseException) -> bytes:
    return dumps((False, failure, traceback_text(cause)))


def pack_exception(error: BaseException) -> bytes:
    """Pack an exception, or its text where it does not survive pickling."""
    text = traceback_text(error)
    try:
        return _read_once(dumps_returning((False, error, text)))
    except BaseException as reason:
        why = short_error(reason)
    with suppress(BaseException):
        if can_be_carried(error):
            return _read_once(dumps_returning((False, Carried(error), text)))
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    message = (
        f"the call raised {kind}: {short_error(error)} (the exception could not be pickled: {why})"
    )
    remote = RemoteError(message, type_name=kind, traceback_text=text)
    return dumps((False, remote, text))


def _read_once(payload: bytes) -> bytes:
    # What fails to load would otherwise be found out by the driver.
    pickle.loads(payload)
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
        message = f"the call's result could not be unpickled: {short_error(error)}"
        failure = ResultUnpicklingError(message)
        failure.__cause__ = error
        return False, failure
    if outcome[0]:
        return True, outcome[1]
    exception: BaseException = outcome[1]
    if isinstance(exception, SystemExit):  # of a worker that does not make one of it by itself
        exception = exit_error(exception, "a call")
    set_cause(exception, RemoteTraceback(outcome[2]))
    return False, exception


def name_of(function: object) -> str:
    """Name a function as a person would."""
    if isinstance(function, PortableFunction):
        return name_of(function.function)
    try:
        name: object = function.__qualname__  # type: ignore[attr-defined] # or it has none
    except BaseException:
        name = None
    return name if isinstance(name, str) and name else short_repr(function)
