"""Tracking in Weights & Biases, offline: what it has written is read back."""

import copy
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import runs
import support
import wandb_files

from amltk import Scheduler, Task, TaskPlugin
from amltk.exceptions import InvalidOptionError, MissingExtraError
from amltk.optimization import Trial
from amltk.testing.contracts import PluginContract

wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")

from amltk.plugins._wandb.guard import CallThread, TooSlowError, reports  # noqa: E402
from amltk.plugins._wandb.run import open_run  # noqa: E402
from amltk.plugins._wandb.settings import Plan  # noqa: E402
from amltk.plugins._wandb.values import flat, nan_as_text  # noqa: E402
from amltk.plugins.wandb import Tracked, WandbPlugin  # noqa: E402


def train(trial):
    """Log, and end in the way in which the configuration says."""
    run = trial.plugins["wandb"]
    x, how = trial.config["x"], trial.config.get("how")
    with trial.begin():
        for epoch in range(3):
            run.log({"loss": x / (epoch + 1)})
        run.summary["best"] = x
        if how in ("fail", "raise inside"):
            raise ValueError("too bad")
    if how == "raise":
        raise LookupError(f"no {x}")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "wait":
        Path(trial.config["path"]).touch()
        support.sleep_for_ever()
    trial.summary["nested"] = {"x": x}
    if how == "fail":
        return trial.fail()
    return trial.success(accuracy=x / 100) if how is None else trial.crashed()


def use_everything(trial):
    """Use the run in ways in which functions do."""
    run = trial.plugins["wandb"]
    run.define_metric("loss", summary="min")
    run.log({"loss": 1.0}, step=0)
    run.config["lr"] = 0.1
    run.config.update({"lr": 0.2}, allow_val_change=True)
    run.summary.update({"a": 1}, b=2)
    run.notes = "a note"
    run.tags = (*run.tags, "mine")
    run.finish()
    artifact = run.log_artifact
    assert callable(artifact)
    used = [run.id, run.name, run.config["lr"], run.config.lr, run.summary["loss"], run.url]
    return succeed(trial, used=used)


def succeed(trial, used=None, **metrics):
    """Report a success of a trial, and note what the test wants to see."""
    trial.summary["used"] = used
    with trial.begin():
        return trial.success(**metrics)


def misuse(trial):
    run = trial.plugins["wandb"]
    run.log("no mapping")
    run.lgo({"loss": 1})
    run.log({"loss": 2})
    return succeed(trial, used=run.is_tracking)


def kill_service(trial):
    """Kill what wandb has started, in the middle of a run."""
    run = trial.plugins["wandb"]
    run.log({"before": 1})
    for child in psutil.Process().children(recursive=True):
        if "wandb-core" in child.name():
            child.kill()
            child.wait(10)
    run.log({"after": 1})
    run.log({"after": 2})
    return succeed(trial, accuracy=0.5)


def pickle_and_return(trial):
    return succeed(pickle.loads(pickle.dumps(trial)), a=1)


@pytest.fixture(autouse=True)
def fresh():
    """What a process remembers of wandb's failures is forgotten, and its service ended."""
    reports.clear()
    yield
    support.wait_until(lambda: not [t for t in threading.enumerate() if "amltk-wandb" in t.name])
    reports.clear()
    wandb.teardown()


@pytest.fixture
def plugin(tmp_path):
    plugin = WandbPlugin("project", mode="offline", dir=tmp_path, group="group", tags=["tag"])
    yield plugin
    assert plugin.wait(60)


def outcomes_of(task, *calls):
    return runs.outcomes_of(runs.run_calls(task, *calls, end_on_exception=False))


def trials(*configs):
    return [(Trial(f"trial-{i}", config),) for i, config in enumerate(configs)]


# ------------------------------------------------------------------------------- trials


