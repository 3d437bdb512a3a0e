"""The mint's next state, from the last one and a round's agreed votes (spec/09 §4.2, §4.3).

All pure, and the same on every machine: authorities compare what they computed by its digest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fogbank.directory.mint.ballot import Ballot, Complaint, Grants, StateName
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.dealing import (
    are_sound,
    context_of,
    is_true_complaint,
    open_dealing,
    place_in,
    series_keys,
)
from fogbank.directory.mint.state import (
    COMMIT,
    COMPLAIN,
    DEAL,
    MAX_ALLOTMENTS,
    Allotment,
    Generation,
    Member,
    MintKeys,
    MintState,
    Pairs,
    Seat,
    SeriesRecord,
    identities,
)
from fogbank.directory.network import NetworkDocument
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId

KEY_ROUNDS = 4
"""Rounds in which the first attempt waits for keys of members that have announced none yet."""
HURRIED_ROUNDS = 2
PATIENT_ROUNDS = 8
"""Rounds in which members may judge what they were dealt: after a series' birth, and before."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one agreed vote gives to the mint."""

    authority: NodeId
    ballot: Ballot
    grants: Grants = ()


def agreed_state(given: Iterable[Given], quorum: int) -> StateName | None:
    """Return the state that q votes name alike, which may be none; None if there is no such."""
    counts = Counter(each.ballot.state for each in given)
    return next((name for name, count in counts.items() if count >= quorum), None)


def next_state(
    last: MintState, given: Sequence[Given], network: NetworkDocument, valid_after: int
) -> MintState:
    """Return the state after a round; `network` is the version that governs it."""
    given = [each for each in given if network.is_authority(each.authority)]
    calendar = Calendar.of(network)
    series = tuple(s for s in last.series if valid_after < calendar.issue_until(s.number))
    state = replace(last, keys=_keys(last, given, network), series=series)
    generation = under_way(state, network, valid_after)
    if generation is None:
        state = replace(state, generation=None)
    else:
        state = _advanced(state, generation, given, network, valid_after)
    return replace(
        state,
        series=_counted(state.series, given),
        allotments=_allotments(last, given, network, calendar, valid_after),
    )


# Keys.


def _keys(
    last: MintState, given: Iterable[Given], network: NetworkDocument
) -> tuple[tuple[NodeId, MintKeys], ...]:
    """Return the authorities' keys; announced ones replace those known if they are sound."""
    known = {who: keys for who, keys in last.keys if network.is_authority(who)}
    for each in given:
        keys = each.ballot.keys
        if keys is not None and known.get(each.authority) != keys and are_sound(keys):
            known[each.authority] = keys
    return tuple(sorted(known.items(), key=lambda pair: pair[0]))


# Generation.


def under_way(state: MintState, network: NetworkDocument, valid_after: int) -> Generation | None:
    """Return the generation that takes a step in a round: the last one's, or one that begins.

    Whoever votes in that round foresees the same from the state that it holds.
    """
    current = Calendar.of(network).current(valid_after)
    there = {series.number for series in state.series}
    wanted = next((k for k in (current, current + 1) if k not in there), None)
    if wanted is None:
        return None
    last = state.generation
    committee = sorted(pin.identity for pin in network.authorities)
    if last is None or last.series != wanted:
        attempt = 0
    elif identities(last.committee) == committee:
        return last
    else:
        attempt = last.attempt + 1
    return Generation(wanted, attempt, COMMIT, tuple(map(Seat, committee)))


def _advanced(
    state: MintState,
    now: Generation,
    given: Sequence[Given],
    network: NetworkDocument,
    valid_after: int,
) -> MintState:
    if now.step == COMMIT:
        return replace(state, generation=_committed(state, now, given, network))
    if now.step == DEAL:
        return replace(state, generation=_dealt(now, given, network))
    return _judged(state, now, given, network, valid_after)


