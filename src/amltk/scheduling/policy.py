"""Why a run ends, what it tells then and what it returns: the decisions, without the doing."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from amltk.exceptions import InvalidOptionError

#: What ``end_on_exception`` takes.
EndOnException = bool | type[BaseException] | tuple[type[BaseException], ...]


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
        if timeout is not None and not timeout >= 0:
            message = f"a run cannot last {timeout!r} seconds; give timeout= a number >= 0, or None"
            raise InvalidOptionError(message, option="timeout", value=timeout)
        kinds = ends if isinstance(ends, tuple) else (ends,)
        if not isinstance(ends, bool) and not all(map(_is_exception_type, kinds)):
            message = (
                f"end_on_exception={ends!r} is not possible; give True, False, an exception type "
                f"or a tuple of them"
            )
            raise InvalidOptionError(message, option="end_on_exception", value=ends)

    def ends_run(self, error: BaseException) -> bool:
        """Decide whether an exception of a call ends the run."""
        ends = self.end_on_exception
        return ends if isinstance(ends, bool) else isinstance(error, ends)


def _is_exception_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
