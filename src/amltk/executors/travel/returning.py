"""Pickling what goes back to the driver: what it has sent is told by its name."""

from __future__ import annotations

import io
import pickle

from amltk.executors.travel.loading import is_bound
from amltk.executors.travel.namespaces import has_script, home_of, thing_named
from amltk.executors.travel.pickler import Pickler, Reduced, place_of


def dumps(value: object) -> bytes:
    """Pickle a value for the driver.

    Args:
        value: What is to travel.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    with io.BytesIO() as file:
        _Returning(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()


class _Returning(Pickler):
    def by_name(self, thing: object, name: str | None) -> Reduced | None:
        place = place_of(thing, name)
        home = None if place is None else home_of(place[0])
        if place is None or home is None:
            return None
        namespace, dotted = place
        first = dotted.partition(".")[0]
        if not has_script(home) and not is_bound(home.id, first, namespace[first]):
            return None
        return thing_named, (home, dotted)
