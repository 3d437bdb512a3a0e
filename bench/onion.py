"""The onion benchmark: three relays and a client, four processes, loopback.

    make bench-onion [ARGS="--json --megabytes 512"]

Measures throughput down and up over 1 and 4 circuits of three hops, CPU seconds per GB and hop
from each process's own accounting, circuit builds (median, p90, per second), a 100-byte round trip,
and memory; and where `tor` is installed, a private network of C Tor in the same run. Figures on a
shared machine are worth what their ratios are worth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from onion_node import LIMITS, NETWORK, BenchKeys, own_usage

from fogbank.relay.circuits.origin import Hop
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.extend import Address
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.messages_shell import receive_exactly
from fogbank.relay.node_shell import Node, NodeConfig

RELAYS = ("guard", "middle", "end")
BUILDS = 200
PINGS = 500
IN_FLIGHT = 32
SEALS = 20_000
_CHUNK = bytes(1 << 18)

Transfer = Callable[[Circuit, int], Awaitable[None]]


async def download(circuit: Circuit, size: int) -> None:
    """Fetch `size` bytes from the last hop."""
    stream = await circuit.open_stream("source")
    await stream.send_all(size.to_bytes(8, "big"))
    got = 0
    while got < size:
        data = await stream.receive_some()
        if not data:
            raise RuntimeError("the download ended early")
        got += len(data)


async def upload(circuit: Circuit, size: int) -> None:
    """Send `size` bytes to the last hop, which confirms their count."""
    stream = await circuit.open_stream("sink")
    for begin in range(0, size, len(_CHUNK)):
        await stream.send_all(_CHUNK[: min(len(_CHUNK), size - begin)])
    await stream.send_eof()
    if await receive_exactly(stream, 8) != size.to_bytes(8, "big"):
        raise RuntimeError("the upload did not arrive whole")


class Bench:
    """A client and the relays it measures."""

    def __init__(self, client: Node, hops: list[Hop]) -> None:
        self._client = client
        self._hops = hops

    async def usage(self) -> dict[str, dict[str, float]]:
        """Return each process's accounting so far."""
        figures = {"client": own_usage()}
        for name, hop in zip(RELAYS, self._hops, strict=True):
            circuit = await self._client.build([hop])
            stream = await circuit.open_stream("usage")
            data = bytearray()
            while part := await stream.receive_some():
                data += part
            figures[name] = json.loads(data)
            circuit.close()
        return figures

    async def throughput(self, transfer: Transfer, size: int, circuits: int) -> dict[str, Any]:
        """Move `size` bytes in all over `circuits` circuits at once."""
        built = [await self._client.build(self._hops) for _ in range(circuits)]
        before = await self.usage()
        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for circuit in built:
                nursery.start_soon(transfer, circuit, size // circuits)
        seconds = time.perf_counter() - begin
        after = await self.usage()
        for circuit in built:
            circuit.close()
        gigabytes = size / 1e9
        cpu = {
            name: round((after[name]["cpu"] - before[name]["cpu"]) / gigabytes, 2) for name in after
        }
        return {
            "mb_per_s": round(size / 1e6 / seconds, 1),
            "cpu_s_per_gb": cpu,
            "cpu_s_per_gb_and_hop": round(sum(cpu[name] for name in RELAYS) / len(RELAYS), 2),
            "rss_mb": {name: round(after[name]["rss"], 1) for name in after},
        }

    async def builds(self) -> dict[str, float]:
        """Build circuits one after the other, then many at once."""
        times = []
        for _ in range(BUILDS):
            begin = time.perf_counter()
            circuit = await self._client.build(self._hops)
            times.append((time.perf_counter() - begin) * 1000)
            circuit.close()
        before = await self.usage()
        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(self._build_many, BUILDS // IN_FLIGHT * 4)
        seconds = time.perf_counter() - begin
        after = await self.usage()
        count = BUILDS // IN_FLIGHT * 4 * IN_FLIGHT
        relay_cpu = sum(after[name]["cpu"] - before[name]["cpu"] for name in RELAYS)
        return {
            "median_ms": round(statistics.median(times), 2),
            "p90_ms": round(statistics.quantiles(times, n=10)[8], 2),
            "circuits_per_s": round(count / seconds, 1),
            "relay_cpu_ms_per_circuit_and_hop": round(relay_cpu / count / len(RELAYS) * 1000, 2),
        }

    async def _build_many(self, count: int) -> None:
        for _ in range(count):
            circuit = await self._client.build(self._hops)
            circuit.close()

    async def round_trips(self) -> dict[str, float]:
        """Send 100 bytes to the last hop and back, again and again."""
        circuit = await self._client.build(self._hops)
        stream = await circuit.open_stream("echo")
        times = []
        for _ in range(PINGS):
            begin = time.perf_counter()
            await stream.send_all(bytes(100))
            await receive_exactly(stream, 100)
            times.append((time.perf_counter() - begin) * 1000)
        circuit.close()
        return {
            "median_ms": round(statistics.median(times), 3),
            "p99_ms": round(statistics.quantiles(times, n=100)[98], 3),
        }


async def bare_link(address: Address, size: int) -> dict[str, float]:
    """Send `size` bytes over a TLS pipe alone: no cells, no layers; what any hop must cost."""
    pipe = await TlsTransport("127.99.0.1").dial(address.host, address.port)
    before = own_usage()
    left = size
    begin = time.perf_counter()
    while left:
        chunk = memoryview(_CHUNK)[:left]
        while chunk:
            count = pipe.try_send(chunk)
            if count is None:
                await pipe.wait_writable()
            else:
                chunk = chunk[count:]
                left -= count
    answer = bytearray()
    buffer = memoryview(bytearray(1024))
    while not answer.endswith(b"}"):
        count = pipe.try_receive(buffer)
        if count is None:
            await pipe.wait_readable()
        else:
            answer += buffer[:count]
    seconds = time.perf_counter() - begin
    pipe.close()
    sending = own_usage()["cpu"] - before["cpu"]
    receiving = json.loads(answer)["cpu"]
    return {
        "mb_per_s": round(size / 1e6 / seconds, 1),
        "send_cpu_s_per_gb": round(sending / size * 1e9, 2),
        "receive_cpu_s_per_gb": round(receiving / size * 1e9, 2),
    }


def seal_nanoseconds() -> float:
    """Return what sealing 4 KiB with AES-256-GCM costs on this machine now."""
    cipher = AESGCM(bytes(32))
    buffer = memoryview(bytearray(4096 + 16))
    begin = time.process_time()
    for count in range(SEALS):
        cipher.encrypt_into(count.to_bytes(12, "big"), buffer[:4096], b"", buffer)
    return round((time.process_time() - begin) / SEALS * 1e9)


async def measure(hops: list[Hop], bare: Address, megabytes: int) -> dict[str, Any]:
    """Run every measurement."""
    client = Node(NodeConfig(NETWORK, TlsTransport("127.99.0.1"), limits=LIMITS))
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        bench = Bench(client, hops)
        idle = await bench.usage()
        size = megabytes * 1_000_000
        await bench.throughput(download, size // 8, 1)  # to warm up
        result = {
            "seal_4096_bytes_ns": seal_nanoseconds(),
            "bare_tls_link": await bare_link(bare, size),
            "idle_rss_mb": {name: round(idle[name]["rss"], 1) for name in idle},
            "build": await bench.builds(),
            "round_trip_100_bytes": await bench.round_trips(),
            "down_1_circuit": await bench.throughput(download, size, 1),
            "down_4_circuits": await bench.throughput(download, size, 4),
            "up_1_circuit": await bench.throughput(upload, size, 1),
            "up_4_circuits": await bench.throughput(upload, size, 4),
        }
        nursery.cancel_scope.cancel()
    return result


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    bare = result["bare_tls_link"]
    hop = bare["send_cpu_s_per_gb"] + bare["receive_cpu_s_per_gb"]
    print(
        f"this machine, now: {result['seal_4096_bytes_ns']:.0f} ns to seal 4 KiB; a bare TLS link "
        f"{bare['mb_per_s']} MB/s, {bare['send_cpu_s_per_gb']} + {bare['receive_cpu_s_per_gb']} "
        "CPU s/GB to send and receive"
    )
    print(
        f"{'three hops, four processes':28} MB/s   CPU s/GB: guard  middle  end   per hop  client"
    )
    for name in ("down_1_circuit", "down_4_circuits", "up_1_circuit", "up_4_circuits"):
        row = result[name]
        cpu = row["cpu_s_per_gb"]
        print(
            f"{name.replace('_', ' '):26} {row['mb_per_s']:6.1f} {cpu['guard']:16.2f} "
            f"{cpu['middle']:7.2f} {cpu['end']:5.2f} {row['cpu_s_per_gb_and_hop']:8.2f} "
            f"{cpu['client']:7.2f}   {row['cpu_s_per_gb_and_hop'] / hop:.2f} x bare TLS"
        )
    build = result["build"]
    print(f"build: median {build['median_ms']} ms, p90 {build['p90_ms']} ms;", end=" ")
    print(f"{build['circuits_per_s']} circuits/s with {IN_FLIGHT} in flight,", end=" ")
    print(f"{build['relay_cpu_ms_per_circuit_and_hop']} ms of relay CPU per circuit and hop")
    trip = result["round_trip_100_bytes"]
    print(f"100-byte round trip: median {trip['median_ms']} ms, p99 {trip['p99_ms']} ms")
    print(f"resident MB, idle: {result['idle_rss_mb']}")
    print(f"resident MB, after the last transfer: {result['up_4_circuits']['rss_mb']}")


def measure_c_tor(megabytes: int) -> dict[str, Any] | None:
    """Measure private networks of C Tor, one for each scheduler; None where it is not installed."""
    try:
        import tor_network  # noqa: PLC0415 - stem is an extra
    except ImportError:
        return None
    if not tor_network.available():
        return None
    return {name: tor_network.measure_tor(name, megabytes) for name in ("KIST", "Vanilla")}


def show_c_tor(result: dict[str, Any]) -> None:
    """Print C Tor's figures, and ours over them."""
    for scheduler, tor in result["c_tor"].items():
        print(f"C Tor, {scheduler}:   ours / C Tor in brackets")
        for name in ("down_1_circuit", "down_4_circuits", "up_1_circuit", "up_4_circuits"):
            ours, theirs = result[name], tor[name]
            speed = ours["mb_per_s"] / theirs["mb_per_s"]
            cpu = ours["cpu_s_per_gb_and_hop"] / theirs["cpu_s_per_gb_and_hop"]
            print(
                f"  {name.replace('_', ' '):16} {theirs['mb_per_s']:6.1f} MB/s [{speed:.1f}]   "
                f"{theirs['cpu_s_per_gb_and_hop']:6.2f} CPU s/GB and hop [{cpu:.2f}]"
            )
        for name, what in (("build", "build"), ("round_trip_100_bytes", "100-byte round trip")):
            ratio = result[name]["median_ms"] / tor[name]["median_ms"]
            print(f"  {what}: median {tor[name]['median_ms']} ms [{ratio:.2f}]")
        print(f"  resident MB, idle: {tor['idle_rss_mb']}")


def main() -> None:
    """Start the relays, measure, end them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--megabytes", type=int, default=400, help="bytes of each transfer, in MB")
    parser.add_argument("--no-tor", action="store_true", help="leave C Tor out")
    parser.add_argument("--tor-megabytes", type=int, default=40, help="the same for C Tor's")
    options = parser.parse_args()
    script = Path(__file__).with_name("onion_node.py")
    processes: list[subprocess.Popen[str]] = []
    hops: list[Hop] = []
    bare = Address("127.0.0.1", 1)
    try:
        for seed in range(1, len(RELAYS) + 1):
            process = subprocess.Popen(
                [sys.executable, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(process)
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("no pipes to a relay's process")
            config = {"seed": seed, "host": f"127.{100 + seed}.0.1", "port": 0}
            config["size"] = options.megabytes * 1_000_000
            process.stdin.write(json.dumps(config) + "\n")
            process.stdin.flush()
            at = json.loads(process.stdout.readline())
            keys = BenchKeys(seed)
            address = Address(at["host"], at["port"])
            bare = Address(at["host"], at["bare"])
            hops.append(Hop(keys.identity, keys.onion.public, (address,)))
        result = trio.run(measure, hops, bare, options.megabytes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    if not options.no_tor:
        result["c_tor"] = measure_c_tor(options.tor_megabytes)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    show(result)
    if result.get("c_tor"):
        show_c_tor(result)
    elif not options.no_tor:
        print("C Tor was not measured: install tor (Debian: the package tor) and the extra `tor`")


if __name__ == "__main__":
    main()
