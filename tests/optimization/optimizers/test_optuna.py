"""Tests of ``amltk.optimization.optimizers.optuna``."""

import logging
from typing import ClassVar

import pytest

from amltk.exceptions import ExhaustedError, InvalidOptionError, InvalidSpaceError
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report
from amltk.optimization.trials.trial import Trial
from amltk.testing.contracts import OptimizerContract

optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed")
ConfigSpace = pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")

from amltk.optimization.optimizers.optuna import OptunaOptimizer  # noqa: E402 - needs optuna

LOSS, GAIN = Metric("loss"), Metric("gain", minimize=False)
FAIL = optuna.trial.TrialState.FAIL


def conditional_space():
    space = ConfigSpace.ConfigurationSpace(
        {"kind": ["svm", "forest"], "c": (0.1, 10.0), "trees": (1, 50), "deep": [True, False]}
    )
    space.add(ConfigSpace.EqualsCondition(space["c"], space["kind"], "svm"))
    space.add(ConfigSpace.EqualsCondition(space["trees"], space["kind"], "forest"))
    space.add(ConfigSpace.GreaterThanCondition(space["deep"], space["trees"], 10))
    space.add(
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(space["kind"], "forest"),
            ConfigSpace.ForbiddenEqualsClause(space["trees"], 7),
        )
    )
    return space


def suggest(trial):
    kind = trial.suggest_categorical("kind", ["svm", "forest"])
    if kind == "svm":
        return {"kind": kind, "c": trial.suggest_float("c", 0.1, 10.0, log=True)}
    return {"kind": kind, "trees": trial.suggest_int("trees", 1, 50)}


def score(config) -> float:
    return config["c"] if config["kind"] == "svm" else 60 - config["trees"]


def success(trial: Trial, **metrics: float) -> Report:
    with trial.begin():
        pass
    return trial.success(**metrics)


class TestContractOnAMapping(OptimizerContract):
    seeded = True
    multi_objective = True
    strict = True
    learns = 12

    def make(self, metrics):
        return OptunaOptimizer(self.space, metrics=metrics, seed=1)


class TestContractOnConditions(OptimizerContract):
    space: ClassVar = conditional_space()
    seeded = True
    strict = True
    learns = 12

    def make(self, metrics):
        return OptunaOptimizer(self.space, metrics=metrics, seed=1)


# ------------------------------------------------------------------- as Optuna's own loop


def test_proposals_are_those_of_optunas_own_loop():
    optimizer = OptunaOptimizer(suggest, metrics=LOSS, seed=3)
    for _ in range(30):
        trial = optimizer.ask()
        optimizer.tell(success(trial, loss=score(trial.config)))

    own = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=3))
    own.optimize(lambda trial: score(suggest(trial)), n_trials=30)

    assert [t.params for t in optimizer.study.trials] == [t.params for t in own.trials]
    assert optimizer.study.best_value == own.best_value


def test_a_sampler_of_the_user_proposes():
    sampler = optuna.samplers.GridSampler({"x": [1, 2, 3]}, seed=0)
    optimizer = OptunaOptimizer({"x": (1, 3)}, metrics=LOSS, sampler=sampler)
    assert {optimizer.ask().config["x"] for _ in range(3)} == {1, 2, 3}


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
@pytest.mark.parametrize(
    "make",
    [
        lambda: optuna.samplers.BruteForceSampler(seed=0),
        lambda: optuna.samplers.GridSampler({"x": [1, 2, 3], "k": ["a", "b"]}, seed=0),
    ],
)
def test_a_sampler_that_has_proposed_all_is_exhausted(make):
    optimizer = OptunaOptimizer({"x": (1, 3), "k": ["a", "b"]}, metrics=LOSS, sampler=make())
    for _ in range(6):
        optimizer.tell(success(optimizer.ask(), loss=1.0))
    assert all(trial.state.name == "COMPLETE" for trial in optimizer.study.trials)
    with pytest.raises(ExhaustedError, match="'optuna' has proposed all that there is"):
        optimizer.ask()


