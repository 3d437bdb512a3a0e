"""Seeds that nobody chose: drawn by commit and reveal in the votes (spec/05 §6.3). All pure.

Time is cut into slots of some rounds. In the first half of a slot each authority's votes carry a
commitment to a value, in the second half the value. The next slot begins with the seed that the
revealed values give; it serves one of 30 classes of workers, until that class's turn comes again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fogbank.directory.network import MAX_AUTHORITIES, NetworkDocument
from fogbank.directory.schedule import Round, nth_round
from fogbank.relay.codec import MAX_UINT, Value, decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId

EXTENSION = 1
"""The number of the vote's extension that holds a `Share` (spec/05 §3.1)."""
CLASSES = 30
"""Classes of workers, each with a seed of its own: as many slots as a seed holds."""
VALUE_LENGTH = 32
SHARE_LIMIT = 12 << 10
_SLOT_SECONDS = 86_400
_LEAST_ROUNDS = 4
_VALUE_LABEL = "fogbank-random-value-v1"
_COMMIT_LABEL = b"fogbank-random-commit-v1\0"
_SEED_LABEL = b"fogbank-random-seed-v1\0"
_CLASS_LABEL = b"fogbank-random-class-v1\0"

Values = tuple[tuple[NodeId, bytes], ...]
"""One value an authority, in the order of their identities."""


