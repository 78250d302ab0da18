"""Ignores, raises or collects what a call warns of.

::

    in the worker, for each call
    catch_warnings ─▶ the filter ─▶ the function ─▶ all filters as before
                                        │ warns
                   "collect":           ▼
                   kept until the call has ended ─────▶ WARNED, in the driver
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO, get_args

from amltk.channel.notes import NotePlugin, send_note
from amltk.events import Event
from amltk.exceptions import AmltkWarning, InvalidOptionError
from amltk.plugins._alone import Alone
from amltk.scheduling.plugin import Layer, Wrapped, refuse_engine

if TYPE_CHECKING:
    from amltk.channel.ticket import Ticket
    from amltk.scheduling.future import Future
    from amltk.scheduling.task import Task

#: What becomes of a warning: what Python's filters know, and ``"collect"``.
Action = Literal["default", "error", "ignore", "always", "module", "once", "collect"]

#: How many different warnings of one call are kept.
WARNINGS_KEPT = 1000

#: Where Python's ``logging.captureWarnings`` logs too.
_log = logging.getLogger("py.warnings")

_alone = Alone("WarningFilter")


@dataclass(frozen=True, slots=True)
class CaughtWarning:
    """What a call warned of."""

    #: The qualified name of the warning's category, such as ``"builtins.UserWarning"``.
    category: str
    #: Its text.
    message: str
    #: The file that the warning is about.
    filename: str
    #: The line in that file.
    lineno: int
    #: How often the call gave this very warning.
    count: int = 1

    def __str__(self) -> str:
        """Show it as Python shows warnings, in one line."""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.filename}:{self.lineno}: {self.category}: {self.message}{times}"


def deliver(caught: Sequence[CaughtWarning]) -> None:
    """Log what a call warned of, where nobody listens.

    The logger is ``py.warnings``, where programs that log expect warnings.

    Args:
        caught: The warnings, in the order in which they came first; at least one.
    """
    for warning in caught:
        _log.warning("%s", warning)


class WarningFilter(NotePlugin):
    """Filter the warnings of a call, with the meaning of ``warnings.filterwarnings``.

    Args:
        action: ``"ignore"``, ``"error"``, ``"default"``, ``"always"``, ``"module"`` or ``"once"``
            as in Python; or ``"collect"``, which keeps all warnings that the call would show, each
            time those that match, and emits ``WARNED`` when it has ended.
        category: Only warnings of this class.
        message: Only warnings whose text begins with a match of this pattern.
        module: Only warnings of modules whose name matches this pattern.
        lineno: Only warnings of this line; 0 is any.
        append: Whether filters that are there already come first.
        **channel: Where the driver listens for what is collected; see ``Comm.Plugin``.

    Raises:
        InvalidOptionError: When an option is not what Python's filters take.
    """

    name: ClassVar[str] = "warning-filter"
    layer: ClassVar[Layer] = Layer.SURROUNDINGS

    #: A call has ended that warned; before its ``DONE``, with ``"collect"`` only.
    WARNED: ClassVar[Event[Future[Any], list[CaughtWarning]]] = Event("warned")

    def __init__(
        self,
        action: Action = "ignore",
        *,
        category: type[Warning] = Warning,
        message: str = "",
        module: str = "",
        lineno: int = 0,
        append: bool = False,
        **channel: Any,
    ) -> None:
        super().__init__(**channel)
        _check("action", action, action in get_args(Action), f"give one of {get_args(Action)}")
        is_category = isinstance(category, type) and issubclass(category, Warning)
        _check("category", category, is_category, "give a class derived from Warning")
        for option, pattern in (("message", message), ("module", module)):
            _check(option, pattern, _is_pattern(pattern), "give a regular expression as a text")
        is_line = isinstance(lineno, int) and not isinstance(lineno, bool) and lineno >= 0
        _check("lineno", lineno, is_line, "give the number of a line, or 0 for any")
        self.action: Action = action
        self.category = category
        self.message = message
        self.module = module
        self.lineno = lineno
        self.append = append
        self.uses_channel: bool = action == "collect"

    def attach_task(self, task: Task[..., Any]) -> None:
        """Refuse a task whose calls share a process.

        Raises:
            InvalidOptionError: When the engine runs calls in threads, or its workers cannot tell
                the driver what they collect.
        """
        super().attach_task(task)
        if task.scheduler.traits.runs_in_threads:
            why = (
                "filters of warnings hold for the whole process, and this engine runs calls in "
                "threads of one process, so that calls would change them for each other; use an "
                "engine with worker processes, such as Scheduler.with_processes, or call "
                "warnings.filterwarnings once for the program"
            )
            raise refuse_engine(self, task, why)

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Put the filter around the function."""
        options = self._options()
        if self.action != "collect":
            return _Filtered(fn, options)
        kind = _Collected if self.task is None else _Noted
        return kind(fn, {**options, "action": "always"})

    def noted(self, future: Future[Any], note: Any) -> None:
        """Tell what a call warned of."""
        if not self.emit_note(self.WARNED, future, note):
            deliver(note)

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return (self.WARNED,)

    def settings(self) -> dict[str, Any]:
        """Return the options, to make another plugin with them."""
        return {**super().settings(), **self._options()}

    def _options(self) -> dict[str, Any]:
        return {
            "action": self.action,
            "category": self.category,
            "message": self.message,
            "module": self.module,
            "lineno": self.lineno,
            "append": self.append,
        }


