"""Reports in one level, as the rows of a dataframe.

::

    name     status   metric:accuracy (maximize) [0.0, 1.0]  config:lr  summary:shape   …
    trial-0  success                                   0.93       0.01  json:[3,4]

A cell is a number, a truth value, a text, or ``None`` for what is not there. What else a value may
be is ``json:`` and its JSON, and so is a text that begins like that, and a ``None`` among the
values, which is something else than a key that is not there. NaN, and the numbers of numpy, are
Python's numbers in their cells, and what they were is in the cell ``exact``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from amltk._optional import require
from amltk.exceptions import HistoryError
from amltk.optimization.records.codec import NUMPY_SCALARS, decode, dump_json, encode, is_utf8
from amltk.optimization.records.parts import PLAIN, TIMING, Declared, Parts, Reported, reading

if TYPE_CHECKING:
    import pandas as pd

#: Makes a metric of its text, or raises a ``ValueError``.
Parse: TypeAlias = Callable[[str], Declared]

PREFIX = "json:"
#: Columns of a trial's mappings, by what they begin with.
_GROUPS = {
    "config": "config",
    "fidelity": "fidelities",
    "summary": "summary",
    "info": "info",
    "plugin": "plugins",
}
#: What of a report has a cell of its own.
_CELLS = tuple(name for name in PLAIN if name != "exception")
#: The order of columns, and how pandas is to keep those that may be empty.
_COLUMNS = {
    "name": "string",
    "status": "string",
    "metric:": "Float64",
    "config:": "object",
    "fidelity:": "object",
    "seed": "Int64",
    "time:": "Float64",
    "peak_memory_mb": "Float64",
    "worker": "string",
    "submitted_at": "Float64",
    "reported_at": "Float64",
    "n_told": "Int64",
    "storage": "string",
    "summary:": "object",
    "info:": "object",
    "plugin:": "object",
    "exception": "string",
    "exception:": "string",
    "traceback": "string",
    "metrics": "string",
    "exact": "string",
}
_PLACES = {column: place for place, column in enumerate(_COLUMNS)}
#: What pandas can keep in 64 bits.
_INT64, _UINT64 = range(-(2**63), 2**63), range(2**64)
#: Greater ones are no number in many programs.
_WIDEST = range(-(2**1000), 2**1000)


# ------------------------------------------------------------------------------------ to rows


def write_row(report: Reported, parse: Parse) -> dict[str, Any]:
    """Return all of a report in one level: numbers, texts and ``None`` by column.

    Args:
        report: The report.
        parse: Tells whether the name of a value that no metric is declared for looks like one.
    """
    trial = report.trial
    declared = {metric.name: metric for metric in trial.metrics}
    row = _Writer()
    row.put("name", trial.name)
    row.put("status", report.status.value)
    for metric in trial.metrics:
        row.cells[f"metric:{_label(str(metric))}"] = None
    for name, value in report.metrics.items():
        known = declared.get(name)
        label = _undeclared(name, parse) if known is None else _label(str(known))
        row.put(f"metric:{label}", value)
    for group, attribute in _GROUPS.items():
        for key, value in getattr(trial, attribute).items():
            row.put(f"{group}:{_label(key)}", value)
    for name in TIMING:
        if report.time is None:
            row.cells[f"time:{name}"] = None
        else:
            row.put(f"time:{name}", getattr(report.time, name))
    row.put_or_leave("seed", trial.seed)
    row.put_or_leave("n_told", trial.n_told)
    row.put_or_leave("storage", _path_as_text(trial.storage))
    for name in _CELLS:
        row.put_or_leave(name, getattr(report, name))
    error = report.exception
    row.cells["exception"] = None if error is None else _shown(error)
    row.cells["exception:json"] = None if error is None else PREFIX + dump_json(encode(error))
    row.cells["metrics"] = PREFIX + dump_json([encode(str(metric)) for metric in trial.metrics])
    row.cells["exact"] = PREFIX + dump_json(row.exact) if row.exact else None
    return dict(sorted(row.cells.items(), key=lambda item: _place(item[0])))


class _Writer:
    """A row that is being made."""

    def __init__(self) -> None:
        self.cells: dict[str, Any] = {}
        self.exact: dict[str, Any] = {}

    def put(self, label: str, value: Any) -> None:
        near = _near(value)
        if near is None:
            self.cells[label] = _cell(value)
        else:
            self.cells[label] = near
            self.exact[label] = encode(value)

    def put_or_leave(self, label: str, value: Any) -> None:
        """Write a value, where ``None`` is for what is not known."""
        if value is None:
            self.cells[label] = None
        else:
            self.put(label, value)


def _path_as_text(value: Any) -> Any:
    return str(value) if type(value) is type(Path()) and is_utf8(str(value)) else value


def _cell(value: Any) -> Any:
    if type(value) in (bool, float) or (type(value) is int and value in _WIDEST):
        return value
    if type(value) is str and not value.startswith(PREFIX) and is_utf8(value):
        return value
    return PREFIX + dump_json(encode(value))


def _near(value: Any) -> Any:
    """Return what people want to see in the place of a value, where it is not quite the same."""
    kind = type(value)
    if kind is float and math.isnan(value):
        return value
    if kind.__module__ == "numpy" and kind.__name__ in NUMPY_SCALARS:
        shown = value.item()
        if type(shown) in (bool, int, float) or (type(shown) is str and _cell(shown) == shown):
            return shown
    return None


def _label(key: object) -> str:
    """Return a key as a part of a column's name."""
    return str(_cell(key)) if type(key) is str else PREFIX + dump_json(encode(key))


