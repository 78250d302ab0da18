# ruff: noqa: T201, LOG015 - printing and logging is what is tested
"""What calls log and print reaches the driver, attached to its call, up to the last line."""

import concurrent.futures
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial

import pytest
import runs
import support

from amltk import Comm, Scheduler, Task
from amltk.exceptions import InvalidOptionError, WorkerDiedError
from amltk.plugins import _capture
from amltk.plugins._capture import _Routed
from amltk.plugins.worker_logs import WorkerLogs
from amltk.testing.contracts import PluginContract
from amltk.testing.contracts.functions import work
from amltk.testing.contracts.plugin import ENGINES


def work_and_talk(x, y=1):
    print("working on", x)
    logging.getLogger("work").info("working on %s", x)
    return work(x, y)


class TestContract(PluginContract):
    function = staticmethod(work_and_talk)

    def make(self):
        return WorkerLogs()


def heard_of(task):
    """Return lists of the records, the lines and the calls' ends that the driver hears of."""
    records, lines = [], []
    task.on(WorkerLogs.LOG, lambda future, record: records.append((future.number, record)))
    task.on(WorkerLogs.OUTPUT, lambda future, name, line: lines.append((future.number, name, line)))
    return records, lines


run = partial(runs.run_calls, end_on_exception=False)


def logged(function, scheduler=None, **options):
    return Task(function, scheduler or Scheduler.with_processes(2), plugins=[WorkerLogs(**options)])


def say(x):
    print("to stdout", x)
    print("to stderr", x, file=sys.stderr)
    logging.getLogger("mine").info("a record of %s", x)
    print("no end", end="")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_call_logs_and_prints_is_told_on_every_engine(engine):
    with ExitStack() as stack:
        task = logged(say, ENGINES[engine](stack))
        records, lines = heard_of(task)
        n_before_done = []
        task.on_done(lambda: n_before_done.append((len(records), len(lines))))
        run(task, (1,))
    assert [(n, r.name, r.getMessage()) for n, r in records] == [(0, "mine", "a record of 1")]
    assert sorted(lines) == [
        (0, "stderr", "to stderr 1"),
        (0, "stdout", "no end"),
        (0, "stdout", "to stdout 1"),
    ]
    assert n_before_done == [(1, 3)]


def say_from_everywhere(x):
    print("python")
    os.write(1, b"descriptor\n")
    subprocess.run(["/bin/sh", "-c", "echo process; echo process again >&2"], check=True)


def log_at_all_levels(x):
    for level in (10, 20, 30, 40):
        logging.getLogger("mine").log(level, "level %s", level)
    return logging.root.level


def log_quietly_and_loudly(x):
    mine = logging.getLogger("plain")
    mine.info("quiet")
    mine.warning("loud")


def log_an_exception(x):
    try:
        raise LookupError("inside")
    except LookupError:
        logging.exception("it went wrong")


class Strange:
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("not me")

    def __repr__(self):
        return "<strange>"


def log_what_cannot_travel(x):
    logging.info("it is %s", Strange(), extra={"added": Strange(), "more": 7})


def say_much(n):
    for x in range(n):
        print("line", x)
        logging.info("record %s", x)


def say_and_die(n):
    say_much(n)
    sys.stdout.write("the last words\n")
    os.kill(os.getpid(), signal.SIGKILL)


def wait_to_be_killed(path):
    print("waiting")
    support.write_atomically(path, str(os.getpid()))
    time.sleep(600)


def print_long_lines(n_bytes):
    print("a" * n_bytes)
    print("é" * 10)


def tell_descriptors(x):
    return os.fstat(1).st_ino, os.fstat(2).st_ino, sys.stdout.line_buffering


def leave_a_process_behind(x):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("left", child.pid)
    return child.pid


