"""A worker's signature on what a task came to, of which any part can be shown alone (spec/12 §1).

What a task was given and came to are eight *leaves*. Each is hashed with a salt of its own into a
tree; the worker signs the root. Whoever has it all can show some leaves, and of the others nothing
but hashes: `Proof.only`. Pure: salts, keys and the time are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from fogbank.relay.certificates import CLOCK_SKEW, Use, open_certificate
from fogbank.relay.codec import Record, Value, bytes_item, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import SIGNATURE_LENGTH, Ed25519Key, NodeId, Signed, verify

LABEL: Final = "fogbank-attestation-v1"
SECRET_SIZE: Final = 32
HASH_SIZE: Final = 32
VALUE_SIZE: Final = 256
"""The longest value of a leaf, in bytes."""
ATTESTATION_LIMIT: Final = 4096
PROOF_LIMIT: Final = 8192
MINUTE: Final = 60

_SALT: Final = b"fogbank-attestation-salt-v1\0"
_LEAF: Final = b"\0"
_NODE: Final = b"\1"
_FORMAT: Final = "fogbank attestation 1"


class Leaf(IntEnum):
    """What is attested, part by part; the order is that of the tree."""

    MODULE = 0
    INPUT = 1
    LIMITS = 2
    OUTCOME = 3
    STDOUT = 4
    STDERR = 5
    FUEL = 6
    ENGINE = 7


_LEAVES: Final = tuple(Leaf)


@dataclass(frozen=True, slots=True)
class Statement:
    """The encoded value of every leaf, in their order (`statement` makes them)."""

    values: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(Leaf) or any(len(each) > VALUE_SIZE for each in self.values):
            raise ValueError("a statement has a short value for each leaf")


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a worker sends with a result: whoever knows the statement can check it.

    `secret`: what the salts are made of. `time`: seconds, of a whole minute. `certificate`: of the
    key that signed, by the worker's identity.
    """

    secret: bytes = field(repr=False)
    time: int
    certificate: Signed
    signature: bytes

    def encode(self) -> bytes:
        """Return its bytes, as they stand in a result."""
        fields: dict[int, Value] = {1: self.secret, 2: self.time, 3: self.certificate.value()}
        return encode({**fields, 4: self.signature})

    @classmethod
    def decode(cls, data: bytes) -> Attestation:
        """Read its bytes; nothing is verified yet. Raises `ProtocolError`."""
        record = decode_record(data, ATTESTATION_LIMIT, "attestation")
        attestation = cls(
            record.fixed(1, SECRET_SIZE),
            record.uint(2),
            Signed.from_value(list(record.array(3, 2, _as_is))),
            record.fixed(4, SIGNATURE_LENGTH),
        )
        record.done()
        if attestation.time % MINUTE:
            raise ProtocolError("an attestation tells more of the time than the minute")
        return attestation


@dataclass(frozen=True, slots=True)
class Signer:
    """What a worker signs with: its signing key, and the certificate of that."""

    key: Ed25519Key
    certificate: Signed

    def attest(self, statement: Statement, secret: bytes, now: float) -> Attestation:
        """Attest a statement; `secret` are 32 random bytes, for this one only."""
        time = int(now) - int(now) % MINUTE
        root = _root_of_all(statement, secret)
        signature = self.key.sign(LABEL, _body(root, time))
        return Attestation(secret, time, self.certificate, signature)


@dataclass(frozen=True, slots=True)
class Proof:
    """An attestation of which some leaves are shown, and of the others only hashes.

    `shown`: salt and value of each. `hidden`: the hashes of the largest parts of the tree in which
    nothing is shown, from left to right.
    """

    certificate: Signed
    time: int
    signature: bytes
    shown: Mapping[Leaf, tuple[bytes, bytes]]
    hidden: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, statement: Statement, attestation: Attestation) -> Proof:
        """Return the proof that shows everything; nothing is verified yet."""
        opened = _opened(statement, attestation.secret)
        return cls(attestation.certificate, attestation.time, attestation.signature, opened)

    def only(self, leaves: Collection[Leaf]) -> Proof:
        """Return the proof that shows these leaves alone; raise `ValueError` if one is hidden."""
        missing = set(leaves) - set(self.shown)
        if missing:
            names = ", ".join(leaf.name.lower() for leaf in sorted(missing))
            raise ValueError(f"this attestation does not show: {names}")
        shown = {leaf: self.shown[leaf] for leaf in sorted(leaves)}
        hidden: list[bytes] = []
        _hide(0, len(Leaf), self.shown, list(self.hidden), frozenset(shown), hidden)
        return Proof(self.certificate, self.time, self.signature, shown, tuple(hidden))

    def verify(self) -> NodeId:
        """Return the identity of the worker that attested this; raise `ProtocolError` if none did.

        Whether that is the worker that was asked, is for the caller to look at.
        """
        certificate = open_certificate(self.certificate, Use.SIGNING, self.time)
        body = _body(_root(self.shown, self.hidden), self.time)
        verify(certificate.subject, LABEL, body, self.signature)
        return certificate.issuer

    def encode(self) -> bytes:
        """Return the bytes of a file that holds it."""
        shown: dict[int, Value] = {leaf: list(pair) for leaf, pair in self.shown.items()}
        fields: dict[int, Value] = {0: _FORMAT, 1: self.certificate.value(), 2: self.time}
        return encode({**fields, 3: self.signature, 4: shown, 5: list(self.hidden)})

    @classmethod
    def decode(cls, data: bytes) -> Proof:
        """Read what `encode` wrote; nothing is verified yet. Raises `ProtocolError`."""
        record = decode_record(data, PROOF_LIMIT, "attestation")
        if record.text(0, 32) != _FORMAT:
            raise ProtocolError("this is no attestation, or one of a later version")
        certificate = Signed.from_value(list(record.array(1, 2, _as_is)))
        time, signature = record.uint(2), record.fixed(3, SIGNATURE_LENGTH)
        leaves = record.record(4)
        shown = {leaf: _shown(leaves, leaf) for leaf in Leaf if leaves.has(leaf)}
        leaves.done()
        hidden = record.array(5, len(Leaf), bytes_item(HASH_SIZE, HASH_SIZE))
        record.done()
        proof = cls(certificate, time, signature, shown, hidden)
        _root(shown, hidden)
        return proof


