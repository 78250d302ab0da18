"""Limits of calls: each ends what it promises to end, in time, and nothing is left behind."""

import multiprocessing
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import support

pytest.importorskip("pynisher", reason="the extra pynisher is not installed")

from amltk import Scheduler, Task
from amltk.exceptions import (
    CallExitError,
    InvalidOptionError,
    MissingExtraError,
    RemoteTraceback,
    WorkerDiedError,
)
from amltk.plugins._pynisher import start as starting
from amltk.plugins._pynisher.sigterm import OwnSigterm
from amltk.plugins.pynisher import PynisherPlugin
from amltk.testing.contracts import PluginContract
from amltk.testing.contracts.plugin import ENGINES

METHODS = ("fork", "forkserver", "spawn")
MB = 2**20


@pytest.fixture(autouse=True)
def servers_are_ended():
    yield
    starting._servers.close()


def limited(function, **options):
    """Return the function as the plugin has it called in a worker."""
    return PynisherPlugin(**options).wrap(function)


def kill_worker_of(call, path):
    """Kill the process that makes a call, and wait until those that the call noted are gone."""
    worker = multiprocessing.get_context("spawn").Process(target=call, args=(path,))
    worker.start()
    pids = pids_in(path)
    worker.kill()
    worker.join()
    wait_until_gone(pids)


#: What would go on for ever has ended by then, however busy the machine is.
SOON_S = 30


def seconds_until_it_raises(kind, function, *args):
    started = time.monotonic()
    with pytest.raises(kind):
        function(*args)
    return time.monotonic() - started


# ------------------------------------------------------------------ what is called within limits


def burn():
    while True:
        pass


def burn_and_ignore():
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    burn()


def allocate(n_bytes):
    return len(bytearray(n_bytes))


def map_addresses(n_bytes):
    import mmap

    with mmap.mmap(-1, n_bytes) as mapped:
        return len(mapped)


def hold(n_bytes):
    """Have so much in memory for ever."""
    kept = b"x" * n_bytes
    while kept:
        time.sleep(60)


def let_children_hold(n_children, n_bytes, path):
    code = f"import time; kept = b'x' * {n_bytes}; time.sleep(600)"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(n_children)]
    support.write_atomically(path, " ".join(str(child.pid) for child in children))
    support.sleep_for_ever()


def start_all_kinds(path):
    """Start a child, one in a session of its own, and one whose parent is gone; note their ids."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    pids = [os.getpid()]
    pids += [subprocess.Popen(sleep, start_new_session=own).pid for own in (False, True)]
    launch = (
        f"import subprocess; quiet = subprocess.DEVNULL; "
        f"print(subprocess.Popen({sleep!r}, start_new_session=True, stdout=quiet).pid)"
    )
    orphan = subprocess.run([*sleep[:2], launch], stdout=subprocess.PIPE, check=True, text=True)
    pids.append(int(orphan.stdout))
    support.write_atomically(path, " ".join(map(str, pids)))


def start_all_kinds_and_go_on(path):
    start_all_kinds(path)
    support.sleep_for_ever()


def start_all_kinds_and_die(path):
    start_all_kinds(path)
    os.kill(os.getpid(), signal.SIGSEGV)


def note_and_hold_the_interpreter(path):
    """Run C code that never lets another thread of this process go on."""
    import ctypes

    support.write_atomically(path, str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def note_and_sleep(path):
    support.write_atomically(path, str(os.getpid()))
    support.sleep_for_ever()


def pids_in(path):
    return [int(pid) for pid in support.wait_for_file(path).split()]


def wait_until_gone(pids):
    for pid in pids:
        support.wait_until(lambda pid=pid: not support.is_alive(pid))


def pid_of_a_child():
    """Have multiprocessing start a child, which not every process may."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(os.getpid)


def call_in_worker(context, function):
    return limited(function, wall_time_limit=50, context=context)()


# ------------------------------------------------------------------------------------ the contract


