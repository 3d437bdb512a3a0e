"""Signing documents anew after a mutation, with keys that the tests know.

Behind a signature a fuzzer never sees anything: random bytes do not verify. `Ring.repair` takes a
document apart, and gives each signed document in it, innermost first, the signature that it
would have if its signer had meant it so. Who that is follows from the document, as it does for
whoever verifies it. What is not to be repaired (a key that is not known, another shape) stays
as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from fogbank.directory.broadcast import CHAIN_LABEL, Chain
from fogbank.directory.consensus import CONSENSUS_LABEL
from fogbank.directory.descriptor import DESCRIPTOR_LABEL
from fogbank.directory.vote import VOTE_LABEL
from fogbank.relay.certificates import CERT_LABEL
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import SIGNATURE_LENGTH, Ed25519Key

_LIMIT = 1 << 24
_SHORTEST = 8
"""Byte strings below this are not looked into."""


def parsed(data: bytes) -> Any:
    """Return the value of canonical CBOR, or None for anything else."""
    try:
        return decode(data, _LIMIT)
    except ProtocolError:
        return None


def nested(data: bytes) -> Any:
    """Return the array or map that a byte string encodes, or None if it is plain bytes."""
    if len(data) < _SHORTEST or data[0] >> 5 not in (4, 5):
        return None
    value = parsed(data)
    return value if isinstance(value, list | dict) else None


class Ring:
    """Keys that sign; `network` is the id of the network whose authorities are among them."""

    def __init__(self, keys: Iterable[Ed25519Key], network: bytes = b"") -> None:
        self._keys = {key.public: key for key in keys}
        self._network = network
        self._sign = lru_cache(maxsize=1 << 14)(self._sign_anew)

    def repair(self, data: bytes) -> bytes:
        """Return the document with sound signatures, as far as that can be."""
        value = parsed(data)
        if not isinstance(value, list | dict):
            return data
        return encode(self._repaired(value))

    def _sign_anew(self, public: bytes, label: str, body: bytes) -> bytes:
        return self._keys[public].sign(label, body)

    def _repaired(self, value: Any) -> Any:
        match value:
            case bytes():
                inner = nested(value)
                return value if inner is None else encode(self._repaired(inner))
            case dict():
                return {key: self._repaired(item) for key, item in value.items()}
            case list():
                return self._signed([self._repaired(item) for item in value])
            case _:
                return value

    def _signed(self, value: list[Any]) -> list[Any]:
        """Sign an array anew if it is a document with its signatures."""
        match value:
            case [bytes(body), bytes(signature)] if len(signature) == SIGNATURE_LENGTH:
                return [body, self._signature(body) or signature]
            case [bytes(body), list(signatures)]:
                return [body, self._all(signatures, CONSENSUS_LABEL, body)]
            case [int(at), bytes(sender), bytes(digest), list(signatures)]:
                statement = Chain(at, sender, digest).statement(self._network)
                return [at, sender, digest, self._all(signatures, CHAIN_LABEL, statement)]
            case _:
                return value

    def _signature(self, body: bytes) -> bytes | None:
        """Return the signature of a document that carries its signer's name or certificate."""
        fields = nested(body)
        if not isinstance(fields, dict):
            return None
        if 6 not in fields:
            public, label = fields.get(3), CERT_LABEL
        elif 12 in fields and isinstance(fields[12], list):
            public, label = _subject(fields.get(3)), VOTE_LABEL
        else:
            public, label = _subject(fields.get(6)), DESCRIPTOR_LABEL
        return self._sign(public, label, body) if self._knows(public) else None

    def _all(self, signatures: list[Any], label: str, body: bytes) -> list[Any]:
        """Let all authorities sign that are named and certified."""
        done = []
        for signature in signatures:
            match signature:
                case [identity, certificate, bytes()] if self._knows(_subject(certificate)):
                    sound = self._sign(_subject(certificate), label, body)
                    done.append([identity, certificate, sound])
                case _:
                    done.append(signature)
        return done

    def _knows(self, public: object) -> bool:
        return isinstance(public, bytes) and public in self._keys


def _subject(certificate: Any) -> Any:
    """Return whose key a certificate certifies."""
    match certificate:
        case [bytes(body), bytes()]:
            fields = nested(body)
            return fields.get(2) if isinstance(fields, dict) else None
        case _:
            return None


def with_digest(repair: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Repair a pushed vote too: its chain names the digest of the vote beside it."""

    def repaired(data: bytes) -> bytes:
        value = parsed(data)
        match value:
            case {2: bytes(chain), 3: bytes(body)}:
                match parsed(chain):
                    case [at, sender, bytes(), signatures]:
                        digest = hashlib.sha256(body).digest()
                        value[2] = encode([at, sender, digest, signatures])
                        return repair(encode(value))
        return repair(data)

    return repaired
