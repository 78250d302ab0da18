"""The life of calls and runs, in any order that a user, an executor and the time can think of.

A model of the contract, a few lines for each thing that can happen, is followed by a real
scheduler whose loop is stepped by hand. Events are compared after every step.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import support
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amltk import Scheduler, Task, TaskPlugin
from amltk._future import LightFuture
from amltk.exceptions import WorkerDiedError
from amltk.executors.traits import Traits
from amltk.testing import ManualExecutor, VirtualClock
from amltk.testing.clock import _VirtualLoop
from amltk.testing.executors import ManualCall

ExitCode = Scheduler.ExitCode

RUN_EVENTS = ["STARTED", "EMPTY", "TIMEOUT", "STOP", "FINISHING", "FINISHED"]
FUTURE_EVENTS = ["FUTURE_SUBMITTED", "FUTURE_DONE", "FUTURE_CANCELLED"]
TASK_EVENTS = [
    "F_SUBMITTED", "SUBMITTED", "DONE", "F_RETURNED", "RETURNED", "F_EXCEPTION", "EXCEPTION",
    "F_CANCELLED",
]  # fmt: skip

SUBMITTED = ["FUTURE_SUBMITTED", "F_SUBMITTED", "SUBMITTED"]
ENDED = {
    None: [],
    "returned": ["FUTURE_DONE", "DONE", "F_RETURNED", "RETURNED"],
    "raised": ["FUTURE_DONE", "DONE", "F_EXCEPTION", "EXCEPTION"],
    "cancelled": ["FUTURE_CANCELLED", "F_CANCELLED"],
}
TOLD_BY = {
    "stopped": "STOP",
    "timeout": "TIMEOUT",
    "raised": "STOP",
}


class EndableFuture(LightFuture):
    """The future of a call whose worker ends some time after it was asked to."""

    def cancel_pending(self):
        return super().cancel()

    def cancel(self):
        return super().cancel() or not self.done()


class EndingExecutor(ManualExecutor):
    """Can end running calls; the test says when their workers are gone."""

    traits = Traits(pickles=False, ends_running_calls=True)

    def submit(self, fn, /, *args, **kwargs):
        future = EndableFuture()
        self.calls.append(ManualCall(fn, args, kwargs, future))
        return future


class NumberedError(Exception):
    """What a call raises; it knows its call."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class RetriedError(NumberedError):
    """What a call raises that is tried again."""


#: How long a call rests between two attempts.
REST_S = 0.5


class Again(TaskPlugin):
    """Has calls tried again as often as they raise what asks for it."""

    def __init__(self, note):
        self.note = note

    def retry(self, future, error):
        if not isinstance(error, RetriedError):
            return None
        self.note("RETRIED", future)
        return REST_S


@dataclass
class Call:
    """What the model knows of a call."""

    number: int
    future: Any
    #: Its last attempt.
    manual: ManualCall
    of_task: bool
    #: When its next attempt starts, while it rests.
    due: float | None = None
    n_attempts: int = 1
    n_retries: int = 0
    #: Its worker was asked to end, by the user or because the run ends.
    asked: bool = False
    #: The run asked for its end.
    ending: bool = False
    outcome: str | None = None
    #: The run had ended before it did.
    is_late: bool = False

    def expected_events(self):
        told = SUBMITTED + ["RETRIED"] * self.n_retries
        if not self.is_late:
            told += ENDED[self.outcome]
        return told if self.of_task else [name for name in told if name in FUTURE_EVENTS]


@dataclass
class RunModel:
    """What the model knows of a run."""

    coroutine: asyncio.Future[Any]
    end_on_empty: bool
    wait: bool
    end_on_exception: Any
    deadline: float | None
    calls: list[Call] = field(default_factory=list)
    #: Why it ends, and what it returns then.
    reason: str | None = None
    result: Any = None

    def end(self, reason, result):
        if self.reason is None:
            self.reason, self.result = reason, result