class TestContract(PluginContract):
    def make(self):
        return PynisherPlugin(wall_time_limit=60, cpu_time_limit=60, memory_limit=(2, "gb"))

    def check_death(self, error):
        assert isinstance(error, WorkerDiedError)
        assert (error.exit_code, error.signal_name) == (7, None)


class TestContractOfResidentMemory(PluginContract):
    engine = "sequential"

    def make(self):
        return PynisherPlugin(memory_limit=(2, "gb"), memory_mode="rss", context="forkserver")


# --------------------------------------------------------------------------------- the call itself


@pytest.mark.parametrize("context", METHODS)
class TestEachStartMethod:
    def test_a_call_returns_what_it_returns(self, context):
        assert limited(support.add, context=context)(1, y=2) == 3

    def test_closures_and_lambdas_work_both_ways(self, context):
        offset = 3
        assert limited(lambda x: lambda: x + offset, context=context)(4)() == 7

    def test_large_arguments_and_results_arrive(self, context):
        large = os.urandom(3 * MB)
        assert limited(lambda x: x + x, context=context)(large) == large + large

    def test_a_second_of_wall_time_is_a_second(self, context):
        call = limited(support.sleep_for_ever, wall_time_limit=1, context=context)
        timeout = PynisherPlugin.WallTimeoutException
        assert 1 <= seconds_until_it_raises(timeout, call) < SOON_S

    def test_half_a_second_of_wall_time_is_possible(self, context):
        call = limited(support.sleep_for_ever, wall_time_limit=0.5, context=context)
        timeout = PynisherPlugin.WallTimeoutException
        assert 0.5 <= seconds_until_it_raises(timeout, call) < SOON_S

    def test_a_second_of_cpu_time_ends_the_call(self, context):
        call = limited(burn, cpu_time_limit=1, context=context)
        assert seconds_until_it_raises(PynisherPlugin.CpuTimeoutException, call) < 20

    def test_address_space_counts_from_what_the_process_has(self, context):
        assert limited(allocate, memory_limit=(300, "mb"), context=context)(200 * MB) == 200 * MB
        with pytest.raises(PynisherPlugin.MemoryLimitException, match="allocate asked for more"):
            limited(allocate, memory_limit=(300, "mb"), context=context)(400 * MB)

    def test_resident_memory_counts_from_what_the_process_has(self, context):
        options = {"memory_limit": (300, "mb"), "memory_mode": "rss", "context": context}
        assert limited(map_addresses, **options)(600 * MB) == 600 * MB
        with pytest.raises(PynisherPlugin.MemoryLimitException, match="hold and the processes"):
            limited(hold, **options)(400 * MB)

    def test_all_that_a_call_has_started_ends_with_its_time(self, context, tmp_path):
        path = tmp_path / "pids"

        def run(limit_s):
            call = limited(start_all_kinds_and_go_on, wall_time_limit=limit_s, context=context)
            with pytest.raises(PynisherPlugin.WallTimeoutException):
                call(path)

        support.with_room(run, path.exists, 2, 8, 32)
        pids = pids_in(path)
        assert [support.is_alive(pid) for pid in pids] == [False] * 4

    @pytest.mark.parametrize("function", [start_all_kinds, start_all_kinds_and_die])
    def test_all_that_a_call_leaves_behind_ends_with_it(self, context, function, tmp_path):
        outcome, _ = _outcome_of(limited(function, context=context), tmp_path / "pids")
        assert outcome is None or isinstance(outcome, WorkerDiedError)
        assert not any(map(support.is_alive, pids_in(tmp_path / "pids")))

    def test_exceptions_come_through_as_they_are(self, context):
        for raising in (support.raise_two_arguments, lambda: b"\xff".decode(), lambda: {}["three"]):
            here, there = _outcome_of(raising)[0], _outcome_of(limited(raising, context=context))[0]
            assert type(there) is type(here)
            assert there.args == here.args
            assert isinstance(there.__cause__, RemoteTraceback)
            assert raising.__name__ in str(there.__cause__)

    @pytest.mark.parametrize(
        ("raising", "kind"),
        [
            (support.raise_system_exit, CallExitError),
            (support.raise_keyboard_interrupt, KeyboardInterrupt),
        ],
    )
    def test_exits_come_through_too(self, context, raising, kind):
        with pytest.raises(kind):
            limited(raising, context=context)()

    def test_a_result_that_cannot_be_sent_is_said_to_be_one(self, context):
        outcome, _ = _outcome_of(limited(support.return_unpicklable, context=context))
        assert "return_unpicklable" in str(outcome)
        assert "could not be pickled" in str(outcome)

    @pytest.mark.parametrize(
        ("how", "exit_code", "name"),
        [
            ("exit 0", 0, None),
            ("exit 7", 7, None),
            ("segfault", -11, "SIGSEGV"),
            ("kill", -9, "SIGKILL"),
        ],
    )
    def test_a_process_that_dies_by_itself_is_no_limit(self, context, how, exit_code, name):
        limits = {"cpu_time_limit": 60, "wall_time_limit": 60}
        error, _ = _outcome_of(limited(support.die, context=context, **limits), how)
        assert isinstance(error, WorkerDiedError)
        assert (error.exit_code, error.signal_name) == (exit_code, name)
        assert error.pid not in (0, os.getpid())

    def test_the_handler_of_term_stays_what_it_was(self, context, own_handler_of_term):
        for handler in (own_handler_of_term, signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGTERM, handler)
            limited(support.double, context=context)(1)
            assert signal.getsignal(signal.SIGTERM) is handler

    def test_term_ends_the_call_if_the_program_wants_it_to(self, context, own_handler_of_term):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        call = limited(support.sleep_for_ever, context=context, wall_time_limit=20)
        assert seconds_until_it_raises(SystemExit, call) < 5

    def test_term_is_not_lost_while_pynishers_handler_is_there(
        self, context, own_handler_of_term, monkeypatch
    ):
        restore = OwnSigterm.restore

        def let_term_come_first(own):
            if signal.getsignal(signal.SIGTERM) is not own_handler_of_term:
                os.kill(os.getpid(), signal.SIGTERM)
            restore(own)

        monkeypatch.setattr(OwnSigterm, "restore", let_term_come_first)
        call = limited(support.sleep_for_ever, context=context, wall_time_limit=20)
        assert seconds_until_it_raises(SystemExit, call) < 5

    def test_the_function_sees_the_usual_handlers(self, context):
        def handlers():
            return [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGXCPU)]

        assert limited(handlers, context=context)() == [signal.SIG_DFL, signal.SIG_DFL]

    def test_it_may_have_children_of_its_own(self, context):
        assert limited(pid_of_a_child, context=context)() != os.getpid()

    def test_folder_arguments_and_environment_are_the_workers(self, context, tmp_path, monkeypatch):
        limited(support.double, context=context)(1)  # what is there from now on is no news to it
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("AMLTK_TEST", context)
        monkeypatch.setattr(sys, "argv", ["program", "--flag"])
        look = limited(
            lambda: (str(Path.cwd()), sys.argv, os.environ["AMLTK_TEST"]), context=context
        )
        assert look() == (str(tmp_path), ["program", "--flag"], context)

    def test_no_descriptor_is_left_open(self, context):
        call = limited(support.double, context=context, wall_time_limit=60)
        assert support.descriptors_kept(lambda: call(1), times=10) < 10

    def test_threads_call_at_the_same_time(self, context):
        if context == "fork":
            pytest.skip("a process with threads is not forked unless one asks for it")
        call = limited(lambda x: (time.sleep(0.2), x)[1], context=context)
        results = []
        threads = [threading.Thread(target=lambda x=x: results.append(call(x))) for x in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == list(range(8))

    def test_nothing_is_left_when_the_worker_is_killed(self, context, tmp_path):
        kill_worker_of(limited(start_all_kinds_and_go_on, context=context), tmp_path / "pids")

    def test_code_that_never_yields_is_killed_with_the_worker_too(self, context, tmp_path):
        kill_worker_of(limited(note_and_hold_the_interpreter, context=context), tmp_path / "pid")

    @pytest.mark.parametrize("pool", ["fork", "spawn"])
    def test_daemonic_workers_call_as_others_do(self, context, pool):
        with multiprocessing.get_context(pool).Pool(1) as workers:
            found = workers.apply(call_in_worker, (context, pid_of_a_child))
            workers.apply(call_limited_in_worker_and_check, (context,))
        assert isinstance(found, int)


def _outcome_of(function, *args):
    try:
        return function(*args), True
    except Exception as error:
        return error, False


@pytest.fixture
def own_handler_of_term():
    def handler(number, frame):
        raise SystemExit(5)

    before = signal.signal(signal.SIGTERM, handler)
    yield handler
    signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("context", "n"), [("fork", 200), ("forkserver", 200), ("spawn", 40)])
