"""Messages, requests and events between running calls and the driver."""

import asyncio
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import runs
import support

from amltk import CallLimiter, Comm, Event, Scheduler, Task
from amltk.channel.exchange import Exchange
from amltk.exceptions import (
    CommConnectionError,
    CommError,
    CommTimeoutError,
    InvalidOptionError,
    WorkerDiedError,
)
from amltk.optimization import Trial
from amltk.scheduling.plugin import Layer, WorkerPlugin, Wrapped
from amltk.testing.contracts import PluginContract
from amltk.testing.contracts.functions import work
from amltk.testing.contracts.plugin import ENGINES

EPOCH = Event("epoch")


def work_with_comm(x, y=1, comm=None):
    with comm:
        comm.send(x)
        return work(x, y)


class TestContract(PluginContract):
    function = staticmethod(work_with_comm)

    def make(self):
        return Comm.Plugin(max_message_bytes=1 << 20)


def talk(x, comm=None):
    """Say something of each kind."""
    with comm:
        comm.send(("first", x))
        answer = comm.request(x, timeout=20)
        comm.emit(EPOCH, x, loss=0.5)
        comm.send(("last", x))
    return answer


def connected(function, scheduler, kind=Task, **options):
    """Return a task with a comm, and the list that all it hears of comes to."""
    task = kind(function, scheduler, plugins=[Comm.Plugin(**options)])
    seen = []
    task.on_message(lambda msg: seen.append(("message", msg.data)))
    task.on_request(lambda msg: seen.append(("request", msg.data)))
    task.on_comm_close(lambda msg: seen.append(("close", msg.future.number)))
    task.on_done(lambda future: seen.append(("done", future.number)))
    return task, seen


