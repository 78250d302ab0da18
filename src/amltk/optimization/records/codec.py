"""Values as what JSON can hold, and back without loss.

What JSON has is left as it is. Anything else is an object with the key ``"$"``, which tells what
it is: ``{"$": "tuple", "items": [1, 2]}``. So is a mapping that has that key itself, or keys that
are no text. Types are matched exactly, since a subclass is another thing: ``numpy.float64`` is one
of ``float``. What no plain form is known for is pickled.
"""

from __future__ import annotations

import base64
import enum
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any

from amltk._contexts import context
from amltk._optional import require
from amltk.exceptions import HistoryError
from amltk.optimization.records.errors import decode_exception, encode_exception
from amltk.optimization.records.pickled import Pickled

TAG = "$"
#: Deeper than this, and in rings, values are pickled.
_DEEPEST = 100
#: Above this, digits take long, and Python may refuse to read so many.
_MOST_BITS = 2000
#: What numpy's numbers and texts are called that are kept as Python's.
NUMPY_SCALARS = frozenset(
    ["bool", "bool_", "str_", "bytes_", "complex64", "complex128", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)


def dump_json(value: Any) -> str:
    """Return what ``encode`` made as one line of ASCII."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def encode(value: object) -> Any:
    """Return a value as what JSON can hold."""
    return Encoder().encode(value)


def encode_mapping(values: Mapping[Any, Any]) -> Any:
    """Return a mapping as what JSON can hold; what cannot be plain in it is pickled by itself."""
    encoder = Encoder()
    return _pairs([(encoder.encode(key), encoder.encode(value)) for key, value in values.items()])


def is_utf8(text: str) -> bool:
    """Tell whether a text has no halves of characters (surrogates), which files cannot hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Encoder:
    """Turns one value into what JSON can hold."""

    def __init__(self) -> None:
        #: How many values had to be pickled.
        self.n_pickled: int = 0
        self._above: list[int] = []

    def encode(self, value: object) -> Any:
        """Return a value as what JSON can hold."""
        try:
            return self._walk(value)
        except RecursionError:  # a ring, or too deep: pickle knows how
            return self._pickled(value)

    @context
    def _inside(self, value: object) -> Iterator[None]:
        """Enter a value that has others in it.

        Raises:
            RecursionError: When it is inside of itself, or too deep.
        """
        if id(value) in self._above or len(self._above) >= _DEEPEST:
            raise RecursionError
        self._above.append(id(value))
        try:
            yield
        finally:
            self._above.pop()

    def walk(self, value: Any, /, *, plain: bool = False) -> Any:
        """Return a part of a value as what JSON can hold.

        Args:
            value: The part.
            plain: Whether to return ``None`` if something in it has to be pickled.
        """
        if not plain:
            return self._walk(value)
        n_pickled = self.n_pickled
        try:
            found = self._walk(value)
            return found if self.n_pickled == n_pickled else None
        finally:
            self.n_pickled = n_pickled

    def _walk(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        write = _WRITERS.get(kind)
        if write is not None:
            return write(value)
        if kind in (list, tuple, set, frozenset, dict):
            with self._inside(value):
                return self._container(value)
        return self._other(value)

    def _container(self, value: Any) -> Any:
        kind = type(value)
        if kind is dict:
            return _pairs([(self._walk(key), self._walk(each)) for key, each in value.items()])
        items = [self._walk(each) for each in value]
        if kind is list:
            return items
        if kind is not tuple:
            items.sort(key=dump_json)  # so that the same set is the same text
        return {TAG: kind.__name__, "items": items}

    def _other(self, value: Any) -> Any:
        found: Any = None
        if isinstance(value, BaseException):
            found = self._exception(value)
        elif type(value) in (datetime, time):
            found = self._moment(value)
        elif type(value).__module__ == "numpy":
            found = self._numpy(value, sys.modules["numpy"])
        return self._pickled(value) if found is None else found

    def _exception(self, error: BaseException) -> Any:
        with self._inside(error):
            record = encode_exception(error, self)
        self.n_pickled += "pickle" in record
        return record

    def _moment(self, value: datetime | time) -> Any:
        zone: Any = value.tzinfo
        if zone is None:
            kept = None
        elif type(zone) is timezone:
            kept = [self._walk(each) for each in zone.__getinitargs__()]  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] - as pickle does
        elif type(zone).__module__ == "zoneinfo" and zone.key is not None:
            kept = zone.key
        else:
            return None
        text = value.replace(tzinfo=None).isoformat()
        return {TAG: type(value).__name__, "value": text, "fold": value.fold, "zone": kept}

    def _numpy(self, value: Any, np: Any) -> Any:
        name = type(value).__name__
        if isinstance(value, np.generic) and name in NUMPY_SCALARS:
            return {TAG: "numpy", "type": name, "value": self._walk(value.item())}
        if type(value) is not np.ndarray and not isinstance(value, np.generic):
            return None
        file = io.BytesIO()
        try:
            np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
        except Exception:  # an array of objects: it is pickled as a whole
            return None
        scalar = isinstance(value, np.generic)
        return {TAG: "npy", "scalar": scalar, "data": _base64(file.getvalue())}

    def _pickled(self, value: object) -> Any:
        self.n_pickled += 1
        kept = value if isinstance(value, Pickled) else Pickled.of(value)
        return {TAG: "pickle", **kept.to_json()}


def _pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    if all(type(key) is str and key != TAG for key, _ in pairs):
        return dict(pairs)
    return {TAG: "dict", "items": [list(pair) for pair in pairs]}


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()


def _write_str(value: str) -> Any:
    # JSON could hold halves of characters, but would join two of them to a whole one.
    return (
        value
        if is_utf8(value)
        else {TAG: "str", "data": _base64(value.encode(errors="surrogatepass"))}
    )


def _write_int(value: int) -> Any:
    return value if value.bit_length() <= _MOST_BITS else {TAG: "int", "hex": hex(value)}


def _write_float(value: float) -> Any:
    return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}