def _undeclared(name: object, parse: Parse) -> str:
    """Return the name of a value that no metric is declared for, so that it reads as none."""
    label = _label(name)
    looks_declared = _metric(label, parse) is not None
    return PREFIX + dump_json([encode(name)]) if looks_declared or label != name else label


def _shown(error: BaseException) -> str:
    try:
        text = f"{type(error).__qualname__}: {error}"
    except Exception:
        text = type(error).__qualname__
    return text.encode(errors="backslashreplace").decode()


def _place(label: str) -> int:
    return _PLACES[label if label in _PLACES else label[: label.index(":") + 1]]


# ------------------------------------------------------------------------------------- frames


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a dataframe of rows that ``write_row`` returned; its columns keep what is missing."""
    pd = require("pandas", extra="history", purpose="history.df()")
    always = [column for column in _COLUMNS if not column.endswith(":")]
    always += [f"time:{name}" for name in TIMING] + ["exception:json"]
    labels = sorted(dict.fromkeys([*(label for row in rows for label in row), *always]), key=_place)
    return pd.DataFrame({label: _column(pd, label, rows) for label in labels})


def _column(pd: Any, label: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    cells = [row.get(label) for row in rows]
    present = [cell for cell in cells if cell is not None]
    kind = _dtype(present) if present else list(_COLUMNS.values())[_place(label)]
    if kind == "object":
        cells = [pd.NA if cell is None else cell for cell in cells]
    return pd.array(cells, dtype=kind)


def _dtype(cells: list[Any]) -> str:
    """Return what pandas is to keep cells as: never as something that they are not."""
    kinds = {type(cell) for cell in cells}
    if len(kinds) > 1:
        return "object"
    if kinds != {int}:
        return {bool: "boolean", float: "Float64", str: "string"}[kinds.pop()]
    least, most = min(cells), max(cells)
    if least in _INT64 and most in _INT64:
        return "Int64"
    return "UInt64" if least in _UINT64 and most in _UINT64 else "object"


# ---------------------------------------------------------------------------------- from rows


@reading("a row")
def read_row(row: Mapping[str, Any], parse: Parse, *, unpickle: bool) -> Parts:
    """Take a row apart.

    Args:
        row: What ``write_row`` returned, or a row of a dataframe.
        parse: Makes the metrics.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    cells = {label: _plain(cell) for label, cell in row.items() if not _is_missing(cell)}
    exact = json.loads(cells.pop("exact", f"{PREFIX}{{}}").removeprefix(PREFIX))
    for label, record in exact.items():
        value = decode(record, unpickle=unpickle)
        near = _near(value)
        # A cell that somebody has changed since is right.
        if cells[label] == near if label in cells else near != near:  # noqa: PLR0124 - NaN
            cells[label] = _Exactly(value)
    values = {
        label: cell.value if isinstance(cell, _Exactly) else _value(cell, unpickle=unpickle)
        for label, cell in cells.items()
    }
    declared = _declared(values.get("metrics"), row, parse)
    trial: dict[str, Any] = {
        attribute: _group(values, group, unpickle=unpickle) for group, attribute in _GROUPS.items()
    }
    trial.update({name: values.get(name) for name in ("seed", "n_told")})
    return Parts(
        status=values["status"],
        trial={
            **trial,
            "name": values["name"],
            "storage": _storage(values.get("storage")),
            "metrics": declared,
        },
        metrics=_metrics(values, declared),
        time=_time(values),
        plain={
            "exception": values.get("exception:json"),
            **{name: values.get(name) for name in _CELLS},
        },
    )


