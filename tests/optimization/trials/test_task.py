"""`Trial.Task`: each trial ends in exactly one report or cancellation, told after what tasks tell."""

import functools
import gc
import importlib
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path

import pytest
import support

from amltk import CallLimiter, Scheduler, Task, TaskPlugin
from amltk.exceptions import (
    CallExitError,
    CallPicklingError,
    InvalidCallbackError,
    RemoteError,
    ReportTypeError,
    ResultPicklingError,
    ResultUnpicklingError,
    SchedulerNotRunningError,
    TrialError,
    WorkerDiedError,
)
from amltk.optimization import Trial
from amltk.plugins import Retry
from amltk.testing.contracts.plugin import ENGINES

ExitCode = Scheduler.ExitCode

EVENTS = {
    "F_SUBMITTED": Task.F_SUBMITTED,
    "SUBMITTED": Task.SUBMITTED,
    "DONE": Task.DONE,
    "F_RETURNED": Task.F_RETURNED,
    "RETURNED": Task.RETURNED,
    "F_EXCEPTION": Task.F_EXCEPTION,
    "EXCEPTION": Task.EXCEPTION,
    "F_CANCELLED": Task.F_CANCELLED,
    "REPORT": Trial.Task.REPORT,
    "SUCCESS": Trial.Task.SUCCESS,
    "FAILURE": Trial.Task.FAILURE,
    "CRASHED": Trial.Task.CRASHED,
    "CANCELLED": Trial.Task.CANCELLED,
}
SUBMITTED = ["F_SUBMITTED", "SUBMITTED"]
RETURNED = [*SUBMITTED, "DONE", "F_RETURNED", "RETURNED", "REPORT"]
RAISED = [*SUBMITTED, "DONE", "F_EXCEPTION", "EXCEPTION", "REPORT", "CRASHED"]
CANCELLED = [*SUBMITTED, "F_CANCELLED", "CANCELLED"]

#: The engines of this machine; what starts slowly is for tests that say so.
QUICK = ["sequential", "threads", "processes"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ENGINES if name not in QUICK]


# ------------------------------------------------------------------------- what trials do


def work(trial, more=0):
    """Do what the configuration says."""
    how = trial.config.get("how", "succeed")
    if how == "raise outside":
        raise LookupError("outside")
    if how == "kill":
        support.die(trial.config["by"])
    if how == "wait":
        support.write_atomically(trial.config["path"], "begun")
        support.sleep_for_ever()
    with trial.begin():
        score = trial.config.get("x", 0) + more
        if how == "raise inside":
            raise LookupError("inside")
    if how == "fail":
        return trial.fail(score=score)
    if trial.exception is not None:
        return trial.crashed()
    return trial.success(score=score)


def trial_of(how="succeed", name="trial", **config):
    return Trial(name, {"how": how, **config})


class Story:
    """A task, and what is told of its trials."""

    def __init__(self, function=work, scheduler=None, **options):
        self.scheduler = scheduler or Scheduler.with_sequential()
        self.task = Trial.Task(function, self.scheduler, **options)
        self.told = []
        self.reports = []
        self.cancelled = []
        for name, event in EVENTS.items():
            self.task.on(event, functools.partial(self.note, name))
        self.task.on_report(self.reports.append)
        self.task.on_cancelled(self.cancelled.append)

    def note(self, name, *_args, **_kwargs):
        self.told.append(name)

    def run(self, *trials, args=(), **options):
        """Run trials, and see that each has ended once and that the task has forgotten them.

        Returns:
            The last report.
        """
        before = len(self.reports), len(self.cancelled)
        sent = []

        def send():
            sent.extend(trial.name for trial in trials if self.task(trial, *args) is not None)

        start = self.scheduler.on_start(send)
        options = {"end_on_exception": False, "timeout": 50, **options}
        try:
            self.code = self.scheduler.run(**options)
        finally:
            self.scheduler.on_start.remove(start)
            ended = [report.name for report in self.reports[before[0] :]]
            ended += [trial.name for trial in self.cancelled[before[1] :]]
            assert sorted(ended) == sorted(sent)
            assert_forgotten(self.task)
        return self.reports[-1] if self.reports else None


