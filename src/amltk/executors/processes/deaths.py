"""What is said of a call whose worker process has died, by pools of any kind."""

from __future__ import annotations

import signal
from contextlib import suppress

from amltk.exceptions import WorkerDiedError


def death_of(pid: int, exit_code: int | None, name: str, *, n_readers: int = 0) -> WorkerDiedError:
    """Make the error of a call whose worker process has died.

    Args:
        pid: The process.
        exit_code: Its exit code, negative for a signal, or ``None`` where it is not known.
        name: What the call is called.
        n_readers: How many workers have died one after the other before they had read the call, if
            it has not run at all.
    """
    signal_name = None
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            signal_name = signal.Signals(-exit_code).name
    how = f"killed by {signal_name}" if signal_name else f"with exit code {exit_code}"
    hint = {
        "SIGKILL": "; on Linux that is often the system running out of memory",
        "SIGSEGV": "; that is a crash in compiled code that the call uses",
    }.get(signal_name or "", "")
    message = (
        f"worker process {pid} ended ({how}) while it ran {name}{hint}. Other calls go on; this one "
        f"may have run in part and is not run again by itself"
    )
    if n_readers:
        message = (
            f"{n_readers} worker processes in a row ended before they had read the call of {name}, the "
            f"last one, {pid}, {how}{hint}. Is there memory for its arguments? The call has not run"
        )
    return WorkerDiedError(message, pid=pid, exit_code=exit_code, signal_name=signal_name)
