"""Every error and warning that amltk raises, in one tree.

Drawn::

    AmltkError
    ├── InvalidCallbackError (TypeError)        a callback that cannot be one
    ├── InvalidOptionError (ValueError)         an option with a value that makes no sense
    ├── CallbackArgumentsError (TypeError)      an event's arguments do not fit a callback
    ├── UnknownCallbackError (LookupError)      nothing is registered under this name
    ├── MissingExtraError (ImportError)         a package of an extra is not installed
    ├── SchedulerNotRunningError (RuntimeError) something that needs a run, without one
    ├── SchedulerRunningError (RuntimeError)    something that must wait for the run's end
    ├── NestedRunError (RuntimeError)           a run in a process that only imports the script
    ├── WouldDeadlockError (RuntimeError)       waiting in the loop for what the loop has to do
    ├── TransitionError (RuntimeError)          a call's life took a turn that it cannot take
    ├── BatchError (RuntimeError)               a batch used in a way that it cannot be
    ├── TrialError (RuntimeError)               a trial used in a way that it cannot be
    │   └── UnknownTrialError (LookupError)     no such trial was asked for, or it was told before
    ├── MetricError (ValueError)                a value that a metric cannot have
    ├── ReportTypeError (TypeError)             a trial's function returned no report of its trial
    ├── InvalidSpaceError (ValueError)          a space with a part that makes no sense
    ├── ExhaustedError (RuntimeError)           an optimizer has nothing left to try
    ├── HistoryError (ValueError)               a history that cannot be written, read or asked so
    ├── CallError (RuntimeError)                a call that could not run or report by itself
    │   ├── WorkerDiedError                     its worker died
    │   ├── CallExitError                       it called ``sys.exit()``
    │   ├── CallPicklingError                   function or arguments could not be sent
    │   ├── CallUnpicklingError                 function or arguments could not be read there
    │   ├── ResultPicklingError                 its result could not be sent back
    │   ├── ResultUnpicklingError               its result could not be read here
    │   └── RemoteError                         it raised what cannot be pickled
    ├── CommError (RuntimeError)                a message that could not be sent or read
    │   ├── CommConnectionError (ConnectionError)   the other side cannot be reached
    │   └── CommTimeoutError (TimeoutError)         the other side did not answer in time
    └── ExecutorError (RuntimeError)            an executor that cannot go on
        └── WorkerStartError (BrokenExecutor)   workers die before they are ready

    RemoteTraceback (Exception)                 the worker's traceback, as cause of an error
    AmltkWarning (UserWarning)
    ├── RunningCallsWarning                     running calls that could not be ended
    ├── LateCallWarning                         calls that came when the run was ending
    └── UnprotectedWarning                      messages that others on the network can read

Each error survives pickling with its attributes, so that it can cross process borders.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Any, Self


def _rebuild(kind: type[AmltkError], args: tuple[object, ...], facts: dict[str, Any]) -> AmltkError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class AmltkError(Exception):
    """The root of all errors that amltk raises itself.

    Args:
        message: What could not be done, with which value, and what to do next.
        **facts: The same facts as attributes, so that nobody has to parse the message.
    """

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle message and facts, whatever the signature of a subclass."""
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidCallbackError(AmltkError, TypeError):
    """A callback that cannot be one: not callable, or a coroutine function."""


class InvalidOptionError(AmltkError, ValueError):
    """An option with a value that makes no sense; see ``option`` and ``value``."""

    option: str
    value: object


class CallbackArgumentsError(AmltkError, TypeError):
    """An event was emitted with arguments that do not fit one of its callbacks."""


class UnknownCallbackError(AmltkError, LookupError):
    """No callback is registered under this name."""


class MissingExtraError(AmltkError, ImportError):
    """A package of an optional extra is not installed; ``extra`` and ``package`` say which."""

    extra: str
    package: str


class SchedulerNotRunningError(AmltkError, RuntimeError):
    """Something that needs a run was asked for while no run is on."""


class SchedulerRunningError(AmltkError, RuntimeError):
    """A run was asked for while another run of the same scheduler is on."""


class NestedRunError(AmltkError, RuntimeError):
    """A run was to start while a worker imports the module that starts it, and so on without end."""


class WouldDeadlockError(AmltkError, RuntimeError):
    """A callback would wait for a call that only its own thread can complete."""


