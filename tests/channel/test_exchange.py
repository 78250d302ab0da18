"""The server of a run, with strangers that the test makes.

What comes through it is in ``test_channel.py``.
"""

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
def exchange():
    return Exchange(RunAccess(None, 0, None, None), Listening())


def test_of_too_many_strangers_the_oldest_is_dropped(monkeypatch, exchange):
    monkeypatch.setattr(exchanges, "MAX_STRANGERS", 3)
    dropped = []
    for number in range(5):
        exchange.met(Stranger(exchange, number, dropped))
    assert dropped == [0, 1]
    assert [one.number for one in exchange._strangers] == [2, 3, 4]


def test_who_comes_when_it_is_closed_is_dropped(exchange):
    exchange.close()
    dropped = []
    exchange.met(Stranger(exchange, 0, dropped))
    assert dropped == [0]
