"""Tests of ``amltk.optimization.optimizers.smac``."""

import logging
import math
from typing import ClassVar

import pytest

from amltk.exceptions import ExhaustedError, InvalidOptionError, InvalidSpaceError
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report
from amltk.optimization.trials.trial import Trial
from amltk.testing.contracts import OptimizerContract

smac = pytest.importorskip("smac", reason="the extra smac is not installed")
ConfigSpace = pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")

import numpy  # noqa: E402, ICN001 - comes with smac
from smac.runhistory import StatusType, TrialValue  # noqa: E402 - needs smac

from amltk.optimization.optimizers.smac import SMACOptimizer  # noqa: E402 - needs smac

LOSS, GAIN = Metric("loss"), Metric("gain", minimize=False)
SPACE = {"x": (0.0, 1.0), "kind": ["a", None, (1, 2)]}
#: Numpy warns of a mean that SMAC only logs, where its local search ends before it has begun.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Mean of empty slice:RuntimeWarning",
    "ignore:invalid value encountered in scalar divide:RuntimeWarning",
)

BUDGETS = {"facade": "multi-fidelity", "min_budget": 1, "max_budget": 9}


def quick(scenario):
    """A search for the next configuration that is quick and not thorough."""
    maximizer = smac.HyperparameterOptimizationFacade.get_acquisition_maximizer
    return {"acquisition_maximizer": maximizer(scenario, challengers=50, local_search_iterations=1)}


def conditional_space():
    space = ConfigSpace.ConfigurationSpace({"kind": ["svm", "forest"], "c": (0.1, 10.0)})
    space.add(ConfigSpace.Integer("trees", (1, 50)))
    space.add(ConfigSpace.EqualsCondition(space["c"], space["kind"], "svm"))
    space.add(ConfigSpace.EqualsCondition(space["trees"], space["kind"], "forest"))
    return space


def success(trial: Trial, **metrics: float) -> Report:
    with trial.begin():
        pass
    return trial.success(**metrics)


def crash(trial: Trial) -> Report:
    return trial.crashed(ValueError("on purpose"))


def proposed(trials):
    return [(dict(trial.config), trial.seed, dict(trial.fidelities)) for trial in trials]


def values_of(optimizer):
    """What SMAC has in its history, by status."""
    found: dict[str, list] = {}
    for value in optimizer.facade.runhistory.values():
        found.setdefault(StatusType(value.status).name, []).append(value.cost)
    return found


class TestContract(OptimizerContract):
    seeded = True
    multi_objective = True
    strict = True
    learns = 6

    def make(self, metrics):
        return SMACOptimizer(self.space, metrics=metrics, n_trials=12, seed=1, components=quick)


class TestContractOnBudgets(OptimizerContract):
    space: ClassVar = conditional_space()
    seeded = True
    strict = True

    def make(self, metrics):
        return SMACOptimizer(
            self.space, metrics=metrics, n_trials=12, seed=1, components=quick, **BUDGETS
        )


# ------------------------------------------------------------------- as SMAC's own loop


@pytest.mark.parametrize("facade", ["hyperparameter", "random", "multi-fidelity"])
def test_proposals_are_those_of_smac_asked_and_told(facade, tmp_path):
    space = ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0), "k": ["a", "b"]})
    budgets = {"min_budget": 1, "max_budget": 9} if facade == "multi-fidelity" else {}
    kinds = {
        "hyperparameter": smac.HyperparameterOptimizationFacade,
        "random": smac.RandomFacade,
        "multi-fidelity": smac.MultiFidelityFacade,
    }
    scenario = smac.Scenario(space, output_directory=tmp_path, n_trials=12, seed=3, **budgets)
    own = kinds[facade](scenario, None, logging_level=False)
    getattr(own._model, "_rf_opts", {}).update(max_leaf_nodes=2**14)  # quicker; see the next test
    optimizer = SMACOptimizer(space, metrics=LOSS, facade=facade, n_trials=12, seed=3, **budgets)
    for _ in range(12):
        info, trial = own.ask(), optimizer.ask()
        assert dict(info.config) == trial.config
        assert (info.seed, info.budget) == (trial.seed, trial.fidelities.get("budget"))
        loss = (trial.config["x"] - 0.3) ** 2 + trial.config["y"]
        own.tell(info, TrialValue(cost=loss), save=False)
        optimizer.tell(success(trial, loss=loss))
    has_learnt = "Acquisition" in trial.info.get("origin", "")
    assert has_learnt == (facade != "random")


