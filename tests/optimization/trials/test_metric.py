import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.exceptions import InvalidOptionError, MetricError
from amltk.optimization import Metric
from amltk.optimization.trials.metric import as_metrics, dominates

LOSS = Metric("loss")
ACCURACY = Metric("accuracy", minimize=False, bounds=(0, 1))

NUMBERS = st.floats(-1e150, 1e150)
BOUNDS = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda b: b[0] < b[1]).map(tuple)
ANY_BOUNDS = st.one_of(
    st.none(), BOUNDS, NUMBERS.map(lambda low: (low, math.inf)), st.just((-math.inf, math.inf))
)
METRICS = st.builds(Metric, st.text(min_size=1), minimize=st.booleans(), bounds=ANY_BOUNDS)


@given(METRICS)
def test_parse_reads_what_str_writes(metric):
    assert Metric.parse(str(metric)) == metric


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("loss (minimize)", LOSS),
        ("accuracy (maximize) [0.0, 1.0]", ACCURACY),
        ("a b (minimize) [0, inf]", Metric("a b", bounds=(0, math.inf))),
        ("a (minimize) (maximize)", Metric("a (minimize)", minimize=False)),
    ],
)
def test_a_metric_can_be_written_as_text(text, metric):
    assert Metric.parse(text) == metric


@pytest.mark.parametrize(
    "text", ["", "loss", "loss (least)", "(minimize)", "loss (minimize) [1]", "a (minimize) [x, 1]"]
)
def test_another_text_is_no_metric(text):
    with pytest.raises(InvalidOptionError, match="write it such as 'accuracy") as info:
        Metric.parse(text)
    assert (info.value.option, info.value.value) == ("text", text)


def test_bounds_in_a_text_have_to_make_sense():
    with pytest.raises(InvalidOptionError, match="give the least and the most"):
        Metric.parse("a (minimize) [2, 1]")


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_metric_needs_a_name(name):
    with pytest.raises(InvalidOptionError, match="needs a name") as info:
        Metric(name)
    assert info.value.option == "name"


@pytest.mark.parametrize(
    "bounds", [(1, 0), (1, 1), (0, math.nan), (0,), (0, 1, 2), 3, "01x", (0, "x"), (None, 1)]
)
def test_bounds_that_are_none_are_refused(bounds):
    with pytest.raises(InvalidOptionError, match="give the least and the most") as info:
        Metric("loss", bounds=bounds)
    assert (info.value.option, info.value.value) == ("bounds", bounds)


def test_less_is_better_by_default():
    assert LOSS.is_better(1, than=2)
    assert not LOSS.is_better(2, than=2)
    assert LOSS.best([3, 1, 2]) == 1


def test_more_is_better_of_what_is_maximized():
    assert ACCURACY.is_better(0.9, than=0.8)
    assert ACCURACY.best([0.1, 0.9, 0.5]) == 0.9


@pytest.mark.parametrize(
    ("metric", "best", "worst"),
    [
        (LOSS, -math.inf, math.inf),
        (ACCURACY, 1, 0),
        (Metric("s", bounds=(0, math.inf)), 0, math.inf),
    ],
)
def test_the_best_and_worst_possible_are_the_bounds(metric, best, worst):
    assert (metric.best_possible, metric.worst_possible) == (best, worst)


@given(st.booleans(), NUMBERS, NUMBERS)
def test_the_loss_is_less_exactly_if_a_value_is_better(minimize, one, two):
    metric = Metric("m", minimize=minimize)

    assert (metric.loss(one) < metric.loss(two)) == metric.is_better(one, than=two)


@given(st.booleans(), BOUNDS, st.floats(0, 1))
def test_a_normalized_loss_lies_between_0_and_1(minimize, bounds, position):
    low, high = bounds
    metric = Metric("m", minimize=minimize, bounds=bounds)
    value = min(high, max(low, low + position * (high - low)))

    assert 0 <= metric.normalized_loss(value) <= 1
    assert metric.normalized_loss(metric.best_possible) == 0
    assert metric.normalized_loss(metric.worst_possible) == 1


@pytest.mark.parametrize("metric", [LOSS, Metric("loss", bounds=(0, math.inf))])
def test_without_finite_bounds_no_loss_is_normalized(metric):
    with pytest.raises(MetricError, match=r"no finite bounds; make it with Metric\('loss'"):
        metric.normalized_loss(0.5)


@pytest.mark.parametrize("value", [0, 1, 0.5, True])
def test_a_value_within_the_bounds_is_a_number(value):
    checked = ACCURACY.check(value)

    assert checked == value
    assert type(checked) is float


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")

    assert type(ACCURACY.check(numpy.float32(0.5))) is float
    assert ACCURACY.check(numpy.array(0.5)) == 0.5


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (math.nan, "is NaN"),
        (1.01, r"out of its bounds \[0.0, 1.0\]"),
        (-math.inf, "out of its bounds"),
        ("0.5", "no number"),
        (None, "no number"),
        ([0.5], "no number"),
        (1j, "no number"),
        (10**400, "no number"),
    ],
)
def test_another_value_is_an_error_that_says_why(value, why):
    with pytest.raises(MetricError, match=f"'accuracy'.* {why}") as info:
        ACCURACY.check(value)
    assert info.value.metric == "accuracy"
    assert info.value.value is value


def test_without_bounds_an_infinite_value_is_one():
    assert LOSS.check(math.inf) == math.inf


def test_a_metric_can_be_compared_hashed_and_sent():
    assert Metric("accuracy", minimize=False, bounds=(0.0, 1.0)) == ACCURACY
    assert len({ACCURACY, LOSS, Metric("loss")}) == 2
    assert pickle.loads(pickle.dumps(ACCURACY)) == ACCURACY


def test_one_metric_or_several_make_a_tuple():
    assert as_metrics(LOSS) == (LOSS,)
    assert as_metrics(metric for metric in (LOSS, ACCURACY)) == (LOSS, ACCURACY)


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ((), "there is none"),
        ((LOSS, ACCURACY, Metric("loss", minimize=False)), "loss is there twice"),
        (("loss",), "'loss' is no metric; write it such as Metric"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(metrics, why):
    with pytest.raises(InvalidOptionError, match=why) as info:
        as_metrics(metrics)
    assert info.value.option == "metrics"


@pytest.mark.parametrize(
    ("values", "others", "expected"),
    [
        ((1, 0.5), (2, 0.5), True),
        ((1, 0.6), (1, 0.5), True),
        ((1, 0.5), (1, 0.5), False),
        ((1, 0.5), (2, 0.6), False),
        ((2, 0.5), (1, 0.5), False),
    ],
)
def test_to_dominate_is_to_be_worse_by_no_metric_and_better_by_one(values, others, expected):
    one, two = ({"loss": loss, "accuracy": accuracy} for loss, accuracy in (values, others))

    assert dominates(one, two, (LOSS, ACCURACY)) is expected


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=2))
def test_two_never_dominate_each_other(pair):
    one, two = ({"loss": a, "gain": b} for a, b in pair)
    metrics = (LOSS, Metric("gain", minimize=False))

    assert not (dominates(one, two, metrics) and dominates(two, one, metrics))
