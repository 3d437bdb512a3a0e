"""What votes carry for the mint: extensions 3 and 4 (spec/09 §4, §5).

An extension that cannot be read is as if it were not there, so authorities of any version judge the
same votes alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

from fogbank.directory.mint.state import (
    DEALING_LIMIT,
    DIGEST_LENGTH,
    G2_LENGTH,
    MAX_ATTEMPT,
    MAX_SERIES,
    MintKeys,
    is_bytes,
    is_uint,
    mint_keys_from_value,
)
from fogbank.directory.network import MAX_AUTHORITIES
from fogbank.relay.codec import Record, Value, decode, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId

MINT_EXTENSION: Final = 3
GRANTS_EXTENSION: Final = 4
MAX_GRANTS: Final = 256
"""As many as fit into an extension."""
MAX_AMOUNT: Final = 1_048_576
EXTENSION_LIMIT: Final = 16 << 10

Grants: TypeAlias = tuple[tuple[NodeId, int], ...]
"""Who may withdraw how many tokens of each series, in the order of identities."""
StateName: TypeAlias = tuple[int, bytes]
"""A mint state: the `valid_after` of the consensus that it stands in, and its digest."""
NO_STATE: Final[StateName] = (0, b"")


@dataclass(frozen=True, slots=True)
class Sent:
    """A commitment or a dealing, with the series and attempt that it is for."""

    series: int
    attempt: int
    data: bytes

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.series, self.attempt, self.data]


Complaint: TypeAlias = tuple[NodeId, bytes]
"""A dealer that dealt the voter a wrong share, and K, under which anyone can see it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the voter says of the dealings of one attempt: none complained of if all is well."""

    series: int
    attempt: int
    complaints: tuple[Complaint, ...] = ()

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.series, self.attempt, [list(each) for each in self.complaints]]


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote's extension 3. `state` is the newest that the authority holds.

    `counts` are the numbers of answers in its ledgers, by series (spec/09 §7.4).
    """

    keys: MintKeys | None = None
    state: StateName = NO_STATE
    commitment: Sent | None = None
    dealing: Sent | None = None
    judgement: Judgement | None = None
    counts: tuple[tuple[int, int], ...] = ()

    def encode(self) -> bytes:
        """Return the extension's bytes."""
        fields: dict[int, Value] = {}
        if self.keys is not None:
            fields[1] = self.keys.value()
        if self.state != NO_STATE:
            fields[2] = self.state
        if self.commitment is not None:
            fields[3] = self.commitment.value()
        if self.dealing is not None:
            fields[4] = self.dealing.value()
        if self.judgement is not None:
            fields[5] = self.judgement.value()
        if self.counts:
            fields[6] = self.counts
        return encode(fields)


def decode_ballot(data: bytes) -> Ballot:
    """Read extension 3; raise `ProtocolError` for anything else."""
    record = decode_record(data, EXTENSION_LIMIT, "a vote's part for the mint")
    ballot = Ballot(
        _keys(record.value(1)) if record.has(1) else None,
        _state(record.value(2)) if record.has(2) else NO_STATE,
        _sent(record.value(3), DIGEST_LENGTH, DIGEST_LENGTH) if record.has(3) else None,
        _sent(record.value(4), 1, DEALING_LIMIT) if record.has(4) else None,
        _judgement(record.value(5)) if record.has(5) else None,
        _counts(record) if record.has(6) else (),
    )
    record.done()
    return ballot


def ballot_of(extensions: Mapping[int, bytes]) -> Ballot:
    """Return a vote's extension 3; the empty one if there is none that can be read."""
    with suppress(ProtocolError):
        return decode_ballot(extensions.get(MINT_EXTENSION, b""))
    return Ballot()


def _keys(value: Any) -> MintKeys:
    match value:
        case [y1, y2, vote]:
            return mint_keys_from_value(y1, y2, vote)
        case _:
            raise ProtocolError("a vote's mint keys are not [Y1, Y2, V]")


def _state(value: Any) -> StateName:
    match value:
        case [valid_after, digest] if is_uint(valid_after) and is_bytes(digest, DIGEST_LENGTH):
            return valid_after, digest
        case _:
            raise ProtocolError("a vote names the mint's state not by [valid_after, digest]")


def _sent(value: Any, least: int, most: int) -> Sent:
    match value:
        case [series, attempt, bytes(data)] if (
            is_uint(series) and is_uint(attempt, MAX_ATTEMPT) and least <= len(data) <= most
        ):
            return Sent(series, attempt, data)
        case _:
            raise ProtocolError("a vote's commitment or dealing is not [series, attempt, bytes]")


def _judgement(value: Any) -> Judgement:
    match value:
        case [series, attempt, list(complaints)] if (
            is_uint(series) and is_uint(attempt, MAX_ATTEMPT) and len(complaints) <= MAX_AUTHORITIES
        ):
            return Judgement(series, attempt, tuple(map(_complaint, complaints)))
        case _:
            raise ProtocolError("a vote's judgement is not [series, attempt, complaints]")


def _complaint(value: Any) -> Complaint:
    match value:
        case [dealer, shared] if is_bytes(dealer, KEY_LENGTH) and is_bytes(shared, G2_LENGTH):
            return dealer, shared
        case _:
            raise ProtocolError("a vote's complaint is not [dealer, key]")


def _counts(record: Record) -> tuple[tuple[int, int], ...]:
    counts = record.array(6, MAX_SERIES, _count)
    if not counts or any(a[0] >= b[0] for a, b in pairwise(counts)):
        raise ProtocolError("a vote counts answers of no series, of one twice, or out of order")
    return counts


def _count(value: Any) -> tuple[int, int]:
    match value:
        case [series, count] if is_uint(series) and is_uint(count):
            return series, count
        case _:
            raise ProtocolError("a vote counts answers not by [series, count]")


# Grants.


def encode_grants(grants: Grants) -> bytes:
    """Return the bytes of extension 4."""
    return encode(grants)


def grants_of(extensions: Mapping[int, bytes]) -> Grants:
    """Return a vote's extension 4; none if there is none that can be read."""
    with suppress(ProtocolError):
        return _decode_grants(extensions.get(GRANTS_EXTENSION, b""))
    return ()


def _decode_grants(data: bytes) -> Grants:
    value = decode(data, EXTENSION_LIMIT)
    if type(value) is not list or len(value) > MAX_GRANTS:
        raise ProtocolError("a vote's grants are no list, or too many")
    grants = tuple(map(_grant, value))
    if any(a[0] >= b[0] for a, b in pairwise(grants)):
        raise ProtocolError("a vote's grants are out of order, or name a node twice")
    return grants


def _grant(value: Any) -> tuple[NodeId, int]:
    match value:
        case [identity, amount] if is_bytes(identity, KEY_LENGTH) and is_uint(amount, MAX_AMOUNT):
            return identity, amount
        case _:
            raise ProtocolError("a vote's grant is not [identity, amount]")
