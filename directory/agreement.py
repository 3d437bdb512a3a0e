"""One round of one authority: votes, broadcast, computation, signatures (spec/05 §4). Sans-IO.

    opens ─► begins ─► phases 1 … b+1: broadcast ─► concludes: compute, sign ─► valid_after

What may not happen is that this authority signs two votes or two consensuses for one round, a
restart or a clock set back included. So whatever it signs is journaled first, and what the
journal holds for a round is what is sent again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fogbank.directory.broadcast import Answer, Body, Broadcast, Chain, Relayed, load
from fogbank.directory.computation import compute
from fogbank.directory.consensus import CONSENSUS_LABEL, SignedConsensus
from fogbank.directory.descriptor import DescriptorCache
from fogbank.directory.effects import (
    Effect,
    JournalSignature,
    JournalVote,
    KeepEvidence,
    Log,
    SendSignature,
    SendVote,
    SignatureMessage,
)
from fogbank.directory.mint.ballot import NO_STATE, StateName, ballot_of
from fogbank.directory.mint.contributor import HeldState
from fogbank.directory.network import NetworkDocument
from fogbank.directory.schedule import Round
from fogbank.directory.signatures import AuthoritySignature, Credentials
from fogbank.directory.vote import OpenVote, open_vote
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId

MAX_STRIKES = 16
"""Bad messages of one authority in one round, after which it is no longer heard in it."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What was signed for a round before a restart: the vote, and the consensus body."""

    vote: bytes = b""
    consensus: bytes = b""


