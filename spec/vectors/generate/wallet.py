"""Write `09-wallet.json`: what follows from a wallet's words, worked out from spec/09 §8.1.

It shares no code with the project: hashlib, and other libraries for Ed25519 and for the curve.

    python spec/vectors/generate/wallet.py
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from py_arkworks_bls12381 import G1Point, Scalar

VECTORS = Path(__file__).resolve().parents[1]
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
TAG = b"FOGBANK-TOKEN-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
NETWORK = hashlib.sha256(b"a network").digest()
PLACES = [(1, 0, 0, 0), (1, 0, 0, 1), (1, 0, 3, 0), (1, 2, 3, 64), (2, 0, 0, 0), (2, 1, 9, 2**40)]


def derive(seed: bytes, what: bytes, place: tuple[int, int, int, int]) -> bytes:
    """64 bytes for one use at one place."""
    role, branch, period, counter = place
    data = what + struct.pack(">B", role) + struct.pack(">I", branch) + struct.pack(">I", period)
    data += struct.pack(">Q", counter) + NETWORK
    return hashlib.blake2b(data, digest_size=64, key=seed, person=b"fogbank-wallet").digest()


def output(seed: bytes, place: tuple[int, int, int, int]) -> dict[str, Any]:
    """The output at one place."""
    key = derive(seed, b"serial", place)[:32]
    serial = Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    factor = int.from_bytes(derive(seed, b"blind", place), "big") % ORDER or 1
    message = G1Point.hash_to_curve(b"fogbank-token-v1\0" + NETWORK + serial, TAG)
    blinded = message * Scalar.from_le_bytes(factor.to_bytes(32, "little"))
    return {
        "role": place[0],
        "branch": place[1],
        "period": place[2],
        "counter": place[3],
        "serial_seed": key.hex(),
        "serial": serial.hex(),
        "factor": factor.to_bytes(32, "big").hex(),
        "blinded": bytes(blinded.to_compressed_bytes()).hex(),
    }


def vectors() -> dict[str, Any]:
    """All that is in the file."""
    seed = hashlib.pbkdf2_hmac("sha512", WORDS.encode(), b"mnemonic", 2048)
    return {
        "section": "spec/09 §8.1",
        "words": WORDS,
        "seed": seed.hex(),
        "network_id": NETWORK.hex(),
        "outputs": [output(seed, place) for place in PLACES],
    }


if __name__ == "__main__":
    text = json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n"
    (VECTORS / "09-wallet.json").write_text(text, encoding="utf-8")
