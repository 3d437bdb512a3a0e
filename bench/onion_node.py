"""One relay of the onion benchmark, in a process of its own; `bench/onion.py` starts it.

Reads one JSON line: its seed, its host, the network's size. Prints one JSON line with its address
once it listens, then serves until it is ended. Services: `source` sends as many bytes as it is
asked for, `sink` counts what comes, `echo` answers, `usage` reports the process's own accounting.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from fogbank.relay.certificates import (
    LINK_LIFETIME,
    ONION_LIFETIME,
    SIGNING_LIFETIME,
    Chain,
    Use,
    issue,
)
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.keys import Ed25519Key, NodeId, X25519Key
from fogbank.relay.limits import Limits
from fogbank.relay.link.handshake import LinkCredentials
from fogbank.relay.link.pipe import Pipe
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.messages_shell import receive_exactly
from fogbank.relay.node_shell import Node, NodeConfig, Origin
from fogbank.relay.streams.shell import CircuitStream

NETWORK = b"B" * 32
LIMITS = Limits(creates_per_second=10_000, creates_burst=10_000)
_CHUNK = bytes(1 << 18)


class BenchKeys:
    """A node's keys, derived from a number: both processes know them without a directory."""

    def __init__(self, seed: int) -> None:
        def secret(name: str) -> bytes:
            return hashlib.sha256(f"bench {seed} {name}".encode()).digest()

        now = time.time()
        identity, signing, link = (
            Ed25519Key(secret(name)) for name in ("identity", "signing", "link")
        )
        self.onion = X25519Key(secret("onion"))
        self.identity: NodeId = identity.public
        chain = Chain(
            issue(identity, Use.SIGNING, signing.public, now, SIGNING_LIFETIME),
            issue(signing, Use.LINK, link.public, now, LINK_LIFETIME),
            issue(signing, Use.ONION, self.onion.public, now, ONION_LIFETIME),
        )
        self._credentials = LinkCredentials(self.identity, chain, link)

    def onion_keys(self) -> list[X25519Key]:
        """Return the one onion key."""
        return [self.onion]

    def credentials(self, now: float) -> LinkCredentials:  # noqa: ARG002 - they never expire
        """Return what the node proves itself with."""
        return self._credentials


class Anyone:
    """An extend policy that admits every address: there is no directory here."""

    def check(self, *_who: object) -> RefusedCode | None:
        """Refuse nothing."""
        return None

    async def refresh(self) -> None:
        """Know everything already."""


async def source(stream: CircuitStream, _origin: Origin) -> None:
    """Send as many bytes as a u64 asks for."""
    left = int.from_bytes(await receive_exactly(stream, 8) or b"", "big")
    while left:
        count = min(left, len(_CHUNK))
        await stream.send_all(_CHUNK[:count])
        left -= count


async def sink(stream: CircuitStream, _origin: Origin) -> None:
    """Count bytes up to EOF, and answer with the count."""
    count = 0
    while data := await stream.receive_some():
        count += len(data)
    await stream.send_all(count.to_bytes(8, "big"))


async def echo(stream: CircuitStream, _origin: Origin) -> None:
    """Answer with what came."""
    while data := await stream.receive_some():
        await stream.send_all(data)


def own_usage() -> dict[str, float]:
    """Return this process's CPU seconds so far, and its resident memory in MB."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return {"cpu": usage.ru_utime + usage.ru_stime, "rss": int(rss.split()[1]) / 1024}


async def usage(stream: CircuitStream, _origin: Origin) -> None:
    """Report this process's accounting as JSON."""
    await stream.send_all(json.dumps(own_usage()).encode())


async def swallow(finish: Callable[[], Awaitable[Pipe]], size: int) -> None:
    """Receive `size` bytes over a TLS pipe alone, and answer with the CPU seconds that it took."""
    pipe = await finish()
    buffer = memoryview(bytearray(1 << 18))
    before = own_usage()
    left = size
    while left > 0:
        count = pipe.try_receive(buffer)
        if count is None:
            await pipe.wait_readable()
        elif count == 0:
            return
        else:
            left -= count
    answer = {"cpu": own_usage()["cpu"] - before["cpu"]}
    pipe.try_send(memoryview(json.dumps(answer).encode()))


async def listen_bare(
    host: str, size: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Accept bare TLS pipes; report the port as started."""
    async with trio.open_nursery() as nursery:

        def accept(finish: Callable[[], Awaitable[Pipe]], _peer: str) -> bool:
            nursery.start_soon(swallow, finish, size)
            return True

        await TlsTransport(host).listen(host, 0, accept, task_status.started)


async def main() -> None:
    """Serve until standard input ends."""
    config = json.loads(sys.stdin.readline())
    services = {"source": source, "sink": sink, "echo": echo, "usage": usage}
    host = config["host"]
    node = Node(
        NodeConfig(
            NETWORK, TlsTransport(host), BenchKeys(config["seed"]), Anyone(), services, LIMITS
        )
    )
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(node.run, [Address(host, config["port"])])
        bare = await nursery.start(listen_bare, host, config["size"])
        at = {"host": address.host, "port": address.port, "bare": bare}
        print(json.dumps(at), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
