"""Who lives in a simulated network: real nodes, each with a host, a disk and a clock of its own.

A new kind of actor is a subclass of `Actor`, made in `World.populate`.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from fogbank.client.errors import ClientError
from fogbank.client.job_shell import open_job_session
from fogbank.client.runtimes import choose_runtime
from fogbank.client.session_shell import JobSession
from fogbank.directory.addresses import Address
from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Role
from fogbank.directory.effects import SendSignature, SendVote
from fogbank.directory.mint.mint_shell import MintService
from fogbank.nodes.authority import AuthorityNode
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home, Settings
from fogbank.nodes.relay import RelayNode
from fogbank.nodes.user import User, open_user
from fogbank.nodes.worker import WorkerNode
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import RelayError
from fogbank.relay.job.errors import JobInterrupted, JobRefused, Progress
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import TaskState
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.node_shell import Node, NodeConfig
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeId
from fogbank.sandbox.task import Task
from tests.simulation.chance import Chance
from tests.simulation.credit import MintLiar, SimCrunch
from tests.simulation.disk import Disk, Platter
from tests.simulation.jobs import (
    BAD_MODULE,
    ENGINE,
    LIES,
    LIMITS,
    MODULE,
    SimRunner,
    SimStore,
    expected,
)
from tests.simulation.liars import Liar, SimShell
from tests.simulation.tasks import TaskLog
from tests.simulation.wire import SimTransport
from tests.simulation.work import solve

if TYPE_CHECKING:
    from tests.simulation.world import World

_T = TypeVar("_T")
PORT = 9001
_NAMES = tuple(spec.name for spec in CATALOGUE)
_START_AGAIN = 2.0
_STARTS_MAX = 200
_SMALL = 10
_SLOW_HANDSHAKE = 0.005
"""Seconds that a handshake takes on a slow machine; time stands still in a simulated one."""


class SimNode(Node):
    """A node whose circuits are heard of."""

    def __init__(self, config: NodeConfig, actor: Actor) -> None:
        super().__init__(config)
        self._actor = actor

    async def build(self, hops: Sequence[Hop]) -> Circuit:
        """Build a circuit, after telling of its path."""
        self._actor.world.on_path(self._actor, hops)
        return await super().build(hops)


class Moment(Enum):
    """When a process dies that uses its disk."""

    BEFORE = 1
    AFTER = 2


class ProcessIsDead(OSError):
    """What is done with a disk by code that has not noticed yet that its process is gone."""


@dataclass
class Fuse:
    """Lets a process die the `count`th time from now that it uses its disk."""

    count: int
    moment: Moment
    strike: Callable[[], None]


PROCESS: ContextVar[Actor | None] = ContextVar("process", default=None)
"""Whose process the code that runs belongs to."""


class Actor(ABC):
    """One host and the node on it, which may crash and start again."""

    role: Role | None = None

    def __init__(self, world: World, name: str, host: str, family: str = "") -> None:
        self.world = world
        self.name = name
        self.host = host
        self.family = family
        self.chance = Chance(world.seed, name)
        self.folder: Path = world.folder / name
        self.identity = b""
        self.skew = 0.0
        self.place = ""
        """What its machine knows of its own address."""
        self.slow = self.chance.once_in(0.3) and world.size.relays <= _SMALL
        """Whether its machine is: it is soon overloaded, and asks for work that costs."""
        self.disk_full = False
        self.down = 0
        """How many faults keep it from running now."""
        self.lives = 0
        self.node: Node | None = None
        self._machines = 0
        self._platter = Platter(Chance(world.seed, name, "disk"))
        self._disk = Disk(lambda: self.disk_full, self._platter)
        self._scope: trio.CancelScope | None = None
        self._up = trio.lowlevel.ParkingLot()
        self._fuse: Fuse | None = None

    def __repr__(self) -> str:
        return self.name

    def clock(self) -> float:
        """Return the wall clock's time, right or wrong."""
        return self.world.now() + self.skew

    @property
    def honest(self) -> bool:
        """Whether it follows the protocol."""
        return True

    @property
    def listens(self) -> bool:
        """Whether others can dial it."""
        return self.role in {Role.RELAY, Role.AUTHORITY}

    def create(self, network: str | None, age: float) -> KeyStore:
        """Make the node's keys, `age` seconds ago, and its folder."""
        assert self.role is not None
        worker = self.role is Role.WORKER
        addresses = () if worker else (Address(self.host, PORT),)
        settings = Settings(self.role, self.name, addresses, cores=2 if worker else 1)
        family = self.world.folder / f"family-{self.family}" if self.family else None
        home = Home(self.folder, Chance(self.world.seed, self.name, "keys").randbytes)
        store = home.create(settings, network, family, self.world.now() - age)
        self.identity = store.identity
        return store

    def machine(self) -> Environment:
        """Return the machine that a new process gets."""
        self._machines += 1
        chance = Chance(self.world.seed, self.name, "machine", self._machines)
        return Environment(
            self.clock,
            chance.randbytes,
            chance,
            lambda _source: SimTransport(self.world.wire, self.host),
            self._disk.write,
            self._disk.store,
            self._make_node,
            place=lambda _hosts: self.place,
            blocking=self.on_disk,
            ledger=self._disk.ledger,
            crunch=lambda network_id: SimCrunch(network_id, chance),
        )

    def home(self) -> Home:
        """Return the folder as a new process opens it."""
        chance = Chance(self.world.seed, self.name, "home", self.lives)
        return Home(self.folder, chance.randbytes, self._disk.write)

    def _make_node(self, config: NodeConfig) -> Node:
        config.solver = solve
        if self.slow:
            config.limits = replace(config.limits, creation_least_cost=_SLOW_HANDSHAKE)
        self.prepare(config)
        self.node = SimNode(config, self)
        return self.node

    def prepare(self, config: NodeConfig) -> None:  # noqa: B027 - most leave a node as it is
        """Change what a node is made of."""

    @abstractmethod
    async def live(self) -> None:
        """Be one process, until cancelled."""

    # Life and death.

    @property
    def running(self) -> bool:
        """Whether a process runs."""
        return self._scope is not None

    async def run(self) -> None:
        """Be processes, one after another, for as long as the world lasts."""
        while True:
            while self.down:
                await self._up.park()
            self.world.wire.off.discard(self.host)
            self.lives += 1
            self._disk = Disk(lambda: self.disk_full, self._platter)
            PROCESS.set(self)
            with trio.CancelScope() as self._scope:
                await self._process()
            self._scope, self.node = None, None
            if not self.down:
                await trio.sleep(_START_AGAIN)

    async def _process(self) -> None:
        try:
            await self.live()
        except* (RelayError, ClientError, OSError) as errors:
            # As when a disk is full at start: the operator would start it again.
            self.world.trace.note("ended", f"{self.name}: {kinds(errors)}")
            excused = self.disk_full or self._disk.dead
            if not excused:
                self.world.trace.fail("a node ends by itself", f"{self.name}: {errors!r}")
        except* Exception as errors:  # noqa: BLE001 - this is what a simulation is for
            self.world.trace.fail("a node ends by itself", f"{self.name}: {errors!r}")
        if self.lives > _STARTS_MAX:
            self.world.trace.fail("a node ends by itself", f"{self.name}: again and again")
            await trio.sleep_forever()

    async def on_disk(self, function: Callable[..., _T], *args: object) -> _T:
        """Call what waits for the disk, at once: the clock jumps over threads.

        It may be the last thing that the process does, or the first that it does not do.
        """
        await trio.lowlevel.checkpoint()
        if self._burns(Moment.BEFORE) or self._disk.dead:
            raise ProcessIsDead(errno.EIO, "the process is dead")
        result = function(*args)
        self._burns(Moment.AFTER)
        return result

    def arm(self, fuse: Fuse) -> None:
        """Have the process die at one of the next times that it uses its disk."""
        self._fuse = fuse

    def disarm(self) -> None:
        """Let it live on."""
        self._fuse = None

    def _burns(self, moment: Moment) -> bool:
        fuse = self._fuse
        if fuse is None or fuse.moment is not moment or not self.running:
            return False
        fuse.count -= 1
        if fuse.count > 0:
            return False
        self._fuse = None
        fuse.strike()
        return True

    def rise(self) -> None:
        """End one of the faults that keep it down."""
        self.down -= 1
        self._up.unpark_all()

    def crash(self, *, power: bool = False) -> None:
        """End the process now, with nothing written and nothing sent any more.

        With `power` the machine goes down too, and cannot tell anybody.
        """
        self._disk.die(power=power)
        if power:
            self.world.wire.vanish(self.host)
        else:
            self.world.wire.cut_off(self.host)
        if self._scope is not None:
            self._scope.cancel()


