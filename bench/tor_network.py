"""A private network of C Tor on loopback, measured as `bench/onion.py` measures ours.

Three authorities that are relays too, four exits, a client, and a server behind them. Nothing
leaves 127.0.0.0/8. Needs `tor` and `tor-gencert` (Debian: the package tor) and stem (the extra
`tor`).

Method: relays have no SocksPort, control is over Unix sockets (a TCP control port has 40 ms tails),
both schedulers are measured, since KIST's 10 ms tick and not the CPU bounds the default one. CPU is
each relay process's own accounting, divided by the three hops.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import stem
from stem.control import Controller

AUTHORITIES = 3
EXITS = 4
BUILDS = 40
PINGS = 200
IN_FLIGHT = 16
_START_SECONDS = 90.0
_CHUNK = bytes(1 << 16)
_TICKS = os.sysconf("SC_CLK_TCK")


def available() -> bool:
    """Whether C Tor is installed."""
    return all(map(shutil.which, ("tor", "tor-gencert")))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Tor:
    """One tor process."""

    def __init__(self, folder: Path, nickname: str, *, authority: bool, scheduler: str) -> None:
        self.folder = folder / nickname
        self.folder.mkdir(mode=0o700)
        self.nickname = nickname
        self.authority = authority
        self.or_port, self.dir_port, self.socks_port = (_free_port() for _ in range(3))
        self.fingerprint = ""
        self.v3ident = ""
        self._scheduler = scheduler
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.folder / "control"

    def prepare(self) -> None:
        """Make the keys whose fingerprints the others need."""
        keys = self.folder / "keys"
        if self.authority:
            keys.mkdir(mode=0o700)
            subprocess.run(
                ["tor-gencert", "--create-identity-key", "-m", "1", "--passphrase-fd", "0",
                 "-a", f"127.0.0.1:{self.dir_port}"],
                cwd=keys, input=b"bench\n", check=True, capture_output=True,
            )  # fmt: skip
            certificate = (keys / "authority_certificate").read_text(encoding="ascii")
            line = next(x for x in certificate.splitlines() if x.startswith("fingerprint "))
            self.v3ident = line.split()[1]
        empty = self.folder / "empty"
        empty.touch()
        answer = subprocess.run(
            ["tor", "--list-fingerprint", "--DataDirectory", str(self.folder), "--ORPort",
             str(self.or_port), "--Nickname", self.nickname, "--SocksPort", "0",
             "-f", str(empty), "--defaults-torrc", str(empty)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.fingerprint = "".join(answer.stdout.splitlines()[-1].split()[1:])

    def directory_line(self) -> str:
        """Return the line by which all others know this authority."""
        return (
            f"DirAuthority {self.nickname} orport={self.or_port} no-v2 v3ident={self.v3ident} "
            f"127.0.0.1:{self.dir_port} {self.fingerprint}"
        )

    def start(self, directory: str, *, client: bool) -> None:
        """Start the process."""
        lines = [
            "TestingTorNetwork 1",
            f"DataDirectory {self.folder}",
            f"ControlSocket {self.control}",
            f"Nickname {self.nickname}",
            "Log warn file /dev/null",
            "Address 127.0.0.1",
            f"Schedulers {self._scheduler}",
            directory,
        ]
        if client:
            lines += [
                f"SocksPort 127.0.0.1:{self.socks_port}", "__DisablePredictedCircuits 1",
                "__LeaveStreamsUnattached 1", "LearnCircuitBuildTimeout 0",
                "CircuitBuildTimeout 60",
            ]  # fmt: skip
        else:
            lines += [
                "SocksPort 0", f"ORPort 127.0.0.1:{self.or_port}", "AssumeReachable 1",
                "ExitRelay 1", "ExitPolicy accept *:*", "ExitPolicyRejectPrivate 0",
                "ContactInfo bench@localhost",
            ]  # fmt: skip
        if self.authority:
            lines += [
                f"DirPort 127.0.0.1:{self.dir_port}", "AuthoritativeDirectory 1",
                "V3AuthoritativeDirectory 1", "TestingV3AuthInitialVotingInterval 5",
                "TestingV3AuthInitialVoteDelay 2", "TestingV3AuthInitialDistDelay 2",
                "TestingDirAuthVoteExit *", "TestingDirAuthVoteGuard *",
                "TestingMinExitFlagThreshold 0", "V3AuthVotingInterval 10", "V3AuthVoteDelay 2",
                "V3AuthDistDelay 2",
            ]  # fmt: skip
        path = self.folder / "torrc"
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        self._process = subprocess.Popen(
            ["tor", "-f", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def cpu(self) -> float:
        """Return the CPU seconds so far."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> float:
        """Return the resident memory in MB."""
        return int(self._stat()[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _stat(self) -> list[str]:
        if self._process is None:
            raise RuntimeError(f"{self.nickname} does not run")
        text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        return text.rpartition(")")[2].split()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process.kill()
            self._process.wait()


class _Server:
    """Sources, sinks and echoes, in threads: what stands behind the exits."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            order = _exactly(connection, 9)
            size = int.from_bytes(order[1:], "big")
            if order[:1] == b"s":
                for begin in range(0, size, len(_CHUNK)):
                    connection.sendall(_CHUNK[: size - begin])
            elif order[:1] == b"k":
                _discard(connection, size)
                connection.sendall(b"k")
            else:
                while data := connection.recv(4096):
                    connection.sendall(data)

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the connection ended early")
        data += part
    return data


def _discard(connection: socket.socket, size: int) -> None:
    while size:
        part = connection.recv(min(size, 1 << 18))
        if not part:
            raise ConnectionError("the connection ended early")
        size -= len(part)


class TorBench:
    """A running private Tor network and what is measured on it."""

    def __init__(self, relays: list[_Tor], client: _Tor, server: _Server) -> None:
        self._relays = relays
        self._client = client
        self._server = server
        self._controller = Controller.from_socket_file(str(client.control))
        self._controller.authenticate()
        self._path = [relay.fingerprint for relay in relays[AUTHORITIES : AUTHORITIES + 3]]

    def wait_ready(self) -> None:
        """Wait until a circuit of three hops can be built."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._controller.close_circuit(self._build())
            except (stem.ControllerError, ValueError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _build(self) -> str:
        return str(self._controller.new_circuit(self._path, await_build=True, timeout=20))

    @contextmanager
    def _streams_on(self, circuits: int) -> Iterator[None]:
        """Build circuits, and attach every new stream to them in turn."""
        built = [self._build() for _ in range(circuits)]
        turn = iter(range(1 << 30))

        def attach(event: Any) -> None:
            if event.status == "NEW":
                with suppress(stem.ControllerError):
                    self._controller.attach_stream(event.id, built[next(turn) % circuits])

        self._controller.add_event_listener(attach, stem.control.EventType.STREAM)
        try:
            yield
        finally:
            self._controller.remove_event_listener(attach)
            for circuit in built:
                with suppress(stem.ControllerError):
                    self._controller.close_circuit(circuit)

    def _connect(self) -> socket.socket:
        """Open a stream to the server, by SOCKS 5."""
        connection = socket.create_connection(("127.0.0.1", self._client.socks_port), 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"\x05\x01\x00")
        _exactly(connection, 2)
        target = socket.inet_aton("127.0.0.1") + self._server.port.to_bytes(2, "big")
        connection.sendall(b"\x05\x01\x00\x01" + target)
        if _exactly(connection, 10)[1]:
            raise ConnectionError("the exit refused the stream")
        return connection

    def _download(self, size: int) -> None:
        with self._connect() as connection:
            connection.sendall(b"s" + size.to_bytes(8, "big"))
            _discard(connection, size)

    def _upload(self, size: int) -> None:
        with self._connect() as connection:
            connection.sendall(b"k" + size.to_bytes(8, "big"))
            for begin in range(0, size, len(_CHUNK)):
                connection.sendall(_CHUNK[: size - begin])
            _exactly(connection, 1)

    def _transfer(self, transfer: Callable[[int], None], size: int, count: int) -> dict[str, float]:
        with self._streams_on(count):
            before = sum(relay.cpu() for relay in self._relays)
            begin = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(transfer, [size // count] * count))
            seconds = time.perf_counter() - begin
            cpu = sum(relay.cpu() for relay in self._relays) - before
        return {
            "mb_per_s": round(size / 1e6 / seconds, 1),
            "cpu_s_per_gb_and_hop": round(cpu / 3 / size * 1e9, 2),
        }

    def builds(self) -> dict[str, float]:
        """Build circuits one after the other, then many at once."""
        times = []
        for _ in range(BUILDS):
            begin = time.perf_counter()
            circuit = self._build()
            times.append((time.perf_counter() - begin) * 1000)
            self._controller.close_circuit(circuit)
        begin = time.perf_counter()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            circuits = list(pool.map(lambda _: self._build(), range(BUILDS * 2)))
        seconds = time.perf_counter() - begin
        for circuit in circuits:
            with suppress(stem.ControllerError):
                self._controller.close_circuit(circuit)
        return {
            "median_ms": round(statistics.median(times), 2),
            "p90_ms": round(statistics.quantiles(times, n=10)[8], 2),
            "circuits_per_s": round(len(circuits) / seconds, 1),
        }

    def round_trips(self) -> dict[str, float]:
        """Send 100 bytes through the exit and back, again and again."""
        times = []
        with self._streams_on(1), self._connect() as connection:
            connection.sendall(b"e" + bytes(8))
            for _ in range(PINGS):
                begin = time.perf_counter()
                connection.sendall(bytes(100))
                _exactly(connection, 100)
                times.append((time.perf_counter() - begin) * 1000)
        return {
            "median_ms": round(statistics.median(times), 3),
            "p99_ms": round(statistics.quantiles(times, n=100)[98], 3),
        }

    def measure(self, size: int) -> dict[str, Any]:
        """Run every measurement."""
        return {
            "idle_rss_mb": round(statistics.mean(relay.rss_mb() for relay in self._relays), 1),
            "build": self.builds(),
            "round_trip_100_bytes": self.round_trips(),
            "down_1_circuit": self._transfer(self._download, size, 1),
            "down_4_circuits": self._transfer(self._download, size, 4),
            "up_1_circuit": self._transfer(self._upload, size, 1),
            "up_4_circuits": self._transfer(self._upload, size, 4),
        }

    def close(self) -> None:
        """Let go of the client."""
        self._controller.close()


def measure_tor(scheduler: str, megabytes: int) -> dict[str, Any]:
    """Start a private network with one scheduler (`KIST` or `Vanilla`), measure, end it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fogbank-tor-")))
        relays = [
            _Tor(folder, f"node{number}", authority=number < AUTHORITIES, scheduler=scheduler)
            for number in range(AUTHORITIES + EXITS)
        ]
        client = _Tor(folder, "client", authority=False, scheduler=scheduler)
        for relay in relays:
            relay.prepare()
        directory = "\n".join(relay.directory_line() for relay in relays[:AUTHORITIES])
        for node in (*relays, client):
            stack.callback(node.stop)
            node.start(directory, client=node is client)
        server = _Server()
        stack.callback(server.close)
        deadline = time.monotonic() + _START_SECONDS
        while not client.control.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("tor did not start")
            time.sleep(0.1)
        bench = TorBench(relays, client, server)
        stack.callback(bench.close)
        bench.wait_ready()
        return bench.measure(megabytes * 1_000_000)
