"""A relay in a process of its own, to be attacked; it is an authority, too.

    python -m tests.abuse.relay_process   (reads one line of JSON, serves until its input ends)

Services: `source` sends as many bytes as it is asked for, `echo` answers, `usage` tells what the
process holds, `dir` is an authority's, and `fetch` takes a consensus from whoever opens the stream.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from fogbank.directory.admission import Admission
from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.consensus import Consensus
from fogbank.directory.exchange_shell import fetch_consensus
from fogbank.directory.network import NetworkDocument
from fogbank.directory.store_shell import Store
from fogbank.relay.errors import LinkFailed, RelayError
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.keys import NodeId
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.messages_shell import Stream, receive_exactly
from fogbank.relay.node_shell import Node, NodeConfig, Origin, Service
from fogbank.relay.streams.shell import CircuitStream
from tests.abuse.network import LIMITS, consensus, directory, say, wall_clock
from tests.relay.onion import NETWORK, Keys, echo

_CHUNK = bytes(1 << 18)


class Listed:
    """Extends to whom the one consensus lists."""

    def __init__(self, document: Consensus) -> None:
        self._admission = Admission(wall_clock, test=True)
        self._admission.add(document)

    def check(self, identity: NodeId, addresses: tuple[Address, ...] | None) -> RefusedCode | None:
        return self._admission.check(identity, addresses)

    async def refresh(self) -> None:
        await trio.lowlevel.checkpoint()


async def source(stream: CircuitStream, origin: Origin) -> None:
    """Send as many bytes as a u64 asks for."""
    left = int.from_bytes(await receive_exactly(stream, 8) or b"", "big")
    while left:
        count = min(left, len(_CHUNK))
        await stream.send_all(_CHUNK[:count])
        left -= count


@asynccontextmanager
async def nobody(identity: NodeId) -> AsyncIterator[Stream]:
    """Fail to reach another authority: there is none."""
    await trio.lowlevel.checkpoint()
    raise LinkFailed("there is no such authority")
    yield  # type: ignore[unreachable]


class Victim:
    """A relay that is an authority."""

    def __init__(self, seed: int, host: str, store: Store) -> None:
        self._network: NetworkDocument = directory().document
        self.authority = AuthorityShell(
            self._network,
            directory().authorities[0].credentials,
            store,
            connect=nobody,
            probe=self._probe,
            clock=wall_clock,
        )
        services: dict[str, Service] = {
            "source": source,
            "echo": echo,
            "usage": self._usage,
            "dir": self.authority.service,
            "fetch": self._fetch,
        }
        transport = TlsTransport(host)
        policy = Listed(consensus())
        self.node = Node(
            NodeConfig(NETWORK, transport, Keys(seed), policy, services, LIMITS, clock=wall_clock)
        )

    async def _probe(self, addresses: tuple[Address, ...], identity: NodeId) -> Address:
        await self.node.probe(identity, addresses)
        return addresses[0]

    async def _usage(self, stream: CircuitStream, _origin: Origin) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        links = self.node.links
        held = {
            "cpu": usage.ru_utime + usage.ru_stime,
            "strangers": sum(link.peer is None for link in links._by_queue.values()),
            "half_open": links._half_open,
            "effort": self.node.effort_asked,
            "circuits": sum(len(link.port.sides) for link in links._by_queue.values()),
            "waiting": self.node._switch._budget.waiting,
            "nodes": len(self.authority.core.nodes),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
        }
        await stream.send_all(json.dumps(held).encode())

    async def _fetch(self, stream: CircuitStream, _origin: Origin) -> None:
        """Take a consensus from a server that may lie; say what came of it."""
        try:
            await fetch_consensus(stream, self._network, wall_clock)
        except RelayError as error:
            await stream.send_all(f"refused: {error}".encode())
        else:
            await stream.send_all(b"taken")


async def main() -> None:
    """Serve until standard input ends."""
    config = json.loads(sys.stdin.readline())
    victim = Victim(config["seed"], config["host"], Store(Path(config["store"])))
    async with trio.open_nursery() as nursery:
        await nursery.start(victim.node.run, [Address(config["host"], config["port"])])
        await nursery.start(victim.authority.run)
        say(json.dumps({"pid": os.getpid()}))
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
