"""Type checkers accept what should be accepted, and reject the marked lines, both the same.

mypy does not see that a callback given beside its event has another number of arguments: it solves
``P`` with two lists of different lengths as anything. Such lines say so.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import support

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
FILES = {kind: HERE / f"{kind}.py" for kind in ("accepted", "rejected")}
MYPY = """
[mypy]
strict = true
python_version = 3.11
mypy_path = {source}
[mypy-cloudpickle.*,loky.*,distributed.*,sklearn.*]
ignore_missing_imports = true
"""


def run_checker(command, folder):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def run_mypy(folder):
    """Return what mypy says, as lines of each file with the message."""
    config = folder / "mypy.ini"
    config.write_text(MYPY.format(source=support.ROOT / "src"))
    options = ["--config-file", config, "--no-error-summary", "--show-absolute-path"]
    cache = ["--cache-dir", folder / "cache"]
    output = run_checker(["mypy", *options, *cache, *FILES.values()], folder)
    found = re.findall(r"^(.*?):(\d+)(?::\d+)?: error: (.*)$", output, re.MULTILINE)
    return [(Path(path), int(line), message) for path, line, message in found]


def run_pyright(folder):
    """Return what pyright says, as lines of each file with the message."""
    settings = {
        "include": [os.path.relpath(FILES[kind], folder) for kind in FILES],
        "extraPaths": [str(support.ROOT / "src")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "standard",
    }
    config = folder / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    options = ["--outputjson", "--pythonpath", sys.executable]
    output = run_checker(["pyright", "-p", config, *options], folder)
    told = json.loads(output)
    assert told["summary"]["filesAnalyzed"] == len(FILES), told
    return [
        (Path(one["file"]), one["range"]["start"]["line"] + 1, one["message"])
        for one in told["generalDiagnostics"]
        if one["severity"] == "error"
    ]


CHECKERS = {"mypy": run_mypy, "pyright": run_pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def checked(request, tmp_path_factory):
    """A checker's name, and what it says of both files; each checker runs once."""
    pytest.importorskip(request.param)
    return request.param, CHECKERS[request.param](tmp_path_factory.mktemp(request.param))


def of_file(reported, kind):
    return {line: message for path, line, message in reported if path == FILES[kind]}


@pytest.mark.timeout(240)
def test_a_checker_accepts_what_should_be_accepted(checked):
    _, reported = checked

    assert of_file(reported, "accepted") == {}


@pytest.mark.timeout(240)
def test_a_checker_rejects_the_marked_lines_and_no_other(checked):
    checker, reported = checked
    lines = dict(enumerate(FILES["rejected"].read_text().splitlines(), start=1))
    unseen = f"(not seen by {checker})"
    marked = {n: line for n, line in lines.items() if "# error" in line and unseen not in line}
    found = of_file(reported, "rejected")

    assert {n: line for n, line in marked.items() if n not in found} == {}, "not reported"
    assert {n: told for n, told in found.items() if n not in marked} == {}, "not marked"
