"""Pools that break, on the standard library's start methods and on loky."""

import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import pytest
import runs
import support

from amltk import Scheduler, Task
from amltk.exceptions import (
    CallPicklingError,
    ExecutorError,
    ResultPicklingError,
    WorkerDiedError,
    WorkerStartError,
)
from amltk.executors.recovery import executor as recovery
from amltk.executors.recovery.breakable import Workers
from amltk.executors.recovery.executor import RecoveringExecutor, end_workers, recovering
from amltk.executors.registry import traits_of
from amltk.executors.traits import Traits
from amltk.testing import ManualExecutor
from amltk.testing.contracts import ExecutorContract

TIMEOUT = 60

CULPRITS = {30: "SIGKILL", 70: "exit 5", 71: "SIGKILL"}


def make_pool(kind, **options):
    if kind == "loky":
        loky = pytest.importorskip("loky", reason="the extra loky is not installed")
        return loky.ProcessPoolExecutor(2, **options)
    return support.standard_pool(method=kind, **options)


@pytest.fixture(params=["forkserver", "loky"])
def kind(request):
    return request.param


@pytest.fixture
def executor(kind):
    with RecoveringExecutor(make_pool(kind), owned=True) as executor:
        yield executor


def pids_of(executor):
    return list(executor.pool._processes or ())  # none while a pool is shut down


def kill_idle_worker(executor):
    os.kill(pids_of(executor)[0], signal.SIGKILL)


def work(folder, x):
    support.note_and_return(folder, x)
    time.sleep(0.005)
    if CULPRITS.get(x) == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if x in CULPRITS:
        os._exit(5)
    (Path(folder) / f"end-{x}-{time.time_ns()}").touch()
    return x


def count_files(folder, prefix=""):
    return Counter(path.name.rsplit("-", 1)[0] for path in folder.glob(f"{prefix}*"))


def die_before_sending(module, result):
    """End the worker after the call has ended and before its result is sent."""
    vars(module)["_sendback_result"] = lambda *_, **__: os._exit(9)
    return result


def sendback_module(kind):
    if kind == "loky":
        return __import__("loky.process_executor", fromlist=["x"])
    return __import__("concurrent.futures.process", fromlist=["x"])


def end_unsent(kind, path, size):
    Path(path, str(time.time_ns())).touch()
    return die_before_sending(sendback_module(kind), bytes(size))


def wait_for_pid(path):
    return int(support.wait_for_file(path))


def note_pid_and_sleep(path):
    support.write_atomically(path, str(os.getpid()))
    support.sleep_for_ever()


