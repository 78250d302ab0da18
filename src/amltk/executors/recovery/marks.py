"""Marks that workers leave of the calls they run, to be read when their pool has broken.

::

    worker   run_marked ──▶ [+7] ──▶ runs call 7 ──▶ outcome, [-7] ──▶ the pool sends the result
                              └────── a file for each worker ────┘
    driver   read_marks ◀──────────── folder, read only after a break

A pool that breaks fails all its futures alike. What a call had come to by then is known to nobody
but the worker that ran it, and that one may be dead, so it writes it down beforehand: into memory
that is a file, which outlives it and costs no system call. A worker may also be ended on the way
from its call's end to the sending, so the last outcome is kept too; a large one is a file.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from amltk.executors.recovery.term import Term
from amltk.executors.travel.shelf import run_shelved

#: How many calls back a worker's marks go. A pool hands out only a few calls more than it has
#: workers, so that no more than these can have ended without their results having arrived.
N_SLOTS = 1024

#: A call's number: positive once it has started, negative once it has ended.
_SLOT = struct.Struct("<q")

_SLOTS_END = N_SLOTS * _SLOT.size

#: Number and length of the outcome that is kept, which follows; the number is 0 while it is written.
_KEPT = struct.Struct("<qq")

#: No larger outcome is kept.
KEPT_BYTES = 1 << 16

#: A larger outcome is a file. A message of a pool is written to its pipe at once up to 4 KiB, so that
#: no death of a worker leaves a part of one there, for the rest of which the pool would wait.
PIPE_BYTES = 3500

#: How the names of such files end.
_OUTCOME = ".outcome"

#: How many files a worker keeps open: one for each scheduler that uses its pool at the time.
_N_OPEN = 8


@dataclass(frozen=True, slots=True)
class Marks:
    """What the workers of one pool have noted: numbers of calls, each with the worker's pid."""

    running: dict[int, int] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    #: Packed outcomes of calls that have ended, of each worker the last one at most.
    outcomes: dict[int, bytes] = field(default_factory=dict)


class _Notes:
    """The marks of this worker.

    Args:
        path: The file to keep them in.
    """

    def __init__(self, path: Path) -> None:
        self._next = 0
        size = _SLOTS_END + _KEPT.size + KEPT_BYTES
        with path.open("w+b", buffering=0) as file:
            # Written, not only sized: a file system that fills up later would end us by SIGBUS.
            file.write(bytes(size))
            self._memory = mmap.mmap(file.fileno(), size)

    def start(self, number: int) -> int:
        """Note that a call starts; return its place."""
        place = self._next
        self._next = (place + _SLOT.size) % _SLOTS_END
        _SLOT.pack_into(self._memory, place, number)
        return place

    def end(self, number: int, place: int) -> None:
        """Note that a call has ended."""
        _SLOT.pack_into(self._memory, place, -number)

    def keep(self, number: int, outcome: bytes) -> None:
        """Keep the outcome of a call that has ended, unless it is large."""
        length = len(outcome)
        if length <= KEPT_BYTES:
            memory, start = self._memory, _SLOTS_END + _KEPT.size
            _KEPT.pack_into(memory, _SLOTS_END, 0, length)
            memory[start : start + length] = outcome
            _KEPT.pack_into(memory, _SLOTS_END, number, length)


_open_notes: OrderedDict[str, _Notes | None] = OrderedDict()

_term = Term()


def run_marked(folder: str, number: int, payload: bytes, *paths: str) -> tuple[int, bytes | None]:
    """Run a packed call in the worker, with marks before and after.

    Args:
        folder: Where the marks go.
        number: The call's number, from 1.
        payload: The call, as ``run_shelved`` takes it.
        *paths: Its files, likewise.

    Returns:
        The number, for a result that is found where it was lost, and the packed outcome, or ``None``
        where that is a file. Nothing is raised.
    """
    notes = _open_notes[folder] if folder in _open_notes else _open(folder)
    if notes is None:
        return number, run_shelved(payload, *paths)
    place = notes.start(number)
    outcome = _term.run(payload, *paths, note=partial(notes.end, number, place))
    told = outcome if len(outcome) <= PIPE_BYTES or not _write(folder, number, outcome) else None
    notes.end(number, place)  # also of a call that could not begin
    notes.keep(number, outcome)
    _term.rest()
    return number, told


def _write(folder: str, number: int, outcome: bytes) -> bool:
    """Write a large outcome to a file; tell whether that could be done."""
    path = outcome_path(Path(folder), number)
    part = path.with_suffix(".part")
    try:
        part.write_bytes(outcome)
        part.replace(path)  # so that it is whole or not there, whenever this worker is ended
    except OSError:  # the disk is full: it goes by the pool's own pipe
        with suppress(OSError):
            part.unlink()
        return False
    return True


def outcome_path(folder: Path, number: int) -> Path:
    """Return where the outcome of a call is, if it is large."""
    return folder / f"{number}{_OUTCOME}"


def read_outcome(folder: Path, number: int) -> bytes:
    """Read a large outcome, which is not needed there any more.

    Raises:
        OSError: When it is not there.
    """
    path = outcome_path(folder, number)
    outcome = path.read_bytes()
    path.unlink()
    return outcome


def _open(folder: str) -> _Notes | None:
    _term.install()
    notes: _Notes | None
    try:
        notes = _Notes(Path(folder, str(os.getpid())))
    except (
        OSError
    ):  # the driver has let go of the pool, or the disk is full: calls run all the same
        notes = None
    _open_notes[folder] = notes
    if len(_open_notes) > _N_OPEN:
        _open_notes.popitem(last=False)
    return notes


def read_marks(folder: Path) -> Marks:
    """Read what all workers of a pool have noted, once they are gone.

    Args:
        folder: Where the marks are.

    Returns:
        The calls that were running and those that had ended.
    """
    marks = Marks()
    for path in folder.glob("*"):
        if not path.name.isdigit():
            continue  # an outcome, or whose folder it is
        pid, data = int(path.name), path.read_bytes()
        if len(data) < _SLOTS_END + _KEPT.size:
            continue  # it died before its first call
        for (number,) in _SLOT.iter_unpack(data[:_SLOTS_END]):
            if number > 0:
                marks.running[number] = pid
            elif number < 0:
                marks.ended[-number] = pid
        number, length = _KEPT.unpack_from(data, _SLOTS_END)
        if number:
            start = _SLOTS_END + _KEPT.size
            marks.outcomes[number] = data[start : start + length]
    for number in marks.ended:
        with suppress(OSError):  # it was small, or has arrived
            marks.outcomes[number] = outcome_path(folder, number).read_bytes()
    return marks