run = partial(runs.run_calls, end_on_exception=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_kinds_of_messages_come_in_order_and_before_the_calls_end(engine):
    stack = __import__("contextlib").ExitStack()
    with stack:
        task, seen = connected(talk, ENGINES[engine](stack))
        task.on_request(lambda msg: msg.respond(msg.data * 10))
        task.on(EPOCH, lambda x, loss: seen.append(("epoch", x, loss)))
        (future,) = run(task, (4,))
    assert future.result() == 40
    assert seen == [
        ("message", ("first", 4)),
        ("request", 4),
        ("epoch", 4, 0.5),
        ("message", ("last", 4)),
        ("close", 0),
        ("done", 0),
    ]


class TestWhatTheDriverSees:
    def test_a_message_names_its_call(self):
        scheduler = Scheduler.with_threads(1)
        task = Task(work_with_comm, scheduler, name="train", plugins=[Comm.Plugin()])
        seen = []
        task.on(Comm.MESSAGE, seen.append)
        (future,) = run(task, (5,))
        (msg,) = seen
        assert (msg.data, msg.task, msg.future, msg.identifier) == (5, task, future, "train-0")

    def test_callbacks_run_in_the_thread_of_all_callbacks(self):
        task, _ = connected(talk, Scheduler.with_processes(2))
        threads = set()
        task.on_message(lambda: threads.add(threading.get_ident()))
        task.on_request(lambda msg: (threads.add(threading.get_ident()), msg.respond()))
        run(task, (1,), (2,))
        assert threads == {threading.get_ident()}

    def test_a_request_may_be_answered_later_and_from_another_thread(self):
        task, _ = connected(talk, Scheduler.with_processes(1))
        with ThreadPoolExecutor(1) as pool:
            task.on_request(lambda msg: pool.submit(msg.respond, msg.data + 1))
            (future,) = run(task, (1,))
        assert future.result() == 2

    def test_a_message_cannot_be_answered(self, sequential):
        task, _ = connected(work_with_comm, sequential)
        task.on_message(lambda msg: msg.respond(1))
        with pytest.raises(CommError, match="only a REQUEST"):
            run(task, (1,))

    def test_an_answer_that_cannot_be_pickled_is_an_error_here_and_there(self):
        task, _ = connected(talk, Scheduler.with_processes(1))
        task.on_request(lambda msg: msg.respond(i for i in range(3)))
        told = []
        task.on_exception(told.append)
        with pytest.raises(CommError, match="cannot be pickled"):
            run(task, (1,))
        assert isinstance(told[0], CommError)

    def test_an_answer_that_is_too_large_is_an_error_here_and_there(self):
        task, _ = connected(talk, Scheduler.with_processes(1), max_message_bytes=1000)
        task.on_request(lambda msg: msg.respond(b"x" * 1000))
        told = []
        task.on_exception(told.append)
        with pytest.raises(CommError, match="no more than 1000 are taken"):
            run(task, (1,))
        assert "no more than 1000 are taken" in str(told[0])

    def test_an_answer_to_a_call_that_is_gone_reaches_nobody(self):
        kept = []
        task, _ = connected(ask_and_give_up, Scheduler.with_processes(1))
        task.on_request(kept.append)
        heard = []
        task.on_done(lambda: heard.append(kept[0].respond(1)))
        run(task, (1,))
        assert heard == [False]

    def test_each_run_has_a_server_of_its_own_and_leaves_none_behind(self):
        task, _ = connected(work_with_comm, Scheduler.with_threads(1))
        assert support.descriptors_kept(lambda: run(task, (1,)), times=5) < 5

    def test_it_leaves_a_loop_of_the_users_as_it_found_it(self):
        task, seen = connected(talk, Scheduler.with_processes(1))
        task.on_request(lambda msg: msg.respond(1))
        task.scheduler.on_start(lambda: task(1))

        async def main():
            before = asyncio.all_tasks()
            code = await task.scheduler.async_run()
            await asyncio.sleep(0)
            return code, asyncio.all_tasks() - before

        assert asyncio.run(main()) == (Scheduler.ExitCode.EXHAUSTED, set())
        assert seen[-1] == ("done", 0)

    def test_nobody_listens_before_a_call_is_submitted(self, monkeypatch):
        made = []
        monkeypatch.setattr(Exchange, "_listen", lambda *_: made.append(1))
        task, _ = connected(work_with_comm, Scheduler.with_processes(1))
        run(task)
        assert made == []

    def test_nobody_listens_at_all_where_calls_run_in_the_drivers_thread(self, sequential):
        task, seen = connected(talk, sequential)
        task.on_request(lambda msg: msg.respond(msg.data))
        found = []
        task.on_message(lambda msg: found.append(msg.task.plugins[0]._channels))
        run(task, (1,))
        assert len(seen) == 5
        assert all(c.ticket.address is None for channels in found for c in channels.values())

    def test_nothing_is_kept_of_calls_that_are_over(self, sequential):
        plugin = Comm.Plugin()
        task = Task(work_with_comm, sequential, plugins=[CallLimiter(max_calls=50), plugin])
        exchanges = []
        sequential.on_finishing(
            lambda: exchanges.append(
                sequential.service((Exchange, plugin.listening), lambda _: None)
            )
        )
        run(task, *[(x,) for x in range(1, 60)])
        assert plugin._channels == {}
        assert exchanges[0]._channels == {}

    def test_only_a_task_with_a_comm_has_its_subscribers(self, sequential):
        with pytest.raises(AttributeError, match=r"no on_message.*Comm\.Plugin"):
            Task(support.double, sequential).on_message  # noqa: B018
        with pytest.raises(AttributeError, match="on_mesage"):
            Task(support.double, sequential).on_mesage  # noqa: B018


def ask_and_give_up(x, comm=None):
    try:
        comm.request(x, timeout=0.2)
    except CommTimeoutError:
        return "gave up"


def ask_twice(x, comm=None):
    with comm:
        try:
            comm.request("slow", timeout=0.3)
        except CommTimeoutError as error:
            told = str(error)
        return told, comm.request("quick", timeout=20)


def use_after_close(x, comm=None):
    with comm:
        comm.send(1)
    comm.close()
    comm.send(2)


def leave_open(x, comm=None):
    comm.send(x)
    return x


def leave_unused(x, comm=None):
    return x


def send_lambda(x, comm=None):
    comm.send(lambda: 42)


def send_generator(x, comm=None):
    comm.send(i for i in range(3))


def send_unreadable(x, comm=None):
    with comm:
        comm.send(1)
        comm.send(support.Unreadable())
        comm.send(2)


def ask_unreadable(x, comm=None):
    comm.request(support.Unreadable(), timeout=20)


def send_large(n_bytes, comm=None):
    comm.send(b"x" * n_bytes)


def send_and_fail(x, comm=None):
    with comm:
        comm.send(x)
        raise LookupError("after all")


def ask_from_threads(n, comm=None):
    with comm, ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda x: comm.request(x, timeout=30), range(n)))


