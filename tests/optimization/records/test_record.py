"""Reports as what JSON can hold, and in one level: nothing is lost, and no code is run."""

import json
import math
import pickle
import sys
import threading
from dataclasses import fields
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import histories
import pytest
from histories import ACCURACY, LOSS, Color, NeedsTwoError, Opaque, crash, form, report
from hypothesis import given, settings

from amltk.exceptions import HistoryError, RemoteError, WorkerDiedError
from amltk.optimization import Metric, Trial
from amltk.optimization.records.record import Pickled
from amltk.optimization.trials.measure import Timing


class Touches:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def there_and_back(value, *, unpickle=False):
    """Return a value of a trial's summary after it was text."""
    return through_json(report("a", config={"x": value}), unpickle=unpickle).config["x"]


def through_json(given, *, unpickle=False):
    text = json.dumps(given.to_dict(), allow_nan=False)
    return Trial.Report.from_dict(json.loads(text), unpickle=unpickle)


# ------------------------------------------------------------------------------------ as JSON


@given(histories.reports())
def test_a_report_comes_back_from_json_the_same(given):
    assert form(through_json(given)) == form(given)


@given(histories.reports())
@settings(max_examples=30)
def test_what_came_back_is_written_as_before(given):
    assert through_json(given).to_dict() == given.to_dict()


def test_what_came_back_is_equal():
    given = report("a", loss=1.5, config={"x": math.nan, "y": (1, {2})}, worker="w")

    assert through_json(given) == given


def test_plain_values_are_left_as_they_are():
    given = report("a", config={"lr": 0.1, "layers": [1, 2], "more": {"x": None, "y": "text"}})

    assert given.to_dict()["trial"]["config"] == given.config


def test_whatever_trials_reports_and_times_have_is_kept():
    """Records list the names themselves, since they know none of these classes."""

    def names(kind):
        return {field.name for field in fields(kind)}

    kept = report("a", time=Timing(1.0, 2.0, 1.0, 1.0)).to_dict()

    assert set(kept) - {"version", "status"} == names(Trial.Report)
    assert set(kept["trial"]) == names(Trial) - {"_work"}
    assert set(kept["time"]) == names(Timing)
    assert set(kept["trial"]["metrics"][0]) == names(Metric)


def test_the_dict_has_a_version():
    assert report("a").to_dict()["version"] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda np: np.float64(0.1),
        lambda np: np.float32("nan"),
        lambda np: np.int8(-3),
        lambda np: np.bool_(1),
        lambda np: np.str_("text"),
        lambda np: np.bytes_(b"b"),
        lambda np: np.complex64(1j),
        lambda np: np.datetime64("2024-01-02T03:04"),
        lambda np: np.arange(6, dtype=">i2").reshape(2, 3),
        lambda np: np.array(3.5),
        lambda np: np.array([], dtype="U4"),
        lambda np: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        lambda np: np.asfortranarray(np.eye(3)),
    ],
)
def test_values_of_numpy_come_back_as_they_were(make):
    value = make(pytest.importorskip("numpy", reason="the extra history is not installed"))

    assert form(there_and_back(value)) == form(value)


def test_an_array_of_objects_is_pickled():
    np = pytest.importorskip("numpy", reason="the extra history is not installed")
    value = np.array([{1}, None], dtype=object)

    assert isinstance(there_and_back(value), Pickled)
    assert list(there_and_back(value, unpickle=True)) == [{1}, None]


def test_a_list_in_itself_is_pickled():
    value = [1]
    value.append(value)

    assert isinstance(there_and_back(value), Pickled)
    back = there_and_back(value, unpickle=True)
    assert back[1] is back


def test_a_deep_value_is_pickled():
    value = []
    for _ in range(300):
        value = [value]

    assert there_and_back(value, unpickle=True) == value


def test_the_same_list_twice_is_no_ring():
    inner = [1]

    assert there_and_back([inner, inner]) == [[1], [1]]


