"""Energy and emissions of calls: estimated without a network, and never the fault of a call."""

import dataclasses
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import runs
import support

from amltk import Scheduler, SequentialExecutor, Task
from amltk.exceptions import InvalidOptionError, MissingExtraError
from amltk.plugins import _meter
from amltk.plugins.emissions import CallEmissions, EmissionsTracker
from amltk.testing.contracts import PluginContract

pytest.importorskip("codecarbon")


def compute(seconds):
    """Keep a processor busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def refuse_network(path):
    """Let nobody reach another machine, and note who tries; an initializer of workers."""
    connect = socket.socket.connect

    def refuse(*args, **_):
        if getattr(args[0], "family", None) == socket.AF_UNIX:  # which stays on this machine
            return connect(*args)
        with Path(path).open("a") as file:
            file.write(f"{args}\n")
        raise OSError("there is no network")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse


def try_network():
    socket.create_connection(("192.0.2.1", 80), timeout=1)


def run(scheduler, tasks_and_calls):
    """Run calls and return what became of them."""
    calls = [partial(*one) for one in tasks_and_calls]
    return runs.outcomes_of(runs.run_all(scheduler, calls, end_on_exception=False))


def rows_of(folder):
    return [
        CallEmissions(**json.loads(line))
        for path in Path(folder).glob("emissions-*.jsonl")
        for line in path.read_text().splitlines()
    ]


@pytest.fixture
def delivered(monkeypatch):
    """What was passed on."""
    figures = []
    monkeypatch.setattr(_meter, "deliver", figures.append)
    monkeypatch.setattr(_meter._failure, "_told", False)
    return figures


@pytest.fixture
def failing(monkeypatch):
    """Have codecarbon fail."""
    import codecarbon

    def start(_tracker):
        raise RuntimeError("no counters here")

    monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, "start", start)


@pytest.mark.slow
class TestContract(PluginContract):
    refuses: ClassVar = {"threads": "charged for all others.*with_processes"}

    def make(self):
        return EmissionsTracker("DEU")


class TestFigures:
    def test_each_call_has_its_own(self, delivered, sequential):
        task = Task(compute, sequential, name="train", plugins=EmissionsTracker("DEU"))
        assert run(sequential, [(task, 0.3), (task, 0.0)]) == [0.3, 0.0]
        long, short = delivered
        assert (long.task, long.arguments, long.error) == ("train", "0.3", None)
        assert long.duration_s > 0.3 > short.duration_s >= 0
        assert long.energy_kwh > short.energy_kwh >= 0

    def test_the_whole_is_the_sum_of_its_parts(self, delivered, sequential):
        run(sequential, [(Task(compute, sequential, plugins=EmissionsTracker("DEU")), 0.2)])
        figures = delivered[0]
        parts = figures.cpu_kwh + figures.ram_kwh + figures.gpu_kwh
        assert math.isclose(parts, figures.energy_kwh)

    def test_they_depend_on_the_country(self, delivered, sequential):
        calls = [
            (Task(compute, sequential, plugins=EmissionsTracker(country)), 0.2)
            for country in ("POL", "NOR")
        ]
        run(sequential, calls)
        poland, norway = (figures.emissions_kg / figures.energy_kwh for figures in delivered)
        assert poland > 5 * norway

    def test_they_say_where_and_when(self, delivered, sequential):
        before = datetime.now(UTC)
        run(sequential, [(Task(support.double, sequential, plugins=EmissionsTracker("DEU")), 1)])
        figures = delivered[0]
        assert (figures.host, figures.pid) == (socket.gethostname(), os.getpid())
        assert abs((datetime.fromisoformat(figures.started) - before).total_seconds()) < 60

    def test_those_of_a_call_that_raises_say_so(self, delivered, sequential):
        task = Task(support.fail, sequential, plugins=EmissionsTracker("DEU"))
        assert type(run(sequential, [(task, "no")])[0]) is ValueError
        assert delivered[0].error == "ValueError"
        assert delivered[0].energy_kwh >= 0

    def test_arguments_are_shortened(self, delivered):
        wrapped = EmissionsTracker("DEU").wrap(lambda *_, **__: None)
        wrapped("x" * 10_000, list(range(10_000)), more={"a": "y" * 10_000})
        assert len(delivered[0].arguments) <= _meter.ARGUMENTS_KEPT
        assert "more=" in delivered[0].arguments

    def test_one_tracker_after_the_other_leaves_no_thread(self, delivered):
        wrapped = EmissionsTracker("DEU").wrap(support.double)
        wrapped(1)
        before = threading.active_count()
        for _ in range(5):
            wrapped(1)
        support.wait_until(lambda: threading.active_count() <= before)


class TestFile:
    def test_each_call_is_a_line_whichever_process_ran_it(self, tmp_path):
        scheduler = Scheduler.with_processes(2)
        folder = tmp_path / "made" / "for it"
        task = Task(support.double, scheduler, plugins=EmissionsTracker("DEU", output_dir=folder))
        assert run(scheduler, [(task, x) for x in range(20)]) == [2 * x for x in range(20)]
        rows = rows_of(folder)
        assert sorted(int(row.arguments) for row in rows) == list(range(20))
        assert {row.task for row in rows} == {"double"}

    def test_a_batch_writes_to_the_same_file(self, tmp_path):
        scheduler = Scheduler.with_processes(1)
        task = Task(support.double, scheduler, plugins=EmissionsTracker("DEU", output_dir=tmp_path))
        scheduler.on_start(task.batch([(1,), (2,)]).submit)
        scheduler.run()
        assert len(rows_of(tmp_path)) == 2

    def test_one_that_cannot_be_written_fails_no_call(self, tmp_path, delivered, caplog):
        folder = tmp_path / "folder"
        wrapped = EmissionsTracker("DEU", output_dir=folder).wrap(support.double)
        folder.rmdir()
        folder.touch()
        assert wrapped(1) == 2
        assert "could not be measured" in caplog.text


class TestEvent:
    def test_the_driver_hears_of_each_call_before_it_is_done(self):
        scheduler = Scheduler.with_processes(1)
        task = Task(compute, scheduler, plugins=EmissionsTracker("DEU"))
        heard = []
        task.on(EmissionsTracker.MEASURED, lambda future, figures: heard.append((future, figures)))
        task.on_done(lambda: heard.append("done"))
        assert run(scheduler, [(task, 0.1)]) == [0.1]
        (future, figures), done = heard
        assert (future.number, figures.arguments, done) == (0, "0.1", "done")
        assert figures.energy_kwh > 0

    def test_where_workers_cannot_reach_the_driver_there_is_the_file(self, tmp_path):
        class Remote(SequentialExecutor):
            traits = dataclasses.replace(SequentialExecutor.traits, shares_machine=False)

        scheduler = Scheduler(Remote())
        with pytest.raises(InvalidOptionError, match="give host="):
            Task(compute, scheduler, plugins=EmissionsTracker("DEU"))
        task = Task(compute, scheduler, plugins=EmissionsTracker("DEU", output_dir=tmp_path))
        run(scheduler, [(task, 0.1)])
        assert len(rows_of(tmp_path)) == 1


class TestNetwork:
    @pytest.fixture
    def configured(self, monkeypatch):
        """The environment of somebody who uses codecarbon online otherwise."""
        monkeypatch.setenv("CODECARBON_EMISSIONS_ENDPOINT", "http://192.0.2.1/emissions")
        monkeypatch.setenv("CODECARBON_ELECTRICITYMAPS_API_TOKEN", "token")
        monkeypatch.setenv("CODECARBON_CO2_SIGNAL_API_TOKEN", "token")
        monkeypatch.setenv("CODECARBON_SAVE_TO_API", "true")
        monkeypatch.setenv("CODECARBON_OUTPUT_METHODS", "api,csv")

    @pytest.mark.parametrize("mode", ["process", "machine"])
    def test_it_is_never_used(self, tmp_path, configured, mode):
        attempts = tmp_path / "attempts"
        scheduler = Scheduler.with_processes(1, initializer=refuse_network, initargs=(attempts,))
        plugin = EmissionsTracker(
            "USA", region="california", tracking_mode=mode, output_dir=tmp_path
        )
        assert run(scheduler, [(Task(compute, scheduler, plugins=plugin), 0.1)]) == [0.1]
        assert rows_of(tmp_path)[0].emissions_kg > 0
        assert not attempts.exists()

    def test_the_test_would_notice(self, tmp_path):
        attempts = tmp_path / "attempts"
        scheduler = Scheduler.with_processes(1, initializer=refuse_network, initargs=(attempts,))
        error = run(scheduler, [(Task(try_network, scheduler),)])[0]
        assert str(error) == "there is no network"
        assert "192.0.2.1" in attempts.read_text()


class TestFailures:
    def test_a_tracker_that_fails_fails_no_call(self, delivered, failing, sequential):
        task = Task(support.double, sequential, plugins=EmissionsTracker("DEU"))
        assert run(sequential, [(task, 1), (task, 2)]) == [2, 4]
        assert delivered == []

    def test_it_is_logged_once(self, delivered, failing, caplog):
        wrapped = EmissionsTracker("DEU").wrap(support.double)
        with caplog.at_level(logging.WARNING, "amltk.plugins.emissions"):
            assert [wrapped(1), wrapped(2)] == [2, 4]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "no counters here" in caplog.text

    def test_one_that_keeps_its_fault_to_itself_is_found_out(self, delivered, monkeypatch, caplog):
        from codecarbon import OfflineEmissionsTracker

        monkeypatch.setattr(OfflineEmissionsTracker, "_do_measurements", lambda _: 1 / 0)
        assert EmissionsTracker("DEU").wrap(compute)(0.1) == 0.1
        assert delivered == []
        assert "codecarbon has no figures" in caplog.text

    def test_what_receives_the_figures_fails_no_call(self, delivered, monkeypatch, caplog):
        monkeypatch.setattr(_meter, "deliver", lambda _: 1 / 0)
        assert EmissionsTracker("DEU").wrap(support.double)(1) == 2
        assert "could not be measured" in caplog.text

    def test_a_call_that_overlaps_another_in_its_process_has_no_figures(self, delivered, caplog):
        first, second = threading.Event(), threading.Event()
        tracker = EmissionsTracker("DEU")
        slow = tracker.wrap(lambda: (first.set(), second.wait(20)))
        thread = threading.Thread(target=slow)
        thread.start()
        first.wait(20)
        assert tracker.wrap(support.double)(1) == 2
        second.set()
        thread.join()
        assert len(delivered) == 1
        assert "another call runs in a thread of the same process" in caplog.text


class TestOptions:
    @pytest.mark.parametrize("country", ["", "Germany", "deu", "XXX", None, 49])
    def test_a_country_that_is_unknown_is_refused(self, country):
        with pytest.raises(InvalidOptionError, match=r"country_iso_code=.* such as 'DEU'"):
            EmissionsTracker(country)

    def test_the_country_has_to_be_given(self):
        with pytest.raises(TypeError, match="country_iso_code"):
            EmissionsTracker()

    def test_an_unknown_mode_is_refused(self):
        with pytest.raises(InvalidOptionError, match="give 'process' or 'machine'"):
            EmissionsTracker("DEU", tracking_mode="thread")

    @pytest.mark.parametrize("region", ["", 3])
    def test_what_is_no_region_is_refused(self, region):
        with pytest.raises(InvalidOptionError, match=r"region=.* give its name"):
            EmissionsTracker("USA", region=region)

    def test_what_is_no_folder_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InvalidOptionError, match=r"output_dir=.* cannot be used as a folder"):
            EmissionsTracker("DEU", output_dir=tmp_path / "file")

    def test_without_the_package_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "codecarbon", None)
        with pytest.raises(MissingExtraError, match=r"pip install \"codecarbon[<>]=?\d"):
            EmissionsTracker("DEU")
