"""``optimize``: exactly the trials asked for, each with its report, whatever happens."""

import asyncio
import logging
import threading
import traceback

import pytest
import support
import trials

from amltk import CallLimiter, Scheduler, Task
from amltk.exceptions import InvalidOptionError, TrialError, WorkerDiedError
from amltk.optimization import History, Metric, Trial, optimize

ENGINES = {
    "sequential": Scheduler.with_sequential,
    "threads": lambda: Scheduler.with_threads(3),
    "processes": lambda: Scheduler.with_processes(2),
}


def names(reports):
    return [report.name for report in reports]


def statuses(history):
    return [report.status.value for report in history]


# ----------------------------------------------------------------------- exactly these trials


def with_loky():
    pytest.importorskip("loky", reason="the extra loky is not installed")
    return Scheduler.with_loky(2)


def with_dask():
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    return Scheduler.with_dask(n_workers=2)


@pytest.mark.parametrize(
    "make", [*ENGINES.values(), with_loky, with_dask], ids=[*ENGINES, "loky", "dask"]
)
def test_there_are_as_many_trials_as_asked_for_each_told_once(make):
    optimizer = trials.Counter(how={10: "raise", 7: "raise inside", 6: "fail", 9: "nothing"})
    history = optimize(trials.square, optimizer, make(), max_trials=40, timeout=50)
    assert sorted(names(history)) == sorted(names(optimizer.told))
    assert len(set(names(history))) == len(history) == optimizer.n_asked == 40
    ends = {None: "success", "fail": "fail"}
    assert statuses(history) == [ends.get(r.config.get("how"), "crashed") for r in history]
    assert statuses(history).count("crashed") == 12
    assert optimizer.n_open == 0


def test_a_worker_that_is_killed_costs_one_trial_which_says_so():
    optimizer = trials.Counter(how={10: "kill"})
    history = optimize(
        trials.square, optimizer, Scheduler.with_processes(2), max_trials=30, timeout=50
    )
    crashed = [report for report in history if report.status is Trial.Status.CRASHED]
    assert (len(history), len(crashed)) == (30, 3)
    assert all(isinstance(report.exception, WorkerDiedError) for report in crashed)
    assert {report.exception.signal_name for report in crashed} == {"SIGKILL"}
    assert optimizer.n_open == 0


def test_cancelled_trials_count_too_and_the_optimizer_forgets_them(manual):
    scheduler = Scheduler(manual)
    task = Trial.Task(trials.square, scheduler)
    futures = []
    task.on_submitted(futures.append)

    @task.on_submitted
    def end_it() -> None:
        if len(futures) % 3 == 0:
            futures[-1].cancel()
        else:
            manual.calls[-1].finish()

    optimizer = trials.Counter()
    history = optimize(task, optimizer, scheduler, max_trials=9, n_workers=1, timeout=20)
    assert len(history) == 6
    assert [trial.name for trial in history.cancelled] == ["count-2", "count-5", "count-8"]
    assert [trial.name for trial in optimizer.forgotten] == ["count-2", "count-5", "count-8"]


def test_it_ends_when_nothing_is_left_to_try():
    optimizer = trials.Counter(limit=7)
    history = optimize(trials.square, optimizer, Scheduler.with_threads(3), timeout=20)
    assert len(history) == 7
    assert optimizer.n_open == 0


def test_a_timeout_ends_it_and_waits_for_what_runs():
    scheduler, optimizer, over = Scheduler.with_threads(2), trials.Counter(), threading.Event()
    scheduler.on_timeout(over.set)

    def wait_for_the_end(trial):
        assert over.wait(20)
        return trials.square(trial)

    history = optimize(wait_for_the_end, optimizer, scheduler, timeout=0.3)
    assert statuses(history) == ["success", "success"]
    assert optimizer.n_open == 0


def test_without_waiting_what_runs_at_the_timeout_is_cancelled():
    optimizer = trials.Counter()
    history = optimize(
        lambda _trial: support.sleep_for_ever(), optimizer, Scheduler.with_processes(2),
        timeout=1, wait=False,
    )  # fmt: skip
    assert len(history) == 0
    assert len(history.cancelled) == len(optimizer.forgotten) == 2


def test_a_callback_may_stop_it():
    scheduler = Scheduler.with_threads(2)
    task = Trial.Task(trials.square, scheduler)
    task.on_success(scheduler.stop)
    optimizer = trials.Counter()
    history = optimize(task, optimizer, scheduler, max_trials=1000, timeout=20)
    assert 1 <= len(history) <= 2
    assert optimizer.n_open == 0


def test_a_limit_of_calls_ends_it_too():
    scheduler = Scheduler.with_threads(2)
    task = Trial.Task(trials.square, scheduler, plugins=CallLimiter(max_calls=5))
    optimizer = trials.Counter()
    assert len(optimize(task, optimizer, scheduler, max_trials=50, timeout=20)) == 5
    assert optimizer.n_open == 0


