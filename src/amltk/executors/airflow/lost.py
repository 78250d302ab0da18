"""What to say of a task that Airflow has ended and that left no outcome."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amltk.exceptions import ExecutorError, WorkerDiedError
from amltk.executors.airflow.api import AirflowApi, RefusedError, UnreachableError

_SIGNAL = re.compile(r"\bSIG[A-Z]{3,}\b")


def lost_call(
    api: AirflowApi, name: str, run_id: str, task: Mapping[str, Any] | None
) -> WorkerDiedError:
    """Make the error of a call that had begun.

    Args:
        api: To ask for the task's log.
        name: Of the function.
        run_id: The call's run.
        task: What Airflow knows of the task; ``None`` if the run was deleted.
    """
    state = "deleted" if task is None else task["state"]
    lines = trouble_lines(api, run_id, task)
    told = "; ".join(lines)[:1000] or "its log tells no reason"
    message = (
        f"the task that ran {name} ended without an outcome, as {state} ({told}); the call may "
        f"have run in part. Its run in Airflow is {run_id}"
    )
    signal = _SIGNAL.search(told)
    facts = {"pid": None, "exit_code": None, "signal_name": signal and signal.group()}
    return WorkerDiedError(message, run_id=run_id, state=state, log_lines=lines, **facts)


def unstarted_call(name: str, lines: list[str], n_triggers: int, most: int) -> ExecutorError | None:
    """Make the error of a call that never began; ``None`` if it may be triggered again.

    Args:
        name: Of the function.
        lines: What the task's log tells.
        n_triggers: How often it was triggered.
        most: How often that may be.
    """
    refused = next((line for line in lines if "amltk: " in line), None)
    if refused is not None:
        return ExecutorError(f"Airflow's worker refused to run {name}: {refused}")
    if n_triggers < most:
        return None
    told = "; ".join(lines)[:1000] or "the task's log tells no reason"
    message = (
        f"Airflow gave {name} up {most} times before it started ({told}); are there free slots, and "
        f"workers that can start? See also scheduler.task_queued_timeout of Airflow"
    )
    return ExecutorError(message)


def trouble_lines(api: AirflowApi, run_id: str, task: Mapping[str, Any] | None) -> list[str]:
    """Return the lines of a task's log that tell of trouble."""
    if task is None or task.get("start_date") is None:
        return []
    try:
        return api.log_lines(run_id, task.get("try_number") or 1)
    except (RefusedError, UnreachableError) as error:
        return [f"its log cannot be read: {error}"]
