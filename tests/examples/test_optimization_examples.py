"""The examples of optimization run, as their users run them."""

import re

import pytest
import support

from amltk.optimization import History

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def run_example(name, *options, needs=()):
    """Run an example to its end, and return what it printed."""
    for package in needs:
        pytest.importorskip(package, reason=f"the example needs {package}")
    process = support.start_script(support.ROOT / "examples" / f"{name}.py", *options)
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "Warning" not in output
    return output


def numbers_after(word, output):
    return [float(number) for number in re.findall(rf"{word}[ =]([-+.\de]+)", output)]


def check_picture(path, width, height):
    """It has its size, and is not empty."""
    from matplotlib import image

    pixels = image.imread(path)
    assert pixels.shape[:2] == (height, width)
    assert pixels[..., :3].std() > 0.05


# --------------------------------------------------------------------------- Optuna, a pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Tune the pipeline a little; return what was printed and where it was saved."""
    out = tmp_path_factory.mktemp("pipeline") / "search"
    needs = ("optuna", "sklearn", "matplotlib")
    return run_example("optuna_pipeline", "--trials", "6", "--out", out, needs=needs), out


def test_the_pipeline_is_tuned_and_the_best_one_printed(pipeline):
    output, _ = pipeline
    found = re.search(r"The best of 6 trials is optuna-\d: (0\.\d{4})\n", output)

    assert found is not None, output
    assert 0.6 < float(found[1]) < 1
    for key in ("scaler", "components", "kernel", "C", "gamma"):
        assert f"\n  {key} = " in output


def test_the_pipelines_reports_are_saved_with_all_that_was_noted(pipeline):
    output, out = pipeline
    history = History.load(out.with_suffix(".jsonl"))

    assert len(history) == len(history.successes()) == 6
    assert f"{history.best().metrics['accuracy']:.4f}" in output
    for report in history:
        folds = report.trial.summary["folds"]
        assert len(folds) == 5
        assert sum(folds) / 5 == pytest.approx(report.metrics["accuracy"], abs=1e-4)


def test_the_pipelines_picture_has_something_on_it(pipeline):
    _, out = pipeline

    check_picture(out.with_suffix(".png"), 1080, 720)


# ---------------------------------------------------------------------------------- two metrics


def test_the_front_of_two_metrics_is_printed_and_drawn(tmp_path):
    picture = tmp_path / "front.png"
    needs = ("optuna", "sklearn", "matplotlib")
    output = run_example("two_metrics", "--trials", "12", "--picture", picture, needs=needs)
    n_front = int(re.search(r"(\d+) of 12 trials are on the Pareto front", output)[1])
    rows = [line.split() for line in output.splitlines() if re.fullmatch(r"  0\.\d+ +\d+", line)]
    accuracies, nodes = [float(row[0]) for row in rows], [int(row[1]) for row in rows]

    assert len(rows) == n_front > 1
    assert nodes == sorted(nodes)
    assert accuracies == sorted(accuracies)
    check_picture(picture, 840, 600)


# ---------------------------------------------------------------------- SMAC, with multi-fidelity


def test_of_many_networks_only_the_best_are_trained_for_long():
    options = ("--trials", "20", "--epochs", "9")
    output = run_example("smac_multi_fidelity", *options, needs=("smac", "sklearn"))
    rows = [line.split() for line in output.splitlines() if re.match(r" +\d+  ", line)]
    epochs, counts, errors = zip(*rows, strict=True)
    n_epochs = sum(int(e) * int(n) for e, n in zip(epochs, counts, strict=True))

    assert epochs == ("1", "3", "9")
    assert sum(map(int, counts)) == 20
    assert int(counts[0]) > int(counts[-1])
    assert all(0 < float(error) < 1 for error in errors)
    assert f"20 trials took {n_epochs} epochs, not {9 * 20}." in output


# ------------------------------------------------------------------------- your own, and PyTorch


def test_an_optimizer_of_ones_own_finds_a_minimum():
    output = run_example("own_optimizer")
    losses = numbers_after("loss", output)

    assert "The best of 200 trials is neighbour-" in output
    assert len(losses) > 5
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 < losses[0]


def test_networks_of_pytorch_are_trained_until_they_get_no_better():
    needs = ("torch", "sklearn")
    output = run_example("torch_cpu", "--trials", "3", "--patience", "2", needs=needs)
    epochs = [int(found) for found in re.findall(r"after (\d+) epochs", output)]

    assert "The best of 3 networks is random-" in output
    assert len(numbers_after("accuracy", output)) == len(epochs) == 3
    assert all(3 <= count <= 50 for count in epochs)
    assert min(epochs) < 50
