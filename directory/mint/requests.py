"""Requests to the mint, and what it costs to believe them (spec/09 §6.1).

Reading takes bytes apart and bounds them. What it costs to believe a request comes after, the cheap
before the dear: `check_proofs` (Ed25519, 0.1 ms for each input), then `decode_outputs` and
`signed_inputs` (points, 0.1 ms each), then the pairings (`points.wrong_signatures`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from fogbank.directory.mint.points import G1, G1_LENGTH, decode_g1, hash_token
from fogbank.directory.mint.state import is_bytes, is_uint
from fogbank.relay.certificates import Use, issued_at, open_certificate
from fogbank.relay.codec import Value, decode, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, SIGNATURE_LENGTH, Ed25519Key, NodeId, Signed, verify

REQUEST_LABEL: Final = "fogbank-mint-request-v1"
_UNIT_LABEL: Final = b"fogbank-unit-v1\0"

REQUEST_LIMIT: Final = 8 << 10
SIGNED_REQUEST_LIMIT: Final = 10 << 10
DIGEST_LENGTH: Final = 32
SWAP_SIZES: Final = (1, 2, 4, 8)
WITHDRAWAL_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
MAX_OUTPUTS: Final = 64
UNITS: Final = 2**32
"""Units of an allotment count from 0 to below this."""
_ITEMS: Final = 256
"""Parts that no request has more of."""


@dataclass(frozen=True, slots=True)
class Token:
    """A serial, which is an Ed25519 public key, and the series' signature over it, 48 bytes."""

    serial: bytes
    signature: bytes

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.serial, self.signature]


@dataclass(frozen=True, slots=True)
class Swap:
    """Tokens are turned into as many new ones."""

    inputs: tuple[Token, ...]

    @property
    def count(self) -> int:
        """How many inputs it takes."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Units of a node's allotment, from `first` on, are turned into tokens."""

    identity: NodeId
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request R; `outputs` are blinded points, 48 bytes each, rising.

    Its bytes and their hash are needed many times, and worked out once.
    """

    network_id: bytes
    series: int
    source: Swap | Withdrawal
    outputs: tuple[bytes, ...]
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)
    _digest: bytes = field(default=b"", init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """Return the bytes that are hashed and signed."""
        if not self._encoded:
            object.__setattr__(self, "_encoded", self._encode())
        return self._encoded

    def _encode(self) -> bytes:
        fields: dict[int, Value] = {1: self.network_id, 2: self.series, 4: list(self.outputs)}
        match self.source:
            case Swap(inputs):
                fields[3] = [token.value() for token in inputs]
            case Withdrawal(identity, first, count):
                fields[5] = [identity, first, count]
        return encode(fields)

    def digest(self) -> bytes:
        """Return H(R)."""
        if not self._digest:
            object.__setattr__(self, "_digest", request_hash(self.encode()))
        return self._digest

    def serials(self) -> tuple[bytes, ...]:
        """Return the serials of all inputs, 32 bytes each, that a LOCK locks."""
        match self.source:
            case Swap(inputs):
                return tuple(token.serial for token in inputs)
            case Withdrawal(identity, first, count):
                prefix = _UNIT_LABEL + self.network_id + self.series.to_bytes(8, "big") + identity
                units = range(first, first + count)
                return tuple(
                    hashlib.sha256(prefix + unit.to_bytes(8, "big")).digest() for unit in units
                )


def request_hash(request: bytes) -> bytes:
    """Return H(R) of a request's bytes."""
    return hashlib.sha256(REQUEST_LABEL.encode() + b"\0" + request).digest()


def decode_request(data: bytes | memoryview) -> Request:
    """Read R; raise `ProtocolError` for anything else. Its points are not decoded."""
    record = decode_record(data, REQUEST_LIMIT, "a request to the mint", _ITEMS)
    network_id, series = record.fixed(1, DIGEST_LENGTH), record.uint(2)
    outputs = record.array(4, MAX_OUTPUTS, bytes_of(G1_LENGTH, "an output"))
    source = _swap(record.value(3)) if record.has(3) else _withdrawal(record.value(5))
    record.done()
    request = Request(network_id, series, source, outputs)
    _rising(outputs, "outputs")
    if len(outputs) != source.count:
        raise ProtocolError("a request to the mint has not one output for each input")
    object.__setattr__(request, "_encoded", bytes(data))
    return request


def _swap(value: Any) -> Swap:
    if type(value) is not list or len(value) not in SWAP_SIZES:
        raise ProtocolError("a swap has 1, 2, 4 or 8 inputs")
    inputs = tuple(map(token_from_value, value))
    _rising([token.serial for token in inputs], "serials")
    return Swap(inputs)


