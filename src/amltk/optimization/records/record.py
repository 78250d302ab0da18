"""Reports as what JSON can hold, and back without loss.

::

    report ── write_report ──▶ dict ──▶ a line of a .jsonl, a cell of a .parquet
    parts ◀── read_report ───       ◀──
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from amltk.exceptions import HistoryError
from amltk.optimization.records.codec import decode, encode, encode_mapping
from amltk.optimization.records.parts import (
    PLAIN,
    TIMING,
    Declared,
    Parts,
    Reported,
    Tried,
    reading,
)
from amltk.optimization.records.pickled import Pickled

__all__ = [
    "VERSION",
    "Pickled",
    "check_version",
    "read_report",
    "read_trial",
    "write_report",
    "write_trial",
]

#: Of the dicts that are written here. A reader reads those of its own version and before.
VERSION = 1

#: Makes a metric: it is given the name, ``minimize=`` and ``bounds=``.
Declare: TypeAlias = Callable[..., Declared]

_MAPPINGS = ("config", "fidelities", "info", "summary", "plugins")


def write_report(report: Reported) -> dict[str, Any]:
    """Return all of a report as what JSON can hold."""
    return {
        "version": VERSION,
        "status": report.status.value,
        "trial": write_trial(report.trial),
        "metrics": encode_mapping(report.metrics),
        "time": None
        if report.time is None
        else {name: encode(getattr(report.time, name)) for name in TIMING},
        **{name: encode(getattr(report, name)) for name in PLAIN},
    }


@reading("a report")
def read_report(values: Mapping[str, Any], declare: Declare, *, unpickle: bool) -> Parts:
    """Take apart what ``write_report`` returned.

    Args:
        values: What it returned.
        declare: Makes the metrics.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    check_version(values["version"])
    time = values["time"]
    if time is not None:
        time = {name: decode(time[name], unpickle=unpickle) for name in TIMING}
    return Parts(
        status=values["status"],
        time=time,
        plain={name: decode(values[name], unpickle=unpickle) for name in PLAIN},
        trial=read_trial(values["trial"], declare, unpickle=unpickle),
        metrics=_mapping(values, "metrics", unpickle=unpickle),
    )


def write_trial(trial: Tried) -> dict[str, Any]:
    """Return all of a trial as what JSON can hold."""
    return {
        "name": encode(trial.name),
        "metrics": [
            {
                "name": encode(metric.name),
                "minimize": metric.minimize,
                "bounds": None if metric.bounds is None else encode(list(metric.bounds)),
            }
            for metric in trial.metrics
        ],
        **{name: encode_mapping(getattr(trial, name)) for name in _MAPPINGS},
        **{name: encode(getattr(trial, name)) for name in ("seed", "n_told", "storage")},
    }


@reading("a trial")
def read_trial(values: Mapping[str, Any], declare: Declare, *, unpickle: bool) -> dict[str, Any]:
    """Take apart what ``write_trial`` returned, by the names of a trial's fields.

    Args:
        values: What it returned.
        declare: Makes the metrics.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    metrics = [
        declare(
            decode(each["name"]),
            minimize=each["minimize"],
            bounds=None if each["bounds"] is None else tuple(decode(each["bounds"])),
        )
        for each in values["metrics"]
    ]
    return {
        **{name: _mapping(values, name, unpickle=unpickle) for name in _MAPPINGS},
        "name": decode(values["name"]),
        "metrics": tuple(metrics),
        "seed": decode(values["seed"], unpickle=unpickle),
        "n_told": decode(values["n_told"], unpickle=unpickle),
        "storage": decode(values["storage"], unpickle=unpickle),
    }


def check_version(version: object) -> None:
    """Refuse what a newer amltk has written.

    Raises:
        HistoryError: When it is newer, or no version at all.
    """
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        message = (
            f"a record of version {version!r:.200} cannot be read, only up to version {VERSION}; "
            f"if a newer amltk has written it, update this one"
        )
        raise HistoryError(message, version=version)


def _mapping(values: Mapping[str, Any], name: str, *, unpickle: bool) -> dict[Any, Any]:
    found = decode(values[name], unpickle=unpickle)
    if not isinstance(found, dict):
        message = f"{name!r} has to be a mapping, and is {found!r:.200}"
        raise HistoryError(message, part=name)
    return found
