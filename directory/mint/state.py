"""What consensuses say of the mint: keys, key generation, series, allotments (spec/09 §4.3).

Points stay compressed bytes of the right length: whoever computes with one decodes it first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from fogbank.directory.network import MAX_AUTHORITIES
from fogbank.relay.codec import MAX_UINT, Record, Value, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId

G1_LENGTH = 48
G2_LENGTH = 96
DIGEST_LENGTH = 32
DEALING_LIMIT = 8 << 10
MAX_SERIES = 16
MAX_ALLOTMENTS = 65_536
MAX_ATTEMPT = 2**32 - 1
MAX_ROUNDS = 255
COMMIT, DEAL, COMPLAIN = 1, 2, 3
"""The steps of key generation (spec/09 §4.2)."""

_T = TypeVar("_T")

Pairs = tuple[tuple[NodeId, bytes], ...]
"""Bytes of one authority each, in the order of their identities."""


@dataclass(frozen=True, slots=True)
class MintKeys:
    """An authority's public mint keys (spec/09 §3): Y1 in G1, Y2 in G2, V for its votes."""

    y1: bytes
    y2: bytes
    vote: bytes

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.y1, self.y2, self.vote]


@dataclass(frozen=True, slots=True)
class Seat:
    """A place in the committee of a generation; without keys nothing is dealt to it."""

    identity: NodeId
    keys: MintKeys | None = None

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.identity, *(self.keys.value() if self.keys else (b"", b"", b""))]


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation under way; `commitments` and `dealings` are of the present attempt.

    From the second step on, `committee` holds the keys that are dealt to. In the third,
    `answered` are the members that judged what was dealt to them. `rounds` are those so far in
    which a step was waited in.
    """

    series: int
    attempt: int
    step: int
    committee: tuple[Seat, ...]
    excluded: tuple[NodeId, ...] = ()
    commitments: Pairs = ()
    dealings: Pairs = ()
    answered: tuple[NodeId, ...] = ()
    rounds: int = 0

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [
            self.series,
            self.attempt,
            self.step,
            [seat.value() for seat in self.committee],
            list(self.excluded),
            [list(pair) for pair in self.commitments],
            [list(pair) for pair in self.dealings],
            list(self.answered),
            self.rounds,
        ]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a series' committee.

    `vote_key` is V, empty if the member had no keys and so no share; `share_key` is X_i. `count` is
    the highest number of answers in its ledger that it named (spec/09 §7.4).
    """

    identity: NodeId
    vote_key: bytes
    share_key: bytes
    count: int = 0

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.identity, self.vote_key, self.share_key, self.count]


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """A series whose keys were generated; members count from 1.

    `dealings` are the SHA-256 of those that its keys are made of, dealt in that `attempt`.
    """

    number: int
    quorum: int
    key: bytes
    members: tuple[Member, ...]
    dealings: Pairs
    attempt: int = 0

    @property
    def faulty(self) -> int:
        """How many members may be faulty at once."""
        return len(self.members) - self.quorum

    def place_of(self, identity: NodeId) -> int:
        """Return a member's number, from 1; 0 if that identity is not a member."""
        places = (i for i, each in enumerate(self.members, 1) if each.identity == identity)
        return next(places, 0)

    def member(self, place: int) -> Member | None:
        """Return the member of that number, from 1; None if there is none."""
        return self.members[place - 1] if 1 <= place <= len(self.members) else None

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [
            self.number,
            self.attempt,
            self.quorum,
            self.key,
            [member.value() for member in self.members],
            [list(pair) for pair in self.dealings],
        ]


@dataclass(frozen=True, slots=True)
class Allotment:
    """What a node may withdraw into one series, in tokens."""

    identity: NodeId
    series: int
    amount: int

    @property
    def key(self) -> tuple[NodeId, int]:
        """What allotments are ordered by."""
        return self.identity, self.series


