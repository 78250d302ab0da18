import os
import stat
import subprocess
import sys
import tempfile

import pytest

from amltk.executors.travel import folders
from amltk.executors.travel.folders import OWNER, make_folder


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(folders, "_has_swept", False)
    return tmp_path


@pytest.fixture
def ended_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def folder_of(place, name, owner):
    folder = place / name
    folder.mkdir()
    (folder / OWNER).write_text(owner)
    return folder


def test_nobody_else_can_enter_it():
    assert stat.S_IMODE(make_folder("calls").stat().st_mode) == 0o700


def test_what_a_killed_program_has_left_behind_is_removed(own_place, ended_pid):
    left = folder_of(own_place, "amltk-calls-left", f"{ended_pid} 1.5 {folders._where()}")
    make_folder("calls")

    assert not left.exists()


def test_a_number_that_was_given_again_does_not_keep_it(own_place):
    left = folder_of(own_place, "amltk-calls-left", f"{os.getpid()} 1.5 {folders._where()}")
    make_folder("calls")

    assert not left.exists()


def test_one_of_another_machine_or_container_stays(own_place, ended_pid):
    elsewhere = folder_of(own_place, "amltk-calls-1", f"{ended_pid} 1.5 another pid:[1]")
    make_folder("calls")

    assert elsewhere.exists()


def test_folders_of_running_programs_and_of_others_stay(own_place):
    own = make_folder("calls")
    folders._has_swept = False
    strange = own_place / "amltk-strange"
    strange.mkdir()
    broken = folder_of(own_place, "amltk-broken", "nonsense")
    make_folder("calls")

    assert own.exists()
    assert strange.exists()
    assert broken.exists()
