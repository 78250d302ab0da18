"""What is large on its way to processes of this machine, as files, once for all calls that share it.

::

    driver   Shelf.pack(fn, args, kwargs) ──▶ Shelved: a small payload, and paths
    worker   run_shelved(payload, *paths) ──▶ the outcome's bytes, for `unpack_outcome`
    driver   Shelved.release(), when the call is done

A pool's own queue would hold and send a function with the globals that it uses once for each call,
and a large argument that is on its way there when the pool breaks keeps a thread, descriptors and
memory for ever.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from amltk.executors.travel.folders import make_folder
from amltk.executors.travel.parcel import Held, Parcel, pack_parcel, run_parcel

#: From how many bytes on an argument is a file. What a pool has on its way is to fit into a pipe.
LARGE_BYTES = 1 << 14


class Shelved:
    """A packed call.

    Args:
        shelf: Where its files are.
        parcel: The call.
    """

    __slots__ = ("_parcel", "_shelf", "arguments")

    def __init__(self, shelf: Shelf, parcel: Parcel) -> None:
        self._shelf = shelf
        #: What ``run_shelved`` takes.
        self.arguments: tuple[Any, ...] = (parcel.payload, *shelf._held.take(parcel))
        self._parcel = Parcel(b"", dict.fromkeys(parcel.blobs, b""))

    def release(self) -> None:
        """Note that nobody is going to run the call any more."""
        self._shelf._held.release(self._parcel)


class Shelf:
    """Files of calls that are on their way.

    Args:
        has_script: Whether workers may have the script itself.
    """

    def __init__(self, *, has_script: bool) -> None:
        self._has_script = has_script
        #: Where they are.
        self.folder: Path = make_folder("calls")
        self._held: Held[str] = Held(partial(_write, self.folder), _remove)
        self.close: Callable[[], object] = weakref.finalize(
            self, shutil.rmtree, str(self.folder), ignore_errors=True
        )

    def pack(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Shelved:
        """Pack a call.

        Args:
            function: What to call; a ``PortableFunction`` is written once.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            CallPicklingError: When function or arguments cannot be pickled.
            OSError: When a file cannot be written.
        """
        parcel = pack_parcel(
            function,
            args,
            kwargs,
            large=LARGE_BYTES,
            large_function=0,
            has_script=self._has_script,
        )
        return Shelved(self, parcel)


def _write(folder: Path, digest: str, data: bytes) -> str:
    path = folder / digest
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    return str(path)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def run_shelved(
    payload: bytes, *paths: str, on_end: Callable[[BaseException | None], object] | None = None
) -> bytes:
    """Run a packed call in the worker.

    Args:
        payload: The call.
        *paths: Its files.
        on_end: Called once the function has ended, before the outcome is packed, with what it has
            raised.

    Returns:
        The packed outcome, for ``unpack_outcome``. Nothing is raised.
    """
    return run_parcel(payload, *(Path(path).read_bytes for path in paths), on_end=on_end)