@dataclass(frozen=True, slots=True)
class MintState:
    """The whole state of the mint: the same for all who hold a consensus.

    `keys` are in the order of identities, `series` of their numbers, `allotments` of identities,
    then series.
    """

    keys: tuple[tuple[NodeId, MintKeys], ...] = ()
    generation: Generation | None = None
    series: tuple[SeriesRecord, ...] = ()
    allotments: tuple[Allotment, ...] = ()
    _amounts: dict[tuple[NodeId, int], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        amounts = {each.key: each.amount for each in self.allotments}
        object.__setattr__(self, "_amounts", amounts)

    def series_of(self, number: int) -> SeriesRecord | None:
        """Return the series of that number if its keys are there."""
        return next((series for series in self.series if series.number == number), None)

    def allotted(self, identity: NodeId, series: int) -> int:
        """Return how many tokens a node may withdraw into a series."""
        return self._amounts.get((identity, series), 0)

    def value(self) -> Value:
        """Return the CBOR map."""
        fields: dict[int, Value] = {
            1: [[identity, *keys.value()] for identity, keys in self.keys],
            3: [series.value() for series in self.series],
            4: [[each.identity, each.series, each.amount] for each in self.allotments],
        }
        if self.generation is not None:
            fields[2] = self.generation.value()
        return fields

    def encode(self) -> bytes:
        """Return the bytes that the digest is of."""
        return encode(self.value())

    def digest(self) -> bytes:
        """Return the SHA-256 that votes name this state by."""
        return hashlib.sha256(self.encode()).digest()


# Reading.


def state_from_value(value: Any) -> MintState:
    """Read a `MintState`; raise `ProtocolError` for anything else."""
    record = Record(value, "the mint's state")
    state = MintState(
        keys=record.array(1, MAX_AUTHORITIES, _keys_from_value),
        generation=_generation_from_value(record.value(2)) if record.has(2) else None,
        series=record.array(3, MAX_SERIES, _series_from_value),
        allotments=record.array(4, MAX_ALLOTMENTS, _allotment_from_value),
    )
    record.done()
    _in_order([identity for identity, _ in state.keys])
    _in_order([series.number for series in state.series])
    _in_order([allotment.key for allotment in state.allotments])
    return state


def _in_order(keys: Sequence[Any]) -> None:
    if any(a >= b for a, b in pairwise(keys)):
        raise ProtocolError("the mint's state has entries out of order, or twice")


def is_uint(value: object, most: int = MAX_UINT) -> bool:
    """Tell whether a decoded value is an integer from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def is_bytes(value: object, *lengths: int) -> bool:
    """Tell whether a decoded value is a byte string of one of those lengths."""
    return type(value) is bytes and len(value) in lengths


def mint_keys_from_value(y1: Any, y2: Any, vote: Any) -> MintKeys:
    """Read the three keys; their points are not looked at."""
    if not (is_bytes(y1, G1_LENGTH) and is_bytes(y2, G2_LENGTH) and is_bytes(vote, KEY_LENGTH)):
        raise ProtocolError("mint keys are not 48, 96 and 32 bytes")
    return MintKeys(y1, y2, vote)


def _keys_from_value(item: Any) -> tuple[NodeId, MintKeys]:
    match item:
        case [identity, y1, y2, vote] if is_bytes(identity, KEY_LENGTH):
            return identity, mint_keys_from_value(y1, y2, vote)
        case _:
            raise ProtocolError("the mint's state holds something else than an authority's keys")


def _seat_from_value(item: Any) -> Seat:
    match item:
        case [identity, b"", b"", b""] if is_bytes(identity, KEY_LENGTH):
            return Seat(identity)
        case _:
            return Seat(*_keys_from_value(item))


def _list_of(items: Any, most: int, read: Callable[[Any], _T]) -> tuple[_T, ...]:
    if type(items) is not list or len(items) > most:
        raise ProtocolError("the mint's state has a list that is none, or too long")
    return tuple(map(read, items))


def _identity(item: Any) -> NodeId:
    if not is_bytes(item, KEY_LENGTH):
        raise ProtocolError("the mint's state has an identity that is not 32 bytes")
    return NodeId(item)


def _pairs(items: Any, least: int, most: int) -> Pairs:
    def pair(item: Any) -> tuple[NodeId, bytes]:
        match item:
            case [bytes(dealer), bytes(data)] if (
                len(dealer) == KEY_LENGTH and least <= len(data) <= most
            ):
                return dealer, data
            case _:
                raise ProtocolError("the mint's state holds something else than a dealer's bytes")

    pairs = _list_of(items, MAX_AUTHORITIES, pair)
    _in_order([dealer for dealer, _ in pairs])
    return pairs


def _generation_from_value(item: Any) -> Generation:
    match item:
        case [series, attempt, step, committee, excluded, commitments, dealings, *rest] if (
            is_uint(series)
            and is_uint(attempt, MAX_ATTEMPT)
            and is_uint(step, COMPLAIN)
            and step
            and len(rest) == 2
            and is_uint(rest[1], MAX_ROUNDS)
        ):
            generation = Generation(
                series,
                attempt,
                step,
                _list_of(committee, MAX_AUTHORITIES, _seat_from_value),
                _list_of(excluded, MAX_AUTHORITIES, _identity),
                _pairs(commitments, DIGEST_LENGTH, DIGEST_LENGTH),
                _pairs(dealings, 1, DEALING_LIMIT),
                _list_of(rest[0], MAX_AUTHORITIES, _identity),
                rest[1],
            )
        case _:
            raise ProtocolError("the mint's state has a key generation that is none")
    _in_order(identities(generation.committee))
    _in_order(generation.excluded)
    _in_order(generation.answered)
    return generation


def identities(seats: Iterable[Seat | Member]) -> list[NodeId]:
    """Return the identities of seats, in their order."""
    return [seat.identity for seat in seats]


def _member_from_value(item: Any) -> Member:
    match item:
        case [identity, vote_key, share_key, count] if (
            is_bytes(identity, KEY_LENGTH)
            and is_bytes(vote_key, 0, KEY_LENGTH)
            and is_bytes(share_key, G2_LENGTH)
            and is_uint(count)
        ):
            return Member(identity, vote_key, share_key, count)
        case _:
            raise ProtocolError("the mint's state holds something else than a member of a series")


def _series_from_value(item: Any) -> SeriesRecord:
    match item:
        case [number, attempt, quorum, key, members, dealings] if (
            is_uint(number)
            and is_uint(attempt, MAX_ATTEMPT)
            and is_uint(quorum, MAX_AUTHORITIES)
            and is_bytes(key, G2_LENGTH)
        ):
            series = SeriesRecord(
                number,
                quorum,
                key,
                _list_of(members, MAX_AUTHORITIES, _member_from_value),
                _pairs(dealings, DIGEST_LENGTH, DIGEST_LENGTH),
                attempt,
            )
        case _:
            raise ProtocolError("the mint's state holds something else than a series")
    _in_order(identities(series.members))
    if not 1 <= series.quorum <= len(series.members):
        raise ProtocolError("a series has a quorum that its committee cannot reach")
    return series


def _allotment_from_value(item: Any) -> Allotment:
    match item:
        case [identity, series, amount] if (
            is_bytes(identity, KEY_LENGTH) and is_uint(series) and is_uint(amount) and amount
        ):
            return Allotment(identity, series, amount)
        case _:
            raise ProtocolError("the mint's state holds something else than an allotment")