def assert_forgotten(task):
    assert not task._trials
    assert not task._names
    assert task.n_running == 0


def scheduler_of(engine, stack):
    return ENGINES[engine](stack)


# ------------------------------------------------------------------- order, on all engines


@pytest.mark.parametrize("engine", QUICK)
@pytest.mark.parametrize(
    ("how", "told", "exception"),
    [
        ("succeed", [*RETURNED, "SUCCESS"], None),
        ("fail", [*RETURNED, "FAILURE"], None),
        ("raise inside", [*RETURNED, "CRASHED"], LookupError),
        ("raise outside", RAISED, LookupError),
    ],
)
def test_a_report_is_told_once_and_after_what_all_tasks_tell(engine, how, told, exception):
    with ExitStack() as stack:
        story = Story(scheduler=scheduler_of(engine, stack))
        report = story.run(trial_of(how, x=3))

    assert story.told == told
    assert report.name == "trial"
    assert isinstance(report.exception, exception or type(None))
    assert report.metrics == ({"score": 3.0} if exception is None else {})
    assert (report.time is None) == (how == "raise outside")
    assert report.submitted_at <= report.reported_at


@pytest.mark.parametrize("engine", [*QUICK, *SLOW])
def test_many_trials_of_all_kinds_have_one_report_each(engine):
    hows = ["succeed", "fail", "raise inside", "raise outside"]
    trials = [trial_of(hows[i % 4], f"trial-{i}", x=i) for i in range(40)]
    with ExitStack() as stack:
        story = Story(scheduler=scheduler_of(engine, stack))
        story.run(*trials)

    by_name = {report.name: report for report in story.reports}
    assert len(by_name) == len(story.reports) == 40
    for i, trial in enumerate(trials):
        report = by_name[trial.name]
        assert report.config == trial.config
        assert report.status.value == ["success", "fail", "crashed", "crashed"][i % 4]
    assert story.code is ExitCode.EXHAUSTED


def test_a_trial_that_is_cancelled_before_it_starts_is_told_as_cancelled(manual):
    story = Story(scheduler=Scheduler(manual))
    story.task.on_submitted(lambda future: future.cancel())
    story.run(trial_of())

    assert story.told == CANCELLED
    assert story.cancelled == [trial_of()]


def test_so_it_is_where_trials_run_one_after_the_other():
    story = Story()
    story.task.on_report(lambda: [future.cancel() for future in story.task.futures()])
    story.run(trial_of(name="a"), trial_of(name="b"))

    assert [trial.name for trial in story.cancelled] == ["b"]


def test_a_trial_that_is_cancelled_while_it_runs_is_told_as_cancelled(tmp_path):
    story = Story(scheduler=Scheduler.with_processes(1))
    path = tmp_path / "begun"

    def cancel():
        support.wait_for_file(path)
        assert story.task.futures()[0].cancel()

    thread = threading.Thread(target=cancel)
    story.scheduler.on_start(thread.start)
    story.run(trial_of("wait", path=str(path)))
    thread.join()

    assert story.told == CANCELLED


# ------------------------------------------------------------------------- causes of crashes


@pytest.mark.parametrize("by", ["kill", "exit 0", "exit 7", "segfault"])
def test_the_death_of_a_worker_is_a_crash_with_the_cause(by):
    story = Story(scheduler=Scheduler.with_processes(1))
    report = story.run(trial_of("kill", by=by), trial_of(name="sibling"))
    crash = next(report for report in story.reports if report.name == "trial")

    assert report.name == "sibling"
    assert report.status is Trial.Status.SUCCESS
    assert isinstance(crash.exception, WorkerDiedError)
    assert "WorkerDiedError" in crash.traceback
    assert crash.trial == trial_of("kill", by=by)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["standard pool", "loky", "dask"])
def test_the_death_of_a_worker_is_a_crash_on_other_engines_too(engine):
    trials = [trial_of("kill" if i == 1 else "succeed", f"{i}", by="kill") for i in range(6)]
    with ExitStack() as stack:
        story = Story(scheduler=scheduler_of(engine, stack))
        story.run(*trials)

    assert len(story.reports) == 6
    crashed = [report for report in story.reports if report.status is Trial.Status.CRASHED]
    assert "1" in [report.name for report in crashed]
    assert all(report.exception is not None for report in crashed)


