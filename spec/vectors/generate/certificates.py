"""Write `01-certificates.json`: certificates and chains put together by hand from spec/01 §1 to §4.

It shares no code with the project: CBOR is written byte by byte, Ed25519 is `cryptography`'s.

    python spec/vectors/generate/certificates.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VECTORS = Path(__file__).resolve().parents[1]
NOW = 1_800_000_000
DAY = 86_400
SIGNING, LINK, ONION, FAMILY = 1, 2, 3, 4


def key(name: str) -> Ed25519PrivateKey:
    """A private key that everybody knows."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public(secret: Ed25519PrivateKey) -> bytes:
    """Its public key."""
    return secret.public_key().public_bytes_raw()


def cbor_bytes(data: bytes) -> bytes:
    """A CBOR byte string of 24 to 65535 bytes."""
    if len(data) < 256:
        return bytes([0x58, len(data)]) + data
    return b"\x59" + len(data).to_bytes(2, "big") + data


def cbor_time(time: int) -> bytes:
    """A CBOR integer of four bytes."""
    return b"\x1a" + time.to_bytes(4, "big")


def certificate(
    issuer: Ed25519PrivateKey,
    use: int,
    subject: bytes,
    begin: int,
    end: int,
    *,
    label: bytes = b"fogbank-cert-v1",
    head: bytes = b"",
) -> bytes:
    """A signed certificate: the array of its body and signature."""
    body = b"\xa5\x01" + (head or bytes([use])) + b"\x02" + cbor_bytes(subject)
    body += b"\x03" + cbor_bytes(public(issuer)) + b"\x04" + cbor_time(begin)
    body += b"\x05" + cbor_time(end)
    return b"\x82" + cbor_bytes(body) + cbor_bytes(issuer.sign(label + b"\0" + body))


def vectors() -> dict[str, Any]:
    """All vectors of the page."""
    identity, signing, link, family = map(key, ("identity", "signing", "link", "family"))
    onion = hashlib.sha256(b"onion public key").digest()
    end = NOW + 2 * DAY
    good = {
        "signing": certificate(identity, SIGNING, public(signing), NOW, NOW + 30 * DAY),
        "link": certificate(signing, LINK, public(link), NOW, end),
        "onion": certificate(signing, ONION, onion, NOW, NOW + 8 * DAY),
        "family": certificate(family, FAMILY, public(identity), NOW, NOW + 365 * DAY),
    }
    chain = b"\x83" + good["signing"] + good["link"] + good["onion"]
    subject, issuer = public(link), public(signing)
    other_label = certificate(signing, LINK, subject, NOW, end, label=b"fogbank-link-v1")
    by_other = certificate(identity, LINK, subject, NOW, end)
    flipped = good["link"][:-1] + bytes([good["link"][-1] ^ 1])
    wide_integer = certificate(signing, LINK, subject, NOW, end, head=b"\x18\x02")
    empty_life = certificate(signing, LINK, subject, NOW, NOW)
    refused = [
        ("another label", other_label, NOW),
        ("another issuer", by_other, NOW),
        ("another use", certificate(signing, ONION, subject, NOW, end), NOW),
        ("before its time, past the permitted skew", good["link"], NOW - 601),
        ("at its end", good["link"], end),
        ("an end that is not after the beginning", empty_life, NOW),
        ("a bit of the signature", flipped, NOW),
        ("an integer not in its shortest form", wide_integer, NOW),
        ("a byte more", good["link"] + b"\0", NOW),
        ("a byte less", good["link"][:-1], NOW),
    ]
    accepted = [
        ("at its beginning", NOW),
        ("within the permitted skew", NOW - 600),
        ("at its last second", end - 1),
    ]
    secrets = ("identity", "signing", "link", "family")
    return {
        "section": "spec/01 §4",
        "identity": public(identity).hex(),
        "signing_key": issuer.hex(),
        "link_key": subject.hex(),
        "onion_key": onion.hex(),
        "family_key": public(family).hex(),
        "now": NOW,
        "seeds": {name: hashlib.sha256(name.encode()).hexdigest() for name in secrets},
        "certificates": {name: data.hex() for name, data in good.items()},
        "chain": chain.hex(),
        "link_accepted": [{"why": why, "now": now} for why, now in accepted],
        "link_refused": [
            {"why": why, "certificate": data.hex(), "now": now} for why, data, now in refused
        ],
    }


if __name__ == "__main__":
    (VECTORS / "01-certificates.json").write_text(json.dumps(vectors(), indent=1) + "\n")
