"""The messages of the `dir` service, and what they may weigh (spec/05 §7). Codec only."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from fogbank.directory.broadcast import CHAIN_LIMIT, EVIDENCE_LIMIT, Body, Chain, load
from fogbank.directory.consensus import CONSENSUS_LIMIT, DIGEST_LENGTH
from fogbank.directory.descriptor import DESCRIPTOR_LIMIT
from fogbank.directory.effects import SignatureMessage
from fogbank.directory.network import NETWORK_LIMIT
from fogbank.directory.signatures import AuthoritySignature
from fogbank.directory.vote import VOTE_LIMIT
from fogbank.relay.certificates import CLOCK_SKEW
from fogbank.relay.codec import (
    BYTES,
    MAP,
    Record,
    Value,
    bytes_item,
    decode,
    decode_record,
    encode,
    make_head,
    read_head,
)
from fogbank.relay.errors import ProtocolError, RelayError

SERVICE = "dir"
REQUEST_LIMIT = 16 << 10
"""Largest request of anyone."""
AUTHORITY_REQUEST_LIMIT = VOTE_LIMIT + CHAIN_LIMIT + 1024
"""Largest request of another authority."""
MAX_EVIDENCE = 16
MAX_LINKS = 16
"""Versions of the network document in one reply."""
LINKS_LIMIT = MAX_LINKS * (NETWORK_LIMIT + 8) + 1024
"""Largest reply with such versions."""
REPLY_LIMIT = CONSENSUS_LIMIT + 1024
UNPACK_STEP = 256 << 10
MAX_REASON = 512
_SIGNATURE_LIMIT = 2048
_VOTE_KEYS = (1, 2, 3)
_MAX_ITEMS = 16
"""Parts of a request or a reply, none of which has more."""


class Kind(IntEnum):
    """What a request asks for."""

    GET_CONSENSUS = 1
    PUT_DESCRIPTOR = 2
    PUSH_VOTE = 3
    PUSH_SIGNATURE = 4
    GET_EVIDENCE = 5
    GET_NETWORK = 6
    GET_MINT = 7


class Status(IntEnum):
    """How a request went."""

    DONE = 0
    NOT_MODIFIED = 1
    REFUSED = 2
    NEED_BODY = 3


class RefusedError(RelayError):
    """A directory refused the request; the message gives its reason."""


@dataclass(frozen=True, slots=True)
class GetConsensus:
    """Ask for the consensus, unless it is the one with the digest `known` (empty: none known)."""

    known: bytes = b""

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return encode({1: Kind.GET_CONSENSUS, 2: self.known})


@dataclass(frozen=True, slots=True)
class PutDescriptor:
    """Publish a descriptor."""

    descriptor: bytes

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return encode({1: Kind.PUT_DESCRIPTOR, 2: self.descriptor})


@dataclass(frozen=True, slots=True)
class PushVote:
    """Pass on a vote's chain, between authorities; the vote itself where it was asked for."""

    chain: Chain
    body: Body | None = None

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return self.head() + (b"" if self.body is None else load(self.body))

    def head(self) -> bytes:
        """Return what comes before the vote, which is the rest."""
        fields: dict[int, Value] = {1: Kind.PUSH_VOTE, 2: self.chain.encode()}
        if self.body is None:
            return encode(fields)
        empty = encode(fields | {3: b""})
        return empty[:-1] + make_head(BYTES, len(self.body))


@dataclass(frozen=True, slots=True)
class PushSignature:
    """Pass on the sender's signature over a consensus, between authorities."""

    message: SignatureMessage

    def encode(self) -> bytes:
        """Return the request's bytes."""
        message = self.message
        return encode(
            {
                1: Kind.PUSH_SIGNATURE,
                2: message.valid_after,
                3: message.digest,
                4: encode(message.signature.value()),
            }
        )