def test_a_trial_has_a_run_with_config_metrics_summary_status_and_time(
    sequential, plugin, tmp_path
):
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())
    trial = Trial("first", {"x": 4, "deep": {"lr": 0.1}}, seed=7, fidelities={"epochs": 3})

    outcomes_of(task, (trial,))

    run = wandb_files.read_finished(tmp_path, 1)["first"]
    assert (run.project, run.group, run.job_type, run.tags) == (
        "project",
        "group",
        "trial",
        ["tag"],
    )
    assert (
        run.config.items()
        >= {"x": 4, "deep/lr": 0.1, "trial/seed": 7, "trial/fidelities/epochs": 3}.items()
    )
    assert [row.get("loss") for row in run.rows] == [4, 2, 4 / 3, None]
    assert (
        run.summary.items()
        >= {
            "accuracy": 0.04,
            "best": 4,
            "nested/x": 4,
            "trial/status": "success",
        }.items()
    )
    assert run.summary["trial/duration_s"] > run.summary["trial/time/wall_s"] > 0
    assert run.summary["trial/time/cpu_s"] >= 0
    assert run.summary["trial/peak_memory_mb"] > 1
    assert f":{os.getpid()}" in run.summary["trial/worker"]
    assert run.exit_code == 0


def test_a_trial_that_failed_says_why(sequential, plugin, tmp_path):
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    outcomes_of(task, *trials({"x": 1, "how": "fail"}))

    run = wandb_files.read_finished(tmp_path, 1)["trial-0"]
    assert run.exit_code == 1
    assert (
        run.summary.items()
        >= {
            "trial/status": "fail",
            "trial/exception": "ValueError",
            "trial/message": "ValueError: too bad",
        }.items()
    )
    assert "ValueError: too bad" in run.summary["trial/traceback"]


def test_a_trial_that_raised_in_its_block_is_crashed_with_what_was_measured(
    sequential, plugin, tmp_path
):
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, *trials({"x": 1, "how": "raise inside"}))

    run = wandb_files.read_finished(tmp_path, 1)["trial-0"]
    assert run.exit_code == 1
    assert run.summary["trial/status"] == report.status.value == "crashed"
    assert run.summary["trial/message"] == "ValueError: too bad"
    assert run.summary["trial/time/wall_s"] == report.time.wall_s
    assert len(run.rows) == 3


def return_nothing(trial):
    trial.plugins["wandb"].log({"loss": 1})


def test_a_trial_without_a_report_is_crashed(sequential, plugin, tmp_path):
    task = Trial.Task(return_nothing, sequential, plugins=plugin.trial_tracker())

    outcomes_of(task, *trials({"x": 1}))

    run = wandb_files.read_finished(tmp_path, 1)["trial-0"]
    assert (run.exit_code, run.summary["trial/status"]) == (1, "crashed")
    assert run.summary["trial/exception"] == "ReportTypeError"


def test_a_trial_that_raised_is_crashed_and_its_error_names_the_run(sequential, plugin, tmp_path):
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    [error] = outcomes_of(task, *trials({"x": 1, "how": "raise"}))

    run = wandb_files.read_finished(tmp_path, 1)["trial-0"]
    assert run.exit_code == 1
    assert run.summary["trial/status"] == "crashed"
    assert run.summary["trial/message"] == "LookupError: no 1"
    assert run.id in error.__notes__[0]


def test_what_comes_back_says_which_run_it_was(sequential, plugin):
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, *trials({"x": 1}))

    tracked = report.trial.plugins["wandb"]
    assert tracked == Tracked(tracked.id, complete=True)


def test_what_is_no_trial_is_refused(sequential, plugin):
    task = Task(support.double, sequential, plugins=plugin.trial_tracker())
    sequential.on_start(lambda: task(3))

    with pytest.raises(InvalidOptionError, match=r"3 is no trial.*task_tracker"):
        sequential.run()


def test_a_trial_may_be_given_by_name(sequential, plugin, tmp_path):
    task = Task(train, sequential, plugins=plugin.trial_tracker())
    sequential.on_start(lambda: task(trial=Trial("named", {"x": 1})))

    sequential.run()

    assert wandb_files.read_finished(tmp_path, 1)["named"].exit_code == 0


def test_a_function_uses_its_run_as_it_would_use_one_of_wandb(sequential, plugin, tmp_path):
    task = Trial.Task(use_everything, sequential, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, (Trial("all", {"lr": 0.5}),))
    used = report.trial.summary["used"]

    run = wandb_files.read_finished(tmp_path, 1)["all"]
    assert used == [run.id, "all", 0.2, 0.2, 1.0, None]
    assert run.config["lr"] == 0.2
    assert run.summary.items() >= {"a": 1, "b": 2}.items()
    assert run.tags == ["tag", "mine"]


