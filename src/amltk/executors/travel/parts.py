"""What a payload needs of the script, each global pickled once and apart.

::

    pack(train) ──▶ payload: "train, of this script"
                    parts:   train ── uses ──▶ load, a cached function ── uses ──▶ DATA
                             each by value, and told by its name in all others

A worker binds each part to its name in the one module that stands for the script there, so that all
functions of the script see the same globals, whichever payload has brought them.

What a global holds that another one is bound to is told by that one's name. Globals that hold each
other are one part.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass

from amltk.executors.travel.namespaces import Home


@dataclass(frozen=True, slots=True)
class Need:
    """A global that a function uses."""

    home: Home
    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """Globals that travel together.

    Attributes:
        digest: Stands for all of it.
        needs: Where they are bound, and to which names.
        data: A tuple of their values, pickled; empty where that failed.
        failure: Why they cannot be sent; then a worker has to have them.
    """

    digest: bytes
    needs: tuple[Need, ...]
    data: bytes
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Packed:
    """A value on its way to a worker.

    Attributes:
        payload: The value, pickled.
        parts: What it needs of scripts, in the order in which they are to be read.
    """

    payload: bytes
    parts: tuple[Part, ...] = ()


def require_sendable(parts: Iterable[Part]) -> None:
    """Refuse what needs a global that cannot be sent, where workers do not have the script.

    Raises:
        PicklingError: When there is such a global; it says which, and why.
    """
    for part in parts:
        if part.failure:
            raise pickle.PicklingError(part.failure)
