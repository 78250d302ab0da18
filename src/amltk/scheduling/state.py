"""The life of a call, as a table.

::

                    ┌────────────── RETURN ──────────────▶ RETURNED
    SUBMIT ─▶ SUBMITTED ─────────── RAISE, DIE ──────────▶ RAISED
                 │  └────────────── CANCEL ──────────────▶ CANCELLED
                END                                            ▲
                 ▼                                             │
               ENDING ───────────── CANCEL, DIE ───────────────┘
                 └───────────────── RETURN, RAISE ─▶ RETURNED, RAISED (it was quicker)

The states and stimuli are integers, whose hash costs nothing: two look-ups for each call.
This module is pure: a stimulus goes in, what has to be told comes out. It knows calls by their
numbers and is used by the loop's thread alone, but for ``submit``, which the gate guards.
"""

from __future__ import annotations

import enum
from collections import deque

from amltk.exceptions import TransitionError


class CallState(enum.IntEnum):
    """Where a call is in its life."""

    SUBMITTED = enum.auto()
    ENDING = enum.auto()
    RETURNED = enum.auto()
    RAISED = enum.auto()
    CANCELLED = enum.auto()


class Stimulus(enum.IntEnum):
    """What can happen to a call."""

    #: It returned.
    RETURN = enum.auto()
    #: It raised.
    RAISE = enum.auto()
    #: Its worker died.
    DIE = enum.auto()
    #: The executor confirmed that it is cancelled.
    CANCEL = enum.auto()
    #: The run asked for its end.
    END = enum.auto()


class Telling(enum.Enum):
    """What has to be told when a call has changed."""

    NOTHING = "nothing"
    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


_TABLE: dict[tuple[CallState, Stimulus], tuple[CallState, Telling]] = {
    (CallState.SUBMITTED, Stimulus.RETURN): (CallState.RETURNED, Telling.RETURNED),
    (CallState.SUBMITTED, Stimulus.RAISE): (CallState.RAISED, Telling.RAISED),
    (CallState.SUBMITTED, Stimulus.DIE): (CallState.RAISED, Telling.RAISED),
    (CallState.SUBMITTED, Stimulus.CANCEL): (CallState.CANCELLED, Telling.CANCELLED),
    (CallState.SUBMITTED, Stimulus.END): (CallState.ENDING, Telling.NOTHING),
    (CallState.ENDING, Stimulus.RETURN): (CallState.RETURNED, Telling.RETURNED),
    (CallState.ENDING, Stimulus.RAISE): (CallState.RAISED, Telling.RAISED),
    (CallState.ENDING, Stimulus.DIE): (CallState.CANCELLED, Telling.CANCELLED),
    (CallState.ENDING, Stimulus.CANCEL): (CallState.CANCELLED, Telling.CANCELLED),
    (CallState.ENDING, Stimulus.END): (CallState.ENDING, Telling.NOTHING),
}

FINAL = frozenset({CallState.RETURNED, CallState.RAISED, CallState.CANCELLED})


class Calls:
    """The calls of a run that have not ended, by number, and how many ended in which way."""

    def __init__(self) -> None:
        self._live: dict[int, CallState] = {}
        self._story: deque[tuple[int, CallState, Stimulus]] = deque(maxlen=20)
        #: How many calls were submitted so far; the next one gets this number.
        self.n_submitted: int = 0

    @property
    def n_live(self) -> int:
        """How many calls have not ended."""
        return len(self._live)

    def submit(self) -> int:
        """Take a new call in.

        Returns:
            Its number, in order of submission, from 0.
        """
        number = self.n_submitted
        self.n_submitted = number + 1
        self._live[number] = CallState.SUBMITTED
        return number

    def retract(self, number: int) -> None:
        """Forget a call that the executor did not take."""
        del self._live[number]

    def state_of(self, number: int) -> CallState | None:
        """Tell where a call is in its life, ``None`` once it has ended."""
        return self._live.get(number)

    def apply(self, number: int, stimulus: Stimulus) -> Telling:
        """Let something happen to a call.

        Args:
            number: The call's number.
            stimulus: What happened.

        Returns:
            What has to be told.

        Raises:
            TransitionError: When that cannot happen to a call in its state.
        """
        state = self._live.get(number)
        entry = None if state is None else _TABLE.get((state, stimulus))
        if state is None or entry is None:
            raise self._impossible(number, state, stimulus)
        self._story.append((number, state, stimulus))
        after, telling = entry
        if after in FINAL:
            del self._live[number]
        else:
            self._live[number] = after
        return telling

    def _impossible(
        self, number: int, state: CallState | None, stimulus: Stimulus
    ) -> TransitionError:
        where = "ended or was never submitted" if state is None else f"is {state.name}"
        story = "; ".join(f"{n}: {before.name} + {what.name}" for n, before, what in self._story)
        message = (
            f"call {number} {where}, so {stimulus.name} cannot happen to it; this is a bug in "
            f"amltk or in the executor. The last things that happened: {story or 'nothing'}"
        )
        return TransitionError(message, number=number)