def test_the_same_uses_go_on_without_effect_when_nothing_is_tracked(sequential):
    task = Trial.Task(
        use_everything, sequential, plugins=WandbPlugin("p", mode="disabled").trial_tracker()
    )

    [report] = outcomes_of(task, (Trial("all", {"lr": 0.5}),))

    assert report.trial.summary["used"][1:] == ["all", 0.2, 0.2, 1.0, None]
    assert wandb.run is None


def test_a_trial_can_be_pickled_and_copied_in_the_function(sequential, plugin, tmp_path):
    task = Trial.Task(pickle_and_return, sequential, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, (Trial("copied", {}),))

    assert copy.deepcopy(report).metrics == {"a": 1}
    assert wandb_files.read_finished(tmp_path, 1)["copied"].exit_code == 0


@pytest.mark.slow
def test_forty_trials_over_four_workers_are_all_there_and_none_is_mixed(plugin, tmp_path):
    scheduler = Scheduler.with_processes(4)
    task = Trial.Task(train, scheduler, plugins=plugin.trial_tracker())
    hows = {7: "raise", 13: "kill", 20: "fail", 28: "kill", 33: "raise inside"}
    configs = [{"x": x, "how": hows.get(x)} for x in range(40)]

    outcomes_of(task, *trials(*configs))
    assert plugin.wait(60)

    runs = wandb_files.read_finished(tmp_path, 40)
    assert set(runs) == {f"trial-{x}" for x in range(40)}
    assert len({run.id for run in runs.values()}) == 40
    for x, run in ((x, runs[f"trial-{x}"]) for x in range(40)):
        how = hows.get(x)
        losses = [] if how == "kill" else [x, x / 2, x / 3]
        assert run.config["x"] == x
        assert [row["loss"] for row in run.rows if "loss" in row] == losses
        assert run.exit_code == (0 if how is None else 1)
        expected = {None: "success", "fail": "fail"}.get(how, "crashed")
        assert run.summary["trial/status"] == expected
    killed = runs["trial-13"]
    assert killed.summary["trial/exception"] == "WorkerDiedError"
    assert killed.config["written_by"] == "driver"


def test_trials_in_threads_are_not_mixed(plugin, tmp_path):
    scheduler = Scheduler.with_threads(4)
    task = Trial.Task(train, scheduler, plugins=plugin.trial_tracker())

    outcomes_of(task, *trials(*({"x": x} for x in range(12))))

    runs = wandb_files.read_finished(tmp_path, 12)
    for x in range(12):
        rows = runs[f"trial-{x}"].rows
        assert [row["loss"] for row in rows if "loss" in row] == [x, x / 2, x / 3]


def test_a_trial_that_is_cancelled_while_it_runs_is_finished_by_the_driver(plugin, tmp_path):
    scheduler = Scheduler.with_processes(1)
    task = Trial.Task(train, scheduler, plugins=plugin.trial_tracker())
    path = tmp_path / "started"
    configs = [{"x": 1, "how": "wait", "path": str(path)}, {"x": 2}]
    futures = []
    scheduler.on_start(lambda: futures.extend(task(*call) for call in trials(*configs)))
    scheduler.on_start(lambda: threading.Thread(target=cancel).start())

    def cancel():
        support.wait_for_file(path)
        assert futures[1].cancel()
        assert futures[0].cancel()

    scheduler.run(timeout=50)
    assert plugin.wait(60)

    runs = wandb_files.read_finished(tmp_path, 1)
    assert runs["trial-0"].summary["trial/status"] == "cancelled"
    assert runs["trial-0"].exit_code == 1


def test_a_trial_that_cannot_be_sent_has_a_run_too(plugin, tmp_path):
    scheduler = Scheduler.with_processes(1)
    task = Trial.Task(train, scheduler, plugins=plugin.trial_tracker())

    outcomes_of(task, (Trial("lock", {"x": threading.Lock()}),))
    assert plugin.wait(60)

    run = wandb_files.read_finished(tmp_path, 1)["lock"]
    assert run.summary["trial/exception"] == "CallPicklingError"
    assert run.config["x"].startswith("<unlocked")


