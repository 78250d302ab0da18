"""All reports of an optimization: looking at them, comparing them, keeping them in files."""

import copy
import gc
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import histories
import psutil
import pytest
from histories import ACCURACY, LOSS, Opaque, crash, fail, form, report
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.exceptions import HistoryError
from amltk.optimization import Metric, Trial
from amltk.optimization.history.history import History
from amltk.optimization.records.record import Pickled
from amltk.optimization.trials.metric import dominates


def names(reports):
    return [each.name for each in reports]


@pytest.fixture
def history():
    return History(
        [
            report("a", loss=3.0),
            crash("b", exception=ValueError("bad")),
            report("c", loss=1.0),
            fail("d", loss=0.5),
            report("e", loss=1.0),
            report("f", loss=2.0),
        ]
    )


# --------------------------------------------------------------------------- adding and looking


def test_reports_are_in_order_of_arrival(history):
    assert names(history) == list("abcdef")
    assert len(history) == 6


def test_a_report_is_found_by_its_place_and_by_its_name(history):
    assert history[2] is history["c"] is history[-4]


def test_a_slice_is_a_history(history):
    assert isinstance(history[1:3], History)
    assert names(history[::-2]) == ["f", "d", "b"]


def test_it_tells_whether_it_has_a_report(history):
    assert "a" in history
    assert "x" not in history
    assert history[0] in history
    assert report("a", loss=3.0) not in history


def test_a_name_that_is_not_there_is_an_error(history):
    with pytest.raises(HistoryError, match="no report of 'x': no such trial was reported"):
        history["x"]


def test_a_second_report_of_a_name_is_refused(history):
    with pytest.raises(HistoryError, match="second report of 'a'"):
        history.append(report("a"))

    assert len(history) == 6


def test_only_reports_are_taken():
    with pytest.raises(HistoryError, match=r"'a' cannot be added.*only reports"):
        History(["a"])


def test_it_has_all_metrics_that_any_trial_declares_in_order():
    history = History([report("a", metrics=(LOSS,)), report("b", metrics=(ACCURACY, LOSS))])

    assert history.metrics == (LOSS, ACCURACY)


def test_it_keeps_the_trials_that_were_cancelled(history):
    history.add_cancelled(Trial("x", {}))

    assert names(history.cancelled) == ["x"]
    assert len(history) == 6
    with pytest.raises(HistoryError, match="'x': it was cancelled"):
        history["x"]


def test_a_trial_with_a_report_was_not_cancelled(history):
    with pytest.raises(HistoryError, match=r"'a' cannot have been cancelled.*success"):
        history.add_cancelled(Trial("a", {}))


def test_a_cancelled_trial_that_has_a_report_after_all_is_cancelled_no_more(history):
    history.add_cancelled(Trial("x", {}))

    history.append(report("x"))

    assert history.cancelled == ()


def test_it_says_what_it_has(history):
    history.add_cancelled(Trial("x", {}))

    assert repr(history) == "<History: 6 reports: 4 success, 1 fail, 1 crashed, 1 cancelled>"
    assert repr(History()) == "<History: 0 reports>"


def test_the_variables_of_what_has_raised_are_let_go():
    class Data:
        pass

    def raises():
        data = Data()
        kept.append(weakref.ref(data))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    kept = []
    trial = Trial("a", {})
    with trial.begin():
        raises()
    crashed = trial.crashed()

    history = History([crashed])

    gc.collect()
    assert kept[0]() is None
    assert "in raises" in history[0].traceback


def test_filters_are_histories(history):
    assert names(history.successes()) == ["a", "c", "e", "f"]
    assert names(history.failures()) == ["d"]
    assert names(history.crashes()) == ["b"]
    assert names(history.where(lambda each: each.name > "d")) == ["e", "f"]
    assert isinstance(history.crashes(), History)


def test_a_part_knows_the_metrics_of_the_whole(history):
    assert history.where(lambda _: False).metrics == (LOSS,)


# ------------------------------------------------------------------------------------ comparing


def test_the_best_is_the_first_of_the_best_successes(history):
    assert history.best().name == "c"
    assert history.best("loss") is history.best(LOSS) is history.best()


def test_more_is_better_where_the_metric_says_so():
    history = History([report(str(x), metrics=(ACCURACY,), accuracy=x) for x in (0.1, 0.9, 0.5)])

    assert history.best().name == "0.9"


