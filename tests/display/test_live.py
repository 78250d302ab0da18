import os
import pty
import re
import select
import subprocess
import sys
from io import StringIO

import pytest
import support
from rich.console import Console

from amltk import Scheduler, Task
from amltk.display.live import LiveView
from amltk.testing import ManualExecutor, VirtualClock

TIMEOUT = 30

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def terminal():
    return Console(file=StringIO(), force_terminal=True, width=100)


@pytest.fixture
def scheduler():
    return Scheduler.with_sequential()


def shown(console):
    return lambda scheduler: LiveView(scheduler, console=console)


def drawn(view):
    """What the view would draw now."""
    console = Console(file=StringIO(), width=100)
    console.print(view.render())
    return console.file.getvalue()


def counts_of(text, name):
    """The first five cells of a task's last row."""
    line = [line for line in text.splitlines() if name in line and "│" in line][-1]
    return [int(cell) for cell in line.strip("│ \r").split("│")[1:6]]


class TestWhereTheOutputIsNoTerminal:
    def test_nothing_is_written(self, scheduler):
        console = Console(file=StringIO(), force_terminal=False)
        task = Task(support.double, scheduler)
        scheduler.on_start(lambda: task(1))
        scheduler.run(display=shown(console))
        assert console.file.getvalue() == ""
        assert task.event_counts[task.RETURNED] == 1

    def test_nobody_listens(self, scheduler):
        with LiveView(scheduler, console=Console(file=StringIO(), force_terminal=False)):
            assert not scheduler.event_manager.has(Scheduler.FUTURE_DONE)

    def test_a_script_with_display_prints_only_its_own(self, tmp_path):
        (tmp_path / "script.py").write_text(SCRIPT)
        process = support.start_script(tmp_path / "script.py")
        said = process.communicate(timeout=TIMEOUT)[0]
        assert said.splitlines() == ["EXHAUSTED"]


class TestInATerminal:
    def test_the_last_picture_has_all_that_became_of_the_calls(self, scheduler, terminal):
        train, test = Task(support.double, scheduler), Task(support.fail, scheduler, name="test")
        scheduler.on_start(lambda: [train(x) for x in range(3)])
        scheduler.on_start(lambda: [test("broken"), test("worse"), test("never").cancel()])
        scheduler.run(display=shown(terminal), end_on_exception=False)
        text = plain(terminal.file.getvalue())
        assert counts_of(text, "double") == [3, 0, 3, 0, 0]
        assert counts_of(text, "test") == [3, 0, 0, 2, 1]
        assert "last error: ValueError: worse" in text

    def test_what_runs_and_the_time_left_are_shown_while_the_run_is_on(self, terminal):
        manual, pictures = ManualExecutor(), []
        scheduler = Scheduler(manual)
        task = Task(support.double, scheduler)
        view = LiveView(scheduler, console=terminal)
        scheduler.on_start(lambda: [task(x) for x in range(3)])
        task.on_submitted(lambda: pictures.append(drawn(view)))
        task.on_submitted(lambda: task.n_called == 3 and manual.finish_all(), limit=1)
        VirtualClock().run(scheduler.async_run(timeout=3600, display=lambda _: view))
        assert counts_of(pictures[-1], "double") == [3, 3, 0, 0, 0]
        assert re.search(r"running · 0:00:00 elapsed · (1:00:00|0:59:59) left", pictures[-1])
        assert "last error" not in pictures[-1]

    def test_only_the_first_line_of_a_long_error_is_shown(self, scheduler, terminal):
        task = Task(support.fail, scheduler)
        scheduler.on_start(lambda: task("first\nbeyond " + 1000 * "x"))
        scheduler.run(display=shown(terminal), end_on_exception=False)
        text = plain(terminal.file.getvalue())
        assert "last error: ValueError: first" in text
        assert "beyond" not in text

    def test_markup_in_an_error_is_shown_as_it_is(self, scheduler, terminal):
        task = Task(support.fail, scheduler)
        scheduler.on_start(lambda: task("[red]no[/blue]"))
        scheduler.run(display=shown(terminal), end_on_exception=False)
        assert "last error: ValueError: [red]no[/blue]" in plain(terminal.file.getvalue())

    def test_the_cursor_is_back_after_a_callback_that_raised(self, scheduler, terminal):
        scheduler.on_start(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scheduler.run(display=shown(terminal))
        text = terminal.file.getvalue()
        assert HIDE_CURSOR in text
        assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)

    def test_it_stops_listening_even_after_an_error(self, scheduler, terminal):
        with pytest.raises(ValueError, match="mine"), LiveView(scheduler, console=terminal):
            raise ValueError("mine")
        assert not scheduler.event_manager.has(Scheduler.FUTURE_DONE)
        assert not scheduler.event_manager.has(Scheduler.FINISHED)

    def test_a_second_run_is_shown_too(self, scheduler, terminal):
        task = Task(support.double, scheduler)
        scheduler.on_start(lambda: task(1))
        for n_runs in (1, 2):
            scheduler.run(display=shown(terminal))
            text = plain(terminal.file.getvalue())
            assert counts_of(text, "double") == [n_runs, 0, n_runs, 0, 0]


