"""Byzantine authorities: what one does to each effect that its honest core asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

import trio

from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.broadcast import Chain, Relayed
from fogbank.directory.effects import Effect, SendSignature, SendVote
from fogbank.directory.exchange import PushVote
from fogbank.directory.exchange_shell import ask
from fogbank.directory.peer_shell import FAILURES
from fogbank.directory.signatures import AuthoritySignature, Credentials
from fogbank.directory.vote import Policy, Vote
from fogbank.relay.certificates import Certificate, Use
from fogbank.relay.keys import NodeId, Signed
from tests.simulation.chance import Chance

Sent: TypeAlias = list[tuple[float, Effect]]
"""What goes out instead of an effect, each after some seconds."""


class Liar:
    """Lies by one method, drawn from the seed; honest in everything that it does not send."""

    kind = ""

    def __init__(self, chance: Chance, shell: AuthorityShell) -> None:
        self.chance = chance
        self.shell = shell
        self.phase = shell.core.network.timing.phase_ms / 1000

    @property
    def credentials(self) -> Credentials:
        """The keys it lies with, which are good."""
        return self.shell.core.credentials

    def change(self, effect: SendVote | SendSignature) -> Sent:
        """Return what to send instead."""
        raise NotImplementedError

    def is_own(self, effect: SendVote) -> bool:
        """Tell whether it is its own vote that goes out."""
        return effect.relayed.chain.sender == self.credentials.identity

    def other_vote(self, valid_after: int) -> tuple[Chain, bytes]:
        """Return another vote of its own for a round, with its chain."""
        network_id = self.shell.core.network.network_id
        engine = f"engine{self.chance.below(3)}"
        vote = Vote(valid_after, Policy(engines=(engine,)), b"", b"", ())
        body = vote.sign(network_id, self.credentials)
        chain = Chain(valid_after, self.credentials.identity, hashlib.sha256(body).digest())
        return chain.signed(network_id, self.credentials), body


class Late(Liar):
    """All it says comes too late, or just in time, by whom it speaks to."""

    kind = "late"

    def change(self, effect: SendVote | SendSignature) -> Sent:
        return [(self.chance.uniform(0.0, 3.0) * self.phase, effect)]


class Equivocating(Liar):
    """Says one thing to some and another to others, at once or later."""

    kind = "equivocating"

    def change(self, effect: SendVote | SendSignature) -> Sent:
        if isinstance(effect, SendSignature) or not self.is_own(effect):
            return [(0.0, effect)]
        sent: Sent = [] if self.chance.once_in(0.4) else [(0.0, effect)]
        if self.chance.once_in(0.6):
            relayed = effect.relayed
            chain, body = self.other_vote(relayed.chain.valid_after)
            wait = self.chance.choice((0.0, 0.7, 1.1, 1.8)) * self.phase
            sent.append((wait, replace(effect, relayed=Relayed(relayed.to, chain, body))))
        return sent


class Splitting(Liar):
    """Shows its vote to some alone, in the last moment in which it might count.

    Who counts a vote by its time and not by its chain's signers is then split from the others.
    """

    kind = "splitting"

    def change(self, effect: SendVote | SendSignature) -> Sent:
        if isinstance(effect, SendSignature) or not self.is_own(effect):
            return [(0.0, effect)]
        if self.chance.once_in(0.5):
            return []
        phases = self.shell.core.network.faulty + 1
        return [(phases * self.phase - self.chance.uniform(0.0, 0.08), effect)]


class Forging(Liar):
    """Signs in others' names, and signs what it has not computed."""

    kind = "forging"

    def change(self, effect: SendVote | SendSignature) -> Sent:
        random = self.chance.randbytes
        if isinstance(effect, SendSignature):
            pins = self.shell.core.network.authorities
            victim = pins[self.chance.below(len(pins))].identity
            mine = effect.message.signature
            message = replace(effect.message, signature=self._in_name_of(victim))
            if self.chance.once_in(0.5):
                wrong = hashlib.sha256(random(8)).digest()
                message = replace(effect.message, digest=wrong, signature=mine)
            return [(0.0, replace(effect, message=message))]
        chain = effect.relayed.chain
        pins = self.shell.core.network.authorities
        extra = tuple(self._in_name_of(pin.identity) for pin in pins if self.chance.once_in(0.5))
        forged_chain = replace(chain, signatures=(*chain.signatures, *extra))
        relayed = replace(effect.relayed, chain=forged_chain)
        return [(0.0, replace(effect, relayed=relayed))]

    def _in_name_of(self, victim: NodeId) -> AuthoritySignature:
        """Return a signature in which nothing is wrong but that the victim never made it."""
        random = self.chance.randbytes
        certificate = self.credentials.certificate
        if self.chance.once_in(0.7):
            now, subject = self.shell._clock(), random(32)
            body = Certificate(Use.SIGNING, subject, victim, int(now) - 1, int(now) + 86_400)
            certificate = Signed(body.encode_body(), random(64))
        return AuthoritySignature(victim, certificate, random(64))


