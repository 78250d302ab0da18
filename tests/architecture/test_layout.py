"""The tests mirror the source: who looks for a module's tests finds them."""

from pathlib import Path

import support

import amltk

SOURCE = Path(amltk.__file__).parent
TESTS = support.ROOT / "tests"

#: Modules without a test file of their own name, and the file whose tests cover them.
COVERED_BY = {
    **{
        f"channel/{module}.py": "channel/test_channel.py"
        for module in [
            "connection",
            "inline",
            "notes",
            "plugin",
            "ticket",
            "wire",
        ]
    },
    "events/channel.py": "events/test_manager.py",
    **{
        f"executors/{room}/{module}.py": f"executors/{room}/{tests}.py"
        for room, tests, modules in (
            ("airflow", "test_executor", "calls lost reach store"),
            ("dask", "test_executor", "cluster factory session"),
            ("jobqueue", "test_factory", "keeper systems"),
            ("processes", "test_executor", "deaths frames future handle launch starts worker"),
            ("ray", "test_executor", "lane session"),
            ("recovery", "test_executor", "breakable generation marks salvage"),
            ("travel", "test_envelope", "carried packing"),
            ("travel", "test_pickler", "outbound"),
            ("travel", "test_portable", "state"),
            (
                "travel",
                "test_script",
                "children collection initializer loading namespaces parts returning",
            ),
        )
        for module in modules.split()
    },
    "optimization/history/compared.py": "optimization/history/test_history.py",
    "optimization/history/drawing.py": "optimization/history/test_plots.py",
    "optimization/history/parallel.py": "optimization/history/test_plots.py",
    "optimization/history/pareto.py": "optimization/history/test_history.py",
    "optimization/history/ranking.py": "optimization/history/test_history.py",
    "optimization/history/timeline.py": "optimization/history/test_plots.py",
    "optimization/records/codec.py": "optimization/records/test_record.py",
    "optimization/records/errors.py": "optimization/records/test_record.py",
    "optimization/records/files.py": "optimization/history/test_history.py",
    "optimization/records/parts.py": "optimization/records/test_record.py",
    "optimization/records/pickled.py": "optimization/records/test_record.py",
    "optimization/records/rows.py": "optimization/records/test_record.py",
    "optimization/search/search.py": "optimization/search/test_loop.py",
    "scheduling/closing.py": "scheduling/test_run.py",
    "scheduling/clusters.py": "scheduling/test_constructors.py",
    "scheduling/dispatcher.py": "scheduling/test_task.py",
    "scheduling/execution.py": "scheduling/test_scheduler.py",
    "scheduling/happenings.py": "scheduling/test_scheduler.py",
    "scheduling/lineup.py": "scheduling/test_plugin.py",
    "testing/contracts/executor.py": "executors/test_contract.py",
    "testing/contracts/optimizer.py": "optimization/optimizers/test_contract.py",
    "testing/contracts/functions.py": "architecture/test_names.py",
    "testing/contracts/plugin.py": "plugins/test_contract.py",
}


def modules():
    """Return the modules that are not private, nor in a private room, as paths below the source."""
    paths = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return {path for path in paths if not any(part.startswith("_") for part in path.parts)}


def mirror_of(module):
    return module.with_name(f"test_{module.name}")


def test_every_module_has_its_tests():
    expected = {m: COVERED_BY.get(m.as_posix(), mirror_of(m)) for m in modules()}

    assert {str(m) for m, tests in expected.items() if not (TESTS / tests).is_file()} == set()


def test_the_table_names_no_module_that_is_gone_or_has_its_own_tests():
    known = {m.as_posix(): m for m in modules()}

    assert set(COVERED_BY) - set(known) == set()
    assert {n for n in COVERED_BY if (TESTS / mirror_of(known[n])).is_file()} == set()
