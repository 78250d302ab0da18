"""A run's end where many calls wait; what users see of runs is in ``test_scheduler.py``."""

import pytest

from amltk import Scheduler, Task
from amltk.exceptions import RunningCallsWarning
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
