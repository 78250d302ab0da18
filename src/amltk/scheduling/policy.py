"""Why a run ends, what it tells then and what it returns: the decisions, without the doing."""

from __future__ import annotations

import enum
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from amltk._checks import check_bool
from amltk.exceptions import InvalidOptionError

#: Whether the run goes on after an exception of a type.
Verdict: TypeAlias = Literal["continue", "end"]

#: What ``end_on_exception`` takes.
EndOnException: TypeAlias = (
    bool
    | type[BaseException]
    | tuple[type[BaseException], ...]
    | Mapping[type[BaseException], Verdict]
)

_VERDICTS = ("continue", "end")


class ExitCode(enum.Enum):
    """Why a run ended."""

    #: There was nothing left to run.
    EXHAUSTED = "exhausted"
    #: ``stop()`` was called.
    STOPPED = "stopped"
    #: The time limit was reached.
    TIMEOUT = "timeout"
    #: The coroutine of the run was cancelled.
    CANCELLED = "cancelled"


class Reason(enum.Enum):
    """What ends a run; the first one counts."""

    EXHAUSTED = "exhausted"
    STOPPED = "stopped"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    #: A call raised, and ``end_on_exception`` says that this ends the run.
    CALL_RAISED = "call raised"
    #: A callback raised: a bug in the driver.
    CALLBACK_RAISED = "callback raised"
    #: Ctrl-C.
    INTERRUPTED = "interrupted"


#: The exit code of each reason that has one; the others end in an exception.
EXIT_CODES: Mapping[Reason, ExitCode] = MappingProxyType(
    {
        Reason.EXHAUSTED: ExitCode.EXHAUSTED,
        Reason.STOPPED: ExitCode.STOPPED,
        Reason.TIMEOUT: ExitCode.TIMEOUT,
        Reason.CANCELLED: ExitCode.CANCELLED,
    }
)

#: Reasons told by the event ``STOP``; a timeout has an event of its own, exhaustion has none.
STOPPING = frozenset(
    {Reason.STOPPED, Reason.CALL_RAISED, Reason.CALLBACK_RAISED, Reason.INTERRUPTED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How one run behaves; see ``Scheduler.run`` for the meaning.

    Raises:
        InvalidOptionError: When a value makes no sense.
    """

    timeout: float | None = None
    end_on_empty: bool = True
    wait: bool = True
    end_on_exception: EndOnException = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense before anything starts."""
        timeout, ends = self.timeout, self.end_on_exception
        # `not >=` instead of `<`, so that NaN is refused too.
        if timeout is not None and (not _is_number(timeout) or not timeout >= 0):
            message = f"a run cannot last {timeout!r} seconds; give timeout= a number >= 0, or None"
            raise InvalidOptionError(message, option="timeout", value=timeout)
        check_bool("end_on_empty", self.end_on_empty)
        check_bool("wait", self.wait)
        if not isinstance(ends, bool) and not _is_policy(ends):
            message = (
                f"end_on_exception={ends!r} is not possible; give True, False, an exception type, "
                f'a tuple of them, or a dict from types to "continue" or "end"'
            )
            raise InvalidOptionError(message, option="end_on_exception", value=ends)

    def ends_run(self, error: BaseException) -> bool:
        """Decide whether an exception of a call ends the run."""
        ends = self.end_on_exception
        if isinstance(ends, bool):
            return ends
        if isinstance(ends, Mapping):
            # The nearest base class decides.
            said = (ends[kind] for kind in type(error).__mro__ if kind in ends)
            return next(said, "end") == "end"
        return isinstance(error, ends)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_policy(ends: object) -> bool:
    if isinstance(ends, Mapping) and not all(said in _VERDICTS for said in ends.values()):
        return False
    kinds = ends if isinstance(ends, tuple | Mapping) else (ends,)
    return all(map(_is_exception_type, kinds))


def _is_exception_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
