"""What runs around a call, in its worker; and the same for calls whose workers cannot.

::

    worker   open ──▶ trial.plugins["wandb"] ──▶ the function ──▶ report or exception ──▶ finish
    driver   of a call that did not get that far: open, report or exception, finish
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

from amltk._errors import add_note, notes_of
from amltk._signatures import signature_of
from amltk._words import text_of
from amltk.plugins._wandb.guard import attempt, describe
from amltk.plugins._wandb.run import GuardedRun, open_run
from amltk.plugins._wandb.settings import Plan, RunSettings
from amltk.plugins._wandb.values import flat, plain, short
from amltk.scheduling.plugin import Wrapped

#: The keyword under which a plan travels beside a call's arguments.
PLAN = "_amltk_wandb_plan"

#: Where a trial keeps its run.
KEY = "wandb"


@runtime_checkable
class TrialLike(Protocol):
    """What a trial has to have."""

    name: str
    config: Mapping[str, Any]
    plugins: MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tracked:
    """What stays at ``trial.plugins["wandb"]`` when a trial comes back from its worker."""

    #: The run's id.
    id: str
    #: Whether wandb has all of the run.
    complete: bool
    #: Why not.
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended, as its run tells it."""

    status: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    #: Logged as a row, so that wandb draws it; wandb puts it into the summary too.
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The exit code of the run."""
        return 0 if self.status in ("success", "returned") else 1


class _TrackedCall(Wrapped):
    """Opens a run for each call; subclasses say of what.

    Args:
        fn: The function.
        settings: How runs are opened.
    """

    def __init__(self, fn: Callable[..., Any], settings: RunSettings) -> None:
        super().__init__(fn)
        self.settings = settings


class TrialCall(_TrackedCall):
    """Tracks each call as a trial."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with a run at ``trial.plugins["wandb"]``."""
        plan: Plan = kwargs.pop(PLAN)
        trial = trial_of(args, kwargs)
        run = open_run(self.settings, plan, partial(config_of_trial, trial))
        trial.plugins[KEY] = run
        begun = time.monotonic()
        try:
            report = self.fn(*args, **kwargs)
        except BaseException as error:
            trial.plugins.pop(KEY, None)
            conclude(run, partial(ending_of_error, "trial", error, begun), error)
            raise
        complete = conclude(run, partial(ending_of_report, report, begun))
        _leave_word(trial, report, Tracked(plan.id, complete, run.problem))
        return report


class TaskCall(_TrackedCall):
    """Tracks each call of any function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        plan: Plan = kwargs.pop(PLAN)
        run = open_run(self.settings, plan, partial(config_of_call, self.fn, plan, args, kwargs))
        begun = time.monotonic()
        try:
            result = self.fn(*args, **kwargs)
        except BaseException as error:
            conclude(run, partial(ending_of_error, "call", error, begun), error)
            raise
        conclude(run, partial(ending_of_result, result, begun))
        return result


# ------------------------------------------------------------------------- before a call


def trial_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the trial of a call: its first argument, or the one called ``trial``."""
    return args[0] if args else kwargs.get("trial")


def config_of_trial(trial: Any) -> dict[str, Any]:
    """Return what the run of a trial is configured with."""
    config = flat(trial.config)
    config["trial/name"] = str(trial.name)
    for name in ("seed", "fidelities", "info"):
        value = getattr(trial, name, None)
        if isinstance(value, Mapping):
            config.update(flat(value, f"trial/{name}/"))
        elif value is not None:
            config[f"trial/{name}"] = plain(value)
    return config