@dataclass(frozen=True, slots=True)
class _Exactly:
    value: Any


def _is_missing(cell: Any) -> bool:
    return (
        cell is None
        or type(cell).__name__ in ("NAType", "NaTType")
        or (isinstance(cell, float) and math.isnan(cell))
    )


def _plain(cell: Any) -> Any:
    """Return a cell as what was written: pandas hands out numpy's numbers."""
    return cell.item() if type(cell).__module__ == "numpy" else cell


def _value(cell: Any, *, unpickle: bool) -> Any:
    if isinstance(cell, str) and cell.startswith(PREFIX):
        return decode(json.loads(cell.removeprefix(PREFIX)), unpickle=unpickle)
    return cell


def _group(values: dict[str, Any], group: str, *, unpickle: bool) -> dict[Any, Any]:
    start = f"{group}:"
    return {
        _value(label.removeprefix(start), unpickle=unpickle): value
        for label, value in values.items()
        if label.startswith(start)
    }


def _metrics(values: dict[str, Any], declared: Iterable[Declared]) -> dict[Any, float]:
    names: dict[str, Any] = {f"metric:{_label(str(metric))}": metric.name for metric in declared}
    found = {}
    for label, value in values.items():
        if label.startswith("metric:"):
            key = _value(label.removeprefix("metric:"), unpickle=False)
            found[names.get(label, key[0] if isinstance(key, list) else key)] = value
    return found


def _declared(
    texts: list[str] | None, row: Mapping[str, Any], parse: Parse
) -> tuple[Declared, ...]:
    """Return the declared metrics: those of its own cell, or where it is gone, of the columns."""
    if texts is not None:
        return tuple(map(parse, texts))
    labels = [label for label in row.keys() if label.startswith("metric:")]  # noqa: SIM118 - or a Series
    found = [_metric(label.removeprefix("metric:"), parse) for label in labels]
    return tuple(metric for metric in found if metric is not None)


def _metric(text: str, parse: Parse) -> Declared | None:
    try:
        return parse(text)
    except ValueError:
        return None


def _time(values: dict[str, Any]) -> dict[str, float] | None:
    found = [f"time:{name}" in values for name in TIMING]
    if not any(found):
        return None
    if not all(found):
        message = f"a row with only some of {', '.join(f'time:{n}' for n in TIMING)} cannot be read"
        raise HistoryError(message)
    return {name: values[f"time:{name}"] for name in TIMING}


def _storage(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value