def send_from_fork(x, comm=None):
    with comm:
        comm.send("parent")
        child = multiprocessing.get_context("fork").Process(target=comm.send, args=("child",))
        child.start()
        child.join()
        comm.send("parent again")


def send_from_fork_only(x, comm=None):
    """Return the exit code of a child that sends."""
    child = multiprocessing.get_context("fork").Process(target=comm.send, args=("child",))
    child.start()
    child.join()
    return child.exitcode


def show(x, comm=None):
    return repr(comm), repr(pickle.loads(pickle.dumps(comm))), comm._ticket.token


def ask_and_tell(comm=None):
    began = time.monotonic()
    try:
        comm.request("what now?", timeout=20)
    except CommError as error:
        return str(error), time.monotonic() - began


def raise_a_bug(_msg):
    raise KeyError("a bug")


@pytest.mark.parametrize("make", [Scheduler.with_processes, Scheduler.with_threads])
def test_a_request_whose_callback_raises_is_refused_at_once(make):
    scheduler = make(1)
    task = Task(ask_and_tell, scheduler, plugins=[Comm.Plugin()])
    task.on_request(raise_a_bug)
    futures = []
    scheduler.on_start(lambda: futures.append(task()))
    with pytest.raises(KeyError, match="a bug"):
        scheduler.run()

    told, seconds = futures[0].result(0)
    assert "KeyError: 'a bug'" in told
    assert seconds < 15


