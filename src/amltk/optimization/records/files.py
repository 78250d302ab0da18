"""Histories in files: lines of JSON, or Parquet.

A ``.jsonl`` begins with a header, and each further line is a report or a cancelled trial. A
``.parquet`` has the columns of ``history.df()`` for people and other programs, and one column with
each report's JSON, of which it is read.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from amltk._optional import require
from amltk.exceptions import HistoryError
from amltk.optimization.records.codec import dump_json
from amltk.optimization.records.parts import Tried
from amltk.optimization.records.record import VERSION, check_version, write_trial
from amltk.optimization.records.rows import frame

logger: logging.Logger = logging.getLogger(__name__)

_FORMAT = "amltk-history"
_HEADER = {"format": _FORMAT, "version": VERSION}
_RECORD = "record"


class Kept(Protocol):
    """A report that is kept."""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        ...

    def to_row(self) -> dict[str, Any]:
        """Return all of it in one level."""
        ...


def save(path: Path, reports: Sequence[Kept], cancelled: Sequence[Tried]) -> None:
    """Write reports and cancelled trials into a file, of which there is all or nothing at any time.

    Args:
        path: The file, whose suffix tells how it is written.
        reports: The reports, in order.
        cancelled: The trials of which there are no reports.

    Raises:
        HistoryError: When the suffix tells nothing.
    """
    suffix = _suffix_of(path, "saved as")
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _WRITERS[suffix](beside, reports, cancelled)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def load(
    path: Path,
    *,
    report: Callable[[Any], object],
    cancelled: Callable[[Any], object],
    partial: bool,
) -> None:
    """Go through what is in a file, in order.

    Args:
        path: The file.
        report: Is given what ``to_dict`` has made of each report.
        cancelled: Is given what ``write_trial`` has made of each cancelled trial.
        partial: Whether to leave out what cannot be read, or what one of the two refuses by a
            ``HistoryError``, and to log a warning for each.

    Raises:
        HistoryError: When something cannot be read, or is refused.
    """
    suffix = _suffix_of(path, "read from")
    for place, record in _READERS[suffix](path, partial=partial):
        try:
            _hand_over(record, report=report, cancelled=cancelled)
        except HistoryError as error:
            _refuse(place, str(error), path=path, partial=partial, cause=error)


def _hand_over(record: Any, **takers: Callable[[Any], object]) -> None:
    for kind, take in takers.items():
        if isinstance(record, dict) and kind in record:
            take(record[kind])
            return
    message = "it has neither a report nor a cancelled trial"
    raise HistoryError(message)


def _suffix_of(path: Path, doing: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        message = (
            f"a history cannot be {doing} {str(path)!r}, whose suffix is {path.suffix!r}; name it "
            f"such as {path.stem + '.jsonl'!r} or {path.stem + '.parquet'!r}"
        )
        raise HistoryError(message, path=path, suffix=path.suffix)
    return suffix


def _refuse(
    place: str, problem: str, *, path: Path, partial: bool, cause: Exception | None = None
) -> None:
    """Refuse what cannot be read, or leave it out where that was asked for."""
    if partial:
        logger.warning("%s of %s is left out: %s", place, path, problem)
        return
    message = (
        f"{place} of {str(path)!r} cannot be read: {problem}; load it with partial=True to have "
        f"the rest"
    )
    raise HistoryError(message, path=path, place=place, problem=problem) from cause


def _sync_folder(folder: Path) -> None:
    """Have the system keep the name of a new file, where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ------------------------------------------------------------------------------ lines of JSON


def report_line(report: Kept) -> bytes:
    """Return the line of a report."""
    return _line({"report": report.to_dict()})


def cancelled_line(trial: Tried) -> bytes:
    """Return the line of a cancelled trial."""
    return _line({"cancelled": write_trial(trial)})


def _line(record: dict[str, Any]) -> bytes:
    return f"{dump_json(record)}\n".encode()


def _write_lines(path: Path, reports: Sequence[Kept], cancelled: Sequence[Tried]) -> None:
    with path.open("xb") as file:
        file.write(_line(_HEADER))
        file.writelines(map(report_line, reports))
        file.writelines(map(cancelled_line, cancelled))
        file.flush()
        os.fsync(file.fileno())