def _judged(
    state: MintState,
    now: Generation,
    given: Sequence[Given],
    network: NetworkDocument,
    valid_after: int,
) -> MintState:
    """Make the series once all members have judged what they were dealt, or had the time to."""
    judgements = _judgements(now, given)
    blamed = _complained_of(now, judgements, network)
    if blamed:
        return replace(state, generation=_again(now, blamed, network))
    answered = set(now.answered) | judgements.keys()
    silent = {seat.identity for seat in now.committee if seat.keys} - answered
    rounds = now.rounds + 1
    born = valid_after >= Calendar.of(network).birth(now.series)
    if silent and rounds < (HURRIED_ROUNDS if born else PATIENT_ROUNDS):
        waiting = replace(now, answered=tuple(sorted(answered)), rounds=rounds)
        return replace(state, generation=waiting)
    try:
        series = _finished(now, network)
    except ProtocolError:
        # A key is infinity: nobody can bring that about, and another attempt mends it.
        return replace(state, generation=_again(now, set(), network))
    ordered = sorted((*state.series, series), key=lambda each: each.number)
    return replace(state, generation=None, series=tuple(ordered))


def _committed(
    state: MintState, now: Generation, given: Iterable[Given], network: NetworkDocument
) -> Generation:
    """Go on with those who committed, if they are q; the keys that are dealt to are set.

    If they are not, those who were excluded are needed: another attempt takes them in again.
    """
    keys = dict(state.keys)
    seats = tuple(Seat(seat.identity, keys.get(seat.identity)) for seat in now.committee)
    able = {seat.identity for seat in seats if seat.keys} - set(now.excluded)
    commitments = _ordered(
        (each.authority, sent.data)
        for each in given
        if each.authority in able
        and (sent := each.ballot.commitment) is not None
        and (sent.series, sent.attempt) == (now.series, now.attempt)
    )
    if len(commitments) < network.quorum:
        return _reopened(now) if now.excluded else now
    rounds = now.rounds + 1
    if any(seat.keys is None for seat in seats) and not now.attempt and rounds < KEY_ROUNDS:
        return replace(now, rounds=rounds)
    return replace(now, step=DEAL, committee=seats, commitments=commitments, rounds=0)


def _ordered(pairs: Iterable[tuple[NodeId, bytes]]) -> Pairs:
    return tuple(sorted(pairs))


def _dealt(now: Generation, given: Iterable[Given], network: NetworkDocument) -> Generation:
    """Go on if each of those who committed dealt, soundly and as committed; else without them."""
    sent = {
        each.authority: dealing.data
        for each in given
        if (dealing := each.ballot.dealing) is not None
        and (dealing.series, dealing.attempt) == (now.series, now.attempt)
    }
    good: list[tuple[NodeId, bytes]] = []
    for dealer, commitment in now.commitments:
        data = sent.get(dealer, b"")
        context = context_of(network.network_id, now.series, now.attempt, dealer)
        if _commits_to(commitment, data, context, now, network):
            good.append((dealer, data))
    missing = {dealer for dealer, _ in now.commitments} - {dealer for dealer, _ in good}
    if missing:
        return _again(now, missing, network)
    return replace(now, step=COMPLAIN, dealings=_ordered(good))


def _commits_to(
    commitment: bytes, data: bytes, context: bytes, now: Generation, network: NetworkDocument
) -> bool:
    dealing = open_dealing(data, context, network.quorum, now.committee)
    return dealing is not None and dealing.commitment(context) == commitment


def _again(now: Generation, blamed: set[NodeId], network: NetworkDocument) -> Generation:
    """Begin another attempt without those who are to blame, as long as q could still deal."""
    excluded = blamed | set(now.excluded)
    able = {seat.identity for seat in now.committee if seat.keys} - excluded
    again = _reopened(now)
    if len(able) < network.quorum:
        return again
    return replace(again, excluded=tuple(sorted(excluded)))


