"""Descriptors: what a node says of itself, verifiable alone (spec/05 §2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fogbank.directory.addresses import MAX_ADDRESSES, decode_address, encode_address
from fogbank.directory.entries import (
    MAX_ENGINE,
    MAX_FAMILIES,
    MAX_PROTOCOLS,
    MAX_RUNTIMES,
    MAX_SERVICES,
    SUPPORTED_PROTOCOLS,
    is_name,
    is_nickname,
)
from fogbank.directory.network import NetworkDocument
from fogbank.relay.certificates import CLOCK_SKEW, Certificate, Use, open_certificate
from fogbank.relay.codec import Record, bytes_item, decode_record, encode, uint_item
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId, Signed

DESCRIPTOR_LABEL = "fogbank-descriptor-v1"
DESCRIPTOR_LIMIT = 8 << 10
DESCRIPTOR_LIFETIME = 86_400
"""Seconds after which a descriptor that was not renewed is dropped."""
_MAX_MEMORY = 1 << 56
_MAX_CORES = 1 << 16
_CACHE_SIZE = 1 << 17


class Role(IntEnum):
    """What a node is in the network; a node has one role."""

    RELAY = 1
    WORKER = 2
    AUTHORITY = 3


@dataclass(frozen=True, slots=True)
class Description:
    """What a node's operator and machine say of it, before anything is signed.

    `memory` is in bytes; `engine` is the engine class of a worker; `runtimes` are SHA-256
    digests of the modules that it holds.
    """

    nickname: str
    role: Role
    addresses: tuple[Address, ...] = ()
    services: tuple[str, ...] = ()
    protocols: tuple[int, ...] = SUPPORTED_PROTOCOLS
    engine: str = ""
    memory: int = 0
    cores: int = 0
    runtimes: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A verified descriptor. Only `open_descriptor` makes a trusted one.

    `begins` and `ends` bound the time in which its certificates are in force and its age is
    allowed; `digest` is the SHA-256 of its bytes, `data`.
    """

    identity: NodeId
    description: Description
    published: int
    onion_key: bytes
    families: tuple[bytes, ...]
    begins: int
    ends: int
    data: bytes
    digest: bytes

    def check_time(self, now: float) -> None:
        """Raise `ProtocolError` unless the descriptor may be used at `now`."""
        if now < self.published - CLOCK_SKEW:
            minutes = round((self.published - now) / 60)
            raise ProtocolError(
                f"a descriptor was published {minutes} minutes from now: is its node's clock fast?"
            )
        if now >= self.published + DESCRIPTOR_LIFETIME:
            hours = round((now - self.published) / 3600)
            raise ProtocolError(
                f"a descriptor was published {hours} hours ago: is its node's clock slow?"
            )
        if not self.begins <= now < self.ends:
            raise ProtocolError("a descriptor has a certificate that is not in force")


def make_descriptor(
    key: Ed25519Key,
    signing: Signed,
    onion: Signed,
    description: Description,
    now: float,
    families: tuple[Signed, ...] = (),
) -> bytes:
    """Return a descriptor signed with the signing key `key`.

    `signing` is the identity's certificate of `key`, `onion` that of the onion key by `key`;
    the node's identity is the issuer of `signing`.
    """
    identity = open_certificate(signing, Use.SIGNING, now).issuer
    body = encode(
        {
            1: identity,
            2: description.nickname,
            3: description.role,
            4: [encode_address(address) for address in description.addresses],
            5: int(now),
            6: signing.value(),
            7: onion.value(),
            8: [family.value() for family in families],
            9: description.services,
            10: description.protocols,
            11: description.engine,
            12: description.memory,
            13: description.cores,
            14: description.runtimes,
        }
    )
    return Signed.make(key, DESCRIPTOR_LABEL, body).encode()


