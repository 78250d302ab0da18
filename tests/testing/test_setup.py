"""What the scripts share: an environment that is whole, of the Python that was asked for."""

import sys

import pytest
import support


@pytest.fixture
def setup(monkeypatch, tmp_path):
    """Return the module of the scripts, for an environment of the test's, that notes its commands."""
    monkeypatch.syspath_prepend(support.ROOT / "scripts")
    monkeypatch.setenv("AMLTK_VENV", str(tmp_path / "venv"))
    monkeypatch.delenv("PYTHON", raising=False)
    sys.modules.pop("_setup", None)
    import _setup

    _setup.commands = []
    monkeypatch.setattr(_setup, "run", lambda *command: _setup.commands.append(command))
    yield _setup
    sys.modules.pop("_setup", None)


def interpreter(folder, *, has_pip=True, version="3 11"):
    """Make what looks like an environment's Python."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    answers = f'case "$*" in *pip*) exit {0 if has_pip else 1};; *) echo {version};; esac'
    python.write_text(f"#!/bin/sh\n{answers}\n")
    python.chmod(0o755)
    return python


def test_an_environment_that_was_left_unfinished_is_made_anew(setup, tmp_path):
    interpreter(tmp_path / "venv", has_pip=False)

    setup.prepare("test")

    assert next(command[-1] for command in setup.commands) == tmp_path / "venv"
    assert "--clear" in setup.commands[0]


def test_one_that_is_whole_is_kept_and_installed_into_once(setup, tmp_path):
    interpreter(tmp_path / "venv")

    for _ in range(2):
        setup.prepare("dev")
    setup.prepare("test")  # is part of it

    assert len(setup.commands) == 1
    assert setup.commands[0][-1].endswith("[dev]")


def test_one_of_another_python_than_was_asked_for_is_refused(setup, tmp_path, monkeypatch):
    interpreter(tmp_path / "venv", version="3 11")
    monkeypatch.setenv("PYTHON", str(interpreter(tmp_path / "other", version="3 14")))

    with pytest.raises(SystemExit, match=r"asks for 3\.14, and .*venv has 3\.11.*AMLTK_VENV"):
        setup.prepare("test")


@pytest.mark.parametrize(
    ("given", "match"),
    [("no-such-python", "there is no .*3.11"), ("old", "is Python 3.10; .*3.11 or newer")],
)
def test_a_python_that_cannot_be_used_is_refused(setup, tmp_path, monkeypatch, given, match):
    if given == "old":
        given = str(interpreter(tmp_path / "old", version="3 10"))
    monkeypatch.setenv("PYTHON", given)

    with pytest.raises(SystemExit, match=match):
        setup.prepare("test")


@pytest.mark.parametrize("note", ["", "{", "[]", '{"extras": 3}'])
def test_a_note_that_cannot_be_read_is_none(setup, tmp_path, note):
    interpreter(tmp_path / "venv")
    (tmp_path / "venv" / "amltk-installed.json").write_text(note)

    setup.prepare("test")

    assert len(setup.commands) == 1


def test_an_extra_that_there_is_not_is_refused(setup, tmp_path):
    interpreter(tmp_path / "venv")

    with pytest.raises(SystemExit, match=r"no extra 'nonsense'; it has: .*dask"):
        setup.prepare("nonsense")
