"""What an authority's core asks of its part in the mint, as effects and votes (spec/09 §4, §5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.effects import Effect, FetchMint, KeepDealings, KeepMint, Log
from fogbank.directory.mint.ballot import (
    GRANTS_EXTENSION,
    MINT_EXTENSION,
    NO_STATE,
    Grants,
    StateName,
    encode_grants,
)
from fogbank.directory.mint.contributor import MintContributor
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.network import NetworkDocument
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId, show_id


class MintPart(MintContributor):
    """A contributor with what it tells the disk, the log and the other authorities."""

    def __init__(
        self,
        network_id: bytes,
        identity: NodeId,
        secret: MintSecret | None = None,
        kept: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        super().__init__(network_id, identity, secret, kept)
        self.wanted = NO_STATE
        """A newer state than it holds, which one honest authority at least named."""
        self._fetch_ready = 0.0
        self._fetch_turn = 0
        self._granted: Grants = ()

    # Votes.

    def extensions(
        self, network: NetworkDocument, valid_after: int, grants: Grants
    ) -> tuple[tuple[int, bytes], ...]:
        """Return the extensions of a vote; `network` is the version that governs the round."""
        ballot = MINT_EXTENSION, self.ballot(network, valid_after).encode()
        if not grants or not network.test:
            return (ballot,)
        return ballot, (GRANTS_EXTENSION, encode_grants(grants))

    def tell_of(self, grants: Grants, network: NetworkDocument) -> list[Effect]:
        """Say what this authority grants by its own word, whenever that has changed."""
        if grants == self._granted:
            return []
        self._granted = grants
        if not network.test:
            return [Log("[grant] in the policy is passed over: only a test network has grants")]
        granted = ", ".join(f"{show_id(node)} {amount}" for node, amount in grants)
        return [Log(f"grants tokens of each series: {granted or 'no more'}")]

    # States.

    def take(self, document: bytes, consensus: Consensus, now: float) -> list[Effect]:
        """Take a newer state of the mint, and keep what belongs to it."""
        state = consensus.mint
        if state is None or not self.learn(consensus.valid_after, state, now):
            return []
        dealings = self.keep()
        kept: list[Effect] = [KeepDealings(dealings)] if dealings is not None else []
        return [*kept, KeepMint(consensus.valid_after, document)]

    def take_over(self, number: int, dealings: Iterable[tuple[NodeId, bytes]]) -> list[Effect]:
        """Take dealings that it lacked, from another member of a series."""
        kept = self.take_dealings(number, dealings)
        return [KeepDealings(kept)] if kept is not None else []

    def want(self, named: StateName, due: float) -> None:
        """Hear which state is the newest that one honest authority at least named in a round.

        If it has not come with a consensus by `due`, it is asked for.
        """
        self.wanted = named if named[0] > self.held.valid_after else NO_STATE
        self._fetch_ready = due

    def next_fetch(self) -> float:
        """Return when `fetch` is wanted next."""
        return math.inf if self.wanted == NO_STATE else self._fetch_ready

    def fetch(self, others: Sequence[NodeId], now: float, gap: float) -> list[Effect]:
        """Ask the others in turn, one in `gap` seconds, for a state that they go by."""
        if now < self.next_fetch():
            return []
        self.want(self.wanted if others else NO_STATE, now + gap)
        if self.wanted == NO_STATE:
            return []
        self._fetch_turn += 1
        return [FetchMint(others[self._fetch_turn % len(others)], self.wanted[0])]

    def receive(self, document: bytes, network: NetworkDocument, now: float) -> list[Effect]:
        """Take the consensus that was asked for, however old: only the state that is wanted."""
        valid_after, digest = self.wanted
        if self.wanted == NO_STATE:
            return []
        try:
            consensus = open_consensus(document, network, valid_after)
        except ProtocolError as error:
            return [Log(f"a state of the mint was not taken: {error}")]
        found = consensus.mint
        if found is None or (consensus.valid_after, found.digest()) != (valid_after, digest):
            return []
        effects = self.take(document, consensus, now)
        if effects:
            effects.append(Log(f"took the mint's state of {valid_after} from another authority"))
        self.wanted = NO_STATE
        return effects
