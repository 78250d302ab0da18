"""The same scripts run on every engine, unchanged but for the constructor of the scheduler."""

import os
import subprocess
import sys

import pytest
import support
from guide.test_seed_guide import read_blocks, script_of
from started import missing
from started.clusters import SYSTEMS, options_of, ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: The engines that need nothing but a package, and their constructors.
SIMPLE = {
    "processes": "Scheduler.with_processes(2)",
    "threads": "Scheduler.with_threads(2)",
    "sequential": "Scheduler.with_sequential()",
    "loky": "Scheduler.with_loky(2)",
    "dask": "Scheduler.with_dask(n_workers=2)",
    "ray": "Scheduler.with_ray(num_cpus=2, object_store_memory=100_000_000)",
}
PACKAGES = {"loky": "loky", "dask": "distributed", "ray": "ray"}

#: What stands in for a batch system has its commands alone; one of them proves a longer script.
STANDS_FOR_ALL = "pbs-stand-in"


def on(systems):
    engines = [*SIMPLE, *(f"cluster:{name}" for name in systems), "airflow"]
    return pytest.mark.parametrize("constructor", engines, indirect=True)


@pytest.fixture
def constructor(request, tmp_path):
    """Return what makes a scheduler on an engine, as a line of a script."""
    kind, _, name = request.param.partition(":")
    if kind == "cluster":
        with ready(name, tmp_path) as system:
            yield f"Scheduler.{system.constructor}(2, **{options_of(system)!r})"
    elif kind == "airflow":
        options = request.getfixturevalue("airflow").options
        yield f"Scheduler.with_airflow(**{options!r})"
    else:
        package = PACKAGES.get(kind)
        if package is not None and not support.is_installed(package):
            missing(f"{package} is not installed")
        yield SIMPLE[kind]


def run_script(path, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(support.ROOT / "src"), str(support.ROOT / "tests")]),
    }
    done = subprocess.run(
        [sys.executable, path, *arguments],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_engine(code, written, constructor):
    assert code.count(written) == 1
    return code.replace(written, constructor)


@on(SYSTEMS)
def test_the_last_example_of_the_guide(constructor, tmp_path):
    script = tmp_path / "guide.py"
    code = script_of(read_blocks(), 1515)
    script.write_text(on_engine(code, "Scheduler.with_processes(4)", constructor))

    output = run_script(script)

    assert "Longest run so far: " in output


@on(name for name in SYSTEMS if SYSTEMS[name].is_real or name == STANDS_FOR_ALL)
def test_the_search_on_the_digits(constructor, tmp_path):
    pytest.importorskip("sklearn")
    code = (support.ROOT / "examples" / "digits_search.py").read_text()
    script = tmp_path / "digits.py"
    script.write_text(on_engine(code, "Scheduler.with_processes(options.workers)", constructor))

    picture = tmp_path / "search.png"
    output = run_script(
        script, "--quiet", "--trials", "3", "--timeout", "120", "--picture", str(picture)
    )

    assert "after 3 trials" in output
    assert picture.stat().st_size > 10_000
