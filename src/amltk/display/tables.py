"""Snapshots as tables of rich."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from amltk.scheduling.snapshot import SchedulerSnapshot, TaskSnapshot


def merge_by_name(tasks: Iterable[TaskSnapshot]) -> list[TaskSnapshot]:
    """Add up the counts of tasks with the same name, such as a task and its batches."""
    merged: dict[str, TaskSnapshot] = {}
    for task in tasks:
        known = merged.get(task.name)
        merged[task.name] = task if known is None else _sum(known, task)
    return list(merged.values())


def _sum(one: TaskSnapshot, other: TaskSnapshot) -> TaskSnapshot:
    return replace(
        one,
        submitted=one.submitted + other.submitted,
        running=one.running + other.running,
        returned=one.returned + other.returned,
        failed=one.failed + other.failed,
        cancelled=one.cancelled + other.cancelled,
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast calls end, in calls per second, by the task's name."""

    per_s: dict[str, float]

    @classmethod
    def between(cls, before: SchedulerSnapshot | None, now: SchedulerSnapshot) -> Rates:
        """Compute the rates between two snapshots; since the start of the run without one."""
        seconds = now.elapsed_s - (before.elapsed_s if before is not None else 0.0)
        earlier = {} if before is None else _ended(before)
        if seconds <= 0:
            return cls({})
        return cls({n: (e - earlier.get(n, 0)) / seconds for n, e in _ended(now).items()})


def _ended(snapshot: SchedulerSnapshot) -> dict[str, int]:
    tasks = merge_by_name(snapshot.tasks)
    return {task.name: task.returned + task.failed + task.cancelled for task in tasks}


def task_table(snapshot: SchedulerSnapshot, rates: Rates) -> Table:
    """Draw the counts of all tasks.

    Args:
        snapshot: What to draw.
        rates: How fast calls end.

    Returns:
        A table with one row for each task.
    """
    table = Table(title=headline(snapshot), title_justify="left", expand=False)
    table.add_column("task")
    for column in ("submitted", "running", "returned", "failed", "cancelled", "per second"):
        table.add_column(column, justify="right")
    for task in merge_by_name(snapshot.tasks):
        table.add_row(
            Text(task.name),  # as it is: brackets in it are no markup
            str(task.submitted),
            str(task.running),
            str(task.returned),
            f"[red]{task.failed}[/red]" if task.failed else "0",
            f"[yellow]{task.cancelled}[/yellow]" if task.cancelled else "0",
            f"{rates.per_s.get(task.name, 0.0):.1f}",
        )
    return table


def headline(snapshot: SchedulerSnapshot) -> str:
    """Say in one line how the run is doing."""
    parts = [snapshot.phase, f"{_clock_time(snapshot.elapsed_s)} elapsed"]
    if snapshot.remaining_s is not None:
        parts.append(f"{_clock_time(snapshot.remaining_s)} left")
    parts.append(f"{snapshot.n_running} running")
    return " · ".join(parts)


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
