"""What the scripts share: a virtual environment of the project's own, made when it is missing.

``AMLTK_VENV`` names another folder for it, ``PYTHON`` another interpreter to make it with. Where uv
is on the path it does the work, in a tenth of the time; otherwise venv and pip do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def prepare(*extras: str) -> Path:
    """Return the environment's Python, with amltk and the extras installed."""
    environment = ROOT / os.environ.get("AMLTK_VENV", ".venv")  # absolute, or in this folder
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    environment.parent.mkdir(parents=True, exist_ok=True)
    with locked(environment.with_name(f"{environment.name}.lock")):
        if not is_whole(python):
            interpreter = os.environ.get("PYTHON", sys.executable)
            check_version(interpreter)
            print(f"making the environment {environment} …", flush=True)
            make(environment, interpreter)
        elif "PYTHON" in os.environ:
            check_same(python, os.environ["PYTHON"])
        install(environment, python, extras)
    return python


def is_whole(python: Path) -> bool:
    """Tell whether an environment was made to its end: its pip comes last."""
    asked = (python, "-m", "pip", "--version")
    return (
        python.exists() and not subprocess.run(asked, capture_output=True, check=False).returncode
    )


def make(environment: Path, interpreter: str) -> None:
    """Make an environment that has pip."""
    uv = shutil.which("uv")
    if uv is None:
        run(interpreter, "-m", "venv", "--clear", environment)
    else:
        options = ("--quiet", "--seed", "--clear")
        run(uv, "venv", *options, "--python", interpreter, environment)


def install(environment: Path, python: Path, extras: tuple[str, ...]) -> None:
    """Install amltk and extras, unless all of it is there from an earlier time."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    stamp = environment / "amltk-installed.json"
    wanted = hashlib.sha256(text.encode()).hexdigest()
    has = noted(stamp, wanted)
    if has.issuperset(all_of(extras, text)):
        return
    named = ",".join(extras)
    print(f"installing amltk[{named}]; this takes a minute or two …", flush=True)
    uv = shutil.which("uv")
    pip = (
        (python, "-m", "pip", "install")
        if uv is None
        else (uv, "pip", "install", "--python", python)
    )
    run(*pip, "--quiet", "--editable", f"{ROOT}[{named}]")
    beside = stamp.with_suffix(".new")  # killed in the middle, it leaves no half of a note
    beside.write_text(
        json.dumps({"pyproject": wanted, "extras": sorted(has | all_of(extras, text))})
    )
    beside.replace(stamp)


def noted(stamp: Path, wanted: str) -> set[str]:
    """Return the extras that were installed of this very pyproject; none where that is not known."""
    try:
        there = json.loads(stamp.read_text())
        return set(there["extras"]) if there["pyproject"] == wanted else set()
    except (OSError, ValueError, TypeError, LookupError):
        return set()


def all_of(extras: tuple[str, ...], pyproject: str) -> set[str]:
    """Return extras with those that they are made of, such as ``test``, which is part of ``dev``."""
    try:
        import tomllib
    except ModuleNotFoundError:  # an older Python runs the script, and PYTHON names a newer one
        return set(extras)
    table = tomllib.loads(pyproject)["project"]["optional-dependencies"]
    found: set[str] = set()
    waiting = list(extras)
    while waiting:
        extra = waiting.pop()
        if extra not in table:
            sys.exit(f"amltk has no extra {extra!r}; it has: {', '.join(table)}")
        if extra not in found:
            found.add(extra)
            for requirement in table[extra]:
                parts = re.match(r"amltk\[(.*)\]", requirement)
                waiting += parts[1].split(",") if parts else ()
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other scripts out meanwhile, where the system has such locks."""
    with path.open("w") as file:
        try:
            import fcntl
        except ModuleNotFoundError:
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_version(interpreter: str) -> None:
    """Leave with a message if an interpreter is too old."""
    needed = ".".join(map(str, OLDEST))
    if shutil.which(interpreter) is None:
        sys.exit(f"there is no {interpreter!r}; set PYTHON to a Python from {needed} on")
    found = version_of(interpreter)
    if found < OLDEST:
        sys.exit(f"{interpreter} is Python {found[0]}.{found[1]}; amltk needs {needed} or newer")


def check_same(python: Path, interpreter: str) -> None:
    """Leave with a message if an environment has another Python than was asked for."""
    check_version(interpreter)
    there, asked = version_of(python), version_of(interpreter)
    if there != asked:
        sys.exit(
            f"PYTHON asks for {asked[0]}.{asked[1]}, and {python.parent.parent} has "
            f"{there[0]}.{there[1]}; name another folder by AMLTK_VENV, or remove that one"
        )


def version_of(interpreter: str | Path) -> tuple[int, ...]:
    """Return the version of an interpreter, such as ``(3, 11)``."""
    code = "import sys; print(*sys.version_info[:2])"
    said = subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True)
    return tuple(map(int, said.stdout.split()))


def run(*command: str | Path) -> None:
    """Run a command in the project's folder and leave with its exit code if it fails."""
    environment = dict(os.environ)
    # Hundreds of workers start and import the same modules: without this each would compile them.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
