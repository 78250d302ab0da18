"""What an optimizer has to do to work with trials and tasks, as tests to subclass.

::

    class TestMyOptimizer(OptimizerContract):
        seeded = True

        def make(self, metrics):
            return MyOptimizer(self.space, metrics, seed=1)

Two methods make an optimizer; what it can do beyond that, it says by the attributes below, and is
tested for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from amltk.exceptions import ExhaustedError, UnknownTrialError
from amltk.optimization.optimizer import Forgets, Optimizer
from amltk.optimization.search.loop import optimize
from amltk.optimization.space import Choice, Constant, Float, is_configspace, parse_space
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report, Status
from amltk.optimization.trials.trial import Trial
from amltk.scheduling.scheduler import Scheduler
from amltk.testing.contracts.functions import evaluate, measure, measure_or_raise, values_of

if TYPE_CHECKING:
    from amltk.optimization.space import SpaceLike

#: What trials are measured by; the second one where there are several objectives.
LOSS, GAIN = Metric("loss"), Metric("gain", minimize=False)

#: How many trials a run has, and how many workers.
N_TRIALS, N_WORKERS = 12, 2


class _Noted:
    """An optimizer, and a note of what it was told."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.ask = optimizer.ask
        self.told: list[str] = []

    def tell(self, report: Report) -> None:
        self.told.append(report.name)
        self._optimizer.tell(report)


