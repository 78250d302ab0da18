import concurrent.futures
import os
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import support

from amltk import Scheduler
from amltk.exceptions import InvalidOptionError, MissingExtraError
from amltk.executors.processes.executor import ProcessExecutor
from amltk.executors.registry import adopt, factory_of, portable, traits_of
from amltk.executors.sequential import SequentialExecutor
from amltk.executors.traits import Traits


class Unknown(Executor):
    """Says nothing about itself."""


class TestFactories:
    @pytest.mark.parametrize(
        ("engine", "kind"),
        [
            ("sequential", SequentialExecutor),
            ("threads", ThreadPoolExecutor),
            ("processes", ProcessExecutor),
        ],
    )
    def test_a_name_makes_an_executor_each_time(self, engine, kind):
        make = factory_of(engine)
        with make() as one, make() as other:
            assert (type(one), type(other)) == (kind, kind)
            assert one is not other

    def test_an_unknown_name_tells_those_that_there_are(self):
        with pytest.raises(InvalidOptionError, match=r"there are: .*loky, .*processes") as caught:
            factory_of("sloth")
        assert (caught.value.option, caught.value.value) == ("engine", "sloth")

    @pytest.mark.parametrize("engine", ["threads", "processes", "loky"])
    def test_no_workers_are_refused_before_a_run(self, engine):
        with pytest.raises(InvalidOptionError, match="max_workers=0") as caught:
            factory_of(engine, max_workers=0)
        assert (caught.value.option, caught.value.value) == ("max_workers", 0)

    def test_a_missing_package_is_told_with_the_command_that_installs_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "loky", None)
        with pytest.raises(MissingExtraError, match=r'pip install "loky[<>]=?\d') as caught:
            factory_of("loky")
        assert (caught.value.extra, caught.value.package) == ("loky", "loky")


class TestEntryPoints:
    """What an installed package adds: real metadata in a folder on the path."""

    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        (tmp_path / "sloth_engine.py").write_text(
            "from amltk import SequentialExecutor\n"
            "def sloth_factory(*, pace=1):\n"
            "    if pace < 1:\n"
            "        raise ValueError('too slow')\n"
            "    return SequentialExecutor\n"
        )
        metadata = tmp_path / "sloth_engine-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: sloth-engine\nVersion: 1.0\n"
        )
        (metadata / "entry_points.txt").write_text(
            "[amltk.engines]\n"
            "sloth = sloth_engine:sloth_factory\n"
            "threads = sloth_engine:sloth_factory\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    def test_a_package_adds_an_engine_by_its_name(self, package):
        scheduler = Scheduler.with_engine("sloth", pace=2)
        results = []
        scheduler.on_start(lambda: scheduler.submit(results.append, 1))

        assert scheduler.run() is Scheduler.ExitCode.EXHAUSTED
        assert results == [1]

    def test_its_factory_refuses_its_options_before_a_run(self, package):
        with pytest.raises(ValueError, match="too slow"):
            Scheduler.with_engine("sloth", pace=0)

    def test_it_cannot_take_the_place_of_one_of_ours(self, package):
        with factory_of("threads")() as executor:
            assert isinstance(executor, ThreadPoolExecutor)

    def test_it_is_told_among_those_that_there_are(self, package):
        with pytest.raises(InvalidOptionError, match=r"sloth.*amltk\.engines"):
            Scheduler.with_engine("slot")


class TestTraits:
    def test_an_executor_says_its_own(self):
        class Own(Unknown):
            traits = Traits(shares_machine=False)

        assert traits_of(Own()) == Traits(shares_machine=False)

    def test_what_is_no_traits_is_not_believed(self):
        class Own(ThreadPoolExecutor):
            traits = "fast"

        with Own(1) as executor:
            assert traits_of(executor).runs_in_threads

    def test_of_an_unknown_executor_the_safe_ones_are_assumed(self):
        assert traits_of(Unknown()) == Traits()

    def test_a_subclass_is_known_by_its_parent(self):
        class Pool(ThreadPoolExecutor):
            pass

        with Pool(1) as executor:
            traits = traits_of(executor)
        assert traits == Traits(pickles=False, runs_in_threads=True, n_workers=1)

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreters came with Python 3.14")
    def test_threads_of_other_interpreters_have_calls_pickled(self):
        with concurrent.futures.InterpreterPoolExecutor(1) as executor:
            traits = traits_of(executor)
        assert traits == Traits(runs_in_threads=True, n_workers=1)

    def test_our_pool_ends_calls_and_packs_itself(self):
        with ProcessExecutor(1) as executor:
            traits = traits_of(executor)
        assert (traits.packs_itself, traits.ends_running_calls) == (True, True)

    @pytest.mark.parametrize(
        ("engine", "options", "expected"),
        [
            ("sequential", {}, 1),
            ("threads", {"max_workers": 3}, 3),
            ("processes", {"max_workers": 3}, 3),
            ("processes", {}, len(os.sched_getaffinity(0))),
            ("loky", {"max_workers": 3}, 3),
            ("dask", {"n_workers": 2, "threads_per_worker": 2}, 4),
            ("dask", {}, None),
            ("ray", {"num_cpus": 3}, 3),
            ("ray", {}, None),
            ("slurm", {"n_workers": 3, "cores": 2, "processes": 1, "memory": "1 GB"}, 6),
        ],
    )
    def test_how_many_calls_run_at_once_is_known_before_a_run_where_it_can_be(
        self, engine, options, expected
    ):
        package = {"dask": "distributed", "slurm": "dask_jobqueue"}.get(engine, engine)
        if package in ("loky", "ray", "distributed", "dask_jobqueue"):
            pytest.importorskip(package)
        assert traits_of(factory_of(engine, **options)).n_workers == expected

    @pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
    def test_a_pool_that_is_handed_in_tells_it_too(self, kind):
        with kind(3) as executor:
            assert traits_of(executor).n_workers == 3


class TestAdopt:
    @pytest.mark.parametrize(
        ("make", "can"),
        [
            (Unknown, False),
            (lambda: ThreadPoolExecutor(1), False),
            (lambda: ProcessPoolExecutor(1), True),
            (lambda: ProcessExecutor(1), True),
        ],
    )
    def test_it_knows_whose_calls_can_be_ended(self, make, can):
        engine = adopt(make())
        assert engine.can_end_calls is can
        engine.close(wait=True)

    def test_a_portable_function_is_still_the_function(self):
        assert portable(support.double).function is support.double


def test_importing_it_loads_no_engine(tmp_path):
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "import amltk.executors.registry\n"
        "names = 'loky distributed multiprocessing psutil cloudpickle'.split()\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    assert support.start_script(tmp_path / "script.py").communicate(timeout=20)[0] == "[]\n"
