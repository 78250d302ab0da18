"""Exceptions as what JSON can hold.

Those of ``builtins`` and of amltk are made again of their parts. Any other one is pickled, and
comes back as a ``RemoteError`` that has its name, its text and the pickled data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from amltk._errors import add_note, notes_of, set_cause
from amltk.exceptions import AmltkError, HistoryError, RemoteError
from amltk.optimization.records.pickled import Pickled, type_name_of

#: Where those are that are made again of their parts.
_ROOMS = {room: vars(sys.modules[room]) for room in ("builtins", AmltkError.__module__)}


class Walks(Protocol):
    """What writes the values in an exception: whoever came upon the exception among others."""

    def walk(self, value: Any, /, *, plain: bool = False) -> Any:
        """Return a value as what JSON can hold.

        Args:
            value: The value.
            plain: Whether to return ``None`` if something in it has to be pickled.
        """


def encode_exception(error: BaseException, encoder: Walks) -> dict[str, Any]:
    """Return an exception as what JSON can hold."""
    record = _plain(error, encoder) or _stand_in(error, encoder)
    if error.__cause__ is not None:
        with suppress(RecursionError):  # a ring of causes; the traceback's text has it
            record["cause"] = encoder.walk(error.__cause__)
    return record


def _plain(error: BaseException, encoder: Walks) -> dict[str, Any] | None:
    """Take an exception apart, if it can be made again of plain values."""
    kind = type(error)
    if _class_of(type_name_of(error)) is not kind or _pickled_in(error) is not None:
        return None
    args: tuple[Any, ...] = error.args
    state: Any = vars(error)
    try:
        if not isinstance(error, AmltkError):
            # Some have more than `args`, such as an OSError the name of its file.
            reduced: Any = error.__reduce__()
            args, state = reduced[1], reduced[2] if len(reduced) > 2 else {}  # noqa: PLR2004
        kind(*args)
        parts = {"args": encoder.walk(list(args), plain=True)}
        parts["state"] = encoder.walk(dict(state), plain=True)
    except Exception:  # it is pickled instead
        return None
    if None in parts.values():
        return None
    return {"$": "exception", "type": type_name_of(error), **parts}


def _stand_in(error: BaseException, encoder: Walks) -> dict[str, Any]:
    pickled = _pickled_in(error)
    if pickled is None:
        pickled = Pickled.of(error)
        message = f"{pickled.type_name}: {_text(error)}"
    else:
        message = str(error)
    notes = list(notes_of(error))
    return {
        "$": "exception",
        "type": pickled.type_name,
        "message": encoder.walk(message),
        "notes": encoder.walk(notes),
        "pickle": pickled.to_json(),
    }


def decode_exception(
    record: dict[str, Any], decode: Callable[[Any], Any], *, unpickle: bool
) -> BaseException:
    """Make an exception of what ``encode_exception`` returned."""
    error = (
        _opened(record, decode, unpickle=unpickle)
        if "pickle" in record
        else _made(record["type"], decode(record["args"]), decode(record["state"]))
    )
    if "cause" in record:
        set_cause(error, decode_exception(record["cause"], decode, unpickle=unpickle))
    return error


def _opened(
    record: dict[str, Any], decode: Callable[[Any], Any], *, unpickle: bool
) -> BaseException:
    pickled = Pickled.from_json(record["pickle"])
    error: BaseException
    if unpickle and pickled.data is not None:
        loaded = pickled.load()
        if not isinstance(loaded, BaseException):
            message = f"{record['type']} is no exception when it is unpickled, but {loaded!r:.200}"
            raise HistoryError(message, type_name=pickled.type_name)
        error = loaded
    else:
        facts: dict[str, Any] = {"type_name": pickled.type_name, "traceback_text": ""}
        error = RemoteError(decode(record["message"]), **facts, pickled=pickled)
    if not notes_of(error):
        for note in decode(record["notes"]):
            add_note(error, note)
    return error


def _made(type_name: str, args: list[Any], state: dict[str, Any]) -> BaseException:
    kind = _class_of(type_name)
    if kind is None:  # of a newer Python or amltk
        message = f"{type_name}: {', '.join(map(str, args))}"
        return RemoteError(message, type_name=type_name, traceback_text="")
    error = kind(*args)
    if isinstance(error, AmltkError):
        vars(error).update(state)
    elif state:
        error.__setstate__(state)
    return error


def _class_of(type_name: str) -> type[BaseException] | None:
    """Find an exception that is made again of its parts; nothing else, so that no code is run."""
    room, _, name = type_name.rpartition(".")
    kind = _ROOMS.get(room, {}).get(name)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def _pickled_in(error: BaseException) -> Pickled | None:
    """Return what an exception that was read stands for."""
    pickled = vars(error).get("pickled") if type(error) is RemoteError else None
    return pickled if isinstance(pickled, Pickled) else None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be shown)"
