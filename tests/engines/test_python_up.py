"""The script that puts a newer Python beside the machine's own: what it says where it cannot."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import support

SCRIPT = support.ROOT / "scripts" / "engines" / "python-up"

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"

#: What the script takes from any Linux; apt and dpkg are not among them.
TOOLS = (
    "awk",
    "cat",
    "dirname",
    "flock",
    "grep",
    "head",
    "ls",
    "mkdir",
    "rm",
    "sed",
    "sort",
    "tail",
    "tr",
)


@pytest.fixture
def tools(tmp_path):
    """A folder with what any Linux has, to be the whole path of the script."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def add_command(folder, name, code):
    (folder / name).write_text(f"#!/bin/sh\n{code}\n")
    (folder / name).chmod(0o755)


def python_up(*arguments, path=None):
    environment = {**os.environ, "PATH": str(path)} if path else None
    command = [shutil.which("bash"), SCRIPT, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", ["", "3", "2.7", "3.14.1", "pypy"])
def test_what_is_no_version_is_told_with_an_example(version):
    done = python_up(version)

    assert (done.returncode, done.stdout) == (1, "")
    assert "python-up: FAILED" in done.stderr
    assert "python-up 3.14" in done.stderr


def test_a_free_threaded_build_is_not_to_be_had():
    done = python_up("3.14t")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no free-threaded build" in done.stderr


def test_a_python_that_works_stays_as_it_is(tmp_path, tools):
    python = tmp_path / "3.14" / "usr" / "bin" / "python3.14"
    python.parent.mkdir(parents=True)
    add_command(python.parent, python.name, "exit 0")

    done = python_up("3.14", tmp_path / "3.14", path=tools)

    assert (done.returncode, done.stdout) == (0, f"{python}\n")


def test_elsewhere_than_on_debian_it_says_so(tmp_path, tools):
    done = python_up("3.14", tmp_path / "3.14", path=tools)

    assert (done.returncode, done.stdout) == (1, "")
    assert "this works on Debian" in done.stderr
    assert list(tmp_path.iterdir()) == [tools]


@pytest.mark.skipif(not Path(KEYS).exists(), reason="Debian's keys and sources of apt are needed")
class TestDebian:
    """With stand-ins for apt's commands."""

    @pytest.fixture(autouse=True)
    def debian(self, tools):
        add_command(tools, "dpkg-deb", "exit 1")
        add_command(tools, "apt-get", "exit 0")
        add_command(
            tools, "apt-cache", "if [ $1 = pkgnames ]; then echo python3.98; else exit 1; fi"
        )

    def test_a_version_that_is_gone_is_told_with_those_that_are_there(self, tmp_path, tools):
        done = python_up("3.14", tmp_path / "3.14", path=tools)

        assert (done.returncode, done.stdout) == (1, "")
        assert "have no python3.14; there are: python3.98" in done.stderr
        assert not (tmp_path / "3.14").exists()

    def test_without_a_network_it_says_so(self, tmp_path, tools):
        add_command(tools, "apt-get", "echo no route to host >&2; exit 100")

        done = python_up("3.14", tmp_path / "3.14", path=tools)

        assert (done.returncode, done.stdout) == (1, "")
        assert "no route to host" in done.stderr
        assert "is there a network?" in done.stderr
        assert not (tmp_path / "3.14").exists()

    def test_packages_that_do_not_fit_each_other_are_told(self, tmp_path, tools):
        add_command(tools, "apt-cache", "exit 0")
        add_command(tools, "apt-get", 'case "$*" in *install*) exit 100;; esac')

        done = python_up("3.14", tmp_path / "3.14", path=tools)

        assert (done.returncode, done.stdout) == (1, "")
        assert "do not fit each other" in done.stderr

    @pytest.mark.parametrize("end", ["", "/"])
    def test_a_folder_of_somebody_else_is_not_touched(self, tools, end):
        done = python_up("3.14", f"{tools}{end}", path=tools)

        assert (done.returncode, done.stdout) == (1, "")
        assert "was not made by this script" in done.stderr
        assert (tools / "awk").exists()

    def test_a_folder_that_cannot_be_made_is_told(self, tools):
        done = python_up("3.14", "/proc/3.14", path=tools)

        assert (done.returncode, done.stdout) == (1, "")
        assert "name another folder" in done.stderr