def test_hundreds_of_calls_leave_no_descriptor_open(context, n):
    call = limited(support.double, context=context, wall_time_limit=60, cpu_time_limit=60)
    call(0)
    others = set(psutil.Process().children())
    results = []
    assert support.descriptors_kept(lambda: results.append(call(21)), n) < 10
    assert results == [42] * (n + 1)
    support.wait_until(lambda: set(psutil.Process().children()) <= others)


@pytest.mark.slow
def test_cpu_time_is_a_limit_also_for_what_ignores_it():
    error, _ = _outcome_of(limited(burn_and_ignore, cpu_time_limit=1))
    assert isinstance(error, PynisherPlugin.CpuTimeoutException)


def test_resident_memory_counts_what_the_call_has_started(tmp_path):
    call = limited(let_children_hold, memory_limit=(300, "mb"), memory_mode="rss")
    with pytest.raises(PynisherPlugin.MemoryLimitException, match="processes that it has started"):
        call(4, 100 * MB, tmp_path / "pids")
    wait_until_gone(pids_in(tmp_path / "pids"))


def test_a_memory_error_without_a_limit_is_the_functions_own():
    error, _ = _outcome_of(limited(support.exhaust_memory))
    assert type(error) is MemoryError


def test_a_segfault_with_a_limit_of_address_space_is_presumed_to_be_that_limit():
    error, _ = _outcome_of(limited(support.die, memory_limit=(1, "gb")), "segfault")
    assert isinstance(error, PynisherPlugin.MemoryLimitException)
    assert "presume" in str(error)