def test_a_limit_of_concurrent_calls_slows_it_down_and_no_more():
    scheduler = Scheduler.with_threads(4)
    limiter = CallLimiter(max_concurrent=1)
    history = optimize(
        trials.square, trials.Counter(), scheduler, max_trials=30, timeout=20, plugins=limiter
    )
    assert len(history) == 30


def test_never_more_trials_run_than_there_are_workers(manual):
    scheduler = Scheduler(manual)
    task = Trial.Task(trials.square, scheduler)
    most = []

    @task.on_submitted
    def count() -> None:
        most.append(task.n_running)
        if len(most) % 3 == 0:
            manual.finish_all()

    history = optimize(
        task, trials.Counter(), scheduler, max_trials=12, n_workers=3, ask_ahead=5, timeout=20
    )
    assert len(history) == 12
    assert max(most) == 3


# ----------------------------------------------------------------------------- asking ahead


def test_by_default_each_ask_has_seen_all_reports():
    history = optimize(
        trials.square, trials.Counter(), Scheduler.with_sequential(), max_trials=10, timeout=20
    )
    assert [report.trial.n_told for report in history] == list(range(10))


def test_a_trial_asked_for_ahead_has_seen_fewer_reports():
    history = optimize(
        trials.square, trials.Counter(), Scheduler.with_sequential(),
        max_trials=20, ask_ahead=4, timeout=20,
    )  # fmt: skip
    lags = [place - report.trial.n_told for place, report in enumerate(history)]
    assert max(lags) <= 1 + 4
    assert max(lags) > 1


class Held(trials.Counter):
    """Its first tell waits until it is let go."""

    def __init__(self):
        super().__init__()
        self.let_go = threading.Event()
        self.is_ahead = threading.Event()

    def ask(self):
        trial = super().ask()
        if trial.name == "count-7":
            self.is_ahead.set()
        return trial

    def tell(self, report):
        assert self.let_go.wait(20)
        super().tell(report)


def test_a_slow_tell_stalls_neither_trials_nor_callbacks():
    scheduler = Scheduler.with_threads(2)
    optimizer = Held()
    heard = []

    def square(trial):
        assert optimizer.is_ahead.wait(20)  # else the first tell may come before the asks ahead
        return trials.square(trial)

    task = Trial.Task(square, scheduler)

    @task.on_report
    def go_on(report) -> None:
        heard.append(report.name)
        if len(heard) == 5:  # no report after the first few would come if a tell stalled the loop
            optimizer.let_go.set()

    history = optimize(task, optimizer, scheduler, max_trials=12, ask_ahead=8, timeout=30)
    assert len(history) == len(optimizer.told) == 12


def test_the_optimizer_is_called_by_one_thread_at_a_time_and_not_by_the_loops():
    seen = []

    class Watched(trials.Counter):
        busy = False

        def _enter(self):
            assert not self.busy
            self.busy = True
            seen.append(threading.current_thread().name)

        def ask(self):
            self._enter()
            trial = super().ask()
            self.busy = False
            return trial

        def tell(self, report):
            self._enter()
            super().tell(report)
            self.busy = False

    optimize(trials.square, Watched(), Scheduler.with_threads(4), max_trials=50, ask_ahead=3)
    assert set(seen) == {"amltk-optimizer"}
    assert len(seen) == 100


def test_a_quick_optimizer_is_called_where_the_callbacks_are():
    optimizer = trials.Counter()
    optimizer.is_quick = True
    threads = set()
    ask = optimizer.ask
    optimizer.ask = lambda: (threads.add(threading.current_thread().name), ask())[1]
    history = optimize(trials.square, optimizer, Scheduler.with_threads(3), max_trials=20)
    assert len(history) == len(optimizer.told) == 20
    assert "amltk-optimizer" not in threads


def test_reports_that_a_slow_optimizer_was_not_told_of_are_counted(monkeypatch, caplog):
    monkeypatch.setattr("amltk.optimization.search.search.TELL_REST_S", 0.0)
    monkeypatch.setattr("amltk.optimization.search.search.LAST_CALL_S", 0.01)
    optimizer = Held()
    with caplog.at_level(logging.WARNING):
        optimize(trials.square, optimizer, Scheduler.with_threads(1), ask_ahead=2, timeout=0.3)
    optimizer.let_go.set()
    support.wait_until(lambda: "amltk-optimizer" not in {t.name for t in threading.enumerate()})
    assert "reports were not told" in caplog.text


# ------------------------------------------------------------------------- when things fail


