"""From an agreed set of votes to one consensus, the same on every machine (spec/05 §4.4).

What is measured or observed of a node counts by the (b+1)-th highest value, where a missing one
is 0: at least one honest authority vouches for it, and b liars cannot keep it away. What is a
matter of policy counts by the majority of the votes, of which liars are never half.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from fogbank.directory.consensus import (
    MAX_ENTRIES,
    MINT_METHOD,
    RANDOM_METHOD,
    RUNTIMES_METHOD,
    SUPPORTED_METHODS,
    VALIDITY,
    Consensus,
)
from fogbank.directory.descriptor import Descriptor, Role
from fogbank.directory.entries import Entry, Flag
from fogbank.directory.mint.ballot import StateName, ballot_of, grants_of
from fogbank.directory.mint.contributor import HeldState
from fogbank.directory.mint.generation import Given, agreed_state, next_state
from fogbank.directory.mint.state import MintState
from fogbank.directory.network import NetworkDocument
from fogbank.directory.runtimes import Runtimes, agreed
from fogbank.directory.schedule import Round
from fogbank.directory.shared_random import (
    EXTENSION,
    RandomState,
    Share,
    advance,
    decode_share,
)
from fogbank.directory.vote import Observation, OpenVote
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId

BANDWIDTH_FLOOR = 1_000_000
"""Bytes per second that every relay has until it is measured (spec/05 §4.4)."""
FUEL_FLOOR = 1_000_000_000
"""Fuel per second that every worker has until it is measured."""
STABLE_UPTIME = 5 * 86_400
FAST_BANDWIDTH = 10_000_000
_SEED_LABEL = b"fogbank-contact-seed-v1\0"

_T = TypeVar("_T", int, str, bytes)


def first_contact_seed(network_id: bytes) -> bytes:
    """Return the network's first contact seed (spec/05 §6.2)."""
    return hashlib.sha256(_SEED_LABEL + network_id).digest()


def capped(measured: int, previous: int, floor: int) -> int:
    """Return what an authority votes for a measured value: at most double the previous one."""
    return min(measured, 2 * max(previous, floor))


def compute(
    votes: Sequence[OpenVote],
    network: NetworkDocument,
    this: Round,
    held: HeldState | None = None,
) -> Consensus:
    """Return the consensus that the agreed votes give; raise `ProtocolError` if they give none.

    `votes` are the valid ones of the agreed set, one per authority, in any order. `held` is the
    newest state of the mint that this authority holds, None if it holds none.
    """
    if len(votes) < network.quorum:
        raise ProtocolError(f"only {len(votes)} votes were agreed on; {network.quorum} are needed")
    votes = sorted(votes, key=lambda vote: vote.authority)
    policies = [vote.policy for vote in votes]
    engines = _majority(policy.engines for policy in policies)
    required = _majority(policy.required_protocols for policy in policies)
    revoked = _majority(policy.revoked for policy in policies)
    entries = _authorities(votes, this) + _nodes(votes, network, this)
    given = [_given(vote) for vote in votes]
    known = agreed_state(given, network.quorum)
    method = _method(votes, network, known)
    runtimes = None
    if method >= RUNTIMES_METHOD:
        runtimes = agreed((policy.runtimes for policy in policies), network.quorum)
        entries = _naming_only(entries, runtimes)
    return Consensus(
        method=method,
        network_id=network.network_id,
        valid_after=this.valid_after,
        fresh_until=this.fresh_until,
        valid_until=this.valid_after + VALIDITY,
        required_protocols=required,
        recommended_protocols=_majority(policy.recommended_protocols for policy in policies),
        engines=engines,
        revoked=revoked,
        contact_seed=first_contact_seed(network.network_id),
        previous=_previous(votes, network),
        voters=tuple(vote.authority for vote in votes),
        entries=_admitted(entries, required, engines, revoked),
        random=_random(votes, network, this) if method >= RANDOM_METHOD else None,
        runtimes=runtimes,
        mint=_mint(given, network, this, known, held) if method >= MINT_METHOD else None,
    )


