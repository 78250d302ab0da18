"""Functions that tests hand to workers, and ways to wait."""

import ctypes
import functools
import gc
import importlib.util
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Python 3.15 has a module more than it says: what a distribution tells of those that it left out.
STANDARD = sys.stdlib_module_names | {"_missing_stdlib_info"}


def double(x):
    return 2 * x


def add(x, y=1):
    return x + y


def fail(message="no"):
    raise ValueError(message)


def pid():
    return os.getpid()


def sleep_for_ever():
    while True:
        time.sleep(60)


def note_and_return(folder, x):
    """Leave a file for each time this runs, so that a test sees what ran twice."""
    (Path(folder) / f"{x}-{time.time_ns()}").touch()
    return x


def die(how):
    """End the worker in one of the ways in which workers end."""
    if how == "exit 0":
        os._exit(0)
    elif how == "exit 7":
        os._exit(7)
    elif how == "out of memory":
        overrun_memory()
    elif how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def heartbeat(path):
    """Write the time again and again."""
    while True:
        Path(path).write_text(str(time.time()))
        time.sleep(0.02)


def ignore_term_and_beat(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    heartbeat(path)


def exhaust_memory():
    """Ask for more memory than this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20, hard))
    try:
        return len(bytearray(2**31))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def overrun_memory():
    """Use memory that was refused without looking, as native code does that ends like this."""
    resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20, 512 * 2**20))
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    ctypes.memset(library.malloc(ctypes.c_size_t(2**31)), 0, 2**20)


def spawn_grandchild(path):
    """Start a child that outlives this call, note its id and go on for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write_atomically(path, str(child.pid))
    sleep_for_ever()


def write_atomically(path, text):
    temporary = Path(f"{path}.part")
    temporary.write_text(text)
    temporary.rename(path)


class TwoArgumentsError(Exception):
    """An exception that pickle cannot make again."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class UnreadableError(Exception):
    """An exception that pickles and cannot be made again, whatever helps exceptions to travel."""

    def __reduce__(self):
        return _refuse, ()


class Unreadable:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise pickle.UnpicklingError("cannot be read")


def return_unreadable():
    return Unreadable()


def return_unpicklable():
    return (i for i in range(3))


def wrapped(function):
    """Return a function around another one that says it is that one."""

    @functools.wraps(function)
    def around(*args):
        return function(*args)

    return around


def raise_two_arguments():
    raise TwoArgumentsError(1, 2)


def raise_unreadable():
    raise UnreadableError(1, 2)


def raise_system_exit():
    raise SystemExit(3)


def raise_keyboard_interrupt():
    raise KeyboardInterrupt


def standard_pool(n_workers=2, method="forkserver", **options):
    """Return a pool of the standard library; its own start method is not that of each Python."""
    import multiprocessing  # workers of others import this module too
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(n_workers, multiprocessing.get_context(method), **options)


def wait_until(condition, timeout_s=20.0):
    """Wait until a condition holds; the test fails if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true in {timeout_s} s"
        time.sleep(0.01)


class WatchedLock:
    """A re-entrant lock that notes that somebody has to wait for it."""

    def __init__(self):
        self._lock = threading.RLock()
        self.is_waited_for = threading.Event()

    def __enter__(self):
        if not self._lock.acquire(blocking=False):
            self.is_waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_error):
        self._lock.release()

    def wait_for(self, thread):
        """Wait until a thread waits for the lock, or is through without; both are noted alike."""
        wait_until(lambda: self.is_waited_for.is_set() or not thread.is_alive())
        self.is_waited_for.set()


def wait_for_file(path, timeout_s=20.0):
    wait_until(lambda: Path(path).exists(), timeout_s)
    return Path(path).read_text()


class EndOfAllError(BaseException):
    pass


def check_that_no_callback_ends_the_engine(executor, path):
    """Have callbacks of a future raise what ends a thread, where the executor completes it."""

    def end(error, _):
        raise error

    told = []
    future = executor.submit(wait_for_file, path)
    for error in (SystemExit, KeyboardInterrupt, EndOfAllError):
        future.add_done_callback(partial(end, error))
    future.add_done_callback(told.append)
    Path(path).touch()
    wait_until(lambda: told == [future])
    assert executor.submit(double, 2).result(20) == 4


def with_room(run, has_got_there, *limits_s):
    """Run calls with a limit of time that leaves them the room to get where it shall meet them.

    Their time has their start in it, which takes longer beside other work; so limits are tried out,
    each longer than the one before it. Returns what ``run`` returned.
    """
    for limit_s in limits_s:
        outcome = run(limit_s)
        if has_got_there():
            return outcome
    raise AssertionError(f"the calls did not get there in {limits_s[-1]} s")


def descriptors_kept(action, times):
    """Return how many more files are open when something was done so often than after the first time.

    What leaks keeps one each time, at least. What the interpreter or a library opens when it first
    needs it is no leak, and neither is what is garbage of another test.
    """
    import psutil

    action()
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(times):
        action()
    gc.collect()
    return psutil.Process().num_fds() - before


def is_alive(pid):
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_script(code, *args):
    """Run a script in a fresh interpreter, as a user would."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
    }
    with heeded_ctrl_c():
        return subprocess.Popen(
            [sys.executable, *map(str, [code, *args])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def heeded_ctrl_c():
    """Have Ctrl-C heeded here and by programs started here, as those of a terminal do.

    Tests that were started in the background ignore it, and programs inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def call_while_another_runs(plugin):
    """Call a function that a plugin wrapped, while another such call runs in another thread."""
    first, second = threading.Event(), threading.Event()
    slow = plugin.wrap(lambda: (first.set(), second.wait(20)))
    thread = threading.Thread(target=slow)
    thread.start()
    first.wait(20)
    try:
        return plugin.wrap(double)(1)
    finally:
        second.set()
        thread.join()


_mark = None


def set_mark(value):
    global _mark  # noqa: PLW0603 - what an initializer does
    _mark = value


def get_mark():
    return _mark


#: Where Dask's dashboard may be; where it may not be anywhere, Dask takes the port 8787 all the same.
ANY_PORT = "127.0.0.1:0"


def free_port():
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_installed(package):
    """Tell whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None