def test_a_metric_that_no_trial_declares_can_be_given():
    history = History([report("a", metrics=(), size=3.0), report("b", metrics=(), size=2.0)])

    assert history.best(Metric("size", minimize=False)).name == "a"
    with pytest.raises(HistoryError, match=r"not clear what 'size' is.*none that trials declare"):
        history.best("size")


def test_which_metric_has_to_be_told_where_there_are_several():
    history = History([report("a", metrics=(LOSS, ACCURACY), loss=1.0, accuracy=0.1)])

    with pytest.raises(HistoryError, match=r"which metric.*loss \(minimize\), accuracy"):
        history.best()


def test_without_a_success_there_is_no_best(history):
    with pytest.raises(HistoryError, match="no best trial by 'loss', since none of 2 reports"):
        history.where(lambda each: each.name in "bd").best()


def test_a_front_needs_metrics():
    with pytest.raises(HistoryError, match="no trial declares any; give them"):
        History([report("a", metrics=())]).pareto_front()


def test_nan_is_never_the_best():
    history = History([report("a", loss=math.nan), report("b", loss=1.0)])

    assert history.best().name == "b"
    assert names(history.sorted_by()) == ["b"]


def test_successes_are_sorted_best_first_and_by_arrival(history):
    assert names(history.sorted_by()) == ["c", "e", "f", "a"]


def test_incumbents_were_better_than_all_before(history):
    assert names(history.incumbents("loss")) == ["a", "c"]


def test_the_front_has_what_nothing_dominates_in_order():
    history = History(
        report(name, metrics=(LOSS, ACCURACY), loss=loss, accuracy=accuracy)
        for name, loss, accuracy in [
            ("a", 3.0, 0.9),
            ("dominated", 3.0, 0.8),
            ("b", 1.0, 0.5),
            ("also b", 1.0, 0.5),
            ("c", 0.5, 0.1),
        ]
    )
    history.append(fail("failed", metrics=(LOSS, ACCURACY), loss=0.0, accuracy=1.0))

    assert names(history.pareto_front()) == ["a", "b", "also b", "c"]
    assert names(history.pareto_front(["accuracy"])) == ["a"]


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.tuples(*[st.integers(0, 3) | st.just(math.inf)] * n), max_size=30)
    )
)
def test_the_front_is_what_the_definition_says(points):
    metrics = [Metric(str(i), minimize=i % 2 == 0) for i in range(len(points[0]) if points else 1)]
    reports = [
        report(str(i), metrics=metrics, **dict(zip(map(str, range(5)), point, strict=False)))
        for i, point in enumerate(points)
    ]

    front = History(reports).pareto_front(metrics)

    expected = [
        each
        for each in reports
        if not any(dominates(other.metrics, each.metrics, metrics) for other in reports)
    ]
    assert names(front) == names(expected)


@pytest.mark.parametrize("n_metrics", [2, 3])
def test_a_front_of_ten_thousand_is_found_in_seconds(n_metrics):
    metrics = [Metric(name) for name in "xyz"[:n_metrics]]
    rng = random.Random(0)
    history = History()
    for i in range(10_000):  # of two metrics all are on the front, of three nearly all
        x, y = rng.random(), rng.random()
        last = (1 - x,) if n_metrics == 2 else (y, -x - y)
        history.append(
            report(str(i), metrics=metrics, **dict(zip("xyz", (x, *last), strict=False)))
        )

    began = time.process_time()
    front = history.pareto_front()

    assert len(front) > 9_000
    assert time.process_time() - began < 5


# ---------------------------------------------------------------------------------- dataframes


@given(histories.many_reports())
@settings(max_examples=50)
def test_each_row_of_the_dataframe_has_all_of_its_report(reports):
    pytest.importorskip("pandas", reason="the extra history is not installed")

    frame = History(reports).df()

    back = [Trial.Report.from_row(frame.iloc[place]) for place in range(len(frame))]
    assert list(map(form, back)) == list(map(form, reports))


