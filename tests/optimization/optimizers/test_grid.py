import math

import pytest
import trials
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.exceptions import InvalidOptionError, InvalidSpaceError
from amltk.optimization import GridSearch, Metric

LOSS = Metric("loss")


def grid(space, **options):
    return GridSearch(space, metrics=LOSS, **options)


def test_all_combinations_come_with_the_last_key_fastest():
    optimizer = grid({"n": (1, 2), "kind": ["b", "a"], "fixed": 3})

    found, _ = trials.use_up(optimizer)

    assert found == [
        {"n": 1, "kind": "b", "fixed": 3},
        {"n": 1, "kind": "a", "fixed": 3},
        {"n": 2, "kind": "b", "fixed": 3},
        {"n": 2, "kind": "a", "fixed": 3},
    ]
    assert len(optimizer) == 4


def test_at_the_end_it_says_how_many_there_were():
    _, error = trials.use_up(grid({"k": ["a", "b", "c"]}))

    assert str(error) == (
        "'grid' has nothing left to try: it was asked for all 3 combinations of its grid; "
        "stop after max_trials=3, or give more points"
    )
    assert error.n_asked == 3


def test_a_range_is_divided_into_five_points_by_default():
    found, _ = trials.use_up(grid({"x": (0.0, 1.0), "n": (1, 3)}))

    assert sorted({each["x"] for each in found}) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert sorted({each["n"] for each in found}) == [1, 2, 3]


def test_points_may_be_given_for_all_ranges_or_by_key():
    space = {"x": (0.0, 1.0), "lr": (0.01, 1.0, "log"), "k": ["a", "b"]}

    assert len(grid(space, points=3)) == 3 * 3 * 2
    assert len(grid(space, points={"x": 2})) == 2 * 5 * 2
    assert len(grid(space, points={"x": 2, "lr": 1})) == 2 * 1 * 2


@pytest.mark.parametrize("points", [{"k": 2}, {"fixed": 2}, {"zz": 2}])
def test_points_of_what_is_no_range_are_an_error_that_names_it(points):
    space = {"x": (0.0, 1.0), "n": (1, 9), "k": ["a", "b"], "fixed": 3}

    with pytest.raises(
        InvalidOptionError, match=r"is no range of the space; its.*'x', 'n'"
    ) as info:
        grid(space, points=points)
    assert repr(next(iter(points))) in str(info.value)
    assert (info.value.option, info.value.value) == ("points", points)


@pytest.mark.parametrize("number", [0, -1, 2.5, True, None, "5"])
def test_a_number_of_points_is_a_whole_one_above_0(number):
    for points in (number, {"x": number}):
        with pytest.raises(InvalidOptionError, match="give a whole number above 0"):
            grid({"x": (0.0, 1.0)}, points=points)


def test_a_huge_grid_costs_nothing_before_it_is_asked_for():
    optimizer = grid({f"x{i}": (0.0, 1.0) for i in range(15)}, points=10)

    assert len(optimizer) == 10**15
    first, second = optimizer.ask().config, optimizer.ask().config
    assert set(first.values()) == {0.0}
    assert {key for key in second if second[key]} == {"x14"}


def test_trials_have_seeds_if_the_grid_has_one():
    def seeds(**options):
        optimizer = grid({"k": list(range(20))}, **options)
        return [optimizer.ask().seed for _ in range(20)]

    assert set(seeds()) == {None}
    assert seeds(seed=1) == seeds(seed=1) != seeds(seed=2)
    assert len(set(seeds(seed=1))) == 20


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.one_of(
            st.tuples(st.floats(-9, -1), st.floats(0, 9)),
            st.tuples(st.integers(1, 3), st.integers(4, 12), st.just("log")),
            st.lists(st.integers(), min_size=1, max_size=4, unique=True),
        ),
        min_size=1,
    ),
    st.integers(1, 6),
)
def test_a_grid_is_as_long_as_it_says_and_within_the_space(space, points):
    optimizer = grid(space, points=points)

    found, _ = trials.use_up(optimizer)

    assert len(found) == len(optimizer) == len({tuple(each.values()) for each in found})
    for each in found:
        for key, part in space.items():
            assert each[key] in part if isinstance(part, list) else part[0] <= each[key] <= part[1]


def test_a_bad_space_is_an_error():
    with pytest.raises(InvalidSpaceError, match="'n'"):
        grid({"n": (8, 1)})


# ------------------------------------------------------------------------------ ConfigSpace


@pytest.fixture
def library():
    return pytest.importorskip("ConfigSpace", reason="the extra configspace is not installed")


def as_set(found):
    return {tuple(sorted(each.items())) for each in found}