@pytest.mark.slow
def test_a_trial_that_reaches_a_limit_is_finished_by_the_driver(plugin, tmp_path):
    pytest.importorskip("pynisher", reason="the extra pynisher is not installed")
    from amltk.plugins.pynisher import PynisherPlugin

    scheduler = Scheduler.with_processes(1)
    limits = PynisherPlugin(wall_time_limit=6)
    task = Trial.Task(train, scheduler, plugins=[limits, plugin.trial_tracker()])
    endless = {"x": 1, "how": "wait", "path": str(tmp_path / "started")}

    outcomes_of(task, *trials({"x": 0}, endless, {"x": 2, "how": "raise"}))
    assert plugin.wait(60)

    runs = wandb_files.read_finished(tmp_path, 3)
    assert [runs[f"trial-{i}"].exit_code for i in range(3)] == [0, 1, 1]
    assert runs["trial-1"].summary["trial/exception"] == "WallTimeoutException"
    assert runs["trial-2"].summary["trial/exception"] == "LookupError"


# ------------------------------------------------------------------- wandb does not work


def warnings_in(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "amltk.plugins.wandb"]


def hang_until(event):
    def hang(*_args, **_kwargs):
        event.wait(30)
        raise wandb.Error("released")

    return hang


def test_a_wandb_that_cannot_open_runs_is_reported_once_and_tried_once(
    sequential, plugin, monkeypatch, caplog
):
    tried = []

    def refuse(**options):
        tried.append(options["name"])
        raise wandb.errors.CommError("no network")

    monkeypatch.setattr(wandb, "init", refuse)
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    reports_ = outcomes_of(task, *trials(*({"x": x} for x in range(5))))
    assert plugin.wait(60)

    assert [report.metrics["accuracy"] for report in reports_] == [x / 100 for x in range(5)]
    assert tried == ["trial-0"]
    [message] = warnings_in(caplog)
    assert "no network" in message
    assert "mode='offline'" in message


def test_a_wandb_without_a_key_is_reported_and_trials_go_on(
    sequential, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    plugin = WandbPlugin("project", mode="online", dir=tmp_path)
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, *trials({"x": 1}))
    assert plugin.wait(60)

    assert report.status is Trial.Status.SUCCESS
    assert "No API key" in warnings_in(caplog)[0]


@pytest.mark.slow
def test_a_network_that_is_not_there_delays_a_thousand_trials_once(
    sequential, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{support.free_port()}")
    plugin = WandbPlugin("project", mode="online", dir=tmp_path, init_timeout=3)
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())
    begun = time.monotonic()

    outcomes = outcomes_of(task, *trials(*({"x": x} for x in range(1000))))
    assert time.monotonic() - begun < 20
    assert plugin.wait(60)

    assert all(isinstance(outcome, Trial.SuccessReport) for outcome in outcomes)
    assert len(warnings_in(caplog)) == 1


def test_a_wandb_that_hangs_delays_a_trial_by_no_more_than_the_bound(
    sequential, tmp_path, monkeypatch, caplog
):
    released = threading.Event()
    monkeypatch.setattr(wandb, "init", hang_until(released))
    plugin = WandbPlugin("project", mode="offline", dir=tmp_path, init_timeout=0.5)
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())
    begun = time.monotonic()

    outcomes = outcomes_of(task, *trials({"x": 1}, {"x": 2}))
    took_s = time.monotonic() - begun
    released.set()

    assert all(isinstance(outcome, Trial.SuccessReport) for outcome in outcomes)
    assert 0.5 <= took_s < 5
    assert "no answer within 0.5 s" in warnings_in(caplog)[0]


@pytest.mark.parametrize("what", ["log", "finish"])
def test_a_run_that_hangs_is_left_behind_and_no_other_one_is_tried(
    what, sequential, tmp_path, monkeypatch, caplog
):
    released = threading.Event()
    monkeypatch.setattr(wandb.Run, what, hang_until(released))
    plugin = WandbPlugin(
        "project", mode="offline", dir=tmp_path, call_timeout=0.5, finish_timeout=0.5
    )
    task = Trial.Task(train, sequential, plugins=plugin.trial_tracker())

    outcomes = outcomes_of(task, *trials({"x": 1}, {"x": 2}))
    released.set()
    assert plugin.wait(60)

    assert all(isinstance(outcome, Trial.SuccessReport) for outcome in outcomes)
    assert len(warnings_in(caplog)) == 1
    monkeypatch.undo()


