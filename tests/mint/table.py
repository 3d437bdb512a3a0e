"""Authorities around one table: their ballots are agreed on at once, round after round.

What `tests/directory/simulation.py` does with messages is left out: many liars can be tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from fogbank.directory.mint.ballot import Ballot, Grants
from fogbank.directory.mint.contributor import MintContributor
from fogbank.directory.mint.generation import Given, next_state
from fogbank.directory.mint.points import (
    GENERATOR_2,
    combine_unblind,
    decode_g2,
    hash_token,
    is_right,
    sign_share,
)
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.mint.state import MintState, SeriesRecord
from fogbank.directory.network import NetworkDocument
from fogbank.directory.schedule import nth_round
from fogbank.relay.keys import NodeId
from tests.directory.factory import make_network, seed

Lie = Callable[["Table", MintContributor, Ballot], Ballot]


class Table:
    """Authorities of one network, in the order of their identities, and the state they agree on."""

    def __init__(self, count: int = 4) -> None:
        self.network: NetworkDocument = make_network(count).document
        self.state = MintState()
        self.number = 0
        self.seats: list[MintContributor] = []
        for identity in sorted(pin.identity for pin in self.network.authorities):
            self.seats.append(self.contributor(identity))

    def amend(self, *members: int) -> None:
        """Let a later version of the network document have these of eight authorities."""
        pins = sorted(make_network(8).document.authorities, key=lambda pin: pin.identity)
        chosen = tuple(pins[i] for i in members)
        self.network = replace(self.network, authorities=chosen)
        known = {seat._identity: seat for seat in self.seats}
        self.seats = [known.get(pin.identity) or self.contributor(pin.identity) for pin in chosen]

    def contributor(self, identity: NodeId, life: int = 0) -> MintContributor:
        secret = MintSecret(seed("mint", identity, life))
        return MintContributor(self.network.network_id, identity, secret)

    @property
    def now(self) -> int:
        return nth_round(self.network, self.number).valid_after

    def round(
        self,
        absent: Collection[int] = (),
        lies: Mapping[int, Lie] | None = None,
        grants: Mapping[int, Grants] | None = None,
    ) -> MintState:
        """Hold a round; who is absent neither votes nor hears how it ends."""
        given = []
        for index, seat in enumerate(self.seats):
            if index in absent:
                continue
            self._hear(seat, self.number - 1)
            ballot = seat.ballot(self.network, self.now)
            if lies is not None and index in lies:
                ballot = lies[index](self, seat, ballot)
            given.append(Given(seat._identity, ballot, (grants or {}).get(index, ())))
        self.state = next_state(self.state, given, self.network, self.now)
        for index, seat in enumerate(self.seats):
            if index not in absent:
                self._hear(seat, self.number)
        self.number += 1
        return self.state

    def _hear(self, seat: MintContributor, number: int) -> None:
        if number >= 0:
            when = nth_round(self.network, number).valid_after
            if seat.learn(when, self.state, when):
                seat.keep()

    def rounds_until(
        self,
        series: int,
        most: int,
        absent: Collection[int] = (),
        lies: Mapping[int, Lie] | None = None,
    ) -> SeriesRecord:
        """Hold rounds until a series is there."""
        for _ in range(most):
            record = self.round(absent, lies).series_of(series)
            if record is not None:
                return record
        now = self.state.generation
        raise AssertionError(now and (now.series, now.attempt, now.step, now.rounds))

    def shares(self, number: int) -> dict[int, int]:
        """Return who has a share, by their places in the committee."""
        record = self.state.series_of(number)
        assert record is not None
        found = {record.place_of(seat._identity): seat.share_of(number) for seat in self.seats}
        return {place: share for place, share in found.items() if share is not None}


def assert_signs(series: SeriesRecord, held: Mapping[int, int], rng: random.Random) -> None:
    """Signatures by the shares of any q members verify under the series' key, and fewer do not."""
    message = hash_token(bytes(32), rng.randbytes(32))
    signed = {i: sign_share(share, message) for i, share in held.items()}
    key = decode_g2(series.key)
    for _ in range(3):
        chosen = rng.sample(sorted(signed), series.quorum)
        assert is_right(message, combine_unblind({i: signed[i] for i in chosen}, 1), key)
    fewer = {i: signed[i] for i in sorted(signed)[: series.quorum - 1]}
    assert not is_right(message, combine_unblind(fewer, 1), key)
    for place, share in held.items():
        member = series.member(place)
        assert member is not None
        assert GENERATOR_2.scalar_mul(share) == decode_g2(member.share_key)