def test_conditions_and_forbidden_clauses_hold(library):
    space = library.ConfigurationSpace({"kind": ["a", "b"], "n": (0, 2), "lr": (0.01, 1.0)})
    space.add(library.Integer("depth", (1, 100), log=True))
    space.add(library.EqualsCondition(space["depth"], space["kind"], "a"))
    clause = library.ForbiddenEqualsClause
    space.add(library.ForbiddenAndConjunction(clause(space["kind"], "b"), clause(space["n"], 0)))
    optimizer = grid(space, points={"n": 3, "lr": 2, "depth": 3})

    found, _ = trials.use_up(optimizer)

    with_depth = [(lr, n, depth) for lr in (0.01, 1.0) for n in (0, 1, 2) for depth in (1, 10, 100)]
    expected = [{"kind": "a", "lr": lr, "n": n, "depth": depth} for lr, n, depth in with_depth]
    expected += [{"kind": "b", "lr": lr, "n": n} for lr in (0.01, 1.0) for n in (1, 2)]
    assert as_set(found) == as_set(expected)
    assert len(found) == len(expected) == len(optimizer)


def nested(library, space):
    space.add(library.Categorical("r", ["a", "b"]), library.Integer("m", (1, 3)))
    space.add(library.Categorical("c", ["u", "v"]))
    space.add(library.EqualsCondition(space["m"], space["r"], "a"))
    space.add(library.NotEqualsCondition(space["c"], space["m"], 2))


def either(library, space):
    space.add(library.Categorical("r", ["a", "b"]), library.Integer("m", (1, 2)))
    space.add(library.Categorical("c", ["u", "v"]), library.Categorical("q", ["y", "n"]))
    space.add(library.EqualsCondition(space["m"], space["r"], "a"))
    one = library.EqualsCondition(space["c"], space["m"], 2)
    two = library.EqualsCondition(space["c"], space["q"], "y")
    space.add(library.OrConjunction(one, two))


def both(library, space):
    space.add(library.Categorical("z", ["a", "b"]), library.Integer("y", (1, 9)))
    space.add(library.OrdinalHyperparameter("w", [1, 5, 9]), library.Constant("k", "c"))
    space.add(library.EqualsCondition(space["y"], space["z"], "a"))
    above = library.GreaterThanCondition(space["w"], space["y"], 3)
    below = library.LessThanCondition(space["w"], space["y"], 8)
    space.add(library.AndConjunction(above, below))
    space.add(library.ForbiddenInClause(space["y"], [4, 9]))


def compared(library, space):
    space.add(library.Integer("a", (1, 9), log=True, default=8), library.Integer("b", (1, 9)))
    space.add(library.ForbiddenLessThanRelation(space["a"], space["b"]))


@pytest.mark.parametrize("fill", [nested, either, both, compared])
def test_a_finite_space_in_full_is_what_configspace_can_draw(library, fill):
    space = library.ConfigurationSpace(seed=1)
    fill(library, space)

    found, _ = trials.use_up(grid(space, points=100))

    drawn = [dict(each) for each in space.sample_configuration(3000)]
    assert as_set(found) == as_set(drawn)
    assert len(found) == len(as_set(found))


def test_its_values_are_plain_ones_and_the_users_own_objects(library):
    choices = [object(), (1, 2), 1, 2.5, None]
    space = library.ConfigurationSpace({"n": (1, 2), "x": (0.0, 1.0)})
    space.add(library.CategoricalHyperparameter("c", choices))

    found, _ = trials.use_up(grid(space, points=2))

    assert {id(each["c"]) for each in found} == set(map(id, choices))
    assert {type(each["n"]) for each in found} == {int}
    assert {type(each["x"]) for each in found} == {float}


def test_the_points_of_a_range_of_configspace_are_exact(library):
    space = library.ConfigurationSpace()
    space.add(library.Float("lr", (1e-5, 1e-1), log=True))

    found, _ = trials.use_up(grid(space, points=2))

    assert [each["lr"] for each in found] == [1e-5, 1e-1]


def test_the_length_of_a_huge_grid_without_conditions_is_known_at_once(library):
    space = library.ConfigurationSpace({f"x{i}": (0.0, 1.0) for i in range(12)})

    assert len(grid(space, points=10)) == 10**12
    assert math.prod(grid(space, points=10).ask().config.values()) == 0


def test_points_of_a_choice_of_configspace_are_an_error(library):
    space = library.ConfigurationSpace({"k": ["a", "b"], "x": (0.0, 1.0)})

    with pytest.raises(InvalidOptionError, match=r"'k' is no range of the space; its ranges.*'x'"):
        grid(space, points={"k": 2})