def test_answers_that_are_slow_altogether_end_the_tracking_of_a_trial(
    plugin, tmp_path, monkeypatch
):
    monkeypatch.setattr(wandb.Run, "log", lambda *_args, **_kwargs: time.sleep(0.3))
    slow = WandbPlugin("project", mode="offline", dir=tmp_path, call_timeout=0.5)
    run = open_run(slow.settings, Plan("i", "slow", "g", "trial"), dict)
    begun = time.monotonic()

    for _ in range(100):
        run.log({"x": 1})

    assert time.monotonic() - begun < 10
    assert not run.is_tracking
    assert reports.problem_with(slow.settings) is None
    wandb_files.read_finished(tmp_path, 1)


def test_a_run_that_is_opened_too_late_is_finished(tmp_path, monkeypatch):
    init, released = wandb.init, threading.Event()

    def late(**options):
        released.wait(30)
        return init(**options)

    monkeypatch.setattr(wandb, "init", late)
    plugin = WandbPlugin("project", mode="offline", dir=tmp_path, init_timeout=0.3)
    run = open_run(plugin.settings, Plan("i", "late", "g", "trial"), dict)
    assert not run.is_tracking
    released.set()

    assert wandb_files.read_finished(tmp_path, 1)["late"].exit_code == 1


def test_a_service_that_dies_in_a_trial_costs_what_it_had_logged_and_the_next_has_a_new_one(
    plugin, tmp_path, caplog
):
    scheduler = Scheduler.with_processes(1)
    dying = Trial.Task(kill_service, scheduler, plugins=plugin.trial_tracker())
    living = Trial.Task(train, scheduler, plugins=plugin.trial_tracker())
    scheduler.on_start(lambda: dying(Trial("dying", {})))
    dying.on_returned(lambda _: living(Trial("living", {"x": 1})))

    scheduler.run(timeout=50)
    assert plugin.wait(60)

    runs = wandb_files.read_finished(tmp_path, 2)
    assert runs["living"].summary["trial/status"] == "success"
    assert runs["dying"].summary.items() >= {"accuracy": 0.5, "trial/status": "success"}.items()
    assert runs["dying"].config["written_by"] == "driver"
    assert "in a worker" in warnings_in(caplog)[0]


def forget_wandb(trial):
    return succeed(trial, tracked=trial.plugins["wandb"].is_tracking)


def hide_wandb():
    """Make a worker one in which wandb is not installed."""
    import sys

    sys.modules["wandb"] = None


def test_a_worker_without_wandb_does_its_trials_and_the_driver_writes_them(
    plugin, tmp_path, caplog
):
    scheduler = Scheduler.with_processes(1, initializer=hide_wandb)
    task = Trial.Task(forget_wandb, scheduler, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, (Trial("there", {}),))
    assert plugin.wait(60)

    assert report.metrics == {"tracked": 0.0}
    assert wandb_files.read_finished(tmp_path, 1)["there"].summary["tracked"] == 0.0
    assert "ModuleNotFoundError" in warnings_in(caplog)[0]


@pytest.mark.slow
def test_processes_that_each_run_one_trial_do_not_all_wait_for_a_wandb_that_is_not_there(
    tmp_path, capfd
):
    pytest.importorskip("pynisher", reason="the extra pynisher is not installed")
    from amltk.plugins.pynisher import PynisherPlugin

    plugin = WandbPlugin("project", mode="offline", dir=tmp_path, init_timeout=3)
    scheduler = Scheduler.with_processes(1)
    # With so few addresses the service of wandb does not start, and who starts it waits for it.
    limits = PynisherPlugin(memory_limit=(300, "mb"))
    task = Trial.Task(forget_wandb, scheduler, plugins=[limits, plugin.trial_tracker()])
    numbers = iter(range(1, 10))
    scheduler.on_start(lambda: task(Trial("0", {})))
    task.on_returned(lambda report: problems.append(report.trial.plugins["wandb"].problem))
    problems = []

    @task.on_returned
    def next_one():
        number = next(numbers, None)
        if number is not None:
            task(Trial(str(number), {}))

    scheduler.run(timeout=50)
    assert plugin.wait(60)

    said = capfd.readouterr().err
    assert said.count("does not work in process") <= 4  # of three workers and the driver
    assert len(problems) == 10
    assert len(wandb_files.read_finished(tmp_path, 10)) == 10