def test_a_subclass_is_not_taken_for_its_base():
    class Text(str):
        __slots__ = ()

    assert isinstance(there_and_back(Text("x")), Pickled)


def test_a_time_zone_that_no_form_is_known_for_is_pickled_with_its_time():
    class Zone(tzinfo):
        def utcoffset(self, _):
            return timedelta(hours=1)

    value = datetime(2024, 1, 2, tzinfo=Zone())

    assert isinstance(there_and_back(value), Pickled)
    assert there_and_back(value, unpickle=True) == value


def test_any_mapping_may_be_a_configuration():
    from types import MappingProxyType

    given = Trial.SuccessReport(trial=Trial("a", MappingProxyType({"x": 1})))

    assert through_json(given) == given


# ------------------------------------------------------------------------------------- pickled


def test_what_no_form_is_known_for_comes_back_as_its_text_and_data():
    back = there_and_back(Opaque(3))

    assert back.type_name == f"{Opaque.__module__}.Opaque"
    assert "Opaque object" in back.text
    assert back.load() == Opaque(3)
    assert "Opaque object" in repr(back)


def test_what_is_pickled_comes_back_where_that_is_asked_for():
    assert there_and_back({"x": [Opaque(3)]}, unpickle=True) == {"x": [Opaque(3)]}


def test_what_was_not_unpickled_is_saved_again_without_loss():
    back = there_and_back(Opaque(3))

    assert there_and_back(back) == back
    assert there_and_back(back, unpickle=True) == Opaque(3)


def test_nothing_is_unpickled_unasked(tmp_path):
    mark = tmp_path / "mark"
    error = RuntimeError(Touches(mark))
    given = crash("a", config={"x": Touches(mark), "y": [Touches(mark)]}, exception=error)

    back = through_json(given)
    Trial.Report.from_row(given.to_row())

    assert not mark.exists()
    back.config["x"].load()
    assert mark.exists()


def test_what_cannot_be_pickled_leaves_its_text():
    back = there_and_back(threading.Lock(), unpickle=True)

    assert back.data is None
    assert "lock" in back.text
    with pytest.raises(HistoryError, match="could not be pickled when it was saved"):
        back.load()


def test_what_has_no_text_does_not_spoil_a_report():
    class Silent(Exception):  # noqa: N818 - it is about its text
        def __repr__(self):
            raise RuntimeError

        __str__ = __repr__

    given = crash("a", config={"x": Silent}, exception=Silent())
    given.trial.config["x"] = [Silent()]

    back = through_json(given)

    assert "text cannot be shown" in str(back.exception)
    assert "an object of" in back.exception.pickled.text
    assert given.to_row()["exception"].endswith("Silent")


def test_one_value_that_cannot_be_pickled_spoils_no_other():
    back = through_json(report("a", config={"x": threading.Lock(), "y": 1}))

    assert back.config["y"] == 1


def test_a_member_of_an_enum_comes_back_where_the_enum_is_loaded():
    assert there_and_back(Color.RED) is Color.RED


def test_nothing_is_imported_for_an_enum():
    values = report("a", config={"x": Color.RED}).to_dict()
    values["trial"]["config"]["x"]["type"] = "antigravity.Color"

    back = Trial.Report.from_dict(values)

    assert "antigravity" not in sys.modules
    assert back.config["x"].member == "RED"
    assert Trial.Report.from_dict(back.to_dict(), unpickle=True).config["x"] is Color.RED


def test_what_cannot_be_unpickled_here_is_an_error_that_names_it():
    values = report("a", config={"x": Opaque(1)}).to_dict()
    values["trial"]["config"]["x"]["data"] = "Y25vd2hlcmUKVGhpbmcKLg=="

    with pytest.raises(HistoryError, match=r"Opaque cannot be unpickled: ModuleNotFoundError"):
        Trial.Report.from_dict(values, unpickle=True)


