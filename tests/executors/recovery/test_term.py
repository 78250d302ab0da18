import signal
import subprocess
import sys

SCRIPT = """
import os, signal, sys, time
from amltk.executors.recovery.term import Term
from amltk.executors.travel.envelope import pack_call

def term():
    os.kill(os.getpid(), signal.SIGTERM)

class Leaving(SystemExit):
    def __reduce__(self):
        term()  # once more, while what the first one has raised is packed
        return super().__reduce__()

def leave(*_):
    raise Leaving(15)

def work():
    term()
    time.sleep(60)

signal.signal(signal.SIGTERM, leave)
handler = Term()
handler.install()
print("an outcome:", handler.run(pack_call(work, (), {})))
"""


def test_a_worker_that_is_told_twice_ends_and_makes_no_outcome_of_it():
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50, check=False
    )

    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, ""), ended.stderr
