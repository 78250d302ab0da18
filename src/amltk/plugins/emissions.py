"""Measures the energy that each call takes, and what that emits.

::

    in the worker, for each call
    codecarbon's tracker starts ─▶ the function ─▶ it stops ─▶ a line of the file
                                                          └──▶ MEASURED, in the driver

What fails in measuring is logged by the worker, once, and never fails a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from amltk._optional import require
from amltk.channel.notes import NotePlugin
from amltk.events import Event
from amltk.exceptions import InvalidOptionError
from amltk.plugins import _meter
from amltk.plugins._meter import (
    CallEmissions,
    Measured,
    MeasuredAndNoted,
    Meter,
    codecarbon,
)
from amltk.scheduling.plugin import Layer, refuse_engine

if TYPE_CHECKING:
    from amltk.scheduling.future import Future
    from amltk.scheduling.task import Task

__all__ = ["CallEmissions", "EmissionsTracker"]

#: What is measured: the call's process and its children, or the whole machine.
TrackingMode = Literal["process", "machine"]


class EmissionsTracker(NotePlugin):
    """Measure energy and emissions of each call, without any network.

    Args:
        country_iso_code: The country whose electricity is used, by three capital letters, such as
            ``"DEU"``; how much a kilowatt-hour emits depends on it.
        region: A part of the country, where codecarbon knows more of it, such as ``"california"``.
        tracking_mode: ``"process"`` counts the processor time of the call's process and its
            children, ``"machine"`` all that the machine does meanwhile.
        output_dir: A folder in which each call becomes a line of ``emissions-<host>.jsonl``; made
            if it is not there.
        **channel: Where the driver listens for the figures; see ``Comm.Plugin``. With an
            ``output_dir`` and workers that cannot reach it, the file is all there is.

    Raises:
        InvalidOptionError: When codecarbon does not know the country, or an option makes no sense.
        MissingExtraError: When codecarbon is not installed.
    """

    name: ClassVar[str] = "emissions"
    layer: ClassVar[Layer] = Layer.SURROUNDINGS

    #: A call was measured; before its ``DONE``.
    MEASURED: ClassVar[Event[Future[Any], CallEmissions]] = Event("emissions-measured")

    def __init__(
        self,
        country_iso_code: str,
        *,
        region: str | None = None,
        tracking_mode: TrackingMode = "process",
        output_dir: str | Path | None = None,
        **channel: Any,
    ) -> None:
        super().__init__(**channel)
        codecarbon()
        _check_country(country_iso_code)
        if region is not None and (not isinstance(region, str) or not region):
            message = f"region={region!r} is not possible; give its name, or None"
            raise InvalidOptionError(message, option="region", value=region)
        if tracking_mode not in get_args(TrackingMode):
            message = (
                f"tracking_mode={tracking_mode!r} is not possible; give 'process' or 'machine'"
            )
            raise InvalidOptionError(message, option="tracking_mode", value=tracking_mode)
        self.country_iso_code = country_iso_code
        self.region = region
        self.tracking_mode: TrackingMode = tracking_mode
        self.output_dir: Path | None = None if output_dir is None else _made_folder(output_dir)

    def attach_task(self, task: Task[..., Any]) -> None:
        """Refuse a task whose calls share a process.

        Raises:
            InvalidOptionError: When the engine runs calls in threads, or its workers have nowhere
                to leave their figures.
        """
        self.uses_channel: bool = self.output_dir is None or self.can_reach(task)
        super().attach_task(task)
        if task.scheduler.traits.runs_in_threads:
            why = (
                "energy is measured for a whole process at the least, and this engine runs calls "
                "in threads of one process, so that each call would be charged for all others; use "
                "an engine with worker processes, such as Scheduler.with_processes"
            )
            raise refuse_engine(self, task, why)

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Put the measuring around the function."""
        meter = Meter(
            task="" if self.task is None else self.task.name,
            country_iso_code=self.country_iso_code,
            region=self.region,
            tracking_mode=self.tracking_mode,
            folder=self.output_dir,
        )
        with_channel = self.uses_channel and self.task is not None
        return (MeasuredAndNoted if with_channel else Measured)(fn, meter)

    def noted(self, future: Future[Any], note: Any) -> None:
        """Tell what a call took."""
        if not self.emit_note(self.MEASURED, future, note):
            _meter.deliver(note)

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return (self.MEASURED,)

    def settings(self) -> dict[str, Any]:
        """Return the options, to make another tracker with them."""
        mine = {
            "country_iso_code": self.country_iso_code,
            "region": self.region,
            "tracking_mode": self.tracking_mode,
            "output_dir": self.output_dir,
        }
        return {**super().settings(), **mine}


def _check_country(code: object) -> None:
    known = require("codecarbon.input", extra="emissions", purpose="EmissionsTracker")
    countries = known.DataSource().get_global_energy_mix_data()
    if not isinstance(code, str) or code not in countries:
        message = (
            f"country_iso_code={code!r} is not possible: codecarbon has no figures for it; give "
            f"the three capital letters of the country whose electricity is used, such as 'DEU'"
        )
        raise InvalidOptionError(message, option="country_iso_code", value=code)


def _made_folder(output_dir: str | Path) -> Path:
    try:
        folder = Path(output_dir).absolute()  # workers may be elsewhere
        folder.mkdir(parents=True, exist_ok=True)
    except (TypeError, OSError) as error:
        message = f"output_dir={output_dir!r} cannot be used as a folder: {error}; give another one"
        raise InvalidOptionError(message, option="output_dir", value=output_dir) from error
    return folder
