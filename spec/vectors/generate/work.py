"""Write `03-work.json`: work for hop handshakes, worked out line by line from spec/03 §2.5.

It shares no code with the project: only the standard library's BLAKE2b.

    python spec/vectors/generate/work.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[1]


def effort(nonce: int, seed: bytes, m1: bytes) -> int:
    """The number of leading zero bits of the hash."""
    data = nonce.to_bytes(8, "big") + seed + m1
    data += bytes(2048 - len(data))
    digest = hashlib.blake2b(data, digest_size=8, person=b"fogbank-work-v1").digest()
    bits = "".join(f"{byte:08b}" for byte in digest)
    return len(bits) - len(bits.lstrip("0"))


def work(name: str, m1: bytes, seed: bytes, asked: int) -> dict[str, Any]:
    """The first nonce from 0 on that has the effort asked."""
    nonce = 0
    while effort(nonce, seed, m1) < asked:
        nonce += 1
    return {
        "name": name,
        "m1": m1.hex(),
        "seed": seed.hex(),
        "asked": asked,
        "work_asked": (asked.to_bytes(1, "big") + seed).hex(),
        "nonce": nonce,
        "effort": effort(nonce, seed, m1),
        "create_work": (nonce.to_bytes(8, "big") + m1).hex(),
    }


def vectors() -> dict[str, Any]:
    """All vectors of the section."""
    handshakes = json.loads((VECTORS / "03-handshake.json").read_text())["handshakes"]
    first, sixth = (bytes.fromhex(each["m1"]) for each in handshakes)
    one = hashlib.sha256(b"one seed").digest()[:16]
    other = hashlib.sha256(b"another seed").digest()[:16]
    return {
        "section": "spec/03 §2.5",
        "works": [
            work("nothing asked", first, one, 0),
            work("the least", first, one, 10),
            work("another seed", first, other, 10),
            work("another message", sixth, one, 12),
            work("more", sixth, other, 14),
        ],
    }


if __name__ == "__main__":
    (VECTORS / "03-work.json").write_text(json.dumps(vectors(), indent=1) + "\n")
