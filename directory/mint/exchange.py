"""The messages of the `mint` service, and what they may weigh (spec/09 §6). Codec only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias

from fogbank.directory.entries import MINT_SERVICE
from fogbank.directory.mint.certificates import (
    CERTIFICATE_LIMIT,
    MAX_LIFE,
    Certificate,
    Vote,
    decode_certificate,
)
from fogbank.directory.mint.points import G1_LENGTH
from fogbank.directory.mint.requests import (
    DIGEST_LENGTH,
    SIGNED_REQUEST_LIMIT,
    SignedRequest,
    decode_signed_request,
)
from fogbank.relay.codec import Record, Value, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH

SERVICE: Final = MINT_SERVICE
MESSAGE_LIMIT: Final = 16 << 10
"""Largest message to an authority, but for a BATCH."""
BATCH_LIMIT: Final = 64 << 10
"""Largest BATCH, which authorities alone send."""
MAX_BATCH: Final = 32
"""Messages of one BATCH."""
REPLY_LIMIT: Final = 256 << 10
BODY_LIMIT: Final = REPLY_LIMIT - 4096
"""Largest body of a reply."""
MAX_REASON: Final = 512
"""Characters of a reply's reason."""
MAX_BITS: Final = 32
"""Bits by which buckets are chosen, at most."""
_ITEMS: Final = 64
"""Parts of a message or a reply, none of which has more."""


class Kind(IntEnum):
    """What a message asks for."""

    LOCK = 1
    ISSUE = 2
    OUTPUTS = 3
    SERIALS = 4
    REQUEST = 5
    EVIDENCE = 6
    DEALINGS = 7
    LEDGER = 8
    CARRY = 9
    BATCH = 10


class Status(IntEnum):
    """How a message was answered."""

    DONE = 0
    REFUSED = 1
    CONFLICT = 2
    WORK = 3
    NOT_NOW = 4


@dataclass(frozen=True, slots=True)
class Lock:
    """Ask for a vote; `nonce` is of a work, if one was asked for."""

    signed: SignedRequest
    nonce: int | None = None

    def encode(self) -> bytes:
        """Return the message's bytes."""
        fields: dict[int, Value] = {1: Kind.LOCK, 2: self.signed.encode()}
        return encode(fields if self.nonce is None else fields | {3: self.nonce})


@dataclass(frozen=True, slots=True)
class Issue:
    """Ask for shares of the outputs of a certificate."""

    certificate: Certificate

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.ISSUE, 2: self.certificate.encode()})


@dataclass(frozen=True, slots=True)
class _Bucket:
    series: int
    bits: int = 0
    prefix: int = 0
    after: bytes = b""

    def _fields(self) -> dict[int, Value]:
        return {2: self.series, 3: self.bits, 4: self.prefix, 5: self.after}


@dataclass(frozen=True, slots=True)
class GetOutputs(_Bucket):
    """Ask for issued outputs whose SHA-256 begins with the `bits` bits `prefix`, from one on."""

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.OUTPUTS} | self._fields())


@dataclass(frozen=True, slots=True)
class GetSerials(_Bucket):
    """Ask for locked serials that begin with the `bits` bits `prefix`, from one on."""

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.SERIALS} | self._fields())


@dataclass(frozen=True, slots=True)
class GetRequest:
    """Ask for the request of that hash."""

    series: int
    digest: bytes

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.REQUEST, 2: self.series, 3: self.digest})


@dataclass(frozen=True, slots=True)
class GetEvidence:
    """Ask for proofs of misbehaviour in a series."""

    series: int

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.EVIDENCE, 2: self.series})


@dataclass(frozen=True, slots=True)
class GetDealings:
    """Ask, as an authority, for the dealings that a series' keys are made of."""

    series: int

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.DEALINGS, 2: self.series})


@dataclass(frozen=True, slots=True)
class GetLedger:
    """Ask, as an authority, for the requests locked in a series, from one H(R) on.

    `life` is the asker's: if it is not 0, it has lost its memory, and votes are to name that.
    """

    series: int
    after: bytes = b""
    life: int = 0

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.LEDGER, 2: self.series, 3: self.after, 4: self.life})


@dataclass(frozen=True, slots=True)
class Carry:
    """Ask an authority to get the votes for a request, and the shares if they are wanted.

    `votes` are those of a certificate, if there is one: then shares alone are wanted. `nonce` is of
    a work, if one was asked for.
    """

    signed: SignedRequest
    votes: tuple[Vote, ...] = ()
    nonce: int | None = None
    wants_shares: bool = True

    def encode(self) -> bytes:
        """Return the message's bytes."""
        carried = Certificate(self.signed, self.votes).encode()
        fields: dict[int, Value] = {1: Kind.CARRY, 2: carried, 4: self.wants_shares}
        return encode(fields if self.nonce is None else fields | {3: self.nonce})