def test_the_outcome_may_take_more_memory_than_the_call():
    assert len(limited(lambda: b"x" * (60 * MB), memory_limit=(100, "mb"))()) == 60 * MB


def test_a_keeper_that_is_killed_costs_the_call(tmp_path):
    call = limited(note_and_sleep, context="forkserver", wall_time_limit=30)
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(_outcome_of(call, tmp_path / "pid")[0])
    )
    thread.start()
    (pid,) = pids_in(tmp_path / "pid")
    psutil.Process(pid).parent().kill()
    thread.join(20)
    assert isinstance(outcomes[0], WorkerDiedError)
    assert outcomes[0].exit_code is None
    wait_until_gone([pid])


def test_a_server_that_is_gone_is_replaced():
    call = limited(support.double, context="forkserver")
    call(1)
    starting._servers._servers[()]._process.kill()
    starting._servers._servers[()]._process.wait()
    assert call(2) == 4


def test_the_server_imports_what_it_is_told_to_once():
    look = limited(lambda: "colorsys" in sys.modules, context="forkserver")
    preloaded = limited(
        lambda: "colorsys" in sys.modules, context="forkserver", preload=["colorsys", "not_there"]
    )
    assert (look(), preloaded()) == (False, True)


def test_the_time_of_a_call_does_not_begin_before_the_server_is_ready(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    results = []

    def run(slow_s):
        name = f"slow_to_import_{slow_s}"
        (tmp_path / f"{name}.py").write_text(f"import time; time.sleep({slow_s})")
        options = {"context": "forkserver", "preload": [name], "wall_time_limit": 0.9 * slow_s}
        results.append(_outcome_of(limited(support.double, **options), 1)[0])

    support.with_room(run, lambda: results[-1] == 2, 1, 4, 16)


@pytest.mark.parametrize("limit", [{"memory_limit": (8, "gb")}, {"cpu_time_limit": 600}])
def test_a_harder_limit_that_was_there_before_is_kept(limit):
    inner = limited(support.double, context="spawn", **limit)

    def with_hard_limits():
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
        return inner(1)

    assert limited(with_hard_limits)() == 2


def test_a_thread_never_has_its_process_forked_by_default():
    call = limited(os.getppid)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(starting.choose_method(call._limits)))
    thread.start()
    thread.join()
    assert seen == ["forkserver"]


