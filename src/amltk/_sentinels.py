"""Absence that is not ``None``: one member of an enum, so that type checkers can narrow it."""

from __future__ import annotations

import enum
from typing import Final, Literal


class Unset(enum.Enum):
    """The type of ``UNSET``."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        """Read as the name it is imported by."""
        return "UNSET"


#: Nothing was given.
UNSET: Final[Literal[Unset.UNSET]] = Unset.UNSET