def test_columns_keep_what_they_are_where_some_of_it_is_missing():
    pd = pytest.importorskip("pandas", reason="the extra history is not installed")
    history = History(
        [
            report("a", loss=1.0, config={"n": 2**62 + 1, "x": 0.5, "flag": True, "k": "rbf"}),
            crash("b", config={"n": 3, "mixed": 1}),
            report("c", loss=math.inf, config={"mixed": 0.5, "big": 2**63, "huge": 2**70}),
        ]
    )

    frame = history.df()

    kinds = {
        "config:n": "Int64",
        "config:x": "Float64",
        "config:flag": "boolean",
        "config:k": "string",
        "config:mixed": "object",
        "config:big": "UInt64",
        "config:huge": "object",
        "metric:loss (minimize)": "Float64",
        "seed": "Int64",
    }
    assert {column: str(frame[column].dtype) for column in kinds} == kinds
    assert frame["config:n"].iloc[0] == 2**62 + 1
    assert frame["metric:loss (minimize)"].iloc[1] is pd.NA
    assert frame["config:mixed"].iloc[0] is pd.NA


def test_rows_are_in_order_and_columns_by_what_they_are():
    pytest.importorskip("pandas", reason="the extra history is not installed")
    reports = [
        report("a", loss=1.0, config={"x": 1}),
        report("b", metrics=(ACCURACY,), config={"y": 1}),
    ]

    frame = History(reports).df()

    assert list(frame["name"]) == ["a", "b"]
    assert list(frame.columns)[:6] == [
        "name",
        "status",
        "metric:loss (minimize)",
        "metric:accuracy (maximize) [0.0, 1.0]",
        "config:x",
        "config:y",
    ]


def test_a_dataframe_of_nothing_has_the_columns_that_are_always_there():
    pytest.importorskip("pandas", reason="the extra history is not installed")

    frame = History().df()

    assert len(frame) == 0
    assert {"name", "status", "seed", "time:wall_s"} <= set(frame.columns)


# --------------------------------------------------------------------------------------- files


