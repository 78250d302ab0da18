import dataclasses
import pickle

import pytest

from amltk.executors.traits import Traits


def test_the_defaults_are_what_is_safe_to_assume_of_a_stranger():
    assert dataclasses.asdict(Traits()) == {
        "pickles": True,
        "packs_itself": False,
        "ends_running_calls": False,
        "tells_started": True,
        "death_spreads": False,
        "shares_machine": True,
        "runs_inline": False,
        "runs_in_threads": False,
        "n_workers": None,
    }


def test_they_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        Traits(False)


def test_they_do_not_change():
    traits = Traits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        traits.pickles = False


def test_they_are_compared_by_value_and_travel():
    traits = Traits(death_spreads=True)
    assert pickle.loads(pickle.dumps(traits)) == traits != Traits()
