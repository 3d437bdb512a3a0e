"""Work for a hop handshake: what an overloaded hop asks for (spec/03 §2.5).

The hop answers CREATE by a `Demand`; the origin searches a nonce for the same message and sends
both; `effort_of` tells what a nonce is worth. A hop draws its seeds, and remembers what was spent,
in a `WorkBook`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fogbank.relay.errors import ProtocolError
from fogbank.relay.replay import ReplayCache

EFFORT_LEAST: Final = 10
EFFORT_MOST: Final = 17
"""Efforts that are asked for, if any is: leading zero bits."""
SEED_LENGTH: Final = 16
NONCE_LENGTH: Final = 8
DEMAND_LENGTH: Final = 1 + SEED_LENGTH
SEED_SECONDS: Final = 60.0
"""A seed counts for so long, and as long again after the next one is drawn."""
SPENT: Final = 16_384
"""Works that a hop remembers at least, under each seed."""

_LABEL: Final = b"fogbank-work-v1"
_PADDED: Final = 2048
_DIGEST: Final = 8
_NONCES: Final = 1 << 8 * NONCE_LENGTH


@dataclass(frozen=True, slots=True)
class Demand:
    """What a hop asks for: how much effort, under which seed (the content of WORK_ASKED)."""

    effort: int
    seed: bytes

    def encode(self) -> bytes:
        """Return the demand's bytes."""
        return bytes((self.effort,)) + self.seed

    @classmethod
    def decode(cls, data: bytes) -> Demand:
        """Take a demand apart; raise `ProtocolError` if it is none."""
        if len(data) != DEMAND_LENGTH:
            raise ProtocolError("a demand for work is malformed")
        return cls(data[0], data[1:])


def pack_work(nonce: int, message: bytes) -> bytes:
    """Return the content of CREATE_WORK."""
    return nonce.to_bytes(NONCE_LENGTH, "big") + message


def unpack_work(content: bytes) -> tuple[int, bytes]:
    """Return the nonce and the message in CREATE_WORK; raise `ProtocolError` if it is too short."""
    if len(content) < NONCE_LENGTH:
        raise ProtocolError("CREATE_WORK is malformed")
    return int.from_bytes(content[:NONCE_LENGTH], "big"), content[NONCE_LENGTH:]


def work_digest(nonce: int, seed: bytes, message: bytes) -> bytes:
    """Return the 8 bytes that a work comes to; `message` has at most 2024 bytes."""
    data = (nonce.to_bytes(NONCE_LENGTH, "big") + seed + message).ljust(_PADDED, b"\0")
    return hashlib.blake2b(data, digest_size=_DIGEST, person=_LABEL).digest()


def effort_of(digest: bytes) -> int:
    """Return the effort that a work's digest shows: its leading zero bits."""
    return 8 * _DIGEST - int.from_bytes(digest, "big").bit_length()


def search(demand: Demand, message: bytes, start: int, count: int) -> int | None:
    """Try `count` nonces from `start` on; return the first one that meets the demand, if any does.

    Takes some 5 µs a try.
    """
    tail = (demand.seed + message).ljust(_PADDED - NONCE_LENGTH, b"\0")
    bound = (1 << 8 * _DIGEST - demand.effort).to_bytes(_DIGEST + 1, "big")
    blake2b = hashlib.blake2b
    for nonce in range(start, min(start + count, _NONCES)):
        data = nonce.to_bytes(NONCE_LENGTH, "big") + tail
        if b"\0" + blake2b(data, digest_size=_DIGEST, person=_LABEL).digest() < bound:
            return nonce
    return None


class WorkBook:
    """A hop's seeds, and the works spent under them. `random` gives that many random bytes."""

    def __init__(self, random: Callable[[int], bytes], now: float) -> None:
        self._random = random
        self._current = random(SEED_LENGTH)
        self._previous: bytes | None = None
        self._since = now
        self._spent = ReplayCache(SPENT)

    def seed(self, now: float) -> bytes:
        """Return the seed of this minute."""
        age = now - self._since
        if age >= SEED_SECONDS:
            self._previous = self._current if age < 2 * SEED_SECONDS else None
            self._current = self._random(SEED_LENGTH)
            self._since = now
        return self._current

    def spend(self, nonce: int, message: bytes, least: int, now: float) -> int:
        """Return the effort of a work, and remember it; 0 if it is under `least`, or was spent."""
        current = self.seed(now)
        for seed in (current, self._previous):
            if seed is None:
                continue
            digest = work_digest(nonce, seed, message)
            effort = effort_of(digest)
            if effort >= least:
                try:
                    self._spent.add(seed, digest)
                except ProtocolError:
                    return 0
                return effort
        return 0
