from amltk.optimization import Metric, Optimizer, Trial
from amltk.optimization.optimizer import Forgets
from amltk.optimization.optimizers.random import RandomSearch


class Two:
    """Anything with these two methods."""

    def ask(self):
        return Trial("only", {})

    def tell(self, report):
        pass


class Three(Two):
    def forget(self, trial):
        pass


class Half:
    def ask(self):
        return Trial("only", {})


def test_a_class_with_two_methods_is_an_optimizer():
    assert isinstance(Two(), Optimizer)


def test_a_class_with_one_of_them_is_none():
    assert not isinstance(Half(), Optimizer)
    assert not isinstance(object(), Optimizer)


def test_an_optimizer_that_wants_to_hear_of_cancelled_trials_says_so_by_a_method():
    assert isinstance(Three(), Forgets)
    assert not isinstance(Two(), Forgets)


def test_the_delivered_ones_are_both():
    optimizer = RandomSearch({"x": (0.0, 1.0)}, metrics=Metric("loss"))

    assert isinstance(optimizer, Optimizer)
    assert isinstance(optimizer, Forgets)
