"""A run's end where many calls wait; what users see of runs is in ``test_scheduler.py``."""

import threading

import pytest
import support

from amltk import Scheduler, Task, TaskPlugin
from amltk.exceptions import RunningCallsWarning
from amltk.scheduling.state import Calls
from amltk.testing import ManualExecutor, VirtualClock

ExitCode = Scheduler.ExitCode


@pytest.mark.parametrize("n_started", [0, 1])
def test_leaving_running_calls_alone_still_cancels_all_that_have_not_started(n_started):
    manual, n_calls = ManualExecutor(), 5_000  # more than one turn of the loop takes
    scheduler = Scheduler(manual, terminate=False)
    task = Task(int, scheduler)

    @scheduler.on_start
    def begin():
        for _ in range(n_calls):
            task()
        for call in manual.calls[:n_started]:
            call.start()
        scheduler.stop()

    assert scheduler.run(wait=False) is ExitCode.STOPPED
    assert len(manual.waiting) == task.n_running == n_started
    assert task.event_counts[Task.SUBMITTED] == n_calls
    assert task.event_counts[Task.F_CANCELLED] == n_calls - n_started


@pytest.mark.parametrize("terminate", [len, lambda _executor: None], ids=["raises", "does nothing"])
def test_a_function_that_does_not_end_the_calls_is_not_waited_for_without_end(terminate):
    manual = ManualExecutor()
    scheduler = Scheduler(manual, terminate=terminate)
    task = Task(int, scheduler)
    scheduler.on_start(lambda: (task(), manual.calls[0].start(), scheduler.stop()))

    with pytest.warns(RunningCallsWarning, match="could not be ended in time"):
        VirtualClock().run(scheduler.async_run(wait=False, raises=False))

    assert task.n_running == 1


class Submission:
    """A call that another thread submits while the run decides whether it is over.

    The thread stops in the middle, until somebody waits at the gate or the run is over.
    """

    def __init__(self, submit):
        self.gate = support.WatchedLock()
        self.is_in_the_middle = threading.Event()
        self.future = None
        self.thread = threading.Thread(target=self.run, args=(submit,))

    def run(self, submit):
        self.future = submit(21)

    def begin(self):
        if self.thread.ident is None:
            self.thread.start()
            assert self.is_in_the_middle.wait(20)

    def stop_in_the_middle(self):
        self.is_in_the_middle.set()
        assert self.gate.is_waited_for.wait(20)


class StopInTheMiddle(TaskPlugin):
    def pre_submit(self, fn, *args, **kwargs):
        self.submission.stop_in_the_middle()
        return fn, args, kwargs


def submission_of_a_task(scheduler, _monkeypatch):
    plugin = StopInTheMiddle()
    plugin.submission = Submission(Task(support.double, scheduler, plugins=plugin))
    return plugin.submission


def submission_of_a_function(scheduler, monkeypatch):
    submission = Submission(lambda x: scheduler.submit(support.double, x))
    count = Calls.submit

    def stop_and_count(calls):
        submission.stop_in_the_middle()
        return count(calls)

    monkeypatch.setattr(Calls, "submit", stop_and_count)
    return submission


@pytest.mark.parametrize("make", [submission_of_a_task, submission_of_a_function])
def test_a_call_that_another_thread_submits_at_the_very_end_is_not_lost(
    sequential, monkeypatch, make
):
    submission = make(sequential, monkeypatch)
    sequential._gate = submission.gate
    sequential.on_empty(submission.begin)  # what comes next is to decide that nothing is left

    code = sequential.run(timeout=20)

    submission.gate.is_waited_for.set()
    submission.thread.join(20)
    assert submission.future is not None
    assert (submission.future.result(timeout=0), code) == (42, ExitCode.EXHAUSTED)


def test_a_call_that_comes_right_after_the_decision_is_refused_and_not_taken_and_cancelled(
    sequential,
):
    futures, begun = [], []

    def submit():
        futures.append(sequential.submit(support.double, 21))

    class Gate(support.WatchedLock):
        def __exit__(self, *error):
            super().__exit__(*error)
            if sequential.event_counts[Scheduler.EMPTY] and not begun:
                begun.append(threading.Thread(target=submit))
                begun[0].start()
                begun[0].join(20)

    sequential._gate = Gate()
    sequential.on_empty(lambda: None)  # told right before it is decided
    assert sequential.run(timeout=20) is ExitCode.EXHAUSTED
    assert futures == [None]