class Agreement:
    """The state of one round; calls return effects.

    `begin`, `start` and `conclude` come once each and in this order, the others whenever they come.
    """

    def __init__(
        self,
        network: NetworkDocument,
        this: Round,
        credentials: Credentials,
        cache: DescriptorCache,
        journal: Journal,
    ) -> None:
        self.round = this
        self._network = network
        self._credentials = credentials
        self._cache = cache
        self._journal = journal
        self._broadcast = Broadcast(network, this, credentials)
        self._complete = False
        self._votes: list[OpenVote] = []
        self._strikes: dict[NodeId, int] = {}
        self._pending: dict[NodeId, SignatureMessage] = {}
        self._late: set[NodeId] = set()
        self._faults: dict[NodeId, str] = {}
        self._unsigned = ""
        self.method = 0
        """The method of the consensus that was computed; 0 if none was, or it was journaled."""
        self._body = b""
        self._signatures: dict[NodeId, AuthoritySignature] = {}

    def begin(self) -> list[Effect]:
        """Pass on the votes that came before the round began, as it begins."""
        return self._send_votes(self._broadcast.begin())

    def start(self, make_vote: Callable[[], bytes], *, complete: bool) -> list[Effect]:
        """Begin phase 1: journal and send the own vote, the journaled one if there is one.

        `complete` tells that this authority has heard everything since the round opened.
        """
        self._complete = complete
        vote = self._journal.vote
        effects: list[Effect] = []
        if not vote:
            vote = make_vote()
            effects.append(JournalVote(self.round.valid_after, vote))
        return effects + self._send_votes(self._broadcast.start(vote))

    def _send_votes(self, relayed: list[Relayed]) -> list[Effect]:
        return [SendVote(item, self.round.concludes) for item in relayed]

    def receive_vote(
        self, peer: NodeId, chain: Chain, body: Body | None, now: float
    ) -> tuple[Answer, list[Effect]]:
        """Take a chain from another authority; a bad one costs `peer` a strike, not the round."""
        if self._strikes.get(peer, 0) >= MAX_STRIKES:
            return Answer.TAKEN, []
        try:
            answer, relayed = self._broadcast.receive(chain, body, now)
        except ProtocolError as error:
            return Answer.TAKEN, self._strike(peer, error)
        effects = self._send_votes(relayed)
        if answer is Answer.LATE and peer not in self._late:
            self._late.add(peer)
            self._faults.setdefault(peer, "sent it too late")
            effects.append(Log(f"authority {self._name(peer)} sent a vote too late", trouble=True))
        return answer, effects

    def _strike(self, peer: NodeId, error: ProtocolError) -> list[Effect]:
        self._strikes[peer] = self._strikes.get(peer, 0) + 1
        self._faults.setdefault(peer, "sent garbage")
        if self._strikes[peer] > 1:
            return []
        return [Log(f"authority {self._name(peer)} sent garbage: {error}", trouble=True)]

    def _name(self, identity: NodeId) -> str:
        pin = self._network.pin(identity)
        return pin.nickname if pin else "unknown"

    def conclude(self, held: HeldState | None = None) -> list[Effect]:
        """End the broadcast: compute the consensus from the agreed votes, and sign it.

        `held` is the newest state of the mint that this authority holds.

        Who did not take part from phase 1 on may hold another set, and signs nothing new; nor
        does anyone who has signed another consensus for this round.
        """
        effects = self._show_evidence()
        try:
            self._votes, bad = self._open_votes()
        except RelayError as error:
            # Others hold it: to compute without it would be to sign another consensus.
            self._unsigned = str(error)
            return [*effects, Log(f"no consensus computed: {error}", trouble=True)]
        effects += bad
        if self._journal.consensus:
            body = self._journal.consensus
        elif not self._complete:
            self._unsigned = "this authority joined the round too late to sign in it"
            return [*effects, Log("joined this round too late to sign in it")]
        else:
            try:
                consensus = compute(self._votes, self._network, self.round, held)
                body, self.method = consensus.encode_body(), consensus.method
            except ProtocolError as error:
                self._unsigned = str(error)
                return [*effects, Log(f"no consensus computed: {error}", trouble=True)]
            effects.append(JournalSignature(self.round.valid_after, body))
        return effects + self._sign(body)

    def named_state(self) -> StateName:
        """Return the newest state of the mint that b+1 agreed votes name: one of them is honest."""
        names = Counter(ballot_of(vote.extensions).state for vote in self._votes)
        return max((n for n, k in names.items() if k > self._network.faulty), default=NO_STATE)

    def _show_evidence(self) -> list[Effect]:
        effects: list[Effect] = []
        for authority, evidence in self._broadcast.evidence().items():
            effects.append(KeepEvidence(self.round.valid_after, authority, evidence))
            self._faults[authority] = "sent two, and neither counts"
            line = f"authority {self._name(authority)} sent two votes; neither counts"
            effects.append(Log(line, trouble=True))
        return effects

    def _open_votes(self) -> tuple[list[OpenVote], list[Effect]]:
        votes: list[OpenVote] = []
        effects: list[Effect] = []
        for sender, body in sorted(self._broadcast.decided().items()):
            try:
                vote = open_vote(
                    load(body), sender, self._network, self.round.valid_after, self._cache
                )
            except ProtocolError as error:
                self._faults[sender] = f"sent one that does not count: {error}"
                line = f"the vote of {self._name(sender)} does not count: {error}"
                effects.append(Log(line, trouble=True))
            else:
                votes.append(vote)
        return votes, effects

    def roll_call(self, unreachable: Mapping[NodeId, str] | None = None) -> str:
        """Return one line: whose votes and signatures this round had, whose not, and why.

        `unreachable` tells why authorities cannot be reached, as far as that is known.
        """
        voted = {vote.authority for vote in self._votes}
        unheard = unreachable or {}
        votes = self._count_of(voted, lambda each: self._why_no_vote(each, unheard))
        if self._unsigned:
            return f"votes {votes}; not signed: {self._unsigned}"
        signed = set(self._signatures)
        signatures = self._count_of(signed, lambda each: self._why_unsigned(each, voted, unheard))
        return f"votes {votes}; signatures {signatures}"

    def _count_of(self, came: set[NodeId], reason: Callable[[NodeId], str]) -> str:
        authorities = self._network.authorities
        count = f"{len(came)}/{len(authorities)}"
        missing = [
            f"{pin.nickname} {reason(pin.identity)}".rstrip()
            for pin in authorities
            if pin.identity not in came
        ]
        return f"{count} (missing: {', '.join(missing)})" if missing else count

    def _why_no_vote(self, identity: NodeId, unreachable: Mapping[NodeId, str]) -> str:
        if identity in self._faults:
            return self._faults[identity]
        if identity == self._credentials.identity:
            return "was not ready when the round began"
        if identity in unreachable:
            return f"cannot be reached: {unreachable[identity]}"
        return "sent none"

    def _why_unsigned(
        self, identity: NodeId, voted: set[NodeId], unreachable: Mapping[NodeId, str]
    ) -> str:
        """Say it only of those who voted: of others it has been said."""
        if identity not in voted:
            return ""
        if identity in self._faults:
            return self._faults[identity]
        if identity in unreachable:
            return f"cannot be reached: {unreachable[identity]}"
        return "sent none"

    def descriptors(self) -> list[bytes]:
        """Return the descriptors in the agreed votes, so that all authorities come to know them."""
        found = {d.digest: d.data for vote in self._votes for d, _ in vote.nodes.values()}
        return list(found.values())

    def _sign(self, body: bytes) -> list[Effect]:
        self._body = body
        own = self._credentials.sign(CONSENSUS_LABEL, body)
        self._signatures[own.identity] = own
        message = SignatureMessage(self.round.valid_after, hashlib.sha256(body).digest(), own)
        effects: list[Effect] = [
            SendSignature(pin.identity, message, self.round.fresh_until)
            for pin in self._network.authorities
            if pin.identity != own.identity
        ]
        for peer, pending in self._pending.items():
            effects += self._count(peer, pending)
        self._pending.clear()
        return effects

    def receive_signature(self, peer: NodeId, message: SignatureMessage) -> list[Effect]:
        """Take an authority's own signature; it is counted once the own consensus is there."""
        if message.signature.identity != peer or self._strikes.get(peer, 0) >= MAX_STRIKES:
            return []
        if not self._body:
            self._pending[peer] = message
            return []
        return self._count(peer, message)

    def _count(self, peer: NodeId, message: SignatureMessage) -> list[Effect]:
        if peer in self._signatures:
            return []
        if message.digest != hashlib.sha256(self._body).digest():
            self._faults.setdefault(peer, "signed another consensus")
            line = f"authority {self._name(peer)} signed another consensus"
            return [Log(line, trouble=True)]
        try:
            message.signature.verify(
                self._network, CONSENSUS_LABEL, self._body, self.round.valid_after
            )
        except ProtocolError as error:
            return self._strike(peer, error)
        self._signatures[peer] = message.signature
        return []

    def signed(self, now: float) -> bytes | None:
        """Return the signed consensus: with all signatures at once, with q at `valid_after`."""
        count = len(self._signatures)
        everyone = count == len(self._network.authorities)
        if not everyone and (now < self.round.valid_after or count < self._network.quorum):
            return None
        ordered = tuple(signature for _, signature in sorted(self._signatures.items()))
        return SignedConsensus(self._body, ordered).encode()
