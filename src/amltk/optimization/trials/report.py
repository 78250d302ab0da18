"""What became of a trial."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from amltk.exceptions import HistoryError, RemoteError, RemoteTraceback
from amltk.executors.travel.envelope import pack_exception, unpack_outcome
from amltk.optimization.trials.measure import Timing
from amltk.optimization.trials.metric import Metric

if TYPE_CHECKING:
    from amltk.optimization.records.parts import Parts
    from amltk.optimization.trials.trial import Trial


class Status(enum.Enum):
    """How a trial ended."""

    #: It has its metrics.
    SUCCESS = "success"
    #: It came to an end, and its result is of no use.
    FAIL = "fail"
    #: It raised, or its worker died.
    CRASHED = "crashed"


@dataclass(kw_only=True)
class Report:
    """What became of a trial: one of ``SuccessReport``, ``FailReport`` and ``CrashReport``.

    Made by ``trial.success``, ``trial.fail`` and ``trial.crashed``, or by ``Trial.Task`` for a
    trial whose function or worker did not come that far.
    """

    #: How the trial ended.
    status: ClassVar[Status]

    #: The trial.
    trial: Trial
    #: What it is measured by.
    metrics: dict[str, float] = field(default_factory=dict)
    #: When it ran and how long; ``None`` if its worker could not tell.
    time: Timing | None = None
    #: The most memory that its process had in use meanwhile, in MB, where it is known.
    peak_memory_mb: float | None = None
    #: The host, process and thread where it ran.
    worker: str | None = None
    #: What it raised, or what became of its worker. Not compared, since an exception is equal to
    #: nothing but itself, not even to what arrives of it elsewhere.
    exception: BaseException | None = field(default=None, compare=False)
    #: The exception's traceback, as text.
    traceback: str | None = None
    #: When it was sent off, in seconds since 1970, by the driver's clock.
    submitted_at: float | None = None
    #: When the driver had this report, in seconds since 1970, by the driver's clock.
    reported_at: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the exception in a parcel of its own, so that it cannot spoil the rest."""
        if self.exception is None:
            return self.__dict__
        return {**self.__dict__, "exception": _Parcel.of(self.exception)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive with the exception, or where it cannot be made here, one that has its text."""
        self.__dict__.update(state)
        parcel: object = self.exception
        if isinstance(parcel, _Parcel):
            self.exception = parcel.open(self.traceback)

    @property
    def name(self) -> str:
        """The trial's name."""
        return self.trial.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The trial's configuration."""
        return self.trial.config

    def loss(self, metric: Metric) -> float:
        """Return the value of a metric such that less is better; the worst possible without one."""
        return metric.loss(self.metrics.get(metric.name, metric.worst_possible))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold; ``from_dict`` makes an equal report of it."""
        from amltk.optimization.records.record import write_report

        return write_report(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any], *, unpickle: bool = False) -> Report:
        """Make a report of what ``to_dict`` returned.

        Args:
            values: What it returned.
            unpickle: Whether values that JSON could not hold, and exceptions that are neither
                builtin nor ours, are unpickled, which runs whatever code they name: only
                for what you trust.

        Raises:
            HistoryError: When it cannot be read.
        """
        from amltk.optimization.records.record import read_report

        return _made_of(read_report(values, Metric, unpickle=unpickle), "a report")

    def to_row(self) -> dict[str, Any]:
        """Return all of it in one level, such as a row of a dataframe: ``"config:lr"`` and so on."""
        from amltk.optimization.records.rows import write_row

        return write_row(self, Metric.parse)

    @staticmethod
    def from_row(row: Mapping[str, Any], *, unpickle: bool = False) -> Report:
        """Make a report of a row, be it what ``to_row`` returned or one of ``history.df()``.

        Args:
            row: The row.
            unpickle: See ``from_dict``.

        Raises:
            HistoryError: When it cannot be read.
        """
        from amltk.optimization.records.rows import read_row

        return _made_of(read_row(row, Metric.parse, unpickle=unpickle), "a row")


@dataclass(kw_only=True)
class SuccessReport(Report):
    """A trial that has its metrics."""

    status: ClassVar[Status] = Status.SUCCESS


@dataclass(kw_only=True)
class FailReport(Report):
    """A trial that came to an end, and whose result is of no use."""

    status: ClassVar[Status] = Status.FAIL


@dataclass(kw_only=True)
class CrashReport(Report):
    """A trial that raised, or whose worker died; ``exception`` is the cause."""

    status: ClassVar[Status] = Status.CRASHED


_KINDS: dict[str, type[Report]] = {
    kind.status.value: kind for kind in (SuccessReport, FailReport, CrashReport)
}


def _made_of(parts: Parts, what: str) -> Report:
    """Make a report of what was read."""
    from amltk.optimization.trials.trial import Trial

    kind = _KINDS.get(parts.status) if isinstance(parts.status, str) else None
    if kind is None:
        message = (
            f"{what} with status {parts.status!r:.200} cannot be read; it has to be one of: "
            f"{', '.join(_KINDS)}"
        )
        raise HistoryError(message, status=parts.status)
    error = parts.plain["exception"]
    if error is not None and not isinstance(error, BaseException):
        message = f"a report's exception cannot be {error!r:.200}"
        raise HistoryError(message)
    if isinstance(error, RemoteError) and not error.traceback_text:
        error.traceback_text = parts.plain["traceback"] or ""  # it is not kept twice
    trial = Trial(**parts.trial)
    time = None if parts.time is None else Timing(**parts.time)
    return kind(trial=trial, metrics=parts.metrics, time=time, **parts.plain)


@dataclass(frozen=True, slots=True)
class _Parcel:
    """An exception that travels, with what can be told of it where it cannot be unpacked."""

    payload: bytes
    kind: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> _Parcel:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        try:
            message = str(error)[:500]
        except Exception:  # the exception's own fault
            message = "an exception that has no text"
        return cls(pack_exception(error), kind, message)

    def open(self, text: str | None) -> BaseException:
        error: BaseException = unpack_outcome(self.payload)[1]
        if isinstance(error.__cause__, RemoteTraceback):  # which only one that was unpacked has
            return error
        message = (
            f"the trial raised {self.kind}: {self.message} (which cannot be made here: "
            f"{error.__cause__})"
        )
        return RemoteError(message, type_name=self.kind, traceback_text=text or "")
