import json
import sys

import pytest

from amltk._optional import require
from amltk.exceptions import MissingExtraError


def test_a_package_that_is_there_is_imported():
    assert require("json", extra="any", purpose="a test") is json


def test_a_missing_package_tells_the_install_command():
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package_of_anybody", extra="loky", purpose='the "loky" executor')

    assert str(caught.value) == (
        'the "loky" executor needs "no_such_package_of_anybody", which is not installed; '
        'install it with: pip install "amltk[loky]"'
    )


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
