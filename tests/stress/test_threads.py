"""Many threads at once, switched as often as the interpreter can."""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import psutil
import pytest
import support

from amltk import Scheduler, Task
from amltk.exceptions import SchedulerNotRunningError, WorkerDiedError
from amltk.executors.processes.executor import ProcessExecutor
from amltk.testing import ManualExecutor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(30)]

TIMEOUT = 25
N_THREADS = 8


@pytest.fixture(autouse=True)
def switch_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(body, n=N_THREADS):
    """Start so many threads, all at one moment; return what joins them."""
    barrier, errors = threading.Barrier(n), []

    def guarded(place):
        try:
            barrier.wait(TIMEOUT)
            body(place, random.Random(place))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(place,)) for place in range(n)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join(TIMEOUT)
        assert not any(thread.is_alive() for thread in threads)
        assert errors == []

    return join


class Crowd:
    """Threads that submit to a task, cancel at random, and stop the run, all at once."""

    def __init__(self, scheduler, calls_each):
        self.scheduler, self.calls_each = scheduler, calls_each
        self.task = Task(support.double, scheduler)
        self.futures, self.told = [], Counter()
        self.joins = []
        scheduler.on_start(lambda: self.joins.append(in_threads(self.submit_and_cancel)))
        scheduler.on_future_submitted(lambda f: self.note("submitted", f))
        scheduler.on_future_done(lambda f: self.note("done", f))
        scheduler.on_future_cancelled(lambda f: self.note("cancelled", f))

    def note(self, what, future):
        self.told[what, id(future)] += 1

    def submit_and_cancel(self, place, chance):
        mine = []
        with suppress(SchedulerNotRunningError):
            for x in range(self.calls_each):
                future = self.task(x)
                if future is None:
                    break
                mine.append(future)
                self.futures.append(future)
                if chance.random() < 0.3:
                    chance.choice(mine).cancel()
        if place == 0:
            self.scheduler.stop()

    def check(self):
        for join in self.joins:
            join()
        everybody = {id(future): future for future in self.futures}
        assert all(future.done() for future in self.futures)
        expected = Counter(("submitted", one) for one in everybody)
        expected.update(
            ("cancelled" if future.cancelled() else "done", one)
            for one, future in everybody.items()
        )
        assert self.told == expected
        assert (self.task.n_called, self.task.n_running) == (len(everybody), 0)


@pytest.mark.parametrize("calls_each", [20, 1000])
@pytest.mark.parametrize(
    ("make", "wait"),
    [
        pytest.param(lambda: Scheduler.with_threads(4), True, id="threads"),
        pytest.param(lambda: Scheduler.with_processes(2), True, id="processes"),
        pytest.param(lambda: Scheduler.with_processes(2), False, id="processes without wait"),
    ],
)
def test_every_call_ends_once_while_many_submit_cancel_and_stop(make, wait, calls_each):
    scheduler = make()
    crowd = Crowd(scheduler, calls_each)
    code = scheduler.run(end_on_empty=False, wait=wait, timeout=TIMEOUT)
    assert code is Scheduler.ExitCode.STOPPED
    crowd.check()


def test_every_call_ends_once_while_another_thread_finishes_calls():
    manual = ManualExecutor()
    crowd, ended = Crowd(Scheduler(manual), 100), threading.Event()

    def finish_until_the_end():
        while not ended.wait(0.001):
            manual.finish_all()

    finisher = threading.Thread(target=finish_until_the_end)
    finisher.start()
    code = crowd.scheduler.run(end_on_empty=False, timeout=TIMEOUT)
    ended.set()
    finisher.join(TIMEOUT)
    assert code is Scheduler.ExitCode.STOPPED
    crowd.check()


def test_runs_stopped_by_many_threads_leave_the_scheduler_fit_for_the_next():
    scheduler = Scheduler.with_threads(2)
    task, joins = Task(support.double, scheduler), []
    scheduler.on_start(lambda: joins.append(in_threads(lambda *_: scheduler.stop(), 4)))
    scheduler.on_start(lambda: [task(x) for x in range(10)])
    for _ in range(50):
        # The calls may all have ended before a thread gets to stop the run.
        code = scheduler.run(end_on_empty=False, timeout=TIMEOUT)
        assert code is Scheduler.ExitCode.STOPPED
        joins.pop()()
    assert task.n_running == 0
    assert scheduler.event_counts[Scheduler.FINISHED] == 50


def kill_workers_at_random(pool, until, limit=40):
    """Kill workers that are up, one every few milliseconds, as running out of memory would."""
    chance = random.Random(1)
    while limit and not until.wait(0.03):
        ready = [worker for worker in list(pool._pool._workers) if worker.is_ready]
        if ready:
            pid = chance.choice(ready).process.pid
            with suppress(psutil.Error, ProcessLookupError):
                if psutil.Process(pid).ppid() == os.getpid():
                    os.kill(pid, signal.SIGKILL)
                    limit -= 1


@pytest.mark.parametrize("cancels", [False, True], ids=["", "and cancels"])
def test_no_call_is_lost_or_run_twice_while_workers_are_killed(tmp_path, cancels):
    futures, over = {}, threading.Event()

    def note_and_rest(x):
        support.note_and_return(tmp_path, x)
        time.sleep(0.01)
        return x

    def submit(place, chance):
        for x in range(60 * place, 60 * (place + 1)):
            futures[x] = pool.submit(note_and_rest, x)
            if cancels and chance.random() < 0.2:
                futures[x].cancel()

    with ProcessExecutor(4) as pool:
        killer = threading.Thread(target=kill_workers_at_random, args=(pool, over))
        killer.start()
        in_threads(submit)()
        outcomes = {x: outcome_of(future) for x, future in futures.items()}
        over.set()
        killer.join(TIMEOUT)
    n_runs = Counter(int(path.name.partition("-")[0]) for path in tmp_path.iterdir())
    assert len(outcomes) == 60 * N_THREADS
    assert max(n_runs.values()) == 1
    assert {x for x, outcome in outcomes.items() if outcome == x} <= set(n_runs)
    strange = {x: o for x, o in outcomes.items() if o not in (x, "died", "cancelled")}
    assert strange == {}
    assert "died" in outcomes.values()
    assert ("cancelled" in outcomes.values()) == cancels


def outcome_of(future):
    support.wait_until(future.done, TIMEOUT)
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    if error is None:
        return future.result()
    return "died" if isinstance(error, WorkerDiedError) else error
