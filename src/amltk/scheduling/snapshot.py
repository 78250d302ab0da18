"""What a scheduler and its tasks look like at one moment, for those who draw or record it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSnapshot:
    """Counts of one task since it was made."""

    name: str
    submitted: int
    running: int
    returned: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSnapshot:
    """A scheduler at one moment."""

    #: ``"idle"``, ``"running"`` or ``"finishing"``.
    phase: str
    #: Seconds since the run started, 0.0 when no run is on.
    elapsed_s: float
    #: Seconds until the timeout, ``None`` when there is none.
    remaining_s: float | None
    #: Calls of this run that have not ended.
    n_running: int
    #: One entry for each task, in the order in which they were made.
    tasks: tuple[TaskSnapshot, ...]
