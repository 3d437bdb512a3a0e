"""The network document, `network.toml`: the pinned root of all trust (spec/05 §1).

It is TOML for people; what is signed is the canonical CBOR body that its fields give.
Versions form a chain: q authorities of version N sign version N+1.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import tomli_w

from fogbank.directory.addresses import (
    MAX_ADDRESSES,
    check_public,
    decode_address,
    encode_address,
    parse_address,
)
from fogbank.relay.codec import Record, Value, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import (
    KEY_LENGTH,
    SIGNATURE_LENGTH,
    Ed25519Key,
    NodeId,
    parse_id,
    show_id,
    verify,
)

NETWORK_LABEL = "fogbank-network-v1"
NETWORK_LIMIT = 64 << 10
MAX_AUTHORITIES = 32
MAX_NAME = 64
_MAX_TIME = 1 << 40
_MAX_PHASE_MS = 3_600_000
_MAX_INTERVAL = 86_400
_MAX_WARMUP = 1000


@dataclass(frozen=True, slots=True)
class AuthorityPin:
    """An authority as the network document pins it."""

    identity: NodeId
    nickname: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """When consensuses are made (spec/05 §1.2): `start` in seconds since 1970, `phase_ms` in ms.

    The first `warmup_rounds` intervals last `warmup_interval` seconds, all later ones
    `interval` seconds.
    """

    start: int
    phase_ms: int
    interval: int
    warmup_rounds: int = 0
    warmup_interval: int = 0

    @property
    def first_interval(self) -> int:
        """Seconds that the first interval lasts: one of the warm-up's, if there is one."""
        return self.warmup_interval if self.warmup_rounds else self.interval


@dataclass(frozen=True, slots=True)
class NetworkDocument:
    """Who the authorities are and when they meet. Only `open_network` makes a trusted one.

    `test` allows private and loopback addresses. A later version governs the rounds with a
    `valid_after` from `in_force` on, and knows its `previous` one, which governs those before,
    and may know one before that in turn.
    """

    network_id: bytes
    name: str
    version: int
    authorities: tuple[AuthorityPin, ...]
    timing: Timing
    test: bool = False
    in_force: int = 0
    previous: NetworkDocument | None = field(default=None, compare=False, repr=False)

    def governing(self, valid_after: int) -> NetworkDocument:
        """Return the version that governs the round of `valid_after`: this one or one before."""
        version = self
        while version.previous is not None and valid_after < version.in_force:
            version = version.previous
        return version

    def _versions(self) -> Iterator[NetworkDocument]:
        """Go back along the chain, from this version on."""
        version: NetworkDocument | None = self
        while version is not None:
            yield version
            version = version.previous

    def find(self, identity: NodeId) -> AuthorityPin | None:
        """Return the authority of that identity, of this version or the last to name it."""
        pins = (version.pin(identity) for version in self._versions())
        return next((pin for pin in pins if pin is not None), None)

    @property
    def everyone(self) -> tuple[AuthorityPin, ...]:
        """The authorities of this version, and those of earlier ones that are not among them."""
        return self._pins_since(None)

    def engaged(self, now: float) -> tuple[AuthorityPin, ...]:
        """Return the authorities of the version in force at `now` and of all later ones."""
        return self._pins_since(self.governing(int(now)))

    def _pins_since(self, last: NetworkDocument | None) -> tuple[AuthorityPin, ...]:
        pins: dict[NodeId, AuthorityPin] = {}
        for version in self._versions():
            for pin in version.authorities:
                pins.setdefault(pin.identity, pin)
            if version is last:
                break
        return tuple(pins.values())

    @property
    def digest(self) -> bytes:
        """SHA-256 of what the authorities sign: names this document."""
        return hashlib.sha256(self.encode_body()).digest()

    @property
    def quorum(self) -> int:
        """How many authorities must sign: q = ⌊2n/3⌋+1."""
        return 2 * len(self.authorities) // 3 + 1

    @property
    def faulty(self) -> int:
        """How many authorities may be faulty at once: b = n - q = ⌊(n - 1)/3⌋."""
        return len(self.authorities) - self.quorum

    def is_authority(self, identity: NodeId) -> bool:
        """Tell whether a node is pinned as an authority."""
        return any(pin.identity == identity for pin in self.authorities)

    def pin(self, identity: NodeId) -> AuthorityPin | None:
        """Return the pinned authority of that identity, or None."""
        return next((pin for pin in self.authorities if pin.identity == identity), None)

    def check_address(self, address: Address) -> None:
        """Raise `ProtocolError` for an address that this network does not allow."""
        if not self.test:
            check_public(address)

    def encode_body(self) -> bytes:
        """Return the bytes that authorities sign."""
        timing = self.timing
        fields: dict[int, Value] = {
            1: self.network_id,
            2: self.name,
            3: self.version,
            4: [
                {
                    1: pin.identity,
                    2: pin.nickname,
                    3: [encode_address(a) for a in pin.addresses],
                }
                for pin in self.authorities
            ],
            5: {
                1: timing.start,
                2: timing.phase_ms,
                3: timing.interval,
                4: timing.warmup_rounds,
                5: timing.warmup_interval,
            },
            6: self.test,
        }
        if self.in_force:
            fields[7] = self.in_force
        return encode(fields)

    def check(self) -> None:
        """Raise `ProtocolError` unless the document is sound in itself (spec/05 §1.2)."""
        if not 1 <= len(self.authorities) <= MAX_AUTHORITIES:
            raise ProtocolError(f"a network has 1 to {MAX_AUTHORITIES} authorities")
        if len({pin.identity for pin in self.authorities}) != len(self.authorities):
            raise ProtocolError("the network document pins one authority twice")
        for pin in self.authorities:
            if not 1 <= len(pin.addresses) <= MAX_ADDRESSES:
                raise ProtocolError(
                    f"authority {pin.nickname} needs 1 to {MAX_ADDRESSES} addresses"
                )
            for address in pin.addresses:
                self.check_address(address)
        if (self.version > 1) != (self.in_force > 0):
            raise ProtocolError("versions of a network document after the first have a `from`")
        self._check_timing()

    def _check_timing(self) -> None:
        timing = self.timing
        room = (self.faulty + 3) * timing.phase_ms
        if timing.phase_ms < 1 or timing.interval < 1:
            raise ProtocolError("the network document has an empty phase or interval")
        short = timing.warmup_rounds and timing.warmup_interval * 1000 < room
        if timing.interval * 1000 < room or short:
            raise ProtocolError(
                f"a round needs {room} ms (b+3 phases): make the phase shorter, "
                "or the interval longer"
            )


