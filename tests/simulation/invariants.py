"""What must hold after every step, whatever goes wrong (spec/05, 06, 08).

A new one is a function in `INVARIANTS`, which calls `world.trace.fail` if it does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import trio
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from fogbank.directory.consensus import CONSENSUS_LABEL, SignedConsensus
from fogbank.directory.peer_shell import MAX_QUEUE
from fogbank.directory.schedule import nth_round, round_at
from fogbank.relay.cells import CELL
from fogbank.relay.certificates import Use, open_certificate
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.limits import Limits
from fogbank.relay.link.outqueue import SLAB
from fogbank.relay.link.shell import Link
from fogbank.relay.node_shell import _SERVED_STREAMS, Node
from tests.simulation.actors import Actor, AuthorityActor, RelayActor, WorkerActor
from tests.simulation.credit import credit_holds
from tests.simulation.raids import HOSTS
from tests.simulation.world import World

_TASK_SECONDS = 420.0
"""A task's longest life: its wait for a place and for a worker's word, with what is between."""


def one_consensus(world: World) -> None:
    """No two valid consensuses for one interval, whoever holds them."""
    for actor in world.users():
        if actor.user is not None:
            world.on_consensus(actor, actor.user.topology.consensus)
    for valid_after, holders in world.consensuses.items():
        if len(holders) > 1:
            world.trace.fail("one consensus", f"of {valid_after}: {sorted(holders.values())}")


def signed_once(world: World) -> None:
    """No honest authority signs two votes or two consensuses for one round."""
    for actor in world.authorities():
        for (kind, valid_after), digests in actor.signed.items():
            if len(digests) > 1 and actor.honest:
                world.trace.fail("signed once", f"{actor} signed two of {kind} {valid_after}")


def no_round_denied(world: World) -> None:
    """As long as at most b authorities are faulty, all others hold each round's consensus."""
    network = world.network
    last = round_at(network, world.now()).number
    for number in range(world.checked.get("rounds", 0), last + 1):
        this = nth_round(network, number)
        due = this.valid_after + 2 * this.phase
        if world.now() < due:
            return
        world.checked["rounds"] = number + 1
        world.trace.counts["rounds"] += 1
        faulty = world.faulty_between(this.opens - 1.0, due)
        if len(faulty) > network.faulty:
            continue
        world.trace.counts["rounds judged"] += 1
        for actor in world.authorities():
            if actor.name not in faulty and this.valid_after not in actor.adopted:
                summary = actor.shell.summary if actor.shell else "it does not run"
                world.trace.fail(
                    "no round denied",
                    f"{actor} lacks {this.valid_after}, faulty {sorted(faulty)}: {summary}",
                )


def tasks_end_once(world: World) -> None:
    """Each task begins at most once at its worker, ends at most once, and does end."""
    now = trio.current_time()
    for name, log in world.tasks.logs.items():
        if len(log.ends) > 1 or log.begun > 1 or log.finished + log.killed > log.begun:
            world.trace.fail("each accepted task ends once", f"{name}: {log}")
        if not log.ends and now - log.since > _TASK_SECONDS:
            world.trace.fail("each accepted task ends once", f"{name} does not end: {log}")


def memory_bounded(world: World) -> None:
    """Queues, tables and budgets of every node are within their limits."""
    for actor in world.actors:
        if actor.node is not None:
            problem = _beyond(actor.node, len(world.actors))
            if problem:
                world.trace.fail("memory bounded", f"{actor}: {problem}")
        if isinstance(actor, AuthorityActor) and actor.shell is not None:
            queues = [len(peer._queue) for peer in actor.shell._peers.values()]
            if max(queues, default=0) > MAX_QUEUE:
                world.trace.fail("memory bounded", f"{actor} has {queues} messages waiting")
        if isinstance(actor, WorkerActor) and actor.worker is not None:
            jobs = actor.worker.jobs
            if not 0 <= jobs.budget.left <= jobs.limits.held:
                world.trace.fail("memory bounded", f"{actor} has {jobs.budget.left} bytes left")
            if jobs.sessions > jobs.limits.sessions or jobs.load.taken > jobs.load.places:
                world.trace.fail("memory bounded", f"{actor}: {jobs.load}")


def _beyond(node: Node, actors: int) -> str:
    """Say which limit of a node is passed."""
    limits, links, switch = node._limits, node.links, node._switch
    problems = [
        (len(links) > 8 * actors + len(HOSTS) * limits.links_per_address, "links"),
        (max(links._strangers.values(), default=0) > limits.links_per_address, "links per address"),
        (len(links._sources) > actors * 2 + len(HOSTS), "sources"),
        (len(switch._creations) > limits.creations_waiting, "CREATEs that wait"),
        (links._half_open > limits.half_open, "half-open links"),
        (switch._budget.waiting * CELL > limits.process_queue, "cells in lanes"),
        (switch._budget.waiting < 0, "a count of cells below 0"),
        (node._served > _SERVED_STREAMS, "streams served"),
        (any(not _link_fits(each, limits) for each in links._by_queue.values()), "a link's"),
        (any(count <= 0 for count in links._strangers.values()), "a count of strangers"),
    ]
    return ", ".join(name for wrong, name in problems if wrong)


