"""The benchmarks run and report; what they come to is not for a test to say."""

import json
import subprocess
import sys

import pytest
import support

pytestmark = pytest.mark.slow


def test_a_row_is_reported_with_its_ratio_spread_and_goal(tmp_path):
    report = tmp_path / "report.json"
    program = support.ROOT / "benchmarks" / "run.py"
    done = subprocess.run(
        [sys.executable, program, "--quick", "--only", "emit-one", "--json", report],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "emit-one" in done.stdout
    told = json.loads(report.read_text())
    (row,) = told["rows"]
    assert told["setting"]["quick"] is True
    assert row["name"] == "emit-one"
    assert row["goal"] == "<= 2.5"
    assert row["spread"]["min"] <= row["ratio"] <= row["spread"]["max"]
