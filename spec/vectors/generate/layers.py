"""Write `03-layers.json`: cells through six hops, worked out line by line from spec/03 §1 and §3.

It shares no code with the project: only primitives of `cryptography` and the standard library.
The file holds SHA-256 hashes of the bodies on each link, and the innermost tags.

    python spec/vectors/generate/layers.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

VECTORS = Path(__file__).resolve().parents[1]
N = 4091
O = 17  # noqa: E741  (the spec calls it o)
HOPS = 6
CELLS = 258
SHOWN = (0, 1, 255, 256, 257)
FORWARD, BACKWARD = 1, 2


def chain_key(direction: int, i: int) -> bytes:
    """The first chain key of hop i, as a handshake would give it."""
    return hashlib.sha256(b"chain key %d %d" % (direction, i)).digest()


def expand(chain: bytes, label: bytes) -> bytes:
    """HKDF-Expand to 32 bytes."""
    return HKDFExpand(SHA256(), 32, b"fogbank-layer-v1:" + label).derive(chain)


def seal(direction: int, i: int, t: int, plain: bytes) -> bytes:
    """The layer of hop i around `plain`, as cell t; every key is derived anew from the first."""
    chain = chain_key(direction, i)
    for _ in range(t // 256):
        chain = expand(chain, b"next")
    nonce = bytes(4) + t.to_bytes(8, "big")
    ad = b"fogbank-layer-v1" + bytes([direction, i, 7])
    return AESGCM(expand(chain, b"key")).encrypt(nonce, plain, ad)


def message(direction: int, t: int, h: int) -> bytes:
    """A message for or from hop h: N - o·h bytes."""
    return hashlib.shake_256(b"message %d %d" % (direction, t)).digest(N - O * h)


def digest(body: bytes) -> str:
    """What the file shows of a body."""
    return hashlib.sha256(body).hexdigest()


def forward(t: int, h: int) -> dict[str, Any]:
    """A cell from the origin to hop h; bodies[i-1] is what hop i receives."""
    content, flag = message(FORWARD, t, h), 1
    layers: list[bytes] = []
    for i in range(h, 0, -1):
        content, flag = seal(FORWARD, i, t, bytes([flag]) + content), 0
        layers.insert(0, content)
    bodies = [layer.ljust(N, b"\0") for layer in layers]
    return {
        "t": t,
        "hop": h,
        "tag": layers[-1][-16:].hex(),
        "bodies": [digest(body) for body in bodies],
    }


def backward(t: int, h: int) -> dict[str, Any]:
    """A cell from hop h to the origin; bodies[i-1] is what hop i sends."""
    content, flag = message(BACKWARD, t, h), 1
    bodies: list[str] = []
    tag = b""
    for i in range(h, 0, -1):
        content, flag = seal(BACKWARD, i, t, bytes([flag]) + content), 0
        tag = tag or content[-16:]
        bodies.insert(0, digest(content.ljust(N, b"\0")))
    return {"t": t, "hop": h, "tag": tag.hex(), "bodies": bodies}


def vectors() -> dict[str, Any]:
    """All vectors of the page."""
    return {
        "section": "spec/03 §3",
        "hops": HOPS,
        "cells": CELLS,
        "chain_keys": {
            "forward": [chain_key(FORWARD, i).hex() for i in range(1, HOPS + 1)],
            "backward": [chain_key(BACKWARD, i).hex() for i in range(1, HOPS + 1)],
        },
        "message": "SHAKE-256 of 'message D T', D the direction, T the cell's number",
        "forward": [forward(t, HOPS) for t in SHOWN],
        "backward": [backward(t, HOPS) for t in SHOWN],
        # The first cell of another circuit with the same keys: hops before the last one speak.
        "shorter": {
            "forward": [forward(0, h) for h in range(1, HOPS)],
            "backward": [backward(0, h) for h in range(1, HOPS)],
        },
    }


if __name__ == "__main__":
    (VECTORS / "03-layers.json").write_text(json.dumps(vectors(), indent=1) + "\n")
