"""What no plain form is known for: kept as pickle, and not unpickled unless somebody asks."""

from __future__ import annotations

import base64
import enum
import pickle
import sys
from dataclasses import dataclass
from typing import Any

from amltk.exceptions import HistoryError

#: How much of a value's ``repr`` is kept.
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Pickled:
    """Stands for a value that was saved as pickle and has not been unpickled.

    It is saved again without loss. ``load`` makes the value of it.
    """

    #: The qualified name of the value's type.
    type_name: str
    #: The value's ``repr``, if that is long its beginning.
    text: str
    #: The pickled value; ``None`` if it could not be pickled, so that only its text is left.
    data: bytes | None
    #: Its name, where it is a member of an enum.
    member: str | None = None

    def __repr__(self) -> str:
        """Show what it stands for."""
        return f"<Pickled {self.type_name}: {self.text}>"

    def load(self) -> Any:
        """Unpickle the value, which runs whatever code the data name: only for what you trust.

        Raises:
            HistoryError: When it cannot be unpickled here, or could not be pickled.
        """
        if self.data is None:
            message = (
                f"a {self.type_name} cannot be unpickled, since it could not be pickled when it "
                f"was saved; this is left of it: {self.text}"
            )
            raise HistoryError(message, type_name=self.type_name)
        try:
            return pickle.loads(self.data)
        except Exception as error:
            message = (
                f"a {self.type_name} cannot be unpickled: {type(error).__name__}: {error}; make "
                f"what it needs importable, or read it with unpickle=False"
            )
            raise HistoryError(message, type_name=self.type_name) from error

    @classmethod
    def of(cls, value: object) -> Pickled:
        """Pickle a value, or keep its text where that is impossible."""
        from amltk.executors.travel.envelope import dumps

        try:
            data = dumps(value)
        except Exception:  # a lock, a connection: its text comes back and says so
            data = None
        member = value.name if isinstance(value, enum.Enum) else None
        return cls(type_name_of(value), text_of_value(value), data, member)

    def known_member(self) -> enum.Enum | None:
        """Return the member of an enum that it stands for, if the enum is loaded already.

        Nothing is imported, since that would run code that the file names.
        """
        kind = _loaded(self.type_name) if self.member is not None else None
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return kind.__members__.get(self.member or "")
        return None

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        found: dict[str, Any] = {
            "type": self.type_name,
            "text": self.text.encode(errors="backslashreplace").decode(),
            "data": None if self.data is None else base64.b64encode(self.data).decode(),
        }
        return found if self.member is None else {**found, "member": self.member}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Pickled:
        """Make one of what ``to_json`` returned."""
        data = record["data"]
        kept = None if data is None else base64.b64decode(data, validate=True)
        return cls(record["type"], record["text"], kept, record.get("member"))


def type_name_of(value: object) -> str:
    """Return the qualified name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def text_of_value(value: object) -> str:
    """Return a value's ``repr``, or what can be said where that raises."""
    try:
        text = repr(value)
    except Exception:
        text = f"an object of {type(value).__qualname__}"
    shortened = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return shortened.encode(errors="backslashreplace").decode()


def _loaded(name: str) -> object:
    """Find a class by its qualified name in the modules that are loaded, running nothing."""
    parts = name.split(".")
    for n_module in range(len(parts) - 1, 0, -1):
        found: object = sys.modules.get(".".join(parts[:n_module]))
        if found is not None:
            for part in parts[n_module:]:
                # Not getattr: a module may load others when it is asked for a name.
                found = getattr(found, "__dict__", {}).get(part)
            return found
    return None
