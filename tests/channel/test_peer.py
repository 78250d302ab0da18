"""One connection of a worker, with a transport that the test holds in its hands.

What strangers and workers see of it is in ``test_channel.py``.
"""

import os

import pytest

from amltk.channel import peer as peers
from amltk.channel import wire
from amltk.channel.exchange import Exchange, Listening
from amltk.channel.peer import Peer
from amltk.channel.wire import Kind
from amltk.executors.traits import Traits
from amltk.scheduling.services import RunAccess


class Transport:
    """Takes no more than it is asked to: what is fed while it is paused is a mistake of the test."""

    def __init__(self):
        self.is_reading = True
        self.written = b""

    def write(self, data):
        self.written += data

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def is_closing(self):
        return False

    def abort(self):
        pass

    def get_extra_info(self, _name):
        return None


class Loop:
    """A loop in which no time passes."""

    def time(self):
        return 0.0

    def call_later(self, _delay_s, _callback, *_args):
        return self

    def cancel(self):
        pass


class Worker:
    """Somebody who has shown a ticket, and is handled when the test says so."""

    def __init__(self):
        self.heard = []
        self.posted = []
        post = lambda *entry: self.posted.append(entry)  # noqa: E731
        self.exchange = Exchange(RunAccess(Loop(), 0, post, post), Listening())
        ticket = self.exchange.open(self, Traits(runs_inline=True)).ticket
        self.peer, self.transport = Peer(self.exchange), Transport()
        self.peer.connection_made(self.transport)
        theirs, ours = self.transport.written[len(wire.MAGIC) :], os.urandom(wire.NONCE_BYTES)
        proof = wire.proof_of(ticket.token, b"worker", theirs, ours)
        self.peer.data_received(wire.MAGIC + ticket.channel_id + ours + proof)

    def receive(self, _channel, _kind, number, payload, _reply):
        self.heard.append((number, len(payload)))

    def say(self, kind, number, payload):
        self.peer.data_received(wire.frame(kind, number, payload))

    def say_until_it_is_not_read(self, say):
        """Return how often something was said; twice as often as it may be at most."""
        for n in range(2 * peers._INBOX_FRAMES + 2):
            if not self.transport.is_reading:
                return n
            say(n)
        return None

    def handle_one_turn(self):
        self.posted.pop(0)[0](None, None)


@pytest.fixture
def worker():
    return Worker()


@pytest.mark.parametrize("n_bytes", [0, 100, 1 << 14, 1 << 19])
def test_a_flood_of_messages_is_not_read_before_there_is_room(worker, n_bytes):
    payload = b"x" * n_bytes
    n_said = worker.say_until_it_is_not_read(lambda n: worker.say(Kind.MESSAGE, n, payload))
    room = min(peers._INBOX_FRAMES, peers._INBOX_BYTES // max(1, n_bytes))
    assert n_said == room + 1
    while not worker.transport.is_reading:
        worker.handle_one_turn()
    # There is room for half of it, at the least: it does not begin and stop for each frame.
    assert n_said // 2 <= len(worker.heard) <= n_said // 2 + peers._TURN
    assert worker.heard == [(n, n_bytes) for n in range(len(worker.heard))]


def test_a_flood_of_lines_is_not_read_before_there_is_room(worker):
    worker.say(Kind.RAW, 1, b"")
    line = b"x" * 99 + b"\n"
    n_said = worker.say_until_it_is_not_read(lambda _n: worker.peer.data_received(line * 10))
    assert n_said == peers._INBOX_FRAMES // 10 + 1
    while worker.posted:
        worker.handle_one_turn()
    assert worker.transport.is_reading
    assert len(worker.heard) == 10 * n_said


def test_who_does_not_take_answers_is_not_read(worker):
    worker.peer.pause_writing()
    assert not worker.transport.is_reading
    worker.peer.resume_writing()
    assert worker.transport.is_reading
