"""The hop handshake: how a circuit's origin shares keys with one hop (spec/03 §2).

In the shape of ntor-v3, with X25519 and ML-KEM-768 side by side. The origin makes an
`OriginHandshake` and sends its `message`; the hop answers with `answer_handshake`; the origin
takes the answer to `finish`. Both then hold the same `HopKeys`. Nothing here draws randomness but
the default `encapsulate`: the library takes none from outside.

Every failure is a `ProtocolError`, and every cryptographic one has the same text: a peer learns
from it that the handshake failed, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fogbank.relay.cells import MAX_HOPS
from fogbank.relay.codec import decode_record, encode, uint_item
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId, X25519Key
from fogbank.relay.replay import ReplayCache

PROTOCOL = b"fogbank-hop-v1"
VERSIONS = (1,)
"""The protocol versions that this code speaks (spec/00 §3)."""

EK_LENGTH = 1184
CT_LENGTH = 1088
NEGOTIATION_LIMIT = 512

_TAG = 16
_NONCE = bytes(12)
_HEAD = 3 * KEY_LENGTH + EK_LENGTH
_ANSWER_HEAD = KEY_LENGTH + CT_LENGTH + hashlib.sha256().digest_size

MESSAGE_LENGTHS = range(_HEAD + _TAG, _HEAD + _TAG + NEGOTIATION_LIMIT + 1)
"""Lengths that an origin's message may have."""
ANSWER_LENGTHS = range(_ANSWER_HEAD + _TAG, _ANSWER_HEAD + _TAG + NEGOTIATION_LIMIT + 1)
"""Lengths that a hop's answer may have."""

_VERSIONS_LIMIT = 16
_VERSION_MAX = 0xFFFF

Encapsulate = Callable[[bytes], tuple[bytes, bytes]]
"""Takes an ML-KEM-768 key, gives a shared secret and its ciphertext; raises `ProtocolError`."""


@dataclass(frozen=True, slots=True)
class HopRequest:
    """What the origin asks of a hop (CM, spec/03 §2.3): index, hop limit, versions it speaks."""

    index: int
    limit: int
    versions: tuple[int, ...] = VERSIONS

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return encode({1: self.index, 2: self.limit, 3: list(self.versions)})

    @classmethod
    def decode(cls, data: bytes) -> HopRequest:
        """Take a request apart, and refuse an index or a limit that no circuit has."""
        record = decode_record(data, NEGOTIATION_LIMIT, "hop request")
        limit = record.uint(2, MAX_HOPS, 1)
        index = record.uint(1, limit, 1)
        versions = record.array(3, _VERSIONS_LIMIT, uint_item(_VERSION_MAX))
        record.reserved(4)
        record.done()
        return cls(index, limit, versions)


@dataclass(frozen=True, slots=True)
class HopKeys:
    """What both sides share in the end: the first chain key of each direction, and a version."""

    forward: bytes = field(repr=False)
    backward: bytes = field(repr=False)
    version: int


class OriginHandshake:
    """The origin's side of one handshake: send `message`, then `finish` with the answer.

    `x25519_secret` (32 bytes) and `mlkem_seed` (64 bytes) must be random and used once.
    """

    __slots__ = ("_kem", "_key", "_request", "_static", "_transcript", "message")

    def __init__(
        self,
        identity: NodeId,
        onion_key: bytes,
        network_id: bytes,
        request: HopRequest,
        x25519_secret: bytes,
        mlkem_seed: bytes,
    ) -> None:
        self._key = X25519Key(x25519_secret)
        self._kem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed)
        self._static = self._key.exchange(onion_key)
        self._request = request
        head = identity + onion_key + self._key.public + self._kem.public_key().public_bytes_raw()
        cipher = _request_cipher(self._static, head, network_id)
        self.message: bytes = head + cipher.encrypt(_NONCE, request.encode(), head)
        """The origin's message, m1: the content of CREATE, or a field of EXTEND."""
        self._transcript = _Transcript(self.message, network_id)

    def finish(self, answer: bytes) -> HopKeys:
        """Return the keys shared with the hop that answered.

        Raises `ProtocolError` unless the holder of the named identity's onion key made `answer`
        to this very message.
        """
        if len(answer) not in ANSWER_LENGTHS:
            _refuse()
        y = answer[:KEY_LENGTH]
        ct = answer[KEY_LENGTH : KEY_LENGTH + CT_LENGTH]
        auth, sealed = answer[KEY_LENGTH + CT_LENGTH : _ANSWER_HEAD], answer[_ANSWER_HEAD:]
        try:
            shared = self._key.exchange(y) + self._static + self._kem.decapsulate(ct)
        except (ProtocolError, ValueError) as error:
            _refuse(error)
        secrets = self._transcript.secrets(shared, y, ct)
        if not hmac.compare_digest(auth, secrets.authenticate(sealed)):
            _refuse()
        version = _decode_answer(secrets.open(sealed))
        if version not in self._request.versions:
            raise ProtocolError("a hop chose a protocol version that was not offered")
        return secrets.hop_keys(version)


