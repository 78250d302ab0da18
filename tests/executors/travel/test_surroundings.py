import multiprocessing.spawn
import os
import sys

import pytest
import support

from amltk.exceptions import ExecutorError
from amltk.executors.travel.surroundings import interpreter, search_path, working_folder

GONE = """
import os, sys, tempfile
from amltk import Scheduler
folder = tempfile.mkdtemp()
os.chdir(folder)
os.rmdir(folder)
scheduler = Scheduler.with_processes(1)
futures = []
scheduler.on_start(lambda: futures.append(scheduler.submit(abs, -1)))
scheduler.run(timeout=30)
print(futures[0].result())
"""

MOVED = """
import os, sys
sys.path[0] = ""
import beside
from amltk import Scheduler
os.chdir("elsewhere")
scheduler = Scheduler.with_processes(1)
futures = []
scheduler.on_start(lambda: futures.append(scheduler.submit(beside.double, 2)))
scheduler.run(timeout=30)
print(futures[0].result())
"""


def test_a_driver_whose_folder_is_gone_has_workers(tmp_path):
    (tmp_path / "script.py").write_text(GONE)

    assert support.start_script(tmp_path / "script.py").communicate(timeout=40)[0].strip() == "1"


def test_a_driver_that_has_moved_finds_what_it_had_imported(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "beside.py").write_text("def double(x): return 2 * x")
    (tmp_path / "script.py").write_text(MOVED)
    monkeypatch.chdir(tmp_path)

    assert support.start_script(tmp_path / "script.py").communicate(timeout=40)[0].strip() == "4"


def test_of_a_folder_that_is_gone_there_is_no_name(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert working_folder() is None


def test_all_parts_of_the_search_path_are_absolute(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "src", 7, "/absolute"])

    assert all(os.path.isabs(part) for part in search_path())  # noqa: PTH117 - of texts
    assert search_path()[-1] == "/absolute"


class TestAFrozenApplication:
    def test_it_does_not_start_itself_again(self, monkeypatch):
        monkeypatch.setattr(sys, "frozen", True, raising=False)

        with pytest.raises(ExecutorError, match="frozen application"):
            interpreter()

    def test_it_may_say_where_an_interpreter_is(self, monkeypatch):
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/usr/bin/python")

        assert interpreter() == "/usr/bin/python"
