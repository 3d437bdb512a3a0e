"""Write `12-attestations.json`: an attestation put together by hand from spec/12 §1.

It shares no code with the project: CBOR is written byte by byte, Ed25519 is `cryptography`'s.

    python spec/vectors/generate/attestations.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from plain_cbor import cbor

VECTORS = Path(__file__).resolve().parents[1]
NOW = 1_800_000_059
MINUTE = 1_800_000_000
DAY = 86_400
SECRET = bytes(range(32))
MODULE = b"\0asm\x01\0\0\0"
SEED = bytes(32)
STDIN, STDOUT, STDERR, FILE = b"input", b"output\n", b"", b"a,b\n"
ENGINE = "wasmtime-50.0.1-x86_64-0123456789abcdef"
NAMES = ["module", "input", "limits", "outcome", "stdout", "stderr", "fuel", "engine"]


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts, one behind the other."""
    return hashlib.sha256(b"".join(parts)).digest()


def key(name: str) -> Ed25519PrivateKey:
    """A private key that everybody knows."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()))


def public(secret: Ed25519PrivateKey) -> bytes:
    """Its public key."""
    return secret.public_key().public_bytes_raw()


def certificate(issuer: Ed25519PrivateKey, subject: bytes, use: int = 1) -> list[bytes]:
    """A certificate of 01 §4 for 30 days, which was a day old."""
    begin = MINUTE - DAY
    body = cbor({1: use, 2: subject, 3: public(issuer), 4: begin, 5: begin + 30 * DAY})
    return [body, issuer.sign(b"fogbank-cert-v1\0" + body)]


def values(exit_code: int | None = 3, outcome: int = 0) -> list[bytes]:
    """The eight values."""
    files = [["data/in.csv", sha256(FILE)]]
    given = [["program", "one"], [["LANG", "C"]], files, sha256(STDIN), SEED]
    return [
        cbor(sha256(MODULE)),
        cbor(sha256(cbor(given))),
        cbor([1000, 65536, 1500, 64]),
        cbor([outcome, exit_code]),
        cbor([len(STDOUT), sha256(STDOUT)]),
        cbor([len(STDERR), sha256(STDERR)]),
        cbor(999),
        cbor(ENGINE),
    ]


def salt(number: int) -> bytes:
    """A leaf's salt."""
    return sha256(b"fogbank-attestation-salt-v1\0", SECRET, bytes([number]))


def tree(leaves: list[bytes]) -> list[list[bytes]]:
    """All hashes, level by level: those of the leaves first, the root last."""
    levels = [[sha256(b"\0", bytes([i]), salt(i), leaf) for i, leaf in enumerate(leaves)]]
    while len(levels[-1]) > 1:
        row = levels[-1]
        levels.append([sha256(b"\1", row[i], row[i + 1]) for i in range(0, len(row), 2)])
    return levels


def file(shown: list[int], hidden: list[bytes], **changed: Any) -> bytes:
    """A file that shows these leaves."""
    leaves = values()
    signing, identity = key("signing"), key("identity")
    body = cbor({1: tree(leaves)[-1][0], 2: MINUTE})
    fields = {
        0: "fogbank attestation 1",
        1: certificate(identity, public(signing)),
        2: MINUTE,
        3: signing.sign(b"fogbank-attestation-v1\0" + body),
        4: {i: [salt(i), leaves[i]] for i in shown},
        5: hidden,
    }
    return cbor({**fields, **{int(name[1:]): value for name, value in changed.items()}})


def vectors() -> dict[str, Any]:
    """All vectors of the page."""
    identity, signing = key("identity"), key("signing")
    leaves = values()
    hashes = tree(leaves)
    pairs, halves = hashes[1], hashes[2]
    body = cbor({1: hashes[3][0], 2: MINUTE})
    signature = signing.sign(b"fogbank-attestation-v1\0" + body)
    everything = list(range(8))
    by_other = signing.sign(b"fogbank-attestation-v0\0" + body)
    late = cbor({1: hashes[3][0], 2: MINUTE + 40 * DAY})
    late_signature = signing.sign(b"fogbank-attestation-v1\0" + late)
    changed = {i: [salt(i), leaves[i]] for i in everything}
    changed[4] = [salt(4), cbor([8, sha256(b"outputs\n")])]
    onion = certificate(identity, public(signing), use=3)
    refused = [
        ("an output that was not attested", file(everything, [], _4=changed)),
        ("another label", file(everything, [], _3=by_other)),
        ("another time", file(everything, [], _2=MINUTE + 60)),
        ("a certificate for another use", file(everything, [], _1=onion)),
        ("signed when the certificate had expired",
         file(everything, [], _2=MINUTE + 40 * DAY, _3=late_signature)),
        ("hashes in another order", file([4], [hashes[0][5], halves[0], pairs[3]])),
        ("a hash too many", file(everything, [bytes(32)])),
        ("a hash too few", file([4], [halves[0], hashes[0][5]])),
        ("a leaf as another",
         file([5], [halves[0], hashes[0][4], pairs[3]], _4={5: [salt(4), leaves[4]]})),
        ("smaller parts of the tree than may be", file([4], [*pairs[:2], hashes[0][5], pairs[3]])),
        ("a ninth leaf", file(everything, [], _4={**changed, 8: [salt(8), b""]})),
        ("another format", file(everything, [], _0="fogbank attestation 2")),
        ("a salt of 31 bytes",
         file([4], [halves[0], hashes[0][5], pairs[3]], _4={4: [bytes(31), leaves[4]]})),
    ]  # fmt: skip
    return {
        "section": "spec/12 §1",
        "seeds": {name: sha256(name.encode()).hex() for name in ("identity", "signing")},
        "identity": public(identity).hex(),
        "now": NOW,
        "secret": SECRET.hex(),
        "task": {
            "module": MODULE.hex(),
            "arguments": ["program", "one"],
            "environment": [["LANG", "C"]],
            "files": [["data/in.csv", FILE.hex()]],
            "stdin": STDIN.hex(),
            "seed": SEED.hex(),
            "limits": [1000, 65536, 1500, 64],
        },
        "result": {
            "outcome": 0,
            "exit_code": 3,
            "fuel": 999,
            "stdout": STDOUT.hex(),
            "stderr": STDERR.hex(),
            "engine": ENGINE,
        },
        "values": {name: value.hex() for name, value in zip(NAMES, leaves, strict=True)},
        "no_exit_code": values(None, 1)[3].hex(),
        "root": hashes[3][0].hex(),
        "key_10": cbor(
            {1: SECRET, 2: MINUTE, 3: certificate(identity, public(signing)), 4: signature}
        ).hex(),
        "files": [
            {"shows": NAMES, "file": file(everything, []).hex()},
            {"shows": ["stdout"], "file": file([4], [halves[0], hashes[0][5], pairs[3]]).hex()},
            {
                "shows": ["module", "engine"],
                "file": file([0, 7], [hashes[0][1], pairs[1], pairs[2], hashes[0][6]]).hex(),
            },
            {"shows": [], "file": file([], hashes[3]).hex()},
        ],
        "refused": [{"why": why, "file": data.hex()} for why, data in refused],
    }


if __name__ == "__main__":
    (VECTORS / "12-attestations.json").write_text(json.dumps(vectors(), indent=1) + "\n")
