"""One driver of chaos: ``python -m stress.chaos.driver ENGINE SEED FOLDER`` prints what went wrong.

Everything comes from the seed: which calls of which kinds, on which plugins and batches, what is
cancelled when, and how each of several runs ends. What is promised holds whatever it is:

- each call that was accepted ends once: returned, raised or cancelled, in the order of its events;
- its outcome is its own; what nobody ended comes out as its kind says;
- what has ended ran once, and what was cancelled before it started never did;
- counts add up, and nothing is left: no call, thread, process, descriptor or folder.
"""

import faulthandler
import gc
import multiprocessing
import pickle
import random
import sys
import threading
import time
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from stress.chaos.kinds import KINDS, Counting, Explosive, run
from stress.chaos.ledger import Ledger

from amltk import CallLimiter, Comm, Scheduler, Task
from amltk.exceptions import AmltkWarning, WorkerDiedError

#: In which order the events of a call may come.
ORDERS = {
    ("submitted", "done", "returned"),
    ("submitted", "done", "raised"),
    ("submitted", "cancelled"),
}

fork, forkserver = (multiprocessing.get_context(m) for m in ("fork", "forkserver"))

ENGINES = {
    "sequential": Scheduler.with_sequential,
    "threads": lambda: Scheduler.with_threads(3),
    "processes": lambda: Scheduler.with_processes(3),
    "processes-fork": lambda: Scheduler.with_processes(3, fork),
    "processes-forkserver": lambda: Scheduler.with_processes(3, forkserver),
    "standard": lambda: Scheduler(lambda: ProcessPoolExecutor(3, fork)),
    "standard-forkserver": lambda: Scheduler(lambda: ProcessPoolExecutor(3, forkserver)),
    "loky": lambda: Scheduler.with_loky(3),
    "dask": lambda: Scheduler.with_dask(n_workers=2),
    "ray": lambda: Scheduler.with_ray(num_cpus=2),
}

#: Their calls run in this very process.
IN_PROCESS = ("sequential", "threads")