def raise_unpicklable_outside(trial):
    raise support.UnreadableError(1, 2)


def raise_unpicklable_inside(trial):
    with trial.begin():
        raise support.UnreadableError(1, 2)
    return trial.crashed()


@pytest.mark.parametrize("function", [raise_unpicklable_outside, raise_unpicklable_inside])
def test_an_exception_that_cannot_travel_is_a_crash_with_its_text(function):
    report = Story(function, Scheduler.with_processes(1)).run(trial_of())

    assert isinstance(report.exception, RemoteError)
    assert report.exception.type_name.endswith("UnreadableError")
    assert "UnreadableError: (1, 2)" in report.traceback


def raise_strange_outside(trial):
    raise importlib.import_module("only_in_the_worker").StrangeError("by far")


def raise_strange_inside(trial):
    with trial.begin():
        raise_strange_outside(trial)
    trial.summary["kept"] = True
    return trial.crashed()


@pytest.fixture
def strange(tmp_path):
    """A scheduler whose workers have a module that the driver has not."""
    (tmp_path / "only_in_the_worker.py").write_text("class StrangeError(Exception): ...\n")
    return Scheduler.with_processes(1, initializer=find_modules_in, initargs=(str(tmp_path),))


def find_modules_in(folder):
    sys.path.append(folder)


def test_an_exception_that_the_driver_cannot_make_is_a_crash(strange):
    report = Story(raise_strange_outside, strange).run(trial_of())

    assert isinstance(report.exception, ResultUnpicklingError)
    assert "only_in_the_worker" in str(report.exception)


def test_one_that_was_caught_in_the_block_takes_nothing_of_the_report_with_it(strange):
    report = Story(raise_strange_inside, strange).run(trial_of())

    assert isinstance(report.exception, RemoteError)
    assert "StrangeError: by far" in str(report.exception)
    assert report.trial.summary == {"kept": True}
    assert report.time.wall_s > 0


def return_what_it_is_told(trial, what):
    if what == "another":
        trial = Trial("another", {})
    if what in ("another", "base"):
        with trial.begin():
            pass
        return trial.success() if what == "another" else Trial.Report(trial=trial)
    return what


@pytest.mark.parametrize("engine", ["sequential", "processes"])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        (None, "returned None for 'trial'"),
        (0.5, r"returned 0\.5 for 'trial'"),
        (Trial, "returned <class"),
        ("another", "returned the report of another trial, 'another', for 'trial'"),
        ("base", r"returned Report\(trial="),
    ],
)
def test_what_is_no_report_of_the_trial_is_a_crash_that_says_what_to_return(engine, what, message):
    with ExitStack() as stack:
        story = Story(return_what_it_is_told, scheduler_of(engine, stack))
        report = story.run(trial_of(), args=(what,))

    assert isinstance(report, Trial.CrashReport)
    assert report.trial == trial_of()
    with pytest.raises(ReportTypeError, match=message):
        raise report.exception
    assert "return trial.success" in report.traceback
    assert story.told == [*RETURNED, "CRASHED"]


def return_a_generator(trial):
    return (i for i in range(3))


def test_a_wrong_result_that_could_not_travel_is_told_as_a_wrong_one():
    report = Story(return_a_generator, Scheduler.with_processes(1)).run(trial_of())

    assert isinstance(report.exception, ReportTypeError)
    assert "generator" in report.exception.value


class Replace(TaskPlugin):
    """Has something else called, which returns no report."""

    def pre_submit(self, fn, trial):
        return support.double, (3,), {}


def test_what_a_plugin_makes_of_the_result_is_looked_at_too():
    report = Story(plugins=[Replace()]).run(trial_of())

    assert isinstance(report.exception, ReportTypeError)
    assert report.trial == trial_of()


def note_what_cannot_travel(trial):
    with trial.begin():
        pass
    trial.summary["kept"] = trial.config["make"]()
    return trial.success()


def make_generator():
    return (i for i in range(3))


@pytest.mark.parametrize("make", [make_generator, threading.Lock])
def test_a_summary_that_cannot_travel_is_a_crash_that_says_so(make):
    report = Story(note_what_cannot_travel, Scheduler.with_processes(1)).run(
        Trial("trial", {"make": make})
    )

    assert isinstance(report.exception, ResultPicklingError)
    assert report.trial.summary == {}


