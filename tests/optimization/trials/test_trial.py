"""A trial: plain data that travels, whose work is measured, and which makes its report."""

import copy
import dataclasses
import math
import os
import pickle

import pytest
import support

from amltk.exceptions import MetricError, TrialError
from amltk.optimization import Metric, Trial

ACCURACY = Metric("accuracy", minimize=False, bounds=(0, 1))


@pytest.fixture
def trial():
    return Trial("trial-1", {"lr": 0.1, "layers": 3}, metrics=(ACCURACY,))


def arrived(value):
    """Return what of a value arrives in another process."""
    return pickle.loads(pickle.dumps(value))


def everything(tmp_path):
    return Trial(
        "all",
        {"lr": 0.1},
        metrics=(ACCURACY, Metric("time")),
        seed=3,
        fidelities={"epochs": 9.0},
        info={"number": 1},
        summary={"note": "n"},
        storage=tmp_path / "all",
        n_told=2,
        plugins={"mine": 1},
    )


# ---------------------------------------------------------------------------- plain data


def test_it_pickles_small(trial):
    assert len(pickle.dumps(trial)) < 400


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_all_of_it_arrives(protocol, tmp_path):
    trial = everything(tmp_path)

    assert pickle.loads(pickle.dumps(trial, protocol)) == trial


def test_what_is_empty_arrives_as_empty_and_belongs_to_it_alone():
    one, other = arrived(Trial("a", {})), arrived(Trial("a", {}))

    assert one == Trial("a", {})
    assert (one.metrics, one.seed, one.storage) == ((), None, None)
    assert one.summary is not other.summary
    assert one.plugins is not other.plugins


def test_one_that_arrives_without_metrics_can_be_reported_by_any():
    trial = arrived(Trial("a", {}))
    with trial.begin():
        pass

    assert trial.success(loss=3).metrics == {"loss": 3.0}


def test_the_work_does_not_travel(trial):
    with trial.begin():
        raise LookupError("here")

    assert arrived(trial) == trial
    assert arrived(trial).exception is None


def test_attributes_of_ones_own_travel(trial):
    trial.mine = [1, 2]

    assert arrived(trial).mine == [1, 2]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, dataclasses.replace])
def test_a_copy_is_equal_and_has_not_begun(copied, tmp_path):
    trial = everything(tmp_path)
    with trial.begin():
        again = copied(trial)

        assert again == trial
        with again.begin():  # which is another work
            pass


def test_a_deep_copy_shares_nothing_that_can_be_changed(tmp_path):
    trial = everything(tmp_path)
    again = copy.deepcopy(trial)
    again.summary["note"] = "another"
    again.plugins.clear()

    assert trial == everything(tmp_path)


def test_one_that_differs_in_anything_is_another(tmp_path):
    trial = everything(tmp_path)
    others = {"name": "b", "config": {}, "seed": 4, "metrics": (), "n_told": 3, "summary": {}}

    for name, value in others.items():
        assert dataclasses.replace(trial, **{name: value}) != trial


def test_a_trial_and_its_report_need_nothing_but_the_standard_library(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "before = set(sys.modules)\n"
        "from amltk.optimization.trials.trial import Trial\n"
        "trial = Trial('a', {'x': 1})\n"
        "with trial.begin():\n"
        "    pass\n"
        "trial.success(accuracy=0.5)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*new)\n"
        "print('amltk.optimization.trials.task' in sys.modules, 'asyncio' in sys.modules)\n"
    )
    process = support.start_script(script)

    new, others = process.communicate(timeout=30)[0].splitlines()
    assert set(new.split()) - support.STANDARD == {"amltk"}
    assert others == "False False"


def test_its_parts_are_found_at_it(trial):
    from amltk.optimization.trials.task import TrialTask

    assert Trial.Task is TrialTask
    assert trial.Task is TrialTask
    assert issubclass(Trial.SuccessReport, Trial.Report)
    assert Trial.Status("crashed") is Trial.Status.CRASHED


# ------------------------------------------------------------------------- what is reported