def token_from_value(value: Any) -> Token:
    """Read `[serial, signature]`; nothing is verified."""
    match value:
        case [serial, signature] if is_bytes(serial, KEY_LENGTH) and is_bytes(signature, G1_LENGTH):
            return Token(serial, signature)
        case _:
            raise ProtocolError("a token is not [serial, signature]")


def _withdrawal(value: Any) -> Withdrawal:
    match value:
        case [identity, first, count] if (
            is_bytes(identity, KEY_LENGTH)
            and is_uint(first)
            and is_uint(count)
            and count in WITHDRAWAL_SIZES
            and first + count <= UNITS
        ):
            return Withdrawal(identity, first, count)
        case _:
            raise ProtocolError("a withdrawal is not [identity, first, count]")


def _rising(items: Sequence[bytes], what: str) -> None:
    if any(a >= b for a, b in pairwise(items)):
        raise ProtocolError(f"the {what} of a request to the mint are out of order, or twice")


def bytes_of(length: int, what: str) -> Callable[[Any], bytes]:
    """Return a reader of byte strings of that length, which `what` names in errors."""

    def read(value: Any) -> bytes:
        if not is_bytes(value, length):
            raise ProtocolError(f"{what} has not {length} bytes")
        return bytes(value)

    return read


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request with the proofs of its inputs' owners; `certificate` is a withdrawal's alone."""

    request: Request
    proofs: tuple[bytes, ...]
    certificate: Signed | None = None
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        proofs: list[Value] = list(self.proofs)
        if self.certificate is not None:
            proofs.append(self.certificate.value())
        return [self.request.encode(), proofs]

    def encode(self) -> bytes:
        """Return the signed request's bytes."""
        if not self._encoded:
            object.__setattr__(self, "_encoded", encode(self.value()))
        return self._encoded

    def check_proofs(self, now: float | None) -> None:
        """Raise `ProtocolError` unless every input's owner signed.

        A withdrawal's certificate must be in force at `now`; None takes any that ever was, for a
        request that was believed when it came.
        """
        body = self.request.encode()
        match self.request.source:
            case Swap(inputs):
                for token, proof in zip(inputs, self.proofs, strict=True):
                    verify(token.serial, REQUEST_LABEL, body, proof)
            case Withdrawal(identity=identity):
                if self.certificate is None:
                    raise ProtocolError("a withdrawal comes without its certificate")
                at = issued_at(self.certificate) if now is None else now
                signing = open_certificate(self.certificate, Use.SIGNING, at, identity)
                verify(signing.subject, REQUEST_LABEL, body, self.proofs[0])


def decode_signed_request(data: bytes | memoryview) -> SignedRequest:
    """Read a signed request; raise `ProtocolError` for anything else. Nothing is verified."""
    signed = signed_request_from_value(decode(data, SIGNED_REQUEST_LIMIT, _ITEMS))
    object.__setattr__(signed, "_encoded", bytes(data))
    return signed


def signed_request_from_value(value: Any) -> SignedRequest:
    """Take apart an already decoded `[R, proofs]`."""
    match value:
        case [bytes(body), list(items)]:
            request = decode_request(body)
        case _:
            raise ProtocolError("a signed request is not [request, proofs]")
    proof = bytes_of(SIGNATURE_LENGTH, "a request's proof")
    match request.source, items:
        case Swap(inputs), [*proofs] if len(proofs) == len(inputs):
            return SignedRequest(request, tuple(map(proof, proofs)))
        case Withdrawal(), [signature, certificate]:
            return SignedRequest(request, (proof(signature),), Signed.from_value(certificate))
        case _:
            raise ProtocolError("a signed request has not a proof for each input")


def sign_swap(request: Request, keys: Sequence[Ed25519Key]) -> SignedRequest:
    """Sign a swap with the keys of its serials, in order."""
    body = request.encode()
    return SignedRequest(request, tuple(key.sign(REQUEST_LABEL, body) for key in keys))


def sign_withdrawal(request: Request, key: Ed25519Key, certificate: Signed) -> SignedRequest:
    """Sign a withdrawal with the node's signing key, which its identity certified."""
    return SignedRequest(request, (key.sign(REQUEST_LABEL, request.encode()),), certificate)


def decode_outputs(request: Request) -> tuple[G1, ...]:
    """Return the outputs as points; raise `ProtocolError` if one is none. 0.06 ms each."""
    return tuple(map(decode_g1, request.outputs))


def signed_inputs(request: Request) -> list[tuple[G1, G1]]:
    """Return `(M(s), signature)` of a swap's tokens, for `points.wrong_signatures`.

    Raises `ProtocolError` if a signature is no point. Takes 0.2 ms for each token. Empty for a
    withdrawal.
    """
    if isinstance(request.source, Withdrawal):
        return []
    return [
        (hash_token(request.network_id, token.serial), decode_g1(token.signature))
        for token in request.source.inputs
    ]
