"""What calls say of themselves, in files that outlive their process: one line for each begin and end.

Appending some bytes to a file is whole or not at all, also from many processes at once.
"""

import itertools
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

#: How soon a call begins again whose worker was ended as it came to its end, in seconds.
CUT_SHORT_S = 0.1


def note(folder, what, number):
    """Note that a call begins or ends."""
    descriptor = os.open(Path(folder, "ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what} {number} {os.getpid()} {time.monotonic():.4f}\n".encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Ledger:
    """How often each call has begun and ended."""

    begun: Counter
    ended: Counter
    lines: list[str]

    def lines_of(self, number):
        """Return what was noted of one call."""
        return [line for line in self.lines if line.split()[1] == str(number)]

    def was_cut_short(self, number):
        """Tell whether a call began again just after it had noted its end, and so before it returned.

        A pool that breaks ends its workers at any moment, this one too; no later end is forgotten.
        """
        notes = [line.split() for line in self.lines_of(number)]
        pairs = itertools.pairwise(notes)
        return all(
            float(then[3]) - float(end[3]) < CUT_SHORT_S for end, then in pairs if end[0] == "end"
        )

    @classmethod
    def of(cls, folder):
        begun, ended = Counter(), Counter()
        path = Path(folder, "ledger")
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            what, number, *_ = line.split()
            (begun if what == "begin" else ended)[int(number)] += 1
        return cls(begun, ended, lines)
