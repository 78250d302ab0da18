from io import StringIO

import pytest
from rich.console import Console

from amltk.display.tables import Rates, headline, merge_by_name, task_table
from amltk.scheduling.snapshot import SchedulerSnapshot, TaskSnapshot


def task(name="train", **counts):
    zero = dict.fromkeys(("submitted", "running", "returned", "failed", "cancelled"), 0)
    return TaskSnapshot(name=name, **{**zero, **counts})


def snapshot(*tasks, elapsed_s=10.0, remaining_s=None, n_running=0, phase="running"):
    return SchedulerSnapshot(
        phase=phase, elapsed_s=elapsed_s, remaining_s=remaining_s, n_running=n_running, tasks=tasks
    )


def drawn(renderable):
    console = Console(file=StringIO(), width=100, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


def row_of(text, name):
    """The cells of a task's row."""
    line = next(line for line in text.splitlines() if name in line)
    return [cell.strip() for cell in line.strip("│┃ ").split("│")]


class TestHeadline:
    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (0, "0:00:00"),
            (59.9, "0:00:59"),
            (61, "0:01:01"),
            (3661, "1:01:01"),
            (90000, "25:00:00"),
        ],
    )
    def test_times_are_those_of_a_clock(self, seconds, said):
        assert headline(snapshot(elapsed_s=seconds)) == f"running · {said} elapsed · 0 running"

    def test_the_time_left_is_told_where_there_is_a_limit(self):
        said = headline(snapshot(elapsed_s=5, remaining_s=55.0, n_running=2, phase="finishing"))
        assert said == "finishing · 0:00:05 elapsed · 0:00:55 left · 2 running"


class TestMerge:
    def test_tasks_of_one_name_are_added_up_where_the_first_one_stood(self):
        merged = merge_by_name(
            [task("a", submitted=1, running=1), task("b", failed=1), task("a", submitted=2)]
        )
        assert merged == [task("a", submitted=3, running=1), task("b", failed=1)]

    def test_all_counts_are_added(self):
        one = task(submitted=1, running=2, returned=3, failed=4, cancelled=5)
        expected = task(submitted=2, running=4, returned=6, failed=8, cancelled=10)
        assert merge_by_name([one, one]) == [expected]


class TestRates:
    def test_since_the_start_of_the_run(self):
        rates = Rates.between(None, snapshot(task(returned=20, failed=5, cancelled=5)))
        assert rates.per_s == {"train": 3.0}

    def test_between_two_moments(self):
        before = snapshot(task(returned=10), elapsed_s=10)
        now = snapshot(task(returned=30), task("late", failed=4), elapsed_s=14)
        assert Rates.between(before, now).per_s == {"train": 5.0, "late": 1.0}

    @pytest.mark.parametrize("elapsed_s", [0.0, 10.0])
    def test_without_time_between_there_are_none(self, elapsed_s):
        moment = snapshot(task(returned=1), elapsed_s=elapsed_s)
        assert Rates.between(moment, moment).per_s == {}


class TestTable:
    def test_each_task_has_a_row_with_its_counts_and_rate(self):
        train = task(submitted=15, running=2, returned=10, failed=2, cancelled=1)
        text = drawn(task_table(snapshot(train, task("test")), Rates({"train": 1.25})))
        assert row_of(text, "train") == ["train", "15", "2", "10", "2", "1", "1.2"]
        assert row_of(text, "test") == ["test", "0", "0", "0", "0", "0", "0.0"]

    def test_it_says_what_the_columns_are(self):
        text = drawn(task_table(snapshot(task()), Rates({})))
        columns = ["submitted", "running", "returned", "failed", "cancelled", "per second"]
        places = [text.rindex(column) for column in columns]
        assert places == sorted(places)

    def test_without_tasks_it_still_has_its_headline(self):
        assert "running · 0:00:10 elapsed" in drawn(task_table(snapshot(), Rates({})))

    @pytest.mark.parametrize("name", ["train[red]", "[/]", "a[b]c"])
    def test_a_name_is_shown_as_it_is(self, name):
        assert name in drawn(task_table(snapshot(task(name)), Rates({})))
