"""Starts the batch systems that the tests run on, and stops them again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "engines"

#: Each has a script that installs and starts it, and one that stops it. Airflow is started by the
#: tests themselves.
SYSTEMS = ("slurm", "sge", "condor", "oar")


@contextmanager
def started_engines() -> Iterator[None]:
    """Have all batch systems up while this lasts."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        sys.exit("--all-engines installs and starts batch systems: run it as root, on Debian 12")
    try:
        for system in SYSTEMS:
            print(f"starting {system} …", flush=True)
            subprocess.run([FOLDER / f"{system}-up"], check=True)
        yield
    finally:
        for system in SYSTEMS:
            subprocess.run([FOLDER / f"{system}-down"], check=False)
