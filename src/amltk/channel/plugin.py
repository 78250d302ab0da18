"""What plugins share that need a way from a running call to the driver.

::

    pre_submit ── a channel, its ticket first among the arguments ──▶ Connected(fn)(ticket, …) in the worker
    hold       ── until all that the call sent has been handled
    ended      ── the channel is forgotten
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from amltk.channel.channel import Channel, Reply
from amltk.channel.exchange import LOOPBACK, Exchange, Listening
from amltk.channel.wire import Kind
from amltk.exceptions import InvalidOptionError, UnprotectedWarning
from amltk.scheduling.plugin import Layer, WorkerPlugin, refuse_engine

if TYPE_CHECKING:
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugin import PlannedCall
    from amltk.scheduling.task import Task

_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - addresses that are refused without a name to go by


class ChannelPlugin(WorkerPlugin):
    """Base class of plugins with a channel for each call.

    Args:
        host: Where the driver listens. By default only this machine reaches it: by a socket
            that has a name and no port where that is possible, by loopback elsewhere.
        port: The port, 0 for any that is free.
        advertise: Under which name or address workers reach ``host``.
        tls: A server's context; messages are encrypted then.
        worker_tls: Makes the worker's context; called in the worker, so it is a function that
            can be sent there.
        max_message_bytes: How large one message may be.

    Raises:
        InvalidOptionError: When an option makes no sense.
    """

    layer: ClassVar[Layer] = Layer.CHANNEL

    #: Whether calls get a channel; a plugin that can do without says so before it is attached.
    uses_channel: bool = True

    #: Sets of options are compared: plugins with equal ones share a server.
    listening: Listening

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int = 0,
        advertise: str | None = None,
        tls: ssl.SSLContext | None = None,
        worker_tls: Callable[[], ssl.SSLContext] | None = None,
        max_message_bytes: int = 64 << 20,
    ) -> None:
        self.listening = Listening(
            host=host,
            port=port,
            advertise=advertise,
            tls=tls,
            worker_tls=worker_tls,
            max_bytes=max_message_bytes,
        )
        _check(self.listening)
        self._channels: dict[Future[Any], Channel] = {}
        self._planned: Channel | None = None

    def attach_task(self, task: Task[..., Any]) -> None:
        """Get to know the task.

        Raises:
            InvalidOptionError: When workers of the task's engine cannot reach the driver.
        """
        traits = task.scheduler.traits
        if not self.uses_channel:
            return
        if not self.can_reach(task):
            why = (
                f"its workers run on other machines, and {self.listening.host or LOOPBACK} is "
                f"reached from this one only; give host= an address of this machine that they reach, and tls= where "
                f"others are on that network"
            )
            raise refuse_engine(self, task, why)
        if traits.runs_inline and any(p.layer is Layer.PROCESS for p in task.plugins):
            why = (
                "the driver waits inside each call on this engine, so it cannot listen to a call "
                "in a process of its own; use Scheduler.with_processes(1)"
            )
            raise refuse_engine(self, task, why)

    def can_reach(self, task: Task[..., Any]) -> bool:
        """Tell whether workers of the task's engine reach the driver, as far as is known."""
        elsewhere = task.scheduler.traits.shares_machine is False
        return not elsewhere or not _is_loopback(self.listening.host)

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Give the call a channel."""
        planned = super().pre_submit(fn, *args, **kwargs)
        task = self.task
        if planned is None or task is None or not self.uses_channel:
            return planned
        listening = self.listening
        exchange = task.scheduler.service(
            (Exchange, listening), partial(Exchange, listening=listening)
        )
        if self._planned is not None:  # that call was refused by another plugin
            self._planned.forget()
        self._planned = exchange.open(self, task.scheduler.traits)
        return planned[0], (self._planned.ticket, *planned[1]), planned[2]

    def submitted(self, future: Future[Any]) -> None:
        """Note whose channel it is."""
        channel, self._planned = self._planned, None
        if channel is not None:
            channel.future = future
            self._channels[future] = channel

    def hold(self, future: Future[Any], release: Callable[[], object]) -> bool:
        """Wait until all that the call sent has been handled."""
        channel = self._channels.get(future)
        return channel is not None and channel.hold(release)

    def ended(self, future: Future[Any]) -> None:
        """Forget the call's channel."""
        channel = self._channels.pop(future, None)
        if channel is not None:
            channel.forget()

    def receive(
        self, channel: Channel, kind: Kind, number: int, payload: bytes, reply: Reply
    ) -> None:
        """Handle what came in; in the loop's thread."""
        raise NotImplementedError

    def closed(self, channel: Channel) -> None:
        """Hear that nothing more comes; in the loop's thread."""

    def settings(self) -> dict[str, Any]:
        """Return the options, to make another plugin with them."""
        said = self.listening
        return {
            "host": said.host,
            "port": said.port,
            "advertise": said.advertise,
            "tls": said.tls,
            "worker_tls": said.worker_tls,
            "max_message_bytes": said.max_bytes,
        }

    def copy(self) -> Self:
        """Return a plugin with the same settings, for another task."""
        return type(self)(**self.settings())


def _is_loopback(host: str | None) -> bool:
    """Tell whether only this machine reaches an address."""
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _check(listening: Listening) -> None:
    _check_address(listening)
    n_bytes: object = listening.max_bytes
    if not isinstance(n_bytes, int) or not 0 < n_bytes < 1 << 32:
        message = (
            f"max_message_bytes={n_bytes!r} is not possible; give a number of bytes below 2**32"
        )
        raise InvalidOptionError(message, option="max_message_bytes", value=n_bytes)
    if (listening.tls is None) != (listening.worker_tls is None):
        message = "tls= and worker_tls= belong together: one is for the driver, one for the workers"
        raise InvalidOptionError(message, option="tls", value=listening.tls)
    if listening.tls is None and not _is_loopback(listening.host):
        warnings.warn(
            f"messages of calls to {listening.host} travel without TLS: others on that network can "
            f"read and change them once they are sent; give tls= and worker_tls=, or use a network "
            f"of your own",
            UnprotectedWarning,
            stacklevel=4,
        )


def _check_address(listening: Listening) -> None:
    host, port = listening.host or LOOPBACK, listening.port
    if not isinstance(port, int) or not 0 <= port < 1 << 16:
        message = f"port={port!r} is not possible; give a port, or 0 for any that is free"
        raise InvalidOptionError(message, option="port", value=port)
    if host in _ANY and listening.advertise is None:
        message = (
            f"host={host!r} is every address of this machine, which no worker can be told; give "
            f"advertise= the name or address by which workers reach it"
        )
        raise InvalidOptionError(message, option="host", value=host)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"host={host!r} is no address of this machine: {error}"
        raise InvalidOptionError(message, option="host", value=host) from error
