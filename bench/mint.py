"""The benchmark of credit: a network of real processes on loopback, four of them authorities.

    make bench-mint [ARGS="--json --swaps 600"]

Measures swaps of 1 and of 8 tokens, by several wallets at once, each carried by one authority: over
circuits of three relays and the authority that stand, and over a new circuit for each request, as
real wallets do. Also a withdrawal of 1 000 tokens into a real wallet, its restore from words, and
the CPU time of a token by kind of process. Every answer is fsynced before it is given. Cashu's
nutshell, one mint alone over HTTP, is measured in the same run where it installs. All processes
share the machine. Figures on a shared machine are worth what their ratios are worth.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nutshell
import trio
from figures import Goal
from processes import cpu_seconds

from fogbank.client.circuits_shell import CircuitSet
from fogbank.client.wallet.asking_shell import Means, MintOpener
from fogbank.client.wallet.derivation import Role as WalletRole
from fogbank.client.wallet.errand_shell import Errand
from fogbank.client.wallet.mint_client_shell import MintClient, mint_streams
from fogbank.client.wallet.payments_shell import Payments
from fogbank.client.wallet.store_shell import Wallet
from fogbank.client.wallet.terms import Terms
from fogbank.client.wallet.words import entropy_of
from fogbank.directory.mint.certificates import Certificate
from fogbank.directory.mint.exchange import SERVICE
from fogbank.directory.mint.points import blind, encode_point, hash_token, wide
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Swap,
    Token,
    Withdrawal,
    sign_swap,
)
from fogbank.directory.mint.state import MintState, SeriesRecord
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.nodes.withdrawals import withdrawal_signer
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.keys import Ed25519Key, NodeId
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.messages_shell import Stream
from fogbank.testnet import processes
from fogbank.testnet.grants import grant
from fogbank.testnet.layout import INTERVAL, WARMUP_INTERVAL, WARMUP_ROUNDS, Size
from fogbank.testnet.up import bring_up, client_home

SIZE = Size(authorities=4, relays=5, workers=0)
SIZES = (1, 8)
WALLETS = {1: 48, 8: 8}
"""Wallets that swap at once, by the size of their requests; each one request after the other."""
BESIDE = {1: 8, 8: 8}
"""The same for nutshell, which is slower with more."""
DRAWN = 1000
_UNITS = 64
_UP_SECONDS = 120.0
_GRANT_SECONDS = 3 * INTERVAL
PURSES, REAL = "authority1", "authority2"
"""Nodes whose allotments are withdrawn: no daemon of theirs does it."""

GOALS = {
    "standing_1": Goal("swaps 1 to 1, circuits there", "tokens/s", least=300),
    "standing_1_p50": Goal("the same: median of a swap", "ms"),
    "standing_1_p95": Goal("the same: 95th percentile", "ms", most=250),
    "standing_8": Goal("swaps 8 to 8, circuits there", "tokens/s", least=300),
    "standing_8_p50": Goal("the same: median of a swap", "ms"),
    "standing_8_p95": Goal("the same: 95th percentile", "ms", most=250),
    "own_1": Goal("swaps 1 to 1, new circuits for each", "tokens/s"),
    "own_1_p95": Goal("the same: 95th percentile", "ms"),
    "own_8": Goal("swaps 8 to 8, new circuits for each", "tokens/s", least=300),
    "own_8_p95": Goal("the same: 95th percentile", "ms"),
    "withdraw_s": Goal(f"a wallet withdraws {DRAWN} tokens", "s"),
    "restore_s": Goal(f"and finds and swaps {DRAWN} from its words", "s"),
}


def say(text: str) -> None:
    """Tell what happens, beside the figures."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Output:
    """An output of a wallet that keeps nothing: its serial's key and its blinding factor."""

    key: Ed25519Key
    blind: int
    blinded: bytes

    @property
    def serial(self) -> bytes:
        """The serial."""
        return self.key.public


@dataclass(frozen=True)
class Network:
    """The network that is measured, and its user."""

    folder: Path
    user: User
    nodes: list[processes.NodeProcess]

    @property
    def state(self) -> MintState:
        """The newest state of the mint."""
        state = self.user.topology.consensus.mint
        if state is None:
            raise RuntimeError("the network has no mint")
        return state

    def cpu(self) -> Counter[str]:
        """Return the CPU seconds that each role's processes have used so far."""
        used = Counter(client=time.process_time())
        for node in self.nodes:
            used[node.role] += cpu_seconds(node.pid)
        return used

    def store(self, nickname: str) -> KeyStore:
        """Return a node's keys."""
        return KeyStore.open(self.folder / nickname / "keys")

    async def wait_for_allotments(self) -> None:
        """Wait for the consensus that has them."""
        identity = self.store(REAL).identity
        for _ in range(_GRANT_SECONDS):
            if self.state.allotted(identity, 0):
                return
            await trio.sleep(1)
        raise RuntimeError("no consensus has the allotments")

    def own(self) -> MintOpener:
        """Return what opens each stream over a circuit of its own."""
        return mint_streams(self.user.builder, lambda: self.user.topology)

    def client(self, opener: MintOpener) -> MintClient:
        """Return what carries requests."""
        return MintClient(opener, Means(say, self.user.name_of))