def fail_at_the_third_call(optimizer, method):
    calls, original = [], getattr(optimizer, method)

    def fail_or_not(*args):
        calls.append(args)
        if len(calls) == 3:
            raise ZeroDivisionError("by zero")
        return original(*args)

    setattr(optimizer, method, fail_or_not)


@pytest.mark.parametrize("method", ["ask", "tell"])
@pytest.mark.parametrize("quick", [False, True], ids=["in a thread", "in the loop"])
def test_what_the_optimizer_raises_ends_the_run_and_is_raised(method, quick):
    optimizer = trials.Counter()
    optimizer.is_quick = quick
    fail_at_the_third_call(optimizer, method)
    with pytest.raises(ZeroDivisionError, match="by zero") as caught:
        optimize(trials.square, optimizer, Scheduler.with_threads(2), timeout=20)
    assert any(f"raised by {method}" in note for note in caught.value.__notes__)


def test_what_the_optimizer_raises_when_it_is_to_forget_is_raised_too(manual):
    scheduler = Scheduler(manual)
    task = Trial.Task(trials.square, scheduler)
    task.on_submitted(lambda future: future.cancel())
    optimizer = trials.Counter()
    fail_at_the_third_call(optimizer, "forget")
    with pytest.raises(ZeroDivisionError, match="by zero"):
        optimize(task, optimizer, scheduler, n_workers=1, timeout=20)


def test_what_is_no_trial_is_refused():
    optimizer = trials.Counter()
    optimizer.ask = lambda: None
    with pytest.raises(TrialError, match="proposed None, which is no Trial"):
        optimize(trials.square, optimizer, Scheduler.with_threads(1), timeout=20)


def test_two_trials_of_one_name_are_refused():
    optimizer = trials.Counter()
    optimizer.ask = lambda: Trial("same", {"x": 1})
    with pytest.raises(TrialError, match="two trials of the name 'same'"):
        optimize(trials.square, optimizer, Scheduler.with_threads(1), timeout=20)


def test_reports_are_kept_in_the_users_history_when_a_callback_raises():
    scheduler = Scheduler.with_sequential()
    task = Trial.Task(trials.square, scheduler)

    @task.on_report(every=5)
    def fail() -> None:
        raise LookupError("a bug of the driver")

    history = History()
    with pytest.raises(LookupError, match="a bug"):
        optimize(task, trials.Counter(), scheduler, history=history, timeout=20)
    assert names(history) == [f"count-{n}" for n in range(5)]


def test_an_error_does_not_wait_long_for_an_optimizer_that_is_busy(monkeypatch, caplog):
    monkeypatch.setattr("amltk.optimization.search.search.LAST_CALL_IN_HASTE_S", 0.01)
    scheduler, optimizer = Scheduler.with_threads(1), Held()
    task = Trial.Task(trials.square, scheduler)

    @task.on_report
    def fail() -> None:
        raise LookupError("a bug of the driver")

    with pytest.raises(LookupError, match="a bug"):
        optimize(task, optimizer, scheduler, timeout=20)
    assert not optimizer.told
    optimizer.let_go.set()
    support.wait_until(lambda: "amltk-optimizer" not in {t.name for t in threading.enumerate()})


@pytest.mark.parametrize("how", ["raise", "raise inside"])
def test_a_crash_may_end_the_run_in_good_order(how):
    optimizer = trials.Counter(how={5: how})
    history = optimize(
        trials.square, optimizer, Scheduler.with_sequential(), on_crash="stop", timeout=20
    )
    assert statuses(history) == ["success"] * 4 + ["crashed"]
    assert optimizer.n_open == 0


@pytest.mark.parametrize(("how", "kind"), [("raise", ValueError), ("raise inside", LookupError)])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_crash_may_be_raised(how, kind, engine):
    history = History()
    with pytest.raises(kind) as caught:
        optimize(
            trials.square, trials.Counter(how={5: how}), ENGINES[engine](),
            on_crash="raise", history=history, timeout=30,
        )  # fmt: skip
    assert "crashed" in statuses(history)
    assert "in square" in "".join(traceback.format_exception(caught.value))


def test_the_first_crash_is_logged_with_its_traceback_and_no_other(caplog):
    with caplog.at_level(logging.WARNING):
        optimize(
            trials.square, trials.Counter(how={2: "raise"}), Scheduler.with_sequential(),
            max_trials=10,
        )  # fmt: skip
    assert [record.message.split(",")[0] for record in caplog.records] == ["count-1 crashed"]
    assert "ValueError: bad 1" in caplog.text


# ---------------------------------------------------------------- beside others, and again


def test_a_second_time_goes_on_with_the_same_optimizer_and_history():
    optimizer, scheduler = trials.Counter(), Scheduler.with_threads(2)
    history = optimize(trials.square, optimizer, scheduler, max_trials=5)
    again = optimize(trials.square, optimizer, scheduler, max_trials=5, history=history)
    assert again is history
    assert len(history) == len(optimizer.told) == 10