@pytest.mark.parametrize("value", [threading.Lock(), make_generator()])
def test_a_configuration_that_cannot_travel_is_a_crash_that_says_so(value):
    story = Story(scheduler=Scheduler.with_processes(1))
    report = story.run(Trial("trial", {"x": value}))

    assert isinstance(report.exception, CallPicklingError)
    assert story.told == RAISED


def fall_through(trial):
    with trial.begin():
        raise LookupError("no data")


def go_on_without_it(trial):
    with trial.begin():
        score = trial.config["missing"]
    return trial.success(score=score)


def go_on_with_none(trial):
    score = None
    with trial.begin():
        score = trial.config["missing"]
    return trial.success(score=score)


def return_a_number(trial):
    with trial.begin():
        raise LookupError("no data")
    return 0.5


def forget_the_report(trial):
    with trial.begin():
        raise LookupError("no data")
    trial.fail()


def raise_it_again(trial):
    with trial.begin():
        raise LookupError("no data")
    raise trial.exception


@pytest.mark.parametrize(
    ("engine", "function", "cause"),
    [
        ("sequential", fall_through, LookupError),
        ("sequential", go_on_without_it, KeyError),
        ("processes", go_on_without_it, KeyError),
        ("sequential", go_on_with_none, KeyError),
        ("sequential", return_a_number, LookupError),
        ("sequential", forget_the_report, LookupError),
        ("sequential", raise_it_again, LookupError),
    ],
)
def test_a_function_that_goes_on_after_its_block_has_raised_crashes_with_that(
    engine, function, cause
):
    with ExitStack() as stack:
        story = Story(function, scheduler_of(engine, stack))
        report = story.run(trial_of())

    assert type(report.exception) is cause
    assert cause.__name__ in report.traceback
    assert report.time.wall_s >= 0
    assert story.told == [*RETURNED, "CRASHED"]


def test_what_the_function_raised_after_that_is_noted():
    report = Story(go_on_without_it).run(trial_of())

    assert "after that, the function raised UnboundLocalError" in report.exception.__notes__[0]
    assert "after that" in report.traceback


def forget_to_return(trial):
    with trial.begin():
        pass
    trial.success()


def test_a_report_that_was_made_and_not_returned_is_a_crash():
    report = Story(forget_to_return).run(trial_of())

    assert isinstance(report, Trial.CrashReport)
    assert isinstance(report.exception, ReportTypeError)


def misuse(trial):
    return trial.success(score=1)


def test_misuse_of_the_trial_is_a_crash_that_says_so():
    report = Story(misuse).run(trial_of())

    with pytest.raises(TrialError, match="has not begun"):
        raise report.exception


@pytest.mark.parametrize("engine", ["threads", "processes"])
@pytest.mark.parametrize(
    ("error", "told"), [(KeyboardInterrupt, KeyboardInterrupt), (SystemExit, CallExitError)]
)
def test_what_flies_through_the_block_is_a_crash_too(engine, error, told):
    with ExitStack() as stack:
        report = Story(raise_inside, scheduler_of(engine, stack)).run(trial_of(), args=(error,))

    assert isinstance(report.exception, told)


def raise_inside(trial, kind):
    with trial.begin():
        raise kind


# ------------------------------------------------------------------------ with other plugins


def reach(trial, limit):
    if limit == "memory":
        return trial.success(score=len(bytearray(10**9)))
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if limit == "wall":
            time.sleep(0.1)
    return trial.success()


@pytest.mark.parametrize(
    ("limit", "options", "exception"),
    [
        ("wall", {"wall_time_limit": 0.5}, "WallTimeoutException"),
        ("memory", {"memory_limit": (300, "mb")}, "MemoryLimitException"),
        pytest.param("cpu", {"cpu_time_limit": 1}, "CpuTimeoutException", marks=pytest.mark.slow),
    ],
)
def test_a_limit_that_is_reached_is_a_crash_with_the_cause(limit, options, exception):
    pytest.importorskip("pynisher", reason="the extra pynisher is not installed")
    from amltk.plugins import PynisherPlugin

    plugin = PynisherPlugin(**options)
    story = Story(reach, Scheduler.with_processes(1), plugins=[plugin])
    report = story.run(trial_of(), args=(limit,))

    assert isinstance(report.exception, getattr(PynisherPlugin, exception))
    assert exception in report.traceback
    assert story.told == RAISED


