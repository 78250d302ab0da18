"""What a worker needs to open a channel; it is sent with the call."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Host and port, or the name of a socket that only this machine has.
Address = tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Ticket:
    """The way to the driver for one call."""

    #: Where the driver listens; nowhere, if the call runs in its own thread.
    address: Address | None
    channel_id: bytes
    token: bytes = field(repr=False)
    #: Where the driver runs, for messages.
    driver: str
    max_bytes: int
    #: Makes the worker's context of TLS.
    tls: Callable[[], ssl.SSLContext] | None = None
    #: The driver's end itself, where the call runs in the driver's own thread.
    inline: Any = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the driver's end behind."""
        return Ticket, (
            self.address,
            self.channel_id,
            self.token,
            self.driver,
            self.max_bytes,
            self.tls,
        )


def name_of(address: Address | None) -> str:
    """Show an address as people write it."""
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    return "no address" if address is None else address.replace("\0", "@")
