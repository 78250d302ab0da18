import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.exceptions import InvalidSpaceError
from amltk.optimization.space import (
    Choice,
    Constant,
    Float,
    Int,
    is_configspace,
    parse_space,
    size_of,
)

POSITIONS = st.floats(0, 1)
FINITE = st.floats(-1e300, 1e300)
POSITIVE = st.floats(1e-300, 1e300)
WHOLE = st.integers(-(10**15), 10**15)


def ranges(numbers, kind, *, log=False):
    pairs = st.tuples(numbers, numbers).map(sorted).filter(lambda ends: ends[0] < ends[1])
    return pairs.map(lambda ends: kind(*ends, log))


FLOATS = ranges(FINITE, Float) | ranges(POSITIVE, Float, log=True)
INTS = ranges(WHOLE, Int) | ranges(st.integers(1, 10**15), Int, log=True)


def test_each_way_of_writing_a_part_is_understood():
    space = {
        "lr": (1e-5, 1e-1, "log"),
        "drop": (0, 0.5),
        "layers": (1, 8),
        "width": (1, 1024, "log"),
        "kernel": ["rbf", "linear", None],
        "seed": 3,
        "name": "svm",
        "none": None,
    }

    assert parse_space(space) == {
        "lr": Float(1e-5, 1e-1, log=True),
        "drop": Float(0.0, 0.5),
        "layers": Int(1, 8),
        "width": Int(1, 1024, log=True),
        "kernel": Choice(("rbf", "linear", None)),
        "seed": Constant(3),
        "name": Constant("svm"),
        "none": Constant(None),
    }


def test_the_keys_keep_their_order():
    assert list(parse_space({"z": 1, "a": 2, "m": 3})) == ["z", "a", "m"]


def test_a_part_may_be_given_as_what_it_is():
    space = {
        "lr": Float(1, 8),
        "n": Int(1, 8, log=True),
        "k": Choice((1, 2)),
        "f": Constant((1, 2)),
    }

    assert parse_space(space) == space
    assert type(parse_space(space)["lr"].low) is float


def test_choices_of_equal_values_and_other_types_are_two():
    choices = [1, True, 1.0, "1", (1,), [1]]

    assert parse_space({"x": choices})["x"].values == tuple(choices)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ([], "nothing to choose from"),
        (["a", "b", "a"], "'a' is there twice"),
        ([[1], [1]], r"\[1\] is there twice"),
        (Choice(()), "nothing to choose from"),
        ((1,), "a range is"),
        ((1, 2, 3), "a range is"),
        ((1, 2, "linear"), "a range is"),
        ((1, 2, "log", 4), "a range is"),
        (("a", "b"), "choices are written as a list"),
        ((False, True), "choices are written as a list"),
        ((2, 1), "less than the second"),
        ((1, 1), "less than the second"),
        ((0.0, math.inf), "both finite"),
        ((-math.inf, 0), "both finite"),
        ((math.nan, 1), "less than the second"),
        ((-1e308, 1e308), "both finite"),
        ((0, 1, "log"), "both numbers have to be above 0"),
        ((-1.0, 1.0, "log"), "both numbers have to be above 0"),
        (Float(1.0, 0.0), "less than the second"),
        (Int(0, 9, log=True), "both numbers have to be above 0"),
        ({1, 2}, "a list of choices"),
        ({"a": 1}, "a list of choices"),
        (range(3), "a list of choices"),
        (object, "a list of choices"),
    ],
)
def test_a_bad_part_is_an_error_that_names_the_key(part, why):
    with pytest.raises(InvalidSpaceError, match=f"key 'bad' cannot be .*{why}") as info:
        parse_space({"good": 1, "bad": part})
    assert info.value.key == "bad"


@pytest.mark.parametrize("key", ["", 3, None, ("a", "b")])
def test_a_key_is_a_text(key):
    with pytest.raises(InvalidSpaceError, match="keys are texts"):
        parse_space({key: 1})


@pytest.mark.parametrize("space", [{}, None, [("lr", 1)], "lr", 3])
def test_what_is_no_mapping_or_empty_is_no_space(space):
    with pytest.raises(InvalidSpaceError, match="no space; write it such as"):
        parse_space(space)


@given(FLOATS, POSITIONS)
def test_a_number_lies_within_its_range(dimension, position):
    value = dimension.at(position)

    assert dimension.low <= value <= dimension.high
    assert type(value) is float


@given(INTS, POSITIONS)
def test_a_whole_number_lies_within_its_range(dimension, position):
    value = dimension.at(position)

    assert dimension.low <= value <= dimension.high
    assert type(value) is int


@given(FLOATS | INTS, POSITIONS, POSITIONS)
def test_a_greater_position_is_no_smaller_value(dimension, one, two):
    one, two = sorted((one, two))

    assert dimension.at(one) <= dimension.at(two)


@given(FLOATS | INTS, st.integers(2, 30))
def test_a_grid_goes_from_one_end_to_the_other(dimension, points):
    grid = dimension.grid(points)

    assert (grid[0], grid[-1]) == (dimension.low, dimension.high)
    assert grid == sorted(grid)
    assert len(grid) == points if isinstance(dimension, Float) else len(grid) <= points


@given(INTS, st.integers(1, 30))
def test_a_grid_has_no_whole_number_twice(dimension, points):
    grid = dimension.grid(points)

    assert len(set(grid)) == len(grid)
    assert {type(value) for value in grid} == {int}


def test_a_grid_of_one_point_is_the_middle():
    assert Float(0.0, 10.0).grid(1) == [5.0]
    assert Float(1e-4, 1.0, log=True).grid(1) == [pytest.approx(1e-2)]
    assert Int(0, 10).grid(1) == [5]


def test_a_grid_with_points_enough_has_all_whole_numbers():
    assert Int(1, 8).grid(8) == Int(1, 8).grid(1000) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_grid_by_the_logarithm_multiplies():
    assert Float(1e-4, 1.0, log=True).grid(5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert Int(1, 1000, log=True).grid(4) == [1, 10, 100, 1000]


@given(st.lists(st.integers(), min_size=1, max_size=9, unique=True), POSITIONS)
def test_a_choice_is_one_of_its_values(values, position):
    choice = Choice(tuple(values))

    assert choice.at(position) in values
    assert choice.grid(1) == values


def test_all_whole_numbers_and_choices_are_equally_likely():
    positions = [(step + 0.5) / 1000 for step in range(1000)]
    numbers = [Int(1, 4).at(position) for position in positions]
    choices = [Choice(("a", "b")).at(position) for position in positions]

    assert [numbers.count(n) for n in (1, 2, 3, 4)] == [250] * 4
    assert [choices.count(c) for c in ("a", "b")] == [500] * 2


def test_a_constant_is_always_the_same():
    value = object()

    assert Constant(value).at(0.3) is value
    assert Constant(value).grid(5) == [value]


def test_the_size_is_the_number_of_configurations():
    assert size_of(parse_space({"n": (1, 8), "k": ["a", "b"], "c": 1})) == 16
    assert size_of(parse_space({"n": (1, 8), "x": (0.0, 1.0)})) == math.inf


def test_a_space_of_configspace_is_known_as_one():
    library = pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")

    class Own(library.ConfigurationSpace):
        pass

    assert is_configspace(library.ConfigurationSpace())
    assert is_configspace(Own())
    assert not is_configspace({"lr": (0.0, 1.0)})