def test_several_metrics_make_a_front_in_their_own_units():
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, metrics=[LOSS, GAIN], seed=0)
    for _ in range(12):
        trial = optimizer.ask()
        optimizer.tell(success(trial, loss=trial.config["x"], gain=trial.config["x"]))
    assert [d.name for d in optimizer.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert len(optimizer.study.best_trials) == 12
    assert all(t.values == [t.params["x"]] * 2 for t in optimizer.study.trials)


def test_a_study_of_the_user_is_gone_on_with():
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"x": 0.25})
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, metrics=GAIN, study=study)
    trial = optimizer.ask()
    optimizer.tell(success(trial, gain=1.0))
    assert trial.config == {"x": 0.25}
    assert trial.info == {"number": 0}
    assert study.best_params == {"x": 0.25}


def test_a_study_whose_directions_do_not_fit_is_refused():
    study = optuna.create_study(direction="minimize")
    with pytest.raises(InvalidOptionError, match=r"directions=\['maximize'\]"):
        OptunaOptimizer({"x": (0.0, 1.0)}, metrics=GAIN, study=study)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"sampler": optuna.samplers.RandomSampler(), "seed": 1}, "seed"),
        ({"study": optuna.create_study(), "seed": 1}, "seed"),
        ({"study": optuna.create_study(), "sampler": optuna.samplers.RandomSampler()}, "sampler"),
    ],
)
def test_what_would_be_ignored_is_refused(options, option):
    with pytest.raises(InvalidOptionError, match=f"{option}=.* is of no use") as caught:
        OptunaOptimizer({"x": (0.0, 1.0)}, metrics=LOSS, **options)
    assert caught.value.option == option


def test_making_one_shows_nothing_and_changes_no_logging(capfd):
    logger = logging.getLogger("optuna")
    before = logger.level, logger.handlers[:], logger.propagate
    shown = logging.StreamHandler()
    logger.addHandler(shown)
    try:
        OptunaOptimizer({"x": (0.0, 1.0)}, metrics=LOSS)
    finally:
        logger.removeHandler(shown)
    assert (logger.level, logger.handlers[:], logger.propagate) == before
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("optuna.storages._in_memory").filters


# ------------------------------------------------------------------- what was of no use


def test_a_failed_trial_is_FAIL_with_what_is_known():  # noqa: N802 - Optuna's word
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, metrics=LOSS)
    trial = optimizer.ask()
    with trial.begin():
        raise ValueError("too hot")
    optimizer.tell(trial.fail(loss=9.0))
    told = optimizer.study.trials[0]
    assert (told.state, told.values) == (FAIL, None)
    assert told.user_attrs == {
        "status": "fail",
        "metrics": {"loss": 9.0},
        "exception": "ValueError('too hot')",
    }


def test_a_crashed_trial_is_FAIL():  # noqa: N802 - Optuna's word
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, metrics=LOSS)
    optimizer.tell(optimizer.ask().crashed(MemoryError("full")))
    assert optimizer.study.trials[0].state is FAIL
    assert optimizer.study.trials[0].user_attrs["status"] == "crashed"


def test_a_forgotten_trial_does_not_go_on_running_in_the_study():
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, metrics=LOSS)
    optimizer.forget(optimizer.ask())
    assert optimizer.study.trials[0].state is FAIL


def test_an_infinite_loss_is_a_value():
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, metrics=LOSS)
    optimizer.tell(success(optimizer.ask(), loss=float("inf")))
    assert optimizer.study.best_value == float("inf")


# ------------------------------------------------------------------- spaces


def test_choices_of_any_kind_come_back_as_they_are():
    kinds = [(1, 2), [3], {"a": 1}, print]
    optimizer = OptunaOptimizer({"kind": kinds}, metrics=LOSS, seed=0)
    found = [optimizer.ask().config["kind"] for _ in range(40)]
    assert all(any(each is kind for kind in kinds) for each in found)
    assert all(any(each is kind for each in found) for kind in kinds)


def test_choices_that_are_equal_are_told_apart():
    optimizer = OptunaOptimizer({"kind": [1, True, 1.0]}, metrics=LOSS, seed=0)
    assert {type(optimizer.ask().config["kind"]) for _ in range(30)} == {int, bool, float}


