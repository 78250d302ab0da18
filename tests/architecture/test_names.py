"""What users import: each name is there, and importing it loads little."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import support

import amltk

#: What users import, from where; see also ``__all__`` of each.
NAMES = {
    "amltk": {
        "CallLimiter",
        "Comm",
        "Emitter",
        "Event",
        "EventManager",
        "History",
        "Optimizer",
        "RandomSearch",
        "Scheduler",
        "SequentialExecutor",
        "Subscriber",
        "Task",
        "TaskPlugin",
        "Trial",
    },
    "amltk.events": {
        "CallbackFailure",
        "Emitter",
        "Event",
        "EventManager",
        "Subscriber",
    },
    "amltk.optimization": {
        "GridSearch",
        "History",
        "Metric",
        "Optimizer",
        "OptunaOptimizer",
        "RandomSearch",
        "SMACOptimizer",
        "Trial",
        "optimize",
    },
    "amltk.plugins": {
        "CallEmissions",
        "CallLimiter",
        "CaughtWarning",
        "Comm",
        "EmissionsTracker",
        "PynisherPlugin",
        "Retry",
        "ThreadPoolCTLPlugin",
        "WandbPlugin",
        "WarningFilter",
        "WorkerLogs",
    },
    "amltk.scheduling": {
        "Batch",
        "CallLimiter",
        "Comm",
        "Event",
        "ExitCode",
        "Future",
        "Scheduler",
        "SchedulerSnapshot",
        "SequentialExecutor",
        "Subscriber",
        "Task",
        "TaskPlugin",
        "TaskSnapshot",
    },
}
SOURCE = Path(amltk.__file__).parent
MODULES = {path.relative_to(SOURCE.parent).with_suffix("") for path in SOURCE.rglob("*.py")}
LISTING = sorted(
    ".".join(path.parts).removesuffix(".__init__")
    for path in MODULES
    if "\n__all__ = " in (SOURCE.parent / path).with_suffix(".py").read_text()
)
#: Modules that users may import by the names that they had before they moved.
OLDER = {
    "amltk.executors.airflow_dag": "amltk.executors.airflow.dag",
    "amltk.executors.envelope": "amltk.executors.travel.envelope",
    "amltk.optimization.asking": "amltk.optimization.search.asking",
    "amltk.optimization.loop": "amltk.optimization.search.loop",
    "amltk.optimization.measure": "amltk.optimization.trials.measure",
    "amltk.optimization.metric": "amltk.optimization.trials.metric",
    "amltk.optimization.plots": "amltk.optimization.history.plots",
    "amltk.optimization.record": "amltk.optimization.records.record",
    "amltk.optimization.report": "amltk.optimization.trials.report",
    "amltk.optimization.task": "amltk.optimization.trials.task",
    "amltk.optimization.trial": "amltk.optimization.trials.trial",
}
#: The third-party packages and the slow modules that come only with what needs them.
HEAVY = (
    "ConfigSpace",
    "cloudpickle",
    "codecarbon",
    "dask",
    "distributed",
    "loky",
    "matplotlib",
    "numpy",
    "optuna",
    "pandas",
    "psutil",
    "pyarrow",
    "pynisher",
    "rich",
    "sklearn",
    "smac",
    "threadpoolctl",
    "wandb",
)


def loaded_by(code):
    """Return the modules that some code loads in a fresh interpreter, beside the usual ones."""
    program = f"""
import json, sys
before = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tops(modules):
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("where", NAMES)
def test_a_package_exports_the_names_that_users_import(where):
    assert set(importlib.import_module(where).__all__) == NAMES[where]


@pytest.mark.parametrize("where", LISTING)
def test_every_name_in_all_resolves(where):
    module = importlib.import_module(where)

    assert {name for name in module.__all__ if not hasattr(module, name)} == set()
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("where", ["amltk", "amltk.optimization", "amltk.scheduling"])
def test_a_lazy_name_is_one_object_wherever_it_is_imported_from(where):
    module = importlib.import_module(where)

    for name, home in module._WHERE.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("where", NAMES)
def test_an_unknown_name_is_an_attribute_error_that_names_it(where):
    module = importlib.import_module(where)

    with pytest.raises(AttributeError, match="Schedular"):
        module.Schedular  # noqa: B018


@pytest.mark.parametrize("older", OLDER)
def test_a_module_that_has_moved_is_found_by_its_older_name(older):
    """By whichever name it is imported first."""
    code = f"""
import importlib
module = importlib.import_module({older!r})
assert module is importlib.import_module({OLDER[older]!r})
assert module.__spec__.name == {OLDER[older]!r}
"""

    assert OLDER[older] in loaded_by(code)


def test_the_version_is_a_string_of_numbers():
    assert amltk.__version__.split(".")[0].isdigit()


def test_importing_amltk_loads_only_the_standard_library():
    loaded = loaded_by("import amltk")

    assert tops(loaded) - {"amltk"} <= support.STANDARD
    assert not {"asyncio", "concurrent.futures.process", "multiprocessing"} & set(loaded)


def test_importing_scheduler_and_task_loads_no_package_of_an_extra():
    loaded = loaded_by("from amltk import Scheduler, Task")

    assert tops(loaded) - {"amltk"} <= support.STANDARD
    assert not tops(loaded) & set(HEAVY)


def test_importing_what_optimizes_loads_no_package_of_an_extra():
    names = ", ".join(NAMES["amltk.optimization"])
    loaded = loaded_by(f"from amltk.optimization import {names}")

    assert tops(loaded) - {"amltk"} <= support.STANDARD
    assert not tops(loaded) & set(HEAVY)


def test_a_worker_that_is_given_a_trial_loads_neither_scheduler_nor_task():
    loaded = loaded_by("from amltk.optimization import Trial; Trial('a', {}).begin()")

    assert not {name for name in loaded if name.startswith(("amltk.scheduling", "asyncio"))}


def test_a_worker_that_is_given_a_function_of_the_suites_loads_neither_pytest_nor_scheduler():
    loaded = loaded_by("import amltk.testing.contracts.functions")

    slow = ("pytest", "amltk.scheduling", "amltk.executors", "asyncio", "multiprocessing")
    assert not {name for name in loaded if name.startswith(slow)}
