"""Pictures of a history: what is drawn where."""

import math
import os
import subprocess
import sys

import pytest
from histories import ACCURACY, LOSS, crash, fail, report

from amltk.exceptions import HistoryError, InvalidOptionError
from amltk.optimization import Metric, Trial
from amltk.optimization.history import plots
from amltk.optimization.history.history import History
from amltk.optimization.trials.measure import Timing

matplotlib = pytest.importorskip("matplotlib", reason="the extra plots is not installed")
matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402 - after the backend was chosen
from matplotlib.colors import to_hex  # noqa: E402 - as above

SIZE = Metric("size")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def history():
    return History(
        [
            report("a", loss=3.0),
            crash("b"),
            report("c", loss=1.0),
            fail("d"),
            report("e", loss=2.0),
        ]
    )


def line(ax, label):
    """Return the points of what is in the legend by a label."""
    [found] = [each for each in ax.get_lines() if each.get_label() == label]
    return [(float(x), float(y)) for x, y in found.get_xydata()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def timed(start, end, **others):
    return {"time": Timing(start, end, end - start, 0.0), **others}


# ----------------------------------------------------------------------------------- any of them


def test_pictures_take_reports_in_whatever_they_are(history):
    drawn = [
        plots.plot_score(list(history), LOSS),
        plots.plot_parallel(tuple(history.successes()), LOSS),
        plots.plot_timeline([report("a", loss=1.0, **timed(0.0, 1.0))]),
    ]

    assert line(drawn[0], "best so far") == line(history.plot_score(), "best so far")
    assert all(ax.has_data() for ax in drawn)


def draw_all(history, ax=None):
    yield history.plot_score("loss", ax=ax)
    yield history.plot_score("loss", x="time", ax=ax)
    yield history.plot_parallel("loss", ax=ax)
    yield history.plot_pareto(["loss", "size"], ax=ax)
    yield history.plot_timeline(ax=ax)


def one_report():
    given = timed(0.0, 1.0, worker="here:1", metrics=(LOSS, SIZE), config={"x": 1})
    return History([report("a", loss=1.0, size=2.0, **given)])


@pytest.mark.parametrize("place", range(5))
def test_one_report_is_enough_for_a_picture(place, tmp_path):
    ax = list(draw_all(one_report()))[place]

    ax.figure.savefig(tmp_path / "picture.png")
    assert ax.has_data()


@pytest.mark.parametrize("place", range(5))
def test_a_picture_is_drawn_where_it_is_wanted_without_a_figure_of_its_own(place):
    figure = matplotlib.figure.Figure()
    ax = figure.add_subplot()

    assert all(drawn is ax for drawn in [list(draw_all(one_report(), ax))[place]])
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", ["plot_score", "plot_parallel"])
def test_without_a_success_there_is_no_picture(name):
    history = History([crash("a"), fail("b")])

    with pytest.raises(HistoryError, match="none of 2 reports is a success"):
        getattr(history, name)("loss")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("place", range(5))
def test_the_legend_hides_no_data(place):
    ax = list(draw_all(one_report()))[place]
    ax.figure.canvas.draw()

    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1


def test_a_picture_loads_matplotlib_and_a_history_does_not():
    script = """
import sys
from amltk.optimization import Metric, Trial
from amltk.optimization.history.history import History
trial = Trial("a", {}, metrics=(Metric("loss"),))
history = History([Trial.SuccessReport(trial=trial, metrics={"loss": 1.0})])
assert "matplotlib" not in sys.modules
history.plot_score()
assert "matplotlib" in sys.modules
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "MPLBACKEND": "Agg"}
    )


# ---------------------------------------------------------------------------------------- scores


def test_a_score_is_a_point_for_each_success_and_steps_of_the_best(history):
    ax = history.plot_score()

    assert line(ax, "success (3)") == [(1, 3), (3, 1), (5, 2)]
    assert line(ax, "best so far") == [(1, 3), (3, 1), (5, 1)]
    [steps] = [each for each in ax.get_lines() if each.get_label() == "best so far"]
    assert steps.get_drawstyle() == "steps-post"
    assert ax.get_ylabel() == "loss (lower is better)"
    assert ax.get_xlabel() == "trials, as they ended"


@pytest.mark.parametrize(("minimize", "edge"), [(True, 0.97), (False, 0.03)])
def test_crashes_and_failures_are_marked_at_the_worse_edge(minimize, edge):
    metric = Metric("m", minimize=minimize)
    history = History([report("a", metrics=(metric,), m=1.0), crash("b"), fail("c"), crash("d")])

    ax = history.plot_score("m")

    assert line(ax, "crashed (2)") == [(2, edge), (4, edge)]
    assert line(ax, "fail (1)") == [(3, edge)]
    [marks] = [each for each in ax.get_lines() if each.get_label() == "crashed (2)"]
    assert marks.get_transform() == ax.get_xaxis_transform()


def test_a_score_that_is_infinite_is_marked_at_the_edge(history):
    history.append(report("f", loss=math.inf))

    ax = history.plot_score()

    assert line(ax, "not finite (1)") == [(6, 0.97)]
    assert len(line(ax, "success (4)")) == 3


def test_a_score_over_time_counts_from_when_the_first_trial_was_sent_off():
    history = History(
        [
            report("a", loss=3.0, submitted_at=1000.0, reported_at=1060.0),
            report("b", loss=2.0, **timed(1010.0, 1600.0)),
            report("no time", loss=1.0),
        ]
    )

    ax = history.plot_score(x="time")

    assert line(ax, "best so far") == [(1, 3), (10, 2), (10, 2)]
    assert "[min]" in ax.get_xlabel()
    assert "(1 report without a time, not drawn)" in ax.get_xlabel()


@pytest.mark.parametrize(
    ("span", "unit"), [(100, "s"), (1000, "min"), (30_000, "h"), (1e6, "days")]
)
def test_times_have_the_unit_that_fits(span, unit):
    history = History([report("a", loss=1.0, submitted_at=0.0, reported_at=float(span))])

    assert f"[{unit}]" in history.plot_score(x="time").get_xlabel()


def test_a_score_over_time_needs_a_time(history):
    with pytest.raises(HistoryError, match=r"no success that has it has a time.*over trials"):
        history.plot_score(x="time")


def test_what_is_across_has_to_be_known(history):
    with pytest.raises(InvalidOptionError, match=r"x='steps'.*'trials' or 'time'"):
        history.plot_score(x="steps")


# -------------------------------------------------------------------------------------- parallel


def parallel(configs, **options):
    history = History(
        report(str(i), loss=float(i), config=config) for i, config in enumerate(configs)
    )
    return history.plot_parallel(**options)


def names_of(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def ticks(ax, place):
    """Return the texts along an axis and where they are."""
    return {text.get_text(): round(text.xy[1], 6) for text in ax.texts if text.xy[0] == place}


def lines_of(ax, place=0):
    return [[round(float(y), 6) for _, y in each] for each in ax.collections[place].get_segments()]


def test_each_configuration_is_a_line_and_the_best_is_drawn_last():
    ax = parallel([{"x": 0, "y": 4}, {"x": 10, "y": 3}, {"x": 5, "y": 2}])

    assert lines_of(ax) == [[0.5, 0, 1], [1, 0.5, 0.5], [0, 1, 0]]
    assert line(ax, "best") == [(0, 0), (1, 1), (2, 0)]
    assert names_of(ax) == ["x", "y", "loss\n(lower is better)"]


@pytest.mark.parametrize("minimize", [True, False])
def test_the_best_is_dark_whichever_way_is_better(minimize):
    metric = Metric("m", minimize=minimize)
    history = History(
        report(str(i), metrics=(metric,), m=float(i), config={"x": i}) for i in range(3)
    )

    drawn = history.plot_parallel().collections[0]

    worst, _, best = [sum(drawn.cmap(drawn.norm(each))[:3]) for each in drawn.get_array()]
    assert best < worst


def test_choices_are_at_equal_distances():
    ax = parallel([{"k": "rbf"}, {"k": "linear"}, {"k": "poly"}, {"k": "rbf"}])

    assert ticks(ax, 0) == {"linear": 0, "poly": 0.5, "rbf": 1}


@pytest.mark.parametrize(
    "values", [[True, False], [None, 3], ["a", 1], [(1, 2), (3,)], [math.nan, 1.0]]
)
def test_what_are_not_all_numbers_are_choices(values):
    ax = parallel([{"k": value} for value in values])

    assert set(ticks(ax, 0)) == set(map(str, values))


def test_values_that_span_decades_are_drawn_by_their_logarithms():
    ax = parallel([{"lr": value} for value in (1e-5, 1e-3, 1e-1)])

    assert ticks(ax, 0) == {"1e-05": 0, "0.001": 0.5, "0.1": 1}
    assert names_of(ax)[0] == "lr\n(log)"


def test_values_that_are_evenly_spread_are_not():
    ax = parallel([{"x": 0.001 + i / 100} for i in range(100)])

    assert names_of(ax)[0] == "x"


def test_what_a_configuration_does_not_have_is_below_the_axis():
    ax = parallel([{"k": "poly", "degree": 2}, {"k": "poly", "degree": 4}, {"k": "rbf"}])

    assert ticks(ax, 1) == {"2": 0, "4": 1, "not there": -0.14}
    assert lines_of(ax)[0][1] == -0.14
    assert ax.get_ylim()[0] < -0.14


def test_only_keys_that_vary_are_drawn_unless_they_are_named():
    configs = [{"x": 1, "same": 3, "y": 1}, {"x": 2, "same": 3, "y": 0}]

    assert names_of(parallel(configs))[:-1] == ["x", "y"]
    assert names_of(parallel(configs, keys=["same", "x"]))[:-1] == ["same", "x"]


def test_a_key_that_no_configuration_has_is_an_error():
    with pytest.raises(HistoryError, match=r"the key 'z' cannot be drawn.*there are: x"):
        parallel([{"x": 1}], keys=["z"])


def test_trials_without_a_value_are_dashed_and_end_before_the_metric():
    history = History([report("a", loss=1.0, config={"x": 0}), crash("b", config={"x": 2})])

    ax = history.plot_parallel()

    assert "no value (1)" in legend(ax)
    assert lines_of(ax, 1) == [[1.0]]


def test_trials_of_empty_configurations_without_a_value_are_no_lines(history):
    assert "no value (2)" in legend(history.plot_parallel())


def test_infinite_values_alone_are_no_lines():
    ax = History([report("a", loss=math.inf, config={"x": 1})]).plot_parallel()

    assert legend(ax) == ["no value (1)"]


def test_many_choices_have_some_of_their_labels():
    ax = parallel([{"k": f"choice {i:03}"} for i in range(100)])

    assert 5 <= len(ticks(ax, 0)) <= 16


# ---------------------------------------------------------------------------------------- pareto


def two(points, metrics=(LOSS, SIZE)):
    one, other = metrics
    return History(
        report(str(i), metrics=metrics, **{one.name: x, other.name: y})
        for i, (x, y) in enumerate(points)
    )


def test_a_front_is_drawn_as_steps_and_the_others_as_points():
    history = two([(3.0, 1.0), (3.0, 3.0), (1.0, 3.0), (2.0, 2.0)])
    history.append(crash("x"))

    ax = history.plot_pareto()

    assert line(ax, "front (3)") == [(1, 3), (2, 2), (3, 1)]
    assert line(ax, "dominated (1)") == [(3, 3)]
    assert ax.get_xlabel() == "loss (lower is better)\n(1 report failed or crashed, not drawn)"
    assert ax.get_ylabel() == "size (lower is better)"


@pytest.mark.parametrize("first", [LOSS, ACCURACY])
@pytest.mark.parametrize("second", [SIZE, Metric("score", minimize=False)])
def test_the_corners_of_a_front_are_on_the_side_of_what_it_dominates(first, second):
    def better(metric, place):
        return place if metric.minimize else -place

    points = [(better(first, 0.1 * i), better(second, -0.1 * i)) for i in range(4)]
    ax = two(points, (first, second)).plot_pareto()
    [steps] = [each for each in ax.get_lines() if each.get_label() == "front (4)"]

    for x, y in steps.get_path().vertices:  # as it is drawn, with its corners
        # No corner is better than the front: some point of it is as good in both.
        assert any(
            first.loss(px) <= first.loss(x) + 1e-9 and second.loss(py) <= second.loss(y) + 1e-9
            for px, py in points
        )


def test_a_front_needs_two_metrics(history):
    with pytest.raises(HistoryError, match=r"a front of 1 metrics cannot be drawn \(loss\)"):
        history.plot_pareto()


def test_a_front_needs_a_success():
    history = History([crash("a", metrics=(LOSS, SIZE))])

    with pytest.raises(HistoryError, match="none of 1 reports is a success that has both"):
        history.plot_pareto()


# -------------------------------------------------------------------------------------- timeline


def bars(ax):
    """Return start, end, lane, colour and hatch of each bar, by its start."""
    found = []
    for collection in ax.collections:
        for path in collection.get_paths():
            box = path.get_extents()
            face = to_hex(collection.get_facecolor()[0])
            middle = round((box.y0 + box.y1) / 2, 3)
            found.append((round(box.x0, 6), round(box.x1, 6), middle, face, collection.get_hatch()))
    return sorted(found)


def lanes(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


GREEN, ORANGE, RED, WHITE = "#009e73", "#e69f00", "#d55e00", "#ffffff"


def test_a_timeline_has_a_lane_for_each_worker_and_a_bar_for_each_trial():
    history = History(
        [
            report("a", loss=1.0, worker="box:2", **timed(100.0, 110.0)),
            fail("b", worker="box:1", **timed(105.0, 108.0)),
            crash("c", worker="box:2", **timed(110.0, 111.0)),
        ]
    )

    ax = history.plot_timeline()

    assert lanes(ax) == ["2", "1"]
    assert ax.get_ylabel() == "worker on box"
    assert ax.get_xlabel() == "time [s]"
    assert bars(ax) == [
        (0, 10, 0, GREEN, None),
        (5, 8, 1, ORANGE, None),
        (10, 11, 0, RED, None),
    ]
    assert legend(ax) == ["success (1)", "fail (1)", "crashed (1)"]
    assert ax.yaxis_inverted()


def test_a_trial_that_was_not_timed_is_hatched_in_a_lane_of_its_own():
    history = History(
        [
            report("a", loss=1.0, worker="box:2", **timed(0.0, 10.0)),
            crash("b", submitted_at=2.0, reported_at=4.0),
        ]
    )

    ax = history.plot_timeline()

    assert lanes(ax) == ["2", "unknown"]
    assert bars(ax)[1] == (2, 4, 1, WHITE, "////")
    assert "sent off to reported" in legend(ax)


def test_bars_that_overlap_share_the_height_of_their_lane():
    history = History(crash(str(i), submitted_at=float(i), reported_at=i + 1.5) for i in range(3))

    found = bars(history.plot_timeline())

    assert [middle for _, _, middle, _, _ in found] == [-0.2, 0.2, -0.2]


def test_workers_of_several_hosts_keep_their_whole_names():
    history = History(
        report(host, loss=1.0, worker=f"{host}:1", **timed(i, i + 1.0))
        for i, host in enumerate(["one", "two"])
    )

    ax = history.plot_timeline()

    assert lanes(ax) == ["one:1", "two:1"]
    assert ax.get_ylabel() == "worker"


def test_a_timeline_says_how_many_reports_have_no_time_at_all(history):
    with pytest.raises(HistoryError, match="none of 5 reports has a time"):
        history.plot_timeline()

    history.append(report("f", loss=1.0, worker="w", **timed(0.0, 1.0)))

    assert "(5 reports without a time, not drawn)" in history.plot_timeline().get_xlabel()


def test_a_timeline_needs_no_success():
    history = History([crash("a", worker="box:2", **timed(0.0, 1.0))])

    assert bars(history.plot_timeline()) == [(0, 1, 0, RED, None)]


def test_trials_are_drawn_for_what_they_really_took():
    trials = [Trial(str(i), {}, metrics=(LOSS,)) for i in range(3)]
    history = History()
    for trial in trials:
        with trial.begin():
            pass
        history.append(trial.success(loss=1.0))

    found = bars(history.plot_timeline())

    assert len(found) == 3
    assert all(end >= start for start, end, *_ in found)
