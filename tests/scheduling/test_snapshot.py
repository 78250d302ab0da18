"""A snapshot: a picture of one moment, which nothing changes any more."""

import asyncio
import dataclasses
import gc

import pytest
import support

from amltk import Task
from amltk.testing import VirtualClock


def test_it_follows_a_run_from_its_start_to_its_end(scheduler, manual):
    async def main():
        run = asyncio.ensure_future(scheduler.async_run(timeout=60, end_on_empty=False))
        await asyncio.sleep(10)
        scheduler.submit(support.double, 1)
        manual.calls[0].start()
        running = scheduler.snapshot()
        scheduler.stop()
        await asyncio.sleep(5)
        finishing = scheduler.snapshot()
        manual.finish_all()
        await run
        return running, finishing

    running, finishing = VirtualClock().run(main())
    assert (running.phase, finishing.phase) == ("running", "finishing")
    assert (running.n_running, finishing.n_running) == (1, 1)
    assert (running.elapsed_s, finishing.elapsed_s) == pytest.approx((10, 15))
    assert (running.remaining_s, finishing.remaining_s) == pytest.approx((50, 45))


def test_without_a_run_the_scheduler_is_idle(scheduler):
    snapshot = scheduler.snapshot()
    assert (snapshot.phase, snapshot.elapsed_s, snapshot.n_running) == ("idle", 0.0, 0)
    assert snapshot.remaining_s is None


def test_without_a_timeout_nothing_remains(scheduler):
    seen = []
    scheduler.on_start(lambda: seen.append(scheduler.snapshot()))
    scheduler.run()
    assert seen[0].remaining_s is None


def test_it_does_not_change_when_the_run_goes_on(scheduler, manual):
    task = Task(support.double, scheduler)
    seen = []
    scheduler.on_start(lambda: (task(1), seen.append(scheduler.snapshot()), manual.finish_all()))
    scheduler.run()
    assert (seen[0].n_running, seen[0].tasks[0].running) == (1, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen[0].phase = "idle"


def test_tasks_come_in_the_order_in_which_they_were_made(scheduler):
    tasks = [Task(support.double, scheduler, name=name) for name in "bac"]
    assert [task.name for task in scheduler.snapshot().tasks] == ["b", "a", "c"]
    assert tasks[0].snapshot() == scheduler.snapshot().tasks[0]


def test_a_task_that_nobody_keeps_is_not_kept_by_it(scheduler):
    kept = Task(support.double, scheduler, name="kept")
    Task(support.double, scheduler, name="dropped")
    gc.collect()
    assert [task.name for task in scheduler.snapshot().tasks] == [kept.name]
