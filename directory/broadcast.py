"""Authenticated Byzantine broadcast of votes, after Dolev and Strong (spec/05 §4.2).

Every authority broadcasts one value, its vote. What must hold at the end, as long as at most b
of n authorities are faulty and messages between the others arrive within their phase:

* all who are not faulty hold the same set of votes, whatever the faulty ones sent to whom;
* the vote of each who is not faulty is in it.

The rules. A *chain* states "this sender's vote has this digest" and carries signatures over that
statement. In phase k, from 1 to b+1, a chain counts only if k distinct authorities signed it, the
sender among them, and only with the vote's bytes in hand. Who takes a value up so signs it too
and sends it to all who have not signed. A value that is first seen by an honest authority in phase
k thus reaches the others with k+1 signatures by phase k+1; and one first seen in phase b+1 has
b+1 signatures, so an honest authority signed it before and has sent it to everybody. Two values of
one sender cancel it. Two are also all that is kept: a third changes nothing. What comes before the
round begins is taken, and passed on once it begins: by then everybody has opened the round.

Whether a value is a sound vote is not asked here: agreement is on bytes, and everybody judges
the same bytes alike afterwards.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from fogbank.directory.network import NetworkDocument
from fogbank.directory.schedule import Round
from fogbank.directory.signatures import (
    AuthoritySignature,
    Credentials,
    signatures_from_value,
    verify_distinct,
)
from fogbank.directory.vote import VOTE_LIMIT
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId

CHAIN_LABEL = "fogbank-chain-v1"
CHAIN_LIMIT = 32 << 10
EVIDENCE_LIMIT = 2 * CHAIN_LIMIT + 16
_VALUES_KEPT = 2


@dataclass(frozen=True, slots=True)
class Chain:
    """The statement that `sender`'s vote for one round has this digest, and who signed it."""

    valid_after: int
    sender: NodeId
    digest: bytes
    signatures: tuple[AuthoritySignature, ...] = ()

    def statement(self, network_id: bytes) -> bytes:
        """Return the bytes that each signature covers."""
        return encode({1: network_id, 2: self.valid_after, 3: self.sender, 4: self.digest})

    def signed(self, network_id: bytes, credentials: Credentials) -> Chain:
        """Return the chain with one more signature."""
        signature = credentials.sign(CHAIN_LABEL, self.statement(network_id))
        return Chain(self.valid_after, self.sender, self.digest, (*self.signatures, signature))

    def verify(self, network: NetworkDocument) -> frozenset[NodeId]:
        """Return who signed; raise `ProtocolError` unless all is sound and the sender did.

        Certificates are judged as of the round, so that all authorities judge alike.
        """
        statement = self.statement(network.network_id)
        signers = verify_distinct(
            self.signatures, network, CHAIN_LABEL, statement, self.valid_after
        )
        if self.sender not in signers:
            raise ProtocolError("a vote's chain lacks its sender's signature")
        return signers

    def encode(self) -> bytes:
        """Return the chain's bytes."""
        signatures = [signature.value() for signature in self.signatures]
        return encode([self.valid_after, self.sender, self.digest, signatures])

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Chain:
        """Take a chain apart; nothing is verified yet."""
        match decode(data, CHAIN_LIMIT):
            case [int(valid_after), bytes(sender), bytes(digest), signatures] if (
                type(valid_after) is int
                and valid_after >= 0
                and len(sender) == KEY_LENGTH
                and len(digest) == KEY_LENGTH
            ):
                return cls(valid_after, sender, digest, signatures_from_value(signatures))
            case _:
                raise ProtocolError("a chain is not [round, sender, digest, signatures]")


class Stored(Protocol):
    """A vote's bytes that are kept elsewhere than in memory."""

    @property
    def digest(self) -> bytes:
        """Their SHA-256."""

    def __len__(self) -> int: ...

    def part(self, at: int, length: int) -> bytes:
        """Return bytes from the middle, fewer at the end; raise `RelayError` if they are lost."""

    def load(self) -> bytes:
        """Return them as a whole; raise `RelayError` if they are lost."""


Body: TypeAlias = bytes | Stored
"""A vote's bytes, in memory or elsewhere."""


def load(body: Body) -> bytes:
    """Return a vote's bytes; raise `RelayError` if they are lost."""
    return body if isinstance(body, bytes) else body.load()


def part(body: Body, at: int, length: int) -> bytes:
    """Return bytes from the middle of a vote; errors as above."""
    return body[at : at + length] if isinstance(body, bytes) else body.part(at, length)


