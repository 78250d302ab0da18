"""What type checkers reject: each line marked as an error, and no other; checked, never run."""

from __future__ import annotations

from amltk import CallLimiter, Comm, EventManager, Scheduler, Task, TaskPlugin
from amltk.events import Event, Subscriber
from amltk.optimization import Metric, Trial
from amltk.plugins import Retry, WorkerLogs
from amltk.scheduling import Future


def train(rate: float, epochs: int = 1) -> str:
    return f"{rate} {epochs}"


def walk(seed: int) -> tuple[int, int]:
    return seed, seed


def take_int(_value: int) -> None: ...


def take_str(_value: str) -> None: ...


def take_future_of_int(_future: Future[int]) -> None: ...


def take_two(_one: int, _two: int) -> None: ...


PAIR: Event[int, str] = Event("pair")
NOTHING: Event[[]] = Event("nothing")
manager = EventManager("manager")
on_pair = manager.subscriber(PAIR)
scheduler = Scheduler.with_processes(2)
task = Task(train, scheduler)

# ------------------------------------------------------------------------------------ events

manager.on(PAIR, take_str)  # error: takes one argument, not two
manager.on(PAIR, take_two)  # error: the second argument is no int
manager.on(NOTHING, take_int)  # error: nothing is passed
manager.on(PAIR, 3)  # error: not a callback
manager.on([], take_int)  # error: a list is not hashable
manager.on(PAIR)  # error: no callback
manager.emit(PAIR, 1)  # error: one argument too few
manager.emit(PAIR, 1, "one", 2)  # error: one argument too many
manager.emit(PAIR, "one", "one")  # error: the first argument is no str
manager.emit(NOTHING, 1)  # error: nothing is passed

# ------------------------------------------------------------------------------- subscribers

on_pair(take_two)  # error: the second argument is no int
on_pair(limit=1)(take_two)  # error: the second argument is no int
on_pair(take_two, repeat=2)  # error: the second argument is no int
on_pair(limit="often")  # error: an option of the wrong type
on_pair(when=take_int)  # error: a predicate takes no arguments
on_pair(often=3)  # error: no such option
on_pair.emit("one")  # error: an argument is missing
on_number: Subscriber[int] = on_pair  # error: passes something else


@on_pair  # error: takes one argument, not two
def one_argument(_number: int) -> None: ...


@task.on_exception  # error: what the decorator below gives back takes a str
@task.on_returned
def stacked_over_different_events(_value: object) -> None: ...


# --------------------------------------------------------------------------------- scheduler

scheduler.on_start(take_int)  # error: nothing is passed
scheduler.on_future_done(take_str)  # error: a future is passed
scheduler.submit(train, "fast")  # error: the rate is no str
scheduler.submit(train)  # error: the rate is missing
scheduler.submit(train, 0.1, speed=3)  # error: no such argument
scheduler.run(timeout="soon")  # error: not a number
scheduler.run(end_on_exception=3)  # error: not a kind of exceptions
Scheduler(3)  # error: not an executor

# -------------------------------------------------------------------------------------- task

task("fast")  # error: the rate is no str
task()  # error: the rate is missing
task.submit(0.1, speed=3)  # error: no such argument
task.on_returned(take_int)  # error: the result is a str
task.on_done(take_future_of_int)  # error: a future of str is passed
task.on_exception(take_str)  # error: an exception is passed
task.on_f_returned(take_str)  # error: a future is passed too
number: Future[int] | None = task(0.1)  # error: a future of str
Task(3, scheduler)  # error: not a function
Task(train, scheduler, plugins=[3])  # error: not a plugin
CallLimiter(2)  # error: limits are given by name


class SeedTask(Task[[int], tuple[int, int]]):
    LONGEST_RUN: Event[tuple[int, int]] = Event("longest-run")

    def check(self, result: tuple[int, int]) -> None:
        self.emit(self.LONGEST_RUN, 3)  # error: a pair is passed
        self.subscriber(self.LONGEST_RUN)(take_int)  # error: a pair is passed
        self.on_returned(take_int)  # error: a pair is passed
        self(result)  # error: a seed is passed


SeedTask(train, scheduler)  # error: another signature
SeedTask(walk, scheduler)("one")  # error: the seed is no str

# ------------------------------------------------------------------------------------ trials


def try_out(trial: Trial) -> Trial.Report:
    return trial.fail()


def try_out_more(trial: Trial, epochs: int) -> Trial.SuccessReport:
    return trial.success(accuracy=epochs)


def take_success(_report: Trial.SuccessReport) -> None: ...


def take_crash(_report: Trial.CrashReport) -> None: ...


def take_trial(_trial: Trial) -> None: ...


trial = Trial("first", {"lr": 0.1})
trials = Trial.Task(try_out, scheduler)
more_trials = Trial.Task(try_out_more, scheduler)
Trial("first")  # error: the configuration is missing
Trial("first", {}, 1)  # error: all else is given by name
Trial("first", {}, metrics="accuracy")  # error: not metrics
Metric("accuracy", False)  # error: the direction is given by name
trial.success(0.5)  # error: metrics are given by name
trial.crashed("no memory")  # error: not an exception
Trial.Task(train, scheduler)  # error: is not given a trial
Trial.Task(take_trial, scheduler)  # error: returns no report
trials(0.1)  # error: not a trial
trials()  # error: the trial is missing
trials(trial, 3)  # error: takes no more
more_trials(trial)  # error: the epochs are missing
more_trials(trial, "many")  # error: the epochs are no str
more_trials.submit(trial, epochs=3, fast=True)  # error: no such argument
trials.on_report(take_success)  # error: any report is passed
trials.on_report(take_trial)  # error: a report is passed
trials.on_success(take_crash)  # error: a success is passed
trials.on_failed(take_success)  # error: a failure is passed
trials.on_crashed(take_success)  # error: a crash is passed
trials.on_cancelled(take_future_of_int)  # error: a trial is passed
trials.on_cancelled(take_success)  # error: a trial is passed
trials.on(Trial.Task.CANCELLED, take_crash)  # error: a trial is passed


@trials.on_crashed  # error: a crash is passed
def takes_a_success(_report: Trial.SuccessReport) -> None: ...


# ------------------------------------------------------------------------------------- batch

batch = task.batch([(0.1,)])
batch.on_batch_returned(take_int)  # error: a list is passed
batch.on_any_returned(take_int)  # error: the result is a str
batch.on_batch_failed(take_int)  # error: nothing is passed
task.batch([0.1])  # error: arguments come as tuples

# ----------------------------------------------------------------------------------- plugins

task.on(Comm.MESSAGE, take_int)  # error: a message is passed
task.on(Retry.RETRIED, take_int)  # error: takes one argument, not two
task.on(WorkerLogs.OUTPUT, take_two)  # error: three are passed
Retry(max_retries="2")  # error: a number is wanted


def emit_wrongly(comm: Comm) -> None:
    comm.emit(PAIR, 1, 2)  # error: the second one is no str


class Emits(TaskPlugin):
    def ended(self, future: Future[int]) -> None:
        self.emit(PAIR, 1)  # error: one argument too few
        self.emit_soon(PAIR, "one", "one")  # error: the first argument is no str
