"""Where a driver is, as far as its workers have to know: its folder, and where it finds modules."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from amltk.exceptions import ExecutorError


def working_folder() -> str | None:
    """Return the folder that this process is in, or ``None`` when that was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


#: Where relative parts of the search path began to be meant.
_FIRST_FOLDER = working_folder()


def search_path() -> list[str]:
    """Return where this process finds modules, for processes that may be in another folder.

    The empty part of an interactive session, and relative ones, mean the folder that the program was
    in when it imported its modules, and the one that it is in now.
    """
    here = [folder for folder in (_FIRST_FOLDER, working_folder()) if folder is not None]
    found: list[str] = []
    for part in sys.path:
        if isinstance(part, str):  # the user may have put anything there
            found += [part] if Path(part).is_absolute() else [str(Path(f, part)) for f in here]
    return list(dict.fromkeys(found))


def interpreter() -> str:
    """Return what a worker is started with: this interpreter, or what multiprocessing was told to take.

    Raises:
        ExecutorError: In a frozen application, which would start itself again and again.
    """
    import multiprocessing.spawn

    found = os.fsdecode(multiprocessing.spawn.get_executable() or sys.executable)
    if getattr(sys, "frozen", False) and found == sys.executable:
        message = (
            f"no worker can be started: this is a frozen application, and {found} is that application "
            f"and no Python interpreter. Use Scheduler.with_threads(), or tell where an interpreter "
            f"with the same packages is: multiprocessing.set_executable(...)"
        )
        raise ExecutorError(message)
    return found
