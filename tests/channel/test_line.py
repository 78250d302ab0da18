"""The worker's end of a channel, with a connection that the test holds in its hands.

What the driver makes of it is in ``test_channel.py``.
"""

import threading
from types import SimpleNamespace

import pytest
import support

from amltk.channel import line as lines
from amltk.channel import wire
from amltk.channel.line import Line
from amltk.channel.ticket import Ticket
from amltk.channel.wire import Kind


class Connection:
    """What is written first stays half written until it may go on."""

    has_unsent = False

    def __init__(self, may_go_on):
        self.may_go_on = may_go_on
        self.is_half_written = threading.Event()
        self.sent = b""

    def write(self, data, _timeout_s):
        half = len(data) // 2
        self.sent += data[:half]
        if not self.is_half_written.is_set():
            self.is_half_written.set()
            assert self.may_go_on.wait(20)
        self.sent += data[half:]

    def flush(self, _timeout_s):
        pass


@pytest.mark.parametrize("second", ["send", "offer"])
@pytest.mark.parametrize("first", ["send", "offer"])
def test_what_threads_of_one_call_say_at_once_arrives_whole(monkeypatch, first, second):
    lock = support.WatchedLock()
    connection = Connection(lock.is_waited_for)
    monkeypatch.setattr(lines, "threading", SimpleNamespace(Lock=lambda: lock))
    monkeypatch.setattr(lines, "connect", lambda _ticket: None)
    monkeypatch.setattr(lines, "Connection", lambda _socket: connection)
    line = Line(Ticket(None, b"", b"", "driver", 100, None))

    speaker = threading.Thread(target=getattr(line, first), args=(Kind.MESSAGE, b"first", 20))
    speaker.start()
    assert connection.is_half_written.wait(20)
    interrupter = threading.Thread(target=getattr(line, second), args=(Kind.MESSAGE, b"second", 20))
    interrupter.start()
    lock.wait_for(interrupter)
    for thread in (speaker, interrupter):
        thread.join(20)

    frames = [wire.frame(Kind.MESSAGE, 0, said) for said in (b"first", b"second")]
    assert connection.sent == b"".join(frames)
