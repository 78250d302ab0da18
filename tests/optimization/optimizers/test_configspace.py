"""From a mapping to ConfigSpace, and from its configurations back."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.optimization.optimizers._configspace import decode, plain_config, to_configspace
from amltk.optimization.space import Choice, Float, Int, parse_space

library = pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")

POSITIVE = st.floats(1e-200, 1e200)
FLOATS = st.tuples(st.floats(-1e200, 1e200), st.floats(-1e200, 1e200))
LOG = st.tuples(POSITIVE, POSITIVE, st.just("log"))
INTS = st.tuples(st.integers(-(10**20), 10**20), st.integers(-(10**20), 10**20))
INT_LOG = st.tuples(st.integers(1, 10**20), st.integers(1, 10**20), st.just("log"))


def sampled(space, n=50, *, seed=1):
    dimensions = parse_space(space)
    drawn = to_configspace(dimensions, seed=seed).sample_configuration(n)
    return [decode(each, dimensions) for each in drawn]


def test_a_configuration_comes_back_in_the_order_of_the_space():
    space = {"z": (0.0, 1.0), "a": (1, 8), "m": ["x", "y"], "c": 3}

    assert {tuple(each) for each in sampled(space)} == {("z", "a", "m", "c")}


def test_choices_of_any_kind_come_back_as_the_users_own_objects():
    choices = [1, True, 1.0, "1", "a", None, (1, 2), [3], {"a": 1}, len, math.nan]

    found = {id(each["x"]) for each in sampled({"x": choices}, 300)}

    assert found == set(map(id, choices))


@pytest.mark.parametrize("constant", [3, "svm", None, True, 0.5])
def test_a_constant_comes_back(constant):
    assert sampled({"c": constant, "x": (0.0, 1.0)}, 2)[0]["c"] is constant


def test_a_single_choice_and_a_space_of_constants_work():
    assert sampled({"k": [[1]], "c": 3}, 2) == [{"k": [1], "c": 3}] * 2


@settings(max_examples=60)
@given(st.one_of(FLOATS, LOG, INTS, INT_LOG).filter(lambda ends: ends[0] < ends[1]))
def test_a_number_comes_back_within_its_range_and_of_its_type(ends):
    (dimension,) = parse_space({"x": ends}).values()
    kind = float if isinstance(dimension, Float) else int

    for each in sampled({"x": ends}, 20):
        assert dimension.low <= each["x"] <= dimension.high
        assert type(each["x"]) is kind


@pytest.mark.parametrize(
    "ends", [(1e-20, 1e-15, "log"), (0.0, 1e-12), (1e-9, 1e-1, "log"), (0, 10**18)]
)
def test_values_differ_where_configspace_would_round_them(ends):
    assert len({each["x"] for each in sampled({"x": ends})}) == 50


def test_a_value_that_configspace_has_rounded_out_of_its_range_comes_back_as_its_end():
    low, high = 0.12345678901234567, 0.98765432109876543
    dimensions = {"x": Float(low, high)}
    space = to_configspace(dimensions)

    assert space["x"].lower < low
    assert decode({"x": space["x"].lower}, dimensions) == {"x": low}
    assert decode({"x": space["x"].upper + 1e-13}, dimensions) == {"x": high}


def test_by_the_logarithm_each_factor_of_ten_is_as_likely():
    for space in ({"x": (1e-4, 1.0, "log")}, {"x": (1e-20, 1e-16, "log")}):
        low = round(math.log10(space["x"][0]))
        decades = [math.floor(math.log10(each["x"])) for each in sampled(space, 2000)]
        assert all(400 < decades.count(low + step) < 600 for step in range(4))


def test_the_seed_makes_it_repeatable():
    space = {"x": (0.0, 1.0), "k": ["a", "b"]}

    assert sampled(space) == sampled(space)
    assert sampled(space) != sampled(space, seed=2)


def test_dimensions_may_be_given_as_what_they_are():
    dimensions = {"n": Int(1, 3), "k": Choice(("a",))}

    assert decode(to_configspace(dimensions).get_default_configuration(), dimensions)["k"] == "a"


@pytest.fixture
def space():
    space = library.ConfigurationSpace({"n": (1, 5), "x": (0.0, 1.0)}, seed=1)
    space.add(
        library.CategoricalHyperparameter("kind", ["a", "b"]),
        library.CategoricalHyperparameter("number", [2, 2.5]),
        library.CategoricalHyperparameter("flag", [True, False]),
        library.CategoricalHyperparameter("mixed", [None, (1, 2), "x", 3]),
        library.OrdinalHyperparameter("size", [1, 5, 9]),
        library.Constant("fixed", 7),
        library.NormalIntegerHyperparameter("normal", 3, 1, lower=0, upper=9),
        library.BetaFloatHyperparameter("beta", 2, 2, lower=0, upper=9),
    )
    space.add(library.EqualsCondition(space["size"], space["kind"], "a"))
    return space


def test_a_users_own_configuration_becomes_plain_values(space):
    kinds = {
        "n": {int},
        "x": {float},
        "kind": {str},
        "number": {int, float},
        "flag": {bool},
        "mixed": {type(None), tuple, str, int},
        "size": {int},
        "fixed": {int},
        "normal": {int},
        "beta": {float},
    }
    found = {key: set() for key in kinds}
    for configuration in space.sample_configuration(200):
        for key, value in plain_config(configuration).items():
            found[key].add(type(value))

    assert found == kinds


def test_values_are_those_of_the_configuration(space):
    for configuration in space.sample_configuration(50):
        assert plain_config(configuration) == dict(configuration)


def test_keys_whose_conditions_do_not_hold_are_left_out(space):
    for configuration in space.sample_configuration(50):
        config = plain_config(configuration)
        assert ("size" in config) == (config["kind"] == "a")


def test_choices_that_are_scalars_of_numpy_become_plain_ones():
    numpy = pytest.importorskip("numpy")
    space = library.ConfigurationSpace()
    space.add(library.CategoricalHyperparameter("x", list(numpy.array([1.5, 2.5]))))

    assert type(plain_config(space.sample_configuration())["x"]) is float
