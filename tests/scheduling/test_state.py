"""The table of a call's life, written down a second time, and walks over it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.exceptions import TransitionError
from amltk.scheduling.state import FINAL, Calls, CallState, Stimulus, Telling

RETURNED = (None, Telling.RETURNED)
RAISED = (None, Telling.RAISED)
CANCELLED = (None, Telling.CANCELLED)
ENDING = (CallState.ENDING, Telling.NOTHING)

#: Where a call that was asked to end or not is after a stimulus, and what is told.
EXPECTED = {
    (CallState.SUBMITTED, Stimulus.RETURN): RETURNED,
    (CallState.SUBMITTED, Stimulus.RAISE): RAISED,
    (CallState.SUBMITTED, Stimulus.DIE): RAISED,
    (CallState.SUBMITTED, Stimulus.CANCEL): CANCELLED,
    (CallState.SUBMITTED, Stimulus.END): ENDING,
    (CallState.ENDING, Stimulus.RETURN): RETURNED,
    (CallState.ENDING, Stimulus.RAISE): RAISED,
    (CallState.ENDING, Stimulus.DIE): CANCELLED,
    (CallState.ENDING, Stimulus.CANCEL): CANCELLED,
    (CallState.ENDING, Stimulus.END): ENDING,
}
ENDS = [stimulus for stimulus in Stimulus if stimulus is not Stimulus.END]


def calls_with_one_that_is(state):
    calls = Calls()
    calls.submit()
    if state is CallState.ENDING:
        calls.apply(0, Stimulus.END)
    return calls


@pytest.mark.parametrize(("state", "stimulus"), EXPECTED)
def test_each_stimulus_leads_where_the_table_says_and_tells_what_it_says(state, stimulus):
    calls = calls_with_one_that_is(state)
    after, telling = EXPECTED[state, stimulus]
    assert calls.apply(0, stimulus) is telling
    assert calls.state_of(0) is after
    assert calls.n_live == (after is not None)


def test_every_state_that_is_not_final_takes_every_stimulus():
    expected = {(state, what) for state in CallState for what in Stimulus if state not in FINAL}
    assert set(EXPECTED) == expected


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("again", Stimulus)
def test_nothing_happens_to_a_call_that_has_ended(end, again):
    calls = calls_with_one_that_is(CallState.SUBMITTED)
    calls.apply(0, end)
    with pytest.raises(TransitionError, match=rf"call 0 ended .*, so {again.name} cannot") as info:
        calls.apply(0, again)
    assert info.value.number == 0
    assert f"0: SUBMITTED + {end.name}" in str(info.value)  # the story


@pytest.mark.parametrize("stimulus", Stimulus)
def test_nothing_happens_to_a_call_that_was_never_submitted(stimulus):
    with pytest.raises(TransitionError, match=r"never submitted.*: nothing$"):
        Calls().apply(0, stimulus)


def test_a_call_that_the_executor_did_not_take_is_forgotten_but_not_its_number():
    calls = Calls()
    calls.retract(calls.submit())
    assert (calls.n_live, calls.n_submitted, calls.state_of(0)) == (0, 1, None)
    assert calls.submit() == 1
    with pytest.raises(TransitionError):
        calls.apply(0, Stimulus.RETURN)


def test_the_story_in_an_error_tells_the_last_things_in_their_order():
    calls = Calls()
    for _ in range(30):
        calls.apply(calls.submit(), Stimulus.RETURN)
    with pytest.raises(TransitionError) as info:
        calls.apply(30, Stimulus.RETURN)
    story = str(info.value).partition("happened: ")[2].split("; ")
    assert story == [f"{number}: SUBMITTED + RETURN" for number in range(10, 30)]


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from([None, *Stimulus])), max_size=60))
def test_whatever_happens_every_call_ends_at_most_once(steps):
    calls, states, told = Calls(), [], {}
    for number, stimulus in steps:
        if stimulus is None:
            assert calls.submit() == len(states)
            states.append(CallState.SUBMITTED)
        elif number < len(states) and states[number] is not None:
            states[number], telling = EXPECTED[states[number], stimulus]
            assert calls.apply(number, stimulus) is telling
            told[number] = told.get(number, 0) + (telling is not Telling.NOTHING)
        else:
            with pytest.raises(TransitionError, match=f"call {number} ended or was never"):
                calls.apply(number, stimulus)
        assert [calls.state_of(number) for number in range(len(states))] == states
        assert calls.n_live == sum(state is not None for state in states)
    assert set(told.values()) <= {0, 1}