def answer_handshake(
    message: bytes,
    identity: NodeId,
    onion_keys: Sequence[X25519Key],
    network_id: bytes,
    replay: ReplayCache,
    y_secret: bytes,
    *,
    encapsulate: Encapsulate | None = None,
    versions: tuple[int, ...] = VERSIONS,
) -> tuple[bytes, HopRequest, HopKeys]:
    """Answer an origin's message as the hop `identity`, which holds `onion_keys`.

    `y_secret` is 32 random bytes, used once. Returns the answer (m2: the content of CREATED), what
    the origin asked for, and the shared keys. Raises `ProtocolError` for any message of which
    spec/03 §2.2 says so; a message that opens is remembered in `replay` and refused the next time.
    """
    if len(message) not in MESSAGE_LENGTHS or message[:KEY_LENGTH] != identity:
        _refuse()
    transcript = _Transcript(message, network_id)
    onion_key = next((key for key in onion_keys if key.public == transcript.onion_key), None)
    if onion_key is None:
        _refuse()
    try:
        static = onion_key.exchange(transcript.x)
        cipher = _request_cipher(static, message[:_HEAD], network_id)
        plain = cipher.decrypt(_NONCE, message[_HEAD:], message[:_HEAD])
        # Not before the message opened: else one who never held x could burn another's X.
        replay.add(onion_key.public, transcript.x)
        key = X25519Key(y_secret)
        kem_secret, ct = (encapsulate or _encapsulate)(transcript.ek)
        shared = key.exchange(transcript.x) + static + kem_secret
    except (ProtocolError, InvalidTag) as error:
        _refuse(error)
    request = HopRequest.decode(plain)
    version = max(set(request.versions) & set(versions), default=None)
    if version is None:
        raise ProtocolError("a hop handshake offers no protocol version that is known here")
    secrets = transcript.secrets(shared, key.public, ct)
    sealed = secrets.seal(encode({1: version}))
    answer = key.public + ct + secrets.authenticate(sealed) + sealed
    return answer, request, secrets.hop_keys(version)


class _Transcript:
    """A message that one side sent and the other read: its parts, and what they are bound to."""

    __slots__ = ("_hash", "_head", "_network_id", "ek", "onion_key", "x")

    def __init__(self, message: bytes, network_id: bytes) -> None:
        self._head = message[:_HEAD]
        self._hash = hashlib.sha256(message).digest()
        self._network_id = network_id
        self.onion_key = message[KEY_LENGTH : 2 * KEY_LENGTH]
        self.x = message[2 * KEY_LENGTH : 3 * KEY_LENGTH]
        self.ek = message[3 * KEY_LENGTH : _HEAD]

    def secrets(self, shared: bytes, y: bytes, ct: bytes) -> _Secrets:
        """Return what follows from the three shared secrets and all that was sent (S2)."""
        keys = self._head[: 3 * KEY_LENGTH]
        net = len(self._network_id).to_bytes(2, "big") + self._network_id
        secret = shared + keys + y + self.ek + ct + PROTOCOL + net
        return _Secrets(_extract(secret), self._hash + y + ct)


@dataclass(frozen=True, slots=True)
class _Secrets:
    """The keys of an answer, all from S2, and the bytes (H ‖ Y ‖ ct) that it is bound to."""

    root: bytes
    bound: bytes

    def _cipher(self) -> AESGCM:
        return AESGCM(_expand(self.root, b"answer"))

    def seal(self, plain: bytes) -> bytes:
        """Return esm."""
        return self._cipher().encrypt(_NONCE, plain, self.bound)

    def open(self, sealed: bytes) -> bytes:
        """Return SM."""
        try:
            return self._cipher().decrypt(_NONCE, sealed, self.bound)
        except InvalidTag as error:
            _refuse(error)

    def authenticate(self, sealed: bytes) -> bytes:
        """Return auth."""
        return hmac.digest(_expand(self.root, b"auth"), self.bound + sealed, "sha256")

    def hop_keys(self, version: int) -> HopKeys:
        """Return what the circuit goes on with."""
        return HopKeys(_expand(self.root, b"forward"), _expand(self.root, b"backward"), version)


def _request_cipher(static: bytes, head: bytes, network_id: bytes) -> AESGCM:
    """Return the cipher of CM: its key is k1."""
    return AESGCM(_expand(_extract(static + head + network_id), b"request"))


def _extract(secret: bytes) -> bytes:
    return hmac.digest(PROTOCOL, secret, "sha256")


def _expand(root: bytes, label: bytes) -> bytes:
    """Return 32 bytes of HKDF-Expand: one block, hence one HMAC."""
    return hmac.digest(root, PROTOCOL + b":" + label + b"\x01", "sha256")


def _encapsulate(ek: bytes) -> tuple[bytes, bytes]:
    """Encapsulate with the library's own randomness; it checks `ek` as FIPS 203 §7.2 asks."""
    try:
        return MLKEM768PublicKey.from_public_bytes(ek).encapsulate()
    except ValueError as error:
        _refuse(error)


def _decode_answer(data: bytes) -> int:
    """Take SM apart, which holds the version that the hop chose."""
    record = decode_record(data, NEGOTIATION_LIMIT, "hop answer")
    version = record.uint(1, _VERSION_MAX)
    record.reserved(4)
    record.done()
    return version


def _refuse(cause: Exception | None = None) -> NoReturn:
    raise ProtocolError("a hop handshake failed") from cause
