"""Guards: which relays a client enters by (spec/06 §2). Pure: state in, state out.

The rule above all others: only a failed link to a guard counts against it. What fails further on
could be brought about by any relay of the path, which would then choose the client's guards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from fogbank.client.chance import Chooser, between, jitter
from fogbank.client.limits import LIMITS, ClientLimits
from fogbank.client.topology import Topology
from fogbank.directory.consensus import Entry, Flag
from fogbank.relay.keys import NodeId

_COUNT_CEILING = 200
_WARN_FAILURES = 20
_WARN_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Guard:
    """A relay in the sample. Times in seconds since 1970; 0 is "never".

    `failures` counts failed links in a row; `circuits` those tried over an open link, and
    `failed` those of them that failed.
    """

    identity: NodeId
    added: int
    expires: int
    confirmed: int = 0
    unlisted_since: int = 0
    unreachable_since: int = 0
    failures: int = 0
    retry_at: int = 0
    circuits: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class LayerTwo:
    """A layer-2 guard and when it is replaced."""

    identity: NodeId
    expires: int


@dataclass(frozen=True, slots=True)
class GuardState:
    """All that a client remembers of its guards; a new client's is empty."""

    sample: tuple[Guard, ...] = ()
    layer_two: tuple[LayerTwo, ...] = ()
    last_success: int = 0


class Outcome(Enum):
    """How an attempt at a circuit ended, seen from its guard."""

    BUILT = "built"
    BROKEN = "broken"
    """The link was there, and the circuit failed."""
    UNREACHABLE = "unreachable"
    """The link to the guard could not be had."""


def update(
    state: GuardState,
    topology: Topology,
    now: float,
    chooser: Chooser,
    limits: ClientLimits = LIMITS,
) -> GuardState:
    """Return the state brought up to date with a consensus and the time (spec/06 §2.1, §2.4).

    The same state comes back if nothing changed.
    """
    second = int(now)
    sample = [_aged(guard, topology, second, limits) for guard in state.sample]
    sample = [guard for guard in sample if not _is_over(guard, second, limits)]
    _fill_sample(sample, topology, second, chooser, limits)
    layer_two = _layer_two(state.layer_two, topology, second, chooser, limits)
    last_success = min(state.last_success, second)
    new = GuardState(tuple(sample), layer_two, last_success)
    return state if new == state else new


def _aged(guard: Guard, topology: Topology, now: int, limits: ClientLimits) -> Guard:
    """Note whether the guard is listed; bring times of a clock that was wrong within reach."""
    is_listed = topology.guard(guard.identity) is not None
    unlisted_since = 0 if is_listed else min(guard.unlisted_since or now, now)
    return replace(
        guard,
        added=min(guard.added, now),
        expires=min(guard.expires, now + limits.guard_lifetime[1]),
        confirmed=min(guard.confirmed, now),
        unlisted_since=unlisted_since,
        unreachable_since=min(guard.unreachable_since, now),
        retry_at=min(guard.retry_at, now + 2 * limits.retry_longest),
    )


def _is_over(guard: Guard, now: int, limits: ClientLimits) -> bool:
    gone = guard.unlisted_since and now - guard.unlisted_since >= limits.unlisted_lifetime
    return bool(gone) or now >= guard.expires


def _fill_sample(
    sample: list[Guard], topology: Topology, now: int, chooser: Chooser, limits: ClientLimits
) -> None:
    everyone = topology.guards
    count = len(everyone.items)
    wanted = math.ceil(limits.sample_share * count)
    wanted = min(max(wanted, limits.sample_least), limits.sample_most, count)
    missing = wanted - sum(1 for guard in sample if not guard.unlisted_since)
    known = {guard.identity for guard in sample}
    for _ in range(min(missing, limits.sample_ceiling - len(sample))):
        entry = everyone.draw_where(lambda other: other.identity not in known, chooser)
        if entry is None:
            break
        known.add(entry.identity)
        sample.append(Guard(entry.identity, now, now + between(limits.guard_lifetime, chooser)))


def _layer_two(
    old: Sequence[LayerTwo],
    topology: Topology,
    now: int,
    chooser: Chooser,
    limits: ClientLimits,
) -> tuple[LayerTwo, ...]:
    """Keep what still holds of the layer-2 guards, and replace the others.

    One that clashes with another stays only until a relay runs that clashes with none: a client
    whose four had been drawn while that one was down might have no path for days.
    """
    latest, count = now + limits.layer_two_lifetime[1], limits.layer_two_guards
    usable = [
        replace(guard, expires=min(guard.expires, latest))
        for guard in old
        if now < guard.expires and topology.relay(guard.identity) is not None
    ][:count]
    kept, clashing = _split(usable, topology)
    while len(kept) < count:
        entry = _another(kept, clashing, topology, chooser)
        if entry is not None:
            kept.append(LayerTwo(entry.identity, now + between(limits.layer_two_lifetime, chooser)))
        elif clashing:
            kept.append(clashing.pop(0))
        else:
            break
    return tuple(kept)


def _split(guards: Sequence[LayerTwo], topology: Topology) -> tuple[list[LayerTwo], list[LayerTwo]]:
    """Return those that clash with none before them, and the others."""
    apart: list[LayerTwo] = []
    clashing: list[LayerTwo] = []
    for guard in guards:
        is_apart = _taken([guard], topology).isdisjoint(_taken(apart, topology))
        (apart if is_apart else clashing).append(guard)
    return apart, clashing


def _taken(guards: Sequence[LayerTwo], topology: Topology) -> frozenset[bytes]:
    """Return the keys that no further guard may have in common with these."""
    entries = [entry for guard in guards if (entry := topology.relay(guard.identity)) is not None]
    return frozenset(key for entry in entries for key in topology.keys(entry))


