"""The handoff: nothing is lost on it, nothing is taken twice, and nobody is woken in vain."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.scheduling.handoff import Handoff


class Loop:
    """The reader of a handoff, who takes when the test says so."""

    def __init__(self):
        self.n_woken = 0
        self.taken = []
        self.late = []
        self.handoff = Handoff(self.wake, self.late.append)

    def wake(self):
        self.n_woken += 1

    def put(self, what):
        self.handoff.put((lambda first, _second: self.taken.append(first), what, None))

    def take_all(self):
        self.handoff.awake()
        while self.handoff.entries:
            do, first, second = self.handoff.entries.popleft()
            do(first, second)


@pytest.fixture
def loop():
    return Loop()


def test_entries_are_taken_in_the_order_in_which_they_were_put(loop):
    for number in range(5):
        loop.put(number)
    loop.take_all()
    assert loop.taken == [0, 1, 2, 3, 4]


def test_a_reader_who_does_not_sleep_is_not_woken(loop):
    loop.put(1)
    assert loop.n_woken == 0


def test_a_sleeper_is_woken_by_the_first_entry_only(loop):
    assert loop.handoff.sleep()
    loop.put(1)
    loop.put(2)
    assert loop.n_woken == 1


def test_nobody_falls_asleep_over_an_entry(loop):
    loop.put(1)
    assert not loop.handoff.sleep()
    loop.put(2)
    assert loop.n_woken == 0  # he is awake, and takes both


def test_a_nudge_wakes_and_does_nothing_more(loop):
    loop.handoff.sleep()
    loop.handoff.nudge()
    loop.take_all()
    assert (loop.n_woken, loop.taken, loop.late) == (1, [], [])


def test_what_is_left_at_the_close_and_what_comes_after_it_is_late(loop):
    loop.put(1)
    loop.handoff.close()
    loop.put(2)
    assert [first for _, first, _ in loop.late] == [1, 2]
    assert (loop.taken, loop.n_woken) == ([], 0)


def test_after_the_close_nobody_is_woken(loop):
    loop.handoff.close()
    assert loop.handoff.sleep()
    loop.put(1)
    assert loop.n_woken == 0


@given(st.lists(st.sampled_from(["put", "sleep", "take", "close"]), max_size=40))
def test_whatever_happens_each_entry_is_taken_once_or_late_once(steps):
    loop, n_put = Loop(), 0
    for step in steps:
        if step == "put":
            asleep, before = loop.handoff._sleeping, loop.n_woken
            loop.put(n_put)
            n_put += 1
            assert loop.n_woken - before == asleep
        elif step == "sleep":
            assert loop.handoff.sleep() is not bool(loop.handoff.entries)
        elif step == "take":
            loop.take_all()
        else:
            loop.handoff.close()
    loop.handoff.close()
    assert loop.taken + [first for _, first, _ in loop.late] == list(range(n_put))


def test_many_threads_and_a_reader_who_sleeps_lose_nothing():
    loop, woken, n_each = Loop(), threading.Semaphore(0), 500
    loop.handoff = Handoff(woken.release, loop.late.append)

    def put_many(thread):
        for number in range(n_each):
            loop.put((thread, number))

    threads = [threading.Thread(target=put_many, args=[thread]) for thread in range(4)]
    for thread in threads:
        thread.start()
    while len(loop.taken) < 4 * n_each:
        if loop.handoff.sleep():
            assert woken.acquire(timeout=20), "slept over an entry"
        loop.take_all()
    for thread in threads:
        thread.join()
    assert sorted(loop.taken) == [(thread, n) for thread in range(4) for n in range(n_each)]
    assert not loop.late


def test_while_many_put_and_one_closes_each_entry_is_late_once():
    loop = Loop()
    threads = [threading.Thread(target=lambda: [loop.put(n) for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    loop.handoff.close()
    for thread in threads:
        thread.join()
    assert sorted(first for _, first, _ in loop.late) == sorted(list(range(500)) * 4)
