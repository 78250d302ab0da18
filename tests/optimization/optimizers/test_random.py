import math
import os
import subprocess
import sys
import tracemalloc
from collections import Counter

import pytest
import trials
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.exceptions import ExhaustedError, InvalidOptionError, InvalidSpaceError
from amltk.optimization import Metric, RandomSearch

LOSS = Metric("loss")
SPACE = {"lr": (1e-5, 1e-1, "log"), "n": (1, 8), "kind": ["a", 1, True, None], "fixed": 3}


def search(space=SPACE, *, seed=1, **options):
    return RandomSearch(space, metrics=LOSS, seed=seed, **options)


def configs(optimizer, n):
    return [dict(optimizer.ask().config) for _ in range(n)]


def story(optimizer, n):
    trials = [optimizer.ask() for _ in range(n)]
    return [(trial.name, trial.config, trial.seed) for trial in trials]


def test_names_begin_with_the_optimizers():
    assert search().ask().name == "random-0"
    assert search(name="mine").ask().name == "mine-0"


def test_each_trial_has_a_seed_of_its_own():
    optimizer = search()
    seeds = [optimizer.ask().seed for _ in range(50)]

    assert len(set(seeds)) == 50
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)


def test_the_keys_are_in_the_order_of_the_space():
    assert list(search().ask().config) == list(SPACE)


@pytest.mark.parametrize("space", [SPACE, {"n": (1, 10), "k": ["a", "b"]}])
def test_the_same_seed_gives_the_same_trials_and_another_one_others(space):
    assert story(search(space), 20) == story(search(space), 20)
    assert configs(search(space), 20) != configs(search(space, seed=2), 20)


def test_without_a_seed_trials_differ():
    assert story(search(seed=None), 5) != story(search(seed=None), 5)


def test_a_seed_may_be_one_of_numpy():
    numpy = pytest.importorskip("numpy")

    assert story(search(seed=numpy.int64(1)), 3) == story(search(), 3)