def test_a_success_has_its_metrics_and_what_was_measured(trial):
    with trial.begin():
        pass
    report = trial.success(accuracy=0.5)

    assert type(report) is Trial.SuccessReport
    assert report.status is Trial.Status.SUCCESS
    assert report.metrics == {"accuracy": 0.5}
    assert report.trial is trial
    assert report.time.wall_s >= 0
    assert report.peak_memory_mb > 1
    assert f":{os.getpid()}" in report.worker
    assert (report.exception, report.traceback) == (None, None)


def test_a_failure_needs_no_metrics_but_may_have_them(trial):
    with trial.begin():
        pass
    report = trial.fail(accuracy=0.1)

    assert type(report) is Trial.FailReport
    assert report.metrics == {"accuracy": 0.1}


def test_what_the_block_raises_is_caught_and_makes_the_crash(trial):
    with trial.begin():
        raise LookupError("no data")

    assert isinstance(trial.exception, LookupError)
    report = trial.crashed()
    assert type(report) is Trial.CrashReport
    assert report.exception is trial.exception
    assert "no data" in report.traceback
    assert "test_trial.py" in report.traceback
    assert report.time.wall_s >= 0


def test_a_failure_after_the_block_has_raised_says_why(trial):
    with trial.begin():
        raise LookupError("no data")

    assert trial.fail().exception is trial.exception


def test_a_crash_may_be_of_an_exception_of_ones_own(trial):
    error = ValueError("diverged")
    with trial.begin():
        pass

    report = trial.crashed(error)
    assert report.exception is error
    assert report.traceback == "ValueError: diverged\n"


def test_a_crash_before_the_work_has_begun_is_a_report_without_times(trial):
    report = trial.crashed(ValueError("no memory"))

    assert report.time is None
    assert "no memory" in report.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(3), GeneratorExit])
def test_what_is_no_exception_of_the_work_flies_on(trial, error):
    with pytest.raises(BaseException) as caught, trial.begin():
        raise error

    assert isinstance(caught.value, KeyboardInterrupt | SystemExit | GeneratorExit)
    assert trial.exception is None
    with trial.begin():  # the work has ended all the same
        pass


def test_a_return_inside_of_the_block_is_as_good_as_one_after_it(trial):
    def train():
        with trial.begin():
            return trial.success(accuracy=1)

    assert train().metrics == {"accuracy": 1.0}
    with trial.begin():
        pass


def test_what_is_raised_after_a_success_inside_of_the_block_takes_it_back(trial):
    with trial.begin():
        trial.success(accuracy=1)
        raise LookupError("late")

    assert isinstance(trial.crashed().exception, LookupError)


def test_its_work_may_begin_again_after_it_has_ended(trial):
    with trial.begin():
        raise LookupError("first attempt")
    trial.crashed()
    with trial.begin():
        pass

    assert trial.exception is None
    assert trial.success(accuracy=1).exception is None


def test_its_folder_is_made_when_the_work_begins(tmp_path):
    trial = Trial("a", {}, storage=tmp_path / "deep" / "a")
    assert not trial.storage.exists()
    for _ in range(2):
        with trial.begin():
            assert trial.storage.is_dir()


def test_a_folder_that_cannot_be_made_is_an_error_of_its_own_and_nothing_has_begun(tmp_path):
    (tmp_path / "file").touch()
    trial = Trial("a", {}, storage=tmp_path / "file" / "a")

    with pytest.raises(NotADirectoryError), trial.begin():
        pass
    with pytest.raises(TrialError, match="has not begun"):
        trial.success()


# ----------------------------------------------------------------------------------- misuse


@pytest.mark.parametrize("report", [Trial.success, Trial.fail])
def test_a_report_before_the_work_has_begun_is_refused(report):
    with pytest.raises(
        TrialError, match=r"'a' cannot be reported.*with trial\.begin\(\)"
    ) as caught:
        report(Trial("a", {}))

    assert caught.value.trial == "a"


def test_a_block_that_was_asked_for_and_not_entered_is_none(trial):
    trial.begin()

    with pytest.raises(TrialError, match="has not begun"):
        trial.success(accuracy=1)


def test_a_crash_without_an_exception_is_refused(trial):
    with trial.begin():
        pass

    with pytest.raises(TrialError, match=r"nothing was raised.*trial\.crashed\(exception\)"):
        trial.crashed()