@dataclass(frozen=True, slots=True)
class SignedNetwork:
    """A network document with the signatures collected so far, `(identity, signature)` each."""

    document: NetworkDocument
    signatures: tuple[tuple[NodeId, bytes], ...] = ()

    def sign(self, key: Ed25519Key) -> SignedNetwork:
        """Return the document with the signature of one more authority's *identity* key."""
        signature = key.sign(NETWORK_LABEL, self.document.encode_body())
        others = tuple(pair for pair in self.signatures if pair[0] != key.public)
        return SignedNetwork(self.document, (*others, (key.public, signature)))

    def verify(self, authorities: NetworkDocument) -> None:
        """Raise `ProtocolError` unless q authorities of `authorities` signed this document.

        Signatures of others are passed over: version N+1 carries those of old and new ones.
        """
        body = self.document.encode_body()
        signers: set[NodeId] = set()
        for identity, signature in self.signatures:
            if authorities.is_authority(identity):
                verify(identity, NETWORK_LABEL, body, signature)
                signers.add(identity)
        if len(signers) < authorities.quorum:
            raise ProtocolError(
                f"the network document has {len(signers)} signatures of authorities; "
                f"{authorities.quorum} are needed"
            )


def open_network(text: str) -> NetworkDocument:
    """Read `network.toml` and return its document if q of its own authorities signed it."""
    signed = load_network(text)
    signed.verify(signed.document)
    return signed.document


def verify_successor(old: NetworkDocument, new: SignedNetwork) -> NetworkDocument:
    """Return the next version of a network document; raise `ProtocolError` if it is not one.

    It has the same network id and schedule, the next version number and a later `from`, and q
    authorities of the old version and q of its own signed it.
    """
    document = new.document
    if document.network_id != old.network_id:
        raise ProtocolError("the new network document is of another network")
    if document.version != old.version + 1:
        raise ProtocolError(
            f"the new network document is version {document.version}; version {old.version + 1} "
            "comes next"
        )
    if (document.timing, document.test) != (old.timing, old.test):
        raise ProtocolError("the new network document has another schedule: that cannot change")
    if document.in_force <= old.in_force:
        raise ProtocolError("the new network document would be in force before the last one")
    new.verify(old)
    new.verify(document)
    return replace(document, previous=old)


