"""Tracks trials, calls and the scheduler in Weights & Biases.

::

    WandbPlugin ── trial_tracker() ──▶ in the worker: one run for each trial
                ── task_tracker() ───▶ in the worker: one run for each call
                ── scheduler_tracker(scheduler) ──▶ in the driver: one run for each scheduler.run()

A run is opened and finished in the process that the call runs in. What such a process cannot
write any more, since it was killed for instance, the driver writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from amltk._optional import require
from amltk.exceptions import InvalidOptionError
from amltk.plugins._wandb.background import Background
from amltk.plugins._wandb.calls import Tracked, TrialLike
from amltk.plugins._wandb.run import GuardedRun
from amltk.plugins._wandb.scheduler import SchedulerTracker
from amltk.plugins._wandb.settings import (
    Plan,
    RunSettings,
    folder_of,
    mode_of,
    seconds_of,
    tags_of,
    text_of,
)
from amltk.plugins._wandb.trackers import TaskTracker, TrialTracker, new_id

if TYPE_CHECKING:
    from amltk.scheduling.scheduler import Scheduler

__all__ = [
    "GuardedRun",
    "SchedulerTracker",
    "TaskTracker",
    "Tracked",
    "TrialLike",
    "TrialTracker",
    "WandbPlugin",
]


class WandbPlugin:
    """Makes plugins that track in Weights & Biases; the settings are the same for all of them.

    A wandb that is absent, slow or dead fails no call, and delays each by ``init_timeout``,
    ``call_timeout`` and ``finish_timeout`` at most.

    Args:
        project: The project of the runs.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``; as the environment variable
            ``WANDB_MODE`` or else wandb's own settings say by default, which means online.
        dir: The folder of the runs' files, in which wandb makes a folder ``wandb``; by default
            ``WANDB_DIR`` or the current folder. Workers on other machines use the same path.
        entity: The user or team that the project belongs to.
        group: What the runs are grouped by; the name of the task by default.
        tags: Tags of all runs.
        stats: Whether wandb measures the machine while a run lasts.
        metadata: Whether wandb notes machine, packages and git commit for each trial and call,
            which makes opening a run several times as slow. The scheduler's run has them always.
        init_timeout: How many seconds a call waits at most for its run to be opened.
        call_timeout: How many seconds a call waits at most for all that it does with its run
            together, not counting what takes no longer than a tenth of a second.
        finish_timeout: How many seconds a call waits at most for its run to be finished.

    Raises:
        InvalidOptionError: When an option makes no sense, or the folder cannot be written to.
        MissingExtraError: When wandb is not installed.
    """

    def __init__(
        self,
        project: str,
        *,
        mode: str | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - as wandb calls it
        entity: str | None = None,
        group: str | None = None,
        tags: Iterable[str] = (),
        stats: bool = False,
        metadata: bool = False,
        init_timeout: float = 10.0,
        call_timeout: float = 10.0,
        finish_timeout: float = 30.0,
    ) -> None:
        require("wandb", extra="wandb", purpose="WandbPlugin")
        if not isinstance(project, str) or text_of("project", project) is None:
            message = f"project={project!r} is not possible; give the name of a project"
            raise InvalidOptionError(message, option="project", value=project)
        asked = mode_of(mode)
        #: What all runs have in common.
        self.settings: RunSettings = RunSettings(
            project=project,
            mode=asked,
            dir=folder_of(dir, check=asked != "disabled"),
            entity=text_of("entity", entity),
            group=text_of("group", group),
            tags=tags_of(tags),
            stats=bool(stats),
            metadata=bool(metadata),
            init_timeout=seconds_of("init_timeout", init_timeout),
            call_timeout=seconds_of("call_timeout", call_timeout),
            finish_timeout=seconds_of("finish_timeout", finish_timeout),
        )
        self._background = Background()
        self._others: list[Background] = []

    def trial_tracker(self) -> TrialTracker:
        """Return a plugin for a task whose function is given a trial first.

        The function finds the run at ``trial.plugins["wandb"]``.
        """
        return TrialTracker(self.settings, self._background)

    def task_tracker(self) -> TaskTracker:
        """Return a plugin for any task: it tracks arguments, duration and outcome of each call."""
        return TaskTracker(self.settings, self._background)

    def scheduler_tracker(self, scheduler: Scheduler, *, every_s: float = 1.0) -> SchedulerTracker:
        """Track the counts of a scheduler: one run for each of its runs, in this process.

        Args:
            scheduler: The scheduler; its loop never waits for wandb.
            every_s: How many seconds there are at least between two rows.

        Returns:
            The tracker, which can be detached.

        Raises:
            InvalidOptionError: When ``every_s`` is not a number of seconds.
        """
        settings = replace(self.settings, metadata=True)
        background = Background()
        self._others.append(background)

        def plan() -> Plan:
            group = settings.group or scheduler.event_manager.name
            return Plan(new_id(), f"{group} {time.strftime('%H:%M:%S')}", group, "scheduler")

        every = seconds_of("every_s", every_s)
        return SchedulerTracker(scheduler, settings, plan, every_s=every, background=background)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until this process has written what the driver writes.

        That are the runs of schedulers, and of calls whose workers could not. The end of a
        scheduler's run does not wait for it; the end of the process does.

        Args:
            timeout: How many seconds at most; a minute by default.

        Returns:
            Whether all is written.
        """
        deadline = time.monotonic() + (60.0 if timeout is None else seconds_of("timeout", timeout))
        return all(each.wait(deadline) for each in (self._background, *self._others))
