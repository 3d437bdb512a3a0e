"""Paths: three relays and an end that keep all limits (spec/06 §3). Pure.

A few draws nearly always find a path; only if they do not, or if some relays are suspect, are all
paths looked at. Either way the odds of a path are the weight of its third relay, and a path that
exists is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import product

from fogbank.client.chance import Chooser, Weighted
from fogbank.client.errors import NoPath
from fogbank.client.topology import FAMILY, NODE, PREFIX, Topology, relay_weight
from fogbank.directory.consensus import Entry
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.keys import NodeId

_DRAWS = 32
"""Draws that may miss before all paths are looked at."""

_Triple = tuple[Entry, Entry, Entry]
_Keys = Callable[[Entry], frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class Path:
    """Guard, layer-2 guard, third relay, and the worker or authority at the end."""

    guard: Entry
    layer_two: Entry
    third: Entry
    end: Entry

    @property
    def relays(self) -> _Triple:
        """The three relays, in order."""
        return self.guard, self.layer_two, self.third

    @property
    def nicknames(self) -> tuple[str, ...]:
        """The nicknames of all four, in order, to show to the user."""
        return tuple(entry.nickname for entry in (*self.relays, self.end))

    def hops(self) -> tuple[Hop, ...]:
        """Return what the circuit is built from; a worker is reached over its standing link."""
        return tuple(hop(entry) for entry in (*self.relays, self.end))


def hop(entry: Entry) -> Hop:
    """Return an entry as a hop of a circuit."""
    return Hop(entry.identity, entry.onion_key, entry.addresses or None)


@dataclass(frozen=True, slots=True)
class Entrance:
    """By which relays a path may begin (spec/06 §2).

    `guards` are groups: a later one counts only if none before it gives a path.
    """

    guards: tuple[tuple[NodeId, ...], ...]
    layer_two: tuple[NodeId, ...]

    def without(self, guards: Set[NodeId]) -> Entrance:
        """Return the entrance without some of its guards."""
        groups = (tuple(guard for guard in group if guard not in guards) for group in self.guards)
        return Entrance(tuple(filter(None, groups)), self.layer_two)


@dataclass(frozen=True, slots=True)
class Avoid:
    """What a path keeps away from (spec/06 §4): `exclude` always, `suspects` as far as it can.

    `suspects` counts of how many failed attempts each relay was part.
    """

    exclude: frozenset[NodeId] = frozenset()
    suspects: Mapping[NodeId, int] = field(default_factory=dict)

    def suspicion(self, entry: Entry) -> int:
        """Return how suspect a relay is."""
        return self.suspects.get(entry.identity, 0)

    def after(self, relays: Iterable[Entry]) -> Avoid:
        """Return what to avoid after an attempt failed that these relays were part of."""
        suspects = dict(self.suspects)
        for relay in relays:
            suspects[relay.identity] = suspects.get(relay.identity, 0) + 1
        return Avoid(self.exclude, suspects)


NOTHING = Avoid()


def choose_worker(
    topology: Topology,
    chooser: Chooser,
    *,
    engine: str | None = None,
    runtime: bytes | None = None,
    exclude: frozenset[NodeId] = frozenset(),
) -> Entry:
    """Draw a worker by weight, of an engine class and with a runtime if required (spec/06 §3).

    `runtime` is the SHA-256 of its module. Raises `NoPath` if there is none.
    """
    everyone = topology.workers

    def fits(entry: Entry) -> bool:
        held = runtime is None or runtime in entry.runtimes
        return held and engine in {None, entry.engine}

    chosen = everyone.draw_where(
        lambda entry: fits(entry) and entry.identity not in exclude, chooser
    )
    if chosen is not None:
        return chosen
    if any(map(fits, everyone.items)):
        raise NoPath("none of the workers could be reached: try again in a while")
    if everyone.items and runtime is not None:
        raise NoPath(
            "no worker that fits holds the runtime that is required: wait for the next consensus, "
            "or give it to a worker of yours with `fog worker runtime add`"
        )
    if everyone.items:
        raise NoPath(
            f"no worker is of the engine class {engine!r}: run the job without requiring one, or "
            "wait until such a worker joins"
        )
    raise NoPath(
        "the network lists no worker that runs now: wait for the next consensus, or start one "
        "with `fog worker run`"
    )


def path_to_worker(
    topology: Topology,
    worker: Entry,
    entrance: Entrance,
    chooser: Chooser,
    avoid: Avoid = NOTHING,
) -> Path:
    """Choose a path to a worker, by one of its contact relays; raise `NoPath`."""
    contacts = topology.contacts(worker)
    if not contacts:
        raise NoPath(
            f"no relay that the worker {worker.nickname} keeps a link to is running: try another "
            "worker, or wait for the next consensus"
        )
    thirds = Weighted(contacts, map(relay_weight, contacts))
    return _Search(topology, worker, thirds, entrance, avoid).path(chooser)


def path_to_authority(
    topology: Topology,
    authority: Entry,
    entrance: Entrance,
    chooser: Chooser,
    avoid: Avoid = NOTHING,
) -> Path:
    """Choose a path to an authority, by any relay; raise `NoPath`."""
    return _Search(topology, authority, topology.relays, entrance, avoid).path(chooser)


class _Search:
    """The search for one path's three relays."""

    def __init__(
        self,
        topology: Topology,
        end: Entry,
        thirds: Weighted[Entry],
        entrance: Entrance,
        avoid: Avoid,
    ) -> None:
        self._topology = topology
        self._end = end
        self._avoid = avoid
        self._thirds = thirds
        self._guards = entrance.guards
        self._layer_two = self._known(entrance.layer_two)

    def _known(self, identities: Sequence[NodeId]) -> list[Entry]:
        found = map(self._topology.relay, identities)
        return [entry for entry in found if entry is not None]

    def _groups(self) -> Iterator[list[Entry]]:
        return map(self._known, self._guards)

    def path(self, chooser: Chooser) -> Path:
        """Return a path; raise `NoPath` if there is none."""
        triple = (None if self._avoid.suspects else self._drawn(chooser)) or self._best(chooser)
        if triple is None:
            raise NoPath(self._obstacle())
        return Path(*triple, self._end)

    def _drawn(self, chooser: Chooser) -> _Triple | None:
        """Return a path that a few draws gave, or None."""
        guards, layer_two, thirds = next(self._groups(), []), self._layer_two, self._thirds
        if not (guards and layer_two and thirds.items):
            return None
        exclude = self._avoid.exclude
        for _ in range(_DRAWS):
            triple = (
                guards[chooser.below(len(guards))],
                layer_two[chooser.below(len(layer_two))],
                thirds.draw(chooser),
            )
            if _apart((*triple, self._end), self._topology.keys) and not (
                exclude and any(relay.identity in exclude for relay in triple)
            ):
                return triple
        return None

    def _best(self, chooser: Chooser) -> _Triple | None:
        """Look at all paths through the first guards that have one; draw a least suspect one."""
        suspicion = self._avoid.suspicion
        for group in self._groups():
            allowed = list(self._allowed(group, self._topology.keys, self._avoid.exclude))
            if allowed:
                totals = [sum(map(suspicion, triple)) for triple in allowed]
                least = min(totals)
                fit = [t for t, total in zip(allowed, totals, strict=True) if total == least]
                return Weighted(fit, (relay_weight(triple[2]) for triple in fit)).draw(chooser)
        return None

    def _allowed(
        self, guards: Sequence[Entry], keys: _Keys, exclude: frozenset[NodeId]
    ) -> Iterator[_Triple]:
        for guard, layer_two in product(guards, self._layer_two):
            if not _apart((guard, layer_two, self._end), keys):
                continue
            taken = keys(guard) | keys(layer_two) | keys(self._end)
            if not exclude.isdisjoint((guard.identity, layer_two.identity)):
                continue
            for third in self._thirds.items:
                if third.identity not in exclude and taken.isdisjoint(keys(third)):
                    yield guard, layer_two, third

    def _obstacle(self) -> str:
        """Say which limit leaves no path, and what to do (spec/06 §3)."""
        if not any(self._groups()):
            return (
                "no relay of the network is a guard now: wait for the next consensus, or until "
                "more relays run"
            )
        topology, end = self._topology, self._end.nickname
        if self._exists(topology.keys, frozenset()):
            return f"every other path to {end} was tried or excluded: try again in a while"
        without_family = _only(topology.keys, NODE + PREFIX)
        without_prefix = _only(topology.keys, NODE + FAMILY)
        advice = "more relays of other operators are needed, or another end"
        if self._exists(without_family, frozenset()):
            return f"every path to {end} would hold two nodes of one family: {advice}"
        if self._exists(without_prefix, frozenset()):
            return (
                f"every path to {end} would hold two nodes in one /16 (IPv6: /32) of addresses: "
                f"{advice}"
            )
        if self._exists(_only(topology.keys, NODE), frozenset()):
            return (
                f"every path to {end} would hold two nodes of one family or in one /16 (IPv6: "
                f"/32) of addresses: {advice}"
            )
        return (
            f"there are too few relays for a path to {end}, which needs three different ones: "
            "wait for the next consensus, or until more relays run"
        )

    def _exists(self, keys: _Keys, exclude: frozenset[NodeId]) -> bool:
        return any(True for group in self._groups() for _ in self._allowed(group, keys, exclude))


def _apart(entries: Sequence[Entry], keys: _Keys) -> bool:
    """Tell whether no two of the entries have a key in common."""
    sets = [keys(entry) for entry in entries]
    return len(frozenset().union(*sets)) == sum(map(len, sets))


def _only(keys: _Keys, kinds: bytes) -> _Keys:
    """Return the keys of some kinds of limit, so that the others do not count."""
    return lambda entry: frozenset(key for key in keys(entry) if key[0] in kinds)
