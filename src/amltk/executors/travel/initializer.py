"""Initializers on their way to workers, which share the globals of their script with all calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from amltk.executors.travel.envelope import pack_call, run_packed, unpack_outcome


def packed_initializer(
    initializer: Callable[..., object], initargs: tuple[Any, ...] = ()
) -> Callable[[], object]:
    """Return what calls an initializer in a worker, whatever its engine sends it by.

    Args:
        initializer: What to call.
        initargs: Its positional arguments.

    Raises:
        CallPicklingError: When it cannot be sent to a worker.
    """
    return partial(_run, pack_call(initializer, tuple(initargs), {}))


def _run(payload: bytes) -> None:
    returned, value = unpack_outcome(run_packed(payload))
    if not returned:
        raise value
