"""The server of a run, with strangers that the test makes.

What comes through it is in ``test_channel.py``.
"""

import itertools
from types import SimpleNamespace

import pytest

from amltk.channel import exchange as exchanges
from amltk.channel.exchange import Exchange, Listening
from amltk.scheduling.services import RunAccess


class Stranger:
    """Somebody who has connected and says nothing."""

    def __init__(self, exchange, number, dropped):
        self.exchange, self.number, self.dropped = exchange, number, dropped

    def hang_up(self):
        self.dropped.append(self.number)
        self.exchange.left(self)


@pytest.fixture
def exchange(now):
    return Exchange(RunAccess(SimpleNamespace(time=lambda: now[0]), 0, None, None), Listening())


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def crowd(monkeypatch, exchange):
    """Return what lets so many strangers in, and tells who has been dropped by then."""
    monkeypatch.setattr(exchanges, "CROWD_OF_STRANGERS", 2)
    monkeypatch.setattr(exchanges, "MAX_STRANGERS", 4)
    dropped = []
    numbers = itertools.count()

    def come(n):
        for _ in range(n):
            exchange.met(Stranger(exchange, next(numbers), dropped))
        return dropped

    return come


def test_in_a_crowd_those_that_take_their_time_are_dropped(crowd, now, exchange):
    assert crowd(4) == []
    now[0] += exchanges.CROWDED_S
    assert crowd(1) == [0, 1, 2]
    assert [one.number for one in exchange._strangers] == [3, 4]


def test_a_few_may_take_their_time(crowd, now):
    crowd(1)
    now[0] += 100 * exchanges.CROWDED_S
    assert crowd(1) == []


def test_of_far_too_many_the_oldest_are_dropped(crowd):
    assert crowd(6) == [0, 1]


def test_who_comes_when_it_is_closed_is_dropped(exchange):
    exchange.close()
    dropped = []
    exchange.met(Stranger(exchange, 0, dropped))
    assert dropped == [0]