def note_pid_and_ignore_term(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_pid_and_sleep(path)


def die_or_note(how, path):
    if how:
        os._exit(3)
    note_pid_and_sleep(path)


def die_when_told(path):
    support.wait_for_file(path)
    os.kill(os.getpid(), signal.SIGKILL)


class TestRecoveringStandardPool(ExecutorContract):
    engine = "standard pool"

    @pytest.fixture
    def executor(self):
        with RecoveringExecutor(make_pool("forkserver"), owned=True) as executor:
            yield executor


class TestRecoveringLoky(ExecutorContract):
    engine = "loky"

    @pytest.fixture
    def executor(self):
        with RecoveringExecutor(make_pool("loky"), owned=True) as executor:
            yield executor


@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver", "loky"])
def test_each_culprit_is_named_and_all_others_return(executor, tmp_path):
    futures = [executor.submit(work, tmp_path, x) for x in range(100)]
    errors = {x: future.exception(TIMEOUT) for x, future in enumerate(futures)}
    errors = {x: error for x, error in errors.items() if error is not None}
    assert set(errors) == set(CULPRITS)
    assert all(type(error) is WorkerDiedError for error in errors.values())
    assert [errors[x].exit_code for x in CULPRITS] == [-signal.SIGKILL, 5, -signal.SIGKILL]
    assert [errors[x].signal_name for x in CULPRITS] == ["SIGKILL", None, "SIGKILL"]
    assert all(isinstance(error.__cause__, BrokenExecutor) for error in errors.values())
    assert [f.result() for x, f in enumerate(futures) if x not in CULPRITS] == [
        x for x in range(100) if x not in CULPRITS
    ]


@pytest.mark.parametrize("kind", ["fork", "loky"])
def test_calls_that_come_while_a_pool_fails_its_futures_do_it_no_harm(kind):
    pool = make_pool(kind)
    with RecoveringExecutor(pool, owned=True) as executor:
        calls = pool._pending_work_items
        for view in (calls.items, calls.values):
            calls["before"] = None
            for _ in view():  # as the pool's own thread does it, without a lock
                calls["meanwhile"] = None
            calls.clear()
        assert pool._call_queue.pending_work_items is calls
        assert executor.submit(support.double, 2).result(TIMEOUT) == 4


def exit_on_term():
    """Do as Ray does in a program that uses it, and as many programs do by themselves."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))


def test_workers_end_that_make_an_exit_of_term_and_their_calls_return(tmp_path):
    pool = make_pool("forkserver", initializer=exit_on_term)
    with RecoveringExecutor(pool, owned=True) as executor:
        futures = [executor.submit(work, tmp_path, x) for x in range(100)]
        errors = {x: future.exception(TIMEOUT) for x, future in enumerate(futures)}
    assert {x for x, error in errors.items() if error is not None} == set(CULPRITS)
    assert [f.result() for x, f in enumerate(futures) if not errors[x]] == [
        x for x in range(100) if x not in CULPRITS
    ]
    ends = count_files(tmp_path, "end-")
    # The neighbour of a culprit may be told to end between its last statement and its return.
    assert sum(ends.values()) - len(ends) <= len(CULPRITS)


def sleep_with_a_last_word(path):
    try:
        note_pid_and_sleep(path)
    finally:
        path.with_name("last word").touch()


def test_a_call_in_a_worker_that_is_told_to_exit_has_its_last_word(tmp_path):
    pool = make_pool("forkserver", initializer=exit_on_term)
    for name in ("first", "second"):  # the handler is set once, whatever the number of executors
        with RecoveringExecutor(pool) as executor:
            assert executor.submit(support.double, 2).result(TIMEOUT) == 4
            if name == "second":
                future = executor.submit(sleep_with_a_last_word, tmp_path / name)
                os.kill(wait_for_pid(tmp_path / name), signal.SIGTERM)
                assert future.exception(TIMEOUT).signal_name == "SIGTERM"
    assert (tmp_path / "last word").exists()
    pool.shutdown()


def handle_term_kindly(path):
    signal.signal(signal.SIGTERM, lambda *_: path.touch())


def test_a_handler_that_does_not_exit_is_left_in_peace(tmp_path):
    pool = make_pool("forkserver", initializer=handle_term_kindly, initargs=(tmp_path / "heard",))
    with RecoveringExecutor(pool, owned=True) as executor:
        pid = executor.submit(os.getpid).result(TIMEOUT)
        os.kill(pid, signal.SIGTERM)
        support.wait_for_file(tmp_path / "heard")
        assert executor.submit(os.kill, pid, 0).result(TIMEOUT) is None
        for other in pids_of(executor):
            os.kill(other, signal.SIGKILL)


def test_no_finished_call_runs_again(executor, tmp_path):
    done = {}
    futures = [executor.submit(work, tmp_path, x) for x in range(100)]
    for x, future in enumerate(futures):
        future.add_done_callback(lambda _, x=x: done.setdefault(x, time.time_ns()))
    wait(futures, TIMEOUT)
    ends = count_files(tmp_path, "end-")
    assert set(ends) == {f"end-{x}" for x in range(100) if x not in CULPRITS}
    # The neighbour of a culprit may be told to end between its last statement and its return.
    assert sum(ends.values()) - len(ends) <= len(CULPRITS)
    begun = [path.name.split("-") for path in tmp_path.glob("[0-9]*")]
    assert [x for x, moment in begun if int(moment) > done[int(x)]] == []
    # Beside the three culprits two calls ran, one of which may be the next culprit.
    assert len(begun) <= 100 + len(CULPRITS)


def test_the_error_says_what_happened(executor):
    error = executor.submit(os._exit, 7).exception(TIMEOUT)
    assert "exit code 7" in str(error)
    assert error.pid != os.getpid()
    assert "_exit" in str(error)


def test_an_exit_without_an_error_code_is_a_death_too(executor):
    assert executor.submit(os._exit, 0).exception(TIMEOUT).exit_code == 0


def test_an_idle_worker_that_is_killed_costs_nothing(executor):
    assert executor.submit(support.double, 1).result(TIMEOUT) == 2
    kill_idle_worker(executor)
    assert [executor.submit(support.double, x).result(TIMEOUT) for x in range(5)] == [
        0,
        2,
        4,
        6,
        8,
    ]


def test_an_idle_worker_that_is_killed_is_nobodys_fault(executor, tmp_path):
    go = tmp_path / "go"
    future = executor.submit(support.wait_for_file, go)
    other = executor.submit(support.pid).result(TIMEOUT)
    os.kill(other, signal.SIGKILL)
    support.write_atomically(go, "gone")
    assert future.result(TIMEOUT) == "gone"


@pytest.fixture
def hasty(monkeypatch):
    """A broken pool is not waited for as long as usual."""
    monkeypatch.setattr("amltk.executors.recovery.breakable._PATIENCE_S", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver", "loky"])
def test_a_worker_that_is_killed_as_the_pool_shuts_down_holds_nobody_up(kind, waits, tmp_path):
    """It has the lock of the pool's queue, for which the others then wait, and for them the pool."""
    pool = make_pool(kind)
    executor = RecoveringExecutor(pool, owned=True)
    future = executor.submit(support.wait_for_file, tmp_path / "go")
    idle = executor.submit(support.pid).result(TIMEOUT)
    manager = pool._executor_manager_thread
    time.sleep(0.3)  # by then it waits for its next call

    def kill_and_shut_down(_):
        os.kill(idle, signal.SIGKILL)
        executor.shutdown(wait=False)  # in the pool's own thread: it cannot have noticed

    future.add_done_callback(kill_and_shut_down)
    support.write_atomically(tmp_path / "go", "gone")
    assert future.result(TIMEOUT) == "gone"
    if waits:
        executor.shutdown()
    else:
        manager.join(TIMEOUT)
    assert not manager.is_alive()


def test_what_cannot_travel_does_not_break_the_pool(executor):
    pool = executor.pool
    bad = executor.submit(support.return_unpicklable)
    assert isinstance(bad.exception(TIMEOUT), ResultPicklingError)
    unsendable = executor.submit(support.double, threading.Lock())
    assert isinstance(unsendable.exception(TIMEOUT), CallPicklingError)
    assert executor.submit(lambda: 3).result(TIMEOUT) == 3
    assert executor.pool is pool


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_result_that_was_not_sent_is_found(executor, kind, tmp_path, size):
    future = executor.submit(end_unsent, kind, tmp_path, size)
    assert future.result(TIMEOUT) == bytes(size)
    assert len(list(tmp_path.iterdir())) == 1


def test_results_that_the_broken_pool_did_not_read_are_found(executor, tmp_path):
    executor.submit(support.double, 1).result(TIMEOUT)
    futures = [executor.submit(die_when_told, tmp_path / "die")]
    futures += [executor.submit(support.note_and_return, tmp_path, x) for x in range(200)]
    (tmp_path / "die").write_text("now")
    assert isinstance(futures[0].exception(TIMEOUT), WorkerDiedError)
    assert [future.result(TIMEOUT) for future in futures[1:]] == list(range(200))


@pytest.mark.usefixtures("hasty")
def test_a_worker_that_ignores_term_holds_nobody_up(executor, tmp_path):
    path = tmp_path / "pid"
    stubborn = executor.submit(note_pid_and_ignore_term, path)
    pid = wait_for_pid(path)
    path.unlink()
    assert isinstance(executor.submit(os._exit, 3).exception(TIMEOUT), WorkerDiedError)
    second = wait_for_pid(path)  # it was innocent, and runs again
    assert second != pid
    assert not support.is_alive(pid)
    os.kill(second, signal.SIGKILL)
    assert isinstance(stubborn.exception(TIMEOUT), WorkerDiedError)


def test_a_failing_initializer_does_not_go_on_for_ever(kind):
    pool = make_pool(kind, initializer=os._exit, initargs=(3,))
    with RecoveringExecutor(pool, owned=True) as executor:
        futures = [executor.submit(support.double, x) for x in range(3)]
        for future in futures:
            with pytest.raises(WorkerStartError, match="look at the initializer"):
                future.result(TIMEOUT)
        with pytest.raises(WorkerStartError) as info:
            executor.submit(support.double, 1)
        assert info.value.attempts == recovery.MAX_BARREN


def test_a_fresh_pool_is_like_the_broken_one(kind):
    pool = make_pool(kind, initializer=support.set_mark, initargs=("set",))
    with RecoveringExecutor(pool, owned=True) as executor:
        assert isinstance(executor.submit(os._exit, 1).exception(TIMEOUT), WorkerDiedError)
        assert executor.submit(support.get_mark).result(TIMEOUT) == "set"
        assert executor.pool is not pool
        assert type(executor.pool) is type(pool)
        assert executor.pool._max_workers == pool._max_workers


def test_workers_that_are_replaced_are_no_break():
    pool = support.standard_pool(1, "spawn", max_tasks_per_child=1)
    with RecoveringExecutor(pool, owned=True) as executor:
        pids = [executor.submit(support.pid).result(TIMEOUT) for _ in range(2)]
        assert len(set(pids)) == 2
        assert executor.pool is pool
        assert isinstance(executor.submit(os._exit, 1).exception(TIMEOUT), WorkerDiedError)
        assert executor.pool._max_tasks_per_child == 1


def test_lokys_reusable_executor_recovers_too():
    loky = pytest.importorskip("loky", reason="the extra loky is not installed")
    pool = loky.get_reusable_executor(2, timeout=2)
    try:
        with recovering(pool) as executor:
            assert isinstance(executor.submit(os._exit, 1).exception(TIMEOUT), WorkerDiedError)
            assert executor.submit(support.double, 2).result(TIMEOUT) == 4
    finally:
        pool.shutdown(wait=True)


def test_cancelled_calls_stay_cancelled(executor, tmp_path):
    go = tmp_path / "go"
    first = executor.submit(die_when_told, go)
    futures = [executor.submit(support.note_and_return, tmp_path, x) for x in range(50)]
    blocked = [executor.submit(support.wait_for_file, go) for _ in range(8)]
    cancelled = [future for future in futures[20:] + blocked[6:] if future.cancel()]
    support.write_atomically(go, "go")
    assert isinstance(first.exception(TIMEOUT), WorkerDiedError)
    wait(futures, TIMEOUT)
    assert all(future.cancelled() for future in cancelled)
    ran = {int(name) for name in count_files(tmp_path) if name.isdigit()}
    assert ran == {x for x, future in enumerate(futures) if not future.cancelled()}


def test_a_call_that_runs_cannot_be_cancelled(executor, tmp_path):
    go = tmp_path / "go"
    future = executor.submit(support.wait_for_file, go)
    support.wait_until(future.running)
    assert not future.cancel()
    support.write_atomically(go, "on")
    assert future.result(TIMEOUT) == "on"
    assert not future.running()


class SlowPool:
    """Makes pools, but only when it is let."""

    def __init__(self, kind):
        self.kind, self.may_go, self.n_made = kind, threading.Event(), 0
        self.was_asked = threading.Event()

    def __call__(self):
        self.was_asked.set()
        self.may_go.wait(TIMEOUT)
        self.n_made += 1
        return make_pool(self.kind)


@pytest.fixture
def slow(kind):
    return SlowPool(kind)


@pytest.fixture
def slow_executor(kind, slow):
    with RecoveringExecutor(make_pool(kind), make=slow, owned=True) as executor:
        yield executor
        slow.may_go.set()


def test_calls_may_come_while_a_pool_is_replaced(slow_executor, slow):
    dead = slow_executor.submit(os._exit, 1)
    assert slow.was_asked.wait(TIMEOUT)
    futures = [slow_executor.submit(support.double, x) for x in range(4)]
    assert futures[3].cancel()
    slow.may_go.set()
    assert [future.result(TIMEOUT) for future in futures[:3]] == [0, 2, 4]
    assert futures[3].cancelled()
    assert isinstance(dead.exception(), WorkerDiedError)


def test_shutdown_while_a_pool_is_replaced_waits_for_the_calls(slow_executor, slow):
    slow_executor.submit(os._exit, 1)
    assert slow.was_asked.wait(TIMEOUT)
    future = slow_executor.submit(support.double, 4)
    closer = threading.Thread(target=slow_executor.shutdown)
    closer.start()
    slow.may_go.set()
    closer.join(TIMEOUT)
    assert not closer.is_alive()
    assert future.result(0) == 8
    with pytest.raises(ExecutorError, match="is shut down"):
        slow_executor.submit(support.double, 1)


def test_shutdown_without_waiting_while_a_pool_is_replaced(slow_executor, slow):
    slow_executor.submit(os._exit, 1)
    assert slow.was_asked.wait(TIMEOUT)
    future = slow_executor.submit(support.double, 4)
    slow_executor.shutdown(wait=False)
    slow.may_go.set()
    assert future.result(TIMEOUT) == 8


def test_shutdown_can_cancel_what_waits(slow_executor, slow):
    slow_executor.submit(os._exit, 1)
    assert slow.was_asked.wait(TIMEOUT)
    future = slow_executor.submit(support.double, 4)
    slow_executor.shutdown(wait=False, cancel_futures=True)
    assert future.cancelled()


def test_terminate_while_a_pool_is_replaced_cancels_what_waits(slow_executor, slow):
    slow_executor.submit(os._exit, 1)
    assert slow.was_asked.wait(TIMEOUT)
    future = slow_executor.submit(support.double, 4)
    threading.Timer(0.1, slow.may_go.set).start()
    slow_executor.terminate(1.0)
    assert future.cancelled()
    assert slow_executor.submit(support.double, 4).result(TIMEOUT) == 8


def test_terminate_cancels_and_the_next_call_has_a_new_pool(executor, tmp_path):
    path = tmp_path / "pid"
    running = executor.submit(note_pid_and_sleep, path)
    waiting = [executor.submit(support.note_and_return, tmp_path, x) for x in range(3)]
    pid = wait_for_pid(path)
    end_workers(executor, 2.0)
    wait([running, *waiting], TIMEOUT)
    assert running.cancelled()
    assert not support.is_alive(pid)
    assert executor.submit(support.double, 4).result(TIMEOUT) == 8
    assert wait_for_pid(path) == pid  # it was not run again


def test_workers_of_an_idle_executor_can_be_ended(executor):
    executor.submit(support.double, 1).result(TIMEOUT)
    executor.terminate(2.0)
    assert executor.submit(support.double, 1).result(TIMEOUT) == 2


def test_workers_that_are_ended_by_hand_after_a_warning_cost_all_calls(executor, tmp_path):
    running = executor.submit(note_pid_and_sleep, tmp_path / "pid")
    wait_for_pid(tmp_path / "pid")
    for pid in list(executor.expect_end()._processes):
        os.kill(pid, signal.SIGKILL)
    wait([running], TIMEOUT)
    assert running.cancelled()


def test_a_borrowed_pool_stays_open(kind):
    with make_pool(kind) as pool:
        with recovering(pool) as executor:
            assert executor.submit(support.double, 1).result(TIMEOUT) == 2
        assert pool.submit(support.double, 2).result(TIMEOUT) == 4


def test_no_folder_is_left(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with make_pool(kind) as pool, recovering(pool) as executor:
        assert executor.submit(os._exit, 1).exception(TIMEOUT)
        assert executor.submit(support.double, 1).result(TIMEOUT) == 2
        assert list(tmp_path.glob("amltk-marks-*"))
        assert list(tmp_path.glob("amltk-calls-*"))
    assert not list(tmp_path.glob("amltk-*"))


def test_marks_that_cannot_be_written_do_no_harm(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with make_pool(kind) as pool, recovering(pool) as executor:
        for folder in tmp_path.glob("amltk-marks-*"):
            shutil.rmtree(folder)
        assert executor.submit(support.double, 1).result(TIMEOUT) == 2


def test_a_pool_that_cannot_be_made_again_fails_the_calls(kind):
    def refuse():
        raise OSError("no more processes")

    with RecoveringExecutor(make_pool(kind), make=refuse, owned=True) as executor:
        futures = [executor.submit(os._exit, 1), *(executor.submit(time.sleep, 0.1) for _ in "123")]
        assert isinstance(futures[0].exception(TIMEOUT), WorkerDiedError)
        for future in futures[1:]:
            error = future.exception(TIMEOUT)
            assert error is None or "no more processes" in str(error)
        with pytest.raises(ExecutorError, match="could not be replaced"):
            executor.submit(support.double, 1)


class Fragile(Executor):
    """An executor of a stranger: it fails all futures when it is told to."""

    def __init__(self):
        self.calls = []
        self.is_broken = self.was_shut_down = False

    def submit(self, fn, /, *args, **kwargs):
        if self.is_broken:
            raise BrokenExecutor("broken")
        self.calls.append((Future(), fn, args, kwargs))
        return self.calls[-1][0]

    def start(self, n):
        for future, *_ in self.calls[:n]:
            future.set_running_or_notify_cancel()

    def finish(self):
        for future, fn, args, kwargs in self.calls:
            if not future.done():
                future.set_result(fn(*args, **kwargs))

    def snap(self, error=None):
        self.is_broken = True
        for future, *_ in self.calls:
            if not future.done():
                future.set_exception(error or BrokenExecutor("snapped"))

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.was_shut_down = True


@pytest.fixture(params=[Traits(), Traits(pickles=False)], ids=["bytes", "as it is"])
def fragile(request):
    pools = [Fragile()]

    def make():
        pools.append(Fragile())
        return pools[-1]

    executor = recovering(pools[0], request.param, make=make)
    return executor, pools


def test_of_a_stranger_what_has_started_fails_and_the_rest_moves(fragile):
    executor, pools = fragile
    futures = [executor.submit(support.double, x) for x in range(5)]
    pools[0].start(2)
    pools[0].snap()
    for future in futures[:2]:
        with pytest.raises(BrokenExecutor, match="snapped"):
            future.result(TIMEOUT)
    support.wait_until(lambda: len(pools) == 2 and len(pools[1].calls) == 3)
    pools[1].finish()
    assert [future.result(TIMEOUT) for future in futures[2:]] == [4, 6, 8]
    executor.shutdown()
    assert [pool.was_shut_down for pool in pools] == [False, True]


def test_a_stranger_that_refuses_calls_is_replaced(fragile):
    executor, pools = fragile
    pools[0].snap()
    future = executor.submit(support.double, 1)
    support.wait_until(lambda: len(pools) == 2 and len(pools[1].calls) == 1)
    pools[1].finish()
    assert future.result(TIMEOUT) == 2


def raise_broken():
    raise BrokenProcessPool("one of my own")


def test_a_broken_pool_inside_a_call_is_the_calls_affair(fragile):
    executor, pools = fragile
    future = executor.submit(raise_broken)
    pools[0].finish()
    with pytest.raises(BrokenProcessPool, match="one of my own"):
        future.result(TIMEOUT)
    assert len(pools) == 1


def test_other_errors_of_a_pool_are_passed_on(fragile):
    executor, pools = fragile
    future = executor.submit(support.double, 1)
    pools[0].snap(LookupError("lost"))
    with pytest.raises(LookupError, match="lost"):
        future.result(TIMEOUT)


def test_a_strangers_executor_is_left_alone_without_a_factory():
    pool = Fragile()
    assert recovering(pool) is pool
    with pytest.raises(ExecutorError, match="say how by make="):
        RecoveringExecutor(pool)


@pytest.mark.parametrize("how", ["returns", "dies"])
def test_shutting_down_in_a_callback_waits_for_nothing_there(kind, how):
    """It runs in the pool's own thread, or in the one that looks after its death."""
    executor = recovering(make_pool(kind), owned=True)
    first = executor.submit(os._exit, 7) if how == "dies" else executor.submit(time.sleep, 0.3)
    rest = [executor.submit(support.double, x) for x in range(8)]
    is_over = threading.Event()
    first.add_done_callback(lambda _: (executor.shutdown(), is_over.set()))
    assert is_over.wait(TIMEOUT)
    assert [future.result(TIMEOUT) for future in rest] == [2 * x for x in range(8)]
    with pytest.raises(ExecutorError, match="shut down"):
        executor.submit(support.double, 1)


@pytest.mark.parametrize("of", ["processes", "threads"])
def test_no_callback_ends_the_thread_that_completes_calls(of, tmp_path, caplog):
    if of == "processes":
        executor = recovering(make_pool("forkserver"), owned=True)
    else:
        pool = ThreadPoolExecutor(1)
        executor = RecoveringExecutor(
            pool, traits=traits_of(pool), make=Fragile, has_marks=False, owned=True
        )
    with executor:
        support.check_that_no_callback_ends_the_engine(executor, tmp_path / "go")
    assert "EndOfAllError" in caplog.text


def test_no_callback_ends_the_thread_that_recovers(fragile, caplog):
    executor, pools = fragile
    futures = [executor.submit(support.double, x) for x in range(3)]
    futures[0].add_done_callback(lambda _: sys.exit("a callback"))
    pools[0].start(1)
    pools[0].snap()
    support.wait_until(lambda: len(pools) == 2 and len(pools[1].calls) == 2)
    pools[1].finish()
    assert [future.result(TIMEOUT) for future in futures[1:]] == [2, 4]
    assert "SystemExit: a callback" in caplog.text


def test_what_makes_pools_does_not_end_that_thread_either():
    pool = Fragile()
    executor = recovering(pool, make=lambda: sys.exit("no pool today"))
    futures = [executor.submit(support.double, x) for x in range(2)]
    pool.snap()
    with pytest.raises(ExecutorError, match="no pool today"):
        futures[1].result(TIMEOUT)


def test_a_death_no_longer_spreads():
    with make_pool("forkserver") as pool, recovering(pool) as executor:
        assert not executor.traits.death_spreads
        assert executor.traits.packs_itself
        assert executor.traits.tells_started


def scheduler_over(kind):
    return Scheduler(lambda: make_pool(kind))


def test_a_run_with_a_culprit_goes_on(kind):
    results, errors = runs.results_and_errors(
        scheduler_over(kind), lambda x: os._exit(7) if x == 20 else x, range(60), timeout=TIMEOUT
    )
    # All of the 60, so that none was cancelled.
    assert sorted(results) == [x for x in range(60) if x != 20]
    assert [error.exit_code for error in errors] == [7]


def test_the_second_run_with_a_borrowed_pool_recovers_from_the_first(kind):
    pool = make_pool(kind)
    for _ in range(2):
        with recovering(pool) as executor:
            results, errors = runs.results_and_errors(
                Scheduler(executor),
                lambda x: os._exit(7) if x == 1 else x,
                range(4),
                timeout=TIMEOUT,
            )
            assert sorted(results) == [0, 2, 3]
            assert [error.exit_code for error in errors] == [7]
    pool.shutdown(wait=True)


@pytest.mark.parametrize("n_deaths", [0, 1])
def test_without_wait_calls_are_ended_and_not_moved(kind, tmp_path, n_deaths):
    scheduler, path = scheduler_over(kind), tmp_path / "pid"
    task, dying = Task(note_pid_and_sleep, scheduler), Task(os._exit, scheduler)
    later = Task(support.note_and_return, scheduler)

    @scheduler.on_start
    def begin():
        for _ in range(n_deaths):
            dying(3)
        task(path)

    @task.on_submitted
    def stop_when_it_runs():
        # With a death this stops in the middle of the recovery, or after it.
        wait_for_pid(path)
        for x in range(10):
            later(tmp_path, x)
        scheduler.stop()

    scheduler.run(timeout=TIMEOUT, wait=False, end_on_exception=False)
    assert task.event_counts[task.F_CANCELLED] == 1
    assert not support.is_alive(wait_for_pid(path))


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C of a terminal is a signal to a group")
@pytest.mark.parametrize("calls", [[0], [1, 0]], ids=["plain", "after a death"])
def test_ctrl_c_ends_everything(kind, tmp_path, calls):
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_executor
from amltk import Scheduler, Task

if __name__ == "__main__":
    os.setpgid(0, 0)
    scheduler = test_executor.scheduler_over({kind!r})
    task = Task(test_executor.die_or_note, scheduler)
    scheduler.on_start(lambda: [task(x, sys.argv[1]) for x in {calls}])
    try:
        scheduler.run(timeout=60, end_on_exception=False)
    except KeyboardInterrupt:
        print("interrupted")
""")
    driver = support.start_script(script, tmp_path / "pid")
    try:
        pid = wait_for_pid(tmp_path / "pid")
        os.killpg(driver.pid, signal.SIGINT)
        assert "interrupted" in driver.communicate(timeout=TIMEOUT)[0]
        support.wait_until(lambda: not support.is_alive(pid))
    finally:
        driver.kill()
        driver.communicate(timeout=TIMEOUT)


@pytest.mark.slow
def test_many_threads_submit_while_workers_are_killed(executor):
    n_threads, n_calls, is_over = 6, 300, threading.Event()
    futures: list[list] = [[] for _ in range(n_threads)]

    def submit_all(mine):
        for x in range(n_calls):
            mine.append((x, executor.submit(support.double, x)))
            if x % 50 == 49:
                mine[-20][1].cancel()
                time.sleep(0.05)

    def kill_some():
        while not is_over.wait(0.15):
            for pid in pids_of(executor)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    threads = [threading.Thread(target=submit_all, args=(mine,)) for mine in futures]
    killer = threading.Thread(target=kill_some)
    for thread in [*threads, killer]:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    is_over.set()
    killer.join(TIMEOUT)
    for x, future in (pair for mine in futures for pair in mine):
        if future.cancelled():
            continue
        error = future.exception(TIMEOUT)
        assert error is None or isinstance(error, WorkerDiedError)
        assert error is not None or future.result() == 2 * x


@pytest.mark.skipif(sys.version_info < (3, 14), reason="pools have these methods since 3.14")
@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_a_pool_whose_workers_its_owner_ends_is_replaced(end):
    pool = support.standard_pool()
    scheduler = Scheduler(pool)
    task = Task(time.sleep, scheduler)
    errors = []
    task.on_exception(errors.append)

    @task.on_returned(limit=1)
    def end_workers() -> None:
        for _ in range(6):
            task(0.05)
        getattr(pool, end)()

    scheduler.on_start(lambda: task(0))
    code = scheduler.run(timeout=TIMEOUT, end_on_exception=False)
    pool.shutdown()

    assert code is Scheduler.ExitCode.EXHAUSTED
    assert all(isinstance(error, WorkerDiedError) for error in errors)
    assert len(errors) <= 2
    counts = task.event_counts  # the pool itself cancels what it has not given to a worker
    assert counts[task.RETURNED] + len(errors) + counts[task.F_CANCELLED] == 7


class Asked:
    """A worker of whose end the pool has asked already: its pipe shows nothing for a moment."""

    pid, exitcode = 2**22 + 1, 7

    def __init__(self, sentinel):
        self.sentinel = sentinel

    def join(self, timeout=None):
        pass


def test_a_worker_whose_exit_code_the_pool_has_read_already_is_known_to_be_dead():
    pool = ManualExecutor()
    reader, writer = os.pipe()
    pool._processes = {Asked.pid: Asked(reader)}
    try:
        workers = Workers(pool)
        workers._known = dict(pool._processes)
        workers._find_dead_in_time()
    finally:
        os.close(reader)
        os.close(writer)

    assert workers.dead == {Asked.pid: 7}