@asynccontextmanager
async def network(folder: Path, purses: int) -> AsyncIterator[Network]:
    """Start a network whose intervals have become long, with allotments, and a client in it."""
    begin = time.time()
    await bring_up(folder, SIZE, attached=True, seconds=_UP_SECONDS, report=say)
    try:
        grant(folder, PURSES, purses)
        grant(folder, REAL, DRAWN)
        rest = begin + (WARMUP_ROUNDS + 2) * WARMUP_INTERVAL - time.time()
        say(f"waiting {max(0.0, rest):.0f} s until consensuses are rare")
        await trio.sleep(max(0.0, rest))
        async with open_user(Home(client_home(folder)), say) as user:
            net = Network(folder, user, processes.load(folder))
            await net.wait_for_allotments()
            yield net
    finally:
        processes.end(processes.load(folder))


# A wallet that keeps nothing.


def outputs(network_id: bytes, count: int) -> list[Output]:
    """Return fresh outputs in the order of their blinded points."""
    made = []
    for _ in range(count):
        key, factor = Ed25519Key(secrets.token_bytes(32)), wide(secrets.token_bytes(64))
        blinded = encode_point(blind(hash_token(network_id, key.public), factor))
        made.append(Output(key, factor, blinded))
    return sorted(made, key=lambda each: each.blinded)


async def _kept(_: Certificate) -> None:
    await trio.lowlevel.checkpoint()


class Purse:
    """Tokens, and the way to turn them into others."""

    def __init__(self, client: MintClient, series: SeriesRecord, network_id: bytes) -> None:
        self.client = client
        self._series = series
        self._network_id = network_id
        self.tokens: list[tuple[Output, bytes]] = []

    async def _carry(self, signed: SignedRequest, made: Sequence[Output]) -> None:
        errand = Errand(self._series, signed, None, made, _kept)
        signatures = await self.client.carry(errand)
        self.tokens += zip(made, signatures, strict=True)

    async def withdraw(self, store: KeyStore, first: int, count: int) -> None:
        """Withdraw some units of a node's allotment."""
        made = outputs(self._network_id, count)
        source = Withdrawal(store.identity, first, count)
        blinded = tuple(each.blinded for each in made)
        request = Request(self._network_id, self._series.number, source, blinded)
        await self._carry(withdrawal_signer(store)(request), made)

    async def swap(self, count: int) -> None:
        """Swap so many tokens."""
        await trio.lowlevel.checkpoint()
        made = outputs(self._network_id, count)
        spent, self.tokens = self.tokens[:count], self.tokens[count:]
        spent.sort(key=lambda each: each[0].serial)
        source = Swap(tuple(Token(each.serial, signature) for each, signature in spent))
        blinded = tuple(each.blinded for each in made)
        request = Request(self._network_id, self._series.number, source, blinded)
        await self._carry(sign_swap(request, [each.key for each, _ in spent]), made)


class Standing:
    """Gives streams over circuits of one wallet that stand, one to each authority."""

    def __init__(self, user: User, circuits: CircuitSet[Circuit]) -> None:
        self._user = user
        self._circuits = circuits
        self._streams: dict[NodeId, Stream] = {}

    async def build(self, identities: Sequence[NodeId]) -> None:
        """Build a circuit to each authority, and open a stream over it."""
        for identity in identities:
            built = await self._circuits.to_authority(self._user.topology, identity)
            self._streams[identity] = await built.circuit.open_stream(SERVICE)

    @asynccontextmanager
    async def __call__(self, identity: NodeId) -> AsyncIterator[Stream]:
        """Give the stream to an authority's mint; a wallet has one request at a time."""
        await trio.lowlevel.checkpoint()
        yield self._streams[identity]


# What is measured.


