"""The folder that a driver shares with Airflow's workers: calls there, outcomes back.

What lies where is drawn in ``dag.py``, the other side of it.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

from amltk._errors import set_cause
from amltk._optional import require
from amltk.exceptions import (
    CallError,
    CallUnpicklingError,
    ExecutorError,
    RemoteError,
    RemoteTraceback,
    ResultPicklingError,
    ResultUnpicklingError,
)
from amltk.executors.airflow.dag import FUNCTION, VERSION, join, split
from amltk.executors.travel import pickler
from amltk.executors.travel.envelope import (
    CANNOT_PICKLE,
    PortableFunction,
    pickling_failure,
    unpack_outcome,
)
from amltk.executors.travel.parcel import LARGE_BYTES, Held, Parcel
from amltk.executors.travel.portable import digest_of

#: What a call needs a worker to have.
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_KINDS = ("blobs", "calls", "started", "cancel", "outcomes")


class _Blob:
    """The bytes of a large argument, shared by the calls that wait here."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


class Packer:
    """Packs calls so that equal large arguments are in memory once."""

    def __init__(self) -> None:
        self._blobs: WeakValueDictionary[str, _Blob] = WeakValueDictionary()
        self._lock = threading.Lock()

    def pack(self, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Packed:
        """Pack a call.

        Raises:
            CallPicklingError: When it cannot be pickled.
        """
        # Without the wrapper, which only a worker with amltk could read.
        function = fn.function if isinstance(fn, PortableFunction) else fn
        parcel = _pack(function, args, kwargs)
        with self._lock:
            blobs = {
                digest: self._blobs.setdefault(digest, _Blob(data))
                for digest, data in parcel.blobs.items()
            }
        return Packed(parcel.payload, blobs)


class Packed:
    """A call that waits to be sent.

    Args:
        payload: The call without its large arguments.
        blobs: These, by their digests.
    """

    __slots__ = ("_blobs", "payload")

    def __init__(self, payload: bytes, blobs: dict[str, _Blob]) -> None:
        self.payload: bytes = payload
        self._blobs: dict[str, _Blob] = blobs

    @property
    def digests(self) -> list[str]:
        """The digests of the large arguments, in the order in which the worker takes them."""
        return list(self._blobs)

    def parcel(self) -> Parcel:
        """Return it as what ``Held`` takes."""
        return Parcel(self.payload, {digest: blob.data for digest, blob in self._blobs.items()})

    def forget(self) -> None:
        """Let go of what the store has now."""
        self.payload = b""
        self._blobs = {digest: _Blob(b"") for digest in self._blobs}


class _Whole(pickler.Pickler):
    """Pickles for readers that need not have amltk: what makes things once more travels as well."""

    def of_function(self, function: FunctionType) -> Any:
        if function.__module__ == pickler.__name__:
            return self._dynamic_function_reduce(function)
        return super().of_function(function)


def _dumps(value: object) -> bytes:
    with io.BytesIO() as file:
        _Whole(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()


def _pack(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Parcel:
    """Pack a call with all that belongs to it, for workers that need not have amltk."""
    try:
        payload = _dumps((function, args, dict(kwargs), ()))
        if len(payload) < LARGE_BYTES:
            return Parcel(payload)
        return _split(function, args, kwargs) or Parcel(payload)
    except CANNOT_PICKLE as error:
        raise pickling_failure(function, args, kwargs) from error


def _split(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Parcel | None:
    """Put large arguments, and a large function, into blobs; ``None`` if no single one is large."""
    left: dict[int | str, Any] = {FUNCTION: function, **dict(enumerate(args))}
    left.update(kwargs)
    blobs: dict[str, bytes] = {}
    places: list[tuple[int | str, int]] = []
    for place, value in left.items():
        piece = _dumps(value)
        if len(piece) >= LARGE_BYTES:
            digest = digest_of(piece).hex()
            blobs.setdefault(digest, piece)
            places.append((place, list(blobs).index(digest)))
    if not places:
        return None
    for place, _ in places:
        left[place] = None
    small_args = tuple(left[place] for place in range(len(args)))
    small_kwargs = {name: left[name] for name in kwargs}
    return Parcel(_dumps((left[FUNCTION], small_args, small_kwargs, tuple(places))), blobs)


class PayloadStore:
    """One executor's folder in the payload store; for one thread.

    Args:
        root: The store, a folder or an URL for fsspec.
        executor_id: What the folder is called.
        options: Of fsspec for this store.
        secret: What calls and outcomes are signed with; empty for no signature.
    """

    def __init__(
        self, root: str, executor_id: str, options: Mapping[str, Any], secret: str
    ) -> None:
        core: Any = require("fsspec.core", extra="airflow", purpose='the "airflow" executor')
        #: The folder as workers are told of it.
        self.folder: str = f"{root.rstrip('/')}/{executor_id}"
        opened: tuple[Any, str] = core.url_to_fs(self.folder, **options)
        self._fs, self._path = opened
        self._secret = secret
        protocol = self._fs.protocol
        #: Whether it is a folder of this machine's, where looking costs next to nothing.
        self.is_local: bool = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
        self._blobs: Held[str] = Held(self._put_blob, self._remove)

    def open(self) -> None:
        """Make the folders, and see that they can be written and read.

        Raises:
            Exception: Whatever the store raises if not.
        """
        for kind in _KINDS:
            self._fs.makedirs(f"{self._path}/{kind}", exist_ok=True)
        probe = f"{self._path}/calls/probe"
        self._fs.pipe_file(probe, b"amltk")
        self._fs.cat_file(probe)
        self._remove(probe)

    def put_call(self, number: int, packed: Packed) -> None:
        """Write a call; its large arguments only if they are not there."""
        parcel = packed.parcel()
        self._blobs.take(parcel)
        header = {
            "format": VERSION,
            "folder": self.folder,
            "number": number,
            "python": PYTHON,
            "cloudpickle": version("cloudpickle"),
            "blobs": packed.digests,
        }
        try:
            self._write("calls", number, join(header, parcel.payload, self._secret))
        except BaseException:
            self._blobs.release(parcel)
            raise
        packed.forget()

    def put_cancel_mark(self, number: int) -> None:
        """Have the call ended, or never begun."""
        self._write("cancel", number, b"{}\n")

    def has_started(self, number: int) -> bool:
        """Tell whether a worker has begun with the call."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self._path}/started/{number}"))

    def finished(self) -> set[int]:
        """Return the numbers of calls that have an outcome."""
        self._fs.invalidate_cache()
        names = [
            path.rsplit("/", 1)[-1] for path in self._fs.ls(f"{self._path}/outcomes", detail=False)
        ]
        return {int(name) for name in names if name.isdigit()}

    def outcome(self, number: int) -> tuple[bool, Any]:
        """Read what became of a call: whether it returned, and the result or exception."""
        data = bytes(self._fs.cat_file(f"{self._path}/outcomes/{number}"))
        try:
            header, body = split(data, self._secret)
            kind = header["kind"]
            self._require_place(header, number)
        except Exception as error:
            message = f"the call's outcome in the payload store cannot be read: {error}"
            failure = ResultUnpicklingError(message)
            failure.__cause__ = error
            return False, failure
        if kind == "pickled":
            return unpack_outcome(body)
        failed = _failure(kind, header)
        set_cause(failed, RemoteTraceback(header.get("traceback", "")))
        return False, failed

    def _require_place(self, header: Mapping[str, Any], number: int) -> None:
        if (header["folder"], header["number"]) != (self.folder, number):
            message = f"it is that of call {header['number']} in {header['folder']}"
            raise ValueError(message)

    def remove_call(self, number: int, packed: Packed, *, keeps_mark: bool) -> None:
        """Remove a call's files.

        Args:
            number: Its number.
            packed: What was written, to let go of its large arguments.
            keeps_mark: Whether the mark that it was cancelled stays, for a task that comes late.
        """
        for kind in ("calls", "started", "outcomes") if keeps_mark else _KINDS[1:]:
            self._remove(f"{self._path}/{kind}/{number}")
        self._blobs.release(packed.parcel())

    def close(self) -> None:
        """Remove the folder."""
        with suppress(Exception):
            self._fs.rm(self._path, recursive=True)

    def _put_blob(self, digest: str, data: bytes) -> str:
        self._write("blobs", digest, data)
        return f"{self._path}/blobs/{digest}"

    def _write(self, kind: str, name: object, data: bytes) -> None:
        path = f"{self._path}/{kind}/{name}"
        if not self.is_local:
            self._fs.pipe_file(path, data)
            return
        part = f"{self._path}/{kind}/.{uuid4().hex}"
        self._fs.pipe_file(part, data)
        Path(part).replace(path)

    def _remove(self, path: str) -> None:
        # What is left over goes with the folder.
        with suppress(Exception):
            self._fs.rm_file(path)


def _failure(kind: str, header: Mapping[str, Any]) -> CallError | ExecutorError:
    """Make the error for an outcome that could not travel."""
    what = f"{header.get('type')}: {header.get('message')}"
    if kind == "unpicklable":
        message = (
            f"the result of {header.get('name')} ({header.get('repr')}) could not be pickled, so "
            f"it could not be sent back ({what}); return plain data instead"
        )
        return ResultPicklingError(message)
    if kind == "exception":
        message = (
            f"the call raised {what} (the exception could not be pickled: {header.get('reason')})"
        )
        text = str(header.get("traceback"))
        return RemoteError(message, type_name=header.get("type"), traceback_text=text)
    if kind == "unreadable":
        message = (
            f"the worker could not unpickle the function or its arguments: {what}; is everything "
            f"that they need importable in the worker?"
        )
        return CallUnpicklingError(message)
    return ExecutorError(f"Airflow's worker did not run the call: {header.get('message') or kind}")