@dataclass(frozen=True, slots=True)
class Batch:
    """Ask, as an authority, what other messages ask: encoded LOCKs and ISSUEs of requests."""

    items: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return encode({1: Kind.BATCH, 2: list(self.items)})


Plain: TypeAlias = (
    Lock | Issue | GetOutputs | GetSerials | GetRequest | GetEvidence | GetDealings | GetLedger
)
"""What an authority answers by itself."""
Message: TypeAlias = Plain | Carry | Batch


def decode_message(data: bytes | memoryview, limit: int = MESSAGE_LIMIT) -> Message:
    """Read a message to the mint; raise `ProtocolError` for anything else.

    `limit` is `BATCH_LIMIT` for authorities. What a BATCH holds is not decoded.
    """
    record = decode_record(data, limit, "a message to the mint", _ITEMS)
    kind = record.uint(1, 255)
    if kind != Kind.BATCH and len(data) > MESSAGE_LIMIT:
        raise ProtocolError(f"a message to the mint of {len(data)} bytes is over {MESSAGE_LIMIT}")
    message = _message(kind, record)
    record.done()
    return message


def _message(kind: int, record: Record) -> Message:
    match kind:
        case Kind.LOCK:
            signed = decode_signed_request(record.blob(2, SIGNED_REQUEST_LIMIT))
            return Lock(signed, record.uint(3) if record.has(3) else None)
        case Kind.ISSUE:
            return Issue(decode_certificate(record.blob(2, CERTIFICATE_LIMIT)))
        case Kind.CARRY:
            return _carry(record)
        case Kind.BATCH:
            return Batch(_batch(record))
        case _:
            return _question(kind, record.uint(2), record)


def _carry(record: Record) -> Carry:
    carried = decode_certificate(record.blob(2, CERTIFICATE_LIMIT))
    nonce = record.uint(3) if record.has(3) else None
    message = Carry(carried.signed, carried.votes, nonce, record.flag(4))
    if message.votes and not message.wants_shares:
        raise ProtocolError("a certificate comes to be carried, and no shares are wanted for it")
    return message


def _batch(record: Record) -> tuple[bytes, ...]:
    items = record.array(2, MAX_BATCH, _item)
    if not items:
        raise ProtocolError("a batch of messages to the mint is empty")
    return items


def _item(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > MESSAGE_LIMIT:
        raise ProtocolError("a batch holds something else than short byte strings")
    return value


def _question(kind: int, series: int, record: Record) -> Message:
    match kind:
        case Kind.OUTPUTS:
            return GetOutputs(series, *_bucket(record, G1_LENGTH))
        case Kind.SERIALS:
            return GetSerials(series, *_bucket(record, KEY_LENGTH))
        case Kind.REQUEST:
            return GetRequest(series, record.fixed(3, DIGEST_LENGTH))
        case Kind.LEDGER:
            after = _after(record, 3, DIGEST_LENGTH)
            return GetLedger(series, after, record.uint(4, MAX_LIFE))
        case Kind.EVIDENCE | Kind.DEALINGS:
            return GetEvidence(series) if kind == Kind.EVIDENCE else GetDealings(series)
        case _:
            raise ProtocolError(f"a message to the mint is of the unknown kind {kind}")


def _bucket(record: Record, length: int) -> tuple[int, int, bytes]:
    bits = record.uint(3, MAX_BITS)
    return bits, record.uint(4, (1 << bits) - 1), _after(record, 5, length)


def _after(record: Record, key: int, length: int) -> bytes:
    after = record.blob(key, length)
    if after and len(after) != length:
        raise ProtocolError(
            f"a message to the mint goes on after something of other {length} bytes"
        )
    return after


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, and a body or a reason."""

    status: Status
    body: bytes = b""
    reason: str = ""

    def encode(self) -> bytes:
        """Return the reply's bytes."""
        return encode({1: self.status, 2: self.body, 3: self.reason[:MAX_REASON]})


def decode_reply(data: bytes | memoryview) -> Reply:
    """Read a reply; raise `ProtocolError` for anything else. Its body is not looked at."""
    record = decode_record(data, REPLY_LIMIT, "a reply of the mint", _ITEMS)
    status = Status(record.uint(1, max(Status)))
    reply = Reply(status, record.blob(2, BODY_LIMIT), record.text(3, 4 * MAX_REASON))
    record.done()
    if len(reply.reason) > MAX_REASON:
        raise ProtocolError("a reply's reason is too long")
    return reply