def kinds(errors: BaseException) -> str:
    """Name the kinds of what went wrong."""
    if not isinstance(errors, BaseExceptionGroup):
        return type(errors).__name__
    return ", ".join(sorted(set(map(kinds, errors.exceptions))))


class SimAuthorityNode(AuthorityNode):
    """An authority with a shell that is watched."""

    shell_type = SimShell


class AuthorityActor(Actor):
    """An authority; `lie` makes it Byzantine."""

    role = Role.AUTHORITY

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name, host)
        self.lie: type[Liar] | None = None
        self.shell: SimShell | None = None
        self.authority: AuthorityNode | None = None
        self.adopted: dict[int, bytes] = {}
        """Digests of the consensuses that it held, by `valid_after`."""
        self.signed: dict[tuple[str, int], set[bytes]] = {}
        """Digests of its own votes and of the consensuses that it signed, by `valid_after`."""

    @property
    def honest(self) -> bool:
        return self.lie is None

    def prepare(self, config: NodeConfig) -> None:
        if self.lie is not None:
            chance = Chance(self.world.seed, self.name, "mint lies", self.lives)
            honest = config.services["mint"]
            assert isinstance(honest, MintService)
            config.services = {**config.services, "mint": MintLiar(honest, chance)}

    async def live(self) -> None:
        self.authority = authority = SimAuthorityNode(self.home(), self.machine())
        try:
            shell = authority.shell
            assert isinstance(shell, SimShell)
            self.shell = shell
            assert shell.on_adopted is not None
            shell.on_adopted = partial(self._adopted, shell.on_adopted)
            shell.heard = self._heard
            self._remembers(shell)
            async with trio.open_nursery() as nursery:
                if self.lie is not None:
                    chance = Chance(self.world.seed, self.name, "lies", self.lives)
                    shell.liar = self.lie(chance, shell)
                    shell.start_soon = nursery.start_soon
                await authority.run()
        finally:
            self.shell = self.authority = None
            authority.close()

    def _adopted(
        self, node: Callable[[bytes, Consensus], None], document: bytes, consensus: Consensus
    ) -> None:
        node(document, consensus)
        self.world.on_document(self, document)
        self.adopted[consensus.valid_after] = consensus.digest
        self.world.on_consensus(self, consensus)

    def _heard(self, effect: SendVote | SendSignature) -> None:
        if isinstance(effect, SendSignature):
            message = effect.message
            self._signs("consensus", message.valid_after, message.digest)
        elif effect.relayed.chain.sender == self.identity:
            chain = effect.relayed.chain
            self._signs("vote", chain.valid_after, chain.digest)

    def _remembers(self, shell: SimShell) -> None:
        """Check that whatever was signed before a restart is in the journal after it."""
        for (kind, valid_after), digests in self.signed.items():
            self.world.trace.checks["journals outlive crashes"] += 1
            if shell.journaled(kind, valid_after) not in digests:
                text = f"{self} has lost its {kind} of {valid_after}"
                self.world.trace.fail("journals outlive crashes", text)

    def _signs(self, kind: str, valid_after: int, digest: bytes) -> None:
        self.signed.setdefault((kind, valid_after), set()).add(digest)
        assert self.shell is not None
        self.world.trace.checks["journaled before it is sent"] += 1
        if digest != self.shell.journaled(kind, valid_after):
            text = f"{self} sends a {kind} of {valid_after} that is not in its journal"
            self.world.trace.fail("journaled before it is sent", text)