@dataclass(frozen=True, slots=True)
class GetEvidence:
    """Ask for the newest proofs of two votes sent in one round."""

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return encode({1: Kind.GET_EVIDENCE})


@dataclass(frozen=True, slots=True)
class GetNetwork:
    """Ask for the versions of the network document that follow the one held, which these name."""

    version: int
    digest: bytes

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return encode({1: Kind.GET_NETWORK, 2: self.version, 3: self.digest})


@dataclass(frozen=True, slots=True)
class GetMint:
    """Ask for the consensus of that time, between authorities, for its state of the mint."""

    valid_after: int

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return encode({1: Kind.GET_MINT, 2: self.valid_after})


Request: TypeAlias = (
    GetConsensus | PutDescriptor | PushVote | PushSignature | GetEvidence | GetNetwork | GetMint
)


def decode_request(data: bytes | memoryview, limit: int) -> Request:
    """Read a request of at most `limit` bytes; raise `ProtocolError` for anything else."""
    record = decode_record(data, limit, "directory request", _MAX_ITEMS)
    request = _request(record.uint(1, 255), record)
    record.done()
    return request


def _request(kind: int, record: Record) -> Request:
    match kind:
        case Kind.GET_CONSENSUS:
            return GetConsensus(record.blob(2, DIGEST_LENGTH))
        case Kind.PUT_DESCRIPTOR:
            return PutDescriptor(record.blob(2, DESCRIPTOR_LIMIT))
        case Kind.PUSH_VOTE:
            chain = Chain.decode(record.blob(2, CHAIN_LIMIT))
            return PushVote(chain, record.blob(3, VOTE_LIMIT) if record.has(3) else None)
        case Kind.PUSH_SIGNATURE:
            valid_after, digest = record.uint(2), record.fixed(3, DIGEST_LENGTH)
            value = decode(record.blob(4, _SIGNATURE_LIMIT), _SIGNATURE_LIMIT)
            signature = AuthoritySignature.from_value(value)
            return PushSignature(SignatureMessage(valid_after, digest, signature))
        case _:
            return _other_request(kind, record)


def _other_request(kind: int, record: Record) -> Request:
    match kind:
        case Kind.GET_EVIDENCE:
            return GetEvidence()
        case Kind.GET_NETWORK:
            return GetNetwork(record.uint(2, 1 << 32, 1), record.fixed(3, DIGEST_LENGTH))
        case Kind.GET_MINT:
            return GetMint(record.uint(2))
        case _:
            raise ProtocolError(f"a directory request is of the unknown kind {kind}")


def announced_vote(head: bytes, length: int) -> tuple[Chain, int]:
    """Return the chain of a request that carries a vote, and where in `head` the vote begins.

    `head` is how a request of `length` bytes begins, `CHAIN_LIMIT` and some bytes of it. Raises
    `ProtocolError` for what is no such request.
    """
    pairs, at = read_head(head, 0, MAP)
    if pairs != len(_VOTE_KEYS) or head[at : at + 3] != bytes((1, Kind.PUSH_VOTE, 2)):
        raise ProtocolError("a large directory request is no vote")
    size, at = read_head(head, at + 3, BYTES)
    chain = Chain.decode(head[at : at + size])
    at += size
    body, begin = read_head(head, at + 1, BYTES)
    if head[at] != _VOTE_KEYS[-1] or body > VOTE_LIMIT or begin + body != length:
        raise ProtocolError("a large directory request is no vote, or cut off, or has a tail")
    return chain, begin


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, the server's clock in seconds, and a body or a reason.

    The body of GET_CONSENSUS and GET_MINT is the document compressed (`pack`), that of
    GET_EVIDENCE an array of proofs, that of GET_NETWORK an array of `network.toml`.
    """

    status: Status
    time: int
    body: bytes = b""
    reason: str = ""

    def encode(self) -> bytes:
        """Return the reply's bytes."""
        return encode({1: self.status, 2: self.time, 3: self.body, 4: self.reason[:MAX_REASON]})