def _another(
    kept: Sequence[LayerTwo],
    clashing: Sequence[LayerTwo],
    topology: Topology,
    chooser: Chooser,
) -> Entry | None:
    """Draw one more layer-2 guard: of those that clash with none first, of these Stable ones.

    One that clashes is drawn only if none that does is there to be kept.
    """
    known = {guard.identity for guard in kept}
    taken = _taken(kept, topology)

    def is_apart(entry: Entry) -> bool:
        return taken.isdisjoint(topology.keys(entry))

    def is_best(entry: Entry) -> bool:
        return Flag.STABLE in entry.flags and is_apart(entry)

    def is_new(entry: Entry) -> bool:
        return entry.identity not in known

    for accept in (is_best, is_apart) if clashing else (is_best, is_apart, is_new):
        entry = topology.relays.draw_where(accept, chooser)
        if entry is not None:
            return entry
    return None


def ordered(state: GuardState) -> tuple[Guard, ...]:
    """Return the listed guards in the order of preference: confirmed ones first (spec/06 §2.2)."""
    listed = [guard for guard in state.sample if not guard.unlisted_since]
    return tuple(sorted(listed, key=lambda guard: guard.confirmed or math.inf))


def primary(
    state: GuardState, topology: Topology, limits: ClientLimits = LIMITS
) -> tuple[Guard, ...]:
    """Return the primary guards: the first two that do not clash (spec/06 §2.2)."""
    chosen: list[Guard] = []
    taken: frozenset[bytes] = frozenset()
    candidates = ordered(state)
    for guard in candidates:
        entry = topology.relay(guard.identity)
        if entry is not None and taken.isdisjoint(topology.keys(entry)):
            taken |= topology.keys(entry)
            chosen.append(guard)
        if len(chosen) == limits.primary_guards:
            break
    rest = [guard for guard in candidates if guard not in chosen]
    return (*chosen, *rest[: limits.primary_guards - len(chosen)])


def tiers(
    state: GuardState, topology: Topology, now: float, limits: ClientLimits = LIMITS
) -> tuple[tuple[NodeId, ...], ...]:
    """Return which guards to begin a circuit at: any of the first group, else of the next (§2.2).

    If every guard waits for a retry, the primary ones come all the same.
    """
    first = primary(state, topology, limits)
    rest = [guard for guard in ordered(state) if guard not in first]
    ready = tuple(guard.identity for guard in first if guard.retry_at <= now)
    groups = [ready] if ready else []
    groups += [(guard.identity,) for guard in rest if guard.retry_at <= now]
    if not groups and first:
        groups = [tuple(guard.identity for guard in first)]
    return tuple(groups)


def report(
    state: GuardState,
    identity: NodeId,
    outcome: Outcome,
    now: float,
    chooser: Chooser,
    limits: ClientLimits = LIMITS,
) -> GuardState:
    """Return the state after an attempt at a circuit through a guard (spec/06 §2.3)."""
    second = int(now)
    if outcome is Outcome.UNREACHABLE:
        return _changed(state, identity, lambda g: _unreachable(g, second, chooser, limits))
    if outcome is Outcome.BROKEN:
        return _changed(state, identity, lambda g: _counted(_reached(g), failed=1))
    if second - state.last_success > limits.likely_down:
        state = _retry_better(state, identity, second)
    state = _changed(state, identity, lambda g: _counted(_confirmed(g, second), failed=0))
    return replace(state, last_success=second)


def _changed(state: GuardState, identity: NodeId, change: Callable[[Guard], Guard]) -> GuardState:
    sample = tuple(change(g) if g.identity == identity else g for g in state.sample)
    return replace(state, sample=sample)


def _unreachable(guard: Guard, now: int, chooser: Chooser, limits: ClientLimits) -> Guard:
    # Past some failures the wait is the longest one anyway.
    wait = min(limits.retry_first * 2 ** min(guard.failures, 16), limits.retry_longest)
    return replace(
        guard,
        unreachable_since=guard.unreachable_since or now,
        failures=min(guard.failures + 1, 1 << 16),
        retry_at=now + math.ceil(wait * jitter(chooser)),
    )


def _reached(guard: Guard) -> Guard:
    return replace(guard, unreachable_since=0, failures=0, retry_at=0)


def _confirmed(guard: Guard, now: int) -> Guard:
    return replace(_reached(guard), confirmed=guard.confirmed or now)


def _counted(guard: Guard, failed: int) -> Guard:
    circuits, failures = guard.circuits + 1, guard.failed + failed
    if circuits >= _COUNT_CEILING:
        circuits, failures = circuits // 2, failures // 2
    return replace(guard, circuits=circuits, failed=failures)


def _retry_better(state: GuardState, identity: NodeId, now: int) -> GuardState:
    """Let every guard before this one in the order be tried again at once."""
    for guard in ordered(state):
        if guard.identity == identity:
            break
        if guard.retry_at > now:
            state = _changed(state, guard.identity, lambda g: replace(g, retry_at=now))
    return state


def warnings(state: GuardState, topology: Topology) -> dict[NodeId, str]:
    """Return a sentence for each guard through which most circuits fail (spec/06 §2.3)."""
    sentences = {}
    for guard in state.sample:
        entry = topology.relay(guard.identity)
        often = guard.failed >= max(_WARN_FAILURES, _WARN_SHARE * guard.circuits)
        if entry is not None and often:
            sentences[guard.identity] = (
                f"{guard.failed} of the last {guard.circuits} circuits through the guard "
                f"{entry.nickname} failed beyond it: it may be overloaded, or choose which "
                "circuits to let pass"
            )
    return sentences