def test_the_same_seed_gives_the_same_trials_in_another_process():
    program = f"""
from amltk.optimization import Metric, RandomSearch
optimizer = RandomSearch({SPACE!r}, metrics=Metric("loss"), seed=1)
trials = [optimizer.ask() for _ in range(20)]
print([(trial.name, trial.config, trial.seed) for trial in trials])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == repr(story(search(), 20))


def test_what_it_is_told_changes_nothing():
    one, two = search(), search()
    for _ in range(5):
        one.tell(one.ask().crashed(ValueError("bad")))
        two.forget(two.ask())

    assert story(one, 5) == story(two, 5)


def test_all_values_of_a_range_and_all_choices_are_as_likely():
    found = configs(search({"n": (1, 4), "k": ["a", "b"]}, allow_duplicates=True), 2000)

    assert all(400 < count < 600 for count in Counter(each["n"] for each in found).values())
    assert all(900 < count < 1100 for count in Counter(each["k"] for each in found).values())


def test_with_log_each_factor_of_ten_is_as_likely():
    found = configs(search({"lr": (1e-4, 1.0, "log")}), 2000)
    decades = Counter(math.floor(math.log10(each["lr"])) for each in found)

    assert set(decades) == {-4, -3, -2, -1}
    assert all(400 < count < 600 for count in decades.values())


# ------------------------------------------------------------------------------ finite spaces


def test_a_finite_space_is_used_up_and_then_it_says_so():
    found, error = trials.use_up(search({"n": (-2, 2), "k": ["a", "b"], "fixed": 3}))

    assert len(found) == len({(each["n"], each["k"]) for each in found}) == 10
    assert str(error) == (
        "'random' has nothing left to try: it was asked for all 10 configurations of its space; "
        "stop after max_trials=10, make the space larger, or use allow_duplicates=True"
    )
    assert error.n_asked == 10


def test_it_says_so_each_time():
    optimizer = search({"k": [1]})
    optimizer.ask()

    for _ in range(2):
        with pytest.raises(ExhaustedError, match="all 1 configurations"):
            optimizer.ask()


def test_equal_values_of_several_types_and_lists_are_choices_like_others():
    choices = [1, True, 1.0, [1], [2], {"a": 1}, None, len]

    found, _ = trials.use_up(search({"x": choices}))

    assert sorted(repr(each["x"]) for each in found) == sorted(map(repr, choices))


def test_the_choices_are_the_users_own_objects():
    choice = object()

    assert search({"x": [choice]}).ask().config["x"] is choice


def test_duplicates_come_if_they_are_allowed():
    found = configs(search({"k": ["a", "b"]}, allow_duplicates=True), 100)

    assert {each["k"] for each in found} == {"a", "b"}


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.one_of(
            st.tuples(st.integers(-9, -1), st.integers(0, 9)),
            st.tuples(st.integers(1, 3), st.integers(4, 12), st.just("log")),
            st.lists(st.integers(), min_size=1, max_size=5, unique=True),
            st.integers(),
        ),
        min_size=1,
    )
)
def test_any_finite_space_is_used_up_exactly(space):
    sizes = {
        tuple: lambda part: part[1] - part[0] + 1,
        list: len,
        int: lambda _: 1,
    }
    size = math.prod(sizes[type(part)](part) for part in space.values())

    found, error = trials.use_up(search(space))

    assert len(found) == size == error.n_asked
    assert len({tuple(each.values()) for each in found}) == size


def test_the_last_configurations_take_no_longer_to_find():
    optimizer = search({"n": (1, 100), "k": list(range(20))})
    draw = optimizer._draws.draw
    n_drawn = 0

    def counted():
        nonlocal n_drawn
        n_drawn += 1
        return draw()

    optimizer._draws.draw = counted

    assert len(trials.use_up(optimizer)[0]) == 2000
    assert n_drawn < 3 * 2000


def test_the_last_configurations_come_in_random_order_too():
    last = [each["n"] for each in trials.use_up(search({"n": (1, 300)}))[0][-50:]]

    assert last not in (sorted(last), sorted(last, reverse=True))


def test_a_space_too_large_to_be_listed_is_searched_on():
    found = configs(search({"n": (1, 10**12, "log")}), 3000)

    assert len({each["n"] for each in found}) == 3000


def test_a_space_that_is_nearly_of_one_value_ends_the_search_with_other_words():
    narrow = {"x": (1.0, math.nextafter(1.0, 2.0))}

    found, error = trials.use_up(search(narrow))

    assert sorted(each["x"] for each in found) == sorted(narrow["x"])
    assert "found nothing new in 10000 draws, after it was asked for 2" in str(error)


def test_the_memory_of_a_search_grows_by_little_with_each_trial():
    optimizer = search()

    tracemalloc.start()
    for _ in range(5000):
        optimizer.forget(optimizer.ask())
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert grown / 5000 < 250


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize("space", [{}, {"n": (8, 1)}, None])
def test_a_bad_space_is_an_error(space):
    with pytest.raises(InvalidSpaceError):
        search(space)


def test_metrics_are_needed():
    with pytest.raises(InvalidOptionError, match="there is none"):
        RandomSearch(SPACE, metrics=[])


# ------------------------------------------------------------------------------ ConfigSpace


@pytest.fixture
def library():
    return pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")


@pytest.fixture
def dependent(library):
    """A space of 3 * 4 + 3 - 1 configurations."""
    space = library.ConfigurationSpace({"kind": ["a", "b"], "n": (-2, 0)}, seed=5)
    space.add(library.Integer("depth", (1, 4), log=True))
    space.add(library.EqualsCondition(space["depth"], space["kind"], "a"))
    clause = library.ForbiddenEqualsClause
    space.add(library.ForbiddenAndConjunction(clause(space["kind"], "b"), clause(space["n"], 0)))
    return space


def test_a_space_with_conditions_and_forbidden_clauses_is_used_up(dependent):
    found, error = trials.use_up(search(dependent))

    assert len({tuple(sorted(each.items())) for each in found}) == len(found) == error.n_asked == 14
    assert {"depth" in each for each in found if each["kind"] == "b"} == {False}
    assert {"kind": "b", "n": 0} not in found


def test_its_values_are_plain_ones(dependent):
    types = {type(value) for each in configs(search(dependent), 14) for value in each.values()}

    assert types == {int, str}


def test_the_users_space_stays_as_it_is(dependent, library):
    before = dependent.random.get_state()[1].tolist()

    optimizer = search(dependent)
    configs(optimizer, 5)
    assert dependent.random.get_state()[1].tolist() == before

    expected = configs(search(dependent), 14)
    optimizer = search(dependent)
    dependent.add(library.Float("late", (0.0, 1.0)))
    assert configs(optimizer, 14) == expected


def test_the_same_seed_draws_the_same_from_configspace(dependent):
    assert story(search(dependent), 14) == story(search(dependent), 14)
    assert configs(search(dependent), 14) != configs(search(dependent, seed=2), 14)


def test_choices_of_configspace_are_the_users_own_objects(library):
    choices = [object(), (1, 2), 1, 2.5, None, "x"]
    space = library.ConfigurationSpace()
    space.add(library.CategoricalHyperparameter("x", choices))

    found, _ = trials.use_up(search(space))

    assert {id(each["x"]) for each in found} == set(map(id, choices))


def test_an_infinite_space_of_configspace_has_always_more(library):
    space = library.ConfigurationSpace({"x": (0.0, 1.0), "k": ["a", "b"]})

    found = configs(search(space), 300)

    assert len({(each["x"], each["k"]) for each in found}) == 300


def test_a_choice_with_the_weight_0_is_never_taken(library):
    space = library.ConfigurationSpace()
    space.add(library.CategoricalHyperparameter("x", ["a", "b", "c"], weights=[1, 0, 1]))

    found, _ = trials.use_up(search(space))

    assert sorted(each["x"] for each in found) == ["a", "c"]


def test_an_empty_configuration_space_is_an_error(library):
    with pytest.raises(InvalidSpaceError, match="is empty; add hyperparameters"):
        search(library.ConfigurationSpace())