class Chaos:
    """One scheduler, and what is known of its calls."""

    def __init__(self, engine, seed, folder):
        self.engine = engine
        self.random = random.Random(f"{engine}-{seed}")
        self.folder = folder
        self.scheduler = ENGINES[engine]()
        #: When a worker dies, the pool breaks: all others are ended, and their calls begin again.
        self.breaks = engine.startswith(("standard", "loky"))
        #: Who gives a call to a worker does not learn whether it has begun when that one dies.
        self.gives_ahead = engine in ("dask", "ray")
        self.wrong = []
        self.number = 0
        #: Of each future: its number, its kind, and the events that it had.
        self.calls = {}
        self.events = defaultdict(list)
        self.outcomes = {}
        #: Calls whose end was asked for, by a cancellation or a run that did not wait.
        self.asked = set()
        self.left = 0
        self.batches = []
        kinds = {n: k for n, k in KINDS.items() if engine not in IN_PROCESS or k.threads}
        self.kinds, self.weights = list(kinds), [kind.weight for kind in kinds.values()]
        self.tasks = self.make_tasks()
        self.scheduler.on_start(self.begin)

    def make_tasks(self):
        plain = Task(run, self.scheduler, name="plain")
        limited = Task(run, self.scheduler, name="limited", plugins=CallLimiter(max_concurrent=4))
        tasks = [plain, limited]
        if self.engine not in IN_PROCESS:
            tasks.append(Task(run_with_comm, self.scheduler, name="comm", plugins=Comm.Plugin()))
        for task in tasks:
            self.listen(task)
        return tasks

    def listen(self, task):
        task.on_f_submitted(self.submitted)
        task.on_done(lambda future: self.events[future].append("done"))
        task.on_f_returned(self.returned)
        task.on_f_exception(self.raised)
        task.on_f_cancelled(lambda future: self.events[future].append("cancelled"))
        task.on_done(self.go_on)
        task.on_cancelled(self.go_on)

    # ------------------------------------------------------------------------- callbacks

    def begin(self):
        for _ in range(self.random.randint(3, 9)):
            self.submit()
        if self.random.random() < 0.4:
            self.submit_batch()
        if self.random.random() < 0.3:
            self.scheduler.call_later(self.random.random() / 4, self.disturb)

    def submitted(self, future, *_args, **_kwargs):
        self.events[future].append("submitted")

    def returned(self, future, result):
        self.events[future].append("returned")
        self.outcomes[future] = result

    def raised(self, future, error):
        self.events[future].append("raised")
        self.outcomes[future] = error

    def go_on(self, *_):
        dice = self.random.random()
        if self.left > 0:
            self.left -= 1
            self.submit()
        if dice < 0.1:
            self.disturb()
        elif dice < 0.15:
            time.sleep(0.03)
        elif dice < 0.18 and self.stops:
            self.scheduler.stop()

    def disturb(self):
        live = [f for f in self.calls if not f.done()]
        if live:
            future = self.random.choice(live)
            self.asked.add(future)
            future.cancel()

    def submit(self):
        kind = self.random.choices(self.kinds, self.weights)[0]
        self.number += 1
        task = self.random.choice(self.tasks)
        dice = self.random.random()
        if dice < 0.06:
            self.submit_stateful()
            self.number += 1
        argument = bytes(self.random.choice((0, 0, 0, 0, 200_000, 2_000_000)))
        if dice < 0.09 and self.engine not in IN_PROCESS:
            kind, argument = "unreadable argument", Explosive()
        elif dice < 0.12 and self.engine not in IN_PROCESS:
            kind, argument = "unpicklable argument", threading.Lock()
        name = kind if kind in KINDS else "quick"
        future = task(self.folder, name, self.number, argument)
        if future is not None:
            self.calls[future] = (self.number, kind)

    def submit_stateful(self):
        future = self.scheduler.submit(self.counting.count, self.number)
        if future is not None:
            self.stateful.append((future, self.number))

    def submit_batch(self):
        arguments = []
        for _ in range(self.random.randint(1, 6)):
            self.number += 1
            arguments.append((self.folder, "quick", self.number))
        batch = self.tasks[0].batch(arguments)
        told = []
        batch.on_batch_done(lambda *_: told.append("done"))
        batch.on_batch_failed(lambda: told.append("failed"))
        batch.on_batch_cancelled(lambda: told.append("cancelled"))
        self.batches.append((batch, told))
        batch.submit()
        if self.random.random() < 0.2:
            batch.cancel()

    # ------------------------------------------------------------------------------ runs

    def run_once(self):
        self.left = self.random.randint(5, 25)
        self.stops = self.random.random() < 0.3
        self.counting, self.stateful = Counting(), []
        wait = self.random.random() < 0.5
        timeout = self.random.choice((None, None, 0.3, 1.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AmltkWarning)
            code = self.scheduler.run(
                timeout=timeout or 60, wait=wait, end_on_exception=False, raises=False
            )
        if not isinstance(code, Scheduler.ExitCode):
            self.wrong.append(f"the run ended with {code!r}")
        if code is Scheduler.ExitCode.TIMEOUT and timeout is None:
            self.wrong.append("the run did not end by itself within 60 s")
        # Whoever was running then was ended, and whoever waited was cancelled.
        self.ended_early = code is not Scheduler.ExitCode.EXHAUSTED
        self.check(code)

    def check(self, code):
        ledger = Ledger.of(self.folder)
        for future, (number, kind) in self.calls.items():
            self.check_call(ledger, future, number, kind)
        for future, number in self.stateful:
            if not future.done():
                self.wrong.append(f"the future of call {number} (stateful) is not done")
            elif self.engine in IN_PROCESS or future.cancelled() or future.exception(0):
                continue
            elif future.result(0) != (number, 1):
                self.wrong.append(f"call {number} saw the state of another: {future.result(0)}")
        for _batch, told in self.batches:
            if len(told) != 1:
                self.wrong.append(f"a batch was told of its end {told}")
        for task in self.tasks:
            if task.n_running or task.futures():
                self.wrong.append(f"{task.name} still has {task.n_running} calls")
        if code is Scheduler.ExitCode.EXHAUSTED and self.left > 0:
            self.wrong.append(f"the run ended with {self.left} calls to be submitted")
        # The tracebacks of their exceptions have all that their runs had.
        self.stateful.clear()
        self.calls.clear()
        self.batches.clear()
        self.events.clear()
        self.outcomes.clear()
        self.asked.clear()

    def check_call(self, ledger, future, number, kind):
        events = tuple(self.events[future])
        what = f"call {number} ({kind})"
        if events not in ORDERS:
            self.wrong.append(f"{what} had the events {events}")
            return
        if not future.done() or future.cancelled() != (events[-1] == "cancelled"):
            self.wrong.append(f"{what} is told as {events[-1]}, its future is {future}")
            return
        n_begun, n_ended = ledger.begun[number], ledger.ended[number]
        if n_ended > 1 and not (self.breaks and ledger.was_cut_short(number)):
            lines = ledger.lines_of(number)
            self.wrong.append(f"{what} ran to its end {n_ended} times and {events[-1]}: {lines}")
        if events[-1] == "cancelled":
            if future not in self.asked and not self.ended_early:
                self.wrong.append(f"{what} was cancelled by nobody")
            return
        if n_begun == 0 and self.gives_ahead and isinstance(self.outcomes[future], WorkerDiedError):
            return  # it was given to a worker that died before it could begin it
        if n_begun != 1 and kind in KINDS and not self.breaks:
            self.wrong.append(f"{what} {events[-1]} and began {n_begun} times")
        self.check_outcome(future, number, kind, events[-1], what)

    def check_outcome(self, future, number, kind, event, what):
        outcome = self.outcomes[future]
        expected = OTHERS.get(kind) or KINDS[kind].outcome
        if expected == "returned":
            right = event == "returned" and outcome == KINDS[kind].result(number)
        elif expected == "died":
            right = isinstance(outcome, WorkerDiedError)
        else:
            right = type(outcome).__name__ == expected
        if self.breaks and isinstance(outcome, WorkerDiedError):
            # Its worker was killed in the moment between its end and the note of what became of it.
            right = right or "had finished" in str(outcome)
        if not right:
            told = short(outcome)
            self.wrong.append(f"{what} {event}: {told}")


#: What becomes of calls whose arguments are strange.
OTHERS = {"unreadable argument": "CallUnpicklingError", "unpicklable argument": "CallPicklingError"}


def run_with_comm(folder, kind, number, argument=None, comm=None):
    """Do what a kind does, and say so."""
    comm.send(number)
    return run(folder, kind, number, argument)


def short(value):
    try:
        return f"{type(value).__name__}: {value!r:.200}"
    except BaseException:
        return type(value).__name__


def descriptors():
    """Return what is open here; empty where the system does not tell."""
    found = {}
    for path in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found[path.name] = str(path.readlink())
    return found


def what_is_left(open_before, threads_before, spare):
    """Return descriptions of threads, and of descriptors but for a few, that there were not before."""
    gc.collect()
    threads, now = set(threading.enumerate()) - threads_before, descriptors()
    left = [f"thread {thread.name} is left" for thread in threads]
    if len(now) > len(open_before) + spare:
        new = {number: what for number, what in now.items() if open_before.get(number) != what}
        left.append(f"there are {len(now)} descriptors, of {len(open_before)} before: {new}")
    return left


def main(engine, seed, folder):
    faulthandler.dump_traceback_later(150, exit=True)
    chaos = Chaos(engine, seed, folder)
    chaos.run_once()
    before = descriptors(), set(threading.enumerate())
    for _ in range(2):
        chaos.run_once()
    deadline = time.monotonic() + 10
    spare = 12 if engine == "ray" else 3  # Ray keeps sockets and logs of a session that has ended
    while (left := what_is_left(*before, spare)) and time.monotonic() < deadline:
        time.sleep(0.05)  # pools that were shut down without waiting are still about to end
    chaos.wrong += left
    Path(folder, "verdict").write_bytes(pickle.dumps((chaos.number, chaos.wrong)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
