"""Opening a run of wandb in this process; all of it may hang, and is called by the guard alone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from amltk.plugins._wandb.settings import Plan, RunSettings
from amltk.plugins._wandb.values import nan_as_text

#: The variable by which wandb hands its service on to child processes.
_SERVICE = "WANDB_SERVICE"


def was_opened(settings: RunSettings, plan: Plan) -> bool:
    """Tell whether a run has left files in the folder, as far as this machine sees them."""
    return any(Path(settings.dir, "wandb").glob(f"*run-*-{plan.id}*"))


def init_run(
    settings: RunSettings,
    plan: Plan,
    config: Mapping[str, Any],
    *,
    again: bool,
    is_wanted: Callable[[], bool],
) -> Any:
    """Open a run; in the thread of the run.

    Args:
        settings: How runs are opened.
        plan: Which one.
        config: Its configuration.
        again: Whether it may have been opened before, by a worker that is gone.
        is_wanted: Tells whether somebody still waits for it.
    """
    _leave_service_of_others(settings)
    wandb = importlib.import_module("wandb")
    # Without this wandb would ask for a key where there is a terminal, and wait for the answer.
    wandb.setup(wandb.Settings(silent=True))
    arguments = settings.init_arguments(wandb.Settings.model_fields)
    if again and settings.mode != "offline":
        arguments["resume"] = "allow"  # keep what the worker has sent

    def init() -> Any:
        return wandb.init(
            id=plan.id,
            name=plan.name,
            group=plan.group,
            job_type=plan.job_type,
            config=nan_as_text(dict(config)),
            **arguments,
        )

    try:
        return init()
    except (wandb.Error, TypeError, ValueError):
        raise
    except Exception:  # as when its service died; if that was not it, it is raised once more
        if not is_wanted():
            raise
        with suppress(Exception, SystemExit):
            wandb.teardown()
        return init()


def _leave_service_of_others(settings: RunSettings) -> None:
    """Have wandb start a service for this process, instead of using that of the driver.

    A service that is killed, or ends with the driver, would take the runs of all workers along.
    """
    pid = str(os.getpid())
    if pid != str(settings.driver_pid) and pid not in os.environ.get(_SERVICE, "").split("-")[1:2]:
        os.environ.pop(_SERVICE, None)


def finish_late(opening: Future[Any]) -> None:
    """Finish a run that nobody waited for; in the thread of the run, after it was opened."""
    if opening.exception() is None:
        opening.result().finish(exit_code=1)


def is_misuse(error: Exception) -> bool:
    """Tell whether wandb says that it was the call that was wrong."""
    wandb = importlib.import_module("wandb")
    return isinstance(error, wandb.errors.UsageError | wandb.sdk.lib.config_util.ConfigError)