class TestWhatACallCanDo:
    def test_a_request_that_nobody_answers_ends_after_its_timeout(self):
        task, _ = connected(talk, Scheduler.with_processes(1))
        task.function = ask_and_give_up
        began = time.monotonic()
        (future,) = run(task, (1,))
        assert future.result() == "gave up"
        assert time.monotonic() - began < 20

    def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_request(self):
        task, _ = connected(ask_twice, Scheduler.with_processes(1))
        late = []
        task.on_request(late.append)
        task.on_request(lambda msg: msg.respond(f"to {msg.data}") if len(late) > 1 else None)
        task.on_request(lambda msg: late[0].respond("late") if len(late) > 1 else None)
        (future,) = run(task, (1,))
        told, answer = future.result()
        assert "nobody answered the request within 0.3 s" in told
        assert answer == "to quick"

    def test_without_with_it_is_closed_at_the_calls_end(self):
        task, seen = connected(leave_open, Scheduler.with_processes(1))
        run(task, (7,))
        assert seen == [("message", 7), ("close", 0), ("done", 0)]

    def test_one_that_was_never_opened_is_not_closed_either(self):
        task, seen = connected(leave_unused, Scheduler.with_processes(1))
        run(task, (7,))
        assert seen == [("done", 0)]

    def test_it_is_of_no_use_once_it_is_closed(self):
        task, _ = connected(use_after_close, Scheduler.with_processes(1))
        (future,) = run(task, (1,))
        with pytest.raises(CommConnectionError, match="this comm is closed"):
            future.result()

    def test_what_pickle_cannot_send_is_sent_as_elsewhere(self):
        task, seen = connected(send_lambda, Scheduler.with_processes(1))
        run(task, (1,))
        assert seen[0][1]() == 42

    def test_what_cannot_be_sent_is_an_error_in_the_call(self):
        task, _ = connected(send_generator, Scheduler.with_processes(1))
        (future,) = run(task, (1,))
        with pytest.raises(CommError, match="generator cannot be sent"):
            future.result()

    @pytest.mark.parametrize("function", [send_unreadable, ask_unreadable])
    def test_what_the_driver_cannot_read_is_an_error_in_the_call(self, function, caplog):
        task, seen = connected(function, Scheduler.with_processes(1))
        (future,) = run(task, (1,))
        with pytest.raises(CommError, match=r"could not (be )?read"):
            future.result()
        assert ("done", 0) in seen
        assert any("could not be read" in record.message for record in caplog.records)
        caplog.clear()

    def test_others_are_heard_around_what_cannot_be_read(self, caplog):
        task, seen = connected(send_unreadable, Scheduler.with_processes(1))
        run(task, (1,))
        assert [data for kind, data in seen if kind == "message"] == [1, 2]
        caplog.clear()

    def test_a_message_may_be_as_large_as_was_said_and_no_larger(self):
        task, seen = connected(send_large, Scheduler.with_processes(1), max_message_bytes=1 << 22)
        small, large = run(task, (1 << 21,), (1 << 22,))
        assert len(seen[0][1]) == 1 << 21
        assert small.exception() is None
        with pytest.raises(CommError, match="no more than 4194304 are taken"):
            large.result()

    def test_an_exception_of_the_function_is_its_own(self):
        task, seen = connected(send_and_fail, Scheduler.with_processes(1))
        (future,) = run(task, (3,))
        assert type(future.exception()) is LookupError
        assert seen == [("message", 3), ("close", 0), ("done", 0)]

    def test_threads_of_a_call_share_it(self):
        task, _ = connected(ask_from_threads, Scheduler.with_processes(1))
        task.on_request(lambda msg: msg.respond(msg.data * 2))
        (future,) = run(task, (200,))
        assert future.result() == [2 * x for x in range(200)]

    def test_a_forked_child_has_a_connection_of_its_own(self):
        task, seen = connected(send_from_fork, Scheduler.with_processes(1))
        run(task, (1,))
        assert [x for x in seen if x[0] != "message"] == [("close", 0), ("done", 0)]
        assert sorted(data for kind, data in seen if kind == "message") == [
            "child",
            "parent",
            "parent again",
        ]

    def test_a_forked_child_of_the_driver_itself_is_told_that_it_has_none(self, sequential):
        task, seen = connected(send_from_fork_only, sequential)
        (future,) = run(task, (1,))
        assert future.result() == 1
        assert seen == [("done", 0)]

    def test_what_opens_it_is_not_shown(self):
        task, _ = connected(show, Scheduler.with_processes(1))
        (future,) = run(task, (1,))
        *shown, token = future.result()
        assert all("Comm to" in text and repr(token) not in text for text in shown)

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), None])
    def test_a_timeout_that_makes_no_sense_is_an_error(self, sequential, timeout):
        task = Task(
            lambda comm=None: comm.request(1, timeout=timeout), sequential, plugins=Comm.Plugin()
        )
        (future,) = run(task, ())
        with pytest.raises(InvalidOptionError, match=f"timeout={timeout}"):
            future.result()


def train(trial):
    """Talk to the driver, and end in the way that the configuration says."""
    with trial.begin(), trial.plugins["comm"] as comm:
        comm.send(trial.config["x"])
        answer = comm.request(trial.config["x"], timeout=20)
        if trial.config.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        return trial.success(answer=answer)
    return trial.crashed()


def trained(scheduler, config):
    """Return what is heard of a trial, and its report."""
    task, seen = connected(train, scheduler, Trial.Task)
    reports = []
    task.on_request(lambda msg: msg.respond(msg.data * 10))
    task.on_report(lambda report: seen.append(("report", report.status.value)))
    task.on_report(reports.append)
    run(task, (Trial("trial", config),))
    return seen, reports[0]


