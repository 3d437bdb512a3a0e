"""One node as the consensus lists it, and what a field of it may hold (spec/05 §4.5, §5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

from fogbank.directory.addresses import MAX_ADDRESSES, decode_address, encode_address
from fogbank.relay.codec import MAX_UINT, Value
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import KEY_LENGTH, NodeId

SUPPORTED_PROTOCOLS: tuple[int, ...] = (1,)
REQUIRED_PROTOCOLS: tuple[int, ...] = (1,)
"""What authorities require unless their operators say otherwise.

A new version joins the supported ones alone: else the upgrade of authorities shut out all others.
"""
MAX_NICKNAME = 19
MAX_FAMILIES = 4
MAX_SERVICES = 16
MAX_NAME = 32
MAX_PROTOCOLS = 16
MAX_ENGINE = 128
MAX_RUNTIMES = 32
MAX_FLAGS = (1 << 8) - 1
MINT_SERVICE: Final = "mint"
"""The mint's service: a relay that offers it is an authority that left office (spec/09 §2.1)."""
_ENTRY_FIELDS = 15


class Flag(IntFlag):
    """What the authorities say of a node (spec/05 §4.5). `AUDITED` is reserved."""

    AUTHORITY = 1
    GUARD = 2
    FAST = 4
    STABLE = 8
    RUNNING = 16
    VALID = 32
    WORKER = 64
    AUDITED = 128


@dataclass(frozen=True, slots=True)
class Entry:
    """One node as the consensus lists it (spec/05 §5.1).

    `bandwidth` is in bytes per second, `fuel_rate` in fuel per second, `memory` in bytes;
    `families` are family public keys, `runtimes` SHA-256 digests of modules. `since` is the
    `valid_after` of the first of the unbroken row of consensuses that list the node.
    """

    identity: NodeId
    nickname: str
    flags: Flag
    addresses: tuple[Address, ...]
    onion_key: bytes
    families: tuple[bytes, ...] = ()
    services: tuple[str, ...] = ()
    protocols: tuple[int, ...] = SUPPORTED_PROTOCOLS
    bandwidth: int = 0
    fuel_rate: int = 0
    memory: int = 0
    cores: int = 0
    engine: str = ""
    runtimes: tuple[bytes, ...] = ()
    since: int = 0

    def value(self) -> Value:
        """Return the entry's CBOR array."""
        return [
            self.identity,
            self.nickname,
            int(self.flags),
            [encode_address(address) for address in self.addresses],
            self.onion_key,
            self.families,
            self.services,
            self.protocols,
            self.bandwidth,
            self.fuel_rate,
            self.memory,
            self.cores,
            self.engine,
            self.runtimes,
            self.since,
        ]


def entry_from_value(value: Any) -> Entry:
    """Read an entry's CBOR array, each field with its bound; raise `ProtocolError`."""
    if type(value) is not list or len(value) != _ENTRY_FIELDS:
        raise ProtocolError("an entry is not an array of 15 fields")
    (
        identity, nickname, flags, addresses, onion_key, families, services, protocols,
        bandwidth, fuel_rate, memory, cores, engine, runtimes, since,
    ) = value  # fmt: skip
    if not (
        _is_key(identity)
        and is_nickname(nickname)
        and _is_uint(flags, MAX_FLAGS)
        and _is_list(addresses, MAX_ADDRESSES)
        and _is_key(onion_key)
        and _is_list(families, MAX_FAMILIES)
        and all(map(_is_key, families))
        and _is_list(services, MAX_SERVICES)
        and all(map(is_name, services))
        and _is_list(protocols, MAX_PROTOCOLS)
        and all(_is_uint(protocol, 1 << 16) for protocol in protocols)
        and all(_is_uint(number, MAX_UINT) for number in (bandwidth, fuel_rate, memory, cores))
        and type(engine) is str
        and len(engine.encode()) <= MAX_ENGINE
        and engine.isprintable()
        and _is_list(runtimes, MAX_RUNTIMES)
        and all(map(_is_key, runtimes))
        and _is_uint(since, MAX_UINT)
    ):
        raise ProtocolError("an entry has a field that is out of bounds")
    return Entry(
        identity,
        nickname,
        Flag(flags),
        tuple(map(decode_address, addresses)),
        onion_key,
        tuple(families),
        tuple(services),
        tuple(protocols),
        bandwidth,
        fuel_rate,
        memory,
        cores,
        engine,
        tuple(runtimes),
        since,
    )


def is_nickname(value: object) -> bool:
    """Tell whether a value is a nickname: 1 to 19 of A-Z, a-z, 0-9."""
    return (
        type(value) is str
        and 1 <= len(value) <= MAX_NICKNAME
        and value.isascii()
        and value.isalnum()
    )


def is_name(value: object) -> bool:
    """Tell whether a value is a service's name: 1 to 32 of a-z, 0-9 and hyphens."""
    return (
        type(value) is str
        and 1 <= len(value) <= MAX_NAME
        and value.isascii()
        and value.replace("-", "a").isalnum()
        and value == value.lower()
    )


def _is_key(value: object) -> bool:
    return type(value) is bytes and len(value) == KEY_LENGTH


def _is_uint(value: object, maximum: int) -> bool:
    return type(value) is int and 0 <= value <= maximum


def _is_list(value: object, maximum: int) -> bool:
    return type(value) is list and len(value) <= maximum
