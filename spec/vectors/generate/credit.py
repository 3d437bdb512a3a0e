"""Write `09-credit.json`: tokens, requests, dealings, worked out from spec/09 §1, §3, §4.1, §6.

It shares no code with the project: another library of the curve, other libraries for the rest.

    python spec/vectors/generate/credit.py
"""

import hashlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from plain_cbor import cbor
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

VECTORS = Path(__file__).resolve().parents[1]
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
PROOF_TAG = b"FOGBANK-PROOF-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
TOKEN_TAG = b"FOGBANK-TOKEN-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
NETWORK = hashlib.sha256(b"a network").digest()
SERIES, QUORUM, MEMBERS = 7, 3, 4
NOW = 1_800_000_000
G1, G2 = G1Point(), G2Point()


def scalar(name: str) -> int:
    """Some scalar."""
    return int.from_bytes(hashlib.sha512(name.encode()).digest(), "big") % ORDER


def times(point: Any, number: int) -> Any:
    """A multiple of a point."""
    return point * Scalar.from_le_bytes((number % ORDER).to_bytes(32, "little"))


def packed(point: Any) -> bytes:
    """A point's bytes."""
    return bytes(point.to_compressed_bytes())


def number(value: int) -> bytes:
    """A scalar's bytes."""
    return value.to_bytes(32, "big")


POLYNOMIAL = [scalar(f"coefficient {k}") for k in range(QUORUM)]
SHARES = {
    i: sum(each * i**k for k, each in enumerate(POLYNOMIAL)) % ORDER for i in range(1, MEMBERS + 1)
}


def seed_of(name: str) -> bytes:
    """Some Ed25519 seed."""
    return hashlib.sha256(name.encode()).digest()


def key_of(name: str) -> Ed25519PrivateKey:
    """Some Ed25519 key."""
    return Ed25519PrivateKey.from_private_bytes(seed_of(name))


def public(name: str) -> bytes:
    """The public key of that."""
    return key_of(name).public_key().public_bytes_raw()


def signed(name: str, label: str, body: bytes) -> bytes:
    """A signature as spec/01 §3 has it."""
    return key_of(name).sign(label.encode() + b"\0" + body)


def weights(chosen: tuple[int, ...]) -> dict[int, int]:
    """The weights of members in what they make together."""
    found = {}
    for i in chosen:
        weight = 1
        for j in chosen:
            if j != i:
                weight = weight * j * pow(j - i, -1, ORDER) % ORDER
        found[i] = weight
    return found


def token(name: str) -> dict[str, Any]:
    """A token from its serial to its signature, by every quorum of members."""
    serial, factor = public(name), scalar(f"factor of {name}")
    message = G1Point.hash_to_curve(b"fogbank-token-v1\0" + NETWORK + serial, TOKEN_TAG)
    blinded = times(message, factor)
    shares = {i: times(blinded, share) for i, share in SHARES.items()}
    signature = times(message, POLYNOMIAL[0])
    for chosen in combinations(shares, QUORUM):
        together = G1Point.identity()
        for i, weight in weights(chosen).items():
            together = together + times(shares[i], weight)
        if packed(times(together, pow(factor, -1, ORDER))) != packed(signature):
            raise ValueError(chosen)
    return {
        "serial_seed": seed_of(name).hex(),
        "serial": serial.hex(),
        "message": packed(message).hex(),
        "factor": number(factor).hex(),
        "blinded": packed(blinded).hex(),
        "shares": {str(i): packed(share).hex() for i, share in shares.items()},
        "signature": packed(signature).hex(),
    }


def request_hash(request: bytes) -> bytes:
    """H(R)."""
    return hashlib.sha256(b"fogbank-mint-request-v1\0" + request).digest()


