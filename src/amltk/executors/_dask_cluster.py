"""A Dask cluster of this machine, in a process of its own beside the driver's.

::

    driver ── options, then nothing more ──▶ stdin │ this process: Dask's scheduler and nannies
    driver ◀── address, or what went wrong ─ stdout │     └── worker processes

It is not started inside the driver since Dask starts workers by importing the driver's main module
again, so that scripts without ``if __name__ == "__main__":`` would start themselves over and over.
It ends when the driver closes the pipe or is gone, however that came. It has a session of its own,
so that Ctrl-C is the driver's affair.
"""

from __future__ import annotations

import pickle
import signal
import sys
import traceback
from typing import Any


def serve(options: dict[str, Any]) -> None:
    """Run a cluster until stdin is closed.

    Args:
        options: Of ``distributed.LocalCluster``.
    """
    import dask
    from distributed import LocalCluster

    # A worker gets a call when it is free for it, and no other ahead.
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
        LocalCluster(**options) as cluster,  # type: ignore[no-untyped-call] # Dask's
    ):
        _tell(True, cluster.scheduler_address)
        sys.stdin.buffer.read()


def _tell(started: bool, what: str) -> None:  # noqa: FBT001 - the first part of the answer
    sys.stdout.buffer.write(pickle.dumps((started, what)))
    sys.stdout.buffer.flush()


def main() -> None:
    """Read the options and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        options = pickle.load(sys.stdin.buffer)
        serve(options)
    except BaseException:
        _tell(False, traceback.format_exc())
        raise
