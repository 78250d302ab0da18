"""What reports are made of, for what writes and reads them.

::

    Report ── as Reported ──▶ record, rows ──▶ dict, row
           ◀──── Parts ────── record, rows ◀──

The classes of trials and reports are not known here: what is written has what ``Reported`` names,
and whoever has something read makes a report of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from amltk.exceptions import HistoryError

#: What is kept of a report's time.
TIMING = ("started_at", "ended_at", "wall_s", "cpu_s")
#: What is kept of a report, beside its status, trial, metrics and time.
PLAIN = (
    "peak_memory_mb",
    "worker",
    "exception",
    "traceback",
    "submitted_at",
    "reported_at",
)


class Declared(Protocol):
    """What a trial is measured by; its ``str`` is a text of which it can be made again."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def minimize(self) -> bool:
        """Whether less is better."""
        ...

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the most that it can be."""
        ...


class Tried(Protocol):
    """A trial that is written; see ``Trial`` for what each is."""

    name: str
    config: Mapping[str, Any]
    fidelities: Mapping[str, float]
    info: Mapping[str, Any]
    summary: dict[str, Any]
    plugins: dict[str, Any]
    seed: int | None
    n_told: int | None
    storage: Path | None

    @property
    def metrics(self) -> Sequence[Declared]:
        """What it is measured by."""
        ...


class Reported(Protocol):
    """A report that is written; see ``Report`` for what each is."""

    #: A member of an enum.
    status: ClassVar[Any]
    metrics: dict[str, float]
    peak_memory_mb: float | None
    worker: str | None
    exception: BaseException | None
    traceback: str | None
    submitted_at: float | None
    reported_at: float | None

    @property
    def trial(self) -> Tried:
        """The trial."""
        ...

    @property
    def time(self) -> object:
        """What has the parts of a time, or ``None``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What was read of a report."""

    #: The value of its status.
    status: object
    #: What its trial is made of, by name; see ``Tried``.
    trial: dict[str, Any]
    #: What came out.
    metrics: dict[str, float]
    #: The parts of its time, by name, or ``None`` if nothing is known of it.
    time: dict[str, float] | None
    #: The rest, by name; see ``PLAIN``.
    plain: dict[str, Any]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a broken record brings about into one kind of error.

    Raises:
        HistoryError: When the block raises anything but what tells what to install.
    """
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