class TestHowTheFunctionGetsIt:
    @pytest.mark.parametrize("engine", ["sequential", "processes"])
    def test_a_trial_has_it_among_its_plugins_while_it_runs(self, engine):
        with __import__("contextlib").ExitStack() as stack:
            seen, report = trained(ENGINES[engine](stack), {"x": 3})
        heard = [("message", 3), ("request", 3), ("close", 0), ("done", 0), ("report", "success")]
        assert seen == heard
        assert report.metrics == {"answer": 30}
        assert report.trial.plugins == {}

    def test_a_trial_whose_worker_dies_is_heard_before_its_report(self):
        seen, report = trained(Scheduler.with_processes(1), {"x": 3, "dies": True})
        assert [what for what, _ in seen] == ["message", "request", "close", "done", "report"]
        assert isinstance(report.exception, WorkerDiedError)

    def test_a_function_that_cannot_get_at_it_is_refused(self, sequential):
        task, _ = connected(support.double, sequential)
        with pytest.raises(InvalidOptionError, match=r"no way to get at its comm"):
            run(task, (1,))

    def test_it_cannot_be_given_by_hand(self, sequential):
        task, _ = connected(talk, sequential)
        sequential.on_start(lambda: task(1, comm=None))
        with pytest.raises(InvalidOptionError, match=r"given by Comm\.Plugin"):
            sequential.run()


def test_a_batch_hears_its_calls_and_answers_them():
    task, seen = connected(talk, Scheduler.with_processes(2))
    batch = task.batch([(1,), (2,), (3,)])
    heard, results = [], []
    batch.on(Comm.REQUEST, lambda msg: msg.respond(msg.data * 10))
    batch.on(EPOCH, lambda x, loss: heard.append(x))
    batch.on_batch_returned(results.extend)
    task.scheduler.on_start(batch.submit)
    task.scheduler.run(timeout=40)
    assert results == [10, 20, 30]
    assert sorted(heard) == [1, 2, 3]
    assert seen == []


def test_a_batch_that_is_cancelled_tells_nothing_of_its_calls_any_more(tmp_path):
    task, _ = connected(ask_forever, Scheduler.with_processes(1))
    batch = task.batch([(tmp_path / "pid",)])
    heard = []
    batch.on(Comm.REQUEST, lambda: (heard.append("asked"), batch.cancel()))
    batch.on(Comm.CLOSE, lambda: heard.append("closed"))
    batch.on_batch_cancelled(lambda: heard.append("cancelled"))
    task.scheduler.on_start(batch.submit)
    task.scheduler.run(timeout=40)
    assert heard == ["asked", "cancelled"]


# ------------------------------------------------------------------------------------- deaths


def send_and_die(n, how, comm=None):
    with comm:
        for x in range(n):
            comm.send(x)
        support.die(how)


def ask_forever(path, comm=None):
    with comm:
        support.write_atomically(path, str(os.getpid()))
        comm.request("anybody?", timeout=600)


