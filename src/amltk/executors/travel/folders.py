"""Folders of one program for as long as it runs, and those that killed programs have left behind."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import psutil

#: The file in each folder that says whose it is: a process id, when that process was started, and
#: where that number means something.
OWNER = ".owner"

#: How exactly it is known when a process was started, in seconds.
_TOLERANCE_S = 1.0

_lock = threading.Lock()
_has_swept = False


def make_folder(purpose: str) -> Path:
    """Make a folder that nobody else can enter, for the use of this program.

    Folders that programs of this user have left behind that were killed are removed.

    Args:
        purpose: A word for its name, which is short, since sockets may be in it.

    Raises:
        OSError: When it cannot be made.
    """
    _sweep_once()
    folder = Path(tempfile.mkdtemp(prefix=f"amltk-{purpose}-"))
    (folder / OWNER).write_text(f"{os.getpid()} {psutil.Process().create_time()} {_where()}")
    return folder


def _sweep_once() -> None:
    global _has_swept  # noqa: PLW0603 - once for each process
    with _lock:
        if _has_swept:
            return
        _has_swept = True
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob("amltk-*"):
            if _is_ours(folder) and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    with suppress(OSError):
        return not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
    return False


def _where() -> str:
    """Return this machine, and the container in it, as far as processes have numbers of their own."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {space}"


def _is_left(folder: Path) -> bool:
    """Tell whether the owner of a folder is gone, for all that can be known."""
    try:
        pid, started, where = (folder / OWNER).read_text().split(" ", 2)
        if where != _where():
            return False  # nobody can tell from here
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > _TOLERANCE_S
    except psutil.NoSuchProcess:
        return True
    except (OSError, ValueError, psutil.Error):  # it is no folder of ours, or is just being made
        return False
