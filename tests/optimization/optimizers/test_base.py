import pytest

from amltk.exceptions import InvalidOptionError, UnknownTrialError
from amltk.optimization import Metric, Trial
from amltk.optimization.optimizers.base import BaseOptimizer, Proposal

LOSS = Metric("loss")


class Noting(BaseOptimizer):
    """Proposes 0, 1, 2 … with a handle, and notes what it hears."""

    def __init__(self, metrics=LOSS, *, name="noting"):
        super().__init__(metrics, name=name)
        self.n = 0
        self.heard = []

    def propose(self):
        self.n += 1
        return Proposal(
            config={"x": self.n},
            seed=self.n + 10,
            fidelities={"epochs": 3},
            info={"rung": 1},
            handle=("handle", self.n),
        )

    def learn(self, handle, report):
        self.heard.append((handle, report.status.value))

    def drop(self, handle):
        self.heard.append((handle, "dropped"))


def success(trial):
    with trial.begin():
        pass
    return trial.success(loss=1.0)


def test_a_proposal_becomes_a_trial():
    trial = Noting().ask()

    assert trial == Trial(
        "noting-0",
        {"x": 1},
        metrics=(LOSS,),
        seed=11,
        fidelities={"epochs": 3},
        info={"rung": 1},
    )


def test_names_begin_with_the_optimizers_and_are_numbered():
    optimizer = Noting(name="mine")

    assert [optimizer.ask().name for _ in range(3)] == ["mine-0", "mine-1", "mine-2"]


def test_a_report_is_learned_from_with_what_was_kept():
    optimizer = Noting()
    first, second = optimizer.ask(), optimizer.ask()

    optimizer.tell(second.crashed(ValueError("bad")))
    optimizer.tell(success(first))

    assert optimizer.heard == [(("handle", 2), "crashed"), (("handle", 1), "success")]


def test_a_forgotten_trial_is_dropped():
    optimizer = Noting()

    optimizer.forget(optimizer.ask())

    assert optimizer.heard == [(("handle", 1), "dropped")]


@pytest.mark.parametrize("first", ["tell", "forget"])
@pytest.mark.parametrize("then", ["tell", "forget"])
def test_after_a_trial_was_told_of_nothing_more_is_heard_of_it(first, then):
    optimizer = Noting()
    trial = optimizer.ask()
    hears = {
        "tell": lambda: optimizer.tell(trial.crashed(ValueError("bad"))),
        "forget": lambda: optimizer.forget(trial),
    }

    hears[first]()

    with pytest.raises(UnknownTrialError, match=r"told of 'noting-0'.* tell it once") as info:
        hears[then]()
    assert info.value.trial == "noting-0"
    assert len(optimizer.heard) == 1


def test_a_trial_of_somebody_else_is_unknown():
    with pytest.raises(UnknownTrialError, match="'stranger', which it was not asked for"):
        Noting().tell(success(Trial("stranger", {})))


def test_nothing_is_kept_of_trials_that_have_ended():
    optimizer = Noting()
    for _ in range(3):
        optimizer.tell(success(optimizer.ask()))

    assert not optimizer._open


def test_metrics_are_checked_when_it_is_made():
    with pytest.raises(InvalidOptionError, match="loss is there twice"):
        Noting([LOSS, LOSS])


def test_learning_and_dropping_are_optional_and_proposing_is_not():
    class Least(BaseOptimizer):
        def propose(self):
            return Proposal(config={})

    optimizer = Least(LOSS, name="least")
    optimizer.tell(success(optimizer.ask()))
    optimizer.forget(optimizer.ask())
    with pytest.raises(NotImplementedError):
        BaseOptimizer(LOSS, name="none").ask()
