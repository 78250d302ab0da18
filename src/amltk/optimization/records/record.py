"""Reports as what JSON can hold, and back without loss.

::

    Report ── report_to_dict ──▶ dict ──▶ a line of a .jsonl, a cell of a .parquet
           ◀─ report_from_dict ─      ◀──
           ── report_to_row ───▶ one level, a row of history.df()
           ◀─ report_from_row ──
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from amltk.exceptions import HistoryError, RemoteError
from amltk.optimization.records.codec import decode, encode, encode_mapping
from amltk.optimization.records.pickled import Pickled
from amltk.optimization.records.rows import TIMING, read_row, write_row
from amltk.optimization.trials.measure import Timing
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import CrashReport, FailReport, Report, SuccessReport
from amltk.optimization.trials.trial import Trial

__all__ = [
    "VERSION",
    "Pickled",
    "check_version",
    "report_from_dict",
    "report_from_row",
    "report_to_dict",
    "report_to_row",
    "trial_from_dict",
    "trial_to_dict",
]

#: Of the dicts that are written here. A reader reads those of its own version and before.
VERSION = 1

_KINDS: dict[object, type[Report]] = {
    kind.status.value: kind for kind in (SuccessReport, FailReport, CrashReport)
}
#: What is kept of a report, beside its trial, metrics and time.
_PLAIN = (
    "peak_memory_mb",
    "worker",
    "exception",
    "traceback",
    "submitted_at",
    "reported_at",
)
_MAPPINGS = ("config", "fidelities", "info", "summary", "plugins")


def report_to_dict(report: Report) -> dict[str, Any]:
    """Return all of a report as what JSON can hold."""
    return {
        "version": VERSION,
        "status": report.status.value,
        "trial": trial_to_dict(report.trial),
        "metrics": encode_mapping(report.metrics),
        "time": None
        if report.time is None
        else {name: encode(getattr(report.time, name)) for name in TIMING},
        **{name: encode(getattr(report, name)) for name in _PLAIN},
    }


def report_from_dict(values: Mapping[str, Any], *, unpickle: bool = False) -> Report:
    """Make a report of what ``report_to_dict`` returned.

    Args:
        values: What it returned.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    with _reading("a report"):
        check_version(values["version"])
        kind = _KINDS.get(values["status"])
        if kind is None:
            message = (
                f"a report with status {values['status']!r:.200} cannot be read; it has to be one "
                f"of: {', '.join(map(str, _KINDS))}"
            )
            raise HistoryError(message, status=values["status"])
        time = values["time"]
        if time is not None:
            time = Timing(**{name: decode(time[name], unpickle=unpickle) for name in TIMING})
        plain = {name: decode(values[name], unpickle=unpickle) for name in _PLAIN}
        return _report(
            kind,
            plain,
            trial=trial_from_dict(values["trial"], unpickle=unpickle),
            metrics=_mapping(values, "metrics", unpickle=unpickle),
            time=time,
        )


def _report(kind: type[Report], plain: dict[str, Any], **others: Any) -> Report:
    error = plain["exception"]
    if error is not None and not isinstance(error, BaseException):
        message = f"a report's exception cannot be {error!r:.200}"
        raise HistoryError(message)
    if isinstance(error, RemoteError) and not error.traceback_text:
        error.traceback_text = plain["traceback"] or ""  # it is not kept twice
    return kind(**plain, **others)


def trial_to_dict(trial: Trial) -> dict[str, Any]:
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


def trial_from_dict(values: Mapping[str, Any], *, unpickle: bool = False) -> Trial:
    """Make a trial of what ``trial_to_dict`` returned.

    Args:
        values: What it returned.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    with _reading("a trial"):
        metrics = [
            Metric(
                decode(each["name"]),
                minimize=each["minimize"],
                bounds=None if each["bounds"] is None else tuple(decode(each["bounds"])),
            )
            for each in values["metrics"]
        ]
        mappings = {name: _mapping(values, name, unpickle=unpickle) for name in _MAPPINGS}
        return Trial(
            decode(values["name"]),
            mappings.pop("config"),
            metrics=tuple(metrics),
            seed=decode(values["seed"], unpickle=unpickle),
            n_told=decode(values["n_told"], unpickle=unpickle),
            storage=decode(values["storage"], unpickle=unpickle),
            **mappings,
        )


def report_to_row(report: Report) -> dict[str, Any]:
    """Return all of a report in one level: numbers, texts and ``None`` by column."""
    return write_row(report)


def report_from_row(row: Mapping[str, Any], *, unpickle: bool = False) -> Report:
    """Make a report of a row, be it what ``report_to_row`` returned or one of ``history.df()``.

    Args:
        row: The row.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    with _reading("a row"):
        found = read_row(row, unpickle=unpickle)
        kind = _KINDS.get(found.status)
        if kind is None:
            message = f"a row with status {found.status!r:.200} cannot be read"
            raise HistoryError(message, status=found.status)
        trial = Trial(**found.trial)
        return _report(kind, found.report, trial=trial, metrics=found.metrics, time=found.time)


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


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever a broken record brings about into one kind of error."""
    try:
        yield
    except HistoryError:
        raise
    except KeyError as error:
        message = f"{what} cannot be read, since {error} is missing in it"
        raise HistoryError(message) from error
    except ImportError:  # tells what to install
        raise
    except Exception as error:
        message = f"{what} cannot be read: {type(error).__name__}: {error}"
        raise HistoryError(message) from error