def _digest(body: Body) -> bytes:
    return hashlib.sha256(body).digest() if isinstance(body, bytes) else body.digest


class Answer(Enum):
    """What to tell the peer that sent a chain."""

    TAKEN = 0
    """Nothing more is wanted: the value is taken up, or was known, or changes nothing."""
    NEED_BODY = 3
    """The chain counts; send it again with the vote's bytes."""
    LATE = 4
    """Too few signatures for this phase: the value does not count."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A chain to send to one authority, with the vote's bytes for when it asks for them."""

    to: NodeId
    chain: Chain
    body: Body


class Broadcast:
    """One authority's part in one round's broadcast of all votes. Sans-IO.

    `begin` starts it, `start` gives up the own vote, `receive` takes a message; each returns what
    is to be sent. After phase b+1, `decided` is the agreed set.
    """

    def __init__(self, network: NetworkDocument, this: Round, credentials: Credentials) -> None:
        self._network = network
        self._round = this
        self._credentials = credentials
        self._values: dict[NodeId, dict[bytes, tuple[Chain, Body]]] = {}
        self._early: list[Relayed] | None = []
        """What is passed on when the round begins; None from then on."""

    def begin(self) -> list[Relayed]:
        """Pass on what came early, as the round begins."""
        early, self._early = self._early, None
        return early or []

    def start(self, body: bytes) -> list[Relayed]:
        """Broadcast the own vote."""
        me = self._credentials.identity
        chain = Chain(self._round.valid_after, me, hashlib.sha256(body).digest())
        return self._take_up(chain, body)

    def receive(self, chain: Chain, body: Body | None, now: float) -> tuple[Answer, list[Relayed]]:
        """Take a chain, with the vote's bytes or without; raise `ProtocolError` for a bad one."""
        if chain.valid_after != self._round.valid_after:
            return Answer.LATE, []
        values = self._values.get(chain.sender, {})
        if chain.digest in values or len(values) >= _VALUES_KEPT:
            return Answer.TAKEN, []
        phase = self._round.phase_at(now)
        if phase > self._round.relay_phases:
            return Answer.LATE, []
        signers = chain.verify(self._network)
        if len(signers) < phase:
            return Answer.LATE, []
        if body is None:
            return Answer.NEED_BODY, []
        if len(body) > VOTE_LIMIT or _digest(body) != chain.digest:
            raise ProtocolError("a vote's bytes are not those that its chain names")
        return Answer.TAKEN, self._or_later(self._take_up(chain, body), now)

    def _or_later(self, relayed: list[Relayed], now: float) -> list[Relayed]:
        """Hold back what is early: who has not opened the round yet would call it late."""
        if self._early is None or now >= self._round.begins:
            return relayed
        self._early += relayed
        return []

    def _take_up(self, chain: Chain, body: Body) -> list[Relayed]:
        """Hold a value, and pass it on signed if it may be news to somebody."""
        signers = {signature.identity for signature in chain.signatures}
        me = self._credentials.identity
        values = self._values.setdefault(chain.sender, {})
        values[chain.digest] = chain, body
        if len(signers) >= self._round.relay_phases or me in signers:
            return []
        signed = chain.signed(self._network.network_id, self._credentials)
        values[chain.digest] = signed, body
        others = [pin.identity for pin in self._network.authorities]
        return [Relayed(to, signed, body) for to in others if to not in signers | {me}]

    def decided(self) -> dict[NodeId, Body]:
        """Return the votes of all senders that have shown exactly one."""
        return {
            sender: body
            for sender, values in self._values.items()
            if len(values) == 1
            for _, body in values.values()
        }

    def evidence(self) -> dict[NodeId, bytes]:
        """Return, for each sender of two votes, the two chains that prove it (spec/05 §4.2)."""
        return {
            sender: encode([chain.encode() for chain, _ in values.values()])
            for sender, values in self._values.items()
            if len(values) > 1
        }


def open_evidence(data: bytes, network: NetworkDocument) -> NodeId:
    """Return the authority that is proved to have sent two votes in one round.

    Raises `ProtocolError` if the evidence proves nothing.
    """
    match decode(data, EVIDENCE_LIMIT, 3):
        case [bytes(one), bytes(other)]:
            first, second = Chain.decode(one), Chain.decode(other)
        case _:
            raise ProtocolError("evidence is not two chains")
    first.verify(network)
    second.verify(network)
    same = (first.valid_after, first.sender) == (second.valid_after, second.sender)
    if not same or first.digest == second.digest:
        raise ProtocolError("two chains do not show two votes of one authority in one round")
    return first.sender
