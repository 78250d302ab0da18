"""The examples run, as their users run them."""

import pytest
import support

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Run a short search; return its exit code, what it printed and the picture's path."""
    for package in ("sklearn", "matplotlib", "rich"):
        pytest.importorskip(package)
    picture = tmp_path_factory.mktemp("search") / "search.png"
    options = ["--quiet", "--trials", "4", "--timeout", "45", "--picture", picture]
    process = support.start_script(support.ROOT / "examples" / "digits_search.py", *options)
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    return process.returncode, output, picture


@pytest.mark.timeout(240)
def test_the_search_ends_by_itself_after_its_trials(search):
    code, output, _ = search

    assert code == 0, output
    assert "after 4 trials" in output
    assert "Traceback" not in output


@pytest.mark.timeout(240)
def test_the_search_prints_its_best_configurations_with_the_best_first(search):
    _, output, _ = search
    rows = [line.strip("│ ").split("│") for line in output.splitlines() if line.startswith("│")]
    accuracies = [float(row[0]) for row in rows]

    assert "The best 4 of 4" in output
    assert len(accuracies) == 4
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0.5


@pytest.mark.timeout(240)
def test_the_search_saves_a_picture_with_something_on_it(search):
    from matplotlib import image

    _, output, picture = search
    height, width = image.imread(picture).shape[:2]

    assert f"The picture is in {picture}." in output
    assert (width, height) == (1080, 720)
    assert image.imread(picture)[..., :3].std() > 0.05