def _reopened(now: Generation) -> Generation:
    """Begin another attempt, from which nobody is excluded."""
    seats = tuple(Seat(seat.identity) for seat in now.committee)
    return Generation(now.series, now.attempt + 1, COMMIT, seats)


def _judgements(now: Generation, given: Iterable[Given]) -> dict[NodeId, tuple[Complaint, ...]]:
    """Return what members with keys complain of in this attempt."""
    members = {seat.identity for seat in now.committee if seat.keys}
    return {
        each.authority: judgement.complaints
        for each in given
        if each.authority in members
        and (judgement := each.ballot.judgement) is not None
        and (judgement.series, judgement.attempt) == (now.series, now.attempt)
    }


def _complained_of(
    now: Generation, judgements: dict[NodeId, tuple[Complaint, ...]], network: NetworkDocument
) -> set[NodeId]:
    """Return the dealers of whom a complaint is true; one for each is enough."""
    dealings = dict(now.dealings)
    blamed: set[NodeId] = set()
    for complainer, complaints in judgements.items():
        place = place_in(now, complainer)
        keys = now.committee[place - 1].keys
        # One about each dealer is looked at: an equation costs more than all else in a vote.
        for dealer, shared in dict(complaints).items():
            if dealer in blamed or dealer not in dealings or keys is None:
                continue
            context = context_of(network.network_id, now.series, now.attempt, dealer)
            if is_true_complaint(dealings[dealer], context, place, keys, shared):
                blamed.add(dealer)
    return blamed


def _finished(now: Generation, network: NetworkDocument) -> SeriesRecord:
    key, shares = series_keys(tuple(data for _, data in now.dealings), len(now.committee))
    members = tuple(
        Member(seat.identity, seat.keys.vote if seat.keys else b"", share)
        for seat, share in zip(now.committee, shares, strict=True)
    )
    digests = tuple((dealer, hashlib.sha256(data).digest()) for dealer, data in now.dealings)
    return SeriesRecord(now.series, network.quorum, key, members, digests, now.attempt)


# Counts and allotments.


def _counted(series: tuple[SeriesRecord, ...], given: Sequence[Given]) -> tuple[SeriesRecord, ...]:
    """Let each member's count be the highest that it ever named."""
    named = {
        (each.authority, number): count for each in given for number, count in each.ballot.counts
    }
    return tuple(_recounted(each, named) for each in series)


def _recounted(series: SeriesRecord, named: dict[tuple[NodeId, int], int]) -> SeriesRecord:
    members = tuple(
        replace(member, count=count)
        if (count := named.get((member.identity, series.number), 0)) > member.count
        else member
        for member in series.members
    )
    return replace(series, members=members) if members != series.members else series


def _allotments(
    last: MintState,
    given: Sequence[Given],
    network: NetworkDocument,
    calendar: Calendar,
    valid_after: int,
) -> tuple[Allotment, ...]:
    """Return what may be withdrawn: the (b+1)-th highest that votes name, and never less."""
    amounts = {
        each.key: each.amount
        for each in last.allotments
        if valid_after < calendar.withdraw_until(each.series)
    }
    if network.test:
        current = calendar.current(valid_after)
        for identity, amount in _granted(given, network.faulty).items():
            key = identity, current
            if amount > amounts.get(key, 0) and (key in amounts or len(amounts) < MAX_ALLOTMENTS):
                amounts[key] = amount
    return tuple(Allotment(*key, amount) for key, amount in sorted(amounts.items()))


def _granted(given: Iterable[Given], faulty: int) -> dict[NodeId, int]:
    named: dict[NodeId, list[int]] = {}
    for each in given:
        for identity, amount in each.grants:
            named.setdefault(identity, []).append(amount)
    ranked = {who: sorted(amounts, reverse=True)[faulty:] for who, amounts in named.items()}
    return {who: ranked[who][0] for who in sorted(ranked) if ranked[who]}
