"""Write `03-handshake.json`: hop handshakes worked out line by line from spec/03 §2.

It shares no code with the project: only primitives of `cryptography` and the standard library.
ML-KEM's key pair, ciphertext and shared secret are published ones, from `ml-kem-768.json`.

    python spec/vectors/generate/handshake.py
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VECTORS = Path(__file__).resolve().parents[1]
P = b"fogbank-hop-v1"
ZERO_NONCE = bytes(12)


def kdf(secret: bytes, label: bytes) -> bytes:
    """KDF(secret, label, 32)."""
    return HKDF(SHA256(), 32, salt=P, info=P + b":" + label).derive(secret)


def public(secret: bytes) -> bytes:
    """The public key of an X25519 secret."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret: bytes, peer: bytes) -> bytes:
    """The shared secret of X25519."""
    peer_key = X25519PublicKey.from_public_bytes(peer)
    return X25519PrivateKey.from_private_bytes(secret).exchange(peer_key)


def handshake(kem: dict[str, str], name: str, cm: bytes, sm: bytes) -> dict[str, Any]:
    """One handshake, with all that goes in, all that is sent, and all that comes out."""
    identity = hashlib.sha256(name.encode() + b" identity").digest()
    b = hashlib.sha256(name.encode() + b" onion").digest()
    x = hashlib.sha256(name.encode() + b" origin").digest()
    y = hashlib.sha256(name.encode() + b" hop").digest()
    net = hashlib.sha256(name.encode() + b" network").digest()
    ek, ct, k = (bytes.fromhex(kem[field]) for field in ("ek", "c", "K"))
    big_b, big_x, big_y = public(b), public(x), public(y)

    # spec/03 §2.1
    s1 = x25519(x, big_b) + identity + big_b + big_x + ek + net
    k1 = kdf(s1, b"request")
    head = identity + big_b + big_x + ek
    m1 = head + AESGCM(k1).encrypt(ZERO_NONCE, cm, head)

    # spec/03 §2.2
    s2 = x25519(y, big_x) + x25519(b, big_x) + k
    s2 += identity + big_b + big_x + big_y + ek + ct + P + len(net).to_bytes(2, "big") + net
    h = hashlib.sha256(m1).digest()
    esm = AESGCM(kdf(s2, b"answer")).encrypt(ZERO_NONCE, sm, h + big_y + ct)
    auth = hmac.new(kdf(s2, b"auth"), h + big_y + ct + esm, "sha256").digest()
    m2 = big_y + ct + auth + esm
    return {
        "name": name,
        "identity": identity.hex(),
        "onion_secret": b.hex(),
        "onion_key": big_b.hex(),
        "network_id": net.hex(),
        "x25519_secret": x.hex(),
        "mlkem_seed": kem["seed"],
        "cm": cm.hex(),
        "m1": m1.hex(),
        "y_secret": y.hex(),
        "kem_secret": k.hex(),
        "kem_ciphertext": ct.hex(),
        "sm": sm.hex(),
        "m2": m2.hex(),
        "forward": kdf(s2, b"forward").hex(),
        "backward": kdf(s2, b"backward").hex(),
    }


def vectors() -> dict[str, Any]:
    """All vectors of the page."""
    published = json.loads((VECTORS / "ml-kem-768.json").read_text())["decapsulation"]
    by_id = {test["tcId"]: test for test in published}
    return {
        "section": "spec/03 §2",
        "handshakes": [
            # {1: 1, 2: 3, 3: [1]} and {1: 1}
            handshake(by_id[2], "first hop", bytes.fromhex("a301010203038101"), b"\xa1\1\1"),
            # {1: 6, 2: 6, 3: [1, 2]} and {1: 1}
            handshake(by_id[3], "sixth hop", bytes.fromhex("a30106020603820102"), b"\xa1\1\1"),
        ],
    }


if __name__ == "__main__":
    (VECTORS / "03-handshake.json").write_text(json.dumps(vectors(), indent=1) + "\n")