def _given(vote: OpenVote) -> Given:
    return Given(vote.authority, ballot_of(vote.extensions), grants_of(vote.extensions))


def _mint(
    given: Sequence[Given],
    network: NetworkDocument,
    this: Round,
    known: StateName | None,
    held: HeldState | None,
) -> MintState:
    """Return the state of the mint after this round, made of the one that q votes name."""
    held = held or HeldState()
    if known != held.name:
        raise ProtocolError(
            "the other authorities go by another state of the mint: this one fetches theirs"
        )
    return next_state(held.state, given, network, this.valid_after)


def _method(votes: Sequence[OpenVote], network: NetworkDocument, known: StateName | None) -> int:
    """Return the highest method that q votes offer; without a `known` state, of those before it."""
    counts = Counter(method for vote in votes for method in set(vote.policy.methods))
    offered = [m for m, count in counts.items() if count >= network.quorum]
    if known is None and any(method < MINT_METHOD for method in offered):
        offered = [method for method in offered if method < MINT_METHOD]
    method = max(offered, default=0)
    if method not in SUPPORTED_METHODS:
        raise ProtocolError(f"the votes call for consensus method {method}: update this authority")
    return method


def _random(votes: Sequence[OpenVote], network: NetworkDocument, this: Round) -> RandomState:
    """Return the shared randomness; a share that cannot be read is as if it were not there."""
    shares: list[tuple[NodeId, Share]] = []
    for vote in votes:
        data = vote.extensions.get(EXTENSION)
        if data is not None:
            with suppress(ProtocolError):
                shares.append((vote.authority, decode_share(data)))
    return advance(shares, network, this)


def _naming_only(entries: Iterable[Entry], accepted: Runtimes) -> list[Entry]:
    """Let entries name accepted runtimes alone."""
    digests = {runtime.digest for runtime in accepted}
    return [
        replace(entry, runtimes=tuple(each for each in entry.runtimes if each in digests))
        if entry.runtimes
        else entry
        for entry in entries
    ]


def _majority(lists: Iterable[Sequence[_T]]) -> tuple[_T, ...]:
    """Return, sorted, what more than half of the lists hold."""
    sets = [set(items) for items in lists]
    counts = Counter(item for items in sets for item in items)
    return tuple(sorted(item for item, count in counts.items() if 2 * count > len(sets)))


def _previous(votes: Sequence[OpenVote], network: NetworkDocument) -> bytes:
    """Return the digest most voted for, by b+1 votes at least; else none."""
    counts = Counter(vote.previous for vote in votes)
    count, digest = max((count, digest) for digest, count in counts.items())
    return digest if count > network.faulty else b""


def _authorities(votes: Sequence[OpenVote], this: Round) -> list[Entry]:
    """List each authority whose vote is in the set: that it took part shows that it runs."""
    flags = Flag.AUTHORITY | Flag.RUNNING | Flag.VALID
    return [_entry(vote.own, flags, this.valid_after) for vote in votes if vote.own is not None]


def _nodes(votes: Sequence[OpenVote], network: NetworkDocument, this: Round) -> list[Entry]:
    """List the nodes that b+1 votes found running, with their flags."""
    seen: dict[NodeId, list[tuple[Descriptor, Observation]]] = {}
    for vote in votes:
        for identity, pair in vote.nodes.items():
            seen.setdefault(identity, []).append(pair)
    listed: list[tuple[Descriptor, Observation]] = []
    for pairs in seen.values():
        descriptor = _choose(pairs, network.faulty)
        if descriptor is not None:
            listed.append((descriptor, _agreed(pairs, network.faulty, this.valid_after)))
    return _flagged(listed)