def test_a_wrong_use_of_the_run_is_reported_and_costs_only_itself(
    sequential, plugin, tmp_path, caplog
):
    task = Trial.Task(misuse, sequential, plugins=plugin.trial_tracker())

    [report] = outcomes_of(task, (Trial("wrong", {}),))

    assert report.trial.summary["used"] is True
    assert wandb_files.read_finished(tmp_path, 1)["wrong"].rows[0]["loss"] == 2
    assert ["run.log" in m or "run.lgo" in m for m in warnings_in(caplog)] == [True, True]


def test_a_thread_that_waits_tells_its_own_timeout_from_that_of_the_function():
    thread = CallThread()

    def time_out():
        raise TimeoutError("own")

    with pytest.raises(TimeoutError, match="own"):
        thread.call(time_out, timeout_s=5)
    with pytest.raises(TooSlowError, match=r"0\.1 s"):
        thread.call(lambda: time.sleep(0.5), timeout_s=0.1)
    thread.end()


# --------------------------------------------------------------------------- any calls


def test_a_call_has_a_run_with_arguments_duration_and_outcome(sequential, plugin, tmp_path):
    task = Task(support.add, sequential, plugins=plugin.task_tracker())

    outcomes_of(task, (1, 2), (3,))

    runs = wandb_files.read_finished(tmp_path, 2)
    assert runs["add 0"].config.items() >= {"x": 1, "y": 2}.items()
    assert runs["add 1"].config.items() >= {"x": 3}.items()
    assert runs["add 0"].job_type == "call"
    assert runs["add 0"].summary.items() >= {"call/status": "returned", "call/result": 3}.items()
    assert runs["add 0"].summary["call/duration_s"] >= 0


def test_a_call_that_raised_and_one_whose_worker_died_have_runs(plugin, tmp_path):
    scheduler = Scheduler.with_processes(1)
    task = Task(support.die, scheduler, plugins=plugin.task_tracker())
    wrong = Task(support.fail, scheduler, plugins=plugin.task_tracker())
    scheduler.on_start(lambda: (task("exit 7"), wrong("so")))

    scheduler.run(end_on_exception=False, timeout=50)
    assert plugin.wait(60)

    runs = wandb_files.read_finished(tmp_path, 2)
    assert runs["die 0"].config["how"] == "exit 7"
    assert runs["die 0"].summary["call/exception"] == "WorkerDiedError"
    assert runs["fail 0"].summary["call/message"] == "ValueError: so"
    assert {runs["die 0"].exit_code, runs["fail 0"].exit_code} == {1}


class TestTaskTracker(PluginContract):
    def make(self):
        return WandbPlugin("project", mode="disabled").task_tracker()


@pytest.mark.slow
class TestTaskTrackerOffline(PluginContract):
    @pytest.fixture(autouse=True)
    def into(self, tmp_path):
        self.plugin = WandbPlugin("project", mode="offline", dir=tmp_path)
        yield
        assert self.plugin.wait(60)

    def make(self):
        return self.plugin.task_tracker()


# ------------------------------------------------------------------------ the scheduler


def test_a_run_of_the_scheduler_is_tracked_with_its_counts(plugin, tmp_path):
    scheduler = Scheduler.with_threads(2)
    task = Task(support.double, scheduler)
    wrong = Task(support.fail, scheduler)
    plugin.scheduler_tracker(scheduler, every_s=0.001)
    scheduler.on_start(lambda: [wrong(), *(task(x) for x in range(4))])

    scheduler.run(end_on_exception=False, timeout=50)
    assert plugin.wait(60)

    [run] = wandb_files.read_finished(tmp_path, 1).values()
    assert run.job_type == "scheduler"
    assert run.exit_code == 0
    counts = {"submitted": 5, "returned": 4, "failed": 1, "cancelled": 0, "running": 0}
    assert run.summary.items() >= {f"calls/{name}": n for name, n in counts.items()}.items()
    assert run.rows[-1]["calls/returned"] == 4


