"""Which nodes must not stand together: one family, or one network prefix (spec/05 §6.1).

Pure helpers over entries, for contacts here and for paths in the client's room.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from fogbank.directory.entries import Entry
from fogbank.relay.extend import Address


def prefix(address: Address) -> bytes:
    """Return the address's /16 (IPv4: 2 bytes) or /32 (IPv6: 4 bytes)."""
    packed = ip_address(address.host).packed
    return packed[: 2 if len(packed) == 4 else 4]


def prefixes(entry: Entry) -> frozenset[bytes]:
    """Return the prefixes of all the entry's addresses; a worker has none."""
    return frozenset(prefix(address) for address in entry.addresses)


def same_family(a: Entry, b: Entry) -> bool:
    """Tell whether two entries are one node, or have shown certificates of one family."""
    return a.identity == b.identity or not set(a.families).isdisjoint(b.families)


def same_prefix(a: Entry, b: Entry) -> bool:
    """Tell whether two entries have addresses in one /16 (IPv6: /32)."""
    return not prefixes(a).isdisjoint(prefixes(b))


def conflict(a: Entry, b: Entry) -> bool:
    """Tell whether two entries count as one operator, and so may not share a path."""
    return same_family(a, b) or same_prefix(a, b)


def conflicts_any(entry: Entry, chosen: Iterable[Entry]) -> bool:
    """Tell whether `entry` conflicts with one of those already chosen."""
    return any(conflict(entry, other) for other in chosen)