class TestProcesses:
    def test_all_that_is_printed_is_caught_whoever_prints_it(self):
        task = logged(say_from_everywhere)
        _, lines = heard_of(task)
        run(task, (1,))
        assert [line for _, name, line in lines if name == "stdout"] == [
            "python",
            "descriptor",
            "process",
        ]
        assert (0, "stderr", "process again") in lines

    def test_lines_come_in_their_order_and_to_their_call(self):
        task = logged(say_much)
        records, lines = heard_of(task)
        run(task, (300,), (200,))
        for number, n in ((0, 300), (1, 200)):
            assert [line for i, _, line in lines if i == number] == [f"line {x}" for x in range(n)]
            messages = [r.getMessage() for i, r in records if i == number]
            assert messages == [f"record {x}" for x in range(n)]

    def test_a_killed_worker_has_told_all_up_to_its_last_line(self):
        task = logged(say_and_die)
        records, lines = heard_of(task)
        (future,) = run(task, (500,))
        assert isinstance(future.exception(), WorkerDiedError)
        assert [line for _, _, line in lines] == [
            *(f"line {x}" for x in range(500)),
            "the last words",
        ]
        assert len(records) == 500

    def test_a_line_is_heard_while_the_call_runs(self, tmp_path):
        task = logged(wait_to_be_killed, Scheduler.with_processes(1))
        _, lines = heard_of(task)
        task.on(WorkerLogs.OUTPUT, lambda future, name, line: future.cancel())
        (future,) = run(task, (tmp_path / "pid",))
        assert future.cancelled()
        assert lines == [(0, "stdout", "waiting")]

    def test_long_lines_come_in_parts_and_nothing_is_lost(self):
        task = logged(print_long_lines)
        _, lines = heard_of(task)
        run(task, (300_000,))
        texts = [line for _, _, line in lines]
        assert texts[-1] == "é" * 10
        assert "".join(texts[:-1]) == "a" * 300_000

    def test_the_next_call_of_the_worker_has_its_descriptors_as_they_were(self):
        scheduler = Scheduler.with_processes(1)
        task, bare = logged(say, scheduler), Task(tell_descriptors, scheduler)
        scheduler.on_start(lambda: bare(0))
        task.on_done(lambda: bare(1))
        found = []
        bare.on_returned(found.append)
        bare.on_returned(lambda: task(1), limit=1)
        run(task)
        assert found[0] == found[1]

    def test_a_process_that_a_call_leaves_behind_does_not_hold_it_up(self):
        task = logged(leave_a_process_behind, Scheduler.with_processes(1))
        _, lines = heard_of(task)
        began = time.monotonic()
        (future,) = run(task, (1,))
        assert time.monotonic() - began < 20
        assert lines == [(0, "stdout", f"left {future.result()}")]


class TestRecords:
    def test_those_below_the_level_stay_where_they_are(self):
        task = logged(log_at_all_levels, level="WARNING")
        records, _ = heard_of(task)
        run(task, (1,))
        assert [r.levelno for _, r in records] == [30, 40]

    def test_a_low_level_is_heard_though_the_worker_would_not_log_it(self):
        task = logged(log_at_all_levels, level=logging.DEBUG)
        records, _ = heard_of(task)
        run(task, (1,))
        assert [r.levelno for _, r in records] == [10, 20, 30, 40]

    def test_a_traceback_comes_as_text(self):
        task = logged(log_an_exception)
        records, _ = heard_of(task)
        run(task, (1,))
        ((_, record),) = records
        assert record.exc_info is None
        assert "LookupError: inside" in record.exc_text
        assert "LookupError: inside" in logging.Formatter().format(record)

    def test_what_cannot_travel_comes_as_text(self):
        task = logged(log_what_cannot_travel)
        records, _ = heard_of(task)
        run(task, (1,))
        ((_, record),) = records
        assert record.getMessage() == "it is <strange>"
        assert (record.added, record.more) == ("<strange>", 7)

    def test_it_names_its_call(self):
        task = logged(say)
        records, _ = heard_of(task)
        run(task, (1,), (2,))
        assert {(r.task, r.call) for _, r in records} == {("say", 0), ("say", 1)}

    def test_without_a_level_there_are_none(self):
        task = logged(say, level=None)
        records, lines = heard_of(task)
        run(task, (1,))
        assert not records
        assert len(lines) == 3

    def test_without_output_there_is_none(self, capfd):
        task = logged(say, output=False)
        records, lines = heard_of(task)
        run(task, (1,))
        assert len(records) == 1
        assert not lines
        assert "to stdout 1" in capfd.readouterr().out

    def test_a_worker_without_handlers_shows_warnings_as_before_and_nothing_else(self, capfd):
        task = logged(log_quietly_and_loudly, level=1, output=False)
        records, _ = heard_of(task)
        run(task, (1,))
        assert [r.getMessage() for _, r in records] == ["quiet", "loud"]
        assert capfd.readouterr().err == "loud\n"

    @pytest.mark.parametrize("engine", ["sequential", "threads"])
    def test_handlers_of_the_driver_hear_what_they_heard_before(self, engine):
        handler = logging.handlers.BufferingHandler(100)
        logging.root.addHandler(handler)
        try:
            with ExitStack() as stack:
                task = logged(log_quietly_and_loudly, ENGINES[engine](stack), level=1)
                records, _ = heard_of(task)
                run(task, (1,))
        finally:
            logging.root.removeHandler(handler)
        assert [r.getMessage() for _, r in records] == ["quiet", "loud"]
        assert [r.getMessage() for r in handler.buffer if r.name == "plain"] == ["loud"]


