"""What replies of the mint hold, for each kind of message (spec/09 §6). Codec only.

`pack_…` is for the authority, `unpack_…` for who asked. Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar

from fogbank.directory.mint.certificates import Vote, vote_from_value, votes_from_value
from fogbank.directory.mint.exchange import BODY_LIMIT
from fogbank.directory.mint.points import G1_LENGTH
from fogbank.directory.mint.requests import (
    DIGEST_LENGTH,
    MAX_OUTPUTS,
    SignedRequest,
    bytes_of,
    signed_request_from_value,
)
from fogbank.directory.mint.state import DEALING_LIMIT, is_bytes, is_uint
from fogbank.directory.network import MAX_AUTHORITIES
from fogbank.relay.codec import Value, decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId

MAX_ISSUED: Final = 2048
MAX_SPENT: Final = 2048
MAX_EVIDENCE: Final = 16
MAX_HELD: Final = 512
EVIDENCE_LIMIT: Final = BODY_LIMIT // MAX_EVIDENCE - 8
_ITEMS: Final = 128 * MAX_HELD
"""Parts that no body has more of."""

_T = TypeVar("_T")


def pack_shares(shares: Sequence[bytes]) -> bytes:
    """Join the shares of an ISSUE, 48 bytes each."""
    return encode(list(shares))


def unpack_shares(data: bytes, count: int) -> tuple[bytes, ...]:
    """Return as many shares as were asked for, not decoded as points."""
    shares = _array(_body(data), MAX_OUTPUTS, bytes_of(G1_LENGTH, "a share"))
    if len(shares) != count:
        raise ProtocolError("the mint gave more or fewer shares than outputs")
    return shares


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a bucket; `total` counts all of the series, in whatever bucket."""

    total: int
    entries: tuple[tuple[bytes, bytes], ...]


def pack_page(page: Page) -> bytes:
    """Join a page of OUTPUTS (`[B, share]`) or of SERIALS (`[serial, H(R)]`)."""
    return encode([page.total, [list(entry) for entry in page.entries]])


def unpack_outputs(data: bytes) -> Page:
    """Return a page of issued outputs with the authority's shares, not decoded as points."""
    return _page(data, MAX_ISSUED, G1_LENGTH, G1_LENGTH)


def unpack_serials(data: bytes) -> Page:
    """Return a page of locked serials with H(R), in their order."""
    page = _page(data, MAX_SPENT, KEY_LENGTH, DIGEST_LENGTH)
    if any(a >= b for (a, _), (b, _) in pairwise(page.entries)):
        raise ProtocolError("serials are out of order, or one stands there twice")
    return page


def _page(data: bytes, most: int, first: int, second: int) -> Page:
    def entry(item: Any) -> tuple[bytes, bytes]:
        match item:
            case [left, right] if is_bytes(left, first) and is_bytes(right, second):
                return left, right
            case _:
                raise ProtocolError("a page of the mint's holds something else than its entries")

    match _body(data):
        case [total, items] if is_uint(total):
            return Page(total, _array(items, most, entry))
        case _:
            raise ProtocolError("a page of the mint's is not [total, entries]")


@dataclass(frozen=True, slots=True)
class Held:
    """A request that an authority locked, and votes for it: q of a certificate, or its own."""

    signed: SignedRequest
    votes: tuple[Vote, ...]

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.signed.value(), [vote.value() for vote in self.votes]]

    def encode(self) -> bytes:
        """Return the body of a reply to REQUEST."""
        return encode(self.value())


def unpack_held(data: bytes) -> Held:
    """Return a request and the votes that an authority holds for it."""
    return _held(_body(data))


def _held(value: Any) -> Held:
    match value:
        case [signed, votes]:
            return Held(signed_request_from_value(signed), votes_from_value(votes))
        case _:
            raise ProtocolError("the mint's request is not [signed request, votes]")


def pack_ledger(entries: Sequence[Held]) -> bytes:
    """Join entries of a ledger, in the order of their H(R)."""
    return encode([each.value() for each in entries])


def unpack_ledger(data: bytes) -> tuple[Held, ...]:
    """Return entries of a ledger, in the order of their H(R)."""
    entries = _array(_body(data), MAX_HELD, _held)
    if any(a >= b for a, b in pairwise(each.signed.request.digest() for each in entries)):
        raise ProtocolError("entries of a ledger are out of order, or one stands there twice")
    return entries


def pack_conflict(signed: SignedRequest, vote: Vote) -> bytes:
    """Join what is locked instead, and the authority's vote for that."""
    return encode([signed.value(), vote.value()])


def unpack_conflict(data: bytes) -> tuple[SignedRequest, Vote]:
    """Return what is locked instead, and the authority's vote for that."""
    match _body(data):
        case [signed, vote]:
            return signed_request_from_value(signed), vote_from_value(vote)
        case _:
            raise ProtocolError("a conflict is not [signed request, vote]")


def pack_evidence(proofs: Sequence[bytes]) -> bytes:
    """Join proofs of misbehaviour."""
    return encode(list(proofs[:MAX_EVIDENCE]))


def unpack_evidence(data: bytes) -> tuple[bytes, ...]:
    """Return proofs of misbehaviour, still encoded."""
    return _array(_body(data), MAX_EVIDENCE, _proof)


def _proof(item: Any) -> bytes:
    if type(item) is not bytes or len(item) > EVIDENCE_LIMIT:
        raise ProtocolError("evidence of the mint's is no byte string, or too long")
    return item


def pack_dealings(dealings: Sequence[tuple[NodeId, bytes]]) -> bytes:
    """Join the dealings that a series' keys are made of."""
    return encode([list(each) for each in dealings])


def unpack_dealings(data: bytes) -> tuple[tuple[NodeId, bytes], ...]:
    """Return dealings with their dealers; whether they are the right ones is for the caller."""

    def dealing(item: Any) -> tuple[NodeId, bytes]:
        match item:
            case [dealer, bytes(dealt)] if (
                is_bytes(dealer, KEY_LENGTH) and len(dealt) <= DEALING_LIMIT
            ):
                return dealer, dealt
            case _:
                raise ProtocolError("a dealing is not [dealer, dealing]")

    return _array(_body(data), MAX_AUTHORITIES, dealing)


def _body(data: bytes) -> Any:
    return decode(data, BODY_LIMIT, _ITEMS)


def _array(value: Any, most: int, read: Callable[[Any], _T]) -> tuple[_T, ...]:
    if type(value) is not list or len(value) > most:
        raise ProtocolError("the mint's answer is not an array, or too long a one")
    return tuple(map(read, value))