def _link_fits(link: Link, limits: Limits) -> bool:
    queued, circuits = link.port.queue.queued, len(link.port.sides)
    return queued <= limits.link_queue + SLAB and circuits <= 2 * limits.circuits_per_link


class Leaks:
    """In peace, what was used is given back: no circuit, place or count outlives its use."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._circuits = {id(side): side for side in self._sides()}

    def _sides(self) -> list[object]:
        nodes = [actor.node for actor in self._world.actors if actor.node is not None]
        links = [link for node in nodes for link in node.links._by_queue.values()]
        return [side for link in links for side in link.port.sides.values()]

    def check(self) -> None:
        """Compare with what was there before; clients have run no jobs since."""
        world = self._world
        world.trace.checks["nothing leaks"] += 1
        fail = partial(world.trace.fail, "nothing leaks")
        for actor in world.actors:
            if actor.node is not None:
                self._check_node(actor, actor.node)
        for worker in world.workers():
            if worker.worker is not None:
                jobs = worker.worker.jobs
                used = jobs.sessions, jobs.load.taken, jobs.load.waiting
                # Sessions that clients have not come back to yet are held on.
                keepers = () if jobs.held is None else jobs.held.keepers
                held = sum(keeper.work.memory for keeper in keepers)
                if any(used) or jobs.budget.left + held != jobs.limits.held:
                    left = f"{jobs.budget.left} left and {held} held"
                    fail(f"{worker} has sessions, places, waiting {used}, {left}")

    def _check_node(self, actor: Actor, node: Node) -> None:
        fail = partial(self._world.trace.fail, "nothing leaks")
        links = node.links
        for link in links._by_queue.values():
            old = [side for side in link.port.sides.values() if id(side) in self._circuits]
            if old:
                kinds = sorted({type(side).__name__ for side in old})
                fail(f"{actor} keeps {len(old)} circuits, {kinds}, to {link.peer_host}")
            if link.port.queue.queued:
                fail(f"{actor} keeps {link.port.queue.queued} bytes for {link.peer_host}")
        answered = sum(not link.port.dialed for link in links._by_queue.values())
        counted = sum(links._strangers.values()) + sum(links._nodes.values())
        if not answered <= counted <= answered + links._half_open:
            fail(f"{actor} counts {counted} links that it answered, and has {answered}")
        if node._switch._budget.waiting:
            fail(f"{actor} counts {node._switch._budget.waiting} cells that wait")


INVARIANTS: dict[str, Callable[[World], None]] = {
    "one consensus": one_consensus,
    "signed once": signed_once,
    "no round denied": no_round_denied,
    "each accepted task ends once": tasks_end_once,
    "memory bounded": memory_bounded,
    "credit holds": credit_holds,
}


def check_quorum(world: World, actor: Actor, document: bytes) -> None:
    """Check, apart from the code that runs, that q distinct authorities signed a consensus."""
    world.trace.checks["signed by a quorum"] += 1
    consensus = SignedConsensus.decode(document)
    signed = CONSENSUS_LABEL.encode() + b"\0" + consensus.body
    pinned = {authority.identity for authority in world.authorities()}
    signers = set()
    for signature in consensus.signatures:
        key = open_certificate(signature.certificate, Use.SIGNING, world.now()).subject
        try:
            VerifyKey(key).verify(signed, signature.signature)
        except BadSignatureError:
            continue
        signers.add(signature.identity)
    if 3 * len(signers & pinned) <= 2 * len(pinned):
        count = f"{len(signers & pinned)} of {len(pinned)}"
        world.trace.fail("signed by a quorum", f"{actor} holds what {count} have signed")


def check_path(world: World, actor: Actor, hops: Sequence[Hop]) -> None:
    """Check a path against the limits before it is built (spec/06 §3)."""
    world.trace.checks["path limits"] += 1
    path = [world.by_identity(hop.identity) for hop in hops]
    world.trace.note("path", f"{actor}: {' '.join(map(repr, path))}")
    fail = world.trace.fail
    if len(path) == 1:
        if not isinstance(path[0], AuthorityActor):
            fail("path limits", f"{actor} goes to {path[0]} in one hop")
        return
    if len(path) != 4:
        fail("path limits", f"{actor} builds a path of {len(path)} hops")
    if not all(isinstance(relay, RelayActor) for relay in path[:3]):
        fail("path limits", f"{actor} builds through {path}")
    for one, other in combinations(path, 2):
        if one is other or (one.family and one.family == other.family):
            fail("path limits", f"{actor} has {one} and {other} of one family on a path")
        if hops[-1].addresses is None and path[-1] in {one, other}:
            continue
        if _prefix(one) == _prefix(other):
            fail("path limits", f"{actor} has {one} and {other} of one /16 on a path")


def _prefix(actor: Actor) -> str:
    return ".".join(actor.host.split(".")[:2])