class TestForwarding:
    def test_the_drivers_logging_handles_records_and_lines(self, caplog):
        caplog.set_level(logging.INFO)
        run(logged(say, forward=True), (5,))
        forwarded = {(r.name, r.getMessage(), r.task, r.call) for r in caplog.records}
        assert ("mine", "a record of 5", "say", 0) in forwarded
        assert ("amltk.output", "to stdout 5", "say", 0) in forwarded

    def test_a_logger_of_the_driver_decides_what_it_handles(self, caplog):
        caplog.set_level(logging.INFO)
        logging.getLogger("mine").setLevel(logging.ERROR)
        try:
            run(logged(say, forward=True, output=False), (5,))
        finally:
            logging.getLogger("mine").setLevel(logging.NOTSET)
        assert not caplog.records

    @pytest.mark.parametrize("engine", ["sequential", "threads"])
    def test_what_is_logged_in_the_drivers_process_is_not_logged_twice(self, engine, caplog):
        caplog.set_level(logging.INFO)
        with ExitStack() as stack:
            run(logged(say, ENGINES[engine](stack), forward=True, output=False), (5,))
        assert [r.getMessage() for r in caplog.records] == ["a record of 5"]

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreters came with Python 3.14")
    def test_another_interpreter_of_the_process_has_logging_of_its_own(self, caplog):
        def say_there(x):  # sent as it is: what this module imports refuses another interpreter
            print("to stdout", x)
            logging.getLogger("mine").info("a record of %s", x)

        caplog.set_level(logging.INFO)
        with concurrent.futures.InterpreterPoolExecutor(1) as pool:
            task = logged(say_there, Scheduler(pool), forward=True)
            _, lines = heard_of(task)
            run(task, (5,))
        forwarded = {(r.name, r.getMessage()) for r in caplog.records}
        assert {("mine", "a record of 5"), ("amltk.output", "to stdout 5")} <= forwarded
        assert (0, "stdout", "to stdout 5") in lines


def print_slowly(x):
    for n in range(20):
        print(x, n)
        logging.info("%s %s", x, n)
        time.sleep(0.001)


