"""What follows from a wallet's seed: serials' keys, and blinding factors (spec/09 §8.1). Pure."""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from fogbank.client.wallet.words import SEED_SIZE
from fogbank.directory.mint.points import blind, encode_point, hash_token, wide
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key

_PERSON: Final = b"fogbank-wallet"
_SERIAL: Final = b"serial"
_BLIND: Final = b"blind"
_KEPT: Final = 1024
_PLACE: Final = struct.Struct(">BIIQ")


class Role(IntEnum):
    """Whose a wallet is: a node's tokens must never meet its operator's own."""

    CLIENT = 1
    NODE = 2


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a seed an output is.

    `branch`: 0, or a later one after each restore; `period`: the number of the series that was
    current when the counter was taken.
    """

    role: Role
    branch: int
    period: int
    counter: int


@dataclass(frozen=True, slots=True)
class Output:
    """An output of the wallet's own: what is signed, its serial, and the factor that blinds it."""

    blinded: bytes
    serial: bytes
    blind: int = field(repr=False)


class Secrets:
    """All secrets of one wallet in one network, made of its 64-byte seed; never shown."""

    __slots__ = ("_network_id", "_recent", "_seed")

    def __init__(self, seed: bytes, network_id: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise ValueError(f"a seed has {SEED_SIZE} bytes")
        self._seed = seed
        self._network_id = network_id
        self._recent: OrderedDict[Place, Output] = OrderedDict()

    def serial_key(self, place: Place) -> Ed25519Key:
        """Return the key of the serial at a place, which spends its token."""
        return Ed25519Key(self._derive(_SERIAL, place)[:KEY_LENGTH])

    def output(self, place: Place) -> Output:
        """Return the output at a place; it takes 0.3 ms, unless it was wanted of late.

        An output is wanted when it is asked for, and again when its shares are there.
        """
        output = self._recent.get(place)
        if output is None:
            output = self._recent[place] = self._made(place)
            while len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
        return output

    def _made(self, place: Place) -> Output:
        serial = self.serial_key(place).public
        factor = wide(self._derive(_BLIND, place))
        blinded = blind(hash_token(self._network_id, serial), factor)
        return Output(encode_point(blinded), serial, factor)

    def _derive(self, what: bytes, place: Place) -> bytes:
        where = _PLACE.pack(place.role, place.branch, place.period, place.counter)
        data = what + where + self._network_id
        return hashlib.blake2b(data, key=self._seed, person=_PERSON).digest()

    def __repr__(self) -> str:
        return "<Secrets>"