class TestDeaths:
    @pytest.mark.parametrize("how", ["kill", "exit 0", "segfault"])
    def test_all_that_a_killed_worker_sent_is_heard_before_its_death(self, how):
        task, seen = connected(send_and_die, Scheduler.with_processes(2))
        (future,) = run(task, (2000, how))
        assert [data for kind, data in seen if kind == "message"] == list(range(2000))
        assert seen[2000:] == [("close", 0), ("done", 0)]
        assert isinstance(future.exception(), WorkerDiedError)

    def test_a_worker_that_is_killed_while_it_waits_is_closed(self, tmp_path):
        path = tmp_path / "pid"
        task, seen = connected(ask_forever, Scheduler.with_processes(1))
        task.on_request(lambda: os.kill(int(path.read_text()), signal.SIGKILL))
        (future,) = run(task, (path,))
        assert isinstance(future.exception(), WorkerDiedError)
        assert seen == [("request", "anybody?"), ("close", 0), ("done", 0)]

    def test_a_call_that_is_cancelled_while_it_waits_is_closed(self, tmp_path):
        task, seen = connected(ask_forever, Scheduler.with_processes(1))
        task.on_request(lambda msg: msg.future.cancel())
        task.on_cancelled(lambda: seen.append("cancelled"))
        run(task, (tmp_path / "pid",))
        assert seen == [("request", "anybody?"), ("close", 0), "cancelled"]

    def test_a_run_that_does_not_wait_closes_it(self, tmp_path):
        task, seen = connected(ask_forever, Scheduler.with_processes(1))
        task.on_request(task.scheduler.stop)
        run(task, (tmp_path / "pid",), wait=False, ends_as=Scheduler.ExitCode.STOPPED)
        assert seen == [("request", "anybody?"), ("close", 0)]

    def test_a_process_that_a_call_leaves_behind_does_not_hold_it_up_for_long(self, monkeypatch):
        monkeypatch.setattr("amltk.channel.peer._SILENCE_S", 0.2)
        task, seen = connected(leave_a_fork_behind, Scheduler.with_processes(1))
        began = time.monotonic()
        (future,) = run(task, (1,))
        took = time.monotonic() - began
        os.kill(future.exception() is None and future.result(), signal.SIGKILL)
        assert seen == [("message", 1), ("close", 0), ("done", 0)]
        assert took < 15

    def test_a_forked_worker_does_not_keep_the_drivers_socket(self):
        scheduler = Scheduler.with_processes(2, multiprocessing.get_context("fork"))
        task, _ = connected(listens_at_the_drivers_port, scheduler, host="127.0.0.1")
        first, second = run(task, (1,), (1,))
        assert (first.result(), second.result()) == (False, False)


def leave_a_fork_behind(x, comm=None):
    """Die by a name of its own: the child keeps the connection open."""
    comm.send(x)
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    comm._line = None  # as if the worker had not come to close it
    return pid


def listens_at_the_drivers_port(x, comm=None):
    """Tell whether this process has the driver's listening socket."""
    import psutil

    mine = psutil.Process().net_connections("tcp")
    ports = {c.laddr.port for c in mine if c.status == psutil.CONN_LISTEN}
    return comm._ticket.address[1] in ports


DRIVER = """
import pickle
import time

from amltk import Comm, Scheduler, Task


def show(comm=None):
    print(pickle.dumps(comm).hex(), flush=True)
    time.sleep(600)


scheduler = Scheduler.with_threads(1)
task = Task(show, scheduler, plugins=[Comm.Plugin()])
task.on_request(lambda: print("asked", flush=True))
scheduler.on_start(task)
scheduler.run()
"""


