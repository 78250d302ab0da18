"""Pickling what travels: plain pickle where it does, and else by value; each for one kind of reader.

==================  ==============================================================
``pack``            for a worker, which is sent what is needed of scripts apart
``dumps_returning`` for the driver, which has its script
``dumps``           for whoever reads it, whenever
==================  ==============================================================

What pickles by value needs cloudpickle, which is imported when the first one comes that needs it.
"""

from __future__ import annotations

import pickle

from amltk.executors.travel.namespaces import may_name_script
from amltk.executors.travel.parts import Packed


def pack(value: object, *, has_script: bool = False) -> Packed:
    """Pickle a value for a worker, with what it needs of the script.

    Plain pickle does it where nothing of a script is in it.

    Args:
        value: What is to travel.
        has_script: Whether workers are expected to have the script itself. Then large globals are
            left out, such as those that forked workers inherit.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    payload = _plainly(value)
    if payload is not None:
        return Packed(payload)
    from amltk.executors.travel import collection

    return collection.pack(value, has_script=has_script)


def dumps_returning(value: object) -> bytes:
    """Pickle what goes back to the driver, whose own things are told by their names.

    Args:
        value: What is to travel.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    payload = _plainly(value)
    if payload is not None:
        return payload
    from amltk.executors.travel import returning

    return returning.dumps(value)


def dumps(value: object) -> bytes:
    """Pickle a value with all that belongs to it, for whoever reads it, whenever.

    Args:
        value: What is to travel.

    Returns:
        Bytes that plain ``pickle.loads`` reads, where cloudpickle is installed.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    payload = _plainly(value)
    if payload is not None:
        return payload
    from amltk.executors.travel import pickler

    return pickler.dumps(value)


def _plainly(value: object) -> bytes | None:
    """Pickle a value plainly; ``None`` where that cannot be done, or names things of scripts."""
    try:
        payload = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # cloudpickle is asked next, and its error is raised
        return None
    return None if may_name_script(payload) else payload
