"""A report: what became of a trial, and how it travels with an exception of any kind.

How it becomes a dictionary or a row is in `test_record.py`.
"""

import copy
import importlib
import math
import pickle
import sys
import threading

import pytest
import support

from amltk.exceptions import RemoteError, RemoteTraceback, ResultUnpicklingError
from amltk.executors.travel.envelope import traceback_text
from amltk.optimization import Metric, Trial

LOSS = Metric("loss", bounds=(0, 10))
ACCURACY = Metric("accuracy", minimize=False)


def success(**metrics):
    trial = Trial("a", {"x": 1})
    with trial.begin():
        pass
    return trial.success(**metrics)


def crash_of(error):
    """Return the report of a trial that raised an error."""
    trial = Trial("a", {"x": 1}, summary={"note": "n"})
    with trial.begin():
        raise error
    return trial.crashed()


def arrived(value):
    return pickle.loads(pickle.dumps(value))


def test_it_has_the_name_and_the_configuration_of_its_trial():
    report = success()

    assert (report.name, report.config) == ("a", {"x": 1})


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Trial.SuccessReport, "success"),
        (Trial.FailReport, "fail"),
        (Trial.CrashReport, "crashed"),
    ],
)
def test_each_kind_says_its_status(kind, status):
    report = kind(trial=Trial("a", {}))

    assert report.status is kind.status is Trial.Status(status)
    assert (report.metrics, report.time, report.worker) == ({}, None, None)


def test_a_loss_is_such_that_less_is_better():
    report = success(loss=2, accuracy=0.9)

    assert report.loss(LOSS) == 2
    assert report.loss(ACCURACY) == -0.9


def test_a_report_without_a_metric_has_the_worst_loss_of_it():
    crash = crash_of(ValueError("x"))

    assert crash.loss(LOSS) == 10
    assert crash.loss(ACCURACY) == math.inf
    assert crash.loss(Metric("share", minimize=False, bounds=(0, 1))) == 0


def test_one_that_travels_is_equal_to_what_arrives():
    report = success(loss=2)

    assert arrived(report) == report
    assert type(arrived(report)) is Trial.SuccessReport


def test_a_crash_that_travels_is_equal_to_what_arrives_and_has_its_exception():
    report = crash_of(LookupError("no data"))
    again = arrived(report)

    assert again == report
    assert type(again.exception) is LookupError
    assert again.exception.args == ("no data",)
    assert isinstance(again.exception.__cause__, RemoteTraceback)
    assert again.traceback == report.traceback


def test_notes_of_its_exception_arrive():
    error = LookupError("no data")
    error.add_note("in the second fold")

    assert arrived(crash_of(error)).exception.__notes__ == ["in the second fold"]


class LockedError(Exception):
    def __init__(self):
        super().__init__("it is locked")
        self.lock = threading.Lock()


class UglyError(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "name"),
    [(LockedError(), "LockedError"), (support.UnreadableError("1 2"), "UnreadableError")],
)
def test_an_exception_that_cannot_travel_arrives_as_its_text_and_the_rest_as_it_is(error, name):
    report = crash_of(error)
    again = arrived(report)

    assert isinstance(again.exception, RemoteError)
    assert again.exception.type_name.endswith(name)
    assert str(error) in str(again.exception)
    assert again == report
    assert again.trial.summary == {"note": "n"}


def test_an_exception_whose_text_is_an_error_does_no_harm():
    again = arrived(crash_of(UglyError()))

    assert "UglyError" in traceback_text(UglyError())
    assert "UglyError" in again.traceback
    assert type(again.exception) is UglyError


def test_an_exception_that_cannot_be_made_here_is_told_by_its_text(tmp_path, monkeypatch):
    (tmp_path / "only_in_the_worker.py").write_text("class StrangeError(Exception): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    strange = importlib.import_module("only_in_the_worker")
    sent = pickle.dumps(crash_of(strange.StrangeError("by far")))
    monkeypatch.undo()
    del sys.modules["only_in_the_worker"]
    again = pickle.loads(sent)

    assert isinstance(again.exception, RemoteError)
    assert again.exception.type_name == "only_in_the_worker.StrangeError"
    assert "StrangeError: by far (which cannot be made here: No module" in str(again.exception)
    assert "by far" in again.exception.traceback_text
    assert again.config == {"x": 1}


def test_an_error_about_unpickling_is_not_taken_for_one_of_its_own():
    again = arrived(crash_of(ResultUnpicklingError("of another call")))

    assert type(again.exception) is ResultUnpicklingError


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_equal(copied):
    report = crash_of(LookupError("no data"))

    assert copied(report) == report
    assert type(copied(report).exception) is LookupError


def test_one_that_arrived_may_travel_on():
    report = crash_of(support.UnreadableError("1 2"))
    twice = arrived(arrived(report))

    assert isinstance(twice.exception, RemoteError)
    assert str(twice.exception) == str(arrived(report).exception)
