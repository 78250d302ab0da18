"""What runs in a worker process of ``ProcessExecutor``.

::

    driver ── SETUP, CALL, CALL, … LEAVE ──▶ main thread: read, unpickle, call, pickle, write
    driver ◀── READY, OUTCOME, OUTCOME … ──
       ╎
       └╌╌ hang-up ╌╌▶ watching thread: end the children, end the process

Imported in each new worker, so it imports little.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from amltk.executors.processes.frames import DIGEST, HEADER, NO_DIGEST, Kind
from amltk.executors.travel.envelope import pack_exception, pack_unreadable, run_received
from amltk.executors.travel.loading import Bundle
from amltk.executors.travel.portable import Kept, Received

#: How often the watching thread looks whether the driver is still the parent.
_WATCH_S = 1.0

_READ_BYTES = 1 << 16
_JOIN_BYTES = 1 << 16


class _Closable(Protocol):
    def close(self) -> object: ...


def start_from_descriptor(descriptor: int) -> None:
    """Run a worker on a socket that was inherited by its number."""
    os.set_inheritable(descriptor, False)
    _Worker(socket.socket(fileno=descriptor)).run()


def start_from_socket(sock: socket.socket, inherited: Iterable[_Closable]) -> None:
    """Run a worker that ``multiprocessing`` has started.

    Args:
        sock: The worker's end.
        inherited: What a forked worker got from the driver and has to close: as long as it holds
            the driver's end of a socket, nobody sees the driver hang up.
    """
    for thing in inherited:
        with suppress(OSError):
            thing.close()
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    _Worker(sock).run()


class _Worker:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._functions: Kept[Received] = Kept()
        self._parts: Kept[_Parts] = Kept()
        self._leaving = False

    def run(self) -> None:
        # Ctrl-C reaches the whole terminal; what becomes of the workers is the driver's business.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._sock.family != getattr(socket, "AF_UNIX", None):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._watch, name="amltk-watch", daemon=True).start()
        try:
            self._serve()
        except OSError:
            pass  # the driver is gone: there is nobody to tell, and the watching thread ends us
        finally:
            self._leaving = True

    def _serve(self) -> None:
        while True:
            number, kind, payload = self._read()
            if kind == Kind.CALL:
                self._write(Kind.OUTCOME, number, self._call(memoryview(payload)))
            elif kind == Kind.FUNCTION:
                data = payload[DIGEST:]
                self._functions.put(payload[:DIGEST], Received(data), len(data))
            elif kind == Kind.PARTS:
                data = payload[DIGEST:]
                self._parts.put(payload[:DIGEST], _Parts(data), len(data))
            elif kind == Kind.LEAVE or not self._set_up(payload):
                return

    def _set_up(self, payload: bytes) -> bool:
        try:
            argv, cwd, start = pickle.loads(payload)
            sys.argv = argv
            if cwd is not None:
                with suppress(OSError):
                    os.chdir(cwd)
            if start is not None:
                parts = () if start.parts is None else pickle.loads(start.parts.data)
                args, _ = Bundle(parts).read(start.arguments)
                Received(start.function.data).function()(*args)
        except BaseException as error:
            self._write(Kind.SETUP_FAILED, 0, pack_exception(error))
            return False
        self._write(Kind.READY, 0, b"")
        return True

    def _call(self, payload: memoryview) -> bytes:
        digest, parts_digest = bytes(payload[:DIGEST]), bytes(payload[DIGEST : 2 * DIGEST])
        received = self._functions.get(digest)
        assert received is not None  # noqa: S101 - the driver keeps the same list as we do
        bundle = None
        if parts_digest != NO_DIGEST:
            parts = self._parts.get(parts_digest)
            assert parts is not None  # noqa: S101 - likewise
            try:
                bundle = parts.bundle()
            except BaseException as error:
                return pack_unreadable(error)
        return run_received(received, payload[2 * DIGEST :], bundle)

    def _read(self) -> tuple[int, int, bytes]:
        buffer = self._buffer
        while len(buffer) < HEADER.size:
            self._read_more(buffer)
        length, number, kind = HEADER.unpack_from(buffer)
        end = HEADER.size + length
        if len(buffer) >= end:
            payload = bytes(memoryview(buffer)[HEADER.size : end])
            del buffer[:end]
            return number, kind, payload
        room = bytearray(length)
        have = len(buffer) - HEADER.size
        room[:have] = memoryview(buffer)[HEADER.size :]
        buffer.clear()
        view = memoryview(room)
        while have < length:
            n_read = self._sock.recv_into(view[have:])
            if not n_read:
                raise ConnectionError
            have += n_read
        return number, kind, bytes(room)

    def _read_more(self, buffer: bytearray) -> None:
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionError
        buffer += data

    def _write(self, kind: Kind, number: int, payload: bytes) -> None:
        header = HEADER.pack(len(payload), number, kind)
        if len(payload) <= _JOIN_BYTES:
            self._sock.sendall(header + payload)
        else:
            self._sock.sendall(header)
            self._sock.sendall(payload)

    def _watch(self) -> None:
        """End this process and its children when the driver is gone, also during a call."""
        if not hasattr(select, "poll"):
            return  # without it the worker ends when its call does
        parent = os.getppid()
        poller = select.poll()
        poller.register(self._sock.fileno(), 0)  # a mask of 0 leaves nothing but the hang-up
        while not poller.poll(_WATCH_S * 1000):
            if os.getppid() != parent:
                break
        if not self._leaving:
            _end_own_tree()


class _Parts:
    """What arguments need of scripts, read when a call needs it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._bundle: Bundle | None = None

    def bundle(self) -> Bundle:
        if self._bundle is None:
            self._bundle = Bundle(pickle.loads(self._data))
            self._data = b""
        return self._bundle


def _end_own_tree() -> None:
    try:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(1)
