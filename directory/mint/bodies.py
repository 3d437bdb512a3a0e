"""What replies of the mint hold, for each kind of message (spec/09 §6). Codec only.

`pack_…` is for the authority, `unpack_…` for who asked. Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

from fogbank.directory.mint.certificates import Vote, vote_from_value, votes_from_value
from fogbank.directory.mint.exchange import BODY_LIMIT, MAX_BATCH
from fogbank.directory.mint.ledger import bucket_of
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

MAX_ISSUED: Final = 1024
MAX_SPENT: Final = 1024
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
class Carried:
    """What an authority got for a request that it carried; it is worth what checking it shows.

    `shares` are by their members, rising, one for each output: of q members if they were wanted, or
    of fewer if more could not be had in time.
    """

    votes: tuple[Vote, ...]
    shares: tuple[tuple[int, tuple[bytes, ...]], ...] = ()

    def encode(self) -> bytes:
        """Return the body of a reply to CARRY."""
        shares: list[Value] = [[member, list(each)] for member, each in self.shares]
        return encode([[vote.value() for vote in self.votes], shares])


def unpack_carried(data: bytes, count: int) -> Carried:
    """Return what was carried for a request of `count` outputs. No share is decoded as a point."""
    match _body(data):
        case [votes, shares]:
            carried = Carried(votes_from_value(votes), _array(shares, MAX_AUTHORITIES, _given))
        case _:
            raise ProtocolError("what was carried is not [votes, shares]")
    if any(a >= b for (a, _), (b, _) in pairwise(carried.shares)):
        raise ProtocolError("carried shares are out of order, or of one member twice")
    if any(len(each) != count for _, each in carried.shares):
        raise ProtocolError("a member gave more or fewer shares than outputs")
    return carried


def _given(item: Any) -> tuple[int, tuple[bytes, ...]]:
    match item:
        case [member, shares] if is_uint(member, MAX_AUTHORITIES) and member:
            return member, _array(shares, MAX_OUTPUTS, bytes_of(G1_LENGTH, "a share"))
        case _:
            raise ProtocolError("carried shares are not [member, shares]")


def pack_replies(replies: Sequence[bytes]) -> bytes:
    """Join the encoded replies to what a BATCH holds, in its order."""
    return encode(list(replies))


def unpack_replies(data: bytes, count: int) -> tuple[bytes, ...]:
    """Return as many replies as a BATCH held messages, still encoded."""
    replies = _array(_body(data), MAX_BATCH, _reply)
    if len(replies) != count:
        raise ProtocolError("the mint gave more or fewer replies than messages")
    return replies


def _reply(item: Any) -> bytes:
    if type(item) is not bytes:
        raise ProtocolError("a reply in a batch is no byte string")
    return item


@dataclass(frozen=True, slots=True)
class Output:
    """An issued output: the blinded point, the authority's share of it, and H(R)."""

    point: bytes
    share: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Spent:
    """A locked serial, and H(R) of the request that it is locked to."""

    serial: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """Part of a bucket; `total` counts all of the series, in whatever bucket."""

    total: int
    entries: tuple[_T, ...]


def pack_outputs(page: Page[Output]) -> bytes:
    """Join a page of OUTPUTS."""
    return encode([page.total, [[each.point, each.share, each.digest] for each in page.entries]])


def unpack_outputs(data: bytes) -> Page[Output]:
    """Return a page of issued outputs, in the order of their SHA-256; no point is decoded."""
    page = _page(data, MAX_ISSUED, _output)
    _check_rising([bucket_of(each.point) for each in page.entries], "outputs")
    return page


def _output(item: Any) -> Output:
    match item:
        case [point, share, digest] if (
            is_bytes(point, G1_LENGTH)
            and is_bytes(share, G1_LENGTH)
            and is_bytes(digest, DIGEST_LENGTH)
        ):
            return Output(point, share, digest)
        case _:
            raise ProtocolError("an issued output is not [point, share, H(R)]")


def pack_serials(page: Page[Spent]) -> bytes:
    """Join a page of SERIALS."""
    return encode([page.total, [[each.serial, each.digest] for each in page.entries]])


def unpack_serials(data: bytes) -> Page[Spent]:
    """Return a page of locked serials with H(R), in their order."""
    page = _page(data, MAX_SPENT, _spent)
    _check_rising([each.serial for each in page.entries], "serials")
    return page


def _spent(item: Any) -> Spent:
    match item:
        case [serial, digest] if is_bytes(serial, KEY_LENGTH) and is_bytes(digest, DIGEST_LENGTH):
            return Spent(serial, digest)
        case _:
            raise ProtocolError("a locked serial is not [serial, H(R)]")


def _check_rising(items: Sequence[bytes], what: str) -> None:
    if any(a >= b for a, b in pairwise(items)):
        raise ProtocolError(f"{what} are out of order, or one stands there twice")


def _page(data: bytes, most: int, entry: Callable[[Any], _T]) -> Page[_T]:
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


def pack_vote(vote: Vote) -> bytes:
    """Return the body of a reply to LOCK."""
    return encode(vote.value())


def unpack_vote(data: bytes) -> Vote:
    """Return an authority's vote."""
    return vote_from_value(_body(data))


def pack_conflict(signed: SignedRequest, vote: Vote | None) -> bytes:
    """Join what is locked instead, and the authority's vote for that, if it can show one."""
    return encode([signed.value(), vote.value() if vote is not None else []])


def unpack_conflict(data: bytes) -> tuple[SignedRequest, Vote | None]:
    """Return what is locked instead, and the authority's vote for that, or None."""
    match _body(data):
        case [signed, []]:
            return signed_request_from_value(signed), None
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