@pytest.fixture(params=[".jsonl", ".parquet"])
def path(request, tmp_path):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra history is not installed")
        pytest.importorskip("pandas", reason="the extra history is not installed")
    return tmp_path / f"run{request.param}"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_has_all_of_each_report(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra history is not installed")
    path = tmp_path / f"run{suffix}"

    @given(histories.many_reports(), histories.many_reports())
    @settings(max_examples=30)
    def saved_and_loaded(reports, others):
        history = History(reports)
        for each in others:
            if each.name not in history:
                history.add_cancelled(each.trial)

        history.save(path)
        back = History.load(path)

        assert list(map(form, back)) == list(map(form, history))
        assert list(map(form, back.cancelled)) == list(map(form, history.cancelled))

    saved_and_loaded()


def test_what_is_pickled_is_unpickled_only_where_that_is_asked_for(path):
    History([report("a", config={"x": Opaque(1)})]).save(path)

    assert isinstance(History.load(path)["a"].config["x"], Pickled)
    assert History.load(path, unpickle=True)["a"].config["x"] == Opaque(1)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(path, history, monkeypatch):
    History([report("before")]).save(path)

    def broken(_descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space left"):
        history.save(path)

    assert names(History.load(path)) == ["before"]
    assert list(path.parent.iterdir()) == [path]


def test_who_is_reading_a_file_meanwhile_goes_on_with_the_old_one(path, history):
    History([report("before")]).save(path)
    before = path.read_bytes()

    with path.open("rb") as reader:
        history.save(path)
        assert reader.read() == before


def test_a_folder_that_is_not_there_is_made(path, history):
    history.save(path.parent / "new" / path.name)

    assert names(History.load(path.parent / "new" / path.name)) == names(history)


def test_a_file_has_the_permissions_of_any_new_file(path, history):
    history.save(path)
    path.with_name("other").touch()

    assert path.stat().st_mode == path.with_name("other").stat().st_mode


def test_a_suffix_that_is_not_known_is_an_error(tmp_path, history):
    with pytest.raises(HistoryError, match=r"'\.csv'; name it such as 'run\.jsonl'"):
        history.save(tmp_path / "run.csv")
    with pytest.raises(HistoryError, match=r"cannot be read from"):
        History.load(tmp_path / "run.csv")


def test_other_programs_can_read_the_columns_of_a_parquet_file(tmp_path):
    pd = pytest.importorskip("pandas", reason="the extra history is not installed")
    pytest.importorskip("pyarrow", reason="the extra history is not installed")
    reports = [
        report("a", loss=0.5, config={"x": 1, "y": True, "z": 2**70}),
        crash("b", config={"x": 0.5, "y": "auto"}),
        crash("c"),
    ]

    History(reports).save(tmp_path / "run.parquet")

    frame = pd.read_parquet(tmp_path / "run.parquet")
    assert list(frame["config:x"].dropna()) == [1.0, 0.5]
    assert list(frame["config:y"].dropna()) == ["true", "auto"]
    assert list(frame["config:z"].dropna()) == [2.0**70]
    assert frame["metric:loss (minimize)"].iloc[0] == 0.5


def test_each_line_is_json_that_any_program_reads(tmp_path, history):
    history.save(tmp_path / "run.jsonl")

    lines = (tmp_path / "run.jsonl").read_text(encoding="ascii").splitlines()

    assert json.loads(lines[0]) == {"format": "amltk-history", "version": 1}
    assert [json.loads(line)["report"]["trial"]["name"] for line in lines[1:]] == list("abcdef")


def cut_off(path, n_bytes=10):
    path.write_bytes(path.read_bytes()[:-n_bytes])


def test_a_line_that_is_cut_off_is_an_error_that_says_which(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.save(path)
    cut_off(path)

    with pytest.raises(HistoryError, match=r"line 7 of .*run\.jsonl'.*cut off.*partial=True"):
        History.load(path)


def test_what_can_be_read_of_a_file_is_read_where_that_is_asked_for(tmp_path, history, caplog):
    path = tmp_path / "run.jsonl"
    history.save(path)
    cut_off(path)

    back = History.load(path, partial=True)

    assert names(back) == list("abcde")
    assert "line 7 of" in caplog.text


def test_every_length_that_a_killed_writer_leaves_is_read(tmp_path):
    path = tmp_path / "run.jsonl"
    History([report("a"), report("b")]).save(path)
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]

    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        back = History.load(path, partial=True)
        # The end of a line may be missing, but nothing else of it.
        assert len(back) == max(0, sum(end <= length for end in ends) - 1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 of .*JSONDecodeError"),
        ("3", "line 2 of .*neither a report nor a cancelled trial"),
        ('{"report": {}}', "line 2 of .*'version' is missing"),
        ('{"report": {"version": 2}}', "line 2 of .*newer amltk"),
        ("[" * 100_000, "line 2 of .*RecursionError"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_can_be_left_out(tmp_path, history, line, problem):
    path = tmp_path / "run.jsonl"
    history.save(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]))

    with pytest.raises(HistoryError, match=problem):
        History.load(path)
    assert names(History.load(path, partial=True)) == list("abcdef")


def test_a_second_report_of_a_name_in_a_file_is_an_error(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.save(path)
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[1])

    with pytest.raises(HistoryError, match=r"line 8 of .*second report of 'a'"):
        History.load(path)


@pytest.mark.parametrize("partial", [True, False])
def test_a_file_of_something_else_is_refused(tmp_path, partial):
    path = tmp_path / "run.jsonl"
    path.write_text('{"a": 1}\n')

    with pytest.raises(HistoryError, match="line 1 is no header"):
        History.load(path, partial=partial)


@pytest.mark.parametrize("partial", [True, False])
def test_a_file_of_a_newer_version_is_refused(tmp_path, partial):
    path = tmp_path / "run.jsonl"
    path.write_text('{"format": "amltk-history", "version": 2}\n')

    with pytest.raises(HistoryError, match=r"version 2 cannot be read.*update"):
        History.load(path, partial=partial)


def test_an_empty_file_is_cut_off(tmp_path):
    (tmp_path / "run.jsonl").touch()

    with pytest.raises(HistoryError, match=r"line 1.*empty"):
        History.load(tmp_path / "run.jsonl")
    assert len(History.load(tmp_path / "run.jsonl", partial=True)) == 0


def test_parquet_that_is_cut_off_or_of_something_else_is_refused(tmp_path, history):
    pd = pytest.importorskip("pandas", reason="the extra history is not installed")
    pytest.importorskip("pyarrow", reason="the extra history is not installed")
    path = tmp_path / "run.parquet"
    history.save(path)
    cut_off(path, 100)
    with pytest.raises(HistoryError, match="is it whole, and Parquet"):
        History.load(path)

    pd.DataFrame({"record": ["x"]}).to_parquet(path)
    with pytest.raises(HistoryError, match="has no history, but something else"):
        History.load(path)


def test_a_row_of_parquet_that_cannot_be_read_is_named(tmp_path, history):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra history is not installed")
    pytest.importorskip("pandas", reason="the extra history is not installed")
    path = tmp_path / "run.parquet"
    history.save(path)
    table = parquet.read_table(path)
    records = [text if i else "{" for i, text in enumerate(table["record"].to_pylist())]
    place = table.column_names.index("record")
    parquet.write_table(table.set_column(place, "record", [records]), path)

    with pytest.raises(HistoryError, match=r"row 1 of .*Expecting property name"):
        History.load(path)
    assert names(History.load(path, partial=True)) == list("bcdef")


# ----------------------------------------------------------------------------------- logging


def test_each_report_is_in_the_file_at_once(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.log_to(path)

    history.append(report("x", loss=0.1))
    history.add_cancelled(Trial("y", {}))

    there = History.load(path)
    assert names(there) == [*"abcdef", "x"]
    assert names(there.cancelled) == ["y"]


def test_a_driver_that_is_killed_leaves_what_it_had(tmp_path):
    path = tmp_path / "run.jsonl"
    script = f"""
from amltk.optimization import Trial
from amltk.optimization.history.history import History
history = History()
history.log_to({str(path)!r})
for i in range(1000000):
    history.append(Trial.SuccessReport(trial=Trial(str(i), {{"x": i}})))
    if i == 100:
        print("ready", flush=True)
"""
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout.readline() == "ready\n"
        driver.send_signal(signal.SIGKILL)

    there = History.load(path, partial=True)

    assert len(there) > 100
    assert [int(name) for name in names(there)] == list(range(len(there)))


def test_logging_goes_on_with_a_file_that_was_loaded(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.log_to(path)
    history.close()
    cut_off(path)

    second = History.load(path, partial=True)
    second.log_to(path)
    second.append(report("x"))

    assert names(History.load(path)) == [*"abcde", "x"]


def test_a_file_with_other_trials_is_not_written_over(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.save(path)

    with pytest.raises(HistoryError, match="has 'a' and 6 trials in all that are not"):
        History().log_to(path)
    assert len(History.load(path)) == 6


def test_only_lines_can_be_logged(tmp_path, history):
    with pytest.raises(HistoryError, match=r"cannot be appended.*\.jsonl"):
        history.log_to(tmp_path / "run.parquet")


def test_nothing_is_logged_after_close(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.log_to(path)
    history.close()
    history.close()

    history.append(report("x"))

    assert "x" not in History.load(path)


def test_a_history_that_nobody_has_closes_its_file(tmp_path):
    path = tmp_path / "run.jsonl"

    def is_open():
        return str(path) in [file.path for file in psutil.Process().open_files()]

    history = History()
    history.log_to(path)
    assert is_open()

    del history
    gc.collect()

    assert not is_open()


def test_saving_to_the_file_that_is_logged_to_does_not_end_that(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.log_to(path)

    history.save(path)
    history.append(report("x"))

    assert "x" in History.load(path)


def test_a_disk_that_is_full_is_an_error_and_ends_logging(tmp_path, history):
    if not Path("/dev/full").exists():
        pytest.skip("there is no device that is always full")
    history.log_to(tmp_path / "run.jsonl")
    history._log._file.close()
    history._log._file = full = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115 - below

    with full, pytest.raises(OSError, match="space"):
        history.append(report("x"))

    history.append(report("y"))
    assert names(history)[-2:] == ["x", "y"]


def test_a_copy_does_not_log(tmp_path, history):
    path = tmp_path / "run.jsonl"
    history.log_to(path)

    other = copy.deepcopy(history)
    other.append(report("x"))

    assert "x" in other
    assert "x" not in History.load(path)
    assert other["a"] == history["a"]


def test_appending_takes_the_same_time_however_long_it_is():
    history = History()

    def time_of(n):
        reports = [report(str(len(history) + i), loss=1.0) for i in range(n)]
        began = time.process_time()
        history.extend(reports)
        return time.process_time() - began

    first = min(time_of(1000) for _ in range(5))
    history.extend(report(str(i), loss=1.0) for i in range(len(history), 40_000))
    later = min(time_of(1000) for _ in range(5))

    assert later < 5 * first


def test_it_loads_nothing_but_the_standard_library():
    script = """
import sys
from amltk.optimization.history.history import History
from amltk.optimization import Trial
report = Trial.SuccessReport(trial=Trial("a", {"x": (1, {2})}))
assert Trial.Report.from_dict(report.to_dict()) == report
assert Trial.Report.from_row(report.to_row()) == report
print(*{"pandas", "numpy", "pyarrow", "matplotlib", "cloudpickle"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""
