"""What a wallet keeps, record by record (spec/09 §8.2). Times are seconds since 1970. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeAlias

from fogbank.client.wallet.derivation import Place, Role


class Purpose(IntEnum):
    """What a request is for."""

    WITHDRAWAL = 1
    REFRESH = 2
    PAYMENT = 3
    RECEIPT = 4


class Kind(StrEnum):
    """What happened, in a wallet's history."""

    WITHDREW = "withdrew"
    PAID = "paid"
    RECEIVED = "received"
    RESTORED = "restored"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is the wallet's own: by its place, its serial's key follows from the seed.

    `locked` is H(R) of the request that it is an input of, or empty.
    """

    place: Place
    series: int
    serial: bytes
    signature: bytes = field(repr=False)
    rests_until: int = 0
    locked: bytes = b""

    @property
    def key(self) -> Place:
        """What tells it from others of its type."""
        return self.place


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request from its signing on; `id` is H(R).

    `signed`: the bytes that are sent, the same ones every time; empty for a receipt, of which there
    is the `certificate`. `inputs`: places of the tokens that it spends; `outputs`: of the
    wallet's own outputs, in R's order. `count` tokens become as many. `payment`: which one it is
    part of, or 0.
    """

    id: bytes
    purpose: Purpose
    series: int
    count: int
    signed: bytes = field(repr=False)
    certificate: bytes = field(repr=False, default=b"")
    inputs: tuple[Place, ...] = ()
    outputs: tuple[Place, ...] = ()
    payment: int = 0

    @property
    def key(self) -> bytes:
        """What tells it from others of its type."""
        return self.id

    @property
    def wants_shares(self) -> bool:
        """Whether it is certified, and its shares are to be asked for."""
        return bool(self.certificate) and self.purpose is not Purpose.PAYMENT

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: a payment's, once it is certified."""
        return bool(self.certificate) and self.purpose is Purpose.PAYMENT


@dataclass(frozen=True, slots=True)
class Offer:
    """An invoice that the wallet made: outputs, each for one use.

    `counted`: for each of them H(R) of the cheque that was counted, or empty.
    """

    number: int
    until: int
    places: tuple[Place, ...]
    blinded: tuple[bytes, ...]
    counted: tuple[bytes, ...]

    @property
    def key(self) -> int:
        """What tells it from others of its type."""
        return self.number


@dataclass(frozen=True, slots=True)
class Payment:
    """An invoice that the wallet pays, by these requests; `invoice` is its SHA-256."""

    number: int
    invoice: bytes
    amount: int
    requests: tuple[bytes, ...]
    made: int
    handed_over: bool = False

    @property
    def key(self) -> int:
        """What tells it from others of its type."""
        return self.number


@dataclass(frozen=True, slots=True)
class Counter:
    """Which outputs of a period are taken: those below `next`; those issued are below `reached`."""

    role: Role
    branch: int
    period: int
    next: int
    reached: int

    @property
    def key(self) -> tuple[Role, int, int]:
        """What tells it from others of its type."""
        return (self.role, self.branch, self.period)


@dataclass(frozen=True, slots=True)
class Units:
    """Which units of an allotment are taken: those below `next`."""

    identity: bytes
    series: int
    next: int

    @property
    def key(self) -> tuple[bytes, int]:
        """What tells it from others of its type."""
        return (self.identity, self.series)


@dataclass(frozen=True, slots=True)
class About:
    """What the wallet is: whose, in which branch it takes outputs, and how it numbers.

    `numbered`: how many payments and invoices there were.
    """

    role: Role
    branch: int = 0
    numbered: int = 0

    @property
    def key(self) -> int:
        """There is one."""
        return 0


Record: TypeAlias = Token | OpenRequest | Offer | Payment | Counter | Units | About
RECORDS: tuple[type[Record], ...] = (Token, OpenRequest, Offer, Payment, Counter, Units, About)
"""Their types; the place in this row is what a record's type is called on the disk."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the history: when, what, and how many tokens."""

    time: int
    kind: Kind
    amount: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is written at once: records that replace those of the same key, and records that go."""

    put: tuple[Record, ...] = ()
    drop: tuple[Record, ...] = ()
    history: tuple[Entry, ...] = ()

    @property
    def requests(self) -> tuple[OpenRequest, ...]:
        """The requests that were made or changed."""
        return tuple(each for each in self.put if isinstance(each, OpenRequest))


@dataclass(frozen=True, slots=True)
class Balance:
    """Tokens, counted.

    `ready` to be spent; `resting` until `rests_until` at the latest; `on_its_way`: asked for, and
    not there yet; `leaving`: in payments that are not handed over; `handed_over`: in cheques that
    could be handed over again; `expiring`: of those ready and resting, as payment taken for less
    than a week, until `expires`; `too_old` to be taken.
    """

    ready: int = 0
    resting: int = 0
    rests_until: int = 0
    on_its_way: int = 0
    leaving: int = 0
    handed_over: int = 0
    expiring: int = 0
    expires: int = 0
    too_old: int = 0
