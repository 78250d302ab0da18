"""How the suite itself runs: in groups, with an end, and once for what one Python proves."""

import re

import pytest
import support
from suite import groups, once

pytest_plugins = ["pytester"]

#: Fixtures of engines that are shared by all tests of a process, and the group that has them.
SHARED = {
    "airflow": "airflow",
    "airflow_executor": "airflow",
    "dask_client": "dask",
    "dask_executor": "dask",
    "ray_executor": "ray",
    "ray_package": "ray",
}


@pytest.fixture
def suite(pytester, monkeypatch):
    """Return a function that runs tests with modules of the suite, in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(support.ROOT / "tests"))

    def run(*options):
        plugins = [part for name in ("ends", "groups", "once") for part in ("-p", f"suite.{name}")]
        return pytester.runpytest_subprocess(*plugins, "-p", "no:randomly", *options, timeout=60)

    return run


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/events/test_event.py::test_a", "tests/events/test_event.py::test_a"),
        ("tests/events/test_event.py::test_a[x::y]", "tests/events/test_event.py::test_a[x::y]"),
        (
            "tests/executors/jobqueue/test_factory.py::TestLSFStandIn::test_a",
            "tests/executors/jobqueue/test_factory.py::TestLSFStandIn",
        ),
        ("docs/tutorial.md::line:1,column:1", "docs/tutorial.md"),
        ("tests/plugins/test_comm.py::test_a[ray]", "ray"),
        ("tests/plugins/test_comm.py::test_a[array]", "tests/plugins/test_comm.py::test_a[array]"),
        ("tests/executors/jobqueue/test_factory.py::test_a[slurm]", "slurm"),
        ("tests/executors/jobqueue/test_factory.py::test_a[pbs-on-slurm]", "slurm"),
        ("tests/executors/jobqueue/test_factory.py::TestPBSOnSlurm::test_a", "slurm"),
        ("tests/engines/test_same_script.py::test_a[cluster:oar]", "oar"),
        (
            "tests/executors/jobqueue/test_factory.py::TestOARStandIn::test_a",
            "tests/executors/jobqueue/test_factory.py::TestOARStandIn",
        ),
        (
            "tests/executors/jobqueue/test_factory.py::test_a[oar-stand-in]",
            "tests/executors/jobqueue/test_factory.py::test_a[oar-stand-in]",
        ),
    ],
)  # fmt: skip
def test_tests_that_share_an_engine_or_a_page_are_a_group(nodeid, group):
    assert groups.group_of(nodeid) == group


def test_every_test_that_uses_a_shared_engine_is_in_its_group(request):
    """Else a second one would be started by another process of the run."""
    wrong = {
        item.nodeid: fixture
        for item in request.config.stash[groups.COLLECTED]
        for fixture in getattr(item, "fixturenames", ())
        if fixture in SHARED and groups.group_of(item.nodeid) != SHARED[fixture]
    }

    assert wrong == {}


def test_tests_that_share_a_fixture_of_their_file_or_class_are_a_group(request):
    """Else each process would make it again."""
    wrong = {
        item.nodeid: name
        for item in request.config.stash[groups.COLLECTED]
        for name, found in getattr(
            getattr(item, "_fixtureinfo", None), "name2fixturedefs", {}
        ).items()
        if found[-1].scope in ("class", "module") and not name.startswith("_")
        if groups.group_of(item.nodeid) == item.nodeid
    }

    assert wrong == {}


def test_every_test_of_a_real_batch_system_is_in_its_group(request):
    """They look into its queue, and cancel what is there."""
    names = {"sge", "htcondor", "oar", "slurm", "pbs-on-slurm"}
    wrong = set()
    for item in request.config.stash[groups.COLLECTED]:
        given = getattr(getattr(item, "callspec", None), "params", {}).values()
        system = getattr(getattr(item, "cls", None), "system", None)
        used = {str(each).removeprefix("cluster:") for each in [*given, system]} & names
        if used and groups.group_of(item.nodeid) != used.pop().replace("pbs-on-", ""):
            wrong.add(item.nodeid)

    assert wrong == set()


def test_several_processes_run_each_group_in_one_of_them(suite, pytester):
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("engine", ["ray", "dask"])
        @pytest.mark.parametrize("n", range(5))
        def test_where(engine, n):
            with open(engine, "a") as file:
                file.write(f"{os.getpid()} ")
        """
    )

    suite("-n", "2").assert_outcomes(passed=10)

    where = [(pytester.path / engine).read_text().split() for engine in ("ray", "dask")]
    assert [len(pids) for pids in where] == [5, 5]
    assert len(set(where[0])) == len(set(where[1])) == 1


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_teardown_that_hangs_after_a_failure_ends_with_the_stacks(suite, pytester, workers):
    """pytest-timeout does nothing any more by then."""
    pytester.makeconftest("import suite.ends\nsuite.ends.BEYOND_S = 1\n")
    pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.fixture
        def stuck():
            yield
            time.sleep(600)

        @pytest.mark.timeout(0.5)
        def test_that_fails(stuck):
            assert False

        def test_of_another_group():
            pass
        """
    )

    result = suite(*workers)

    assert result.ret != 0
    assert "in stuck" in result.stderr.str()
    if workers:  # the run goes on in another process
        assert re.search(r"crashed while running .*test_that_fails", result.stdout.str())
        assert result.parseoutcomes()["passed"] == 1


@pytest.mark.parametrize(
    ("at", "end"),
    [(0, "os._exit(3)"), (3, "os.kill(os.getpid(), signal.SIGKILL)"), (6, "os._exit(0)")],
)
def test_a_test_that_ends_its_process_fails_alone(suite, pytester, at, end):
    """It is not tried again, and all others are run, those of its group as well."""
    pytester.makepyfile(
        f"""
        import os
        import signal
        import pytest

        @pytest.mark.parametrize("n", range(7))
        @pytest.mark.parametrize("engine", ["ray", "none"])
        def test_it(engine, n):
            with open("begun", "a") as file:
                file.write(f"{{engine}}{{n}} ")
            if (engine, n) == ("ray", {at}):
                {end}
        """
    )

    suite("-n", "2", "--run-limit", "40").assert_outcomes(passed=13, failed=1)

    assert len((pytester.path / "begun").read_text().split()) == 14


def test_a_run_that_takes_too_long_ends_with_the_stacks(suite, pytester):
    pytester.makepyfile("import time\n\ndef test_that_waits():\n    time.sleep(600)\n")

    result = suite("--run-limit", "2")

    assert result.ret != 0
    assert "in test_that_waits" in result.stderr.str()


@pytest.mark.parametrize(
    ("nodeid", "is_once", "is_row"),
    [
        ("tests/scheduling/test_task.py::test_a", False, False),
        ("tests/plugins/test_wandb.py::test_a", True, False),
        ("tests/plugins/test_retry.py::test_a[processes]", False, False),
        ("tests/plugins/test_retry.py::test_a[ray]", False, True),
        ("tests/executors/dask/test_executor.py::TestDeaths::test_a", True, False),
        ("tests/executors/dask/test_executor.py::TestDask::test_a", False, True),
    ],
)
def test_what_one_python_proves_is_run_once(nodeid, is_once, is_row):
    assert (once.is_once(nodeid), once.is_row(nodeid)) == (is_once, is_row)
