"""Calls that would change the same thing of their process: one thread's at a time."""

import threading

import pytest
import support

from amltk.exceptions import CallError
from amltk.plugins._alone import Alone

#: A child is forked while another thread is inside; it says whether it gets in.
FORK_WHILE_INSIDE = """
import os, sys, threading, warnings
from amltk.plugins._alone import Alone

warnings.simplefilter("ignore")  # of forking with threads
alone, inside = Alone("X"), threading.Event()
end = threading.Event()

def stay():
    with alone:
        inside.set()
        end.wait(20)

thread = threading.Thread(target=stay)
thread.start()
inside.wait(20)
pid = os.fork()
if not pid:
    os._exit(0 if alone.enter() else 1)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
here = alone.enter()
end.set()
thread.join()
sys.exit(status or here)
"""


def elsewhere(do):
    """Return what something returns in another thread."""
    returned = []
    thread = threading.Thread(target=lambda: returned.append(do()))
    thread.start()
    thread.join()
    return returned[0]


def test_another_thread_is_turned_away_until_the_first_has_left():
    alone = Alone("X")
    with alone:
        assert elsewhere(alone.enter) is False
    assert elsewhere(lambda: alone.enter() and alone.leave() is None) is True


def test_the_same_thread_may_go_in_again():
    alone = Alone("X")
    with alone:
        with alone:
            pass
        assert elsewhere(alone.enter) is False


def test_it_is_left_when_something_raises():
    alone = Alone("X")
    with pytest.raises(LookupError, match="inside"), alone:
        raise LookupError("inside")
    assert elsewhere(lambda: alone.enter() and alone.leave() is None) is True


def test_who_is_turned_away_hears_what_to_do():
    def try_it():
        with pytest.raises(CallError, match=r"X could not be used.*one thread"), alone:
            pass

    alone = Alone("X")
    with alone:
        elsewhere(try_it)


def test_a_forked_child_does_not_wait_for_a_thread_that_it_has_not(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FORK_WHILE_INSIDE)
    process = support.start_script(script)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
