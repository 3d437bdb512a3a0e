"""Whether an authority is in office, and which series need it when it has left (spec/09 §2.1)."""

from __future__ import annotations

from enum import Enum

from fogbank.directory.consensus import Consensus
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.state import MintState, SeriesRecord
from fogbank.directory.network import AuthorityPin, NetworkDocument
from fogbank.relay.keys import NodeId


class Office(Enum):
    """What an authority is to its network."""

    HELD = "held"
    """It votes, or will; or nothing tells yet whether it is needed."""
    LEFT = "left"
    """It votes no more, and serves series in whose committees it is."""
    OVER = "over"
    """Nothing needs it any more."""


def _seated(record: SeriesRecord) -> frozenset[NodeId]:
    return frozenset(each.identity for each in record.members if each.vote_key)


def members(state: MintState) -> frozenset[NodeId]:
    """Return all who have keys in some series that lives."""
    return frozenset().union(*map(_seated, state.series))


def series_served(identity: NodeId, state: MintState) -> tuple[int, ...]:
    """Return the series in whose committee someone has keys, rising."""
    return tuple(record.number for record in state.series if identity in _seated(record))


def served_until(identity: NodeId, state: MintState, calendar: Calendar) -> int:
    """Return when the last series that someone serves is over, in seconds since 1970; 0: now."""
    return max(map(calendar.issue_until, series_served(identity, state)), default=0)


def office_of(
    identity: NodeId, network: NetworkDocument, consensus: Consensus, state: MintState
) -> Office:
    """Tell what an authority is once it has taken a consensus; `state` is the mint's newest.

    No clock takes part: what q authorities signed says which version governs, and what lives.
    """
    now = consensus.valid_after
    if network.governing(now).is_authority(identity):
        return Office.HELD
    if series_served(identity, state):
        return Office.LEFT
    # Who will come into office keeps up until then; without a state nobody knows what lives.
    is_named = any(pin.identity == identity for pin in network.engaged(now))
    return Office.HELD if is_named or consensus.mint is None else Office.OVER


def pin_of(
    identity: NodeId, network: NetworkDocument, consensus: Consensus | None
) -> AuthorityPin | None:
    """Return where a member of a committee is, in office or not; None if nobody can tell."""
    pin = network.pin(identity)
    entry = consensus.by_identity(identity) if consensus is not None else None
    if pin is None and entry is not None and entry.addresses:
        return AuthorityPin(identity, entry.nickname, entry.addresses)
    return pin or network.find(identity)
