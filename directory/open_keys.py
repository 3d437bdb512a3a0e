"""RSA keys that belong to everybody, for documents in Tor's formats (spec/10 §5).

Tor's formats want RSA keys and signatures, which no node here has, and readers check them. So each
identity gets a key that follows from it by a public rule, private part included. Such a signature
shows that bytes are whole. It cannot show who made them: anyone can make it.

All keys share one modulus, whose primes are the first at two public places; exponents differ.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LABEL = b"fogbank-open-rsa-v1\0"
MODULUS_LENGTH = 128
_PRIME_LENGTH = MODULUS_LENGTH // 2
_EXPONENT_LENGTH = 20
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@dataclass(frozen=True, slots=True)
class OpenKey:
    """The open key of an identity. `public` is its DER, `fingerprint` the SHA-1 of that."""

    exponent: int
    public: bytes
    fingerprint: bytes

    def sign(self, digest: bytes) -> bytes:
        """Return the 128-byte signature of a digest, padded as Tor does (PKCS #1, bare digest)."""
        padding = b"\xff" * (MODULUS_LENGTH - 3 - len(digest))
        number = int.from_bytes(b"\0\1" + padding + b"\0" + digest, "big")
        p, q = _primes()
        at_p = pow(number, pow(self.exponent, -1, p - 1), p)
        at_q = pow(number, pow(self.exponent, -1, q - 1), q)
        signature = at_q + q * ((at_p - at_q) * pow(q, -1, p) % p)
        return signature.to_bytes(MODULUS_LENGTH, "big")


def open_key(identity: bytes) -> OpenKey:
    """Return the open key of an identity."""
    p, q = _primes()
    order = (p - 1) * (q - 1)
    start = hashlib.shake_256(LABEL + b"exponent\0" + identity).digest(_EXPONENT_LENGTH)
    exponent = int.from_bytes(start, "big") | 1
    while math.gcd(exponent, order) != 1 or exponent < 3:
        exponent += 2
    numbers = RSAPublicNumbers(exponent, p * q)
    public = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return OpenKey(exponent, public, hashlib.sha1(public, usedforsecurity=False).digest())


@lru_cache(maxsize=1)
def _primes() -> tuple[int, int]:
    return _prime_from(b"p\0"), _prime_from(b"q\0")


def _prime_from(name: bytes) -> int:
    """Return the first prime from a public place on, whose two highest bits are set."""
    start = hashlib.shake_256(LABEL + name).digest(_PRIME_LENGTH)
    number = int.from_bytes(start, "big") | 1 | 3 << (8 * _PRIME_LENGTH - 2)
    while not _is_prime(number):
        number += 2
    return number


def _is_prime(number: int) -> bool:
    """Test by Miller and Rabin: enough for numbers that nobody chose."""
    if any(number % base == 0 for base in _BASES):
        return False
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    return all(_passes(number, base, odd, twos) for base in _BASES)


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    value = pow(base, odd, number)
    if value in {1, number - 1}:
        return True
    for _ in range(twos - 1):
        value = value * value % number
        if value == number - 1:
            return True
    return False