def decode_reply(data: bytes | memoryview, limit: int = REPLY_LIMIT) -> Reply:
    """Read a reply; raise `ProtocolError` for anything else."""
    record = decode_record(data, limit, "directory reply", _MAX_ITEMS)
    status, time = record.uint(1, max(Status)), record.uint(2, 1 << 40)
    reply = Reply(Status(status), time, record.blob(3, limit), record.text(4, 4 * MAX_REASON))
    record.done()
    if len(reply.reason) > MAX_REASON:
        raise ProtocolError("a directory reply's reason is too long")
    return reply


def pack(document: bytes) -> bytes:
    """Compress a consensus for the wire: zlib (RFC 1950)."""
    return zlib.compress(document, 6)


def unpack(data: bytes, limit: int = CONSENSUS_LIMIT) -> bytes:
    """Undo `pack`, up to `limit` bytes; raise `ProtocolError` for anything else."""
    return b"".join(unpacking(data, limit))


def unpacking(data: bytes, limit: int = CONSENSUS_LIMIT) -> Iterator[bytes]:
    """Undo `pack` step by step, at most `UNPACK_STEP` bytes in each; errors as above."""
    inflater, left = zlib.decompressobj(), limit
    try:
        for at in range(0, len(data), UNPACK_STEP):
            waiting, part = data[at : at + UNPACK_STEP], b"-"
            # Output may wait inside when no input does.
            while (part or waiting) and not inflater.eof:
                part = inflater.decompress(waiting, min(left + 1, UNPACK_STEP))
                waiting, left = inflater.unconsumed_tail, left - len(part)
                if left < 0:
                    raise ProtocolError("a compressed document is too large")
                if part:
                    yield part
            if inflater.eof and (inflater.unused_data or at + UNPACK_STEP < len(data)):
                raise ProtocolError("a compressed document has a tail")
    except zlib.error as error:
        raise ProtocolError("a compressed document is damaged") from error
    if not inflater.eof:
        raise ProtocolError("a compressed document is cut off")


def pack_evidence(proofs: list[bytes]) -> bytes:
    """Join the newest proofs into a reply's body."""
    return encode(proofs[:MAX_EVIDENCE])


def unpack_evidence(data: bytes) -> tuple[bytes, ...]:
    """Undo `pack_evidence`; the proofs are not verified yet (`broadcast.open_evidence`)."""
    limit = MAX_EVIDENCE * (EVIDENCE_LIMIT + 8)
    value = decode(data, limit, MAX_EVIDENCE + 1)
    if type(value) is not list or len(value) > MAX_EVIDENCE:
        raise ProtocolError("evidence is not a short array")
    return tuple(map(bytes_item(EVIDENCE_LIMIT), value))


def pack_links(texts: Sequence[str]) -> bytes:
    """Join versions of the network document into a reply's body."""
    return encode([text.encode() for text in texts[:MAX_LINKS]])


def unpack_links(data: bytes) -> tuple[str, ...]:
    """Undo `pack_links`; nothing is verified yet (`network.verify_successor`)."""
    value = decode(data, LINKS_LIMIT, MAX_LINKS + 1)
    if type(value) is not list or len(value) > MAX_LINKS:
        raise ProtocolError("the versions of a network document are not a short array")
    try:
        return tuple(item.decode() for item in map(bytes_item(NETWORK_LIMIT), value))
    except UnicodeDecodeError as error:
        raise ProtocolError("a network document is not text") from error


def clock_note(server_time: int, now: float) -> str:
    """Return a sentence if a server's clock and this machine's differ by over 10 minutes."""
    off = now - server_time
    if abs(off) <= CLOCK_SKEW:
        return ""
    direction = "fast" if off > 0 else "slow"
    return (
        f"; by the directory's clock this machine's is {round(abs(off) / 60)} minutes {direction}"
    )