def swap(tokens: list[dict[str, Any]], outputs: list[str]) -> dict[str, Any]:
    """A signed swap of tokens into blinded outputs."""
    inputs = sorted((bytes.fromhex(t["serial"]), bytes.fromhex(t["signature"])) for t in tokens)
    request = cbor(
        {
            1: NETWORK,
            2: SERIES,
            3: [list(each) for each in inputs],
            4: sorted(bytes.fromhex(each) for each in outputs),
        }
    )
    owners = {public(name): name for name in ("first", "second")}
    proofs = [signed(owners[serial], "fogbank-mint-request-v1", request) for serial, _ in inputs]
    return {
        "request": request.hex(),
        "hash": request_hash(request).hex(),
        "serials": [serial.hex() for serial, _ in inputs],
        "signed": cbor([request, proofs]).hex(),
    }


def withdrawal(outputs: list[str], first: int) -> dict[str, Any]:
    """A signed withdrawal of a node's units."""
    identity = public("identity")
    request = cbor(
        {
            1: NETWORK,
            2: SERIES,
            4: sorted(bytes.fromhex(each) for each in outputs),
            5: [identity, first, len(outputs)],
        }
    )
    body = cbor({1: 1, 2: public("signing"), 3: identity, 4: NOW, 5: NOW + 30 * 86_400})
    certificate = [body, signed("identity", "fogbank-cert-v1", body)]
    proof = signed("signing", "fogbank-mint-request-v1", request)
    units = [
        hashlib.sha256(
            b"fogbank-unit-v1\0"
            + NETWORK
            + SERIES.to_bytes(8, "big")
            + identity
            + unit.to_bytes(8, "big")
        ).digest()
        for unit in range(first, first + len(outputs))
    ]
    return {
        "request": request.hex(),
        "hash": request_hash(request).hex(),
        "serials": [unit.hex() for unit in units],
        "signed": cbor([request, [proof, certificate]]).hex(),
    }


def certificate(made: dict[str, Any]) -> str:
    """The certificate of members 1, 2 and 4."""
    votes = []
    for member in (1, 2, 4):
        body = cbor([NETWORK, SERIES, member, bytes.fromhex(made["hash"]), []])
        votes.append([member, signed(f"vote {member}", "fogbank-mint-lock-v1", body), []])
    pair = b"\x82"
    return (pair + bytes.fromhex(made["signed"]) + cbor(votes)).hex()


