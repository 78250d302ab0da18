"""Measures one call in the worker, and never fails it.

::

    Measured ─▶ Meter.start ─▶ the function ─▶ Meter.stop ─▶ a row of the file, and deliver
                    └──────── what fails: _failure, which logs it once ───────┘
"""

from __future__ import annotations

import logging
import os
import reprlib
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk._optional import require
from amltk.channel.notes import send_note
from amltk.plugins._alone import Alone
from amltk.plugins._rows import append_row
from amltk.scheduling.plugin import Wrapped

if TYPE_CHECKING:
    from amltk.channel.ticket import Ticket

#: At most so many characters of the arguments are told.
ARGUMENTS_KEPT = 200

_log = logging.getLogger("amltk.plugins.emissions")

_alone = Alone("EmissionsTracker")

_reprs = reprlib.Repr()
_reprs.maxother = _reprs.maxstring = 60


@dataclass(frozen=True, slots=True)
class CallEmissions:
    """What a call took, as codecarbon estimates it."""

    #: The task's name.
    task: str
    #: The call's arguments, shortened.
    arguments: str
    #: When it started, in UTC, as ISO 8601.
    started: str
    #: How long the function ran.
    duration_s: float
    #: Energy of processors, memory and GPUs together.
    energy_kwh: float
    #: Energy of the processors.
    cpu_kwh: float
    #: Energy of the memory.
    ram_kwh: float
    #: Energy of the GPUs.
    gpu_kwh: float
    #: Emissions, in kilograms of carbon dioxide or what has the same effect.
    emissions_kg: float
    #: The country whose electricity is meant.
    country_iso_code: str
    #: What was measured, ``"process"`` or ``"machine"``.
    tracking_mode: str
    #: Where it ran.
    host: str
    #: The process that it ran in.
    pid: int
    #: What the call raised, or ``None``.
    error: str | None


def deliver(measured: CallEmissions) -> None:
    """Log what a call took, where nobody listens.

    Args:
        measured: The figures.
    """
    _log.info("%s", measured)


@dataclass(frozen=True, slots=True)
class Meter:
    """What the worker has to know to measure."""

    task: str
    country_iso_code: str
    region: str | None
    tracking_mode: str
    folder: Path | None

    def start(self) -> Any:
        """Return a tracker of codecarbon that has started."""
        package = codecarbon()
        # It says hello in the log before it has heard how much it may say.
        logging.getLogger("codecarbon").setLevel(logging.ERROR)
        tracker = package.OfflineEmissionsTracker(
            country_iso_code=self.country_iso_code,
            region=self.region,
            tracking_mode=self.tracking_mode,
            log_level="error",
            output_dir=tempfile.gettempdir(),  # has to be there, nothing is written
            # A file or environment variables of the user could make it talk to servers.
            output_methods=[],
            emissions_endpoint=None,
            electricitymaps_api_token="",
            cloud_provider=None,
            allow_multiple_runs=True,
        )
        tracker.start()
        return tracker

    def stop(self, tracker: Any) -> Any:
        """Stop the tracker and return its figures."""
        tracker.stop()
        figures = getattr(tracker, "final_emissions_data", None)
        if figures is None:  # it keeps its exceptions to itself
            message = (
                "codecarbon has no figures and does not say why; try its OfflineEmissionsTracker "
                'alone, with log_level="warning"'
            )
            raise RuntimeError(message)
        return figures

    def tell(self, figures: Any, call: _Call, deliver: Callable[[CallEmissions], object]) -> None:
        """Pass the figures on."""
        measured = CallEmissions(
            task=self.task,
            arguments=call.arguments(),
            started=call.started.isoformat(timespec="milliseconds"),
            duration_s=call.duration_s,
            energy_kwh=figures.energy_consumed,
            cpu_kwh=figures.cpu_energy,
            ram_kwh=figures.ram_energy,
            gpu_kwh=figures.gpu_energy,
            emissions_kg=figures.emissions,
            country_iso_code=self.country_iso_code,
            tracking_mode=self.tracking_mode,
            host=socket.gethostname(),
            pid=os.getpid(),
            error=call.error,
        )
        if self.folder is not None:
            append_row(self.folder, "emissions", measured)
        deliver(measured)


class _Call:
    """One call, timed while it runs."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._args = args
        self._kwargs = kwargs
        self.error: str | None = None
        self.started = datetime.now(UTC)
        self.duration_s = 0.0

    def run(self, fn: Callable[..., Any]) -> Any:
        """Call the function."""
        self.started, begun_s = datetime.now(UTC), time.perf_counter()
        try:
            return fn(*self._args, **self._kwargs)
        except BaseException as error:
            self.error = type(error).__qualname__
            raise
        finally:
            self.duration_s = time.perf_counter() - begun_s

    def arguments(self) -> str:
        """Show the arguments in short."""
        parts = [_reprs.repr(value) for value in self._args]
        parts += [f"{name}={_reprs.repr(value)}" for name, value in self._kwargs.items()]
        text = ", ".join(parts)
        return text if len(text) <= ARGUMENTS_KEPT else f"{text[: ARGUMENTS_KEPT - 3]}..."


class Measured(Wrapped):
    """A function that is measured where it runs."""

    def __init__(self, fn: Callable[..., Any], meter: Meter) -> None:
        super().__init__(fn)
        self._meter = meter

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.measure(deliver, args, kwargs)

    def measure(
        self,
        deliver: Callable[[CallEmissions], object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call the function and pass on what it took."""
        if not _alone.enter():
            _failure.tell("another call runs in a thread of the same process, which counts both")
            return self.fn(*args, **kwargs)
        try:
            return self._measure_alone(deliver, _Call(args, kwargs))
        finally:
            _alone.leave()

    def _measure_alone(self, deliver: Callable[[CallEmissions], object], call: _Call) -> Any:
        tracker = _failure.guard(self._meter.start)
        try:
            return call.run(self.fn)
        finally:
            figures = None if tracker is None else _failure.guard(self._meter.stop, tracker)
            if figures is not None:
                _failure.guard(self._meter.tell, figures, call, deliver)


class MeasuredAndNoted(Measured):
    """A function that is measured where it runs, and whose figures go to the driver."""

    def __call__(self, ticket: Ticket, /, *args: Any, **kwargs: Any) -> Any:
        return self.measure(partial(send_note, ticket), args, kwargs)


class _Failure:
    """Hears of what fails in measuring, and logs it once in a process."""

    def __init__(self) -> None:
        self._told = False

    def guard(self, step: Callable[..., Any], *args: Any) -> Any:
        """Take a step, or tell of what it raised and return ``None``."""
        try:
            return step(*args)
        except Exception as error:
            self.tell(error)
            return None

    def tell(self, why: object) -> None:
        """Log why there are no figures."""
        if not self._told:
            self._told = True
            _log.warning(
                "the emissions of a call could not be measured, which is said once for the "
                "process %s: %s",
                os.getpid(),
                why,
                exc_info=why if isinstance(why, Exception) else None,
            )


_failure = _Failure()


def codecarbon() -> Any:
    """Return the package.

    Raises:
        MissingExtraError: When it is not installed.
    """
    return require("codecarbon", extra="emissions", purpose="EmissionsTracker")
