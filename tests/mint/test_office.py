"""Who is in office, and whom a series needs when it has left (spec/09 §2.1)."""

from __future__ import annotations

from dataclasses import replace

from fogbank.directory.consensus import Consensus
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.office import (
    Office,
    members,
    office_of,
    pin_of,
    series_served,
    served_until,
)
from fogbank.directory.mint.state import MintState
from fogbank.directory.network import AuthorityPin, NetworkDocument
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from tests.directory.factory import make_consensus, make_entry, make_network, relay
from tests.mint.deals import Series

OLD = make_network(4)
FIRST = OLD.document
MEMBER, OTHER, *_ = (pin.identity for pin in FIRST.authorities)
NEWCOMER = make_network(5).document.authorities[4]


def version(before: NetworkDocument, pins: tuple[AuthorityPin, ...], after: int) -> NetworkDocument:
    """Return the next version, in force so many seconds after the start."""
    return replace(
        before,
        version=before.version + 1,
        authorities=pins,
        in_force=before.timing.start + after,
        previous=before,
    )


PINS = FIRST.authorities
GONE = version(FIRST, (*PINS[1:], NEWCOMER), 100)
BACK = version(GONE, PINS, 200)


def state(*members: NodeId, keyless: NodeId | None = None) -> MintState:
    """Return a state with one series of those members."""
    record = Series().record
    seats = tuple(
        replace(seat, identity=identity, vote_key=b"" if identity == keyless else seat.vote_key)
        for seat, identity in zip(record.members, sorted(members), strict=True)
    )
    return MintState(series=(replace(record, members=seats),))


ALL = state(*(pin.identity for pin in PINS))


def consensus(after: int, held: MintState | None = ALL) -> Consensus:
    return replace(make_consensus(OLD), valid_after=FIRST.timing.start + after, mint=held)


def office(identity: NodeId, network: NetworkDocument, after: int, held: MintState = ALL) -> Office:
    return office_of(identity, network, consensus(after, held), held)


def test_the_version_that_governs_says_who_is_in_office() -> None:
    assert office(MEMBER, GONE, 99) is Office.HELD
    assert office(MEMBER, GONE, 100) is Office.LEFT
    assert office(OTHER, GONE, 100) is Office.HELD
    # Who comes back is out until then.
    assert office(MEMBER, BACK, 199) is Office.LEFT
    assert office(MEMBER, BACK, 200) is Office.HELD


def test_a_newcomer_is_not_on_its_way_out() -> None:
    assert office(NEWCOMER.identity, GONE, 99) is Office.HELD
    assert office(NEWCOMER.identity, BACK, 200) is Office.OVER


def test_it_is_over_once_no_series_needs_it_and_a_state_says_so() -> None:
    without = state(OTHER, *(pin.identity for pin in PINS[2:]), NEWCOMER.identity)
    keyless = state(*(pin.identity for pin in PINS), keyless=MEMBER)
    for held in (MintState(), without, keyless):
        assert office(MEMBER, GONE, 100, held) is Office.OVER
        assert office(MEMBER, GONE, 99, held) is Office.HELD
        assert series_served(MEMBER, held) == ()
        assert MEMBER not in members(held)
        # A consensus without a state does not tell: what was held may be old.
        assert office_of(MEMBER, GONE, consensus(100, None), held) is Office.HELD
    assert office_of(MEMBER, GONE, consensus(100, None), ALL) is Office.LEFT


def test_it_serves_until_its_last_series_is_over() -> None:
    calendar = Calendar.of(FIRST)
    (record,) = ALL.series
    later = replace(record, number=record.number + 1)
    both = MintState(series=(record, later))
    assert series_served(MEMBER, both) == (record.number, later.number)
    assert served_until(MEMBER, both, calendar) == calendar.issue_until(later.number)
    assert served_until(NEWCOMER.identity, both, calendar) == 0
    assert members(both) == {pin.identity for pin in PINS}


def test_members_are_found_in_the_document_then_the_consensus_then_earlier_documents() -> None:
    pinned = FIRST.find(MEMBER)
    assert pin_of(MEMBER, FIRST, None) == pinned
    moved = replace(make_entry(relay(0)), identity=MEMBER, addresses=(Address("127.9.9.9", 9),))
    listing = replace(make_consensus(OLD), entries=(moved,))
    found = pin_of(MEMBER, GONE, listing)
    assert found is not None
    assert found.addresses == moved.addresses
    assert pin_of(MEMBER, GONE, None) == pinned
    assert pin_of(MEMBER, BACK, listing) == pinned
    # Who holds no earlier version needs a consensus that lists it.
    alone = replace(GONE, previous=None)
    assert pin_of(MEMBER, alone, None) is None
    assert pin_of(MEMBER, alone, listing) == found
