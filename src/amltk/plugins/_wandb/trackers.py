"""The plugins of tasks: what the driver does about a call whose run is in a worker."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from amltk.exceptions import InvalidOptionError
from amltk.plugins._wandb.background import Background
from amltk.plugins._wandb.calls import (
    KEY,
    PLAN,
    Ending,
    TaskCall,
    Tracked,
    TrialCall,
    TrialLike,
    conclude,
    config_of_call,
    config_of_trial,
    ending_of_cancel,
    ending_of_error,
    ending_of_report,
    is_noted,
    trial_of,
)
from amltk.plugins._wandb.guard import RETRY_AFTER_S, attempt, reports
from amltk.plugins._wandb.opening import was_opened
from amltk.plugins._wandb.run import open_run
from amltk.plugins._wandb.settings import Plan, RunSettings
from amltk.plugins._wandb.values import short_repr
from amltk.scheduling.plugin import Layer, WorkerPlugin

if TYPE_CHECKING:
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugin import PlannedCall

#: After so many trials in a row whose workers had no wandb, others do not try it for a while: where
#: each call has a process of its own, none remembers what another has met.
MAX_IN_VAIN = 3

#: A call as the driver remembers it: its plan and the arguments that it was given.
_Remembered = tuple[Plan, tuple[Any, ...], dict[str, Any]]


def new_id() -> str:
    """Return an id that no other run has."""
    return secrets.token_hex(6)


class _Tracker(WorkerPlugin):
    """Tracks the calls of a task.

    Args:
        settings: How runs are opened.
        background: Who writes what workers cannot.
    """

    layer: ClassVar[Layer] = Layer.FUNCTION

    #: What keys of the summary begin with, and wandb's type of the run.
    kind: ClassVar[str] = "call"

    def __init__(self, settings: RunSettings, background: Background) -> None:
        self.settings = settings
        self._background = background
        self._numbers = itertools.count()
        self._planned: _Remembered | None = None
        self._calls: dict[Future[Any], _Remembered] = {}

    def copy(self) -> Self:
        """Return a tracker with the same settings."""
        return type(self)(self.settings, self._background)

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Plan the run of a call, and send the plan along."""
        task_name = "task" if self.task is None else self.task.name
        plan = Plan(
            id=new_id(),
            name=self.name_of(task_name, args, kwargs),
            group=self.settings.group or task_name,
            job_type=self.kind,
            n_args=len(args),
            names=tuple(kwargs),
            problem=self.problem(),
        )
        self._planned = plan, args, kwargs
        planned = super().pre_submit(fn, *args, **kwargs)
        return planned and (planned[0], args, {**kwargs, PLAN: plan})

    def submitted(self, future: Future[Any]) -> None:
        """Remember the call, for the case that its worker cannot finish its run."""
        if self._planned is not None and not self.settings.is_disabled:
            self._calls[future] = self._planned

    def ended(self, future: Future[Any]) -> None:
        """See to it that the call has a run, as soon as is known what became of it."""
        remembered = self._calls.pop(future, None)
        if remembered is not None:
            future.add_done_callback(partial(self._over, remembered))

    def name_of(self, task_name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the name of a call's run."""
        del args, kwargs
        return f"{task_name} {next(self._numbers)}"

    def problem(self) -> str | None:
        """Tell why the workers are not to try it, if they are not."""
        return None

    def config_of(self, remembered: _Remembered) -> dict[str, Any]:
        """Return what a call's run is configured with."""
        raise NotImplementedError

    def returned(self, remembered: _Remembered, result: Any) -> None:
        """Look at what a call returned."""

    def write(self, remembered: _Remembered, ending: Callable[[], Ending]) -> None:
        """Write the run of a call in this process, some time soon."""
        self._background.add(partial(self._write, remembered, ending))

    def _over(self, remembered: _Remembered, future: Future[Any]) -> None:
        if future.cancelled():
            self._background.add(partial(self._write_cancelled, remembered))
            return
        error = future.exception()
        if error is None:
            attempt(partial(self.returned, remembered, future.result()), otherwise=None)
        elif not is_noted(error, remembered[0].id):
            self.write(remembered, partial(ending_of_error, self.kind, error))

    def _write_cancelled(self, remembered: _Remembered) -> None:
        # Nobody tells whether a call had started; but then its run has left files.
        if was_opened(self.settings, remembered[0]):
            self._write(remembered, partial(ending_of_cancel, self.kind))

    def _write(self, remembered: _Remembered, ending: Callable[[], Ending]) -> None:
        plan = replace(remembered[0], problem=None)  # which was one of the workers'
        run = open_run(self.settings, plan, partial(self.config_of, remembered), again=True)
        run.config["written_by"] = "driver"
        conclude(run, ending)


class TrialTracker(_Tracker):
    """Tracks each trial; made by ``WandbPlugin.trial_tracker``."""

    name: ClassVar[str] = "wandb-trials"
    kind: ClassVar[str] = "trial"

    _n_in_vain = 0
    _problem: str | None = None
    _resumes_at = 0.0

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a run around it."""
        return TrialCall(fn, self.settings)

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Plan the run of a trial.

        Raises:
            InvalidOptionError: When the call is given something else than a trial.
        """
        trial = trial_of(args, kwargs)
        if not isinstance(trial, TrialLike) or not isinstance(trial.plugins, MutableMapping):
            message = (
                f"{short_repr(trial)[:80]} is no trial, so that it cannot be tracked as one; give "
                f"the trial first, or track calls with WandbPlugin.task_tracker()"
            )
            raise InvalidOptionError(message, option="trial", value=trial)
        return super().pre_submit(fn, *args, **kwargs)

    def name_of(self, task_name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the name of the trial."""
        del task_name
        return str(trial_of(args, kwargs).name)

    def config_of(self, remembered: _Remembered) -> dict[str, Any]:
        """Return the configuration of the trial."""
        return config_of_trial(trial_of(*remembered[1:]))

    def problem(self) -> str | None:
        """Tell why the workers are not to try it, if trial after trial came back without a run."""
        return self._problem if time.monotonic() < self._resumes_at else None

    def returned(self, remembered: _Remembered, result: Any) -> None:
        """Write the run if the worker could not, which it has left word of."""
        trial = getattr(result, "trial", None) or trial_of(*remembered[1:])
        tracked = trial.plugins.get(KEY)
        if not isinstance(tracked, Tracked):
            return
        if not tracked.complete:
            reports.failed(f"in a worker: {tracked.problem}")
            self.write(remembered, partial(ending_of_report, result))
        if remembered[0].problem is None:
            self._n_in_vain = 0 if tracked.complete else self._n_in_vain + 1
            if self._n_in_vain >= MAX_IN_VAIN:
                self._problem = tracked.problem
                self._resumes_at = time.monotonic() + RETRY_AFTER_S


class TaskTracker(_Tracker):
    """Tracks each call of a task; made by ``WandbPlugin.task_tracker``."""

    name: ClassVar[str] = "wandb-calls"

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a run around it."""
        return TaskCall(fn, self.settings)

    def config_of(self, remembered: _Remembered) -> dict[str, Any]:
        """Return the arguments of the call."""
        plan, args, kwargs = remembered
        function: Callable[..., Any] = dict if self.task is None else self.task.function
        return config_of_call(function, plan, args, kwargs)