# -------------------------------------------------------------------------------- under a scheduler


def run_limited(scheduler, function, *args, plugins=(), **options):
    """Run one call and return the names of the events, and what it raised."""
    task = Task(function, scheduler, plugins=[PynisherPlugin(**options), *plugins])
    seen, errors = [], []
    task.on_done(lambda _: seen.append("done"))
    task.on_exception(lambda error: (seen.append("exception"), errors.append(error)))
    for event in PynisherPlugin().events():
        task.on(event, lambda error, event=event: (seen.append(event.name), errors.append(error)))
    scheduler.on_start(lambda: task(*args))
    scheduler.run(timeout=50, end_on_exception=False)
    return seen, errors


@pytest.mark.parametrize(
    ("function", "args", "limit", "events"),
    [
        (
            support.sleep_for_ever,
            (),
            {"wall_time_limit": 0.3},
            ["timeout", "wall-time-limit-reached"],
        ),
        (burn, (), {"cpu_time_limit": 1}, ["timeout", "cpu-time-limit-reached"]),
        (allocate, (2**29,), {"memory_limit": (100, "mb")}, ["memory-limit-reached"]),
        (support.fail, (), {"wall_time_limit": 30}, []),
    ],
)
def test_each_limit_is_told_between_the_end_and_the_exception(function, args, limit, events):
    seen, errors = run_limited(Scheduler.with_processes(1), function, *args, **limit)
    assert seen == ["done", *[f"pynisher-{name}" for name in events], "exception"]
    assert all(error is errors[0] for error in errors)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("context", [None, *METHODS])
def test_every_engine_takes_every_start_method(name, context):
    if context == "fork" and name in ("threads", "dask", "ray") and sys.version_info >= (3, 12):
        pytest.skip("these workers have threads, and Python warns of it")
    with ExitStack() as stack:
        scheduler = ENGINES[name](stack)
        seen, errors = run_limited(
            scheduler,
            call_limited_in_worker_and_check,
            context,
            context=context,
            wall_time_limit=50,
        )
    assert (seen, errors) == (["done"], [])


def call_limited_in_worker_and_check(context):
    """A limited call within a limited call: the inner one is ended after a second."""
    call = limited(support.sleep_for_ever, wall_time_limit=1, context=context)
    timeout = PynisherPlugin.WallTimeoutException
    assert 1 <= seconds_until_it_raises(timeout, call) < SOON_S


def end_by_cancelling(scheduler, task):
    for future in task.futures():
        future.cancel()


def end_by_stopping(scheduler, task):
    scheduler.stop(wait=False)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        *((name, end_by_stopping) for name in ENGINES if name not in ("sequential", "threads")),
        *((name, end_by_cancelling) for name in ("processes", "dask", "ray")),
    ],
)
def test_a_call_that_is_ended_takes_its_process_with_it(name, end, tmp_path):
    with ExitStack() as stack:
        scheduler = ENGINES[name](stack)
        task = Task(
            start_all_kinds_and_go_on, scheduler, plugins=PynisherPlugin(wall_time_limit=600)
        )

        @scheduler.on_start
        def start():
            task(tmp_path / "pids")
            threading.Thread(target=end_it).start()

        def end_it():
            pids_in(tmp_path / "pids")
            scheduler.post(end, scheduler, task)

        scheduler.run(timeout=50, wait=False)
        wait_until_gone(pids_in(tmp_path / "pids"))