def load_network(text: str) -> SignedNetwork:
    """Read `network.toml`; shape and bounds are checked, signatures not. Raises `ProtocolError`."""
    if len(text.encode("utf-8", "surrogatepass")) > NETWORK_LIMIT:
        raise ProtocolError(f"a network document is over its limit of {NETWORK_LIMIT} bytes")
    try:
        table = tomllib.loads(text)
        fields = _body_value(table)
        signatures = tuple(
            (parse_id(item["authority"]), bytes.fromhex(item["signature"]))
            for item in table.pop("signature", [])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"this is no network document: {_reason(error)}") from error
    if table:
        raise ProtocolError(f"the network document has an unknown field {min(table)!r}")
    if len(signatures) > 2 * MAX_AUTHORITIES:
        raise ProtocolError("the network document has too many signatures")
    if any(len(signature) != SIGNATURE_LENGTH for _, signature in signatures):
        raise ProtocolError("the network document has a signature that is not 64 bytes")
    document = _document(Record(fields, "network document"))
    document.check()
    return SignedNetwork(document, signatures)


def _reason(error: Exception) -> str:
    return f"it lacks the field {error}" if isinstance(error, KeyError) else str(error)


def _body_value(table: dict[str, Any]) -> dict[int, Any]:
    """Take the signed fields out of the TOML table, as the body's integer-keyed map."""
    authorities = []
    for item in table.pop("authority"):
        addresses = [encode_address(parse_address(text)) for text in item["addresses"]]
        authorities.append({1: parse_id(item["identity"]), 2: item["nickname"], 3: addresses})
    schedule = table.pop("schedule")
    keys = ("start", "phase_ms", "interval", "warmup_rounds", "warmup_interval")
    return {
        1: bytes.fromhex(table.pop("id")),
        2: table.pop("name"),
        3: table.pop("version"),
        4: authorities,
        5: {number: schedule[key] for number, key in enumerate(keys, 1)},
        6: table.pop("test"),
        **({7: table.pop("from")} if "from" in table else {}),
    }


def _document(record: Record) -> NetworkDocument:
    """Read the body's fields with their types and bounds."""
    document = NetworkDocument(
        network_id=record.fixed(1, KEY_LENGTH),
        name=record.text(2, MAX_NAME),
        version=record.uint(3, 1 << 32, 1),
        authorities=record.array(4, MAX_AUTHORITIES, _pin),
        timing=_timing(record.record(5)),
        test=record.flag(6),
        in_force=record.uint(7, _MAX_TIME, 1) if record.has(7) else 0,
    )
    record.done()
    return document


def _pin(value: Any) -> AuthorityPin:
    record = Record(value, "an authority of the network document")
    pin = AuthorityPin(
        record.fixed(1, KEY_LENGTH),
        record.text(2, 19),
        record.array(3, MAX_ADDRESSES, decode_address),
    )
    record.done()
    if not (pin.nickname.isascii() and pin.nickname.isalnum()):
        raise ProtocolError("an authority's nickname is not 1 to 19 letters and digits")
    return pin


def _timing(record: Record) -> Timing:
    timing = Timing(
        record.uint(1, _MAX_TIME),
        record.uint(2, _MAX_PHASE_MS),
        record.uint(3, _MAX_INTERVAL),
        record.uint(4, _MAX_WARMUP),
        record.uint(5, _MAX_INTERVAL),
    )
    record.done()
    return timing


def dump_network(signed: SignedNetwork) -> str:
    """Write `network.toml`."""
    document, timing = signed.document, signed.document.timing
    return tomli_w.dumps(
        {
            "name": document.name,
            "id": document.network_id.hex(),
            "version": document.version,
            "test": document.test,
            **({"from": document.in_force} if document.in_force else {}),
            "schedule": {
                "start": timing.start,
                "phase_ms": timing.phase_ms,
                "interval": timing.interval,
                "warmup_rounds": timing.warmup_rounds,
                "warmup_interval": timing.warmup_interval,
            },
            "authority": [
                {
                    "nickname": pin.nickname,
                    "identity": show_id(pin.identity),
                    "addresses": [str(address) for address in pin.addresses],
                }
                for pin in document.authorities
            ],
            "signature": [
                {"authority": show_id(identity), "signature": signature.hex()}
                for identity, signature in signed.signatures
            ],
        }
    )
