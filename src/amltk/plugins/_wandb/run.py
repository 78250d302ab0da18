"""A run of Weights & Biases whose failures are nobody else's.

::

    open_run ──▶ GuardedRun ── attempt ──▶ CallThread ──▶ wandb's run
                     │ wandb failed once
                     ▼
                 nothing is tracked any more; the same calls go on, to no effect
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, Self

from amltk.plugins._wandb.guard import CallThread, Nothing, TooSlowError, attempt, reports
from amltk.plugins._wandb.opening import finish_late, init_run, is_misuse
from amltk.plugins._wandb.settings import Plan, RunSettings
from amltk.plugins._wandb.values import nan_as_text

#: A use of the run that takes no longer costs nothing of the time that a call waits for wandb.
FREE_S = 0.1


class GuardedRun:
    """The run of one call, for the function.

    It has whatever a run of wandb has. When wandb does not work all of it is still there, does
    nothing and returns ``None`` or something empty, so that the function needs no ``if``.

    Args:
        settings: How runs are opened.
        plan: Which one this is.
    """

    def __init__(self, settings: RunSettings, plan: Plan) -> None:
        self._settings = settings
        self._plan = plan
        self._run: Any = None
        self._thread = CallThread()
        self._patience_s = settings.call_timeout
        self._problem: str | None = None
        self._is_over = False
        self._config = _Mirror(self, "config")
        self._summary = _Mirror(self, "summary")

    # ------------------------------------------------------------------- for the function

    @property
    def id(self) -> str:
        """The run's id."""
        return self._plan.id

    @property
    def is_tracking(self) -> bool:
        """Whether what is logged gets anywhere."""
        return self._run is not None

    @property
    def problem(self) -> str | None:
        """Why nothing is tracked although it should be."""
        return self._problem

    @property
    def config(self) -> _Mirror:
        """The run's configuration."""
        return self._config

    @property
    def summary(self) -> _Mirror:
        """The run's summary: what was set here, or else the last value that was logged."""
        return self._summary

    def log(self, data: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Log a row; see ``wandb.Run.log``.

        Args:
            data: Values by name.
            *args: Passed on to wandb.
            **kwargs: Passed on to wandb, such as ``step``.
        """
        if isinstance(data, Mapping):
            self._summary._values.update(data)
        self._use("log", lambda run: run.log(data, *args, **kwargs), None)

    def finish(self, *_args: object, **_kwargs: object) -> None:
        """Do nothing: the run is finished when the function has returned."""

    def __enter__(self) -> Self:
        """Return the run, which outlives the block."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Do nothing: the run is finished when the function has returned."""

    def __getattr__(self, name: str) -> Any:
        """Return what wandb's run has under this name, guarded."""
        if name.startswith("_"):
            raise AttributeError(name)
        otherwise = self._known().get(name, _NOTHING)
        value = self._use(name, lambda run: getattr(run, name), otherwise)
        if not callable(value) or isinstance(value, Nothing):
            return value

        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._use(name, lambda _run: value(*args, **kwargs), _NOTHING)

        return guarded

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of wandb's run, such as ``notes``."""
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._use(name, lambda run: setattr(run, name, value), None)

    def __repr__(self) -> str:
        """Show which run it is, and whether it is tracked."""
        state = "tracking" if self.is_tracking else "not tracking"
        return f"<run {self._plan.name!r} ({self._plan.id}), {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive in another process as a run that tracks nothing."""
        return GuardedRun, (self._settings, self._plan)

    # --------------------------------------------------------------------- for the tracker

    def _open(self, config: Mapping[str, Any], *, again: bool = False) -> None:
        """Open the run, or go on without."""
        self._config._values.update(config)
        if self._settings.is_disabled:
            return
        self._problem = self._plan.problem or reports.problem_with(self._settings)
        if self._problem is not None:
            return
        init = partial(
            init_run,
            self._settings,
            self._plan,
            config,
            again=again,
            is_wanted=lambda: self._problem is None,
        )
        opening = self._thread.start(init)
        try:
            run = self._thread.wait(opening, timeout_s=self._settings.init_timeout)
        except Exception as error:  # reported; the call goes on without a run
            self._problem = reports.failed(error, settings=self._settings)
            self._thread.start(lambda: finish_late(opening))
            self._thread.end()
        else:
            self._run = run

    def _conclude(self, summary: Mapping[str, Any], *, row: Mapping[str, Any], code: int) -> bool:
        """Log the last row, fill the summary in and finish the run.

        Returns:
            Whether wandb has all of it; ``True`` as well where nothing is to be tracked.
        """
        self._is_over = True
        run, self._run = self._run, None
        if run is None:
            return self._settings.is_disabled

        def finish() -> None:
            try:
                if row:
                    run.log(dict(row))
                run.summary.update(nan_as_text(dict(summary)))
            finally:
                run.finish(exit_code=code)

        try:
            self._thread.call(finish, timeout_s=self._settings.finish_timeout)
        except TooSlowError as error:  # reported; what hangs now would hang for the next one too
            self._problem = reports.failed(error, settings=self._settings)
        except Exception as error:  # reported
            self._problem = reports.failed(error)
        finally:
            self._thread.end()
        return self._problem is None

    # ------------------------------------------------------------------------------ inside

    def _use(self, what: str, use: Callable[[Any], Any], otherwise: Any) -> Any:
        """Do something with the run; if that fails, return something else."""
        run = self._run
        if run is None:
            return otherwise
        begun = time.monotonic()
        try:
            return self._thread.call(lambda: use(run), timeout_s=self._patience_s + FREE_S)
        except AttributeError as error:
            reports.misused(what, error)  # such as a misspelt name
        except (TypeError, ValueError) as error:
            reports.misused(what, error)
        except TooSlowError as error:
            # Where all of the patience was not enough, it would not be for the next run either.
            hangs = self._patience_s >= self._settings.call_timeout
            self._give_up(run, reports.failed(error, settings=self._settings if hangs else None))
        except Exception as error:  # reported
            if is_misuse(error):
                reports.misused(what, error)
            else:
                self._give_up(run, reports.failed(error))
        finally:
            self._patience_s -= max(0.0, time.monotonic() - begun - FREE_S)
            if self._patience_s <= 0 and self._run is not None:
                slow = f"its answers took {self._settings.call_timeout:.0f} s altogether"
                self._give_up(run, reports.failed(slow))
        return otherwise

    def _give_up(self, run: Any, problem: str) -> None:
        """Track nothing any more; what there is of the run is finished when wandb gets to it."""
        self._run, self._problem = None, problem
        self._thread.start(lambda: run.finish(exit_code=1))
        self._thread.end()

    def _known(self) -> dict[str, Any]:
        """Return what plain attributes are when wandb does not tell."""
        settings, plan = self._settings, self._plan
        return {
            "name": plan.name,
            "group": plan.group,
            "job_type": plan.job_type,
            "project": settings.project,
            "entity": settings.entity or "",
            "tags": settings.tags,
            "notes": None,
            "url": None,
            "step": 0,
            "dir": settings.dir,
        }


class _Mirror(MutableMapping[str, Any]):
    """A mapping of a run that can be read whether wandb works or not.

    Args:
        owner: Whose it is.
        which: ``"config"`` or ``"summary"``.
    """

    def __init__(self, owner: GuardedRun, which: str) -> None:
        self._owner = owner
        self._which = which
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        which = self._which
        self._owner._use(which, lambda run: getattr(run, which).__delitem__(key), None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return f"{self._which} {self._values!r}"

    def update(self, *args: Any, **values: Any) -> None:
        """Set several values; options of wandb's, such as ``allow_val_change``, are passed on."""
        allow = {name: values.pop(name) for name in ("allow_val_change",) if name in values}
        new = dict(*args, **values)
        self._values.update(new)
        which = self._which
        self._owner._use(
            f"{which}.update", lambda run: getattr(run, which).update(new, **allow), None
        )


_NOTHING = Nothing()


def open_run(
    settings: RunSettings,
    plan: Plan,
    config: Callable[[], Mapping[str, Any]],
    *,
    again: bool = False,
) -> GuardedRun:
    """Open a run in this process; whatever goes wrong, there is something to log to.

    Args:
        settings: How runs are opened.
        plan: Which one.
        config: Makes its configuration.
        again: Whether it may have been opened before, by a worker that is gone.
    """
    run = GuardedRun(settings, plan)
    run._open({} if settings.is_disabled else attempt(config, otherwise={}), again=again)
    return run
