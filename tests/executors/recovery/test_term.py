import signal
import subprocess
import sys

SCRIPT = """
import os, signal, sys, time
from amltk.executors.recovery.term import Term
from amltk.executors.travel.parcel import pack_parcel

def term():
    os.kill(os.getpid(), signal.SIGTERM)

class Leaving(SystemExit):
    def __reduce__(self):
        term()  # once more, while what the first one has raised is packed
        return super().__reduce__()

def leave(*_):
    raise Leaving(15)

def noted():
    print("noted")

def work():
    term()
    time.sleep(60)

signal.signal(signal.SIGTERM, leave)
handler = Term()
handler.install()
print("an outcome:", handler.run(pack_parcel(work, (), {}).payload, note=noted))
"""


def test_a_worker_that_is_told_twice_ends_and_makes_no_outcome_of_it():
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50, check=False
    )

    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, ""), ended.stderr


MASKED = """
import os, signal, time
from amltk.executors.recovery.term import Term
from amltk.executors.travel.parcel import pack_parcel

class Slow:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGTERM)  # its pool breaks while the result is packed
        return str, ("done",)

handler = Term()
handler.install()
outcome = handler.run(pack_parcel(Slow, (), {}).payload, note=lambda: print("noted", flush=True))
print(b"done" in outcome, flush=True)
handler.rest()
print("not ended")
"""


def test_the_outcome_of_a_call_that_has_ended_is_noted_before_term_ends_its_worker():
    ended = subprocess.run(
        [sys.executable, "-c", MASKED], capture_output=True, text=True, timeout=50, check=False
    )

    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "noted\nTrue\n"), ended.stderr