def test_it_leaves_no_listener_behind():
    scheduler = Scheduler.with_sequential()
    task = Trial.Task(trials.square, scheduler)
    optimize(task, trials.Counter(), scheduler, max_trials=3)
    for emitter in (scheduler, task):
        assert not any(emitter.event_manager.has(event) for event in emitter.event_counts)


def test_calls_of_others_on_the_scheduler_are_not_ended():
    scheduler = Scheduler.with_threads(3)
    other, held, results = Task(threading.Event.wait, scheduler), threading.Event(), []
    other.on_returned(results.append)
    scheduler.on_start(lambda: other(held, 20))
    optimizer = trials.Counter()

    class Ends(trials.Counter):
        def tell(self, report):
            super().tell(report)
            if len(self.told) == 4:
                threading.Timer(0.1, held.set).start()

    optimizer = Ends()
    optimize(trials.square, optimizer, scheduler, n_workers=2, max_trials=4, timeout=20)
    assert results == [True]


def test_reports_of_trials_that_others_send_off_are_not_its_own():
    scheduler = Scheduler.with_threads(2)
    task = Trial.Task(trials.square, scheduler)
    scheduler.on_start(lambda: task(Trial("mine", {"x": 3})))
    optimizer = trials.Counter()
    history = optimize(task, optimizer, scheduler, max_trials=4, timeout=20)
    assert "mine" not in names(history)
    assert len(history) == 4


def test_it_works_where_a_loop_is_running():
    async def main():
        return optimize(trials.square, trials.Counter(), Scheduler.with_threads(2), max_trials=4)

    assert len(asyncio.run(main())) == 4


def test_trials_get_metrics_and_a_folder(tmp_path):
    def note(trial):
        with trial.begin():
            (trial.storage / "note.txt").write_text(trial.name)
        return trial.success(loss=1)

    history = optimize(
        note, trials.Counter(), Scheduler.with_threads(2), max_trials=3, storage=tmp_path
    )
    assert sorted(path.read_text() for path in tmp_path.glob("*/note.txt")) == sorted(
        names(history)
    )
    assert all(report.trial.metrics == (trials.LOSS,) for report in history)


# ------------------------------------------------------------------------------ its options


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_trials": 0}, "max_trials=0"),
        ({"max_trials": 1.5}, "max_trials=1.5"),
        ({"n_workers": 0}, "n_workers=0"),
        ({"ask_ahead": -1}, "ask_ahead=-1"),
        ({"on_crash": "ignore"}, "on_crash='ignore'"),
        ({"timeout": -1}, "timeout="),
        ({"metrics": Metric("loss", minimize=False)}, "not those of the optimizer"),
        ({"metrics": ()}, "there is none"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, match):
    optimizer = trials.Counter()
    with pytest.raises(InvalidOptionError, match=match):
        optimize(trials.square, optimizer, Scheduler.with_sequential(), **options)
    assert optimizer.n_asked == 0


def test_metrics_have_to_be_known():
    class Plain:
        def ask(self):
            return Trial("a", {"x": 2})

        def tell(self, report): ...

    with pytest.raises(InvalidOptionError, match="give metrics="):
        optimize(trials.square, Plain(), Scheduler.with_sequential())
    history = optimize(
        trials.square, Plain(), Scheduler.with_sequential(), metrics=trials.LOSS, max_trials=1
    )
    assert history[0].metrics == {"loss": 4.0}


def test_the_number_of_workers_has_to_be_known(manual):
    with pytest.raises(InvalidOptionError, match="n_workers="):
        optimize(trials.square, trials.Counter(), Scheduler(manual))


def test_a_task_of_another_scheduler_is_refused(sequential):
    task = Trial.Task(trials.square, Scheduler.with_sequential())
    with pytest.raises(InvalidOptionError, match="belongs to another scheduler"):
        optimize(task, trials.Counter(), sequential)


def test_plugins_beside_a_task_are_refused(sequential):
    task = Trial.Task(trials.square, sequential)
    with pytest.raises(InvalidOptionError, match="plugins of its own"):
        optimize(task, trials.Counter(), sequential, plugins=CallLimiter(max_calls=1))


# ------------------------------------------------------------------------------------ many


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_beside_the_history_nothing_is_kept_of_ten_thousand_trials():
    optimizer = trials.Counter()
    optimizer.is_quick = True
    scheduler = Scheduler.with_processes(2)
    task = Trial.Task(trials.square, scheduler)
    history = optimize(task, optimizer, scheduler, max_trials=10_000, timeout=110)
    assert len(history) == 10_000
    assert not task._trials
    assert not task._names
    assert not task.futures()
