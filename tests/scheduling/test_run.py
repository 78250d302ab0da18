"""A run's end where many calls wait; what users see of runs is in ``test_scheduler.py``."""

import pytest

from amltk import Scheduler, Task
from amltk.testing import ManualExecutor

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