# ---------------------------------------------------------------------------------- exceptions


def test_an_exception_of_others_comes_back_as_its_name_and_text():
    error = NeedsTwoError(1, "two")
    error.add_note("a note")

    back = through_json(crash("a", exception=error, traceback="its traceback")).exception

    assert type(back) is RemoteError
    assert back.type_name.endswith("NeedsTwoError")
    assert "1 and two" in str(back)
    assert back.traceback_text == "its traceback"
    assert back.__notes__ == ["a note"]


def test_an_exception_of_others_comes_back_itself_where_that_is_asked_for():
    error = NeedsTwoError(1, "two")
    error.__cause__ = KeyError("x")

    back = through_json(crash("a", exception=error), unpickle=True).exception

    assert form(back) == form(error)


def test_an_exception_that_was_not_unpickled_is_saved_again_without_loss():
    given = crash("a", exception=NeedsTwoError(1, "two"), traceback="its traceback")

    once = through_json(given)
    twice = through_json(once)

    assert once.to_dict() == given.to_dict()
    assert form(twice) == form(once)
    assert form(through_json(twice, unpickle=True)) == form(given)


def test_a_builtin_exception_with_a_value_that_is_pickled_is_pickled_whole():
    given = crash("a", exception=ValueError("bad", Opaque(1)))

    assert type(through_json(given).exception) is RemoteError
    assert form(through_json(given, unpickle=True)) == form(given)


def test_an_exception_that_cannot_be_pickled_leaves_its_text():
    back = through_json(crash("a", exception=ValueError(threading.Lock())), unpickle=True)

    assert "builtins.ValueError: <unlocked" in str(back.exception)


def test_what_is_no_exception_after_all_is_an_error():
    values = crash("a", exception=NeedsTwoError(1, 2)).to_dict()
    values["exception"]["pickle"] = Pickled.of(Opaque(1)).to_json()

    with pytest.raises(HistoryError, match="is no exception when it is unpickled"):
        Trial.Report.from_dict(values, unpickle=True)


def test_a_ring_of_causes_ends():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one

    back = through_json(crash("a", exception=one)).exception

    assert (back.args, back.__cause__.args) == (("one",), ("two",))


def test_an_error_of_ours_keeps_its_facts():
    error = WorkerDiedError("gone", pid=7, exit_code=-9, signal_name="SIGKILL")

    back = through_json(crash("a", exception=error)).exception

    assert (type(back), back.pid, back.exit_code) == (WorkerDiedError, 7, -9)


def test_a_class_that_is_no_exception_is_not_called():
    values = crash("a", exception=ValueError("x")).to_dict()
    values["exception"]["type"] = "builtins.print"

    assert type(Trial.Report.from_dict(values).exception) is RemoteError


