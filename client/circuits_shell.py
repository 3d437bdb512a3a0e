"""Building circuits: a path, an attempt, and another within a budget (spec/06 §4).

with builder.circuits() as circuits:          # of one job
    built = await circuits.to_worker(topology)
    stream = await built.circuit.open_stream("job")
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import trio

from fogbank.client import guards
from fogbank.client.chance import Chooser
from fogbank.client.directory_cache_shell import DirectoryCache, DirectoryOpener
from fogbank.client.errors import CircuitUnavailable, DirectoryUnavailable, NoPath
from fogbank.client.guards import Outcome
from fogbank.client.guards_store_shell import GuardStore
from fogbank.client.limits import LIMITS, ClientLimits
from fogbank.client.paths import (
    Avoid,
    Entrance,
    Path,
    choose_worker,
    path_to_authority,
    path_to_worker,
)
from fogbank.client.topology import Topology
from fogbank.directory.consensus import Entry, Flag
from fogbank.directory.entries import MINT_SERVICE
from fogbank.directory.exchange import SERVICE
from fogbank.directory.network import AuthorityPin
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.errors import LinkFailed, RelayError, WorkRefused
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream


class CircuitLike(Protocol):
    """What this module needs of a circuit; `fogbank.relay.circuits.shell.Circuit` is one."""

    async def open_stream(self, service: str) -> Stream:
        """Begin a stream to a service of the last hop."""

    def close(self) -> None:
        """End the circuit; more than once is allowed."""


_C = TypeVar("_C", bound=CircuitLike)
_C_co = TypeVar("_C_co", bound=CircuitLike, covariant=True)


class CircuitMaker(Protocol[_C_co]):
    """Who makes links and circuits; `fogbank.relay.node_shell.Node` is one."""

    async def link(self, identity: NodeId, addresses: Sequence[Address]) -> object:
        """Make a link, unless one stands; raise `LinkFailed`."""

    async def build(self, hops: Sequence[Hop]) -> _C_co:
        """Build a circuit; raise `LinkFailed` for the first hop's link, else a `RelayError`."""


class DirectMaker(Protocol):
    """Who makes circuits of one hop; `fogbank.relay.node_shell.Node` is one."""

    async def build_direct(self, identity: NodeId, addresses: tuple[Address, ...]) -> CircuitLike:
        """Build a circuit of one hop, whose onion key the link shows."""


@dataclass(frozen=True, slots=True)
class BuiltCircuit(Generic[_C]):
    """A circuit and the path that it takes."""

    circuit: _C
    path: Path


class CircuitBuilder(Generic[_C]):
    """Builds circuits through this client's guards. One for a process is enough.

    `clock` is the wall clock in seconds; `warn` hears sentences for the user.
    """

    def __init__(
        self,
        maker: CircuitMaker[_C],
        store: GuardStore,
        chooser: Chooser,
        warn: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        limits: ClientLimits = LIMITS,
    ) -> None:
        self._maker = maker
        self._store = store
        self._clock = clock
        self._warn = warn
        self._warned: set[NodeId] = set()
        self.chooser = chooser
        self.limits = limits

    def circuits(self, failures: float | None = None) -> CircuitSet[_C]:
        """Return an empty set of circuits, for one job, of which so many attempts may fail."""
        return CircuitSet(self, self.limits.job_failures if failures is None else failures)

    def entrance(self, topology: Topology) -> Entrance:
        """Bring the guards up to date; return by which relays to begin."""
        now = self._clock()
        state = self._store.change(
            lambda state: guards.update(state, topology, now, self.chooser, self.limits)
        )
        groups = guards.tiers(state, topology, now, self.limits)
        return Entrance(groups, tuple(guard.identity for guard in state.layer_two))

    async def attempt(self, topology: Topology, path: Path) -> _C:
        """Build one circuit and report to the guards how it went; raise `RelayError`."""
        guard, seconds = path.guard, self.limits.attempt_seconds
        try:
            await self._link(guard)
            with trio.fail_after(seconds):
                circuit = await self._maker.build(path.hops())
        except LinkFailed:
            self._report(topology, guard.identity, Outcome.UNREACHABLE)
            raise
        except WorkRefused:
            # A relay on the path is overloaded: that says nothing about the guard.
            raise
        except RelayError:
            self._report(topology, guard.identity, Outcome.BROKEN)
            raise
        except trio.TooSlowError as error:
            self._report(topology, guard.identity, Outcome.BROKEN)
            raise RelayError(f"the circuit was not complete within {seconds:g} s") from error
        self._report(topology, guard.identity, Outcome.BUILT)
        return circuit

    async def _link(self, guard: Entry) -> None:
        seconds = self.limits.attempt_seconds
        try:
            with trio.fail_after(seconds):
                await self._maker.link(guard.identity, guard.addresses)
        except trio.TooSlowError as error:
            raise LinkFailed(f"the guard did not answer within {seconds:g} s") from error

    def _report(self, topology: Topology, guard: NodeId, outcome: Outcome) -> None:
        now = self._clock()
        state = self._store.change(
            lambda state: guards.report(state, guard, outcome, now, self.chooser, self.limits)
        )
        for identity, sentence in guards.warnings(state, topology).items():
            if identity not in self._warned:
                self._warned.add(identity)
                self._warn(sentence)