class OptimizerContract:
    """Tests of one optimizer; subclass it and override ``make``."""

    #: Where ``make`` shall search; what is given to a trial has to lie in it.
    space: ClassVar[SpaceLike] = {
        "x": (-5.0, 10.0),
        "rate": (1e-5, 1e-1, "log"),
        "n": (1, 8),
        "kind": ["a", "b", None, (1, 2)],
        "fixed": 3,
    }

    #: What a trial computes, of its configuration.
    evaluate: ClassVar[Callable[[Mapping[str, Any]], float]] = staticmethod(evaluate)

    #: Whether ``make`` gives it a seed, so that the trials of two of them are the same ones.
    seeded: ClassVar[bool] = False

    #: Whether it takes several metrics; then all tests run with two as well.
    multi_objective: ClassVar[bool] = False

    #: Whether it refuses a report of a trial that it did not ask for, or was told of before.
    strict: ClassVar[bool] = False

    #: After how many trials there is nothing left to try; ``None`` for never.
    exhausts: ClassVar[int | None] = None

    #: After how many reports its proposals depend on them, if it is seeded; ``None`` for never.
    learns: ClassVar[int | None] = None

    #: How large a trial may be when it travels, in bytes.
    most_bytes: ClassVar[int] = 2048

    #: No run takes longer than so many seconds.
    timeout_s: ClassVar[float] = 50.0

    def make(self, metrics: tuple[Metric, ...]) -> Optimizer:
        """Return a new optimizer.

        Args:
            metrics: What trials are measured by: ``loss``, to be minimized; with
                ``multi_objective`` also that and ``gain``, to be maximized.
        """
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test with one metric, and with two where that is possible."""
        if "metrics" in metafunc.fixturenames:
            cases: dict[str, tuple[Metric, ...]] = {"one metric": (LOSS,)}
            if self.multi_objective:
                cases["two metrics"] = (LOSS, GAIN)
            metafunc.parametrize("metrics", cases.values(), ids=cases)

    @pytest.fixture
    def optimizer(self, metrics: tuple[Metric, ...]) -> Optimizer:
        """A new optimizer."""
        return self.make(metrics)

    # --------------------------------------------------------------------------- what is used

    def report(self, trial: Trial, status: Status = Status.SUCCESS, *, sign: int = 1) -> Report:
        """Return a report of a trial as it comes back from a worker: all of it is a copy."""
        there: Trial = pickle.loads(pickle.dumps(trial))
        report: Report
        if status is Status.CRASHED:
            report = there.crashed(ArithmeticError("on purpose"))
        else:
            with there.begin():
                values = values_of(there, lambda config: sign * type(self).evaluate(config))
            report = there.success(**values) if status is Status.SUCCESS else there.fail()
        arrived: Report = pickle.loads(pickle.dumps(report))
        return arrived

    def sequence(self, optimizer: Optimizer, n: int, *, sign: int = 1) -> list[tuple[Any, ...]]:
        """Ask and tell in turn, and return what was proposed."""
        proposed = []
        for _ in range(n):
            trial = optimizer.ask()
            proposed.append((trial.name, dict(trial.config), trial.seed, dict(trial.fidelities)))
            optimizer.tell(self.report(trial, sign=sign))
        return proposed

    def run(self, optimizer: Optimizer, scheduler: Scheduler) -> list[Report]:
        """Run trials, each third of which raises, and return the reports in their order."""
        task = Trial.Task(measure_or_raise, scheduler)
        reports: list[Report] = []
        sent: list[Trial] = []

        @scheduler.on_start(repeat=N_WORKERS)
        def send() -> None:
            sent.append(optimizer.ask())
            task(sent[-1], len(sent) - 1, type(self).evaluate)

        @task.on_report
        def told(report: Report) -> None:
            reports.append(report)
            optimizer.tell(report)
            if len(sent) < N_TRIALS:
                send()

        code = scheduler.run(timeout=self.timeout_s, end_on_exception=False)
        assert code is Scheduler.ExitCode.EXHAUSTED
        assert sorted(report.name for report in reports) == sorted(trial.name for trial in sent)
        return reports

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Check that a configuration lies in the space and is of plain values."""
        assert not [v for v in config.values() if type(v).__module__.partition(".")[0] == "numpy"]
        space: Any = self.space
        if is_configspace(space):
            configuration = pytest.importorskip("ConfigSpace").Configuration(space, values=config)
            configuration.check_valid_configuration()
            return
        dimensions = parse_space(space)
        assert set(config) == set(dimensions)
        for key, dimension in dimensions.items():
            value = config[key]
            if isinstance(dimension, Choice | Constant):
                known = dimension.grid(1)
                assert any(v is value or (type(v) is type(value) and v == value) for v in known)
            else:
                assert type(value) is (float if isinstance(dimension, Float) else int)
                assert dimension.low <= value <= dimension.high

    # --------------------------------------------------------------------------- what is asked

    def test_it_is_an_optimizer(self, optimizer: Optimizer, metrics: tuple[Metric, ...]) -> None:
        """It has the two methods, and the metrics that it was made with, if it tells them."""
        assert isinstance(optimizer, Optimizer)
        assert getattr(optimizer, "metrics", metrics) == metrics

    def test_trials_have_names_of_their_own(self, optimizer: Optimizer) -> None:
        """Whether they were told of or not."""
        names = [optimizer.ask().name for _ in range(4)]
        names += [name for name, *_ in self.sequence(optimizer, 4)]
        assert len(set(names)) == len(names)

    def test_configurations_lie_in_the_space(self, optimizer: Optimizer) -> None:
        """And are plain values: the user's own choices, and numbers of Python."""
        for _, config, *_ in self.sequence(optimizer, N_TRIALS):
            self.check_config(config)

    def test_trials_tell_what_they_are_measured_by(
        self, optimizer: Optimizer, metrics: tuple[Metric, ...]
    ) -> None:
        """So that a report with another metric is an error in the worker."""
        assert optimizer.ask().metrics == metrics

    def test_trials_travel(self, optimizer: Optimizer) -> None:
        """They are small and arrive as what they were."""
        for _ in range(3):
            trial = optimizer.ask()
            packed = pickle.dumps(trial)
            assert pickle.loads(packed) == trial
            assert len(packed) <= self.most_bytes

    def test_nothing_left_to_try_is_an_error_of_its_own(self, optimizer: Optimizer) -> None:
        """Each time; and reports of what was asked before are still taken."""
        if self.exhausts is None:
            pytest.skip("there is always something left to try")
        trials = [optimizer.ask() for _ in range(self.exhausts)]
        for _ in range(2):
            with pytest.raises(ExhaustedError):
                optimizer.ask()
        optimizer.tell(self.report(trials[-1]))

    # --------------------------------------------------------------------------- what is told

    @pytest.mark.parametrize("status", Status)
    def test_it_goes_on_whatever_it_is_told(self, optimizer: Optimizer, status: Status) -> None:
        """Even if it hears of nothing else, from the first trial on."""
        for _ in range(5):
            optimizer.tell(self.report(optimizer.ask(), status))
        self.check_config(optimizer.ask().config)

    def test_reports_may_come_in_another_order(self, optimizer: Optimizer) -> None:
        """Also if several trials were asked for before the first report."""
        trials = [optimizer.ask() for _ in range(8)]
        for place, trial in enumerate(reversed(trials)):
            optimizer.tell(self.report(trial, list(Status)[place % 3]))
        assert optimizer.ask().name not in {trial.name for trial in trials}

    def test_a_trial_may_have_no_report(self, optimizer: Optimizer) -> None:
        """It was cancelled; the optimizer is told so, if it wants to."""
        first, cancelled, last = (optimizer.ask() for _ in range(3))
        optimizer.tell(self.report(first))
        if isinstance(optimizer, Forgets):
            optimizer.forget(cancelled)
        optimizer.tell(self.report(last))
        for _, config, *_ in self.sequence(optimizer, 3):
            self.check_config(config)

    def test_a_report_that_it_does_not_wait_for_is_refused(self, optimizer: Optimizer) -> None:
        """Told twice, told of a stranger, told of what was forgotten."""
        if not self.strict:
            pytest.skip("it takes any report")
        trial, forgotten = optimizer.ask(), optimizer.ask()
        report = self.report(trial)
        optimizer.tell(report)
        with pytest.raises(UnknownTrialError, match=trial.name):
            optimizer.tell(report)
        stranger = Trial("stranger", trial.config, metrics=trial.metrics)
        with pytest.raises(UnknownTrialError, match="stranger"):
            optimizer.tell(self.report(stranger))
        if isinstance(optimizer, Forgets):
            optimizer.forget(forgotten)
            with pytest.raises(UnknownTrialError, match=forgotten.name):
                optimizer.tell(self.report(forgotten))

    def test_the_same_seed_gives_the_same_trials(
        self, optimizer: Optimizer, metrics: tuple[Metric, ...]
    ) -> None:
        """Where the reports are the same ones."""
        if not self.seeded:
            pytest.skip("it has no seed")
        again = self.make(metrics)
        assert self.sequence(optimizer, N_TRIALS) == self.sequence(again, N_TRIALS)

    def test_it_learns(self, optimizer: Optimizer, metrics: tuple[Metric, ...]) -> None:
        """What it was told makes a difference to what it proposes."""
        if self.learns is None:
            pytest.skip("it learns nothing")
        contrary = self.make(metrics)
        self.sequence(optimizer, self.learns)
        self.sequence(contrary, self.learns, sign=-1)
        assert self.sequence(optimizer, 4) != self.sequence(contrary, 4, sign=-1)

    # --------------------------------------------------------------------------- with a run

    def test_each_call_may_come_from_another_thread(self, optimizer: Optimizer) -> None:
        """One at a time: a slow optimizer is called beside the loop."""
        for _ in range(3):
            with ThreadPoolExecutor(1) as thread:
                trial = thread.submit(optimizer.ask).result(self.timeout_s)
            optimizer.tell(self.report(trial))

    def test_a_run_on_threads_ends_with_a_report_of_each_trial(self, optimizer: Optimizer) -> None:
        """Also of those that raise."""
        self.check_reports(self.run(optimizer, Scheduler.with_threads(N_WORKERS)))

    def test_a_run_on_processes_does_so_too(self, optimizer: Optimizer) -> None:
        """There and back, trials are copied."""
        self.check_reports(self.run(optimizer, Scheduler.with_processes(N_WORKERS)))

    def test_optimize_may_ask_it_ahead(
        self, optimizer: Optimizer, metrics: tuple[Metric, ...]
    ) -> None:
        """It is told of each trial, also of those that were asked for before others were told."""
        noted = _Noted(optimizer)
        history = optimize(
            partial(measure, evaluate=type(self).evaluate),
            noted,
            Scheduler.with_threads(N_WORKERS),
            metrics=metrics,
            max_trials=N_TRIALS,
            ask_ahead=3,
            timeout=self.timeout_s,
        )
        assert len(history) == N_TRIALS
        assert noted.told == [report.name for report in history]

    def check_reports(self, reports: list[Report]) -> None:
        """Check the reports of a run."""
        statuses = [report.status for report in reports]
        assert len(reports) == N_TRIALS
        assert statuses.count(Status.CRASHED) == N_TRIALS // 3
        assert statuses.count(Status.SUCCESS) == N_TRIALS - N_TRIALS // 3