class TestThreads:
    def test_a_call_that_ends_costs_no_record_of_another_one(self):
        heard = []

        class Ending(logging.Handler):
            def emit(self, record):
                _capture._root.remove(self, logging.INFO)

        class Hearing(logging.Handler):
            def emit(self, record):
                heard.append(record.getMessage())

        hearing = Hearing()
        _capture._root.add(Ending(), logging.INFO)
        _capture._root.add(hearing, logging.INFO)
        try:
            logging.info("said while another call ends")
        finally:
            _capture._root.remove(hearing, logging.INFO)

        assert heard == ["said while another call ends"]

    def test_each_call_has_what_its_own_thread_says(self, capsys):
        task = logged(print_slowly, Scheduler.with_threads(4))
        records, lines = heard_of(task)
        run(task, *[(x,) for x in range(8)])
        for number in range(8):
            expected = [f"{number} {n}" for n in range(20)]
            assert [line for i, _, line in lines if i == number] == expected
            assert [r.getMessage() for i, r in records if i == number] == expected
        assert capsys.readouterr().out == ""

    def test_what_others_print_meanwhile_goes_where_it_went(self, capsys):
        task = logged(print_slowly, Scheduler.with_threads(1))
        task.on_submitted(lambda: print("the driver's own"))
        run(task, (1,))
        assert capsys.readouterr().out == "the driver's own\n"

    def test_afterwards_everything_is_as_it_was(self):
        before = sys.stdout, sys.stderr, logging.root.level, list(logging.root.handlers)
        run(logged(print_slowly, Scheduler.with_threads(2), level=1), *[(x,) for x in range(4)])
        run(logged(print_slowly, Scheduler.with_sequential(), level=1), (1,))
        assert (sys.stdout, sys.stderr, logging.root.level, list(logging.root.handlers)) == before

    def test_the_stand_in_has_all_that_the_stream_has(self):
        routed = _Routed(sys.__stdout__)
        assert routed.fileno() == sys.__stdout__.fileno()
        assert routed.encoding == sys.__stdout__.encoding

    def test_a_callback_may_print_and_log_what_it_hears(self, capsys, caplog):
        caplog.set_level(logging.INFO)
        task = logged(say, Scheduler.with_sequential())
        task.on(WorkerLogs.OUTPUT, lambda future, name, line: print("heard:", line))
        task.on(WorkerLogs.LOG, lambda future, record: logging.info("heard: %s", record.msg))
        run(task, (1,))
        assert "heard: to stdout 1\n" in capsys.readouterr().out
        assert "heard: a record of 1" in [r.getMessage() for r in caplog.records]


def talk_both_ways(x, comm=None):
    with comm:
        print("printed", x)
        comm.send(x)
        return comm.request(x, timeout=20)


def test_it_goes_with_a_comm():
    task = Task(talk_both_ways, Scheduler.with_processes(1), plugins=[WorkerLogs(), Comm.Plugin()])
    _, lines = heard_of(task)
    task.on_request(lambda msg: msg.respond(-msg.data))
    heard = []
    task.on_message(lambda msg: heard.append(msg.data))
    (future,) = run(task, (3,))
    assert (future.result(), heard, lines) == (-3, [3], [(0, "stdout", "printed 3")])


class TestOptions:
    @pytest.mark.parametrize("level", ["LOUD", 1.5, True, []])
    def test_a_level_that_there_is_not_is_refused(self, level):
        with pytest.raises(InvalidOptionError, match="level="):
            WorkerLogs(level=level)

    def test_a_level_may_be_named(self):
        assert WorkerLogs(level="DEBUG").level == logging.DEBUG

    def test_printed_output_cannot_be_encrypted_and_it_says_so(self):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with pytest.raises(InvalidOptionError, match="TLS cannot encrypt"):
            WorkerLogs(tls=context, worker_tls=ssl.create_default_context)

    def test_a_copy_has_them_all(self):
        copied = WorkerLogs(level=None, output=False, forward=True, port=1234).copy()
        assert (copied.level, copied.output, copied.forward) == (None, False, True)
        assert copied.listening.port == 1234


def dawdle(n):
    for _ in range(n):
        logging.info("x" * 1000)


@pytest.mark.slow
def test_records_that_a_stuck_driver_does_not_take_are_dropped_and_counted():
    task = logged(dawdle, Scheduler.with_processes(1), output=False)
    records, _ = heard_of(task)
    task.on(WorkerLogs.LOG, lambda: time.sleep(3), limit=1)
    (future,) = run(task, (20_000,))
    assert future.exception() is None
    texts = [r.getMessage() for _, r in records]
    dropped = [int(text.split()[0]) for text in texts if "were dropped" in text]
    assert dropped
    assert len(texts) - len(dropped) + sum(dropped) == 20_000
