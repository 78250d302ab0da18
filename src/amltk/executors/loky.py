"""loky's pool of processes as an engine; extra: ``loky``."""

from __future__ import annotations

from functools import partial
from typing import Any

from amltk._optional import require
from amltk.exceptions import InvalidOptionError
from amltk.executors.traits import Factory, Traits
from amltk.executors.travel.initializer import packed_initializer


def loky_factory(max_workers: int | None = None, **options: Any) -> Factory:
    """Return what makes a loky pool.

    Args:
        max_workers: How many processes at most; loky's own choice by default.
        **options: Passed on to ``loky.ProcessPoolExecutor``.

    Raises:
        InvalidOptionError: When ``max_workers`` is not a positive number.
        CallPicklingError: When an initializer cannot be sent to a worker.
        MissingExtraError: When loky is not installed.
    """
    loky = require("loky", extra="loky", purpose='the "loky" executor')
    if max_workers is not None and max_workers < 1:
        message = f"a loky pool needs at least one worker, not max_workers={max_workers!r}"
        raise InvalidOptionError(message, option="max_workers", value=max_workers)
    initializer = options.get("initializer")
    if initializer is not None:
        # loky would send it with a set of globals of its own, which no call would see.
        options["initializer"] = packed_initializer(initializer, options.pop("initargs", ()))
    make = partial(loky.ProcessPoolExecutor, max_workers, **options)
    return Factory(make, Traits(death_spreads=True, n_workers=max_workers or loky.cpu_count()))
