"""Trying a call again when its worker died, or when it raised.

::

    attempt ── raised ──▶ on? ── RETRIED ── backoff ──▶ attempt ── … ──▶ DONE, RETURNED or EXCEPTION
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from amltk._checks import check_whole
from amltk.events import Event
from amltk.exceptions import InvalidOptionError, WorkerDiedError
from amltk.scheduling.attempts import is_delay
from amltk.scheduling.future import Future
from amltk.scheduling.plugin import TaskPlugin

if TYPE_CHECKING:
    #: Which exceptions a call is tried again after.
    On = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]
    #: How long it waits before: seconds, or a function of the retry's number.
    Backoff = float | Callable[[int], float]

#: Doubled so often, a delay is beyond any ``max_backoff`` that means anything.
_MOST_DOUBLINGS = 1000


class Retry(TaskPlugin):
    """Try a call again when it fails, as the same call: same future, same number, one outcome.

    What is told of a call, such as ``DONE``, is told at its end. In between, ``RETRIED`` and
    ``F_RETRIED`` tell of each further attempt before it starts.

    Args:
        max_retries: How many further attempts a call has after its first one, at most.
        on: What a call is tried again after: a type of exception, a tuple of types, or a function
            of the exception that tells whether.
        backoff: How many seconds a call waits before its first retry; doubled at each further one,
            up to ``max_backoff``. Or a function of the retry's number, from 1, that returns seconds.
        max_backoff: How many seconds a doubled ``backoff`` grows to, at most.

    Raises:
        InvalidOptionError: When an option makes no sense.
    """

    name: ClassVar[str] = "retry"

    #: A call is going to be tried again; passes which retry it is, from 1, and what it raised.
    RETRIED: ClassVar[Event[int, BaseException]] = Event("call-retried")
    #: A call is going to be tried again; passes its future too, first.
    F_RETRIED: ClassVar[Event[Future[Any], int, BaseException]] = Event("future-call-retried")

    def __init__(
        self,
        *,
        max_retries: int = 3,
        on: On = (WorkerDiedError,),
        backoff: Backoff = 0.0,
        max_backoff: float = 60.0,
    ) -> None:
        check_whole("max_retries", max_retries, least=0)
        _check_on(on)
        _check_backoff(backoff, max_backoff)
        self.max_retries = max_retries
        self.on = on
        self.backoff = backoff
        self.max_backoff = max_backoff
        #: How often each call was tried again that has not ended, of those that were.
        self._n_retries: dict[Future[Any], int] = {}

    def retry(self, future: Future[Any], error: BaseException) -> float | None:
        """Tell after how many seconds the call is tried again, if it is, and its listeners too.

        Raises:
            InvalidOptionError: When the function ``backoff`` returned what cannot be waited for.
        """
        number = self._n_retries.get(future, 0) + 1
        if number > self.max_retries or not self._is_wanted(error):
            return None
        delay_s = self._delay(number)
        self._n_retries[future] = number
        if self.task is not None:
            # As one, so that the listeners of both are called in their order of registration.
            self.task.plugin_events.emit_many(
                {
                    self.F_RETRIED: ((future, number, error), {}),
                    self.RETRIED: ((number, error), {}),
                }
            )
        return delay_s

    def ended(self, future: Future[Any]) -> None:
        """Forget how often the call was tried."""
        self._n_retries.pop(future, None)

    def events(self) -> Iterable[Event[...]]:
        """Tell which events it emits on its task."""
        return self.RETRIED, self.F_RETRIED

    def copy(self) -> Retry:
        """Return one with the same settings, for another task."""
        return Retry(
            max_retries=self.max_retries,
            on=self.on,
            backoff=self.backoff,
            max_backoff=self.max_backoff,
        )

    def _is_wanted(self, error: BaseException) -> bool:
        on = self.on
        if isinstance(on, (type, tuple)):
            return isinstance(error, on)
        return bool(on(error))

    def _delay(self, number: int) -> float:
        backoff = self.backoff
        if not callable(backoff):
            doubled: float = backoff * 2.0 ** min(number - 1, _MOST_DOUBLINGS)
            return min(doubled, self.max_backoff)
        delay_s: object = backoff(number)
        if not is_delay(delay_s):
            message = (
                f"backoff={backoff!r} returned {delay_s!r} for retry {number}; let it return a "
                f"finite number of seconds from 0"
            )
            raise InvalidOptionError(message, option="backoff", value=delay_s)
        return float(delay_s)  # type: ignore[arg-type] # it is a number


def _check_on(value: object) -> None:
    kinds = value if isinstance(value, tuple) and value else (value,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return
    if callable(value) and not isinstance(value, type):
        return
    message = (
        f"on={value!r} is not possible; give an exception type, a tuple of them, or a function of "
        f"the exception that tells whether to try again"
    )
    raise InvalidOptionError(message, option="on", value=value)


def _check_backoff(backoff: Any, max_backoff: Any) -> None:
    if not is_delay(max_backoff):
        message = f"max_backoff={max_backoff!r} is not possible; give a number of seconds from 0"
        raise InvalidOptionError(message, option="max_backoff", value=max_backoff)
    if callable(backoff) and not isinstance(backoff, type):
        return
    if not is_delay(backoff):
        message = (
            f"backoff={backoff!r} is not possible; give a number of seconds from 0, or a function "
            f"of the retry's number that returns one"
        )
        raise InvalidOptionError(message, option="backoff", value=backoff)
    if backoff > max_backoff:
        message = f"backoff={backoff!r} is more than max_backoff={max_backoff!r}; give a larger max_backoff"
        raise InvalidOptionError(message, option="backoff", value=backoff)