class TransitionError(AmltkError, RuntimeError):
    """A call's life took a turn that it cannot take: a bug in amltk or in an executor."""

    number: int


class BatchError(AmltkError, RuntimeError):
    """A batch was used in a way that it cannot be, such as submitted twice."""


class TrialError(AmltkError, RuntimeError):
    """A trial was used in a way that it cannot be, such as reported before its work began."""

    #: The trial's name.
    trial: str


class UnknownTrialError(TrialError, LookupError):
    """An optimizer was told of a trial that it was not asked for, or told of before."""


class MetricError(AmltkError, ValueError):
    """A value that a metric cannot have: not declared, missing, no number, NaN, out of bounds."""

    #: The metric's name.
    metric: str
    value: object


class ReportTypeError(AmltkError, TypeError):
    """A trial's function returned something else than a report of its trial; see ``value``."""

    #: What it returned, as text.
    value: str


class InvalidSpaceError(AmltkError, ValueError):
    """A part of a space of configurations makes no sense; ``key`` says which."""

    key: str
    value: object


class ExhaustedError(AmltkError, RuntimeError):
    """An optimizer has nothing left to try, after ``n_asked`` trials where it counts them."""

    n_asked: int | None = None


class HistoryError(AmltkError, ValueError):
    """A history cannot be written, read, or asked for what it does not have."""


class CallError(AmltkError, RuntimeError):
    """A call that could not run, or could not report what became of it."""


class WorkerDiedError(CallError):
    """The worker that was running this call died; the call may have run in part."""

    #: The worker's process id.
    pid: int
    #: Exit code as the operating system tells it, negative for a signal, ``None`` if unknown.
    exit_code: int | None
    #: Name of the signal that ended the worker, such as ``"SIGKILL"``, or ``None``.
    signal_name: str | None


class CallExitError(CallError):
    """The call raised ``SystemExit``, as ``sys.exit()`` and argument parsers do.

    In a program that would be its end, without a word. A call is no program, so that its driver is
    told by an exception like all others.
    """

    #: A number, a message, or ``None``, as it was given to ``sys.exit()``.
    code: int | str | None


class CallPicklingError(CallError):
    """The function or its arguments could not be pickled; the cause says why."""


class CallUnpicklingError(CallError):
    """The function or its arguments could not be unpickled by the worker; the cause says why."""


class ResultPicklingError(CallError):
    """The call's result could not be pickled by the worker; the cause says why."""


class ResultUnpicklingError(CallError):
    """The call's outcome could not be unpickled by the driver; the cause says why."""


class RemoteError(CallError):
    """The call raised an exception that does not survive pickling.

    Its type, message and traceback are kept as text.
    """

    #: Qualified name of the exception's type, as the worker knew it.
    type_name: str
    #: The formatted traceback of the worker.
    traceback_text: str


class CommError(AmltkError, RuntimeError):
    """A message between a running call and the driver could not be sent or read."""


class CommConnectionError(CommError, ConnectionError):
    """The other side cannot be reached, or not any more."""

    def __new__(cls, *args: object, **_facts: object) -> Self:
        """Make it in the way of its standard base, which takes no keywords."""
        return ConnectionError.__new__(cls, *args)


class CommTimeoutError(CommError, TimeoutError):
    """The other side did not answer, or take anything, in time."""

    def __new__(cls, *args: object, **_facts: object) -> Self:
        """Make it in the way of its standard base, which takes no keywords."""
        return TimeoutError.__new__(cls, *args)


class ExecutorError(AmltkError, RuntimeError):
    """An executor cannot go on: it is shut down, broken, or was never usable."""


class WorkerStartError(ExecutorError, BrokenExecutor):
    """Workers die or fail in their initializer before they are ready; the pool gave up."""

    #: How many starts in a row failed.
    attempts: int


class RemoteTraceback(Exception):  # noqa: N818 - a traceback that travels, not an error
    """The traceback of a worker as text, shown as the cause of the exception it belongs to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        """Show the text as a traceback is shown."""
        return f'\n"""\n{self.text}"""'


class AmltkWarning(UserWarning):
    """The root of all warnings that amltk gives."""


class RunningCallsWarning(AmltkWarning):
    """Calls go on running that the run could not end."""


class LateCallWarning(AmltkWarning):
    """A call was submitted by a listener of the run's end, and is not taken any more."""


class UnprotectedWarning(AmltkWarning):
    """Messages travel over a network without TLS, where others may read and change them."""