def allocate_in_the_block(trial):
    with trial.begin():
        bytearray(10**9)
    return trial.crashed()


def test_a_limit_that_is_met_in_the_block_is_a_crash_with_what_was_measured_and_told_of():
    pytest.importorskip("pynisher", reason="the extra pynisher is not installed")
    from amltk.plugins import PynisherPlugin

    limit, reached = PynisherPlugin(memory_limit=(300, "mb")), []
    story = Story(allocate_in_the_block, Scheduler.with_processes(1), plugins=[limit])
    story.task.on(PynisherPlugin.MEMORY_LIMIT_REACHED, reached.append)
    report = story.run(trial_of())

    assert isinstance(report.exception, MemoryError)
    assert report.time.wall_s > 0
    assert reached == [report.exception]


def test_an_exception_of_a_report_that_is_no_limits_is_not_told_of_as_one():
    pytest.importorskip("pynisher", reason="the extra pynisher is not installed")
    from amltk.plugins import PynisherPlugin

    reached = []
    for options in ({"memory_limit": (900, "mb")}, {"wall_time_limit": 30}):
        story = Story(
            raise_inside, Scheduler.with_processes(1), plugins=[PynisherPlugin(**options)]
        )
        story.task.on(PynisherPlugin.MEMORY_LIMIT_REACHED, reached.append)
        kind = MemoryError if "wall_time_limit" in options else LookupError
        assert type(story.run(trial_of(), args=(kind,)).exception) is kind
    assert not reached


def die_first(trial):
    path = Path(trial.config["path"])
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with trial.begin():
        return trial.success(score=1)


def test_a_trial_that_is_tried_again_has_one_report(tmp_path):
    story = Story(die_first, Scheduler.with_processes(1), plugins=[Retry(max_retries=1)])
    report = story.run(trial_of(path=str(tmp_path / "first")))

    assert report.status is Trial.Status.SUCCESS
    assert story.told == [*RETURNED, "SUCCESS"]


def test_a_trial_that_is_tried_in_vain_has_one_report_with_all_causes():
    story = Story(scheduler=Scheduler.with_processes(1), plugins=[Retry(max_retries=2)])
    report = story.run(trial_of("raise outside"))

    assert isinstance(report.exception, LookupError)
    assert story.told == RAISED


def fail_in_the_block_first(trial, attempts):
    attempts.append(trial.exception)
    if len(attempts) > 1:
        raise ValueError("second")
    with trial.begin():
        raise LookupError("first")
    raise SystemExit  # so that it is tried again


def test_an_attempt_knows_nothing_of_the_one_before_it():
    attempts = []
    story = Story(fail_in_the_block_first, plugins=[Retry(max_retries=1, on=BaseException)])
    report = story.run(trial_of(), args=(attempts,))

    assert attempts == [None, None]
    assert isinstance(report.exception, ValueError)


def test_what_was_done_with_the_trial_by_hand_does_not_count():
    trial = trial_of("raise outside")
    with trial.begin():
        raise ValueError("by hand")
    report = Story().run(trial)

    assert isinstance(report.exception, LookupError)


def test_a_trial_that_a_plugin_refuses_is_not_told_of():
    story = Story(plugins=[CallLimiter(max_calls=1)])
    story.run(trial_of(name="a"), trial_of(name="b"))

    assert [report.name for report in story.reports] == ["a"]
    assert story.task.n_called == 1


# ----------------------------------------------------------------------------- how runs end


def stop_when_begun(story, path, n_trials):
    """Stop the run when the trial has begun that waits, and all others are submitted."""

    def stop():
        support.wait_for_file(path)
        support.wait_until(lambda: story.task.event_counts[Task.SUBMITTED] == n_trials)
        story.scheduler.stop()

    thread = threading.Thread(target=stop)
    story.scheduler.on_start(thread.start)
    return thread


