"""One authority's part in the mint: what it votes, what it holds, which share it has (spec/09 §4).

Everything secret follows from its mint key; what it has to keep are the newest state and the
dealings of series that live, both public.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from fogbank.directory.mint.ballot import (
    Ballot,
    Complaint,
    Judgement,
    Sent,
    StateName,
)
from fogbank.directory.mint.dealing import (
    Dealing,
    context_of,
    deal,
    decode_dealing,
    is_wronged,
    open_share,
    place_in,
    shared_key,
)
from fogbank.directory.mint.generation import under_way
from fogbank.directory.mint.points import GENERATOR_2, ORDER, decode_g2
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.mint.state import (
    COMMIT,
    COMPLAIN,
    MAX_SERIES,
    Generation,
    MintState,
    identities,
)
from fogbank.directory.network import NetworkDocument
from fogbank.relay.keys import NodeId

VALIDITY = 86_400
"""Seconds for which a consensus may be adopted (spec/05 §5.2)."""

Counts = Callable[[], Iterable[tuple[int, int]]]
"""Gives how many answers stand in the ledger of each series, by number."""


@dataclass(frozen=True, slots=True)
class HeldState:
    """The newest state that an authority holds, and what votes name it by."""

    valid_after: int = 0
    state: MintState = field(default_factory=MintState)
    digest: bytes = b""

    @property
    def name(self) -> StateName:
        """What it is named by; `NO_STATE` before there is any."""
        return self.valid_after, self.digest


class MintContributor:
    """What one authority votes and knows of the mint; without a `secret` it deals nothing.

    `kept` are the dealings that it held before a restart, by series.
    """

    def __init__(
        self,
        network_id: bytes,
        identity: NodeId,
        secret: MintSecret | None = None,
        kept: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        self.secret = secret
        self.held = HeldState()
        self.counts: Counts = tuple
        """Of its ledgers; replaced by who keeps them."""
        self._network_id = network_id
        self._identity = identity
        self._kept: dict[tuple[int, bytes], bytes] = {
            (series, hashlib.sha256(data).digest()): data for series, data in kept
        }
        self._shares: dict[int, int] = {}
        self._signed = 0

    # What it learns.

    def sign(self, valid_after: int) -> None:
        """Remember that it signed what comes of a state: what is older is never gone back to."""
        self._signed = max(self._signed, valid_after)

    def learn(self, valid_after: int, state: MintState, now: float) -> bool:
        """Take the state of a newer consensus; tell whether it did.

        Who has signed a consensus takes no older one's state for as long as that consensus might
        be adopted: else two keys of one series could both find q authorities (spec/09 §4.3).
        """
        if valid_after <= self.held.valid_after:
            return False
        if valid_after < self._signed and now < self._signed + VALIDITY:
            return False
        self.held = HeldState(valid_after, state, state.digest())
        return True

    def keep(self) -> tuple[tuple[int, bytes], ...] | None:
        """Go by the dealings of the newest state; return all to be kept, None if none changed."""
        wanted = dict(self._wanted())
        changed = self._kept.keys() != wanted.keys()
        self._kept = wanted
        self._shares = {k: v for k, v in self._shares.items() if self.held.state.series_of(k)}
        return self._all() if changed else None

    def _all(self) -> tuple[tuple[int, bytes], ...]:
        return tuple((series, data) for (series, _), data in sorted(self._kept.items()))

    def _wanted(self) -> Iterator[tuple[tuple[int, bytes], bytes]]:
        state = self.held.state
        for series in state.series:
            for _, digest in series.dealings:
                key = series.number, digest
                if key in self._kept:
                    yield key, self._kept[key]
        if state.generation is not None:
            for _, data in state.generation.dealings:
                yield (state.generation.series, hashlib.sha256(data).digest()), data

    def missing(self) -> tuple[int, ...]:
        """Return the series of which it lacks dealings, to be asked for from their members."""
        return tuple(
            series.number
            for series in self.held.state.series
            if any((series.number, digest) not in self._kept for _, digest in series.dealings)
        )

    def dealings(self, number: int) -> tuple[tuple[NodeId, bytes], ...]:
        """Return the dealings of a series that it holds, each with its dealer."""
        series = self.held.state.series_of(number)
        named = series.dealings if series is not None else ()
        return tuple(
            (dealer, self._kept[number, digest])
            for dealer, digest in named
            if (number, digest) in self._kept
        )

    def take_dealings(
        self, number: int, dealings: Iterable[tuple[NodeId, bytes]]
    ) -> tuple[tuple[int, bytes], ...] | None:
        """Take dealings that another member gave; return all to be kept, None if none is new.

        Only those count that the series' record names by their digest.
        """
        series = self.held.state.series_of(number)
        named = dict(series.dealings) if series is not None else {}
        before = len(self._kept)
        for dealer, data in dealings:
            digest = hashlib.sha256(data).digest()
            if named.get(dealer) == digest:
                self._kept[number, digest] = data
        return self._all() if len(self._kept) > before else None

    # Its share.

    def share_of(self, number: int) -> int | None:
        """Return its share of a series' key; None without a seat, or without all dealings.

        A share that does not fit its public key is none: it was dealt wrongly while this
        authority was away.
        """
        if number not in self._shares:
            share = self._opened_share(number)
            if share is None:
                return None
            self._shares[number] = share
        return self._shares[number]

    def _opened_share(self, number: int) -> int | None:
        series = self.held.state.series_of(number)
        place = series.place_of(self._identity) if series is not None else 0
        if series is None or self.secret is None or not place:
            return None
        member = series.members[place - 1]
        held = self.dealings(number)
        if member.vote_key != self.secret.keys.vote or len(held) != len(series.dealings):
            return None
        total = 0
        for dealer, data in held:
            dealing = decode_dealing(data)
            context = context_of(self._network_id, number, series.attempt, dealer)
            shared = shared_key(dealing, self.secret.decrypt)
            share = open_share(dealing, context, place, shared)
            if share is None:
                return None
            total += share
        total %= ORDER
        fits = GENERATOR_2.scalar_mul(total) == decode_g2(member.share_key)
        return total if fits else None

    # What it votes.

    def ballot(self, network: NetworkDocument, valid_after: int) -> Ballot:
        """Return what to vote in a round; `network` is the version that governs it."""
        counts = tuple(sorted(self.counts()))[-MAX_SERIES:]
        ballot = Ballot(state=self.held.name, counts=counts)
        if self.secret is None:
            return ballot
        ballot = replace(ballot, keys=self.secret.keys)
        now = under_way(self.held.state, network, valid_after)
        if now is None or not place_in(now, self._identity):
            return ballot
        return self._contribute(ballot, now, network.quorum, self.secret)

    def _contribute(
        self, ballot: Ballot, now: Generation, quorum: int, secret: MintSecret
    ) -> Ballot:
        if now.step == COMPLAIN:
            return replace(ballot, judgement=self._judgement(now, secret))
        if self._identity in now.excluded:
            return ballot
        own = self._dealt(now, quorum, secret)
        if now.step == COMMIT:
            commitment = own.commitment(self._context(now, self._identity))
            return replace(ballot, commitment=Sent(now.series, now.attempt, commitment))
        return replace(ballot, dealing=Sent(now.series, now.attempt, own.encode()))

    def _context(self, now: Generation, dealer: NodeId) -> bytes:
        return context_of(self._network_id, now.series, now.attempt, dealer)

    def _dealt(self, now: Generation, quorum: int, secret: MintSecret) -> Dealing:
        context = self._context(now, self._identity)
        polynomial = secret.polynomial(context, quorum, identities(now.committee))
        return deal(polynomial, context, now.committee)

    def _judgement(self, now: Generation, secret: MintSecret) -> Judgement | None:
        """Open what was dealt to this authority, and complain of what is wrong."""
        place = place_in(now, self._identity)
        if now.committee[place - 1].keys != secret.keys:
            # It was dealt to a key that this authority does not have any more.
            return None
        complaints: list[Complaint] = []
        for dealer, data in now.dealings:
            dealing = decode_dealing(data)
            shared = shared_key(dealing, secret.decrypt)
            if is_wronged(dealing, self._context(now, dealer), place, shared):
                complaints.append((dealer, shared))
        return Judgement(now.series, now.attempt, tuple(complaints))
