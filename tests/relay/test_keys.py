"""Keys and signatures (spec/01 §2, §3)."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp

from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key, Signed, X25519Key, parse_id, show_id, verify

KEY = Ed25519Key(b"k" * 32)
OTHER = Ed25519Key(b"o" * 32)
LABEL = "fogbank-test-v1"
BODY = b"what is signed"
GROUP = 2**252 + 27742317777372353535851937790883648493
OF_ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")


def test_a_signature_is_ed25519_over_label_zero_body() -> None:
    theirs = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    assert theirs.public_key().public_bytes_raw() == KEY.public
    assert KEY.sign(LABEL, BODY) == theirs.sign(b"fogbank-test-v1\0what is signed")
    verify(KEY.public, LABEL, BODY, KEY.sign(LABEL, BODY))


@pytest.mark.parametrize(
    ("public", "label", "body"),
    [
        (OTHER.public, LABEL, BODY),
        (KEY.public, "fogbank-other-v1", BODY),
        (KEY.public, LABEL, BODY + b"\0"),
        (KEY.public, LABEL, b""),
        (KEY.public[:-1], LABEL, BODY),
        (b"", LABEL, BODY),
    ],
)
def test_a_signature_holds_for_one_key_label_and_body(
    public: bytes, label: str, body: bytes
) -> None:
    with pytest.raises(ProtocolError):
        verify(public, label, body, KEY.sign(LABEL, BODY))


def test_every_byte_of_a_signature_counts() -> None:
    signature = KEY.sign(LABEL, BODY)
    for position in range(64):
        changed = bytearray(signature)
        changed[position] ^= 1
        with pytest.raises(ProtocolError):
            verify(KEY.public, LABEL, BODY, bytes(changed))


def test_a_signature_of_another_length_cannot_move_the_label() -> None:
    """What KEY signed under one label holds BODY under another, behind a prefix."""
    inner = LABEL.encode() + b"\0" + BODY
    signature = KEY.sign("fogbank-other-v1", b"prefix" + inner)
    moved = signature + b"fogbank-other-v1\0prefix"
    with pytest.raises(ProtocolError, match="64 bytes"):
        verify(KEY.public, LABEL, BODY, moved)
    for length in (0, 63):
        with pytest.raises(ProtocolError, match="64 bytes"):
            verify(KEY.public, LABEL, BODY, signature[:length])


@pytest.mark.parametrize("point", [b"\x01" + bytes(31), bytes(32)])
def test_a_key_of_small_order_signs_nothing(point: bytes) -> None:
    """Under such a key a signature of zeros would hold for any body."""
    with pytest.raises(ProtocolError):
        verify(point, LABEL, BODY, point + bytes(32))


def signed_with(nonce: int, more: int = 0, twist: bytes = b"") -> bytes:
    """Sign as the key's owner could: R = nonce·B (+ twist), S = nonce + h·a + more."""
    digest = hashlib.sha512(KEY.seed()).digest()
    secret = int.from_bytes(digest[:32], "little") & (1 << 255) - 8 & ~(1 << 255) | 1 << 254
    point = b"\1" + bytes(31)
    if nonce:
        point = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    if twist:
        point = crypto_core_ed25519_add(point, twist)
    signed = LABEL.encode() + b"\0" + BODY
    hashed = int.from_bytes(hashlib.sha512(point + KEY.public + signed).digest(), "little")
    return point + ((nonce + hashed * secret) % GROUP + more).to_bytes(32, "little")


def test_every_verifier_judges_a_signature_alike() -> None:
    """What libraries differ in is refused: the equation is the one without cofactor."""
    verify(KEY.public, LABEL, BODY, signed_with(12_345))
    for odd in (
        signed_with(12_345, more=GROUP),
        signed_with(12_345, twist=OF_ORDER_8),
        signed_with(0),
    ):
        with pytest.raises(ProtocolError):
            verify(KEY.public, LABEL, BODY, odd)


def test_a_signed_document_comes_back() -> None:
    signed = Signed.make(KEY, LABEL, BODY)
    again = Signed.decode(signed.encode(), 200)
    assert again == signed
    assert again.verify(KEY.public, LABEL) == BODY
    with pytest.raises(ProtocolError):
        again.verify(OTHER.public, LABEL)


@pytest.mark.parametrize(
    "value",
    [
        [],
        [b""],
        [b"", bytes(63)],
        [b"", bytes(65)],
        [b"", bytes(64), b""],
        ["", bytes(64)],
        {0: b"", 1: bytes(64)},
        None,
    ],
)
def test_what_is_no_signed_document_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        Signed.decode(encode(value), 200)  # type: ignore[arg-type]  # wrong on purpose


def test_x25519_agrees_with_another_implementation() -> None:
    ours, theirs = X25519Key(b"a" * 32), X25519PrivateKey.from_private_bytes(b"b" * 32)
    assert ours.exchange(theirs.public_key().public_bytes_raw()) == theirs.exchange(
        X25519PrivateKey.from_private_bytes(b"a" * 32).public_key()
    )


@pytest.mark.parametrize("peer", [bytes(32), b"\x01" + bytes(31), b"", bytes(31), bytes(33)])
def test_x25519_refuses_what_is_no_key(peer: bytes) -> None:
    with pytest.raises(ProtocolError):
        X25519Key(b"a" * 32).exchange(peer)


def test_a_secret_of_another_length_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        X25519Key(b"short")
    with pytest.raises(ValueError, match="32"):
        Ed25519Key(b"short")


def test_no_repr_shows_a_secret() -> None:
    for key in (KEY, X25519Key(b"k" * 32)):
        assert (b"k" * 32).hex() not in repr(key)
        assert repr(b"k" * 32) not in repr(key)


def test_an_identity_is_shown_in_one_way() -> None:
    text = show_id(KEY.public)
    assert len(text) == 52
    assert text == text.lower()
    assert parse_id(text) == KEY.public
    assert parse_id(f"  {text.upper()}\n") == KEY.public


@pytest.mark.parametrize(
    "text", ["", "abc", "a" * 51, "a" * 53, "a" * 51 + "b", "1" * 52, "ä" * 52, "a" * 52 + "===="]
)
def test_what_is_no_identity_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a node identity"):
        parse_id(text)