def test_each_run_of_the_scheduler_is_one_of_its_own_until_the_tracker_is_detached(
    sequential, plugin, tmp_path
):
    task = Task(support.double, sequential)
    tracker = plugin.scheduler_tracker(sequential)
    sequential.on_start(lambda: task(1))

    sequential.run()
    sequential.run()
    tracker.detach()
    sequential.run()
    assert plugin.wait(60)

    support.wait_until(lambda: len(wandb_files.read_runs(tmp_path)) == 2)
    support.wait_until(lambda: all(r.exit_code == 0 for r in wandb_files.read_runs(tmp_path)))
    assert [r.summary["calls/submitted"] for r in wandb_files.read_runs(tmp_path)] == [1, 1]


def test_the_scheduler_does_not_wait_for_a_wandb_that_hangs(sequential, tmp_path, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(wandb, "init", hang_until(released))
    plugin = WandbPlugin("project", mode="offline", dir=tmp_path, init_timeout=20)
    task = Task(support.double, sequential)
    plugin.scheduler_tracker(sequential)
    begun = time.monotonic()

    assert outcomes_of(task, (1,), (2,)) == [2, 4]

    assert time.monotonic() - begun < 10
    assert not plugin.wait(0.01)
    released.set()
    assert plugin.wait(30)


# -------------------------------------------------------------------------- the options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("project", ""),
        ("project", None),
        ("mode", "shared"),
        ("entity", " "),
        ("group", ""),
        ("tags", "tag"),
        ("tags", [1]),
        ("init_timeout", 0),
        ("call_timeout", "10"),
        ("finish_timeout", float("inf")),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option, value):
    with pytest.raises(InvalidOptionError, match=option) as caught:
        WandbPlugin(**{"project": "p", "mode": "disabled", option: value})

    assert caught.value.option == option


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(InvalidOptionError, match="cannot be written to"):
        WandbPlugin("project", dir=tmp_path / "file" / "folder")


def test_the_folder_is_made_and_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert WandbPlugin("project", dir="a/b").settings.dir == str(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("variable", "mode"), [("offline", "offline"), ("dryrun", "offline"), ("", None)]
)
def test_the_mode_is_that_of_the_environment_by_default(variable, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", variable)

    assert WandbPlugin("project", dir=tmp_path).settings.mode == mode
    assert WandbPlugin("project", dir=tmp_path, mode="disabled").settings.mode == "disabled"


def test_without_wandb_the_plugin_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)

    with pytest.raises(MissingExtraError, match=r'pip install "wandb[<>]=?\d'):
        WandbPlugin("project")
    monkeypatch.undo()


def test_trackers_are_plugins_and_the_maker_is_none(plugin):
    assert isinstance(plugin.trial_tracker(), TaskPlugin)
    assert not isinstance(plugin, TaskPlugin)


# --------------------------------------------------------------------------- the values


class Odd:
    def __repr__(self):
        raise ValueError("no")


def test_values_are_flattened_and_become_plain():
    numpy = pytest.importorskip("numpy")
    values = {
        "a": {"b": {"c": 1}, "empty": {}},
        2: numpy.float64(0.5),
        "int": numpy.int64(3),
        "bool": numpy.bool_(True),
        "text": numpy.str_("t"),
        "list": (1, {"x": Trial.Status.FAIL}, {3}),
        "object": object,
        "odd": Odd(),
        "none": None,
        "inf": float("inf"),
    }

    found = flat(values)

    assert found == {
        "a/b/c": 1,
        "a/empty": {},
        "2": 0.5,
        "int": 3,
        "bool": True,
        "text": "t",
        "list": [1, {"x": "fail"}, [3]],
        "object": "<class 'object'>",
        "odd": "an object of Odd",
        "none": None,
        "inf": float("inf"),
    }
    assert {type(found["2"]), type(found["int"])} == {float, int}
    assert type(found["bool"]) is bool


def test_nan_is_kept_as_text_where_wandb_would_lose_it():
    nan = float("nan")

    assert nan_as_text({"a": nan, "b": [nan, 1], "c": {"d": nan}}) == {
        "a": "NaN",
        "b": ["NaN", 1],
        "c": {"d": "NaN"},
    }
