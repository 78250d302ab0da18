"""What an engine can do, in terms that the scheduler asks for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What an executor can do and what has to be done for it.

    An executor of your own says it by an attribute ``traits``. The defaults are what is safe to
    assume of an executor that says nothing.
    """

    #: Calls have to travel as bytes, since the worker does not share this process's memory.
    pickles: bool = True
    #: The executor packs calls into bytes by itself, so that nobody has to do it for it.
    packs_itself: bool = False
    #: ``future.cancel()`` also ends a call that is running.
    ends_running_calls: bool = False
    #: ``future.cancel()`` can be believed for a call that may have started: ``True`` means that
    #: it will never run.
    tells_started: bool = True
    #: A worker's death takes calls of other workers with it.
    death_spreads: bool = False
    #: The workers run on this machine, and reach its loopback; ``None`` where only they can tell.
    shares_machine: bool | None = True
    #: The call runs inside ``submit``.
    runs_inline: bool = False
    #: Calls run in threads of this process, which nobody can end.
    runs_in_threads: bool = False
    #: How many calls run at once at most; ``None`` where that is not known before a run.
    n_workers: int | None = None


@dataclass(frozen=True, slots=True)
class Factory:
    """What makes an executor, and what is known of it before it is made."""

    #: Not shown: among its options may be passwords.
    make: Callable[[], Executor] = field(repr=False)
    traits: Traits

    def __call__(self) -> Executor:
        """Make the executor."""
        return self.make()