def carried(made: dict[str, Any], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """A request on its way: to the member that carries it, from there to others, and back."""
    whole, signed = bytes.fromhex(certificate(made)), bytes.fromhex(made["signed"])
    ordered = sorted(outputs, key=lambda each: bytes.fromhex(each["blinded"]))
    shares = [[i, [bytes.fromhex(each["shares"][str(i)]) for each in ordered]] for i in (2, 3, 4)]
    done = [cbor({1: 0, 2: cbor(each), 3: ""}) for _, each in shares[:2]]
    return {
        "carry": cbor({1: 9, 2: b"\x82" + signed + cbor([]), 4: True}).hex(),
        "carry_with_work": cbor({1: 9, 2: b"\x82" + signed + cbor([]), 3: 77, 4: False}).hex(),
        "carry_certified": cbor({1: 9, 2: whole, 4: True}).hex(),
        "batch": cbor({1: 10, 2: [cbor({1: 1, 2: signed}), cbor({1: 2, 2: whole})]}).hex(),
        "batch_replies": cbor(done).hex(),
        "body": (b"\x82" + whole[1 + len(signed) :] + cbor(shares)).hex(),
    }


def mint_wide(secret: bytes, what: bytes) -> bytes:
    """What follows from a `mint.key`."""
    return hashlib.blake2b(what, digest_size=64, key=secret, person=b"fogbank-mint-1").digest()


def mint_scalar(secret: bytes, what: bytes) -> int:
    """A scalar that does."""
    return int.from_bytes(mint_wide(secret, what), "big") % ORDER or 1


def dealing() -> dict[str, Any]:
    """A dealing of the second of four authorities; the last one has no keys."""
    committee = sorted(public(f"authority {k}") for k in range(4))
    dealer, attempt = committee[1], 2
    secrets = [seed_of(f"mint key {i}") for i in range(1, 5)]
    scalars = [mint_scalar(secret, b"decrypt") for secret in secrets]
    votes = [
        Ed25519PrivateKey.from_private_bytes(mint_wide(secret, b"vote")[:32]) for secret in secrets
    ]
    context = NETWORK + SERIES.to_bytes(8, "big") + attempt.to_bytes(4, "big") + dealer
    about = context + bytes([QUORUM]) + hashlib.sha256(b"".join(committee)).digest()
    polynomial = [
        mint_scalar(secrets[1], b"coefficient" + about + bytes([k])) for k in range(QUORUM)
    ]
    chosen = mint_scalar(secrets[1], b"ephemeral" + about)
    constant, ephemeral = packed(times(G2, polynomial[0])), packed(times(G2, chosen))
    proven = G1Point.hash_to_curve(context + constant, PROOF_TAG)
    known = G1Point.hash_to_curve(context + ephemeral, PROOF_TAG)
    shared = [packed(times(G2, y * chosen)) for y in scalars]
    shares = [sum(a * i**k for k, a in enumerate(polynomial)) % ORDER for i in range(1, 5)]
    sealed = []
    for i in (1, 2, 3):
        label = b"fogbank-dealing-v1\0" + context + bytes([i]) + shared[i - 1]
        cipher = ChaCha20Poly1305(hashlib.sha256(label).digest())
        sealed.append(cipher.encrypt(bytes(12), number(shares[i - 1]), None))
    first = {
        1: [packed(times(G2, a)) for a in polynomial],
        2: packed(times(proven, polynomial[0])),
        3: ephemeral,
        5: packed(times(known, chosen)),
    }
    commitment = hashlib.sha256(b"fogbank-dealing-commit-v1\0" + context + cbor(first)).digest()
    return {
        "committee": [each.hex() for each in committee],
        "mint_keys": [secret.hex() for secret in secrets],
        "public": [
            [
                packed(times(G1, y)).hex(),
                packed(times(G2, y)).hex(),
                vote.public_key().public_bytes_raw().hex(),
            ]
            for y, vote in zip(scalars, votes, strict=True)
        ],
        "place": 2,
        "attempt": attempt,
        "context": context.hex(),
        "coefficients": [number(a).hex() for a in polynomial],
        "ephemeral": number(chosen).hex(),
        "commitment": commitment.hex(),
        "dealing": cbor({**first, 4: [*sealed, b""]}).hex(),
        "shared": [each.hex() for each in shared[:3]],
        "shares": [number(each).hex() for each in shares],
    }


def vectors() -> dict[str, Any]:
    """All that is in the file."""
    tokens = [token(name) for name in ("first", "second", "third", "fourth")]
    swapped = swap(tokens[:2], [each["blinded"] for each in tokens[2:]])
    drawn = withdrawal([each["blinded"] for each in tokens[:2]], 40)
    return {
        "section": "spec/09 §1, §3, §4.1, §6",
        "network_id": NETWORK.hex(),
        "series": SERIES,
        "now": NOW,
        "key": packed(times(G2, POLYNOMIAL[0])).hex(),
        "quorum": QUORUM,
        "members": [
            {
                "share": number(share).hex(),
                "share_key": packed(times(G2, share)).hex(),
                "vote_seed": seed_of(f"vote {i}").hex(),
                "vote_key": public(f"vote {i}").hex(),
            }
            for i, share in SHARES.items()
        ],
        "tokens": tokens,
        "swap": swapped | {"certificate": certificate(swapped)},
        "carried": carried(swapped, tokens[2:]),
        "withdrawal": drawn | {"certificate": certificate(drawn)},
        "dealing": dealing(),
    }


if __name__ == "__main__":
    text = json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n"
    (VECTORS / "09-credit.json").write_text(text, encoding="utf-8")
