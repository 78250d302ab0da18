"""Rows about events: what emitting costs beyond calling the callbacks."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from time import perf_counter

from measure import Goal, Result, Row, in_pairs

from amltk import Emitter, Event, EventManager

HAPPENED: Event[int] = Event("happened")

Callback = Callable[[int], None]
Emit = Callable[[Event[int], int], None]


def _listen(_value: int) -> None:
    """Do nothing, as the plainest of callbacks."""


def callbacks_of(n: int) -> list[Callback]:
    """Return functions that share no code, so that the interpreter cannot take them for one."""
    code = _listen.__code__
    names = [f"listen_{place}" for place in range(n)]
    return [types.FunctionType(code.replace(co_name=name), {}, name) for name in names]


def manager_emit(callbacks: list[Callback]) -> Emit:
    """Return the ``emit`` of an ``EventManager``, as the scheduler itself uses it."""
    manager = EventManager("benchmark")
    for callback in callbacks:
        manager.on(HAPPENED, callback)
    return manager.emit


def emitter_emit(callbacks: list[Callback]) -> Emit:
    """Return the ``emit`` of an ``Emitter``, as users of a task have it."""
    emitter = Emitter("benchmark")
    for callback in callbacks:
        emitter.on(HAPPENED, callback)
    return emitter.emit


# The bodies below are written out five times, so that the loop around them hardly counts.


def time_emitting(emit: Emit, n: int) -> float:
    """Return the seconds of ``n`` emissions."""
    event, rounds = HAPPENED, _rounds(n)
    begin = perf_counter()
    for _ in rounds:
        emit(event, 1)
        emit(event, 1)
        emit(event, 1)
        emit(event, 1)
        emit(event, 1)
    return perf_counter() - begin


def time_looping(callbacks: list[Callback], n: int) -> float:
    """Return the seconds of calling all in a loop, ``n`` times."""
    rounds = repeat(None, n)
    begin = perf_counter()
    for _ in rounds:
        for callback in callbacks:
            callback(1)
    return perf_counter() - begin


def time_calling(callback: Callback, n: int) -> float:
    """Return the seconds of ``n`` calls."""
    rounds = _rounds(n)
    begin = perf_counter()
    for _ in rounds:
        callback(1)
        callback(1)
        callback(1)
        callback(1)
        callback(1)
    return perf_counter() - begin


def _rounds(n: int) -> Iterator[None]:
    return repeat(None, n // 5)


def measure_ten(emit_of: Callable[[list[Callback]], Emit], *, quick: bool) -> Result:
    """Compare emitting to ten callbacks with a loop over them."""
    n, repeats = (5_000, 11) if quick else (50_000, 41)
    callbacks = callbacks_of(10)
    emit = emit_of(callbacks)
    pairs = in_pairs(partial(time_emitting, emit, n), partial(time_looping, callbacks, n), repeats)
    return Result(pairs.slowdowns, f"{pairs.typical(1e9 / n)} ns for ten")


def measure_loop_of_one(*, quick: bool) -> Result:
    """Compare emitting to one callback with a loop over it, as with ten."""
    n, repeats = (20_000, 11) if quick else (200_000, 41)
    callbacks = callbacks_of(1)
    emit = manager_emit(callbacks)
    pairs = in_pairs(partial(time_emitting, emit, n), partial(time_looping, callbacks, n), repeats)
    return Result(pairs.slowdowns, f"{pairs.typical(1e9 / n)} ns")


def measure_one(emit_of: Callable[[list[Callback]], Emit], *, quick: bool) -> Result:
    """Compare emitting to one callback with calling it."""
    n, repeats = (20_000, 11) if quick else (200_000, 41)
    (callback,) = callbacks = callbacks_of(1)
    emit = emit_of(callbacks)
    pairs = in_pairs(partial(time_emitting, emit, n), partial(time_calling, callback, n), repeats)
    return Result(pairs.slowdowns, f"{pairs.typical(1e9 / n)} ns")


def emit_much(emit_of: Callable[[list[Callback]], Emit], n_callbacks: int) -> None:
    """Emit often, for a profile."""
    time_emitting(emit_of(callbacks_of(n_callbacks)), 100_000)


ROWS = [
    Row(
        "emit-ten",
        "EventManager.emit to ten plain callbacks / calling them in a loop",
        Goal(1.15),
        partial(measure_ten, manager_emit),
        partial(emit_much, manager_emit, 10),
    ),
    Row(
        "emit-ten-emitter",
        "emit-ten by Emitter.emit",
        None,
        partial(measure_ten, emitter_emit),
        partial(emit_much, emitter_emit, 10),
    ),
    Row(
        "emit-one",
        "EventManager.emit to one plain callback / calling it",
        Goal(2.5),
        partial(measure_one, manager_emit),
        partial(emit_much, manager_emit, 1),
    ),
    Row(
        "emit-one-loop",
        "emit-one / calling it in a loop over one callback",
        None,
        measure_loop_of_one,
        partial(emit_much, manager_emit, 1),
    ),
    Row(
        "emit-one-emitter",
        "emit-one by Emitter.emit",
        None,
        partial(measure_one, emitter_emit),
        partial(emit_much, emitter_emit, 1),
    ),
]
