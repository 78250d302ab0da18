"""What the scripts share: a virtual environment of the project's own, made when it is missing.

``AMLTK_VENV`` names another folder for it, ``PYTHON`` another interpreter to make it with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def prepare(*extras: str) -> Path:
    """Return the environment's Python, with amltk and the extras installed."""
    extra = ",".join(extras)
    environment = Path(os.environ.get("AMLTK_VENV", ROOT / ".venv"))
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    if not python.exists():
        interpreter = os.environ.get("PYTHON", sys.executable)
        check_version(interpreter)
        print(f"making the environment {environment} …", flush=True)
        run(interpreter, "-m", "venv", environment)
    # Installed again only when what is to be installed has changed.
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = environment / f"amltk-{'-'.join(extras)}.stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing amltk[{extra}]; this takes a minute or two …", flush=True)
        run(python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{extra}]")
        stamp.write_text(wanted)
    return python


def check_version(interpreter: str) -> None:
    """Leave with a message if an interpreter is too old."""
    if shutil.which(interpreter) is None:
        sys.exit(f"there is no {interpreter!r}; set PYTHON to a Python from {OLDEST} on")
    code = "import sys; print(*sys.version_info[:2])"
    said = subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True)
    if tuple(map(int, said.stdout.split())) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        sys.exit(f"{interpreter} is Python {said.stdout.strip()}; amltk needs {needed} or newer")


def run(*command: str | Path) -> None:
    """Run a command in the project's folder and leave with its exit code if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)
