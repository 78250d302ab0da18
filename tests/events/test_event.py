"""An event is a name with types, and only itself."""

import copy
import pickle
import subprocess
import sys

from amltk.events import Event
from amltk.scheduling import Task

GLOBAL: Event[int] = Event("global")


def test_two_events_of_one_name_are_two_events():
    assert Event("a") != Event("a")
    assert len({Event("a"), Event("a")}) == 2


def test_an_event_hashes_as_quickly_as_any_object():
    assert Event.__hash__ is object.__hash__
    assert Event.__eq__ is object.__eq__


def test_an_event_can_be_made_from_a_parametrized_class():
    assert Event[int, str]("pair").name == "pair"
    assert Event[[]]("nothing").name == "nothing"


def test_an_event_shows_its_name():
    assert repr(Event("joined")) == "Event('joined')"


def test_a_copied_event_is_the_event():
    event = Event("a")
    assert copy.copy(event) is event
    assert copy.deepcopy({"key": [event]})["key"][0] is event


def test_an_event_of_a_class_is_pickled_by_its_place():
    data = pickle.dumps(Task.DONE)
    assert pickle.loads(data) is Task.DONE
    assert b"Task.DONE" in data


def test_an_event_without_a_place_comes_back_as_itself():
    event = Event("local")
    assert pickle.loads(pickle.dumps(event)) is event


def test_an_event_of_a_module_comes_back_as_itself():
    assert pickle.loads(pickle.dumps(GLOBAL)) is GLOBAL


def test_in_another_process_a_class_event_is_that_of_the_class():
    code = (
        "import pickle, sys; event = pickle.load(sys.stdin.buffer);"
        "from amltk.scheduling import Task; assert event is Task.DONE"
    )
    data = pickle.dumps(Task.DONE)
    subprocess.run([sys.executable, "-c", code], input=data, check=True)


def test_in_another_process_an_event_without_a_place_is_one_object():
    code = (
        "import pickle, sys; data = sys.stdin.buffer.read();"
        "event = pickle.loads(data); assert event is pickle.loads(data);"
        "assert event.name == 'local', event"
    )
    data = pickle.dumps(Event("local"))
    subprocess.run([sys.executable, "-c", code], input=data, check=True)
