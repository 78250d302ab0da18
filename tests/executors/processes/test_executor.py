import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path

import psutil
import pytest
import support

from amltk.exceptions import (
    CallExitError,
    CallPicklingError,
    CallUnpicklingError,
    ExecutorError,
    InvalidOptionError,
    RemoteError,
    ResultPicklingError,
    ResultUnpicklingError,
    WorkerDiedError,
    WorkerStartError,
)
from amltk.executors.processes.executor import ProcessExecutor, processes_factory
from amltk.executors.processes.frames import Channel
from amltk.executors.travel.envelope import PortableFunction

TIMEOUT = 30


@pytest.fixture
def pool():
    with ProcessExecutor(2) as pool:
        yield pool


def wait_until_running(future):
    support.wait_until(future.running)


class TestCalls:
    def test_a_call_runs_in_another_process(self, pool):
        assert pool.submit(support.pid).result(TIMEOUT) != os.getpid()

    def test_keyword_arguments_arrive(self, pool):
        assert pool.submit(support.add, 1, y=5).result(TIMEOUT) == 6

    def test_map_works_as_in_the_standard_pool(self, pool):
        assert list(pool.map(support.double, range(50), timeout=TIMEOUT)) == [
            2 * x for x in range(50)
        ]

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="map has it since Python 3.14")
    def test_map_takes_no_more_than_its_buffer_ahead(self, pool):
        taken = []
        arguments = (taken.append(x) or x for x in range(50))
        results = pool.map(support.double, arguments, timeout=TIMEOUT, buffersize=3)

        assert next(results) == 0
        assert len(taken) == 4
        assert list(results) == [2 * x for x in range(1, 50)]

    def test_as_completed_works(self, pool):
        futures = [pool.submit(support.double, x) for x in range(20)]
        assert sorted(f.result() for f in as_completed(futures, timeout=TIMEOUT)) == list(
            range(0, 40, 2)
        )

    def test_two_workers_run_two_calls_at_once(self, pool):
        futures = [pool.submit(time.sleep, 600) for _ in range(2)]
        support.wait_until(lambda: all(future.running() for future in futures))
        pool.terminate()

    def test_an_exception_arrives_with_the_workers_traceback(self, pool):
        error = pool.submit(support.fail, "broken").exception(TIMEOUT)
        assert type(error) is ValueError
        assert "in fail" in str(error.__cause__)

    @pytest.mark.parametrize(
        "function", [support.raise_system_exit, support.raise_keyboard_interrupt]
    )
    def test_what_would_end_a_program_is_the_calls_exception(self, pool, function):
        error = pool.submit(function).exception(TIMEOUT)
        assert isinstance(error, (CallExitError, KeyboardInterrupt))
        assert pool.submit(support.double, 1).result(TIMEOUT) == 2

    def test_memory_that_is_refused_is_an_exception(self, pool):
        assert isinstance(pool.submit(support.exhaust_memory).exception(TIMEOUT), MemoryError)

    @pytest.mark.slow
    def test_a_large_result_does_not_hold_up_the_other_worker(self, pool):
        large = pool.submit(bytes, 300_000_000)
        small = [pool.submit(support.double, x) for x in range(50)]
        assert [f.result(TIMEOUT) for f in small] == [2 * x for x in range(50)]
        assert len(large.result(TIMEOUT)) == 300_000_000

    def test_a_large_argument_arrives(self, pool):
        assert pool.submit(len, bytes(50_000_000)).result(TIMEOUT) == 50_000_000

    def test_a_portable_function_is_sent_once_to_each_worker(self, monkeypatch):
        n_sent = []
        send = Channel.send
        monkeypatch.setattr(
            Channel, "send", lambda self, *frame: (n_sent.append(len(frame[2])), send(self, *frame))
        )
        payload = os.urandom(2_000_000)
        function = PortableFunction(lambda x: x + len(payload))
        with ProcessExecutor(1) as pool:
            futures = [pool.submit(function, x) for x in range(100)]
            assert [f.result(TIMEOUT) for f in futures] == [x + 2_000_000 for x in range(100)]
        assert 2_000_000 < sum(n_sent) < 2_100_000

    def test_more_functions_than_a_worker_keeps_are_fine(self):
        functions = [PortableFunction(lambda x=x: x) for x in range(150)]
        with ProcessExecutor(1) as pool:
            for _ in range(2):
                futures = [pool.submit(function) for function in functions]
                assert [f.result(TIMEOUT) for f in futures] == list(range(150))

    @pytest.mark.slow
    def test_no_wake_up_is_lost_among_many_small_calls(self, pool):
        futures = []

        def submit_many():
            futures.extend([pool.submit(support.double, x) for x in range(3000)])

        threads = [threading.Thread(target=submit_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wait(futures, timeout=50).not_done

    def test_single_calls_one_after_the_other_never_stall(self, pool):
        for x in range(500):
            assert pool.submit(support.double, x).result(TIMEOUT) == 2 * x


class TestPickling:
    def test_an_argument_that_cannot_be_pickled_is_named(self, pool):
        future = pool.submit(support.double, threading.Lock())
        with pytest.raises(CallPicklingError, match=r"argument 1 .*lock.* cannot be pickled"):
            future.result(TIMEOUT)

    def test_a_function_that_cannot_be_pickled_is_named(self, pool):
        lock = threading.Lock()
        with pytest.raises(CallPicklingError, match="the function"):
            pool.submit(lambda: lock).result(TIMEOUT)

    def test_an_argument_that_cannot_be_unpickled_fails_its_call(self, pool):
        with pytest.raises(CallUnpicklingError, match="cannot be read"):
            pool.submit(support.double, support.Unreadable()).result(TIMEOUT)
        assert pool.submit(support.double, 1).result(TIMEOUT) == 2

    def test_a_result_that_cannot_be_pickled_fails_its_call(self, pool):
        with pytest.raises(ResultPicklingError, match="generator"):
            pool.submit(support.return_unpicklable).result(TIMEOUT)
        assert pool.submit(support.double, 1).result(TIMEOUT) == 2

    def test_a_result_that_cannot_be_unpickled_fails_its_call(self, pool):
        with pytest.raises(ResultUnpicklingError, match="cannot be read"):
            pool.submit(support.return_unreadable).result(TIMEOUT)
        assert pool.submit(support.double, 1).result(TIMEOUT) == 2

    def test_an_exception_that_pickle_cannot_make_again_arrives_as_it_is(self, pool):
        with pytest.raises(support.TwoArgumentsError, match="1 2") as caught:
            pool.submit(support.raise_two_arguments).result(TIMEOUT)
        assert "raise_two_arguments" in str(caught.value.__cause__)

    def test_an_exception_that_cannot_be_pickled_arrives_as_text(self, pool):
        with pytest.raises(RemoteError, match="UnreadableError") as caught:
            pool.submit(support.raise_unreadable).result(TIMEOUT)
        assert caught.value.type_name == "support.UnreadableError"
        assert "raise_unreadable" in caught.value.traceback_text


def leave_little_memory():
    """Let this worker take no more than some 100 MiB more than it has."""
    has = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (has + (100 << 20), resource.RLIM_INFINITY))


class TestDeath:
    @pytest.mark.parametrize(
        ("how", "exit_code", "signal_name"),
        [
            ("SIGKILL", -signal.SIGKILL, "SIGKILL"),
            ("segfault", -signal.SIGSEGV, "SIGSEGV"),
            ("out of memory", -signal.SIGSEGV, "SIGSEGV"),
            ("exit 7", 7, None),
            ("exit 0", 0, None),
        ],
    )
    def test_a_death_costs_one_call_and_nothing_runs_twice(
        self, pool, tmp_path, how, exit_code, signal_name
    ):
        futures = [pool.submit(support.note_and_return, tmp_path, x) for x in range(10)]
        victim = pool.submit(support.die, how)
        futures += [pool.submit(support.note_and_return, tmp_path, x) for x in range(10, 19)]
        assert [f.result(TIMEOUT) for f in futures] == list(range(19))
        assert len(list(tmp_path.iterdir())) == 19
        error = victim.exception(TIMEOUT)
        assert isinstance(error, WorkerDiedError)
        assert (error.exit_code, error.signal_name) == (exit_code, signal_name)
        assert f"worker process {error.pid} ended" in str(error)

    def test_a_call_that_no_worker_can_read_is_given_up(self):
        with ProcessExecutor(1, initializer=leave_little_memory) as pool:
            error = pool.submit(len, bytes(200 << 20)).exception(TIMEOUT)
            assert isinstance(error, WorkerDiedError | CallUnpicklingError), error
            assert pool.submit(support.double, 1).result(TIMEOUT) == 2

    def test_an_idle_worker_that_dies_is_replaced(self, pool):
        os.kill(pool.submit(support.pid).result(TIMEOUT), signal.SIGKILL)
        assert [pool.submit(support.double, x).result(TIMEOUT) for x in range(5)] == [0, 2, 4, 6, 8]

    def test_a_worker_killed_while_it_sends_costs_one_call(self, pool):
        victim = pool.submit(bytes, 800_000_000)
        others = [pool.submit(support.double, x) for x in range(20)]
        wait_until_running(victim)
        worker = next(w for w in pool._pool._workers if w.call is victim)
        support.wait_until(lambda: worker.channel._large is not None or victim.done())
        os.kill(worker.process.pid, signal.SIGKILL)
        assert [f.result(TIMEOUT) for f in others] == [2 * x for x in range(20)]
        assert isinstance(victim.exception(TIMEOUT), WorkerDiedError)

    def test_children_of_a_dead_worker_do_not_live_on(self, pool, tmp_path):
        victim = pool.submit(support.spawn_grandchild, tmp_path / "pid")
        grandchild = int(support.wait_for_file(tmp_path / "pid"))
        worker = next(w for w in pool._pool._workers if w.call is victim)
        os.kill(worker.process.pid, signal.SIGKILL)
        assert isinstance(victim.exception(TIMEOUT), WorkerDiedError)
        support.wait_until(lambda: not support.is_alive(grandchild))

    @pytest.mark.slow
    def test_fifty_deaths_leave_no_descriptor_and_no_process(self):
        with ProcessExecutor(2) as pool:

            def die_and_go_on():
                victims = [pool.submit(support.die, "SIGKILL") for _ in range(5)]
                assert all(isinstance(f.exception(TIMEOUT), WorkerDiedError) for f in victims)
                assert list(pool.map(support.double, range(2))) == [0, 2]

            # Those of the last to die, and of who takes their place, may come and go.
            assert support.descriptors_kept(die_and_go_on, times=10) < 50


class TestStart:
    def test_the_initializer_runs_in_each_worker(self):
        with ProcessExecutor(1, initializer=support.set_mark, initargs=("x",)) as pool:
            assert pool.submit(support.get_mark).result(TIMEOUT) == "x"

    def test_an_initializer_that_raises_breaks_the_pool_in_the_end(self):
        with ProcessExecutor(2, initializer=support.fail, initargs=("no way",)) as pool:
            futures = [pool.submit(support.double, x) for x in range(5)]
            errors = [future.exception(TIMEOUT) for future in futures]
            assert all(isinstance(error, WorkerStartError) for error in errors)
            assert "no way" in str(errors[0])
            assert isinstance(errors[0].__cause__, ValueError)
            with pytest.raises(WorkerStartError, match="in a row"):
                pool.submit(support.double, 1)

    def test_an_initializer_that_exits_breaks_the_pool_in_the_end(self):
        with ProcessExecutor(1, initializer=os._exit, initargs=(3,)) as pool:
            error = pool.submit(support.double, 1).exception(TIMEOUT)
            assert isinstance(error, WorkerStartError)
            assert error.attempts == 5

    def test_an_initializer_that_cannot_be_pickled_is_refused(self):
        lock = threading.Lock()
        with pytest.raises(CallPicklingError, match="the function"):
            ProcessExecutor(1, initializer=lambda: lock)

    @pytest.mark.parametrize("number", [0, -1, 1.5])
    @pytest.mark.parametrize("option", ["max_workers", "max_tasks_per_child"])
    def test_numbers_that_make_no_sense_are_refused(self, option, number):
        with pytest.raises(InvalidOptionError, match=option):
            processes_factory(**{option: number})

    def test_a_worker_is_replaced_after_so_many_calls(self):
        with ProcessExecutor(1, max_tasks_per_child=3) as pool:
            pids = [pool.submit(support.pid).result(TIMEOUT) for _ in range(7)]
        assert len(set(pids)) == 3


LIMITED = """
import os, resource, sys, threading, time
from amltk import Scheduler, Task

def limit(n):
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

def work(seconds):
    time.sleep(seconds)

returned, errors = [], []
"""

#: Two of four workers are up; then there are no descriptors for more of them, for a second.
A_MOMENT_WITHOUT = """
scheduler = Scheduler.with_processes(4)
task = Task(work, scheduler)

def more(_):
    if len(returned) == 2:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limit(len(os.listdir("/proc/self/fd")) + 1)
        threading.Timer(1, limit, [before]).start()
        for _ in range(20):
            task(0.1)

task.on_returned(returned.append)
task.on_returned(more)
task.on_exception(errors.append)
scheduler.on_start(lambda: [task(0.1), task(0.1)])
scheduler.run(timeout=40, end_on_exception=False)
print(len(returned), errors)
"""

#: There are descriptors for some of the workers only.
FEW_DESCRIPTORS = """
limit(30)
scheduler = Scheduler.with_processes(12)
task = Task(work, scheduler)
task.on_returned(returned.append)
task.on_exception(errors.append)
scheduler.on_start(lambda: [task(0.1) for _ in range(22)])
scheduler.run(timeout=40, end_on_exception=False)
print(len(returned), errors)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors cannot be counted")
@pytest.mark.parametrize("script", [A_MOMENT_WITHOUT, FEW_DESCRIPTORS], ids=["moment", "few"])
def test_where_no_more_workers_can_be_started_those_that_there_are_do_the_work(tmp_path, script):
    (tmp_path / "script.py").write_text(LIMITED + script)
    output = support.start_script(tmp_path / "script.py").communicate(timeout=60)[0]
    assert output.splitlines()[-1] == "22 []"


class TestCancel:
    def test_a_waiting_call_is_cancelled_at_once(self):
        with ProcessExecutor(1) as pool:
            first = pool.submit(time.sleep, 600)
            second = pool.submit(support.double, 1)
            assert second.cancel()
            assert second.cancelled()
            pool.terminate()
        assert first.cancelled()

    def test_a_cancelled_running_call_goes_on_no_more(self, pool, tmp_path):
        beat = tmp_path / "beat"
        future = pool.submit(support.heartbeat, beat)
        other = pool.submit(time.sleep, 1)
        support.wait_for_file(beat)
        assert future.cancel()
        with pytest.raises(CancelledError):
            future.result(TIMEOUT)
        last = beat.read_text()
        assert other.result(TIMEOUT) is None
        assert beat.read_text() == last

    def test_a_worker_that_ignores_term_is_killed(self, tmp_path):
        class Hasty(ProcessExecutor):
            GRACE_S = 0.3

        with Hasty(1) as pool:
            future = pool.submit(support.ignore_term_and_beat, tmp_path / "beat")
            support.wait_for_file(tmp_path / "beat")
            assert future.cancel()
            wait([future], timeout=TIMEOUT)
            assert future.cancelled()

    def test_children_of_a_cancelled_call_are_gone_when_it_is_cancelled(self, pool, tmp_path):
        future = pool.submit(support.spawn_grandchild, tmp_path / "pid")
        grandchild = int(support.wait_for_file(tmp_path / "pid"))
        future.cancel()
        wait([future], timeout=TIMEOUT)
        assert not support.is_alive(grandchild)

    def test_the_worker_is_replaced(self, pool):
        future = pool.submit(time.sleep, 600)
        wait_until_running(future)
        assert future.cancel()
        assert [pool.submit(support.double, x).result(TIMEOUT) for x in range(4)] == [0, 2, 4, 6]

    def test_a_finished_call_cannot_be_cancelled(self, pool):
        future = pool.submit(support.double, 1)
        future.result(TIMEOUT)
        assert not future.cancel()
        assert future.result() == 2

    def test_cancel_pending_leaves_a_running_call_alone(self, pool):
        future = pool.submit(time.sleep, 0.3)
        wait_until_running(future)
        assert not future.cancel_pending()
        assert future.result(TIMEOUT) is None

    def test_what_cancel_says_is_what_happens_however_close_it_is(self, pool):
        for _ in range(100):
            future = pool.submit(support.double, 1)
            said = future.cancel()
            wait([future], timeout=TIMEOUT)
            assert future.cancelled() == said

    def test_terminate_leaves_the_pool_usable(self, pool):
        futures = [pool.submit(time.sleep, 600) for _ in range(6)]
        pool.terminate(grace_s=0.5)
        assert all(future.cancelled() for future in futures)
        assert pool.submit(support.double, 4).result(TIMEOUT) == 8


class TestCallbacks:
    def test_none_ends_the_thread_that_completes_calls(self, pool, tmp_path, caplog):
        support.check_that_no_callback_ends_the_engine(pool, tmp_path / "go")
        assert "EndOfAllError" in caplog.text


class TestEnd:
    def test_shutdown_finishes_what_was_submitted(self):
        pool = ProcessExecutor(2)
        futures = [pool.submit(support.double, x) for x in range(30)]
        pool.shutdown()
        assert [f.result(0) for f in futures] == [2 * x for x in range(30)]

    def test_shutdown_can_cancel_what_waits(self):
        pool = ProcessExecutor(1)
        first = pool.submit(time.sleep, 0.3)
        wait_until_running(first)
        rest = [pool.submit(support.double, x) for x in range(5)]
        pool.shutdown(cancel_futures=True)
        assert first.result(0) is None
        assert all(future.cancelled() for future in rest)

    def test_nothing_is_taken_after_shutdown(self):
        pool = ProcessExecutor(1)
        pool.shutdown()
        with pytest.raises(ExecutorError, match="shut down"):
            pool.submit(support.double, 1)

    def test_shutdown_twice_is_fine(self, pool):
        pool.shutdown()
        pool.shutdown()

    def test_a_forgotten_pool_ends_by_itself(self):
        pool = ProcessExecutor(1)
        worker = pool.submit(support.pid).result(TIMEOUT)
        del pool
        support.wait_until(lambda: not support.is_alive(worker))

    def test_descriptors_are_given_back(self):
        def use_a_pool():
            with ProcessExecutor(2) as pool:
                list(pool.map(support.double, range(4)))

        assert support.descriptors_kept(use_a_pool, times=5) < 5

    def test_a_script_may_end_without_shutdown(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            "import time\n"
            "from amltk.executors.processes.executor import ProcessExecutor\n"
            "pool = ProcessExecutor(2)\n"
            "future = pool.submit(lambda: (time.sleep(0.5), print('finished', flush=True)))\n"
        )
        done = support.start_script(script)
        assert "finished" in done.communicate(timeout=TIMEOUT)[0]
        assert done.returncode == 0

    def test_workers_and_their_children_end_with_a_killed_driver(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            "import sys, support\n"
            "from amltk.executors.processes.executor import ProcessExecutor\n"
            "pool = ProcessExecutor(2)\n"
            "pool.submit(support.spawn_grandchild, sys.argv[1] + '/pid')\n"
            "pool.submit(support.heartbeat, sys.argv[1] + '/beat')\n"
            "support.sleep_for_ever()\n"
        )
        driver = support.start_script(script, tmp_path)
        support.wait_for_file(tmp_path / "pid")
        support.wait_for_file(tmp_path / "beat")
        family = psutil.Process(driver.pid).children(recursive=True)
        assert len(family) == 4  # two workers, the child of one, and the guard
        driver.kill()
        driver.wait()
        driver.stdout.close()
        support.wait_until(lambda: not any(support.is_alive(p.pid) for p in family), 10)

    def test_a_script_needs_no_main_guard_and_gets_its_own_classes_back(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            "from amltk.executors.processes.executor import ProcessExecutor\n"
            "class Point:\n"
            "    def __init__(self, x): self.x = x\n"
            "def shift(point, by): return Point(point.x + by)\n"
            "print('main runs')\n"
            "with ProcessExecutor(2) as pool:\n"
            "    points = list(pool.map(shift, [Point(1), Point(2)], [10, 20]))\n"
            "    print([(type(p) is Point, p.x) for p in points], pool.submit(lambda: shift(points[0], 1).x).result())\n"
        )
        said = support.start_script(script).communicate(timeout=TIMEOUT)[0]
        assert said.splitlines() == ["main runs", "[(True, 11), (True, 22)] 12"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
class TestContexts:
    def test_exit_codes_are_known_and_nothing_stays_open_there_too(self, method):
        with ProcessExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:

            def exit_code():
                return pool.submit(os._exit, 7).exception(TIMEOUT).exit_code

            assert {exit_code() for _ in range(10)} == {7}
            assert support.descriptors_kept(exit_code, times=10) < 8

    def test_deaths_cost_one_call_there_too(self, method):
        with ProcessExecutor(2, multiprocessing.get_context(method)) as pool:
            victim = pool.submit(support.die, "SIGKILL")
            assert [pool.submit(support.double, x).result(TIMEOUT) for x in range(10)] == [
                2 * x for x in range(10)
            ]
            error = victim.exception(TIMEOUT)
            assert isinstance(error, WorkerDiedError)

    def test_running_calls_can_be_cancelled_there_too(self, method):
        with ProcessExecutor(2, multiprocessing.get_context(method)) as pool:
            future = pool.submit(time.sleep, 600)
            wait_until_running(future)
            assert future.cancel()
            wait([future], timeout=TIMEOUT)
            assert future.cancelled()
