"""The optimizer contract over the optimizers that need no other library, and over one of our own."""

import dataclasses
import inspect
import random
from typing import ClassVar

import pytest

from amltk.optimization import Trial
from amltk.optimization.optimizers.grid import GridSearch
from amltk.optimization.optimizers.random import RandomSearch
from amltk.optimization.trials.report import Status
from amltk.testing.contracts import OptimizerContract
from amltk.testing.contracts.optimizer import LOSS


class TestRandomSearch(OptimizerContract):
    seeded = strict = multi_objective = True

    def make(self, metrics):
        return RandomSearch(self.space, metrics=metrics, seed=1)


class TestRandomSearchInAFiniteSpace(TestRandomSearch):
    multi_objective = False
    space: ClassVar = {"n": (1, 8), "kind": ["a", 1, True]}
    exhausts = 24


class TestGridSearch(OptimizerContract):
    seeded = strict = multi_objective = True
    exhausts = 2 * 3 * 8 * 4

    def make(self, metrics):
        points = {"x": 2, "rate": 3, "n": 99}
        return GridSearch(self.space, metrics=metrics, points=points, seed=1)


class HillClimber:
    """Two methods, no base class: steps from the best that is known, or jumps."""

    def __init__(self, metrics, seed):
        self._metrics = metrics
        self._rng = random.Random(seed)
        self._n_asked = 0
        self._best = float("inf"), 0.0

    def ask(self):
        _, x = self._best
        config = {"x": min(10.0, max(-5.0, x + self._rng.gauss(0, 1)))}
        self._n_asked += 1
        return Trial(f"climb-{self._n_asked}", config, metrics=self._metrics)

    def tell(self, report):
        loss = report.loss(self._metrics[0])
        self._best = min(self._best, (loss, report.config["x"]))


class TestHandWritten(OptimizerContract):
    space: ClassVar = {"x": (-5.0, 10.0)}
    seeded = True
    learns = 3

    def make(self, metrics):
        return HillClimber(metrics, seed=1)


def space_with_conditions():
    library = pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")
    space = library.ConfigurationSpace({"x": (-5.0, 10.0), "kind": ["a", "b"], "n": (1, 8)})
    space.add(library.Integer("depth", (1, 9), log=True))
    space.add(library.EqualsCondition(space["depth"], space["kind"], "a"))
    clause = library.ForbiddenEqualsClause
    space.add(library.ForbiddenAndConjunction(clause(space["kind"], "b"), clause(space["n"], 3)))
    return space


class TestRandomSearchOfConfigSpace(TestRandomSearch):
    multi_objective = False

    @property
    def space(self):
        return space_with_conditions()


class TestGridSearchOfConfigSpace(TestGridSearch):
    multi_objective = False
    exhausts = 2 * (3 * 2 + 2)

    @property
    def space(self):
        return space_with_conditions()

    def make(self, metrics):
        points = {"x": 2, "n": 2, "depth": 3}
        return GridSearch(self.space, metrics=metrics, points=points, seed=1)


class Broken(HillClimber):
    """Passes the contract, but for what a subclass does otherwise."""

    def __init__(self):
        super().__init__((LOSS,), seed=1)


class SameName(Broken):
    def ask(self):
        return dataclasses.replace(super().ask(), name="same")


class OutOfBounds(Broken):
    def ask(self):
        return dataclasses.replace(super().ask(), config={"x": 10.5})


class WholeNumber(Broken):
    def ask(self):
        return dataclasses.replace(super().ask(), config={"x": 1})


class KeyTooMany(Broken):
    def ask(self):
        return dataclasses.replace(super().ask(), config={"x": 1.0, "y": 1.0})


class NoMetrics(Broken):
    def ask(self):
        return dataclasses.replace(super().ask(), metrics=())


class OfNumpy(Broken):
    def ask(self):
        numpy = pytest.importorskip("numpy")
        return dataclasses.replace(super().ask(), config={"x": numpy.float64(1)})


class Large(Broken):
    def ask(self):
        return dataclasses.replace(super().ask(), info={"log": "x" * 3000})


class NeedsSuccess(Broken):
    def tell(self, report):
        self._best = report.metrics["loss"], report.config["x"]


class OneAtATime(Broken):
    open = None

    def ask(self):
        assert self.open is None, "one at a time"
        trial = super().ask()
        self.open = trial.name
        return trial

    def tell(self, report):
        self.open = None


class KnowsItsOwnTrial(Broken):
    def ask(self):
        self.trial = super().ask()
        return self.trial

    def tell(self, report):
        assert report.trial is self.trial, "a copy"


class OtherSeed(Broken):
    def __init__(self):
        super().__init__()
        self._rng = random.SystemRandom()


class LearnsNothing(Broken):
    def tell(self, report):
        pass


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (SameName, "trials_have_names_of_their_own"),
        (OutOfBounds, "configurations_lie_in_the_space"),
        (WholeNumber, "configurations_lie_in_the_space"),
        (KeyTooMany, "configurations_lie_in_the_space"),
        (OfNumpy, "configurations_lie_in_the_space"),
        (NoMetrics, "trials_tell_what_they_are_measured_by"),
        (Large, "trials_travel"),
        (Broken, "nothing_left_to_try_is_an_error_of_its_own"),
        (NeedsSuccess, "it_goes_on_whatever_it_is_told"),
        (OneAtATime, "reports_may_come_in_another_order"),
        (OneAtATime, "a_trial_may_have_no_report"),
        (Broken, "a_report_that_it_does_not_wait_for_is_refused"),
        (OtherSeed, "the_same_seed_gives_the_same_trials"),
        (LearnsNothing, "it_learns"),
        (KnowsItsOwnTrial, "each_call_may_come_from_another_thread"),
        (NeedsSuccess, "a_run_on_threads_ends_with_a_report_of_each_trial"),
        (KnowsItsOwnTrial, "a_run_on_processes_does_so_too"),
    ],
)
def test_the_contract_sees_what_is_wrong(kind, test):
    class Suite(TestHandWritten):
        strict = True
        exhausts = 3

        def make(self, metrics):
            return kind()

    method = getattr(Suite(), f"test_{test}")
    known = {"optimizer": kind(), "metrics": (LOSS,), "status": Status.FAIL}
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        method(**{name: known[name] for name in inspect.signature(method).parameters})