class RelayActor(Actor):
    """A relay."""

    role = Role.RELAY

    @property
    def honest(self) -> bool:
        return self.host not in self.world.wire.tampering

    async def live(self) -> None:
        await RelayNode(self.home(), self.machine()).run()


class WorkerActor(Actor):
    """A worker; `lie` is one of `LIES`."""

    role = Role.WORKER

    def __init__(self, world: World, name: str, host: str, family: str = "") -> None:
        super().__init__(world, name, host, family)
        self.lie = ""
        self.worker: WorkerNode | None = None
        self.runner: SimRunner | None = None

    @property
    def honest(self) -> bool:
        return not self.lie

    def prepare(self, config: NodeConfig) -> None:
        service = LIES.get(self.lie)
        if service is not None:
            config.services = {"job": service(Chance(self.world.seed, self.name, "lies"))}

    async def live(self) -> None:
        lies = self.lie == "wrong results"
        store = SimStore(Chance(self.world.seed, self.name, "runtimes", self.lives))
        self.runner = SimRunner(self.world.tasks.heard, store, lies=lies)
        self.worker = WorkerNode(self.home(), self.runner, ENGINE, self.machine(), store)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.operate)
                await self.worker.run()
        finally:
            self.worker = None


class ClientActor(Actor):
    """A user who runs jobs, one after another, as long as the world is `busy`."""

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name, host)
        self.user: User | None = None
        self.successes = 0
        self.misled = 0
        """How many of its jobs could not succeed, by their module or their worker."""
        self.scripts = 0
        """How many of its tasks were done on a runtime."""
        self._count = 0
        self._scripts = Chance(world.seed, name, "scripts")

    def join(self, network: str) -> None:
        """Join the network."""
        Home(self.folder).set_network(network)

    async def live(self) -> None:
        while True:
            try:
                async with open_user(self.home(), lambda _: None, self.machine()) as self.user:
                    while True:
                        await trio.sleep(self.chance.uniform(0.2, 4.0))
                        if self.world.busy:
                            await self._job(self.user)
            except* ClientError as errors:
                self.world.trace.note("no user", f"{self.name}: {kinds(errors)}")
            finally:
                self.user = None
            await trio.sleep(3.0)

    async def _job(self, user: User) -> None:
        chance = self.chance
        bad = chance.once_in(0.05)
        count = chance.randint(1, 3)
        module: bytes | RuntimeId = BAD_MODULE if bad else MODULE
        runtime: bytes | None = None
        try:
            if not bad and self._scripts.once_in(0.3):
                runtime = choose_runtime(user.topology, self._scripts.choice(_NAMES)).digest
                module = RuntimeId(runtime)
            async with user.worker_stream(runtime=runtime) as (stream, path):
                self.world.trace.note("job", f"{self.name}: {' '.join(path)}")
                self.misled += bad or not self.world.actor(path[-1]).honest
                async with open_job_session(stream, module) as job, trio.open_nursery() as nursery:
                    for _ in range(count):
                        nursery.start_soon(partial(self._task, job, path[-1], module))
        except* (RelayError, ClientError, trio.BrokenResourceError) as errors:
            self.world.trace.note("no job", f"{self.name}: {kinds(errors)}")

    async def _task(self, job: JobSession, worker: str, module: bytes | RuntimeId) -> None:
        chance = self.chance
        self._count += 1
        attempt = f"{self.name}.{self.lives}.{self._count}"
        seconds = chance.choice((0.1, 1.0, 5.0))
        size = chance.choice((0, 100, 10_000, 100_000))
        task = Task((attempt, str(seconds)), stdin=chance.randbytes(size), limits=LIMITS)
        log = self.world.tasks.begin(attempt, worker)
        scope = trio.CancelScope()
        if chance.once_in(0.05):
            scope.deadline = trio.current_time() + chance.uniform(0.0, 3.0)
        try:
            with scope:
                await self._await(job, task, log, module)
        finally:
            if not log.ends:
                log.ends.append("cancelled")
        self.world.trace.note("task", f"{attempt} at {worker}: {log.ends[-1]}")

    async def _await(
        self, job: JobSession, task: Task, log: TaskLog, module: bytes | RuntimeId
    ) -> None:
        def hear(state: TaskState) -> None:
            log.accepted |= state.task != 0 and state.state in {State.QUEUED, State.RUNNING}

        fail = self.world.trace.fail
        honest = self.world.actor(log.worker).honest
        try:
            result = await job.run(task, hear)
        except JobInterrupted as error:
            log.ends.append(f"interrupted {error.progress.name}")
            if log.accepted and error.progress < Progress.QUEUED:
                fail("each accepted task ends once", f"{task.args[0]} was said not to be accepted")
            return
        except JobRefused as error:
            log.ends.append(f"refused {error.cause.name}")
            return
        log.ends.append(result.outcome.name)
        if honest and module == BAD_MODULE and result.outcome is Outcome.COMPLETED:
            fail("results are right", f"{task.args[0]} completed without a module")
        if honest and result.outcome is Outcome.COMPLETED:
            self.successes += 1
            self.scripts += isinstance(module, RuntimeId)
            if result.stdout != expected(task):
                fail("results are right", f"{task.args[0]} has another's result")
            if (log.begun, log.finished) != (1, 1):
                fail("each accepted task ends once", f"{task.args[0]} ran {log.begun} times")
