"""What becomes of each call of a broken pool.

====================================  ============================================
the marks say                         then the call
====================================  ============================================
ended, and its outcome was found      has that outcome
ended                                 fails: its result is lost, it may have effects
running, in a worker that died        fails: it is the culprit
running, in a worker that was ended   runs again, unless this happens to it too often
nothing: it had not started           runs again, for the first time
====================================  ============================================
"""

from __future__ import annotations

import signal
from contextlib import suppress

from amltk.exceptions import WorkerDiedError
from amltk.executors.processes.deaths import death_of
from amltk.executors.recovery.generation import Call, Generation
from amltk.executors.recovery.marks import Marks
from amltk.executors.travel.envelope import name_of

#: In so many broken pools a call may have been running with nobody known to be the culprit.
MAX_SUSPICIONS = 3

#: A packed outcome, an error, or nothing for a call that is to run again.
Verdict = bytes | BaseException | None


def judge(broken: Generation) -> list[tuple[Call, Verdict]]:
    """Decide what becomes of the calls that a broken pool has lost.

    Args:
        broken: The pool, whose workers are gone.

    Returns:
        Its lost calls in order of submission, each with its verdict.
    """
    marks, dead = broken.marks(), broken.workers.dead
    knows_culprit = any(pid in dead for pid in marks.running.values())
    verdicts: list[tuple[Call, Verdict]] = []
    for number, call in sorted(broken.lost.items()):
        verdict: Verdict
        if not broken.has_marks:
            # What has started may have done something, and nobody can tell who broke the pool.
            verdict = call._breakage if number in marks.running else None
        elif number in marks.outcomes:
            verdict = marks.outcomes[number]
        else:
            verdict = _error_of(call, marks, dead, knows_culprit=knows_culprit)
            if verdict is not None:
                verdict.__cause__ = call._breakage
        verdicts.append((call, verdict))
    return verdicts


def _error_of(
    call: Call, marks: Marks, dead: dict[int, int | None], *, knows_culprit: bool
) -> BaseException | None:
    number, name = call._number, name_of(call._function)
    if number in marks.ended:
        pid = marks.ended[number]
        return _lost_result(pid, dead.get(pid), name)
    if number not in marks.running:
        return None
    pid = marks.running[number]
    if pid in dead:
        return death_of(pid, dead[pid], name)
    call._n_suspicions += not knows_culprit
    return _suspect(pid, name) if call._n_suspicions >= MAX_SUSPICIONS else None


def _lost_result(pid: int, exit_code: int | None, name: str) -> WorkerDiedError:
    signal_name = None
    with suppress(ValueError, TypeError):
        signal_name = signal.Signals(-exit_code).name  # type: ignore[operator] # None is suppressed
    message = (
        f"{name} had finished in worker process {pid}, but its result was lost when the pool "
        f"broke; it is not run again by itself, since its effects may be there already"
    )
    return WorkerDiedError(message, pid=pid, exit_code=exit_code, signal_name=signal_name)


def _suspect(pid: int, name: str) -> WorkerDiedError:
    message = (
        f"{name} was running in each of {MAX_SUSPICIONS} pools that broke without any worker "
        f"being known to have died by itself; it is not run again by itself"
    )
    return WorkerDiedError(message, pid=pid, exit_code=None, signal_name=None)