def config_of_call(
    fn: Callable[..., Any], plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by their parameters' names."""
    given = args[: plan.n_args]
    named = {name: kwargs[name] for name in plan.names if name in kwargs}
    while isinstance(fn, Wrapped):
        fn = fn.fn
    try:
        bound: Mapping[str, Any] = signature_of(fn).bind(*given, **named).arguments
    except (TypeError, ValueError):  # no signature, or not one for these arguments
        bound = {**{f"args{i}": value for i, value in enumerate(given)}, **named}
    return flat(bound)


# -------------------------------------------------------------------------- after a call


def conclude(
    run: GuardedRun, ending: Callable[[], Ending], error: BaseException | None = None
) -> bool:
    """Finish a run, and note its id on the error that ended the call.

    Returns:
        Whether wandb has all of it.
    """
    end = attempt(ending, otherwise=Ending("unknown"))
    complete = run._conclude(end.summary, row=end.row, code=end.code)
    if complete and error is not None:
        add_note(error, note_of(run.id))  # one that takes none is tracked by the driver
    return complete


def note_of(run_id: str) -> str:
    """Return what is noted on an error whose run is complete."""
    return f"tracked in Weights & Biases as run {run_id}"


def is_noted(error: BaseException, run_id: str) -> bool:
    """Tell whether the worker has noted that the run of this error is complete."""
    note = note_of(run_id)
    texts = [*notes_of(error), text_of(error.__cause__ or "")]
    return any(note in text_of(text) for text in (*texts, getattr(error, "traceback_text", "")))


def ending_of_error(kind: str, error: BaseException, begun: float | None = None) -> Ending:
    """Tell how a call ended that raised, or whose worker died.

    Args:
        kind: ``"trial"`` or ``"call"``, which the keys begin with.
        error: What it raised.
        begun: When it began, by the monotonic clock; ``None`` if nobody knows.
    """
    status = "crashed" if kind == "trial" else "raised"
    summary = {
        f"{kind}/status": status,
        f"{kind}/exception": type(error).__qualname__,
        f"{kind}/message": short(describe(error)),
    }
    return Ending(status, {**summary, **_duration(kind, begun)})


def ending_of_cancel(kind: str) -> Ending:
    """Tell how a call ended that was cancelled while it ran."""
    return Ending("cancelled", {f"{kind}/status": "cancelled"})


def ending_of_result(result: Any, begun: float | None = None) -> Ending:
    """Tell how a call ended that returned; a result is kept if it is a number or a text."""
    summary = {"call/status": "returned", **_duration("call", begun)}
    value = plain(result)
    if isinstance(value, bool | int | float) or isinstance(result, str):
        summary["call/result"] = value
    return Ending("returned", summary)


def ending_of_report(report: Any, begun: float | None = None) -> Ending:
    """Tell how a trial ended: by its report, or whatever else its function returned."""
    given = getattr(report, "status", None)
    status = str(getattr(given, "value", given) or "success")
    metrics = flat(getattr(report, "metrics", None))
    trial = getattr(report, "trial", None)
    summary = {**flat(getattr(trial, "summary", None)), "trial/status": status}
    summary |= flat(getattr(report, "time", None), "trial/time/")
    for name in ("peak_memory_mb", "worker"):
        value = getattr(report, name, None)
        if value is not None:
            summary[f"trial/{name}"] = plain(value)
    exception = getattr(report, "exception", None)
    if exception is not None:
        summary["trial/exception"] = type(exception).__qualname__
        summary["trial/message"] = short(describe(exception))
    text = getattr(report, "traceback", None)
    if text:
        summary["trial/traceback"] = short(str(text))
    return Ending(status, {**summary, **_duration("trial", begun)}, metrics)


def _duration(kind: str, begun: float | None) -> dict[str, float]:
    return {} if begun is None else {f"{kind}/duration_s": time.monotonic() - begun}


def _leave_word(trial: Any, report: Any, tracked: Tracked) -> None:
    """Put into the trial that travels back what became of its run, in the place of the run."""
    for each in (trial, getattr(report, "trial", None)):
        with suppress(Exception):  # a report with another idea of a trial: nothing to be told
            if each is not None:
                each.plugins[KEY] = tracked
