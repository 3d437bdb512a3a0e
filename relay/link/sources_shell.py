"""Where links come from: what one remote address may do through all its links (spec/02 §6)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

import trio

from fogbank.relay.limits import Limits
from fogbank.relay.link.port import TokenBucket


class Source:
    """One remote address, or rather those of its links that proved an identity, or did not.

    Its links read in turns, so that many of them move no more than one alone would, and they share
    one allowance of CREATEs: more links buy an attacker nothing.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.creates = TokenBucket(limits.creates_per_second, limits.creates_burst, now)
        self.handshakes = TokenBucket(limits.handshakes_per_second, limits.handshakes_burst, now)
        self.links = 0
        self.left = now
        """When its last link ended."""
        self._turn = trio.Lock()

    @property
    def crowded(self) -> bool:
        """Whether its links must take turns."""
        return self.links > 1

    async def turn(self) -> None:
        """Wait until it is the calling link's turn to read."""
        if self.crowded:
            async with self._turn:
                await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint()


class Sources:
    """All sources of a process; one is forgotten once its allowances are whole again anyway."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._known: dict[tuple[str, bool], Source] = {}
        self._memory = max(
            limits.creates_burst / limits.creates_per_second,
            limits.handshakes_burst / limits.handshakes_per_second,
        )

    def __len__(self) -> int:
        return len(self._known)

    def get(self, group: str, *, proved: bool) -> Source:
        """Return the source of links from `group`, as `address_group` names it."""
        key = group, proved
        source = self._known.get(key)
        if source is None:
            source = self._known[key] = Source(self._limits, self._clock())
        source.left = self._clock()
        return source

    def forget(self) -> None:
        """Forget the sources that have been gone long enough."""
        then = self._clock() - self._memory
        for key, source in list(self._known.items()):
            if not source.links and source.left < then:
                del self._known[key]


def address_group(host: str) -> str:
    """Return what counts as one remote address: an IPv4 address, or an IPv6 /64 (spec/02 §6)."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), 64), strict=False))
    return host