async def swaps(purses: Sequence[Purse], size: int, count: int) -> tuple[float, list[float]]:
    """Make `count` swaps of so many tokens; return tokens a second, and ascending times in ms."""
    times: list[float] = []

    async def some(purse: Purse) -> None:
        for _ in range(count // len(purses)):
            begin = time.perf_counter()
            await purse.swap(size)
            times.append((time.perf_counter() - begin) * 1000)

    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for purse in purses:
            nursery.start_soon(some, purse)
    return size * len(times) / (time.perf_counter() - begin), sorted(times)


class Bench:
    """All measurements of one network."""

    def __init__(self, net: Network, options: argparse.Namespace) -> None:
        self._net = net
        self._options = options
        self._series = net.state.series[0]
        self._network_id = net.user.topology.consensus.network_id
        self.result: dict[str, Any] = {"cpu_ms": {}}

    async def run(self) -> None:
        """Measure everything."""
        async with AsyncExitStack() as stack:
            openers = [
                Standing(self._net.user, stack.enter_context(self._net.user.circuits()))
                for _ in range(self._options.wallets[1])
            ]
            identities = [each.identity for each in self._series.members]
            for opener in openers:
                await opener.build(identities)
            purses = [
                Purse(self._net.client(opener), self._series, self._network_id)
                for opener in openers
            ]
            store, most = self._net.store(PURSES), max(SIZES)
            for number, purse in enumerate(purses):
                await purse.withdraw(store, number * most, most)
            await self._swap("standing", purses)
            own = self._net.client(self._net.own())
            for purse in purses:
                purse.client = own
            await self._swap("own", purses)
        await self._wallet()

    async def _swap(self, name: str, purses: Sequence[Purse]) -> None:
        for size in SIZES:
            some = purses[: self._options.wallets[size]]
            count = max(len(some), self._options.swaps // (1 if size == 1 else 4))
            await swaps(some, size, len(some))
            key = f"{name}_{size}"

            measured = partial(swaps, some, size, count)
            rate, times = await self._counted(key, count * size, measured)
            self.result[key] = rate
            self.result[f"{key}_p50"] = times[len(times) // 2]
            self.result[f"{key}_p95"] = times[len(times) * 95 // 100]
            say(f"{key}: {rate:.0f} tokens/s, CPU ms of each: {self.result['cpu_ms'][key]}")

    async def _counted(self, name: str, count: int, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run something; note the CPU ms by role of each of the `count` that it consists of."""
        before = self._net.cpu()
        answer = await run()
        used = self._net.cpu()
        self.result["cpu_ms"][name] = {
            role: round((used[role] - before[role]) * 1000 / count, 3) for role in used
        }
        return answer

    async def _wallet(self) -> None:
        """Fill a real wallet, on its disk, and find all of it again from its words."""
        folder, store = self._net.folder, self._net.store(REAL)
        terms = Terms.of(Home(client_home(folder)).network())
        client = self._net.client(self._net.own())

        def payments(wallet: Wallet) -> Payments:
            return Payments(wallet, client, terms.calendar, lambda: self._net.state)

        first = folder / "first wallet"
        Wallet.create(first, self._network_id, WalletRole.NODE)
        with Wallet.open(first, terms) as wallet:
            entropy = entropy_of(wallet.words())
            begin = time.perf_counter()
            settled = await self._counted(
                "withdrawal", DRAWN,
                lambda: payments(wallet).withdraw(store.identity, withdrawal_signer(store)),
            )  # fmt: skip
            settled.raise_first()
            if settled.tokens != DRAWN:
                raise RuntimeError(f"{settled.tokens} tokens were withdrawn")
            self.result["withdraw_s"] = time.perf_counter() - begin
            say(f"withdrawn in {self.result['withdraw_s']:.1f} s")
        # The disk is gone, the words are there.
        second = folder / "second wallet"
        Wallet.create(second, self._network_id, WalletRole.NODE, entropy)
        with Wallet.open(second, terms) as wallet:
            begin = time.perf_counter()
            found, settled = await self._counted(
                "restore", DRAWN, lambda: payments(wallet).restore(store.identity)
            )
            settled.raise_first()
            if (found, settled.tokens) != (DRAWN, DRAWN):
                raise RuntimeError(f"{found} tokens were found, {settled.tokens} swapped")
            self.result["restore_s"] = time.perf_counter() - begin
            say(f"restored in {self.result['restore_s']:.1f} s")


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every measurement."""
    async with network(folder / "network", options.wallets[1] * max(SIZES)) as net:
        bench = Bench(net, options)
        await bench.run()
    return bench.result


def beside(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure nutshell; say why if that cannot be."""
    if options.no_nutshell:
        return {}
    say("installing and measuring Cashu's nutshell")
    folder.mkdir()
    try:
        return {"nutshell": nutshell.measure(folder, options.swaps, BESIDE)}
    except nutshell.NotThere as error:
        return {"wanting": str(error)}


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table, with goals."""
    print(f"{'through the network':44} {'measured':>10} {'':8} goal")
    for name, goal in GOALS.items():
        print(goal.words(result.get(name)))
    roles = ("client", "relay", "authority")
    print(f"\n{'CPU ms of a token':30}", *(f"{role:>10}" for role in roles))
    for name, used in result["cpu_ms"].items():
        print(f"{name:30}", *(f"{used[role]:>10}" for role in roles))
    for size, theirs in result.get("nutshell", {}).items():
        print(
            f"nutshell, {size} to {size}: {theirs['tokens_per_s']:.0f} tokens/s, "
            f"median {theirs['p50_ms']:.0f} ms, p95 {theirs['p95_ms']:.0f} ms; ours are "
            f"{result[f'standing_{size}'] / theirs['tokens_per_s']:.1f} and "
            f"{result[f'own_{size}'] / theirs['tokens_per_s']:.1f} times as many"
        )
    if "wanting" in result:
        print(result["wanting"])


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--swaps", type=int, default=1440, help="swaps of one token; a quarter of 8"
    )
    parser.add_argument("--no-nutshell", action="store_true", help="leave Cashu's nutshell out")
    options = parser.parse_args()
    options.wallets = WALLETS
    with tempfile.TemporaryDirectory(prefix="fogbank-bench-") as folder:
        result = trio.run(measure, options, Path(folder))
        result |= beside(options, Path(folder) / "nutshell")
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
