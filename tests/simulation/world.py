"""A simulated network: its hosts, its wires, its time, and what is known of its past."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fogbank.directory.addresses import Address
from fogbank.directory.consensus import Consensus, Entry
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    Timing,
    dump_network,
)
from fogbank.nodes.policy_file import POLICY_FILE
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.keys import NodeId, show_id
from tests.simulation.actors import (
    PORT,
    Actor,
    AuthorityActor,
    ClientActor,
    ProcessIsDead,
    RelayActor,
    WorkerActor,
)
from tests.simulation.chance import Chance
from tests.simulation.credit import Market
from tests.simulation.jobs import LIES
from tests.simulation.liars import LIARS
from tests.simulation.people import CheatActor, PersonActor
from tests.simulation.researchers import ResearcherActor
from tests.simulation.tasks import Tasks
from tests.simulation.trace import Trace
from tests.simulation.wire import Wire

WALL = 1_800_000_000.0
"""The wall clock when a run begins."""
LEAD = 2
TIMING = Timing(int(WALL) + LEAD, 500, 30, warmup_rounds=5, warmup_interval=5)
_GRANTED = 20
"""Tokens that each person is allotted in a series."""
_AGES = (0.0, 86_300.0, 6.99 * 86_400, 19.99 * 86_400)
"""Keys may have been made so many seconds ago: some are then soon to be renewed."""


@dataclass(frozen=True)
class Size:
    """How many actors of each kind; `calm`: nobody lies; `liar`: an authority does, in that way."""

    authorities: int = 4
    relays: int = 8
    workers: int = 5
    clients: int = 3
    researchers: int = 0
    calm: bool = False
    liar: str = ""
    people: int = 0

    @classmethod
    def read(cls, text: str, *, calm: bool) -> Size:
        """Read `authorities,relays,workers,clients[,researchers[,people]]`."""
        authorities, relays, workers, clients, *rest = map(int, text.split(","))
        researchers, people = (*rest, 0, 0)[:2]
        return cls(authorities, relays, workers, clients, researchers, calm, people=people)

    @classmethod
    def drawn(cls, seed: int) -> Size:
        """Return the size of a seed's network: mostly small, as small ones run soon."""
        chance = Chance(seed, "size")
        authorities = chance.choices((4, 5, 7), (8, 1, 1))[0]
        if chance.once_in(0.3):
            # Rounds alone, which run many times as fast.
            return cls(authorities, 3, 0, 0)
        sizes = chance.randint(5, 8), chance.randint(2, 4), chance.randint(1, 3)
        researchers = Chance(seed, "researchers").choice((0, 1, 1, 2))
        people = Chance(seed, "people").choice((0, 0, 2, 3))
        return cls(authorities, *sizes, researchers, people=people)