def test_the_random_forest_is_that_of_smac_in_less_time_and_room(tmp_path):
    space = ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)})
    scenario = smac.Scenario(space, output_directory=tmp_path, seed=3)
    own = smac.HyperparameterOptimizationFacade.get_model(scenario)
    ours = SMACOptimizer(space, metrics=LOSS, seed=3).facade._model
    assert (own._rf_opts["max_leaf_nodes"], own._rf_opts["n_jobs"]) == (2**20, -1)
    assert (ours._rf_opts["max_leaf_nodes"], ours._rf_opts["n_jobs"]) == (2**14, 1)
    points = numpy.random.default_rng(0).random((60, 2))
    for model in (own, ours):
        model.train(points[:40], points[:40, :1] ** 2)
    assert numpy.array_equal(own.predict(points)[0], ours.predict(points)[0])


def test_budgets_grow_up_to_the_most_under_the_name_that_is_given():
    optimizer = SMACOptimizer(
        SPACE, metrics=LOSS, fidelity="epochs", seed=0, components=quick, **BUDGETS
    )
    seen = set()
    for _ in range(30):
        trial = optimizer.ask()
        seen.add(trial.fidelities["epochs"])
        optimizer.tell(success(trial, loss=trial.config["x"] / trial.fidelities["epochs"]))
    assert seen == {1.0, 3.0, 9.0}


def test_better_ones_are_tried_out_with_other_seeds_unless_they_are_deterministic():
    def n_seeds(*, deterministic):
        optimizer = SMACOptimizer(
            SPACE, metrics=LOSS, facade="random", deterministic=deterministic, seed=0
        )
        trials = []
        for _ in range(20):
            trials.append(optimizer.ask())
            optimizer.tell(success(trials[-1], loss=trials[-1].config["x"]))
        return len({trial.seed for trial in trials})

    assert n_seeds(deterministic=False) > 1
    assert n_seeds(deterministic=True) == 1


def test_eight_may_be_asked_for_ahead_of_reports():
    optimizer = SMACOptimizer(SPACE, metrics=LOSS, n_trials=20, seed=0, components=quick)
    ahead = [optimizer.ask() for _ in range(8)]
    trials = ahead[:]
    while len(trials) < 24:
        trial = ahead.pop(0)
        optimizer.tell(success(trial, loss=trial.config["x"]))
        ahead.append(optimizer.ask())
        trials.append(ahead[-1])
    keys = [str(each) for each in proposed(trials)]
    assert len(set(keys)) == len(keys)


def test_several_metrics_are_objectives_of_which_less_is_better():
    optimizer = SMACOptimizer(SPACE, metrics=[LOSS, GAIN], facade="random", seed=0)
    for _ in range(12):
        trial = optimizer.ask()
        optimizer.tell(success(trial, loss=trial.config["x"], gain=trial.config["x"]))
    scenario = optimizer.facade.scenario
    assert scenario.objectives == ["loss", "gain"]
    assert all(loss == -gain for loss, gain in values_of(optimizer)["SUCCESS"])
    assert len(optimizer.facade.intensifier.get_incumbents()) > 1
    assert type(optimizer.facade._multi_objective_algorithm).__name__ == "ParEGO"


def test_parts_of_the_facade_can_be_given():
    optimizer = SMACOptimizer(
        SPACE,
        metrics=LOSS,
        components=lambda scenario: {
            "initial_design": smac.HyperparameterOptimizationFacade.get_initial_design(
                scenario, n_configs=2
            )
        },
    )
    origins = [optimizer.ask().info.get("origin", "") for _ in range(3)]
    assert [origin.startswith("Initial") for origin in origins] == [True, True, False]


