"""Write `05-directory.json`: the directory's documents put together by hand from spec/05.

It shares no code with the project: CBOR is written here, Ed25519 is `cryptography`'s.

    python spec/vectors/generate/directory.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from plain_cbor import cbor

VECTORS = Path(__file__).resolve().parents[1]
NOW = 1_800_000_000
DAY = 86_400
VALID_AFTER = NOW + 3


def key(name: str) -> Ed25519PrivateKey:
    """A private key that everybody knows."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()))


def public(name: str) -> bytes:
    """The public key of that name."""
    return key(name).public_key().public_bytes_raw()


def sha256(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def sign(name: str, label: str, body: bytes) -> bytes:
    """A signature as in 01 §3."""
    return key(name).sign(label.encode() + b"\0" + body)


def certificate(issuer: str, use: int, subject: bytes, lifetime: int) -> list[bytes]:
    """A certificate as in 01 §4."""
    body = cbor({1: use, 2: subject, 3: public(issuer), 4: NOW, 5: NOW + lifetime})
    return [body, sign(issuer, "fogbank-cert-v1", body)]


def signature(authority: str, label: str, body: bytes) -> list[Any]:
    """An authority's signature as in §1.3."""
    signing = f"{authority} signing"
    proof = certificate(authority, 1, public(signing), 30 * DAY)
    return [public(authority), proof, sign(signing, label, body)]


def address(last: int) -> bytes:
    """127.last.0.1, port 9000."""
    return bytes([127, last, 0, 1]) + (9000).to_bytes(2, "big")


AUTHORITIES = [f"authority {i}" for i in range(4)]
NETWORK_ID = sha256(b"network")


def network(version: int = 1) -> bytes:
    """The body of a network document, §1; version 2 has another authority, §1.4."""
    names = AUTHORITIES if version == 1 else [*AUTHORITIES[:3], "authority 4"]
    pins = [{1: public(name), 2: f"auth{i}", 3: [address(i + 1)]} for i, name in enumerate(names)]
    timing = {1: NOW, 2: 500, 3: 30, 4: 3, 5: 3}
    fields = {1: NETWORK_ID, 2: "vectors", 3: version, 4: pins, 5: timing, 6: True}
    return cbor(fields if version == 1 else {**fields, 7: NOW + 300})


def descriptor() -> bytes:
    """A relay's descriptor, §2."""
    fields = {
        1: public("relay"),
        2: "relay0",
        3: 1,
        4: [address(10)],
        5: NOW,
        6: certificate("relay", 1, public("relay signing"), 30 * DAY),
        7: certificate("relay signing", 3, sha256(b"onion"), 7 * DAY),
        8: [certificate("family", 4, public("relay"), 365 * DAY)],
        9: ["dir"],
        10: [1],
        11: "",
        12: 0,
        13: 0,
        14: [],
    }
    body = cbor(fields)
    return cbor([body, sign("relay signing", "fogbank-descriptor-v1", body)])


def vote(relay: bytes) -> bytes:
    """The vote of authority 0, §3."""
    fields = {
        1: NETWORK_ID,
        2: public(AUTHORITIES[0]),
        3: certificate(AUTHORITIES[0], 1, public(f"{AUTHORITIES[0]} signing"), 30 * DAY),
        4: VALID_AFTER,
        5: [1, 2, 3],
        6: [1],
        7: [1],
        8: [],
        9: [],
        10: b"",
        11: b"",
        12: [[relay, 60, 0, 0, 0]],
        13: [[1, share()], [99, b"of a later version"], [2, cbor(runtimes())]],
    }
    body = cbor(fields)
    return cbor([body, sign(f"{AUTHORITIES[0]} signing", "fogbank-vote-v1", body)])


def chain(value: bytes) -> bytes:
    """The chain of that vote with two signatures, §4.2."""
    sender, digest = public(AUTHORITIES[0]), sha256(value)
    statement = cbor({1: NETWORK_ID, 2: VALID_AFTER, 3: sender, 4: digest})
    signed = [signature(name, "fogbank-chain-v1", statement) for name in AUTHORITIES[:2]]
    return cbor([VALID_AFTER, sender, digest, signed])


def entry(name: str, number: int) -> list[Any]:
    """A relay's entry, §5.1: Guard, Fast, Stable, Running, Valid."""
    flags = 2 + 4 + 8 + 16 + 32
    onion = sha256(b"onion " + name.encode())
    place = [address(number)]
    return [
        public(name), f"relay{number}", flags, place, onion, [], ["dir"], [1],
        1_000_000, 0, 0, 0, "", [], NOW,
    ]  # fmt: skip


def seed() -> bytes:
    """The first contact seed, §6.2."""
    return sha256(b"fogbank-contact-seed-v1\0" + NETWORK_ID)


def consensus_body(method: int) -> bytes:
    """A consensus of five relays, §5.1; from method 2 on with the shared randomness."""
    entries = sorted(entry(f"relay {i}", 10 + i) for i in range(5))
    fields = {
        1: method,
        2: NETWORK_ID,
        3: VALID_AFTER,
        4: VALID_AFTER + 3,
        5: VALID_AFTER + DAY,
        6: [1],
        7: [1],
        8: [],
        9: [],
        10: seed(),
        11: b"",
        12: sorted(map(public, AUTHORITIES)),
        13: entries,
    }
    if method >= 2:
        fields[14] = randomness()
    if method >= 3:
        fields[15] = runtimes()
    return cbor(fields)


def runtimes() -> list[Any]:
    """A list of runtimes, §3.3: two releases of one, and another."""
    digests = sorted([sha256(b"python 1"), sha256(b"python 2")])
    pythons = [["python", digest, 26_000_000] for digest in digests]
    return [["javascript", sha256(b"javascript"), 1_000_000], *pythons]


SLOT = 40


def value(authority: str) -> bytes:
    """What an authority gives to slot 40: it follows from a signature, §6.3."""
    body = cbor({1: NETWORK_ID, 2: SLOT})
    return sha256(sign(f"{authority} signing", "fogbank-random-value-v1", body))


def commit(authority: str) -> bytes:
    """What it commits to that value with."""
    start = b"fogbank-random-commit-v1\0" + NETWORK_ID + SLOT.to_bytes(8, "big")
    return sha256(start + public(authority) + value(authority))


def drawn_seed() -> bytes:
    """The seed that slot 40 gives if the first three authorities reveal their values."""
    revealed = b"".join(sorted(public(name) + value(name) for name in AUTHORITIES[:3]))
    start = b"fogbank-random-seed-v1\0" + NETWORK_ID + SLOT.to_bytes(8, "big")
    return sha256(start + revealed)


def class_of(worker: str) -> int:
    """A worker's class, §6.3."""
    digest = sha256(b"fogbank-random-class-v1\0" + NETWORK_ID + public(worker))
    return int.from_bytes(digest[:8], "big") % 30


def randomness() -> list[Any]:
    """The shared randomness in slot 40's second half; the worker's class has a seed."""
    commits = sorted([public(name), commit(name)] for name in AUTHORITIES)
    reveals = sorted([public(name), value(name)] for name in AUTHORITIES[:3])
    return [SLOT, commits, reveals, [[class_of("worker"), NOW + 1, drawn_seed()]]]


def share() -> bytes:
    """The extension of authority 0's vote, which reveals its value, §3.1."""
    return cbor([VALID_AFTER - 3, randomness(), b"", value(AUTHORITIES[0])])


def contacts(contact_seed: bytes) -> list[str]:
    """The contacts of a worker among those relays, none of which conflict, §6.2."""
    start = b"fogbank-contact-v1\0" + contact_seed + public("worker")
    ranked = sorted(sha256(start + public(f"relay {i}")) + public(f"relay {i}") for i in range(5))
    return [rank[32:].hex() for rank in ranked[:3]]


def vectors() -> dict[str, Any]:
    """All vectors of the page."""
    body, second, third = map(consensus_body, (1, 2, 3))
    label = "fogbank-consensus-v1"
    signatures = [signature(name, label, body) for name in AUTHORITIES]
    other_label = [*signatures[:2], signature(AUTHORITIES[2], "fogbank-vote-v1", body)]
    stranger = signature("stranger", label, body)
    refused = [
        ("one signature fewer than q", signatures[:2], VALID_AFTER),
        ("one authority's signature twice", [*signatures[:2], signatures[1]], VALID_AFTER),
        ("a signature of no authority", [*signatures[:2], stranger], VALID_AFTER),
        ("a signature of another use", other_label, VALID_AFTER),
        ("601 seconds before its time", signatures[:3], VALID_AFTER - 601),
        ("at its end", signatures[:3], VALID_AFTER + DAY),
    ]
    ballot = vote(descriptor())
    return {
        "section": "spec/05",
        "now": NOW,
        "valid_after": VALID_AFTER,
        "network": {
            "body": network().hex(),
            "signatures": {
                public(name).hex(): sign(name, "fogbank-network-v1", network()).hex()
                for name in AUTHORITIES
            },
        },
        "network_2": {
            "body": network(2).hex(),
            "signatures": {
                public(name).hex(): sign(name, "fogbank-network-v1", network(2)).hex()
                for name in [*AUTHORITIES, "authority 4"]
            },
        },
        "get_network": {
            "request": cbor({1: 6, 2: 1, 3: sha256(network())}).hex(),
            "reply": cbor({1: 0, 2: NOW, 3: cbor([b"a = 1\n", b"b = 2\n"]), 4: ""}).hex(),
        },
        "descriptor": descriptor().hex(),
        "vote": ballot.hex(),
        "chain": chain(ballot).hex(),
        "consensus": cbor([body, signatures[:3]]).hex(),
        "consensus_refused": [
            {"why": why, "now": now, "document": cbor([body, proofs]).hex()}
            for why, proofs, now in refused
        ],
        "contact_seed": seed().hex(),
        "worker": public("worker").hex(),
        "contacts": contacts(seed()),
        "consensus_2": cbor([second, [signature(n, label, second) for n in AUTHORITIES]]).hex(),
        "consensus_3": cbor([third, [signature(n, label, third) for n in AUTHORITIES]]).hex(),
        "runtimes": [[name, digest.hex(), size] for name, digest, size in runtimes()],
        "random": {
            "slot": SLOT,
            "values": {public(name).hex(): value(name).hex() for name in AUTHORITIES},
            "commits": {public(name).hex(): commit(name).hex() for name in AUTHORITIES},
            "seed": drawn_seed().hex(),
            "class": class_of("worker"),
            "contacts": contacts(drawn_seed()),
        },
    }


if __name__ == "__main__":
    (VECTORS / "05-directory.json").write_text(json.dumps(vectors(), indent=1) + "\n")