def _read_lines(path: Path, *, partial: bool) -> Iterator[tuple[str, Any]]:
    line = b"\n"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                problem = f"{type(error).__name__}: {error}"
                if not line.endswith(b"\n"):
                    problem = "it is cut off, as if its writer had been killed"
                _refuse(f"line {number}", problem, path=path, partial=partial, cause=error)
                continue
            if number == 1:
                _check_header(record, path)
            else:
                yield f"line {number}", record
    if line == b"\n":
        _refuse("line 1", "the file is empty", path=path, partial=partial)


def _check_header(header: Any, path: Path) -> None:
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        message = (
            f"{str(path)!r} cannot be read, since line 1 is no header of a history; load what "
            f"history.save or history.log_to has written"
        )
        raise HistoryError(message, path=path, place="line 1")
    check_version(header.get("version"))


class Log:
    """A file to which each report is appended at once.

    Args:
        path: The file, which has its header already.
    """

    def __init__(self, path: Path) -> None:
        #: Where it is.
        self.path = path
        self._file = path.open("ab")
        # A history that is dropped closes its file, and without a warning.
        self.close: Callable[[], object] = weakref.finalize(self, self._file.close)

    def write(self, line: bytes) -> None:
        """Append a line, which outlives this process."""
        self._file.write(line)
        self._file.flush()

    def sync(self) -> None:
        """Have the system keep what was written."""
        os.fsync(self._file.fileno())


# ------------------------------------------------------------------------------------ Parquet


def _write_parquet(path: Path, reports: Sequence[Kept], cancelled: Sequence[Tried]) -> None:
    pa = require("pyarrow", extra="history", purpose="a .parquet file")
    parquet = require("pyarrow.parquet", extra="history", purpose="a .parquet file")
    flat = frame([report.to_row() for report in reports])
    for label in flat.select_dtypes(object).columns:
        flat[label] = _of_one_type(flat[label])
    table = pa.Table.from_pandas(flat, preserve_index=False)
    records = [dump_json(report.to_dict()) for report in reports]
    table = table.append_column(_RECORD, pa.array(records, type=pa.large_string()))
    about = dump_json({**_HEADER, "cancelled": [write_trial(trial) for trial in cancelled]})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _FORMAT: about})
    with path.open("xb") as file:
        parquet.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())


def _of_one_type(column: Any) -> Any:
    """Return a column of several types as one of Parquet, which has one: all numbers, or texts."""
    if all(type(cell) in (int, float) for cell in column.dropna()):
        return column.astype("Float64")
    return column.map(_text, na_action="ignore").astype("string")


def _text(cell: object) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _read_parquet(path: Path, *, partial: bool) -> Iterator[tuple[str, Any]]:
    pa = require("pyarrow", extra="history", purpose="a .parquet file")
    parquet = require("pyarrow.parquet", extra="history", purpose="a .parquet file")
    try:
        with path.open("rb") as file:
            table = parquet.read_table(file, columns=[_RECORD])
    except pa.ArrowException as error:
        message = f"{str(path)!r} cannot be read: {error}; is it whole, and Parquet?"
        raise HistoryError(message, path=path, problem=str(error)) from error
    about = (table.schema.metadata or {}).get(_FORMAT.encode())
    if about is None:
        message = f"{str(path)!r} has no history, but something else; load what history.save wrote"
        raise HistoryError(message, path=path)
    header = json.loads(about)
    _check_header(header, path)
    texts: Iterable[str] = table.column(_RECORD).to_pylist()
    for number, text in enumerate(texts, 1):
        try:
            yield f"row {number}", {"report": json.loads(text)}
        except (ValueError, RecursionError) as error:
            _refuse(f"row {number}", str(error), path=path, partial=partial, cause=error)
    for trial in header["cancelled"]:
        yield "a cancelled trial", {"cancelled": trial}


_WRITERS: dict[str, Callable[[Path, Sequence[Kept], Sequence[Tried]], None]] = {
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
}
_READERS = {".jsonl": _read_lines, ".parquet": _read_parquet}