class _Filtered(Wrapped):
    def __init__(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> None:
        super().__init__(fn)
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Entering also makes Python forget which warnings it has shown.
        with _alone, warnings.catch_warnings():
            warnings.filterwarnings(**self._options)
            return self.fn(*args, **kwargs)


class _Collected(_Filtered):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.collect(deliver, args, kwargs)

    def collect(
        self,
        deliver: Callable[[Sequence[CaughtWarning]], object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call the function and pass on what it warned of."""
        collection = _Collection()
        try:
            with _alone, warnings.catch_warnings():
                warnings.filterwarnings(**self._options)
                warnings.showwarning = collection.add
                return self.fn(*args, **kwargs)
        finally:
            caught = collection.caught()
            if caught:
                _pass_on(deliver, caught)


def _pass_on(
    deliver: Callable[[Sequence[CaughtWarning]], object], caught: Sequence[CaughtWarning]
) -> None:
    try:
        deliver(caught)
    except Exception:  # no reason for the call to fail; the worker's log has it, and them
        _log.exception(
            "what a call warned of could not be passed on: %s", "; ".join(map(str, caught))
        )


class _Noted(_Collected):
    def __call__(self, ticket: Ticket, /, *args: Any, **kwargs: Any) -> Any:
        return self.collect(partial(send_note, ticket), args, kwargs)


class _Collection:
    """The warnings of one call, equal ones counted instead of kept."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, int], int] = {}
        self._n_dropped = 0
        self._lock = threading.Lock()  # the function may have threads that warn

    def add(  # noqa: PLR0917 - the signature of warnings.showwarning
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Keep a warning; takes the place of ``warnings.showwarning``."""
        del file, line
        key = _qualified(category), str(message), filename, lineno
        with self._lock:
            if key in self._counts or len(self._counts) < WARNINGS_KEPT:
                self._counts[key] = self._counts.get(key, 0) + 1
            else:
                self._n_dropped += 1

    def caught(self) -> list[CaughtWarning]:
        """Return what was kept, and a word about what was not."""
        caught = [CaughtWarning(*key, count) for key, count in self._counts.items()]
        if self._n_dropped:
            text = f"{self._n_dropped} more warnings of this call were not kept"
            caught.append(CaughtWarning(_qualified(AmltkWarning), text, __file__, 0))
        return caught


def _qualified(category: type[Warning]) -> str:
    return f"{category.__module__}.{category.__qualname__}"


def _is_pattern(pattern: object) -> bool:
    if not isinstance(pattern, str):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _check(option: str, value: object, fine: bool, instead: str) -> None:  # noqa: FBT001 - a fact, not a switch
    if not fine:
        message = f"{option}={value!r} is not possible for WarningFilter; {instead}"
        raise InvalidOptionError(message, option=option, value=value)