class LifeOfCalls(RuleBasedStateMachine):
    """Drives a scheduler and its model side by side."""

    @initialize(kind=st.sampled_from(["waits", "ends", "leaves"]))
    def begin(self, kind):
        self.kind = kind
        self.clock = VirtualClock()
        self.loop = _VirtualLoop(self.clock)
        self.executor = EndingExecutor() if kind == "ends" else ManualExecutor()
        self.scheduler = Scheduler(self.executor, terminate=kind != "leaves")
        self.task = Task(support.double, self.scheduler, plugins=Again(self.note))
        self.run = None
        self.calls = []
        self.log = []
        self.n_initial = self.n_follow_ups = 0
        for name in RUN_EVENTS:
            self.scheduler.on(getattr(Scheduler, name), partial(self.note_run, name))
        for name in FUTURE_EVENTS:
            self.scheduler.on(getattr(Scheduler, name), partial(self.note, name))
        for name in TASK_EVENTS:
            self.task.on(getattr(Task, name), partial(self.note, name))

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        self.n_follow_ups = 0
        if self.run is not None:
            self.scheduler.stop()
            self.run.end("stopped", ExitCode.STOPPED)
            self.settle()
            for call in self.live():
                self.let_end(call, "cancelled" if call.asked else "returned")
        assert self.run is None  # with nothing left to wait for, a run ends
        self.events_are_in_order()
        self.loop.close()

    # --------------------------------------------------------------------- what is listened to

    def note_run(self, name):
        self.log.append((name, None))
        if name == "STARTED":
            for _ in range(self.n_initial):
                self.accept(of_task=True)
        elif name == "EMPTY":
            self.follow_up()

    def note(self, name, first, *_):
        self.log.append((name, first.number))
        if name == "F_RETURNED":
            self.follow_up()

    def follow_up(self):
        if self.n_follow_ups:
            self.n_follow_ups -= 1
            self.accept(of_task=True)

    def accept(self, *, of_task):
        length = len(self.log)
        submit = self.task if of_task else partial(self.scheduler.submit, support.double)
        future = submit(len(self.calls))  # which tells its attempts from those of others
        assert len(self.log) == length  # no callback runs inside of it
        if self.run is not None and self.run.reason is not None:
            assert future is None
            return
        call = Call(future.number, future, self.executor.calls[-1], of_task)
        self.new_calls.append(call)
        self.calls.append(call)

    # ------------------------------------------------------------------------- what is modelled

    def live(self):
        return [] if self.run is None else [c for c in self.run.calls if c.outcome is None]

    def pick(self, place, *, started=None, asked=False):
        """Choose one of the calls that have not ended, those of an earlier run included."""
        able = [
            call
            for call in self.calls
            if call.outcome is None
            and call.due is None
            and call.asked is asked
            and started in {None, call.manual.future.running()}
        ]
        return able[place % len(able)] if able else None

    def pick_resting(self, place):
        able = [call for call in self.live() if call.due is not None]
        return able[place % len(able)] if able else None

    def wake_up(self):
        """See that the calls whose time has come have another attempt, and no others."""
        run = self.run
        for place, call in enumerate(self.calls):
            attempts = [manual for manual in self.executor.calls if manual.args == (place,)]
            open_until = self.loop.time()
            if run is not None and run.deadline is not None:
                open_until = min(open_until, run.deadline)
            if call.due is not None and run.reason is None and call.due <= open_until:
                call.due, call.manual = None, attempts[-1]
                call.n_attempts += 1
            assert len(attempts) == call.n_attempts

    def settle(self):
        """Let the loop do all that it can do without time passing, and the model as well."""
        self.loop.run_until_complete(asyncio.sleep(0.001))
        self.wake_up()
        run = self.run
        if run is None:
            return
        if run.end_on_empty and not self.live():
            run.end("exhausted", ExitCode.EXHAUSTED)
        if run.reason is None:
            return
        for call in self.live():
            if call.due is not None or not call.manual.future.running():
                call.outcome, call.due = "raised" if call.n_retries else "cancelled", None
            elif not run.wait and self.kind == "ends":
                call.asked = call.ending = True
        if not self.live() or (self.kind == "leaves" and not run.wait):
            assert self.loop.run_until_complete(run.coroutine) is run.result
            self.check_run_events(run)
            for call in self.live():
                call.is_late = True
            self.run = None

    def let_end(self, call, how):
        """Let a call end in a worker, and tell the model what has to become of it."""
        inner = call.manual.future
        if not inner.running():
            call.manual.start()
        call.outcome = "raised" if how in {"raised", "died", "retried"} else how
        if how == "returned":
            call.manual.succeed(call)  # has a number, as futures have
        elif how == "raised":
            self.fail(call, NumberedError(call.number))
        elif how == "retried":
            self.fail(call, RetriedError(call.number))
        elif how == "died":
            if call.ending:
                call.outcome = "cancelled"
            self.fail(call, WorkerDiedError("gone", number=call.number))
        else:
            inner._set_cancelled()
        self.settle()

    def fail(self, call, error):
        run = self.run
        goes_on = run is not None and call in run.calls and run.reason is None
        if isinstance(error, RetriedError) and goes_on and call.of_task:
            call.outcome, call.due = None, self.loop.time() + REST_S
            call.n_retries += 1
        elif run is not None and call in run.calls and not call.ending:
            ends = run.end_on_exception
            if ends is True or (ends is not False and isinstance(error, ends)):
                run.end("raised", error)
        call.manual.fail(error)

    # --------------------------------------------------------------------------- what can happen

    @precondition(lambda self: self.run is None)
    @rule(
        n_initial=st.integers(0, 5),
        n_follow_ups=st.integers(0, 2),
        timeout=st.sampled_from([None, 10]),
        options=st.fixed_dictionaries(
            {
                "end_on_empty": st.booleans(),
                "wait": st.booleans(),
                "end_on_exception": st.sampled_from(
                    [True, False, KeyError, (OSError, NumberedError)]
                ),
            }
        ),
    )
    def start_run(self, n_initial, n_follow_ups, timeout, options):
        self.n_initial, self.n_follow_ups = n_initial, n_follow_ups
        options["wait"] |= self.kind == "waits"
        self.log.clear()
        self.new_calls = []
        run = self.scheduler.async_run(timeout=timeout, raises=False, **options)
        self.run = RunModel(
            coroutine=self.loop.create_task(run),
            deadline=None if timeout is None else self.loop.time() + timeout,
            calls=self.new_calls,
            **options,
        )
        self.settle()

    @precondition(lambda self: self.run is not None)
    @rule(of_task=st.lists(st.booleans(), min_size=1, max_size=3))
    def submit(self, of_task):
        for one in of_task:
            self.accept(of_task=one)
        self.settle()

    @precondition(lambda self: self.pick(0, started=False))
    @rule(places=st.lists(st.integers(0, 9), min_size=1, max_size=3))
    def start(self, places):
        for place in places:
            call = self.pick(place, started=False)
            if call is not None:
                assert call.manual.start()

    @precondition(lambda self: self.pick(0))
    @rule(place=st.integers(0, 9), how=st.sampled_from(["returned", "raised", "died", "retried"]))
    def end(self, place, how):
        self.let_end(self.pick(place), how)

    @precondition(lambda self: self.pick(0, asked=True))
    @rule(place=st.integers(0, 9), how=st.sampled_from(["returned", "died", "cancelled"]))
    def end_one_that_was_asked_to(self, place, how):
        call = self.pick(place, asked=True)
        self.let_end(call, how if call.ending else "cancelled")

    @precondition(lambda self: self.pick(0, started=False))
    @rule(place=st.integers(0, 9))
    def cancel_pending(self, place):
        call = self.pick(place, started=False)
        assert call.future.cancel()
        assert call.future.cancelled()
        assert not call.manual.start()
        call.outcome = "cancelled"
        self.settle()

    @precondition(lambda self: self.pick(0, started=True))
    @rule(place=st.integers(0, 9))
    def cancel_running(self, place):
        call = self.pick(place, started=True)
        assert call.future.cancel() is (self.kind == "ends")
        assert not call.future.done()  # not before its worker is gone
        call.asked = self.kind == "ends"
        self.settle()

    @precondition(lambda self: self.pick_resting(0))
    @rule(place=st.integers(0, 9))
    def cancel_resting(self, place):
        call = self.pick_resting(place)
        assert call.future.cancel()
        assert call.future.cancelled()
        call.outcome, call.due = "cancelled", None
        self.settle()

    @rule(seconds=st.sampled_from([1, 5, 9]))
    def pass_time(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.wake_up()
        run = self.run
        if run is not None and run.deadline is not None and self.loop.time() >= run.deadline:
            run.end("timeout", ExitCode.TIMEOUT)
        self.settle()

    @precondition(lambda self: self.run is not None and self.run.reason is None)
    @rule(how=st.sampled_from(["stop", "stop and submit", "cancel"]))
    def end_run(self, how):
        if how == "cancel":
            self.run.coroutine.cancel()
            self.run.end("cancelled", ExitCode.CANCELLED)
        else:
            self.scheduler.stop()
            self.run.end("stopped", ExitCode.STOPPED)
        if how == "stop and submit":
            self.accept(of_task=True)
        self.settle()

    # ----------------------------------------------------------------------- what always holds

    def check_run_events(self, run):
        told = [name for name, number in self.log if number is None and name != "EMPTY"]
        reason = [TOLD_BY[run.reason]] if run.reason in TOLD_BY else []
        assert told == ["STARTED", *reason, "FINISHING", "FINISHED"]
        assert self.log[0] == ("STARTED", None)
        finishing = self.log.index(("FINISHING", None))
        assert "EMPTY" not in [name for name, _ in self.log[finishing:]]

    @invariant()
    def events_are_in_order(self):
        for call in getattr(self, "new_calls", ()):
            told = [name for name, number in self.log if number == call.number]
            assert told == call.expected_events()

    @invariant()
    def futures_say_what_became_of_their_calls(self):
        for call in self.calls:
            future = call.future
            assert future.done() is (call.outcome is not None)
            assert future.cancelled() is (call.outcome == "cancelled")
            if call.outcome is not None:
                assert future.cancel() is future.cancelled()  # too late: nothing changes
            if call.outcome == "returned":
                assert future.result() is call
            elif call.outcome == "raised":
                assert future.exception().number == call.number

    @invariant()
    def numbers_increase_by_one(self):
        numbers = [call.number for call in getattr(self, "new_calls", ())]
        assert numbers == list(range(len(numbers)))

    @invariant()
    def counts_add_up(self):
        of_task = [call for call in self.calls if call.of_task]
        live = [call.future for call in of_task if call.outcome is None]
        late = [call for call in of_task if call.is_late and call.outcome is not None]
        counts = self.task.event_counts
        assert self.task.futures() == live
        assert self.task.n_running == len(live)
        assert self.task.n_called == len(of_task)
        ended = counts[Task.DONE] + counts[Task.F_CANCELLED] + len(late)
        assert self.task.n_called == ended + self.task.n_running
        assert self.scheduler.snapshot().n_running == len(self.live())

    @invariant()
    def nothing_is_told_after_the_end(self):
        assert self.scheduler.running() is (self.run is not None)
        if self.run is None and self.log:
            assert self.log[-1] == ("FINISHED", None)


TestLifeOfCalls = LifeOfCalls.TestCase
TestLifeOfCalls.settings = settings(max_examples=200, stateful_step_count=40)