class Garbage(Liar):
    """Sends random bytes wherever a field takes them."""

    kind = "garbage"

    def change(self, effect: SendVote | SendSignature) -> Sent:
        random = self.chance.randbytes
        if isinstance(effect, SendSignature):
            bad = replace(effect.message.signature, signature=random(64))
            return [(0.0, replace(effect, message=replace(effect.message, signature=bad)))]
        chain, body = effect.relayed.chain, effect.relayed.body
        match self.chance.below(3):
            case 0:
                body = random(self.chance.below(4096))
            case 1:
                # Random bytes, named and signed as if they were a vote.
                body = random(self.chance.below(40_000))
                network_id = self.shell.core.network.network_id
                me = self.credentials.identity
                bare = Chain(chain.valid_after, me, hashlib.sha256(body).digest())
                chain = bare.signed(network_id, self.credentials)
            case _:
                chain = replace(chain, digest=random(32))
        return [(0.0, replace(effect, relayed=replace(effect.relayed, chain=chain, body=body)))]


class Withholding(Liar):
    """Names votes to some and never gives their bodies; tells others nothing."""

    kind = "withholding"

    def change(self, effect: SendVote | SendSignature) -> Sent:
        if isinstance(effect, SendSignature):
            return [(0.0, effect)] if self.chance.once_in(0.5) else []
        match self.chance.below(3):
            case 0:
                return [(0.0, effect)]
            case 1:
                return [(0.0, _Bare(effect.relayed, effect.deadline))]
            case _:
                return []


class _Bare(SendVote):
    """A vote's chain, without the body, whoever asks for it."""


async def send_bare(shell: AuthorityShell, effect: SendVote) -> None:
    """Push a chain without its body."""
    peer = shell._peers[effect.relayed.to]
    try:
        async with peer.stream() as stream:
            await ask(stream, PushVote(effect.relayed.chain, None))
    except FAILURES:
        pass


LIARS: tuple[type[Liar], ...] = (Late, Equivocating, Splitting, Forging, Garbage, Withholding)


class SimShell(AuthorityShell):
    """An authority's shell that is watched, and lies if it is told to."""

    heard: Callable[[SendVote | SendSignature], None] | None = None
    liar: Liar | None = None
    start_soon: Callable[[Callable[[], Awaitable[None]]], None] | None = None

    def _carry_out(self, effects: list[Effect]) -> None:
        if self.liar is None:
            super()._carry_out(effects)
            for effect in effects:
                if isinstance(effect, SendVote | SendSignature) and self._is_sent(effect):
                    assert self.heard is not None
                    self.heard(effect)
            return
        now: list[Effect] = []
        for effect in effects:
            if not isinstance(effect, SendVote | SendSignature):
                now.append(effect)
                continue
            for wait, sent in self.liar.change(effect):
                if wait or isinstance(sent, _Bare):
                    self._later(wait, sent)
                else:
                    now.append(sent)
        super()._carry_out(now)

    def _is_sent(self, effect: SendVote | SendSignature) -> bool:
        """Tell whether it waits to be sent: it does not if the journal could not be written."""
        to = effect.relayed.to if isinstance(effect, SendVote) else effect.to
        return any(effect is each for each in self._peers[to]._queue)

    def journaled(self, kind: str, valid_after: int) -> bytes | None:
        """Return the digest of the vote or consensus of a round that the disk holds."""
        journal = self._store.restore().journals.get(valid_after)
        if journal is None:
            return None
        return hashlib.sha256(journal.vote if kind == "vote" else journal.consensus).digest()

    def _later(self, wait: float, effect: Effect) -> None:
        async def send() -> None:
            await trio.sleep(wait)
            if isinstance(effect, _Bare):
                await send_bare(self, effect)
            else:
                super(SimShell, self)._carry_out([effect])

        assert self.start_soon is not None
        self.start_soon(send)