def open_descriptor(data: bytes, network: NetworkDocument, now: float) -> Descriptor:
    """Return the descriptor if everything in it holds at `now`; raise `ProtocolError` if not."""
    document = Signed.decode(data, DESCRIPTOR_LIMIT)
    record = decode_record(document.body, DESCRIPTOR_LIMIT, "descriptor")
    identity = record.fixed(1, KEY_LENGTH)
    description, published, parts = _open_fields(record)
    signing = open_certificate(parts.signing, Use.SIGNING, now, identity)
    document.verify(signing.subject, DESCRIPTOR_LABEL)
    onion = open_certificate(parts.onion, Use.ONION, now, signing.subject)
    families = [open_certificate(family, Use.FAMILY, now) for family in parts.families]
    if any(family.subject != identity for family in families):
        raise ProtocolError("a descriptor shows a family certificate of another node")
    _check_place(description, network)
    _check_role(identity, description.role, network, now)
    begins, ends = _window([signing, onion, *families])
    descriptor = Descriptor(
        identity,
        description,
        published,
        onion.subject,
        tuple(family.issuer for family in families),
        begins,
        ends,
        data,
        hashlib.sha256(data).digest(),
    )
    descriptor.check_time(now)
    return descriptor


@dataclass(frozen=True, slots=True)
class _Parts:
    signing: Signed
    onion: Signed
    families: tuple[Signed, ...]


def _open_fields(record: Record) -> tuple[Description, int, _Parts]:
    """Read all fields but the identity, with their types and bounds."""
    nickname = record.text(2, 19)
    role = _role(record.uint(3, 255))
    addresses = record.array(4, MAX_ADDRESSES, decode_address)
    published = record.uint(5, 1 << 40)
    signing, onion = record.array(6, 2, _raw), record.array(7, 2, _raw)
    families = record.array(8, MAX_FAMILIES, Signed.from_value)
    description = Description(
        nickname,
        role,
        addresses,
        services=record.array(9, MAX_SERVICES, _service),
        protocols=record.array(10, MAX_PROTOCOLS, uint_item(1 << 16)),
        engine=record.text(11, MAX_ENGINE),
        memory=record.uint(12, _MAX_MEMORY),
        cores=record.uint(13, _MAX_CORES),
        runtimes=record.array(14, MAX_RUNTIMES, bytes_item(KEY_LENGTH, KEY_LENGTH)),
    )
    record.done()
    if not is_nickname(nickname):
        raise ProtocolError("a nickname is not 1 to 19 letters and digits")
    parts = _Parts(Signed.from_value(list(signing)), Signed.from_value(list(onion)), families)
    return description, published, parts


def _raw(value: Any) -> Any:
    return value


def _role(number: int) -> Role:
    try:
        return Role(number)
    except ValueError as error:
        raise ProtocolError(f"a descriptor has the unknown role {number}") from error


def _service(value: Any) -> str:
    if not is_name(value):
        raise ProtocolError("a service's name is not 1 to 32 of a-z, 0-9 and hyphens")
    return str(value)


def _check_role(identity: NodeId, role: Role, network: NetworkDocument, now: float) -> None:
    """Check the role against the version that governs at `now`, so that all judge votes alike.

    Who was an authority may be a relay later; who will be one describes itself before.
    """
    if role is Role.AUTHORITY:
        fits = network.find(identity) is not None
    else:
        fits = not network.governing(int(now)).is_authority(identity)
    if not fits:
        raise ProtocolError("a descriptor's role and the network document contradict each other")


def _check_place(description: Description, network: NetworkDocument) -> None:
    """Check the addresses against what this network allows."""
    if (description.role is Role.WORKER) == bool(description.addresses):
        raise ProtocolError("relays and authorities have addresses, workers have none")
    for address in description.addresses:
        network.check_address(address)


def _window(certificates: list[Certificate]) -> tuple[int, int]:
    begins = max(certificate.not_before for certificate in certificates) - CLOCK_SKEW
    return begins, min(certificate.expires for certificate in certificates)


class DescriptorCache:
    """Descriptors already verified, by their bytes: four votes carry most of them four times."""

    def __init__(self, network: NetworkDocument) -> None:
        self.network = network
        self._known: dict[bytes, Descriptor] = {}

    def open(self, data: bytes, now: float) -> Descriptor:
        """Do as `open_descriptor`, without verifying the same bytes again."""
        known = self._known.get(data)
        if known is None:
            known = open_descriptor(data, self.network, now)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[data] = known
        else:
            known.check_time(now)
            self.check_role(known, now)
        return known

    def check_role(self, descriptor: Descriptor, now: float) -> None:
        """Raise `ProtocolError` if the network document of that time gives another role."""
        _check_role(descriptor.identity, descriptor.description.role, self.network, now)

    def forget(self, now: float) -> None:
        """Drop what is too old to be used again."""
        self._known = {
            data: descriptor
            for data, descriptor in self._known.items()
            if now < descriptor.published + DESCRIPTOR_LIFETIME
        }