class CircuitSet(Generic[_C]):
    """The circuits of one job: no other job uses them, and they end with it (spec/06 §4)."""

    def __init__(self, builder: CircuitBuilder[_C], failures: float) -> None:
        self._builder = builder
        self._most_failures = failures
        self._circuits: list[_C] = []
        self._failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all circuits of the job."""
        while self._circuits:
            self._circuits.pop().close()

    def end(self, circuit: _C) -> None:
        """End one of the circuits."""
        circuit.close()
        if circuit in self._circuits:
            self._circuits.remove(circuit)

    async def to_worker(
        self,
        topology: Topology,
        *,
        worker: NodeId | None = None,
        engine: str | None = None,
        runtime: bytes | None = None,
        exclude: frozenset[NodeId] = frozenset(),
        attempts: int | None = None,
    ) -> BuiltCircuit[_C]:
        """Build a new circuit to a worker: a given one, or one drawn by weight that fits.

        It fits if it is of the engine class, holds the runtime and is not excluded. Raises
        `NoPath`, or `CircuitUnavailable` once the budget, or so many attempts, are spent.
        """
        draw = partial(choose_worker, topology, self._builder.chooser)
        draw = partial(draw, engine=engine, runtime=runtime)
        choice = _WorkerChoice(topology, self._builder.chooser, worker, draw, exclude)
        return await self._build(topology, choice.path, attempts)

    async def to_authority(
        self, topology: Topology, authority: NodeId, *, attempts: int | None = None
    ) -> BuiltCircuit[_C]:
        """Build a new circuit to an authority of the consensus; errors as for `to_worker`.

        One that left office and serves the mint's series still (spec/09 §2.1) is reached likewise.
        """
        entry = topology.consensus.by_identity(authority)
        if entry is None or not (entry.flags & Flag.AUTHORITY or MINT_SERVICE in entry.services):
            raise NoPath("that authority is not in the consensus: ask another one")
        chooser = self._builder.chooser

        def path(entrance: Entrance, avoid: Avoid) -> Path:
            return path_to_authority(topology, entry, entrance, chooser, avoid)

        return await self._build(topology, path, attempts)

    async def _build(
        self,
        topology: Topology,
        choose: Callable[[Entrance, Avoid], Path],
        attempts: int | None = None,
    ) -> BuiltCircuit[_C]:
        limits = self._builder.limits
        trouble: list[str] = []
        unlinked: set[NodeId] = set()
        avoid = Avoid()
        with trio.move_on_after(limits.build_seconds):
            for _ in range(attempts or limits.build_attempts):
                if self._failures >= self._most_failures:
                    trouble.append(f"{self._failures} attempts failed for this job")
                    break
                entrance = self._builder.entrance(topology).without(unlinked)
                if unlinked and not entrance.guards:
                    break
                try:
                    path = choose(entrance, avoid)
                except NoPath as error:
                    if not trouble:
                        raise
                    trouble.append(str(error))
                    break
                try:
                    circuit = await self._builder.attempt(topology, path)
                except LinkFailed as error:
                    unlinked.add(path.guard.identity)
                    avoid = avoid.after([path.guard])
                    trouble.append(f"{path.guard.nickname}: {error}")
                except RelayError as error:
                    avoid = avoid.after(path.relays)
                    trouble.append(f"{' → '.join(path.nicknames)}: {error}")
                else:
                    self._circuits.append(circuit)
                    return BuiltCircuit(circuit, path)
                self._failures += 1
        raise _unavailable(trouble, offline=0 < len(trouble) == len(unlinked))


class _WorkerChoice:
    """Which worker each attempt goes to: one not yet tried, if it is free to choose."""

    def __init__(
        self,
        topology: Topology,
        chooser: Chooser,
        worker: NodeId | None,
        draw: Callable[..., Entry],
        exclude: frozenset[NodeId],
    ) -> None:
        self._topology = topology
        self._chooser = chooser
        self._draw = draw
        self._fixed = self._entry(worker) if worker is not None else None
        self._tried: frozenset[NodeId] = frozenset()
        self._barred = exclude

    def _entry(self, worker: NodeId) -> Entry:
        for entry in self._topology.workers.items:
            if entry.identity == worker:
                return entry
        raise NoPath("that worker does not run now: choose another one, or let one be chosen")

    def path(self, entrance: Entrance, avoid: Avoid) -> Path:
        """Return the path of the next attempt; raise `NoPath` if no worker has one."""
        if self._fixed is not None:
            return path_to_worker(self._topology, self._fixed, entrance, self._chooser, avoid)
        obstacle: NoPath | None = None
        while True:
            try:
                worker = self._next()
            except NoPath as error:
                raise obstacle or error from None
            try:
                path = path_to_worker(self._topology, worker, entrance, self._chooser, avoid)
            except NoPath as error:
                obstacle = error
                self._barred |= {worker.identity}
            else:
                self._tried |= {worker.identity}
                return path

    def _next(self) -> Entry:
        excluded = self._tried | self._barred
        if self._tried:
            try:
                return self._draw(exclude=excluded)
            except NoPath:
                # All were tried once: begin again.
                self._tried = frozenset()
        return self._draw(exclude=self._barred)


def _unavailable(trouble: Sequence[str], *, offline: bool) -> CircuitUnavailable:
    """Return the error, with the reasons of the last attempts: as many as a reader wants."""
    tried = "; ".join(trouble[-3:]) or "nothing, for want of time"
    if offline:
        what = (
            "none of this client's guards can be reached: check that this machine is online and "
            "that no firewall is in the way"
        )
    else:
        what = "no circuit could be built: try again in a while"
    return CircuitUnavailable(f"{what}. Tried: {tried}")


def directly(maker: DirectMaker, service: str = SERVICE) -> DirectoryOpener:
    """Return what opens streams to a service over one hop: an authority then sees this machine."""

    @asynccontextmanager
    async def opener(pin: AuthorityPin) -> AsyncIterator[Stream]:
        circuit = await maker.build_direct(pin.identity, pin.addresses)
        try:
            stream = await circuit.open_stream(service)
            yield stream
            await stream.aclose()
        finally:
            circuit.close()

    return opener


def over_circuits(builder: CircuitBuilder[_C], cache: DirectoryCache) -> DirectoryOpener:
    """Return what opens `dir` streams over full circuits, a new one each time."""

    @asynccontextmanager
    async def opener(pin: AuthorityPin) -> AsyncIterator[Stream]:
        topology = cache.topology
        if topology is None:
            raise DirectoryUnavailable("a full circuit needs a live consensus first")
        with builder.circuits() as circuits:
            built = await circuits.to_authority(topology, pin.identity)
            stream = await built.circuit.open_stream(SERVICE)
            yield stream
            await stream.aclose()

    return opener