def _choose(pairs: Sequence[tuple[Descriptor, Observation]], faulty: int) -> Descriptor | None:
    """Return the newest descriptor that b+1 votes carry; ties go to the higher digest."""
    carried = Counter(descriptor.digest for descriptor, _ in pairs)
    fit = [descriptor for descriptor, _ in pairs if carried[descriptor.digest] > faulty]
    return max(fit, key=lambda d: (d.published, d.digest), default=None)


def _agreed(
    pairs: Sequence[tuple[Descriptor, Observation]], faulty: int, valid_after: int
) -> Observation:
    """Merge what the votes observed of one node by the (b+1)-th highest rule."""
    observations = [observation for _, observation in pairs]
    # `since` is better when lower: what is missing counts as "from now on".
    since = sorted(min(o.since or valid_after, valid_after) for o in observations)[faulty:]
    return Observation(
        uptime=_rank(faulty, (o.uptime for o in observations)),
        since=since[0] if since else valid_after,
        bandwidth=_rank(faulty, (o.bandwidth for o in observations)),
        fuel_rate=_rank(faulty, (o.fuel_rate for o in observations)),
    )


def _rank(faulty: int, values: Iterable[int]) -> int:
    """Return the (b+1)-th highest value, 0 if there are not so many."""
    ordered = sorted(values, reverse=True)
    return ordered[faulty] if faulty < len(ordered) else 0


def _flagged(listed: Sequence[tuple[Descriptor, Observation]]) -> list[Entry]:
    relays = [pair for pair in listed if pair[0].description.role is Role.RELAY]
    stable = min(_median([seen.uptime for _, seen in relays]), STABLE_UPTIME)
    speeds = [max(seen.bandwidth, BANDWIDTH_FLOOR) for _, seen in relays]
    fast = min(_median(speeds), FAST_BANDWIDTH)
    entries = []
    for descriptor, seen in listed:
        flags = Flag.RUNNING | Flag.VALID
        if descriptor.description.role is Role.WORKER:
            flags |= Flag.WORKER
            fuel_rate = max(seen.fuel_rate, FUEL_FLOOR)
            entries.append(_entry(descriptor, flags, seen.since, fuel_rate=fuel_rate))
            continue
        bandwidth = max(seen.bandwidth, BANDWIDTH_FLOOR)
        flags |= Flag.STABLE if seen.uptime >= stable else Flag(0)
        flags |= Flag.FAST if bandwidth >= fast else Flag(0)
        if Flag.STABLE in flags and Flag.FAST in flags:
            flags |= Flag.GUARD
        entries.append(_entry(descriptor, flags, seen.since, bandwidth=bandwidth))
    return entries


def _median(values: Sequence[int]) -> int:
    """Return the lower median, 0 of nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0


def _entry(
    descriptor: Descriptor, flags: Flag, since: int, bandwidth: int = 0, fuel_rate: int = 0
) -> Entry:
    description = descriptor.description
    return Entry(
        identity=descriptor.identity,
        nickname=description.nickname,
        flags=flags,
        addresses=description.addresses,
        onion_key=descriptor.onion_key,
        families=descriptor.families,
        services=description.services,
        protocols=description.protocols,
        bandwidth=bandwidth,
        fuel_rate=fuel_rate,
        memory=description.memory,
        cores=description.cores,
        engine=description.engine,
        runtimes=description.runtimes,
        since=since,
    )


def _admitted(
    entries: Iterable[Entry],
    required: Sequence[int],
    engines: Sequence[str],
    revoked: Sequence[NodeId],
) -> tuple[Entry, ...]:
    """Drop what policy shuts out, and put the rest in order."""
    shut_out, classes, needed = set(revoked), set(engines), set(required)
    kept = [
        entry
        for entry in entries
        if entry.identity not in shut_out
        and needed <= set(entry.protocols)
        and (Flag.WORKER not in entry.flags or not classes or entry.engine in classes)
    ]
    kept.sort(key=lambda entry: entry.identity)
    return tuple(kept[:MAX_ENTRIES])
