"""The byte pipe under a link: the same link runs over TLS and over memory (spec/02 §1).

`try_…` never wait; the two `wait_…` do nothing else. A batch of cells can so be read, worked
through and sent on without a task switch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from fogbank.relay.errors import LinkFailed


class PipeBroken(LinkFailed):
    """The connection broke; try again, or check the network."""


class Pipe(Protocol):
    """A connected byte pipe. Every method but `close` may raise `PipeBroken`."""

    binding: bytes
    """Equal on both sides, and unlike any other pipe's."""
    peer_host: str
    """The address from which the other side came, or to which this side went."""

    def try_receive(self, into: memoryview) -> int | None:
        """Read what is there into `into`: its length, 0 at the end, None if nothing is there."""

    def try_send(self, data: memoryview) -> int | None:
        """Send what goes: how many bytes did, or None; then `data` must be offered again."""

    async def wait_readable(self) -> None:
        """Wait until `try_receive` may have something."""

    async def wait_writable(self) -> None:
        """Wait until `try_send` may take something."""

    def close(self) -> None:
        """End the pipe, in both directions, at once."""


Accept = Callable[[Callable[[], Awaitable[Pipe]], str], bool]
"""Hears of a new connection: a function that finishes its pipe, and the peer's host.

Must not wait. True: it will call that function, once. False: the connection is closed.
"""


class Transport(Protocol):
    """How pipes come to be."""

    async def dial(self, host: str, port: int) -> Pipe:
        """Connect to a listener; raise `LinkFailed` if there is none."""

    async def listen(
        self,
        host: str,
        port: int,
        accept: Accept,
        started: Callable[[int], None],
    ) -> None:
        """Accept connections until cancelled; `started` is called with the port once it can."""