def check(attestation: Attestation, statement: Statement, worker: NodeId, now: float) -> Proof:
    """Return the proof that `worker` attested this statement, not later than `now`.

    Raises `ProtocolError` with what is wrong.
    """
    proof = Proof.of(statement, attestation)
    if proof.verify() != worker:
        raise ProtocolError("an attestation is another worker's")
    if attestation.time > now + CLOCK_SKEW:
        raise ProtocolError("an attestation is of a time that has not come: is the clock slow?")
    return proof


def _body(root: bytes, time: int) -> bytes:
    return encode({1: root, 2: time})


def _opened(statement: Statement, secret: bytes) -> dict[Leaf, tuple[bytes, bytes]]:
    salts = (hashlib.sha256(_SALT + secret + bytes((leaf,))).digest() for leaf in Leaf)
    pairs = zip(salts, statement.values, strict=True)
    return dict(zip(Leaf, pairs, strict=True))


def _root_of_all(statement: Statement, secret: bytes) -> bytes:
    """Return what `_root` does where everything is shown: a worker signs far more than it proves.

    The leaves are a power of two, so the tree can be hashed level by level.
    """
    begin = hashlib.sha256(_SALT + secret)
    level: list[bytes] = []
    for leaf, value in enumerate(statement.values):
        salt = begin.copy()
        salt.update(bytes((leaf,)))
        level.append(_leaf_hash(leaf, salt.digest(), value))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [hashlib.sha256(_NODE + left + right).digest() for left, right in pairs]
    return level[0]


def _leaf_hash(leaf: int, salt: bytes, value: bytes) -> bytes:
    return hashlib.sha256(_LEAF + bytes((leaf,)) + salt + value).digest()


def _root(shown: Mapping[Leaf, tuple[bytes, bytes]], hidden: Collection[bytes] = ()) -> bytes:
    """Return the root of the tree; raise `ProtocolError` unless `hidden` fits what is shown."""
    rest = list(hidden)
    root = _hash_of(0, len(Leaf), shown, rest)
    if rest:
        raise ProtocolError("an attestation has a hash too many")
    return root


def _hash_of(
    start: int, end: int, shown: Mapping[Leaf, tuple[bytes, bytes]], rest: list[bytes]
) -> bytes:
    """Return the hash over the leaves from `start` to `end`, taking hidden ones from `rest`."""
    if not any(start <= leaf < end for leaf in shown):
        if not rest:
            raise ProtocolError("an attestation lacks a hash")
        return rest.pop(0)
    if end - start == 1:
        return _leaf_hash(start, *shown[_LEAVES[start]])
    middle = (start + end) // 2
    left = _hash_of(start, middle, shown, rest)
    return hashlib.sha256(_NODE + left + _hash_of(middle, end, shown, rest)).digest()


def _hide(
    start: int,
    end: int,
    known: Mapping[Leaf, tuple[bytes, bytes]],
    rest: list[bytes],
    kept: frozenset[Leaf],
    hidden: list[bytes],
) -> None:
    """Add to `hidden` what is to stand there when only `kept` is shown of what is `known`."""
    if not any(start <= leaf < end for leaf in kept):
        hidden.append(_hash_of(start, end, known, rest))
    elif end - start > 1:
        middle = (start + end) // 2
        _hide(start, middle, known, rest, kept, hidden)
        _hide(middle, end, known, rest, kept, hidden)


def _shown(leaves: Record, leaf: Leaf) -> tuple[bytes, bytes]:
    match leaves.array(leaf, 2, _as_is):
        case (bytes(salt), bytes(value)) if len(salt) == HASH_SIZE and len(value) <= VALUE_SIZE:
            return salt, value
    raise ProtocolError("a leaf of an attestation is not [salt, value]")


def _as_is(value: Any) -> Any:
    return value