SCRIPT = """
import os, sys, time
from amltk import Scheduler, Task
from amltk.plugins.pynisher import PynisherPlugin

with open(sys.argv[2], "a") as note:
    print("run", file=note)

def work(x):
    return os.getpid(), x

seen = []
scheduler = getattr(Scheduler, sys.argv[1])()
for context in (None, "forkserver", "spawn"):
    task = Task(work, scheduler, plugins=PynisherPlugin(wall_time_limit=30, context=context))
    task.on_returned(seen.append)
    scheduler.on_start(lambda task=task: task(1))
scheduler.run(timeout=50)
assert [x for _, x in seen] == [1, 1, 1], seen
assert os.getpid() not in {pid for pid, _ in seen}
print("all is well")
"""


@pytest.mark.parametrize("maker", ["with_processes", "with_threads", "with_sequential"])
def test_a_script_without_a_guard_runs_once(maker, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    script = support.start_script(tmp_path / "script.py", maker, tmp_path / "note")
    output, _ = script.communicate(timeout=50)
    assert output == "all is well\n"
    assert (tmp_path / "note").read_text() == "run\n"


def test_compilers_that_warn_of_its_source_are_not_heard(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "empty"))
    monkeypatch.setenv("PYTHONWARNINGS", "error::SyntaxWarning")
    (tmp_path / "script.py").write_text(SCRIPT)
    script = support.start_script(tmp_path / "script.py", "with_processes", tmp_path / "note")
    output, _ = script.communicate(timeout=50)
    assert output == "all is well\n"


#: Threads that libraries start anew in each process that is forked, such as those of OpenBLAS.
RESTLESS = """
import os, threading, time

def start():
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

os.register_at_fork(after_in_child=start)
"""

STRICT = """
import warnings
from amltk.plugins.pynisher import PynisherPlugin

def warn():
    warnings.warn("of the call's own", DeprecationWarning)

def limited(function):
    plugin = PynisherPlugin(wall_time_limit=30, context="forkserver", preload=["restless"])
    return plugin.wrap(function)

print(limited(abs)(-3))
try:
    limited(warn)()
except DeprecationWarning as warning:
    print(warning)
"""


def test_where_warnings_are_errors_threads_of_libraries_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error::DeprecationWarning")
    (tmp_path / "restless.py").write_text(RESTLESS)
    (tmp_path / "script.py").write_text(STRICT)
    script = support.start_script(tmp_path / "script.py")
    output, _ = script.communicate(timeout=50)
    assert output == "3\nof the call's own\n"


def test_ctrl_c_ends_the_call_at_once_where_it_runs_in_the_driver(tmp_path):
    worker = support.start_script(_write(tmp_path / "script.py", CTRL_C), tmp_path / "pids")
    pids = pids_in(tmp_path / "pids")
    worker.send_signal(signal.SIGINT)
    started = time.monotonic()
    output, _ = worker.communicate(timeout=50)
    assert "KeyboardInterrupt" in output
    assert time.monotonic() - started < 5
    wait_until_gone(pids)


CTRL_C = """
import sys
import support
from amltk.plugins.pynisher import PynisherPlugin

PynisherPlugin(wall_time_limit=60).wrap(support.spawn_grandchild)(sys.argv[1])
"""


def _write(path, text):
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------- the options


@pytest.mark.parametrize(
    ("given", "meant"),
    [(1000, 1000), (1.5, 2), ((2, "gb"), 2 * 2**30), ((1.5, "KB"), 1536), ((3, "Mb"), 3 * MB)],
)
def test_memory_is_bytes_or_has_a_unit(given, meant):
    assert PynisherPlugin(memory_limit=given).memory_limit == meant