@dataclass
class World:
    """One run's network. `rng` draws faults; every actor has chance of its own."""

    seed: int
    folder: Path
    trace: Trace
    size: Size = field(default_factory=Size)
    busy: bool = True
    """Whether clients begin new jobs."""
    is_trading: bool = True
    """Whether people pay each other."""

    def __post_init__(self) -> None:
        self.rng = Chance(self.seed, "faults")
        self.wire = Wire(self.seed, self.trace)
        self.tasks = Tasks()
        self.market = Market()
        self.actors: list[Actor] = []
        self.consensuses: dict[int, dict[bytes, list[str]]] = {}
        """Who held which consensus: by `valid_after`, then digest."""
        self.faulty: dict[str, list[tuple[float, float]]] = {}
        """When each authority was not as it must be, in seconds since 1970."""
        self._open_faults: dict[str, list[float]] = {}
        self.checked: dict[str, int] = {}
        """What invariants remember between steps."""

    @staticmethod
    def now() -> float:
        """Return the right time, in seconds since 1970."""
        return WALL + trio.current_time()

    # Actors.

    def authorities(self) -> list[AuthorityActor]:
        """Return the authorities."""
        return [actor for actor in self.actors if isinstance(actor, AuthorityActor)]

    def clients(self) -> list[ClientActor]:
        """Return the clients."""
        return [actor for actor in self.actors if isinstance(actor, ClientActor)]

    def researchers(self) -> list[ResearcherActor]:
        """Return the users whose arrays outlive them."""
        return [actor for actor in self.actors if isinstance(actor, ResearcherActor)]

    def people(self) -> list[PersonActor]:
        """Return those with wallets."""
        return [actor for actor in self.actors if isinstance(actor, PersonActor)]

    def users(self) -> list[ClientActor | ResearcherActor | PersonActor]:
        """Return all who have jobs done, or pay and are paid."""
        people = [person for person in self.people() if person.honest]
        return [*self.clients(), *self.researchers(), *people]

    def workers(self) -> list[WorkerActor]:
        """Return the workers."""
        return [actor for actor in self.actors if isinstance(actor, WorkerActor)]

    def actor(self, name: str) -> Actor:
        """Return the actor of that name."""
        return self._by_name[name]

    def by_identity(self, identity: NodeId) -> Actor:
        """Return the actor of that identity."""
        return self._by_identity[identity]

    def listed(self, victim: Actor) -> list[Entry]:
        """Return what an authority lists: the entry of `victim`, then the other relays'."""
        shells = (authority.shell for authority in self.authorities())
        known = (shell.core.consensus for shell in shells if shell is not None)
        newest = next((consensus for consensus in known if consensus is not None), None)
        if newest is None:
            return []
        first = newest.by_identity(victim.identity)
        if first is None:
            return []
        return [first, *(entry for entry in newest.relays() if entry != first)]

    def populate(self) -> None:
        """Make all nodes and the network's document."""
        size, rng = self.size, Chance(self.seed, "population")
        for number in range(size.authorities):
            self.actors.append(AuthorityActor(self, f"authority{number}", f"127.{number + 1}.0.1"))
        for number in range(size.relays):
            # Some share a /16 with the one before, some a family.
            second = 0 if not number or rng.once_in(0.85) else 1
            host = f"127.{20 + number - second}.{second}.1"
            family = f"f{rng.below(3)}" if rng.once_in(0.3) else ""
            # Were nearly all of one family, nobody had a path.
            members = sum(relay.family == family for relay in self.actors)
            family = family if members < max(2, size.relays // 3) else ""
            self.actors.append(RelayActor(self, f"relay{number}", host, family))
        for number in range(size.workers):
            host = f"127.{120 + number % 100}.{number // 100}.1"
            self.actors.append(WorkerActor(self, f"worker{number}", host))
        for number in range(size.clients):
            self.actors.append(ClientActor(self, f"client{number}", f"127.250.{number}.1"))
        for number in range(size.researchers):
            host = f"127.251.{number}.1"
            self.actors.append(ResearcherActor(self, f"researcher{number}", host))
        for number in range(size.people):
            host = f"127.252.{number}.1"
            # The last one of several cheats.
            kind = CheatActor if number > 1 and number == size.people - 1 else PersonActor
            self.actors.append(kind(self, f"person{number}", host))
        self._by_name = {actor.name: actor for actor in self.actors}
        self._create(rng)
        self._corrupt(rng)

    def _create(self, rng: Chance) -> None:
        authorities = self.authorities()
        stores = [actor.create(None, rng.choice(_AGES)) for actor in authorities]
        pins = tuple(
            AuthorityPin(actor.identity, actor.name, (Address(actor.host, PORT),))
            for actor in authorities
        )
        network_id = rng.randbytes(32)
        self.network = NetworkDocument(network_id, "simulation", 1, pins, TIMING, test=True)
        signed = SignedNetwork(self.network)
        for store in stores:
            signed = signed.sign(store.identity_key())
        text = dump_network(signed)
        for actor in self.actors:
            if isinstance(actor, ClientActor | ResearcherActor):
                actor.join(text)
            elif isinstance(actor, AuthorityActor):
                actor.home().set_network(text)
            else:
                actor.create(text, rng.choice(_AGES))
        self._grant()
        self._by_identity = {actor.identity: actor for actor in self.actors if actor.identity}

    def _grant(self) -> None:
        """Have all authorities grant allotments to people, as in a test network they may."""
        for person in self.people():
            self.market.granted[person.identity] = _GRANTED
            if not person.honest:
                self.market.cheats.add(person.identity)
        lines = [f"{show_id(identity)} = {_GRANTED}" for identity in self.market.granted]
        if lines:
            for authority in self.authorities():
                text = "\n".join(["[grant]", *lines]) + "\n"
                (authority.folder / POLICY_FILE).write_text(text, encoding="utf-8")

    def _corrupt(self, rng: Chance) -> None:
        """Choose who lies: at most b authorities, and some workers."""
        if self.size.calm:
            return
        if self.network.faulty and (rng.once_in(0.6) or self.size.liar):
            liar = rng.choice(self.authorities())
            liar.lie = rng.choice([kind for kind in LIARS if self.size.liar in {"", kind.kind}])
            self.faulty[liar.name] = [(0.0, float("inf"))]
            self.trace.fault(f"authority {liar.lie.kind}", liar.name)
        honest = [at for at, each in enumerate(self.authorities()) if each.honest]
        self.market.forgetful = Chance(self.seed, "forgetful").choice(honest)
        # One at least is honest, or nobody could get a result.
        for worker in self.workers()[1:]:
            if rng.once_in(0.25):
                worker.lie = rng.choice(sorted(LIES))
                self.trace.fault(f"worker {worker.lie}", worker.name)
        for authority in self.authorities():
            # An eighth of a phase: two differ by a quarter at most.
            authority.skew = rng.uniform(-1, 1) * TIMING.phase_ms / 8000

    # What actors tell.

    def on_consensus(self, actor: Actor, consensus: Consensus) -> None:
        """Hear that somebody holds a consensus."""
        holders = self.consensuses.setdefault(consensus.valid_after, {})
        names = holders.setdefault(consensus.digest, [])
        if actor.name not in names:
            names.append(actor.name)
            after = consensus.valid_after - int(WALL)
            self.trace.note("consensus", f"{actor.name} {after} {consensus.digest.hex()[:8]}")

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while."""

        async def wait() -> None:
            await trio.sleep(seconds)
            action()

        self.start_soon(wait)

    start_soon: Callable[[Callable[[], Awaitable[None]]], None] = lambda _: None
    on_document: Callable[[Actor, bytes], None] = lambda *_: None
    on_path: Callable[[Actor, Sequence[Hop]], None] = lambda *_: None

    # Which authorities are not as they must be.

    def blame(self, actor: Actor) -> None:
        """Count an authority as faulty from now on, until `excuse` was called as often."""
        if isinstance(actor, AuthorityActor):
            self._open_faults.setdefault(actor.name, []).append(self.now())

    def excuse(self, actor: Actor, after: float = 0.0) -> None:
        """Count an authority as sound again, `after` seconds from now."""
        if isinstance(actor, AuthorityActor):
            begin = self._open_faults[actor.name].pop(0)
            self.faulty.setdefault(actor.name, []).append((begin, self.now() + after))

    def faulty_between(self, begin: float, end: float) -> set[str]:
        """Return the authorities that were faulty at some time between two."""
        found = {
            name
            for name, spans in self.faulty.items()
            if any(first <= end and last >= begin for first, last in spans)
        }
        return found | {
            name for name, begins in self._open_faults.items() if any(b <= end for b in begins)
        }


class FaultLog(logging.Handler):
    """Fails a run in which a node logs a fault of its own (`links_shell.log_fault`)."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.ERROR)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.msg == "%s failed: %s" and not said.endswith(f": {ProcessIsDead.__name__}"):
            self._trace.fail("no fault inside a node", said)
