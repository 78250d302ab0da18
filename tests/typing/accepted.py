"""What type checkers accept, and which types they see; checked and never run."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from concurrent import futures
from typing import Any, assert_type

from amltk import (
    CallLimiter,
    Comm,
    Emitter,
    EventManager,
    Scheduler,
    SequentialExecutor,
    Task,
    TaskPlugin,
)
from amltk.events import Event, Subscriber
from amltk.optimization import Metric, Trial
from amltk.plugins import PynisherPlugin, Retry, WarningFilter, WorkerLogs
from amltk.scheduling import Batch, Future


def train(rate: float, epochs: int = 1) -> str:
    return f"{rate} {epochs}"


def walk(seed: int) -> tuple[int, int]:
    return seed, seed


def nothing() -> None: ...


def take_str(_value: str) -> None: ...


def take_object(_value: object) -> None: ...


scheduler = Scheduler.with_processes(2)
task = Task(train, scheduler)


# ------------------------------------------------------------------------------------ events


PAIR: Event[int, str] = Event("pair")
NOTHING: Event[[]] = Event("nothing")
manager = EventManager("manager")


def take_pair(_number: int, _text: str) -> None: ...


def take_wider_pair(_number: float, _text: object, _more: int = 0) -> int:
    return 1


assert_type(manager.on(PAIR, take_pair), str)
assert_type(manager.on(PAIR, take_wider_pair, name="wider", limit=2), str)
assert_type(manager.on(PAIR, nothing), str)
assert_type(manager.on(NOTHING, nothing), str)
assert_type(manager.subscriber(PAIR), Subscriber[int, str])
assert_type(manager.subscriber(NOTHING), Subscriber[[]])
manager.on(PAIR, lambda number, text: (number + 1, text.upper()))
manager.emit(PAIR, 1, "one")
manager.emit(NOTHING)
manager.emit_many({PAIR: ((1, "one"), {}), NOTHING: ((), {})})


class Colour(enum.Enum):
    RED = "red"


for plain in ("text", 1, 1.5, b"bytes", (1, "two"), frozenset({1}), int, Colour.RED):
    manager.on(plain, take_pair)
    manager.emit(plain, 1, "one", more=2)


# ------------------------------------------------------------------------------- subscribers


on_pair = manager.subscriber(PAIR)
assert_type(on_pair(take_pair), Callable[[int, str], None])
assert_type(on_pair(nothing), Callable[[], None])
on_pair.emit(1, "one")
assert_type(on_pair.remove("take_pair"), int)


@on_pair
def as_decorator(number: int, text: str) -> str:
    return text * number


@on_pair(when=lambda: True, limit=1, repeat=2, every=3, name="x")
def with_options(number: int, text: str) -> str:
    return text * number


@on_pair(limit=1)
def options_without_arguments() -> None: ...


@scheduler.on_start(repeat=3)
@scheduler.on_empty
@task.on_done
@task.on_submitted
@on_pair(limit=1)
def stacked() -> None:
    task(0.1)


assert_type(stacked(), None)


@task.on_done
@task.on_submitted
@task.on_f_cancelled
def stacked_with_one_argument(_future: Future[str]) -> None: ...


# A decorator gives its function back as one for its own event. A function that takes what several
# events pass is registered in the functional way.
task.on_exception(take_object)
task.on_returned(take_object)


# --------------------------------------------------------------------------------- scheduler


assert_type(scheduler.on_start, Subscriber[[]])
assert_type(scheduler.on_future_done, Subscriber[Future[Any]])
assert_type(scheduler.submit(train, 0.1), Future[str] | None)
assert_type(scheduler.submit(train, 0.1, epochs=3), Future[str] | None)
assert_type(Scheduler(SequentialExecutor()), Scheduler)
assert_type(Scheduler(lambda: futures.ThreadPoolExecutor(2)), Scheduler)
scheduler.on_timeout(scheduler.stop)
scheduler.on_future_done(scheduler.stop)
scheduler.run(timeout=1, end_on_exception=(ValueError, OSError), raises=False)


async def run_in_a_loop() -> None:
    future = scheduler.submit(train, 0.1)
    await scheduler.async_run(timeout=1.5)
    if future is not None:
        assert_type(await future, str)
        assert_type(future.result(), str)


# -------------------------------------------------------------------------------------- task


assert_type(task(0.1), Future[str] | None)
assert_type(task.submit(0.1, epochs=2), Future[str] | None)
assert_type(task.on_returned, Subscriber[str])
assert_type(task.on_done, Subscriber[Future[str]])
assert_type(task.on_f_returned, Subscriber[Future[str], str])
assert_type(task.on_exception, Subscriber[BaseException])
assert_type(task.futures(), list[Future[str]])
assert_type(task.copy()(0.1), Future[str] | None)
task.on_returned(take_str)
task.on_returned(take_object)
task.on_f_exception(lambda future, error: (future.number, error.args))


@task.on_f_submitted
def submitted_with(_future: Future[str], /, rate: float, epochs: int = 1) -> None: ...


@task.on(CallLimiter.CALL_LIMIT_REACHED)
def refused(*_args: object, **_kwargs: object) -> None: ...


limited = Task(train, scheduler, plugins=[CallLimiter(max_calls=2)])
limited_once = Task(train, scheduler, plugins=CallLimiter(max_concurrent=1))


# ------------------------------------------------------------------------- a task of one's own


class SeedTask(Task[[int], tuple[int, int]]):
    LONGEST_RUN: Event[tuple[int, int]] = Event("longest-run")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.best: tuple[int, int] | None = None
        self.on_longest_run = self.subscriber(self.LONGEST_RUN)
        self.on_returned(self.check)

    def check(self, result: tuple[int, int]) -> None:
        self.best = result
        self.emit(self.LONGEST_RUN, result)
        self.on_longest_run.emit(result)


seeds = SeedTask(walk, scheduler)
assert_type(seeds(1), Future[tuple[int, int]] | None)
assert_type(seeds.on_longest_run, Subscriber[tuple[int, int]])
assert_type(seeds.copy(), SeedTask)


@seeds.on_longest_run
def longest(result: tuple[int, int]) -> None:
    assert_type(result[0], int)


class Thermometer(Emitter):
    READ: Event[float] = Event("read")

    def __init__(self) -> None:
        super().__init__("thermometer")
        self.on_read = self.subscriber(self.READ)


assert_type(Thermometer().on_read, Subscriber[float])


# ------------------------------------------------------------------------------------ trials


def try_out(trial: Trial) -> Trial.Report:
    with trial.begin():
        assert_type(trial.config["lr"], Any)
    if trial.exception is not None:
        return trial.crashed()
    return trial.success(accuracy=0.5) if trial.seed else trial.fail()


def try_out_more(trial: Trial, epochs: int, *, fast: bool = False) -> Trial.SuccessReport:
    assert_type(trial.success(accuracy=epochs), Trial.SuccessReport)
    assert_type(trial.fail(), Trial.FailReport)
    assert_type(trial.crashed(ValueError()), Trial.CrashReport)
    return trial.success(fast=fast)


trial = Trial("first", {"lr": 0.1}, metrics=(Metric("accuracy", minimize=False),), seed=1)
trials = Trial.Task(try_out, scheduler)
more_trials = Trial.Task(try_out_more, scheduler, plugins=[Comm.Plugin()])
assert_type(trials(trial), Future[Trial.Report] | None)
assert_type(more_trials.submit(trial, 3, fast=True), Future[Trial.Report] | None)
assert_type(more_trials(trial, epochs=3), Future[Trial.Report] | None)
assert_type(trials.on_report, Subscriber[Trial.Report])
assert_type(trials.on_success, Subscriber[Trial.SuccessReport])
assert_type(trials.on_failed, Subscriber[Trial.FailReport])
assert_type(trials.on_crashed, Subscriber[Trial.CrashReport])
assert_type(trials.on_cancelled, Subscriber[Trial])
assert_type(trials.on_returned, Subscriber[Trial.Report])
assert_type(trials.on_f_cancelled, Subscriber[Future[Trial.Report]])
assert_type(trials.copy()(trial), Future[Trial.Report] | None)


@trials.on_report
def reported(report: Trial.Report) -> None:
    assert_type(report.status, Trial.Status)
    assert_type(report.trial, Trial)
    if isinstance(report, Trial.SuccessReport):
        assert_type(report.metrics, dict[str, float])
    if report.time is not None:
        assert_type(report.time.wall_s, float)


@trials.on_success
def succeeded(report: Trial.SuccessReport) -> None:
    trials(report.trial)


@trials.on_failed
def has_failed(_report: Trial.FailReport) -> None: ...


@trials.on_crashed
def has_crashed(report: Trial.CrashReport) -> None:
    assert_type(report.exception, BaseException | None)


@trials.on_cancelled
def was_cancelled(trial: Trial) -> None:
    assert_type(trial.name, str)


@trials.on(Trial.Task.REPORT)
@trials.on_report(limit=1)
def again_reported(_report: Trial.Report) -> None: ...


trials.on_success(reported)  # a callback of any report
trials.on_report(nothing)
trials.on_cancelled(take_object)
trials.batch([(trial,), (trial,)]).on(Trial.Task.CRASHED, has_crashed)


@more_trials.on_f_submitted
def trial_submitted(
    _future: Future[Trial.Report], trial: Trial, /, epochs: int, *, fast: bool = False
) -> None: ...


# ------------------------------------------------------------------------------------- batch


batch = task.batch([(0.1,), (0.2, 3)])
assert_type(batch.submit(), list[Future[str]])
assert_type(batch.on_batch_returned, Subscriber[list[str]])
assert_type(batch.on_batch_done, Subscriber[list[str], list[BaseException], list[Future[str]]])
assert_type(batch.on_any_returned, Subscriber[str])
assert_type(batch.on_batch_failed, Subscriber[[]])


@batch.on_any_exception
@batch.on_any_cancelled
def give_up() -> None:
    assert_type(batch.cancel(), bool)


def join(results: Batch[..., str]) -> list[Future[str]]:
    return results.futures()


join(batch)


# ----------------------------------------------------------------------------------- plugins


EPOCH: Event[int, float] = Event("epoch")


def talk(rate: float, comm: Comm | None = None) -> float:
    if comm is not None:
        with comm as opened:
            assert_type(opened, Comm)
            opened.send(rate)
            opened.emit(EPOCH, 1, 0.5)
    return rate


limits = PynisherPlugin(wall_time_limit=(5, "m"), memory_limit=(2, "gb"))
talking = Task(
    talk,
    scheduler,
    plugins=[Comm.Plugin(), limits, Retry(max_retries=2, on=ValueError), WorkerLogs()],
)


@talking.on(Comm.MESSAGE)
@talking.on(Comm.REQUEST)
def hear(msg: Comm.Msg) -> None:
    assert_type(msg.identifier, str)
    assert_type(msg.respond("answer"), bool)


@talking.on(EPOCH)
def follow(_epoch: int, _loss: float) -> None: ...


@talking.on(Retry.RETRIED)
def again(_number: int, _cause: BaseException) -> None: ...


@talking.on(WorkerLogs.LOG)
def log(_future: Future[Any], record: logging.LogRecord) -> None:
    assert_type(record.levelno, int)


@talking.on(PynisherPlugin.TIMEOUT)
def too_long(_error: BaseException) -> None: ...


talking.on_message(hear)
talking.on(WarningFilter.WARNED, lambda: None)


class Emits(TaskPlugin):
    def ended(self, future: Future[Any]) -> None:
        self.emit(EPOCH, 1, 0.5)
        self.emit_soon(EPOCH, 2, 0.25)