@pytest.mark.parametrize("wrong", ["no memory", ValueError])
def test_a_crash_with_what_is_no_exception_is_refused(trial, wrong):
    with pytest.raises(TrialError, match=r"without an exception, and .* is none"):
        trial.crashed(wrong)


@pytest.mark.parametrize("again", ["success", "fail", "crashed"])
def test_a_second_report_is_refused_and_changes_nothing(trial, again):
    with trial.begin():
        pass
    report = trial.success(accuracy=1)
    arguments = {"exception": ValueError("x")} if again == "crashed" else {"accuracy": 0.5}

    with pytest.raises(TrialError, match="reported already, as success; return that report"):
        getattr(trial, again)(**arguments)
    assert trial.exception is None
    assert report.metrics == {"accuracy": 1.0}


def test_a_success_after_the_block_has_raised_is_refused_and_says_what_it_raised(trial):
    with trial.begin():
        raise LookupError("no data")

    with pytest.raises(TrialError, match=r"no data.*trial\.fail\(\) or trial\.crashed") as caught:
        trial.success(accuracy=1)
    assert caught.value.__cause__ is trial.exception


def test_beginning_inside_of_the_block_is_refused(trial):
    refused = pytest.raises(TrialError, match="has begun already, and has not ended")
    with trial.begin(), refused, trial.begin():
        pass

    assert trial.exception is None


def test_two_blocks_made_before_are_refused_too(trial):
    first, second = trial.begin(), trial.begin()

    with first, pytest.raises(TrialError, match="has begun already"), second:
        pass


@pytest.fixture
def ended(trial):
    with trial.begin():
        pass
    return trial


def test_a_success_without_one_of_its_metrics_is_refused():
    trial = Trial("a", {}, metrics=(ACCURACY, Metric("loss"), Metric("time")))
    with trial.begin():
        pass

    with pytest.raises(MetricError, match=r"without loss, time; give loss=…, time=…") as caught:
        trial.success(accuracy=1)
    assert caught.value.metric == "loss"


def test_a_metric_that_was_not_declared_is_refused(ended):
    with pytest.raises(MetricError, match=r"'f1', but by: accuracy; declare it.*trial\.summary"):
        ended.success(accuracy=1, f1=0.5)
    with pytest.raises(MetricError, match="not measured by 'f1'"):
        ended.fail(f1=0.5)


@pytest.mark.parametrize("report", ["success", "fail"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, r"'accuracy' is NaN.*return trial\.fail\(\)"),
        (1.01, r"is 1\.01, which is out of its bounds \[0\.0, 1\.0\]"),
        (-math.inf, "out of its bounds"),
        (None, "None, which is no number"),
        ("0.5", "'0.5', which is no number"),
        (b"1", "which is no number"),
        (1j, "which is no number"),
        ([0.5], "which is no number"),
        (10**400, "which is no number"),
    ],
)
def test_a_value_that_the_metric_cannot_have_is_refused(ended, report, value, message):
    with pytest.raises(MetricError, match=message) as caught:
        getattr(ended, report)(accuracy=value)

    assert caught.value.metric == "accuracy"
    assert caught.value.value is value


def test_a_value_that_was_refused_may_be_corrected(ended):
    with pytest.raises(MetricError):
        ended.success(accuracy=7)

    assert ended.success(accuracy=0.7).metrics == {"accuracy": 0.7}


def test_scalars_of_numpy_are_numbers(ended):
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    with pytest.raises(MetricError, match="no number"):
        ended.success(accuracy=numpy.zeros(2))

    report = ended.success(accuracy=numpy.float32(0.5))
    assert type(report.metrics["accuracy"]) is float


@pytest.mark.slow  # for importing it takes seconds
def test_scalars_of_torch_are_numbers(ended):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(MetricError, match="no number"):
        ended.success(accuracy=torch.zeros(2))

    report = ended.success(accuracy=torch.tensor(0.5))
    assert type(report.metrics["accuracy"]) is float


def test_a_metric_may_have_any_name():
    trial = Trial("a", {}, metrics=(Metric("self"), Metric("F1, macro")))
    with trial.begin():
        pass

    assert trial.success(**{"self": 1, "F1, macro": 2}).metrics == {"self": 1.0, "F1, macro": 2.0}
