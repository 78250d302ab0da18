"""Rows of plain data in a file that many processes write to, one line of JSON each."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def append_row(folder: Path, stem: str, row: DataclassInstance) -> Path:
    """Append a row, whole, whoever else is writing.

    Each host has a file of its own, since only one system's processes append without writing over
    each other on all file systems.

    Args:
        folder: Where the file is; made if it is not there.
        stem: How its name begins.
        row: A dataclass of plain data.

    Returns:
        The file.

    Raises:
        OSError: When it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{socket.gethostname()}.jsonl"
    line = (json.dumps(dataclasses.asdict(row)) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        n_written = os.write(descriptor, line)  # in one go, so that lines do not mix
    finally:
        os.close(descriptor)
    if n_written != len(line):
        raise OSError(errno.ENOSPC, "a row could only be written in part", str(path))
    return path