def test_instances_are_options_of_the_scenario():
    optimizer = SMACOptimizer(
        SPACE,
        metrics=LOSS,
        facade="algorithm",
        seed=0,
        scenario={"instances": ["a", "b"], "instance_features": {"a": [0.0], "b": [1.0]}},
    )
    assert optimizer.ask().info["instance"] in {"a", "b"}


# ------------------------------------------------------------------- what was of no use


def test_a_crash_costs_the_worst_that_was_seen_also_later():
    optimizer = SMACOptimizer(SPACE, metrics=LOSS, facade="random", seed=0)
    trials = [optimizer.ask() for _ in range(4)]
    optimizer.tell(success(trials[0], loss=1.0))
    optimizer.tell(crash(trials[1]))
    assert values_of(optimizer)["CRASHED"] == [1.0]
    optimizer.tell(success(trials[2], loss=7.0))
    optimizer.tell(success(trials[3], loss=0.0))
    assert values_of(optimizer)["CRASHED"] == [7.0]


def test_a_crash_is_told_when_it_is_known_what_it_costs():
    optimizer = SMACOptimizer(SPACE, metrics=[LOSS, GAIN], facade="random", seed=0)
    trials = [optimizer.ask() for _ in range(2)]
    optimizer.tell(crash(trials[0]))
    assert list(values_of(optimizer)) == ["RUNNING"]
    optimizer.tell(success(trials[1], loss=2.0, gain=3.0))
    assert values_of(optimizer) == {"CRASHED": [[2.0, -3.0]], "SUCCESS": [[2.0, -3.0]]}


def test_a_crash_costs_the_worst_that_is_possible_where_that_is_known():
    accuracy = Metric("accuracy", minimize=False, bounds=(0, 1))
    optimizer = SMACOptimizer(SPACE, metrics=accuracy, facade="random")
    optimizer.tell(crash(optimizer.ask()))
    assert values_of(optimizer) == {"CRASHED": [0.0]}
    optimizer.tell(optimizer.ask().crashed(ValueError()))
    assert optimizer.facade.scenario.crash_cost == 0.0


def test_a_failed_trial_and_an_infinite_loss_are_crashes_too():
    optimizer = SMACOptimizer(SPACE, metrics=LOSS, facade="random")
    trials = [optimizer.ask() for _ in range(3)]
    optimizer.tell(success(trials[0], loss=4.0))
    optimizer.tell(success(trials[1], loss=math.inf))
    with trials[2].begin():
        pass
    optimizer.tell(trials[2].fail(loss=-1.0))
    assert values_of(optimizer) == {"SUCCESS": [4.0], "CRASHED": [4.0, 4.0]}


def test_it_learns_where_every_tenth_trial_crashes():
    optimizer = SMACOptimizer(
        SPACE, metrics=LOSS, n_trials=20, deterministic=True, seed=0, components=quick
    )
    for number in range(20):
        trial = optimizer.ask()
        if number % 10 == 0:
            optimizer.tell(crash(trial))
        else:
            optimizer.tell(success(trial, loss=abs(trial.config["x"] - 0.3)))
    history = optimizer.facade.runhistory
    assert (history.finished, history.running) == (20, 0)
    best = optimizer.facade.intensifier.get_incumbent()
    assert history.get_cost(best) < 0.05


@pytest.mark.parametrize("options", [{"facade": "random"}, BUDGETS])
def test_a_forgotten_trial_is_asked_for_again(options):
    optimizer = SMACOptimizer(SPACE, metrics=LOSS, seed=0, **options)
    cancelled = optimizer.ask()
    optimizer.forget(cancelled)
    assert optimizer.facade.runhistory.submitted == optimizer.facade.runhistory.running == 0
    trials = [optimizer.ask() for _ in range(15)]
    assert proposed([cancelled])[0] in proposed(trials)
    assert len({trial.name for trial in [cancelled, *trials]}) == 16


def test_a_trial_that_is_forgotten_again_and_again_is_a_crash():
    optimizer = SMACOptimizer(SPACE, metrics=LOSS, seed=0, **BUDGETS)
    optimizer.tell(success(optimizer.ask(), loss=1.0))
    for _ in range(16):
        optimizer.forget(optimizer.ask())
    assert values_of(optimizer) == {"SUCCESS": [1.0], "CRASHED": [1.0] * 8}