# --------------------------------------------------------------------------------------- broken


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "version 2 cannot be read.*update"),
        ({"version": None}, "version None"),
        ({"status": "done"}, "'done'.*success, fail, crashed"),
        ({"status": {}}, "status {}.*success, fail, crashed"),
        ({"metrics": 3}, "'metrics' has to be a mapping"),
        ({"trial": {}}, "'metrics' is missing"),
        ({"trial": 3}, "a trial cannot be read"),
        ({"worker": {"$": "unheard of"}}, "kind 'unheard of'"),
        ({"worker": {"$": "bytes", "data": "?"}}, "cannot be read"),
        ({"worker": {"$": ["list"]}}, "cannot be read"),
        ({"worker": {"$": "numpy", "type": "load", "value": "x"}}, "'load' is no kind of number"),
        ({"exception": "text"}, "exception cannot be 'text'"),
        ({"time": {}}, "'started_at' is missing"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_tells_why(change, problem):
    values = {**report("a").to_dict(), **change}

    with pytest.raises(HistoryError, match=problem):
        Trial.Report.from_dict(values)


def test_a_part_that_is_missing_is_named():
    values = report("a").to_dict()
    del values["worker"]

    with pytest.raises(HistoryError, match="'worker' is missing"):
        Trial.Report.from_dict(values)


# ---------------------------------------------------------------------------------------- rows


@given(histories.reports())
def test_a_report_comes_back_from_its_row_the_same(given):
    assert form(Trial.Report.from_row(given.to_row())) == form(given)


@given(histories.reports())
@settings(max_examples=50)
def test_the_cells_of_a_row_are_numbers_and_texts_that_any_file_holds(given):
    row = given.to_row()

    assert {type(cell) for cell in row.values()} <= {type(None), bool, int, float, str}
    "".join([*row, *(cell for cell in row.values() if isinstance(cell, str))]).encode()


def test_a_row_has_one_column_for_each_value():
    trial = Trial("a", {"lr": 0.1, "x": None}, metrics=(ACCURACY, LOSS), seed=3)
    trial.fidelities = {"epochs": 9}
    trial.summary["shape"] = (3, 4)
    given = Trial.FailReport(trial=trial, metrics={"accuracy": 0.5}, worker="here")

    row = given.to_row()

    expected = {
        "name": "a",
        "status": "fail",
        "metric:accuracy (maximize) [0.0, 1.0]": 0.5,
        "metric:loss (minimize)": None,
        "config:lr": 0.1,
        "config:x": "json:null",
        "fidelity:epochs": 9,
        "seed": 3,
        "time:started_at": None,
        "worker": "here",
        "summary:shape": 'json:{"$":"tuple","items":[3,4]}',
    }
    assert {label: row[label] for label in expected} == expected
    assert list(row)[:4] == list(expected)[:4]


def test_nan_and_the_numbers_of_numpy_are_plain_numbers_in_their_cells():
    np = pytest.importorskip("numpy", reason="the extra history is not installed")
    given = report("a", config={"x": math.nan, "y": np.float32(0.5), "z": np.str_("s")})

    row = given.to_row()

    assert math.isnan(row["config:x"])
    assert [type(row[f"config:{key}"]) for key in "xyz"] == [float, float, str]
    assert form(Trial.Report.from_row(row)) == form(given)


def test_a_cell_that_was_changed_counts():
    np = pytest.importorskip("numpy", reason="the extra history is not installed")
    row = report("a", config={"x": math.nan, "y": np.float64(0.5)}).to_row()
    row.update({"config:x": 1.0, "config:y": 2.0})

    assert Trial.Report.from_row(row).config == {"x": 1.0, "y": 2.0}


def test_the_metrics_are_read_from_the_columns_where_their_own_is_gone():
    row = report("a", metrics=(ACCURACY, LOSS), accuracy=0.5).to_row()
    del row["metrics"]

    back = Trial.Report.from_row(row)

    assert back.trial.metrics == (ACCURACY, LOSS)
    assert back.metrics == {"accuracy": 0.5}


def test_a_metric_that_was_not_declared_is_not_taken_for_one_that_was():
    given = report("a", metrics=(Metric("a"),), **{"a": 1.0, "a (minimize)": 2.0})

    assert Trial.Report.from_row(given.to_row()) == given


def test_a_row_shows_the_exception_in_a_line():
    row = crash("a", exception=ValueError("bad lr")).to_row()

    assert row["exception"] == "ValueError: bad lr"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": "done"}, "status 'done'"),
        ({"status": None}, "'status' is missing"),
        ({"config:x": "json:{"}, "a row cannot be read"),
        ({"time:wall_s": 1.0}, "only some of time:started_at"),
    ],
)
def test_a_row_that_cannot_be_read_is_an_error_that_tells_why(change, problem):
    with pytest.raises(HistoryError, match=problem):
        Trial.Report.from_row({**report("a").to_row(), **change})


def test_pickled_travels():
    given = Pickled.of(Opaque(1))

    assert pickle.loads(pickle.dumps(given)) == given
