"""EXTEND and REFUSED: how a circuit asks its last hop for one more (spec/03 §4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Protocol

from fogbank.relay.cells import MAX_HOPS, Geometry
from fogbank.relay.codec import Value, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.handshake import MESSAGE_LENGTHS
from fogbank.relay.keys import KEY_LENGTH, NodeId
from fogbank.relay.work import NONCE_LENGTH

ADDRESSES_MAX = 8
PORT_MAX = 0xFFFF

_UNICAST = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")


class RefusedCode(IntEnum):
    """Why a hop did not extend a circuit."""

    FAILED = 1
    NOT_IN_CONSENSUS = 2
    BAD_ADDRESS = 3
    LOOP = 4
    UNREACHABLE = 5
    NO_STANDING_LINK = 6
    RESOURCES = 7
    LIMIT = 8
    WORK = 9

    @staticmethod
    def sentence(code: int) -> str:
        """Return what a REFUSED message with `code` tells the user; a code may be unknown."""
        return "A relay did not extend the circuit: " + _WHY.get(code, "it gave no known reason.")


_WHY: dict[int, str] = {
    RefusedCode.FAILED: "the next relay failed, or refused the handshake.",
    RefusedCode.NOT_IN_CONSENSUS: "it knows no live consensus that lists the next one.",
    RefusedCode.BAD_ADDRESS: "it may not dial that address, or the consensus lists another.",
    RefusedCode.LOOP: "the next one is that relay itself, or the one before it.",
    RefusedCode.UNREACHABLE: "it cannot reach the next one, or another answered in its place.",
    RefusedCode.NO_STANDING_LINK: "the next one, a worker perhaps, holds no link to it now.",
    RefusedCode.RESOURCES: "it has no room for more circuits now.",
    RefusedCode.LIMIT: "the circuit is as long as it may be, or was extended already.",
    RefusedCode.WORK: "the next one is overloaded, and asks for work.",
}


def is_global(host: str) -> bool:
    """Tell whether `host` is the IP address of one machine on the public Internet.

    IPv6 addresses in which an IPv4 address is embedded do not count: what they reach is decided
    elsewhere.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    return address.is_global and address in _UNICAST and address not in _SIX_TO_FOUR


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens: an IP address in its canonical spelling, and a TCP port."""

    host: str
    port: int

    @classmethod
    def from_value(cls, value: Any) -> Address:
        """Take apart an already decoded `[host, port]`; raise `ProtocolError` if it is none."""
        match value:
            case [str(host), int(port)] if type(port) is int and 0 < port <= PORT_MAX:
                if host != _canonical(host):
                    raise ProtocolError("an address is not an IP address in canonical spelling")
                return cls(host, port)
            case _:
                raise ProtocolError("an address is not [host, port]")

    def value(self) -> list[str | int]:
        """Return the CBOR value."""
        return [self.host, self.port]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _canonical(host: str) -> str | None:
    """Return the one spelling of an IP address, or None if it is none or has a zone."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    zoned = isinstance(address, IPv6Address) and address.scope_id is not None
    return None if zoned else str(address)


@dataclass(frozen=True, slots=True)
class Extend:
    """What an EXTEND message asks: whom to extend to, where, and the message for it.

    With `addresses` None the hop is to use a link to `identity` that stands already. `nonce` is the
    work for the message, if any was asked for.
    """

    identity: NodeId
    addresses: tuple[Address, ...] | None
    handshake: bytes
    nonce: int | None = None

    def encode(self) -> bytes:
        """Return the message's data."""
        record: dict[int, Value] = {1: self.identity, 3: self.handshake}
        if self.addresses is not None:
            record[2] = [address.value() for address in self.addresses]
        if self.nonce is not None:
            record[4] = self.nonce.to_bytes(NONCE_LENGTH, "big")
        return encode(record)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Extend:
        """Take the message's data apart; raise `ProtocolError` if it is not an EXTEND's."""
        record = decode_record(data, Geometry.data(1), "EXTEND")
        identity = record.fixed(1, KEY_LENGTH)
        addresses = None
        if record.has(2):
            addresses = record.array(2, ADDRESSES_MAX, Address.from_value)
            if not addresses:
                raise ProtocolError("EXTEND: an empty list of addresses")
        handshake = record.blob(3, MESSAGE_LENGTHS[-1], MESSAGE_LENGTHS[0])
        nonce = int.from_bytes(record.fixed(4, NONCE_LENGTH), "big") if record.has(4) else None
        record.done()
        return cls(identity, addresses, handshake, nonce)


class ExtendPolicy(Protocol):
    """Says to whom a relay may extend; the rooms above know who is in the network."""

    def check(self, identity: NodeId, addresses: tuple[Address, ...] | None) -> RefusedCode | None:
        """Return why not to extend there, or None if nothing speaks against it."""

    async def refresh(self) -> None:
        """Fetch a newer consensus if there may be one; asked before an unknown node is refused."""


def check_hop(
    extend: Extend, own: NodeId, predecessor: NodeId | None, index: int, limit: int
) -> RefusedCode | None:
    """Return why this hop extends nowhere or not there, whatever the policy says; None if it may.

    `own` is this relay, `predecessor` who proved to be at the other end of its link (None:
    anonymous), `index` and `limit` what the origin asked for in CREATE.
    """
    if index >= min(limit, MAX_HOPS):
        return RefusedCode.LIMIT
    if extend.identity in (own, predecessor):
        return RefusedCode.LOOP
    return None
