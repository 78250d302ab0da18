"""Warnings of a call: filtered as Python does it, or collected and passed on."""

import dataclasses
import pickle
import threading
import warnings
from typing import ClassVar

import pytest
import support

from amltk import Scheduler, SequentialExecutor, Task
from amltk.exceptions import CallError, InvalidOptionError
from amltk.plugins import warning_filter
from amltk.plugins.warning_filter import WARNINGS_KEPT, CaughtWarning, WarningFilter
from amltk.testing.contracts import PluginContract


def warn(text="careful", category=UserWarning, times=1):
    """Warn again and again from one line."""
    for _ in range(times):
        warnings.warn(text, category, stacklevel=1)
    return text


def warn_and_fail():
    warn()
    raise LookupError("failed inside")


def warn_differently(n_texts):
    for number in range(n_texts):
        warnings.warn(f"warning {number}", UserWarning, stacklevel=1)


def filters():
    return [entry[:1] + entry[2:3] for entry in warnings.filters], warnings.showwarning.__name__


def shown_by(fn, *args):
    """Return the texts of the warnings that a call shows."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        fn(*args)
    return [str(warning.message) for warning in shown]


def outcome(scheduler, function, plugins, *args):
    """Run one call and return what became of it."""
    task = Task(function, scheduler, plugins=plugins)
    futures = []
    scheduler.on_start(lambda: futures.append(task(*args)))
    scheduler.run(end_on_exception=False)
    return futures[0].exception() or futures[0].result()


@pytest.fixture
def delivered(monkeypatch):
    """What was passed on, call by call."""
    calls = []
    monkeypatch.setattr(warning_filter, "deliver", calls.append)
    return calls


class TestContract(PluginContract):
    refuses: ClassVar = {"threads": "hold for the whole process.*with_processes"}

    def make(self):
        return WarningFilter("ignore", category=DeprecationWarning)


class TestCollectContract(PluginContract):
    refuses: ClassVar = {"threads": "hold for the whole process.*with_processes"}

    def make(self):
        return WarningFilter("collect")


class TestFilter:
    def test_what_is_ignored_is_not_shown(self):
        assert shown_by(WarningFilter("ignore").wrap(warn)) == []

    def test_another_category_is_shown(self):
        wrapped = WarningFilter("ignore", category=DeprecationWarning).wrap(warn)
        assert shown_by(wrapped) == ["careful"]
        assert shown_by(wrapped, "old", DeprecationWarning) == []

    def test_a_message_is_matched_from_its_beginning(self):
        wrapped = WarningFilter("ignore", message="care").wrap(warn)
        assert shown_by(wrapped) == []
        assert shown_by(wrapped, "take care") == ["take care"]

    def test_a_module_is_matched(self):
        assert shown_by(WarningFilter("ignore", module="nowhere").wrap(warn)) == ["careful"]
        assert shown_by(WarningFilter("ignore", module=__name__).wrap(warn)) == []

    def test_a_line_is_matched(self):
        assert shown_by(WarningFilter("ignore", lineno=1).wrap(warn)) == ["careful"]

    @pytest.mark.parametrize(("action", "n_shown"), [("always", 3), ("default", 1), ("once", 1)])
    def test_how_often_a_warning_is_shown(self, action, n_shown):
        assert len(shown_by(WarningFilter(action).wrap(warn), action, UserWarning, 3)) == n_shown

    def test_filters_that_are_there_come_first_if_asked_for(self):
        wrapped = WarningFilter("ignore", append=True).wrap(warn)
        assert shown_by(wrapped) == ["careful"]

    def test_what_was_shown_in_the_process_is_shown_again_in_each_call(self):
        wrapped = WarningFilter("default").wrap(warn)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("default")
            for fn in (warn, warn, wrapped, wrapped):
                fn()
        assert len(shown) == 3

    def test_several_hold_together(self):
        inner = WarningFilter("ignore", category=UserWarning).wrap(warn)
        wrapped = WarningFilter("error").wrap(inner)
        assert wrapped() == "careful"
        with pytest.raises(DeprecationWarning, match="old"):
            wrapped("old", DeprecationWarning)

    def test_an_error_is_what_the_call_raises(self):
        error = outcome(Scheduler.with_processes(1), warn, WarningFilter("error"), "too much")
        assert type(error) is UserWarning
        assert str(error) == "too much"

    @pytest.mark.parametrize("action", ["ignore", "collect"])
    @pytest.mark.parametrize("fn", [warn, warn_and_fail])
    def test_all_is_as_before_after_the_call(self, sequential, action, fn):
        before = filters()
        outcome(sequential, fn, WarningFilter(action))
        assert filters() == before


class TestCollect:
    def test_what_a_call_warns_of_is_passed_on(self, delivered, sequential):
        assert outcome(sequential, warn, WarningFilter("collect")) == "careful"
        (caught,) = delivered[0]
        assert (caught.category, caught.message) == ("builtins.UserWarning", "careful")
        assert caught.filename == __file__
        assert caught.lineno > 0

    def test_nothing_is_shown_and_nothing_raised(self, delivered):
        assert shown_by(WarningFilter("collect").wrap(warn)) == []
        assert len(delivered) == 1

    def test_equal_ones_are_counted(self, delivered):
        WarningFilter("collect").wrap(warn)("again", UserWarning, 5)
        assert [(caught.message, caught.count) for caught in delivered[0]] == [("again", 5)]

    def test_those_of_a_call_that_raises_are_passed_on_too(self, delivered, sequential):
        error = outcome(sequential, warn_and_fail, WarningFilter("collect"))
        assert type(error) is LookupError
        assert [caught.message for caught in delivered[0]] == ["careful"]

    def test_a_call_that_warns_of_nothing_passes_nothing_on(self, delivered):
        WarningFilter("collect").wrap(support.double)(1)
        assert delivered == []

    def test_what_is_ignored_further_inside_is_not_collected(self, delivered):
        inner = WarningFilter("ignore", message="careful").wrap(warn)
        WarningFilter("collect").wrap(inner)()
        assert delivered == []

    def test_a_function_that_catches_warnings_itself_gets_its_own(self, delivered):
        assert WarningFilter("collect").wrap(lambda: shown_by(warn))() == ["careful"]
        assert delivered == []

    def test_those_of_the_calls_own_threads_are_collected(self, delivered):
        def warn_in_threads():
            threads = [threading.Thread(target=warn, args=(f"{x}",)) for x in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        WarningFilter("collect").wrap(warn_in_threads)()
        assert {caught.message for caught in delivered[0]} == {"0", "1", "2", "3"}

    def test_so_many_are_kept_and_the_rest_is_counted(self, delivered):
        WarningFilter("collect").wrap(warn_differently)(WARNINGS_KEPT + 7)
        assert len(delivered[0]) == WARNINGS_KEPT + 1
        assert delivered[0][-1].message == "7 more warnings of this call were not kept"

    def test_what_cannot_be_passed_on_fails_no_call_and_is_logged(self, monkeypatch, caplog):
        monkeypatch.setattr(warning_filter, "deliver", lambda _: 1 / 0)
        assert WarningFilter("collect").wrap(warn)() == "careful"
        assert "could not be passed on" in caplog.text
        assert "builtins.UserWarning: careful" in caplog.text

    @pytest.mark.parametrize("function", [warn, warn_and_fail])
    def test_the_driver_hears_of_them_before_the_call_is_done(self, function, delivered):
        scheduler = Scheduler.with_processes(1)
        task = Task(function, scheduler, plugins=WarningFilter("collect"))
        heard = []
        task.on(WarningFilter.WARNED, lambda future, caught: heard.append((future, caught)))
        task.on_done(lambda: heard.append("done"))
        scheduler.on_start(task)
        scheduler.run(end_on_exception=False)
        (future, (caught,)), done = heard
        assert (future.number, caught.message, done) == (0, "careful", "done")
        assert delivered == []

    def test_where_nobody_listens_they_are_logged_where_warnings_are_logged(self, caplog):
        outcome(Scheduler.with_processes(1), warn, WarningFilter("collect"))
        (record,) = caplog.records
        assert record.name == "py.warnings"
        assert record.getMessage().endswith("builtins.UserWarning: careful")
        caplog.clear()

    def test_only_what_is_collected_needs_a_way_to_the_driver(self):
        class Remote(SequentialExecutor):
            traits = dataclasses.replace(SequentialExecutor.traits, shares_machine=False)

        Task(warn, Scheduler(Remote()), plugins=WarningFilter("ignore"))
        with pytest.raises(InvalidOptionError, match="give host="):
            Task(warn, Scheduler(Remote()), plugins=WarningFilter("collect"))

    def test_they_travel_and_are_shown_in_one_line(self):
        caught = CaughtWarning("builtins.UserWarning", "careful", "a.py", 3, count=2)
        assert pickle.loads(pickle.dumps(caught)) == caught
        assert str(caught) == "a.py:3: builtins.UserWarning: careful (2 times)"


def test_two_calls_at_once_in_threads_of_one_worker_are_told_apart():
    plugin = WarningFilter()
    with pytest.raises(CallError, match="give each worker process one thread"):
        support.call_while_another_runs(plugin)
    assert plugin.wrap(support.double)(1) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("action", "show"),
        ("action", None),
        ("category", ValueError),
        ("category", "UserWarning"),
        ("message", "("),
        ("message", b"x"),
        ("module", None),
        ("lineno", -1),
        ("lineno", True),
    ],
)
def test_what_filters_do_not_take_is_refused(option, value):
    with pytest.raises(InvalidOptionError, match=rf"{option}=.* is not possible.*give") as info:
        WarningFilter(**{option: value})
    assert (info.value.option, info.value.value) == (option, value)
