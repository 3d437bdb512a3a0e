"""What the authority's core asks its shell to do, in the order given (spec/05 §4.6).

A `Journal…` effect must be on the disk before any later effect of the same list is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fogbank.directory.broadcast import Relayed
from fogbank.directory.consensus import Consensus
from fogbank.directory.signatures import AuthoritySignature
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId


@dataclass(frozen=True, slots=True)
class JournalVote:
    """Keep the one vote that this authority ever signs for a round."""

    valid_after: int
    vote: bytes


@dataclass(frozen=True, slots=True)
class JournalSignature:
    """Keep the body of the one consensus that this authority ever signs for a round."""

    valid_after: int
    body: bytes


@dataclass(frozen=True, slots=True)
class JournalConsensus:
    """Keep a consensus that has its signatures."""

    valid_after: int
    document: bytes


@dataclass(frozen=True, slots=True)
class KeepMint:
    """Keep this consensus for its state of the mint, however old it gets, in place of the last."""

    valid_after: int
    document: bytes


@dataclass(frozen=True, slots=True)
class KeepDealings:
    """Keep these dealings, each with its series, in place of all others."""

    dealings: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class KeepEvidence:
    """Keep the proof that an authority sent two votes in one round."""

    valid_after: int
    authority: NodeId
    evidence: bytes


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What is kept of a node over restarts; times in seconds, `running_since` 0 if not running."""

    identity: NodeId
    descriptor: bytes
    first_seen: int
    running_since: int


@dataclass(frozen=True, slots=True)
class KeepNode:
    """Keep a node's record; it may be written together with others, a second later."""

    record: NodeRecord


@dataclass(frozen=True, slots=True)
class ForgetNode:
    """Delete a node's record."""

    identity: NodeId


@dataclass(frozen=True, slots=True)
class SignatureMessage:
    """One authority's signature over the consensus with this digest (spec/05 §4.3)."""

    valid_after: int
    digest: bytes
    signature: AuthoritySignature


@dataclass(frozen=True, slots=True)
class SendVote:
    """Send a vote's chain to an authority, of use until `deadline`."""

    relayed: Relayed
    deadline: float


@dataclass(frozen=True, slots=True)
class SendSignature:
    """Send a consensus signature to an authority, of use until `deadline`."""

    to: NodeId
    message: SignatureMessage
    deadline: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out whether a relay answers at one of its addresses and proves its identity."""

    identity: NodeId
    digest: bytes
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class FetchConsensus:
    """Ask an authority for a newer consensus than is held."""

    source: NodeId


@dataclass(frozen=True, slots=True)
class FetchMint:
    """Ask an authority for the consensus of that `valid_after`, for its state of the mint."""

    source: NodeId
    valid_after: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """A new consensus is held and to be served: its signed bytes, opened."""

    document: bytes
    consensus: Consensus


@dataclass(frozen=True, slots=True)
class Log:
    """Tell the operator one line; `trouble` if something is wrong with another authority."""

    line: str
    trouble: bool = False


Effect: TypeAlias = (
    JournalVote
    | JournalSignature
    | JournalConsensus
    | KeepMint
    | KeepDealings
    | KeepEvidence
    | KeepNode
    | ForgetNode
    | SendVote
    | SendSignature
    | Probe
    | FetchConsensus
    | FetchMint
    | Adopted
    | Log
)
