"""Starts the batch systems that the tests run on, and stops them again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "engines"

#: Each has a script that stops it. Airflow is started and stopped by the tests themselves.
SYSTEMS = ("slurm", "sge", "condor", "oar")


@contextmanager
def started_engines(python: Path) -> Iterator[None]:
    """Have all batch systems up, and Airflow installed for a Python, while this lasts."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        sys.exit("--all-engines installs and starts batch systems: run it as root, on Debian 12")
    # Ended from outside, they are stopped too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        print("starting the batch systems …", flush=True)
        environment = {**os.environ, "AIRFLOW_PYTHON": str(python)}
        subprocess.run([FOLDER / "all-up"], env=environment, check=True)
        yield
    finally:
        for system in SYSTEMS:
            subprocess.run([FOLDER / f"{system}-down"], check=False)