def test_who_waits_for_an_answer_hears_at_once_that_the_driver_was_killed(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = support.start_script(tmp_path / "driver.py")
    comm = pickle.loads(bytes.fromhex(driver.stdout.readline()))

    def kill_once_it_is_asked():
        driver.stdout.readline()
        driver.kill()

    with ThreadPoolExecutor(1) as pool, driver:
        pool.submit(kill_once_it_is_asked)
        with pytest.raises(CommConnectionError, match="cannot be talked to any more"):
            comm.request("still there?", timeout=50)
        with pytest.raises(CommConnectionError, match="could not be reached"):
            Comm(comm._ticket).send("hello?")


# -------------------------------------------------------------------------------------- floods


def flood(n, comm=None):
    payload = b"x" * 1000
    with comm:
        for _ in range(n):
            comm.send(payload)


@pytest.mark.slow
def test_a_flood_to_a_slow_driver_is_held_back_in_bounded_memory():
    import psutil

    task = Task(flood, Scheduler.with_processes(2), plugins=[Comm.Plugin()])
    n_heard = 0
    most = 0
    me = psutil.Process()

    @task.on_message
    def dawdle():
        nonlocal n_heard, most
        n_heard += 1
        if n_heard % 100 == 0:
            time.sleep(0.002)
            most = max(most, me.memory_info().rss)

    before = me.memory_info().rss
    run(task, (50_000,), (50_000,), timeout=50)
    assert n_heard == 100_000
    # 100 MB were sent.
    assert most - before < 40 << 20


@pytest.mark.slow
def test_a_worker_that_connects_waits_for_a_driver_that_is_busy():
    task, seen = connected(talk, Scheduler.with_processes(2))
    task.on_request(lambda msg: msg.respond(msg.data))
    task.on_message(lambda: time.sleep(7), limit=1)
    futures = run(task, (1,), (2,), (3,))
    assert [future.result() for future in futures] == [1, 2, 3]
    assert seen.count(("close", 0)) == seen.count(("close", 1)) == seen.count(("close", 2)) == 1


@pytest.mark.slow
def test_a_driver_that_is_stuck_for_too_long_is_told_to_the_call():
    task, _ = connected(flood_briefly, Scheduler.with_processes(1))
    task.on_message(lambda: time.sleep(4), limit=1)
    (future,) = run(task, (20_000,))
    with pytest.raises(CommTimeoutError, match="took no message for 1 s"):
        future.result()


def flood_briefly(n, comm=None):
    for _ in range(n):
        comm.send(b"x" * 1000, timeout=1)


# ------------------------------------------------------------------------------------- engines


class OwnProcess(WorkerPlugin):
    name = "own-process"
    layer = Layer.PROCESS

    def wrap(self, fn):
        return Wrapped(fn)


class TestRefusals:
    def test_an_engine_on_other_machines_needs_an_address(self):
        from concurrent.futures import Executor

        from amltk.executors.registry import Traits

        class Remote(Executor):
            traits = Traits(shares_machine=False)

        with pytest.raises(InvalidOptionError, match=r"run on other machines.*give host="):
            Task(talk, Scheduler(Remote()), plugins=Comm.Plugin())

    def test_a_batch_system_does(self):
        pytest.importorskip("dask_jobqueue")
        scheduler = Scheduler.with_slurm(1, cores=1, memory="1GB", queue="main")
        with pytest.raises(InvalidOptionError, match=r"run on other machines.*give host="):
            Task(talk, scheduler, plugins=Comm.Plugin())

    def test_a_call_in_a_process_of_its_own_cannot_reach_a_driver_that_waits_in_it(
        self, sequential
    ):
        with pytest.raises(InvalidOptionError, match=r"use Scheduler.with_processes\(1\)"):
            Task(talk, sequential, plugins=[OwnProcess(), Comm.Plugin()])

    @pytest.mark.parametrize(
        ("options", "pattern"),
        [
            ({"port": -1}, "port=-1"),
            ({"port": 70000}, "port=70000"),
            ({"max_message_bytes": 0}, "max_message_bytes=0"),
            ({"host": "0.0.0.0"}, "advertise="),
            ({"host": "no such host"}, "no address of this machine"),
            ({"worker_tls": dict}, "belong together"),
        ],
    )
    def test_an_option_that_makes_no_sense_is_refused(self, options, pattern):
        with pytest.raises(InvalidOptionError, match=pattern):
            Comm.Plugin(**options)

    def test_a_port_that_is_taken_is_an_error_where_the_call_is_submitted(self):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            task, _ = connected(talk, Scheduler.with_threads(1), host="127.0.0.1", port=port)
            with pytest.raises(RuntimeError, match=f"cannot listen at 127.0.0.1:{port}"):
                run(task, (1,))


def test_nothing_is_logged_when_all_goes_well(caplog):
    caplog.set_level(logging.INFO)
    task, _ = connected(talk, Scheduler.with_processes(1))
    task.on_request(lambda msg: msg.respond())
    run(task, (1,))
    assert [r for r in caplog.records if r.name.startswith("amltk")] == []