@pytest.mark.parametrize("engine", ["processes", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_without_waiting_cancels_what_runs_and_what_waits(engine, tmp_path):
    with ExitStack() as stack:
        story = Story(scheduler=scheduler_of(engine, stack))
        thread = stop_when_begun(story, tmp_path / "0", 5)
        # Each has a path of its own: two that write one file get in each other's way.
        trials = [trial_of("wait", f"{i}", path=str(tmp_path / f"{i}")) for i in range(5)]
        story.run(*trials, wait=False)
        thread.join()

    assert story.code is ExitCode.STOPPED
    assert len(story.cancelled) == 5


def hold_until(trial, begun, go_on):
    with trial.begin():
        begun.touch()
        support.wait_until(go_on.exists)
    return trial.success()


def test_a_run_that_is_stopped_and_waits_reports_what_runs_and_cancels_what_waits(tmp_path):
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    story = Story(hold_until, Scheduler.with_threads(1))
    thread = stop_when_begun(story, begun, 4)
    # Not before all are cancelled that wait: the thread would take one of them.
    story.task.on_cancelled(lambda _: len(story.cancelled) == 3 and go_on.touch())
    story.run(*(trial_of(name=f"{i}") for i in range(4)), args=(begun, go_on))
    thread.join()

    assert [report.name for report in story.reports] == ["0"]
    assert {trial.name for trial in story.cancelled} == {"1", "2", "3"}


def test_a_timeout_cancels_what_runs(tmp_path):
    story = Story(scheduler=Scheduler.with_processes(1))
    story.run(trial_of("wait", path=str(tmp_path / "begun")), wait=False, timeout=0.5)

    assert story.code is ExitCode.TIMEOUT
    assert story.told == CANCELLED


def test_ctrl_c_cancels_what_runs(tmp_path):
    path = tmp_path / "begun"
    story = Story(scheduler=Scheduler.with_processes(1))

    def interrupt():
        support.wait_for_file(path)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    story.scheduler.on_start(thread.start)
    with support.heeded_ctrl_c(), pytest.raises(KeyboardInterrupt):
        story.run(trial_of("wait", path=str(path)))
    thread.join()

    assert story.told == CANCELLED


def test_a_crash_outside_of_the_block_ends_a_run_that_ends_on_exceptions():
    story = Story()
    with pytest.raises(LookupError, match="outside"):
        story.run(trial_of("raise outside"), trial_of(name="b"), end_on_exception=True)

    assert [report.name for report in story.reports] == ["trial"]
    assert [trial.name for trial in story.cancelled] == ["b"]


def test_a_crash_inside_of_the_block_does_not():
    story = Story()
    story.run(trial_of("raise inside"), trial_of(name="b"), end_on_exception=True)

    assert len(story.reports) == 2


def test_a_trial_that_the_run_leaves_behind_frees_its_name(manual):
    scheduler = Scheduler(manual, terminate=False)
    task = Trial.Task(work, scheduler)
    scheduler.on_start(lambda: task(trial_of()), limit=1)
    scheduler.on_start(lambda: (manual.calls[0].start(), scheduler.stop()), limit=1)
    scheduler.run(wait=False)
    assert task._names == {"trial"}

    manual.calls.pop().finish()
    gc.collect()
    assert_forgotten(task)


@pytest.mark.parametrize("engine", QUICK)
def test_the_trial_that_was_sent_off_keeps_nothing_of_the_work(engine):
    trial = trial_of("raise inside")
    with ExitStack() as stack:
        report = Story(scheduler=scheduler_of(engine, stack)).run(trial)

    assert report.exception is not None
    assert trial.exception is None
    assert trial == trial_of("raise inside")


@pytest.mark.parametrize("engine", QUICK)
def test_a_second_run_is_as_clean_as_the_first(engine):
    with ExitStack() as stack:
        story = Story(scheduler=scheduler_of(engine, stack))
        for _ in range(2):
            story.told.clear()
            story.run(trial_of())
            assert story.told == [*RETURNED, "SUCCESS"]


# --------------------------------------------------------------------------------- callbacks


@pytest.mark.parametrize(
    ("how", "event"),
    [
        ("succeed", "returned"),
        ("succeed", "report"),
        ("succeed", "success"),
        ("fail", "failed"),
        ("raise outside", "exception"),
        ("raise outside", "report"),
        ("raise outside", "crashed"),
    ],
)
def test_a_callback_that_raises_ends_the_run_and_hides_nothing(how, event):
    story = Story()

    def wrong():
        raise ZeroDivisionError("of the callback")

    getattr(story.task, f"on_{event}")(wrong)
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        story.run(trial_of(how))

    last = {"succeed": "SUCCESS", "fail": "FAILURE", "raise outside": "CRASHED"}[how]
    assert story.told[-2:] == ["REPORT", last]


def test_a_callback_may_send_off_the_next_trial():
    story = Story()
    names = iter(range(1, 50))

    @story.task.on_report
    def next_one():
        number = next(names, None)
        if number is not None:
            story.task(trial_of(name=f"{number}"))

    story.scheduler.on_start(lambda: story.task(trial_of(name="0")))
    story.scheduler.run()

    assert [report.name for report in story.reports] == [f"{i}" for i in range(50)]
    assert_forgotten(story.task)


# ------------------------------------------------------------------------------------- names


def test_what_is_no_trial_is_refused():
    story = Story()
    with pytest.raises(TrialError, match=r"'work' has to be given a trial first, not 3"):
        story.run(3)


def test_what_cannot_be_called_is_refused(sequential):
    with pytest.raises(InvalidCallbackError, match="a task needs a function"):
        Trial.Task(3, sequential)


def test_a_trial_outside_of_a_run_is_refused_and_its_name_stays_free(sequential):
    task = Trial.Task(work, sequential)
    with pytest.raises(SchedulerNotRunningError):
        task(trial_of())
    assert_forgotten(task)


@pytest.mark.parametrize("engine", QUICK)
def test_a_name_that_is_on_its_way_is_refused_and_is_free_when_the_trial_has_ended(engine):
    with ExitStack() as stack:
        scheduler = scheduler_of(engine, stack)
        task = Trial.Task(work, scheduler)
        refused, names = [], []
        task.on_returned(lambda: task(trial_of(x=2)), limit=1)
        task.on_report(lambda report: names.append((report.name, report.metrics["score"])))

        @scheduler.on_start
        def start():
            task(trial_of(x=1))
            with pytest.raises(TrialError, match="sent off already, and has not ended") as caught:
                task(trial_of())
            refused.append(caught.value.trial)

        scheduler.run()

    assert refused == ["trial"]
    assert names == [("trial", 1), ("trial", 2)]
    assert_forgotten(task)


class Name:
    def __call__(self, trial):
        return work(trial)


@pytest.mark.parametrize(
    ("function", "name"),
    [(work, "work"), (functools.partial(work, more=1), "work"), (Name(), "Name")],
)
def test_the_task_is_named_after_its_function(function, name, sequential):
    assert Trial.Task(function, sequential).name == name
    assert Trial.Task(function, sequential, name="mine").name == "mine"


def test_its_function_travels_small():
    assert len(pickle.dumps(Trial.Task(work, Scheduler.with_sequential()).function)) < 300


# ------------------------------------------------------------------- batches, copies, options


def test_a_batch_hears_of_its_trials_and_the_task_does_not():
    story = Story()
    batch = story.task.batch([(trial_of(name=f"{i}"),) for i in range(3)])
    heard, results = [], []
    batch.on(Trial.Task.REPORT, lambda report: heard.append(report.name))
    batch.on(Trial.Task.SUCCESS, lambda report: heard.append(report.status.value))
    batch.on_batch_returned(results.extend)
    story.scheduler.on_start(batch.submit)
    story.scheduler.run()

    assert heard == ["0", "success", "1", "success", "2", "success"]
    assert [report.name for report in results] == ["0", "1", "2"]
    assert story.told == []
    assert_forgotten(batch._task)


def test_a_batch_hears_of_trials_that_crashed_or_were_cancelled():
    story = Story()
    batch = story.task.batch([(trial_of("raise outside", "a"),), (trial_of(name="b"),)])
    heard = []
    batch.on(Trial.Task.CRASHED, lambda report: heard.append(report.name))
    batch.on(Trial.Task.CANCELLED, lambda trial: heard.append(trial.name))
    batch.on_any_exception(lambda: batch.futures()[1].cancel())
    story.scheduler.on_start(batch.submit)
    story.scheduler.run(end_on_exception=False)

    assert heard == ["a", "b"]
    assert_forgotten(batch._task)


def test_a_copy_has_the_function_and_names_and_listeners_of_its_own():
    story = Story(plugins=[CallLimiter(max_calls=1)])
    copied = story.task.copy()
    heard = []
    copied.on_success(lambda report: heard.append(report.metrics))
    story.scheduler.on_start(lambda: (story.task(trial_of(x=1)), copied(trial_of(x=2))))
    story.scheduler.run()

    assert type(copied) is Trial.Task
    assert heard == [{"score": 2.0}]
    assert story.told == [*RETURNED, "SUCCESS"]


def test_a_trial_that_is_sent_off_with_options_is_one_of_the_task():
    story = Story()
    view = story.task.options()

    @story.scheduler.on_start
    def start():
        view(trial_of())
        with pytest.raises(TrialError, match="sent off already"):
            story.task(trial_of())

    story.scheduler.run()

    assert story.told == [*RETURNED, "SUCCESS"]
    assert_forgotten(story.task)


def test_more_arguments_come_after_the_trial():
    story = Story()
    story.scheduler.on_start(lambda: story.task(trial_of(x=1), more=2))
    story.scheduler.run()

    assert story.reports[0].metrics == {"score": 3.0}


# ---------------------------------------------------------------- threads, and what is kept


def test_trials_may_be_sent_off_from_other_threads():
    story = Story(scheduler=Scheduler.with_threads(2))
    sent = []

    def send(start):
        sent.extend(story.task(trial_of(name=f"{i}")) for i in range(start, start + 50))

    threads = [threading.Thread(target=send, args=(start,)) for start in (0, 50, 100)]
    story.scheduler.on_start(lambda: [thread.start() for thread in threads])
    story.scheduler.on_empty(lambda: [thread.join() for thread in threads], limit=1)
    story.scheduler.run(timeout=50)

    assert len(sent) == 150
    assert {report.name for report in story.reports} == {f"{i}" for i in range(150)}
    assert_forgotten(story.task)


@pytest.mark.parametrize(
    ("engine", "how"),
    [
        ("sequential", "succeed"),
        ("sequential", "raise inside"),
        ("sequential", "raise outside"),
        ("processes", "raise outside"),
    ],
)
def test_nothing_is_kept_of_a_trial_whose_report_nobody_keeps(engine, how):
    with ExitStack() as stack:
        scheduler = scheduler_of(engine, stack)
        task = Trial.Task(work, scheduler)
        kept = []
        task.on_report(lambda report: kept.extend([weakref.ref(report), weakref.ref(report.trial)]))
        scheduler.on_start(lambda: [task(trial_of(how, f"{i}")) for i in range(20)])
        scheduler.run(end_on_exception=False)
        gc.collect()

    assert len(kept) == 40
    assert [ref() for ref in kept if ref() is not None] == []


def test_a_success_is_freed_without_the_collector_of_cycles(sequential):
    task = Trial.Task(work, sequential)
    kept = []
    task.on_report(lambda report: kept.append(weakref.ref(report)))
    sequential.on_start(lambda: [task(trial_of(name=f"{i}")) for i in range(20)])
    gc.disable()
    try:
        sequential.run()
        alive = [ref() for ref in kept[:-1] if ref() is not None]
    finally:
        gc.enable()

    assert alive == []


@pytest.mark.slow
def test_a_worker_killed_in_every_tenth_trial_costs_exactly_these_trials():
    story = Story(scheduler=Scheduler.with_processes(2))
    trials = [
        trial_of("kill" if i % 10 == 0 else "succeed", f"{i}", by="kill", x=i) for i in range(300)
    ]
    story.run(*trials)

    crashed = [report for report in story.reports if report.status is Trial.Status.CRASHED]
    assert len(story.reports) == len({report.name for report in story.reports}) == 300
    assert {report.name for report in crashed} == {f"{i}" for i in range(0, 300, 10)}
    assert all(isinstance(report.exception, WorkerDiedError) for report in crashed)
    assert story.code is ExitCode.EXHAUSTED