def slot_rounds(network: NetworkDocument) -> int:
    """Return how many rounds a slot has: a day's, but 4 at least; always 4 in a test network."""
    if network.test:
        return _LEAST_ROUNDS
    return max(_LEAST_ROUNDS, _SLOT_SECONDS // network.timing.interval)


def class_of(network_id: bytes, worker: NodeId) -> int:
    """Return the class of a worker: the seeds of slots with this remainder by 30 are its own."""
    digest = hashlib.sha256(_CLASS_LABEL + network_id + worker).digest()
    return int.from_bytes(digest[:8], "big") % CLASSES


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed drawn in a slot. It ranks first the relays listed `before` anyone committed to it."""

    slot: int
    before: int
    value: bytes


@dataclass(frozen=True, slots=True)
class RandomState:
    """What a consensus says of this slot's values, and of the seeds that are in use."""

    slot: int
    commits: Values = ()
    reveals: Values = ()
    seeds: tuple[Seed, ...] = ()

    def value(self) -> Value:
        """Return the CBOR array."""
        return [
            self.slot,
            [list(pair) for pair in self.commits],
            [list(pair) for pair in self.reveals],
            [[seed.slot, seed.before, seed.value] for seed in self.seeds],
        ]

    def seed_of(self, network_id: bytes, worker: NodeId) -> Seed | None:
        """Return the seed that a worker's contacts follow from, None before its class has one."""
        wanted = class_of(network_id, worker)
        return next((seed for seed in self.seeds if seed.slot % CLASSES == wanted), None)


def state_from_value(value: Any) -> RandomState:
    """Read a `RandomState`; raise `ProtocolError` for anything else."""
    match value:
        case [int(slot), list(commits), list(reveals), list(seeds)] if (
            _is_uint(slot) and len(seeds) <= CLASSES
        ):
            state = RandomState(
                slot, _values(commits), _values(reveals), tuple(map(_seed_from_value, seeds))
            )
        case _:
            raise ProtocolError("the shared randomness is not [slot, commits, reveals, seeds]")
    if any(a.slot >= b.slot for a, b in pairwise(state.seeds)):
        raise ProtocolError("the shared randomness has seeds out of order, or twice")
    if len({seed.slot % CLASSES for seed in state.seeds}) != len(state.seeds):
        raise ProtocolError("the shared randomness has two seeds of one class")
    return state


def _is_uint(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_UINT


def _values(items: list[Any]) -> Values:
    if len(items) > MAX_AUTHORITIES:
        raise ProtocolError("the shared randomness is of too many authorities")
    values = tuple(map(_pair, items))
    if any(a[0] >= b[0] for a, b in pairwise(values)):
        raise ProtocolError("the shared randomness has authorities out of order, or twice")
    return values


def _pair(item: Any) -> tuple[NodeId, bytes]:
    match item:
        case [bytes(identity), bytes(value)] if (
            len(identity) == KEY_LENGTH and len(value) == VALUE_LENGTH
        ):
            return identity, value
        case _:
            raise ProtocolError("the shared randomness holds something else than [identity, value]")


def _seed_from_value(item: Any) -> Seed:
    match item:
        case [slot, before, bytes(value)] if (
            _is_uint(slot) and _is_uint(before) and len(value) == VALUE_LENGTH
        ):
            return Seed(slot, before, value)
        case _:
            raise ProtocolError("the shared randomness holds something else than a seed")


@dataclass(frozen=True, slots=True)
class Share:
    """What one vote gives: the state in the consensus of `valid_after`, a commitment, a value.

    `state` is the newest that the authority knows, None if it knows none. `commit` and `reveal`
    are empty outside their halves of a slot.
    """

    valid_after: int = 0
    state: RandomState | None = None
    commit: bytes = b""
    reveal: bytes = b""

    def encode(self) -> bytes:
        """Return the extension's bytes."""
        state: Value = [] if self.state is None else self.state.value()
        return encode([self.valid_after, state, self.commit, self.reveal])


def decode_share(data: bytes) -> Share:
    """Read the extension of a vote; raise `ProtocolError` for anything else."""
    match decode(data, SHARE_LIMIT):
        case [valid_after, state, bytes(commit), bytes(reveal)] if (
            _is_uint(valid_after)
            and len(commit) in {0, VALUE_LENGTH}
            and len(reveal) in {0, VALUE_LENGTH}
        ):
            known = None if state == [] else state_from_value(state)
            return Share(valid_after, known, commit, reveal)
        case _:
            raise ProtocolError("a vote's randomness is not [valid_after, state, commit, reveal]")


@dataclass(slots=True)
class Contributor:
    """What one authority gives to each slot. Its value follows from its signing key.

    A restart therefore changes nothing. A value once committed to is remembered, so that a new
    signing key does not keep it from being revealed.
    """

    network: NetworkDocument
    identity: NodeId
    valid_after: int = 0
    state: RandomState | None = None
    _values: dict[int, bytes] = field(default_factory=dict, repr=False)

    def learn(self, valid_after: int, state: RandomState | None) -> None:
        """Take the state from a newer consensus, if it has one."""
        if state is not None and valid_after > self.valid_after:
            self.valid_after, self.state = valid_after, state

    def share(self, this: Round, key: Ed25519Key) -> bytes:
        """Return the extension for the vote of a round, to be signed with `key` as well."""
        slot, committing = slot_at(self.network, this)
        commit = reveal = b""
        if slot:
            value = self._value(slot, key)
            if committing:
                commit = commitment(self.network.network_id, slot, self.identity, value)
            else:
                reveal = value
        return Share(self.valid_after, self.state, commit, reveal).encode()

    def _value(self, slot: int, key: Ed25519Key) -> bytes:
        if slot not in self._values:
            body = encode({1: self.network.network_id, 2: slot})
            self._values = {slot: hashlib.sha256(key.sign(_VALUE_LABEL, body)).digest()}
        return self._values[slot]


def slot_at(network: NetworkDocument, this: Round) -> tuple[int, bool]:
    """Return the slot of a round, and whether it is in the half in which values are committed to.

    Slot 0 draws nothing: no relay was listed before it.
    """
    rounds = slot_rounds(network)
    slot, place = divmod(this.number, rounds)
    return slot, 2 * place < rounds


def commitment(network_id: bytes, slot: int, authority: NodeId, value: bytes) -> bytes:
    """Return what an authority commits to a value with."""
    return hashlib.sha256(
        _COMMIT_LABEL + network_id + slot.to_bytes(8, "big") + authority + value
    ).digest()


def advance(
    shares: Sequence[tuple[NodeId, Share]], network: NetworkDocument, this: Round
) -> RandomState:
    """Return the state that a round's agreed votes give; the votes may be in any order."""
    known = _known(shares, network.faulty)
    slot, committing = slot_at(network, this)
    if known is None or known.slot != slot:
        state = RandomState(slot, seeds=_seeds(known, network))
    else:
        state = known
    if not slot:
        return state
    if committing:
        commits = dict(state.commits)
        for authority, share in shares:
            if share.commit:
                # The first one counts: nobody may change its mind.
                commits.setdefault(authority, share.commit)
        return RandomState(slot, _ordered(commits.items()), (), state.seeds)
    commits, reveals = dict(state.commits), dict(state.reveals)
    for authority, share in shares:
        given = commitment(network.network_id, slot, authority, share.reveal)
        if share.reveal and commits.get(authority) == given:
            reveals[authority] = share.reveal
    return RandomState(slot, state.commits, _ordered(reveals.items()), state.seeds)


def _ordered(pairs: Iterable[tuple[NodeId, bytes]]) -> Values:
    return tuple(sorted(pairs))


def _known(shares: Sequence[tuple[NodeId, Share]], faulty: int) -> RandomState | None:
    """Return the newest state that b+1 votes carry alike: one of those is honest."""
    alike = Counter((s.valid_after, encode(s.state.value())) for _, s in shares if s.state)
    trusted = [known for known, count in alike.items() if count > faulty]
    if not trusted:
        return None
    _, data = max(trusted)
    return state_from_value(decode(data, SHARE_LIMIT))


def _seeds(last: RandomState | None, network: NetworkDocument) -> tuple[Seed, ...]:
    """Return the seeds after a slot has ended: its own takes the place of its class's last."""
    if last is None:
        return ()
    if len(last.reveals) <= network.faulty:
        # Nobody honest need be among those who revealed: the class keeps what it has.
        return last.seeds
    start = _SEED_LABEL + network.network_id + last.slot.to_bytes(8, "big")
    joined = b"".join(authority + value for authority, value in last.reveals)
    first = nth_round(network, last.slot * slot_rounds(network))
    drawn = Seed(last.slot, first.valid_after, hashlib.sha256(start + joined).digest())
    others = [seed for seed in last.seeds if (seed.slot - drawn.slot) % CLASSES]
    return tuple(sorted((*others, drawn), key=lambda seed: seed.slot))
