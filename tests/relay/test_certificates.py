"""Certificates and chains (spec/01 §4): one use, one issuer, one time."""

from typing import Any

import pytest

from fogbank.relay.certificates import (
    CERT_LABEL,
    CERT_LIMIT,
    CHAIN_LIMIT,
    CLOCK_SKEW,
    Certificate,
    Chain,
    Use,
    issue,
    open_certificate,
)
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key, Signed, X25519Key

NOW = 1_800_000_000
IDENTITY, SIGNING, LINK, OTHER = (Ed25519Key(bytes([n]) * 32) for n in range(4))
ONION = X25519Key(b"b" * 32)
BODY = {1: Use.LINK, 2: LINK.public, 3: SIGNING.public, 4: NOW, 5: NOW + 100}


def certificate(**changes: Any) -> Signed:
    body = {**BODY, **{int(key[1:]): value for key, value in changes.items()}}
    body = {key: value for key, value in body.items() if value is not None}
    return Signed.make(SIGNING, CERT_LABEL, encode(body))


def open_link(signed: Signed, now: float = NOW) -> Certificate:
    return open_certificate(signed, Use.LINK, now, SIGNING.public)


def test_a_certificate_says_what_was_issued() -> None:
    signed = issue(SIGNING, Use.LINK, LINK.public, NOW + 0.9, 100)
    assert signed == certificate()
    cert = open_link(signed)
    assert cert == Certificate(Use.LINK, LINK.public, SIGNING.public, NOW, NOW + 100)
    assert len(signed.encode()) <= CERT_LIMIT


@pytest.mark.parametrize("use", [Use.SIGNING, Use.ONION, Use.FAMILY, 0, 5, 255, 256])
def test_another_use_is_refused(use: int) -> None:
    with pytest.raises(ProtocolError):
        open_link(certificate(k1=use))


def test_another_issuer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="issuer"):
        open_link(issue(OTHER, Use.LINK, LINK.public, NOW, 100))
    with pytest.raises(ProtocolError, match="does not verify"):
        open_link(Signed.make(OTHER, CERT_LABEL, certificate().body))


def test_another_label_is_refused() -> None:
    with pytest.raises(ProtocolError, match="does not verify"):
        open_link(Signed.make(SIGNING, "fogbank-link-v1", certificate().body))


@pytest.mark.parametrize("now", [NOW - CLOCK_SKEW, NOW, NOW + 99.9])
def test_a_certificate_is_in_force(now: float) -> None:
    open_link(certificate(), now)


@pytest.mark.parametrize(
    ("now", "says"),
    [(NOW - CLOCK_SKEW - 0.1, "clock slow"), (NOW + 100, "clock fast"), (0, "clock slow")],
)
def test_outside_its_time_it_is_refused_in_words(now: float, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        open_link(certificate(), now)


@pytest.mark.parametrize(
    "changes",
    [
        {"k5": NOW},
        {"k5": NOW - 1},
        {"k4": -1},
        {"k2": b"short"},
        {"k2": LINK.public + b"\0"},
        {"k3": b""},
        {"k6": 0},
        {"k1": None},
        {"k2": None},
        {"k3": None},
        {"k4": None},
        {"k5": None},
        {"k4": True},
        {"k2": b"x" * CERT_LIMIT},
    ],
)
def test_a_malformed_certificate_is_refused_though_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        open_link(certificate(**changes))


def chain(**changes: Signed) -> Chain:
    parts = {
        "signing": issue(IDENTITY, Use.SIGNING, SIGNING.public, NOW, 100),
        "link": issue(SIGNING, Use.LINK, LINK.public, NOW, 100),
        "onion": issue(SIGNING, Use.ONION, ONION.public, NOW, 100),
    }
    return Chain(**{**parts, **changes})


def test_a_chain_proves_an_identity_and_its_keys() -> None:
    whole = chain()
    data = whole.encode()
    assert len(data) <= CHAIN_LIMIT
    keys = Chain.decode(data).verify(NOW)
    assert keys.identity == IDENTITY.public
    assert keys.signing == SIGNING.public
    assert keys.link == LINK.public
    assert keys.onion == ONION.public


@pytest.mark.parametrize(
    "changes",
    [
        {"signing": issue(OTHER, Use.SIGNING, OTHER.public, NOW, 100)},
        {"link": issue(OTHER, Use.LINK, LINK.public, NOW, 100)},
        {"link": issue(IDENTITY, Use.LINK, LINK.public, NOW, 100)},
        {"onion": issue(OTHER, Use.ONION, ONION.public, NOW, 100)},
        {"onion": issue(SIGNING, Use.LINK, ONION.public, NOW, 100)},
        {"link": issue(SIGNING, Use.ONION, LINK.public, NOW, 100)},
        {"link": issue(SIGNING, Use.LINK, LINK.public, NOW - 100, 100)},
        {"signing": issue(IDENTITY, Use.SIGNING, SIGNING.public, NOW - 100, 100)},
    ],
)
def test_a_chain_with_a_foreign_part_proves_nothing(changes: dict[str, Signed]) -> None:
    with pytest.raises(ProtocolError):
        chain(**changes).verify(NOW)


@pytest.mark.parametrize("value", [[], [1, 2, 3], [[b"", bytes(64)]] * 2, [[b"", bytes(64)]] * 4])
def test_what_is_no_chain_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        Chain.decode(encode(value))


def test_a_chain_over_its_limit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        Chain.decode(bytes(CHAIN_LIMIT + 1))