SCRIPT = """
import support
from amltk import Scheduler, Task

scheduler = Scheduler.with_processes(1)
task = Task(support.add, scheduler)
scheduler.on_start(lambda: [task(x) for x in range(5)])
print(scheduler.run(display=True).name)
"""

FAILING = """
import support
from amltk import Scheduler, Task

scheduler = Scheduler.with_processes(1)
task = Task(support.add, scheduler)
scheduler.on_start(lambda: task(1))
task.on_returned(lambda: 1 / 0)
scheduler.run(display=True)
"""


def run_in_terminal(script):
    """Run a script in a pseudo terminal; return its exit code and all that it drew."""
    ours, theirs = pty.openpty()
    path = [str(support.ROOT / "src"), str(support.ROOT / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TERM": "xterm"}
    environment |= {"COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], TIMEOUT)[0]:
        try:
            said += os.read(ours, 65536)
        except OSError:  # nobody has the other end any more
            break
    os.close(ours)
    return process.wait(TIMEOUT), said.decode()


class TestInARealTerminal:
    def test_a_run_is_drawn_and_the_terminal_left_as_it_was(self, tmp_path):
        (tmp_path / "script.py").write_text(SCRIPT)
        code, said = run_in_terminal(tmp_path / "script.py")
        assert code == 0
        assert counts_of(plain(said), "add") == [5, 0, 5, 0, 0]
        assert plain(said).rstrip().endswith("EXHAUSTED")
        assert said.rindex(SHOW_CURSOR) > said.rindex(HIDE_CURSOR)

    def test_an_error_in_a_callback_leaves_the_terminal_as_it_was(self, tmp_path):
        (tmp_path / "script.py").write_text(FAILING)
        code, said = run_in_terminal(tmp_path / "script.py")
        assert code == 1
        assert "ZeroDivisionError" in said
        assert said.rindex(SHOW_CURSOR) > said.rindex(HIDE_CURSOR)


class TestWithoutRich:
    BLOCKED = "import sys\nsys.modules['rich'] = None\n"

    @pytest.mark.parametrize("use", ["import amltk.display.live\n", SCRIPT])
    def test_it_says_how_to_install_it(self, tmp_path, use):
        (tmp_path / "script.py").write_text(self.BLOCKED + use)
        process = support.start_script(tmp_path / "script.py")
        last = process.communicate(timeout=TIMEOUT)[0].splitlines()[-1]
        assert process.returncode == 1
        assert "MissingExtraError: the live view needs" in last
        assert re.search(r'pip install "rich[<>]=?\d', last)

    def test_a_run_without_display_does_not_need_it(self, tmp_path):
        script = self.BLOCKED + SCRIPT.replace("display=True", "")
        (tmp_path / "script.py").write_text(script)
        process = support.start_script(tmp_path / "script.py")
        assert process.communicate(timeout=TIMEOUT)[0] == "EXHAUSTED\n"
