"""The benchmarks run and report; what they come to is not for a test to say."""

import importlib
import json
import math
import subprocess
import sys

import pytest
import support

pytestmark = pytest.mark.slow

BENCHMARKS = support.ROOT / "benchmarks"


def run(program, *arguments, timeout=50):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / program, "--quick", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_rows(names, report):
    only = [word for name in names for word in ("--only", name)]
    shown = run("run.py", *only, "--json", report)
    told = json.loads(report.read_text())
    assert told["setting"]["quick"] is True
    assert [row["name"] for row in told["rows"]] == names
    for row in told["rows"]:
        assert row["name"] in shown
        assert row["spread"]["min"] <= row["ratio"] <= row["spread"]["max"]
    return told["rows"]


@pytest.fixture
def benchmark_module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


def test_a_row_is_reported_with_its_ratio_spread_and_goal(tmp_path):
    (row,) = run_rows(["emit-one"], tmp_path / "report.json")

    assert row["goal"] == "<= 2.5"


def test_rows_about_trials_are_reported_with_their_goals(tmp_path):
    goals = {
        "trial-overhead": "<= 100 us",
        "trial-overhead-thread": None,
        "busy-workers": ">= 0.95",
        "trials-10000": "<= 1.2",
        "trials-memory": "<= 1 KiB",
    }
    rows = run_rows(list(goals), tmp_path / "report.json")

    assert {row["name"]: row["goal"] for row in rows} == goals
    assert 0 < rows[2]["ratio"] <= 1


def test_trials_are_compared_with_those_of_optuna_without_a_goal(tmp_path):
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    rows = run_rows(["trial-rate-optuna", "trial-rate-optuna-ask"], tmp_path / "report.json")

    assert [(row["goal"], row["met"]) for row in rows] == [(None, None)] * 2


def test_workers_are_idle_when_a_slow_optimizer_is_not_asked_ahead(benchmark_module):
    rows = benchmark_module("rows_optimization")
    share, _, _ = rows.run_slow_learner(rows.QUICK, n_workers=8, ask_ahead=0)

    assert share < 0.9


@pytest.mark.timeout(180)  # loading SMAC alone takes a while on a busy machine
@pytest.mark.parametrize("library", ["optuna", "smac"])
def test_a_search_through_optimize_tries_out_what_the_librarys_own_loop_does(library, tmp_path):
    pytest.importorskip(library, reason=f"the extra {library} is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    report = tmp_path / "report.json"
    only = ["--only", library, "--seeds", "1"]
    shown = run("search_quality.py", *only, "--json", report, timeout=170)
    told = json.loads(report.read_text())

    assert told["setting"]["seeds"] == 1
    assert [row["function"] for row in told["rows"]] == ["branin", "hartmann-6", "noisy branin"]
    assert [row["same_trials"] for row in told["rows"]] == [1, 1, 1]
    assert shown.count("the very same trials") == 3


def test_a_search_that_finds_less_is_told_from_noise(benchmark_module):
    pytest.importorskip("scipy", reason="scipy is not installed")
    quality = benchmark_module("search_quality")
    values = tuple(float(value) for value in range(20))
    worse = tuple(value + 1 for value in values)
    found = {"random": values, "n_same_best": 0, "n_same_trials": 0}
    pairs = [(values, values), (values, worse), (worse, values)]

    assert [quality.Comparison("f", "l", 1, *both, **found).verdict for both in pairs] == [
        "no difference beyond noise",
        "a difference: optimize() is better",
        "a difference: optimize() is worse",
    ]


def test_the_functions_have_their_known_minima(benchmark_module):
    searches = benchmark_module("searches")
    place = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)

    assert searches.branin((math.pi, 2.275)) == pytest.approx(0.397887, abs=1e-6)
    assert searches.hartmann(place) == pytest.approx(-3.32237, abs=1e-5)
