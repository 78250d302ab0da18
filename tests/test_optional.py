import json
import sys
from importlib import metadata

import pytest

from amltk._optional import require
from amltk.exceptions import MissingExtraError


def test_a_package_that_is_there_is_imported():
    assert require("json", extra="any", purpose="a test") is json


@pytest.mark.parametrize("name", ["dask_jobqueue", "dask-jobqueue", "Dask_Jobqueue"])
def test_a_missing_package_is_named_with_the_range_that_the_metadata_ask_for(monkeypatch, name):
    asked = ["loky<4,>=3.4; extra == 'loky'", "dask-jobqueue[x] >=0.9,<0.10 ; extra == 'jobqueue'"]
    monkeypatch.setattr(metadata, "requires", lambda _name: asked)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        require(name, extra="jobqueue", purpose='the "slurm" executor')

    assert str(caught.value) == (
        f'the "slurm" executor needs "{name}", which is not installed; '
        f'install it with: pip install "dask-jobqueue>=0.9,<0.10"'
    )


def test_a_package_of_which_the_metadata_say_nothing_is_named():
    with pytest.raises(MissingExtraError, match='pip install "no_such_package_of_anybody"'):
        require("no_such_package_of_anybody", extra="loky", purpose="a test")


def test_so_it_is_where_there_are_no_metadata(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    monkeypatch.setitem(sys.modules, "loky", None)
    with pytest.raises(MissingExtraError, match='pip install "loky"'):
        require("loky", extra="loky", purpose="a test")


def test_a_missing_package_is_an_import_error_with_extra_and_package():
    with pytest.raises(ImportError) as caught:
        require("no_such_package_of_anybody", extra="loky", purpose="a test")

    assert caught.value.extra == "loky"
    assert caught.value.package == "no_such_package_of_anybody"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_missing_part_of_a_missing_package_counts_as_the_package():
    with pytest.raises(MissingExtraError, match="no_such_package_of_anybody"):
        require("no_such_package_of_anybody.part", extra="dask", purpose="a test")


def test_a_package_that_misses_a_package_of_its_own_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_package_of_anybody")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="no_such_package_of_anybody") as caught:
        require("half_installed", extra="dask", purpose="a test")

    assert not isinstance(caught.value, MissingExtraError)
    assert "half_installed" not in sys.modules
