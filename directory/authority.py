"""An authority: rounds on schedule, nodes observed, one consensus after another. Sans-IO.

The shell calls `handle_timer` when `next_timer` says, and one of the `receive_…` and result
methods for whatever arrives; each returns effects to carry out in order (`effects.py`).
Whatever another authority sends, at worst one logged line names it (spec/05 §4, §8).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

from fogbank.directory.agreement import Agreement, Journal
from fogbank.directory.broadcast import Answer, Body, Chain
from fogbank.directory.consensus import (
    MAX_REVOKED,
    MINT_METHOD,
    Consensus,
    method_of,
    open_consensus,
    reopen_consensus,
)
from fogbank.directory.descriptor import Descriptor, DescriptorCache
from fogbank.directory.effects import (
    Adopted,
    Effect,
    FetchConsensus,
    JournalConsensus,
    JournalSignature,
    JournalVote,
    Log,
    NodeRecord,
    Probe,
    SignatureMessage,
)
from fogbank.directory.mint.office import members
from fogbank.directory.mint.part import MintPart
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.network import NetworkDocument
from fogbank.directory.nodes import NodeTable
from fogbank.directory.rules import EVERYONE, Rules
from fogbank.directory.schedule import Round, nth_round, round_at
from fogbank.directory.shared_random import EXTENSION, Contributor
from fogbank.directory.signatures import Credentials
from fogbank.directory.vote import Policy, Vote
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId

MAX_FETCH_GAP = 10.0
"""Seconds between two tries to fetch a consensus that was missed."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the store held at start: journals by `valid_after`, nodes, the newest consensus.

    `mint` is the consensus with the newest state of the mint, often the same; `dealings` are those
    of series that live.
    """

    journals: dict[int, Journal] = field(default_factory=dict)
    nodes: tuple[NodeRecord, ...] = ()
    consensus: bytes = b""
    mint: bytes = b""
    dealings: tuple[tuple[int, bytes], ...] = ()


class Authority:
    """The state of one authority, and every decision that it takes."""

    def __init__(
        self,
        network: NetworkDocument,
        credentials: Credentials,
        restored: Restored,
        now: float,
        policy: Policy | None = None,
        mint: MintSecret | None = None,
    ) -> None:
        self.network = network
        self.credentials = credentials
        """Replaced by the shell when the signing key changes; it counts from the next round."""
        self.policy = policy or Policy()
        self.rules: Rules = EVERYONE
        """Both as the operator wants them; what the shell puts here counts from the next vote."""
        self.consensus: Consensus | None = None
        self._journals = dict(restored.journals)
        self._cache = DescriptorCache(network)
        self.nodes = NodeTable(network, self._cache)
        self.nodes.restore(restored.nodes, now)
        self.summary = "no round has ended yet"
        """One line on the last round, for operators: who took part, who was missing and why."""
        self.unreachable: dict[NodeId, str] = {}
        """Why other authorities cannot be reached now; kept by the shell, for `summary`."""
        self._own: Descriptor | None = None
        self._fetch_ready = now
        self._fetch_turn = 0
        self._randomness = Contributor(network, credentials.identity)
        self.mint = MintPart(network.network_id, credentials.identity, mint, restored.dealings)
        """Its part in key generation, and its shares."""
        self._greeting = self._resume(restored, now)
        self._enter(round_at(network, now), now, up=False)

    def _resume(self, restored: Restored, now: float) -> list[Effect]:
        """Take up the newest consensus on disk; of expired ones the seeds and the mint at least."""
        effects: list[Effect] = []
        journaled = [(k, v.consensus) for k, v in restored.journals.items() if v.consensus]
        signed = max((k for k, body in journaled if method_of(body) >= MINT_METHOD), default=0)
        if restored.mint != restored.consensus:
            # What it held before it signed; what came after is judged by what it signed.
            effects += self._reopen(restored.mint, now) if restored.mint else []
            self.mint.sign(signed)
        if restored.consensus:
            effects += self._adopt(restored.consensus, now)
            if self.consensus is None:
                effects += self._reopen(restored.consensus, now)
        self.mint.sign(signed)
        return effects

    def _reopen(self, document: bytes, now: float) -> list[Effect]:
        with suppress(ProtocolError):
            last = reopen_consensus(document, self.network)
            self._randomness.learn(last.valid_after, last.random)
            return self.mint.take(document, last, now)
        return []

    def go_over(self, network: NetworkDocument, now: float) -> None:
        """Go by a later version of the network document from now on; it must be verified."""
        before = self.network.governing(self._round.valid_after)
        self.network = self._cache.network = network
        if network.governing(self._round.valid_after).digest != before.digest:
            # It was in force before it came: this round goes by it, and has begun without it.
            self._enter(nth_round(network, self._round.number), now, up=False)

    # Time.

    def _enter(self, this: Round, now: float, *, up: bool) -> None:
        """Make `this` the current round. Who enters it late never signs anything new in it.

        Who was `up` before has missed nothing by being a little late: what came first waited.
        """
        self._journals = {k: v for k, v in self._journals.items() if k >= this.valid_after}
        journal = self._journals.get(this.valid_after, Journal())
        self._round = this
        self._complete = now <= this.begins + (this.phase / 2 if up else 0)
        self._agreement = Agreement(
            self._governing(this), this, self.credentials, self._cache, journal
        )
        self._steps = [this.begins, this.concludes, this.valid_after]

    def _governing(self, this: Round) -> NetworkDocument:
        """Return the version of the network document that governs a round."""
        return self.network.governing(this.valid_after)

    def next_timer(self) -> float:
        """Return when `handle_timer` is wanted next, in seconds since 1970."""
        times = [nth_round(self.network, self._round.number + 1).opens, *self._steps[:1]]
        times.append(max(self._fetch_ready, self._due_consensus()[1]))
        times.append(self.mint.next_fetch())
        probe = self.nodes.next_probe()
        return min(times if probe is None else [*times, probe])

    def handle_timer(self, now: float) -> list[Effect]:
        """Do everything that is due at `now`."""
        effects, self._greeting = self._greeting, []
        effects += self._advance(now)
        effects += self._fetch(now)
        effects += self.mint.fetch(self._others(), now, self._fetch_gap())
        return self._noted(effects + self.nodes.probes(now))

    def _advance(self, now: float) -> list[Effect]:
        """Take the steps of this round that are due, then enter the round that is open now."""
        effects: list[Effect] = []
        while self._steps and self._steps[0] <= now:
            effects += self._step(self._steps.pop(0), now)
        this = round_at(self.network, now)
        if this.number > self._round.number:
            if self._held() < self._round.valid_after:
                self.summary = self._sum_up()
                effects.append(Log(self.summary, trouble=self._complete and self._is_in_office()))
            effects += self.nodes.expire(now)
            self._enter(this, now, up=True)
            return effects + self._advance(now)
        return effects

    def _step(self, due: float, now: float) -> list[Effect]:
        if not self._is_in_office():
            # Not an authority yet, or not any more: it only keeps up.
            return []
        if due == self._round.begins:
            # A vote that leaves after the middle of phase 1 might count for some and not others.
            early = self._agreement.begin()
            if now >= due + self._round.phase / 2:
                return early
            effects = self._agreement.start(lambda: self._make_vote(now), complete=self._complete)
            return self.mint.tell_of(self.policy.grants, self.network) + effects + early
        if due == self._round.concludes:
            effects = self._agreement.conclude(self.mint.held)
            if self._agreement.method >= MINT_METHOD:
                self.mint.sign(self._round.valid_after)
            due = self._round.valid_after + self._round.phase
            self.mint.want(self._agreement.named_state(), due)
            for descriptor in self._agreement.descriptors():
                with suppress(ProtocolError):
                    effects += self.nodes.accept(descriptor, now, agreed=True)
            return effects + self._try_adopt(now)
        return self._try_adopt(now)

    def _make_vote(self, now: float) -> bytes:
        valid_after = self._round.valid_after
        own = self._own
        if own is not None:
            try:
                own.check_time(valid_after)
            except ProtocolError:
                own = None
        vote = Vote(
            valid_after,
            self._votable_policy(),
            self.consensus.digest if self.consensus else b"",
            own.data if own else b"",
            self.nodes.listings(
                valid_after, now, self.consensus, self.rules, members(self.mint.held.state)
            ),
            (
                (EXTENSION, self._randomness.share(self._round, self.credentials.key)),
                *self.mint.extensions(
                    self._governing(self._round), valid_after, self.policy.grants
                ),
            ),
        )
        return vote.sign(self.network.network_id, self.credentials)

    def _votable_policy(self) -> Policy:
        """Return the policy with everyone in it whom the rules reject."""
        revoked = set(self.policy.revoked)
        others = sorted(self.nodes.rejected(self.rules) - revoked)
        kept = (*revoked, *others[: MAX_REVOKED - len(revoked)])
        return replace(self.policy, revoked=tuple(sorted(kept)))

    def _noted(self, effects: list[Effect]) -> list[Effect]:
        """Remember what is being journaled, so that the same run signs nothing twice either."""
        for effect in effects:
            match effect:
                case JournalVote(valid_after, vote):
                    known = self._journals.get(valid_after, Journal())
                    self._journals[valid_after] = replace(known, vote=vote)
                case JournalSignature(valid_after, body):
                    known = self._journals.get(valid_after, Journal())
                    self._journals[valid_after] = replace(known, consensus=body)
        return effects

    # The consensus.

    def _held(self) -> int:
        return self.consensus.valid_after if self.consensus else 0

    def _try_adopt(self, now: float) -> list[Effect]:
        if self._held() >= self._round.valid_after:
            return []
        document = self._agreement.signed(now)
        if not document:
            return []
        effects = self._adopt(document, now)
        if self._held() == self._round.valid_after:
            self.summary = self._sum_up()
            effects.append(Log(self.summary))
        return effects

    def _is_in_office(self) -> bool:
        """Tell whether it has a vote in the current round."""
        return self._governing(self._round).is_authority(self.credentials.identity)

    def _sum_up(self) -> str:
        if not self._is_in_office():
            return f"{self._named_round()}: this authority is not in office and has no vote"
        return f"{self._named_round()}: {self._agreement.roll_call(self.unreachable)}"

    def _named_round(self) -> str:
        consensus = self.consensus
        if consensus is None or consensus.valid_after < self._round.valid_after:
            return f"no consensus of {self._round.valid_after}"
        return f"consensus of {consensus.valid_after}, {len(consensus.entries)} nodes"

    def _adopt(self, document: bytes, now: float) -> list[Effect]:
        """Put a consensus that passes the gate, and is newer, in place of the one held."""
        try:
            consensus = open_consensus(document, self.network, now, not_before=self._held() + 1)
        except ProtocolError as error:
            return [Log(f"a consensus was not taken: {error}")]
        self.consensus = consensus
        self._randomness.learn(consensus.valid_after, consensus.random)
        journal = JournalConsensus(consensus.valid_after, document)
        taken = self.mint.take(document, consensus, now)
        return [journal, *taken, Adopted(document, consensus)]

    def _due_consensus(self) -> tuple[int, float]:
        """Return the `valid_after` of the next consensus to be missed, and when it is missed.

        It is the current round's, half a phase after its time, or before that the last one's.
        """
        this = self._round
        if self._held() >= this.valid_after:
            this = nth_round(self.network, this.number + 1)
        elif this.number and self._held() < self._last().valid_after:
            this = self._last()
        return this.valid_after, this.valid_after + this.phase / 2

    def _last(self) -> Round:
        return nth_round(self.network, self._round.number - 1)

    def _fetch(self, now: float) -> list[Effect]:
        """Ask the others in turn for a consensus that should be there and is not."""
        others = self._others()
        if not others:
            self._fetch_ready = self._round.fresh_until
        if now < max(self._fetch_ready, self._due_consensus()[1]):
            return []
        self._fetch_ready = now + self._fetch_gap()
        self._fetch_turn += 1
        return [FetchConsensus(others[self._fetch_turn % len(others)])]

    def _fetch_gap(self) -> float:
        return min(self._round.phase, MAX_FETCH_GAP)

    def _others(self) -> list[NodeId]:
        """Return the other authorities of the round's version."""
        pins = self._governing(self._round).authorities
        return [pin.identity for pin in pins if not self._is_me(pin.identity)]

    def _is_me(self, identity: NodeId) -> bool:
        return identity == self.credentials.identity

    def receive_consensus(self, document: bytes, now: float) -> list[Effect]:
        """Take a consensus that an authority gave; only a newer one with q signatures counts."""
        effects = self._advance(now)
        before = self._held()
        effects += self._adopt(document, now)
        if self._held() > before:
            effects.append(Log(f"took the consensus of {self._held()} from another authority"))
            if not self._is_in_office():
                self.summary = self._sum_up()
        return self._noted(effects)

    def receive_mint(self, document: bytes, now: float) -> list[Effect]:
        """Take a consensus that an authority gave for its state of the mint."""
        return self.mint.receive(document, self.network, now)

    # Other authorities and nodes.

    def receive_vote(
        self, peer: NodeId, chain: Chain, body: Body | None, now: float
    ) -> tuple[Answer, list[Effect]]:
        """Take a chain from another authority, which the link has identified as `peer`."""
        effects = self._advance(now)
        answer, more = self._agreement.receive_vote(peer, chain, body, now)
        return answer, self._noted(effects + more)

    def receive_signature(
        self, peer: NodeId, message: SignatureMessage, now: float
    ) -> list[Effect]:
        """Take a consensus signature from another authority."""
        effects = self._advance(now)
        if message.valid_after == self._round.valid_after:
            effects += self._agreement.receive_signature(peer, message)
            effects += self._try_adopt(now)
        return self._noted(effects)

    def receive_descriptor(self, data: bytes, now: float) -> list[Effect]:
        """Take a published descriptor; raise `ProtocolError` with the reason to refuse it."""
        return self.nodes.accept(data, now) + self.nodes.probes(now)

    def publish_own(self, data: bytes, now: float) -> None:
        """Take this authority's own descriptor, which its votes will carry."""
        own = self._cache.open(data, now)
        if not self._is_me(own.identity):
            raise ProtocolError("this is another node's descriptor")
        self._own = own

    def probed(self, probe: Probe, reached: Address | None, now: float) -> list[Effect]:
        """Take the address at which a probe succeeded, or None."""
        return self.nodes.probed(probe, reached, now) + self.nodes.probes(now)