@pytest.mark.parametrize(("given", "meant"), [(0.5, 0.5), ((5, "m"), 300), ((1.5, "H"), 5400)])
def test_wall_time_is_seconds_or_has_a_unit(given, meant):
    assert PynisherPlugin(wall_time_limit=given).wall_time_limit == meant


@pytest.mark.parametrize(("given", "meant"), [(0.5, 1), (2, 2), ((0.021, "m"), 2)])
def test_cpu_time_is_rounded_up_to_whole_seconds(given, meant):
    assert PynisherPlugin(cpu_time_limit=given).cpu_time_limit == meant


@pytest.mark.parametrize("option", ["memory_limit", "wall_time_limit", "cpu_time_limit"])
@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        True,
        "3",
        float("nan"),
        float("inf"),
        (3,),
        (3, "x"),
        (3, 3),
        ("3", "s"),
        (0, "b"),
        (1, "s", 2),
    ],
)
def test_what_is_no_amount_is_refused(option, value):
    with pytest.raises(InvalidOptionError, match=f"{option}=.* is not possible; give a") as info:
        PynisherPlugin(**{option: value})
    assert (info.value.option, info.value.value) == (option, value)


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("memory_mode", "vms", "address_space, rss"),
        ("context", "loky", "fork, forkserver, spawn"),
        ("preload", "numpy", "names of modules"),
        ("preload", [3], "names of modules"),
        ("preload", None, "names of modules"),
    ],
)
def test_other_options_say_what_is_possible(option, value, hint):
    with pytest.raises(InvalidOptionError, match=f"{option}={re.escape(repr(value))}.*{hint}"):
        PynisherPlugin(**{option: value})


def test_a_limit_that_the_system_does_not_have_is_refused(monkeypatch):
    monkeypatch.setattr("pynisher.supports", lambda what: False)
    with pytest.raises(InvalidOptionError, match=r'memory_limit=5 .* give memory_mode="rss"'):
        PynisherPlugin(memory_limit=5)
    with pytest.raises(InvalidOptionError, match=r"cpu_time_limit=5 .* limit the wall time"):
        PynisherPlugin(cpu_time_limit=5)
    assert PynisherPlugin(memory_limit=5, memory_mode="rss").memory_limit == 5


def test_without_pynisher_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynisher", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pynisher[<>]=?\d'):
        PynisherPlugin(wall_time_limit=1)


def test_the_module_can_be_imported_and_looked_at_without_pynisher():
    code = (
        "import sys, inspect; sys.modules['pynisher'] = None; "
        "import amltk.plugins.pynisher as module; inspect.getmembers(module.PynisherPlugin)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_exceptions_are_those_of_pynisher():
    import pynisher

    assert issubclass(PynisherPlugin.MemoryLimitException, MemoryError)
    for name in ("Pynisher", "Timeout", "WallTimeout", "CpuTimeout", "MemoryLimit"):
        kind = getattr(PynisherPlugin, f"{name}Exception")
        assert kind is getattr(pynisher, f"{name}Exception")


@pytest.mark.parametrize(
    ("function", "args", "limit"),
    [
        (support.sleep_for_ever, (), {"wall_time_limit": 0.3}),
        (burn, (), {"cpu_time_limit": 1}),
        (allocate, (2**29,), {"memory_limit": (100, "mb")}),
        (support.die, ("segfault",), {"memory_limit": (100, "mb")}),
        (hold, (2**29,), {"memory_limit": (100, "mb"), "memory_mode": "rss"}),
    ],
)
def test_what_is_raised_travels_also_where_dask_has_changed_pickle(function, args, limit):
    install = pytest.importorskip("tblib.pickling_support").install
    for kind in (PynisherPlugin.MemoryLimitException, PynisherPlugin.WallTimeoutException):
        install(kind("as distributed does"))
    error, _ = _outcome_of(limited(function, **limit), *args)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(error, PynisherPlugin.PynisherException)
    assert (type(again), again.args) == (type(error), error.args)