def _write_complex(value: complex) -> Any:
    return {TAG: "complex", "parts": [_write_float(value.real), _write_float(value.imag)]}


def _write_path(value: PurePath) -> Any:
    return {TAG: "path", "type": type(value).__name__, "value": _write_str(str(value))}


#: How each type is written that is neither JSON's nor has others in it.
_WRITERS: dict[type, Callable[[Any], Any]] = {
    str: _write_str,
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    bytes: lambda value: {TAG: "bytes", "data": _base64(value)},
    bytearray: lambda value: {TAG: "bytearray", "data": _base64(value)},
    date: lambda value: {TAG: "date", "value": value.isoformat()},
    timedelta: lambda value: {
        TAG: "timedelta",
        "value": [value.days, value.seconds, value.microseconds],
    },
    **dict.fromkeys((PosixPath, WindowsPath, PurePosixPath, PureWindowsPath), _write_path),
}


# ----------------------------------------------------------------------------------- and back


def decode(value: Any, *, unpickle: bool = False) -> Any:
    """Make a value of what ``encode`` returned.

    Args:
        value: What it returned.
        unpickle: Whether what was pickled is unpickled; a ``Pickled`` stands for it otherwise.

    Raises:
        HistoryError: When it cannot be read.
    """

    def read(part: Any) -> Any:
        if isinstance(part, list):
            return [read(each) for each in part]
        if not isinstance(part, dict):
            return part
        if TAG not in part:
            return {key: read(each) for key, each in part.items()}
        tag = part[TAG]
        if tag == "exception":
            return decode_exception(part, read, unpickle=unpickle)
        if tag == "pickle":
            return _read_pickle(part, unpickle=unpickle)
        if tag not in _READERS:
            message = (
                f"a value of the kind {tag!r} cannot be read; it may be of a newer amltk: update it"
            )
            raise HistoryError(message, kind=tag)
        return _READERS[tag](part, read)

    return read(value)


def _read_pickle(record: dict[str, Any], *, unpickle: bool) -> Any:
    pickled = Pickled.from_json(record)
    member: enum.Enum | None = pickled.known_member()
    if member is not None:
        return member
    return pickled.load() if unpickle and pickled.data is not None else pickled


def _read_float(record: dict[str, Any], _read: Any) -> float:
    value = float(record["value"])
    return math.nan if math.isnan(value) else value  # the one that is equal to itself in a list


def _read_path(record: dict[str, Any], read: Any) -> PurePath:
    text = read(record["value"])
    if record["type"] == type(Path()).__name__:
        return Path(text)
    # A path of the other system cannot be used here, but shown and saved again.
    return PureWindowsPath(text) if "Windows" in record["type"] else PurePosixPath(text)


def _read_moment(kind: Any) -> Callable[[dict[str, Any], Any], Any]:
    def read_moment(record: dict[str, Any], read: Any) -> Any:
        zone: Any = record["zone"]
        if isinstance(zone, list):
            zone = timezone(*read(zone))
        elif zone is not None:
            from zoneinfo import ZoneInfo

            zone = ZoneInfo(zone)
        return kind.fromisoformat(record["value"]).replace(tzinfo=zone, fold=record["fold"])

    return read_moment


def _numpy_for_reading() -> Any:
    return require("numpy", extra="history", purpose="reading a history with values of numpy")


def _read_numpy(record: dict[str, Any], read: Any) -> Any:
    if record["type"] not in NUMPY_SCALARS:
        message = f"{record['type']!r} is no kind of number or text of numpy"
        raise HistoryError(message, kind=record["type"])
    np = _numpy_for_reading()
    name = "bool_" if record["type"] == "bool" else record["type"]  # numpy 1 has only that
    return getattr(np, name)(read(record["value"]))


def _read_npy(record: dict[str, Any], _read: Any) -> Any:
    file = io.BytesIO(_bytes(record))
    array = _numpy_for_reading().lib.format.read_array(file, allow_pickle=False)
    return array[()] if record["scalar"] else array


def _bytes(record: dict[str, Any]) -> bytes:
    return base64.b64decode(record["data"], validate=True)


_READERS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "str": lambda record, _: _bytes(record).decode(errors="surrogatepass"),
    "int": lambda record, _: int(record["hex"], 16),
    "float": _read_float,
    "complex": lambda record, read: complex(*map(read, record["parts"])),
    "bytes": lambda record, _: _bytes(record),
    "bytearray": lambda record, _: bytearray(_bytes(record)),
    "date": lambda record, _: date.fromisoformat(record["value"]),
    "datetime": _read_moment(datetime),
    "time": _read_moment(time),
    "timedelta": lambda record, _: timedelta(*record["value"]),
    "path": _read_path,
    "tuple": lambda record, read: tuple(map(read, record["items"])),
    "set": lambda record, read: set(map(read, record["items"])),
    "frozenset": lambda record, read: frozenset(map(read, record["items"])),
    "dict": lambda record, read: {read(key): read(each) for key, each in record["items"]},
    "numpy": _read_numpy,
    "npy": _read_npy,
}