def test_what_optuna_can_store_is_known_to_it_by_value():
    optimizer = OptunaOptimizer({"kind": [None, "a", 2, True]}, metrics=LOSS, seed=0)
    trial = optimizer.ask()
    assert optimizer.study.trials[0].params == trial.config


def test_only_what_is_active_is_asked_for():
    optimizer = OptunaOptimizer(conditional_space(), metrics=LOSS, seed=0)
    configs = [dict(optimizer.ask().config) for _ in range(60)]
    assert {tuple(config) for config in configs} == {
        ("kind", "c"),
        ("kind", "trees"),
        ("kind", "trees", "deep"),
    }
    valid = [t.params for t in optimizer.study.trials if "status" not in t.user_attrs]
    assert valid == configs


def test_a_forbidden_configuration_is_never_tried():
    space = ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "n": (1, 2)})
    space.add(ConfigSpace.ForbiddenEqualsClause(space["n"], 1))
    optimizer = OptunaOptimizer(space, metrics=LOSS, seed=0)
    for _ in range(20):
        trial = optimizer.ask()
        optimizer.tell(success(trial, loss=trial.config["x"]))
        assert trial.config["n"] == 2
    states = {t.params["n"]: t.state.name for t in optimizer.study.trials}
    assert states == {1: "PRUNED", 2: "COMPLETE"}


def test_where_all_is_forbidden_asking_comes_to_an_end(monkeypatch):
    monkeypatch.setattr("amltk.optimization.optimizers.optuna._MOST_REFUSED", 20)
    optimizer = OptunaOptimizer(never, metrics=LOSS)
    with pytest.raises(ExhaustedError, match="20 configurations in a row were forbidden"):
        optimizer.ask()
    assert len(optimizer.study.trials) == 20


def never(trial):
    trial.suggest_float("x", 0, 1)
    raise optuna.TrialPruned


def test_a_function_that_raises_leaves_no_trial_running():
    optimizer = OptunaOptimizer(lambda trial: 1 / 0, metrics=LOSS)
    with pytest.raises(ZeroDivisionError):
        optimizer.ask()
    assert [trial.state for trial in optimizer.study.trials] == [FAIL]


def test_a_function_that_returns_no_configuration_is_an_error():
    optimizer = OptunaOptimizer(lambda trial: 0.5, metrics=LOSS)
    with pytest.raises(InvalidSpaceError, match=r"returned 0\.5, which is no configuration"):
        optimizer.ask()


@pytest.mark.parametrize(
    ("part", "hint"),
    [
        (lambda: ConfigSpace.NormalFloatHyperparameter("x", 0, 1, -2, 2), "uniformly distributed"),
        (lambda: ConfigSpace.BetaIntegerHyperparameter("x", 2, 2, 1, 5), "uniformly distributed"),
        (lambda: ConfigSpace.CategoricalHyperparameter("x", "ab", weights=[1, 2]), "weights"),
    ],
)
def test_what_optuna_does_not_have_is_an_error_that_names_the_key(part, hint):
    space = ConfigSpace.ConfigurationSpace()
    space.add(part())
    with pytest.raises(
        InvalidSpaceError, match=f"'x' cannot be .* with Optuna: .*{hint}"
    ) as caught:
        OptunaOptimizer(space, metrics=LOSS)
    assert caught.value.key == "x"


def test_ordered_choices_and_constants_of_configspace_are_what_they_are():
    space = ConfigSpace.ConfigurationSpace({"always": 3})
    space.add(ConfigSpace.OrdinalHyperparameter("size", ["small", "medium", "large"]))
    space.add(ConfigSpace.Integer("more", (1, 2)))
    space.add(ConfigSpace.GreaterThanCondition(space["more"], space["size"], "small"))
    optimizer = OptunaOptimizer(space, metrics=LOSS, seed=0)
    configs = [optimizer.ask().config for _ in range(20)]
    assert {config["size"] for config in configs} == {"small", "medium", "large"}
    assert all(config["always"] == 3 for config in configs)
    assert all(("more" in config) == (config["size"] != "small") for config in configs)