# ------------------------------------------------------------------- spaces


def test_values_are_the_users_own():
    kinds = [(1, 2), None, print]
    optimizer = SMACOptimizer({"kind": kinds, "n": (1, 4)}, metrics=LOSS, facade="random", seed=0)
    configs = [optimizer.ask().config for _ in range(10)]
    assert all(any(config["kind"] is kind for kind in kinds) for config in configs)
    assert all(type(config["n"]) is int for config in configs)


def test_only_what_is_active_is_in_a_configuration():
    optimizer = SMACOptimizer(conditional_space(), metrics=LOSS, facade="random", seed=0)
    configs = [optimizer.ask().config for _ in range(10)]
    assert {tuple(sorted(config)) for config in configs} == {("c", "kind"), ("kind", "trees")}


def test_the_users_own_space_is_left_as_it_is():
    space = conditional_space()
    space.seed(5)
    SMACOptimizer(space, metrics=LOSS, seed=0).ask()
    again = conditional_space()
    again.seed(5)
    assert space.sample_configuration() == again.sample_configuration()


@pytest.mark.parametrize("facade", [{}, BUDGETS])
def test_where_all_configurations_are_running_there_is_nothing_to_ask_for(facade):
    optimizer = SMACOptimizer({"x": (1, 3), "k": ["a", "b"]}, metrics=LOSS, seed=0, **facade)
    trials = []
    with pytest.raises(ExhaustedError, match="SMAC finds no configuration"):
        trials.extend(iter(optimizer.ask, None))
    for _ in range(2):
        with pytest.raises(ExhaustedError):
            optimizer.ask()
    assert len({str(trial.config) for trial in trials}) == 6


def test_a_choice_that_smac_cannot_write_is_an_error_that_names_the_key():
    space = ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0)})
    space.add(ConfigSpace.CategoricalHyperparameter("kind", [print, sorted]))
    with pytest.raises(InvalidSpaceError, match=r"'kind' cannot be .*print.* as JSON") as caught:
        SMACOptimizer(space, metrics=LOSS)
    assert caught.value.key == "kind"


# ------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"facade": "bayes"}, "facade='bayes' is none of SMAC's; choose one of hyperparameter"),
        ({"facade": "multi-fidelity"}, "min_budget=None and max_budget=None are not possible"),
        ({**BUDGETS, "min_budget": 0}, "min_budget=0 and max_budget=9 are not possible"),
        ({**BUDGETS, "min_budget": 10}, "min_budget=10 and max_budget=9 are not possible"),
        ({**BUDGETS, "facade": "random"}, "are of no use to RandomFacade"),
        ({"scenario": {"seed": 3}}, "has 'seed', which SMACOptimizer gives to SMAC itself"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, match):
    with pytest.raises(InvalidOptionError, match=match):
        SMACOptimizer(SPACE, metrics=LOSS, **options)


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    optimizer = SMACOptimizer(SPACE, metrics=LOSS)
    optimizer.tell(success(optimizer.ask(), loss=1.0))
    assert list(tmp_path.iterdir()) == []


def test_smac_writes_where_it_is_told_to_and_over_nothing(tmp_path):
    options = {"metrics": LOSS, "output_directory": tmp_path, "seed": 4}
    optimizer = SMACOptimizer(SPACE, **options)
    optimizer.tell(success(optimizer.ask(), loss=1.0))
    history = tmp_path / "smac" / "4" / "runhistory.json"
    assert '"finished": 1' in history.read_text()
    with pytest.raises(InvalidOptionError, match="has the files of another run"):
        SMACOptimizer(SPACE, **options)


def test_making_one_shows_nothing_and_changes_no_logging(capfd):
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    optimizer = SMACOptimizer(SPACE, metrics=LOSS)
    optimizer.tell(success(optimizer.ask(), loss=1.0))
    assert (root.level, root.handlers[:]) == before
    assert capfd.readouterr() == ("", "")
