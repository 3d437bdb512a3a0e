"""Four authorities with real shells, stores and messages over memory streams (spec/05 §4, §7)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from fogbank.directory.authority import Restored
from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.broadcast import Chain
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.descriptor import Description, Role
from fogbank.directory.effects import FetchMint
from fogbank.directory.exchange import PushVote, RefusedError, Status
from fogbank.directory.exchange_shell import (
    Cache,
    DirService,
    Held,
    ask,
    fetch_consensus,
    fetch_evidence,
    fetch_mint,
    publish,
)
from fogbank.directory.mint.ballot import NO_STATE
from fogbank.directory.mint.contributor import HeldState
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.schedule import nth_round
from fogbank.directory.store_shell import Store, StoreError
from fogbank.directory.vote import Policy, Vote
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, send_message
from tests.directory.factory import START, SyntheticNetwork, make_network, relay, seed, worker


@dataclass(frozen=True)
class Origin:
    linked_peer: NodeId | None = None


def clock() -> float:
    """The wall clock of the tests: it begins at the network's start, and trio moves it."""
    return START + trio.current_time() - EPOCH[0]


EPOCH = [0.0]


def restored(path: Path) -> Restored:
    """Read a store as a restarted authority would."""
    with closing(Store(path)) as store:
        return store.restore()


class Network:
    """Runs the shells of a network's authorities, each behind streams in memory."""

    def __init__(self, network: SyntheticNetwork, folder: Path, nursery: trio.Nursery) -> None:
        EPOCH[0] = trio.current_time()
        self.network = network
        self.document = network.document
        self.folder = folder
        self.nursery = nursery
        self.shells: dict[NodeId, AuthorityShell] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.probed: list[NodeId] = []
        self.stores: list[Store] = []

    async def probe(self, addresses: tuple[Address, ...], identity: NodeId) -> Address:
        assert addresses
        await trio.sleep(0.01)
        self.probed.append(identity)
        return addresses[0]

    @asynccontextmanager
    async def stream(
        self, to: NodeId, service: Callable[..., object] | None = None, peer: NodeId | None = None
    ) -> AsyncIterator[Stream]:
        """Open a stream to an authority's service, or to a given one."""
        if service is None:
            if to not in self.shells:
                raise OSError("nobody listens")
            service = self.shells[to].service
        here, there = memory_stream_pair()

        async def serve() -> None:
            try:
                await service(there, Origin(peer))  # type: ignore[misc]
            except (RelayError, trio.BrokenResourceError, trio.ClosedResourceError):
                await there.aclose()

        self.nursery.start_soon(serve)
        try:
            yield here
        finally:
            await here.aclose()

    def make(self, index: int, ahead: float = 0) -> AuthorityShell:
        authority = self.network.authorities[index]
        store = Store(self.folder / f"{index}.sqlite")
        self.stores.append(store)
        shell = AuthorityShell(
            self.document,
            authority.credentials,
            store,
            connect=lambda to: self.stream(to, peer=authority.identity),
            probe=self.probe,
            clock=lambda: clock() + ahead,
            mint=MintSecret(seed("mint", index)),
        )
        shell.publish_own(authority.descriptor(clock()))
        return shell

    async def start(self, index: int, shell: AuthorityShell | None = None) -> AuthorityShell:
        made = shell or self.make(index)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as self.scopes[index]:
                await made.run(task_status=task_status)

        await self.nursery.start(run)
        self.shells[self.network.authorities[index].identity] = made
        return made

    def kill(self, index: int) -> None:
        """Stop an authority between two of its steps, its file left as it is."""
        del self.shells[self.network.authorities[index].identity]
        self.scopes[index].cancel()

    async def until(self, when: float) -> None:
        await trio.sleep(max(0.0, when - clock()))

    def consensus(self, index: int) -> Consensus | None:
        return self.shells[self.network.authorities[index].identity].core.consensus


@asynccontextmanager
async def running(tmp_path: Path, count: int = 4) -> AsyncIterator[Network]:
    async with trio.open_nursery() as nursery:
        network = Network(make_network(count), tmp_path, nursery)
        yield network
        nursery.cancel_scope.cancel()
    for store in network.stores:
        store.close()


async def publish_to(network: Network, index: int, descriptor: bytes) -> None:
    async with network.stream(network.network.authorities[index].identity) as stream:
        await publish(stream, descriptor, clock)


async def test_a_network_starts_and_nodes_are_listed_within_seven_seconds(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        for index in range(4):
            await trio.sleep(0.3)
            await network.start(index)
        await trio.sleep(0.5)
        nodes = [relay(i) for i in range(5)] + [worker(i) for i in range(3)]
        for node in nodes:
            for index in range(4):
                await publish_to(network, index, node.descriptor(clock()))
        for number in range(4):
            this = nth_round(network.document, number)
            await network.until(this.valid_after + 0.1)
            held = {network.consensus(index) for index in range(4)}
            assert {c.valid_after for c in held if c} == {this.valid_after}
            assert len({c.digest for c in held if c}) == 1
            if number == 1:
                assert clock() < START + 7
                listed = network.consensus(0)
                assert listed is not None
                assert len(listed.relays()) == 5
                assert len(listed.workers()) == 3
        assert {r.identity for r in nodes[:5]} <= set(network.probed)
        consensus = network.consensus(0)
        assert consensus is not None
        assert {e.identity for e in (*consensus.relays(), *consensus.workers())} == {
            node.identity for node in nodes
        }
        async with network.stream(network.network.authorities[1].identity) as stream:
            fetched = await fetch_consensus(stream, network.document, clock)
            assert fetched is not None
            assert fetched[1] == consensus
            assert await fetch_consensus(stream, network.document, clock, fetched[1]) is None


async def test_one_down_one_comes_late_and_catches_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(tmp_path) as network:
        for index in range(3):
            await network.start(index)
        first = nth_round(network.document, 0)
        await network.until(first.valid_after + 0.1)
        assert network.consensus(0) is not None
        late = await network.start(3)
        await network.until(first.valid_after + 1)
        assert late.core.consensus == network.consensus(0)
        assert f"took the consensus of {first.valid_after} from another authority" in caplog.text
        shell = network.shells[network.network.authorities[0].identity]
        assert "missing: auth3" in shell.summary
        await network.until(nth_round(network.document, 2).valid_after + 0.5)
        assert "missing" not in shell.summary


async def test_who_starts_anew_hears_from_one_honest_other_at_least_what_is_newest(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        await network.until(nth_round(network.document, 1).valid_after + 0.1)
        network.kill(0)
        newest = nth_round(network.document, 2).valid_after
        await network.until(newest + 0.1)
        # Of four one may lie: one that answers is not enough.
        for index in (1, 2):
            network.kill(index)
        shell = await network.start(0)
        heard: list[int] = []

        async def catch_up() -> None:
            await shell.catch_up()
            consensus = shell.core.consensus
            heard.append(consensus.valid_after if consensus else 0)

        network.nursery.start_soon(catch_up)
        await trio.sleep(0.5)
        assert not heard
        await network.start(1)
        await trio.sleep(1.2)
        assert heard == [newest]


@pytest.mark.parametrize("killed_at", [0.1, 0.6, 0.9, 1.2, 1.6])
async def test_killed_in_a_round_signs_nothing_twice(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, killed_at: float
) -> None:
    """Its file goes on with it: the round ends with one consensus, the next one has all four."""
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        second = nth_round(network.document, 1)
        await network.until(second.begins + killed_at)
        network.kill(1)
        before = restored(tmp_path / "1.sqlite").journals.get(second.valid_after)
        await trio.sleep(0.15)
        await network.start(1)
        await network.until(second.valid_after + 1)
        assert len({network.consensus(i) for i in range(4)}) == 1
        after = restored(tmp_path / "1.sqlite").journals.get(second.valid_after)
        if before is not None:
            assert after is not None
            assert after.vote == before.vote
            assert before.consensus in {b"", after.consensus}
        third = nth_round(network.document, 2)
        await network.until(third.valid_after + 0.2)
        consensus = network.consensus(0)
        assert consensus is not None
        assert consensus.valid_after == third.valid_after
        assert len(consensus.voters) == 4


async def test_a_clock_that_is_off_is_told_in_words(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One authority's clock is 7 seconds fast: the others go on, and its log says which way."""
    async with running(tmp_path) as network:
        fast = network.make(3, ahead=7)
        for index in range(3):
            await network.start(index)
        await network.start(3, fast)
        await network.until(nth_round(network.document, 2).valid_after + 0.5)
        consensus = network.consensus(0)
        assert consensus is not None
        assert len(consensus.voters) == 3
        told = [line for line in caplog.messages if "ahead of authority auth0" in line]
        assert len(told) == 1
        assert "rounds need a quarter of a phase; see which of the two is wrong" in told[0]


async def test_equivocation_leaves_evidence_that_anyone_can_fetch(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        first = nth_round(network.document, 0)
        await network.until(first.begins + 0.1)
        liar = network.network.authorities[2]
        network_id = network.document.network_id
        vote = Vote(first.valid_after, Policy(engines=("x",)), b"", b"", ())
        body = vote.sign(network_id, liar.credentials)
        chain = Chain(first.valid_after, liar.identity, sha256(body))
        message = PushVote(chain.signed(network_id, liar.credentials), body)
        target = network.network.authorities[0].identity
        async with network.stream(target, peer=liar.identity) as stream:
            assert (await ask(stream, message)).status is Status.DONE
        await network.until(first.valid_after + 0.2)
        consensus = network.consensus(3)
        assert consensus is not None
        assert liar.identity not in consensus.voters
        async with network.stream(network.network.authorities[1].identity) as stream:
            proofs = await fetch_evidence(stream, network.document, clock)
        assert [who for who, _ in proofs] == [liar.identity]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def test_refusals_are_told_in_words(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        shell = await network.start(0)
        target = network.network.authorities[0].identity
        with pytest.raises(RefusedError, match="clock fast"):
            await publish_to(network, 0, relay(1, born=START).descriptor(clock() + 3600))
        descriptor = relay(1).descriptor(clock())
        await publish_to(network, 0, descriptor)
        await publish_to(network, 0, descriptor)
        await trio.sleep(0.1)
        with pytest.raises(RefusedError, match="newer descriptor"):
            await publish_to(network, 0, relay(1).descriptor(clock() - 5))
        with pytest.raises(RefusedError, match="no consensus is here yet"):
            async with network.stream(target) as stream:
                await fetch_consensus(stream, network.document, clock)
        chain = Chain(START, target, bytes(32))
        async with network.stream(target) as stream:
            reply = await ask(stream, PushVote(chain))
            assert reply.status is Status.REFUSED
            assert "only authorities" in reply.reason
        async with network.stream(target, peer=relay(1).identity) as stream:
            assert (await ask(stream, PushVote(chain))).status is Status.REFUSED
        assert shell.core.nodes


async def test_garbage_ends_the_stream_and_nothing_else(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        target = network.network.authorities[0].identity
        for garbage in (b"", b"\xff" * 40, b"\xa1\x01\x09"):
            async with network.stream(target, peer=network.network.authorities[1].identity) as s:
                await send_message(s, garbage)
                assert await s.receive_some(10) == b""
        async with network.stream(target) as s:
            await s.send_all(b"\xff\xff\xff\xff")
            assert await s.receive_some(10) == b""
        await network.until(nth_round(network.document, 0).valid_after + 0.2)
        assert network.consensus(0) is not None


async def test_a_cache_serves_the_consensus_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        await network.until(nth_round(network.document, 0).valid_after + 0.2)
        consensus = network.consensus(0)
        assert consensus is not None
        cache = Cache(clock)
        service = DirService(network.document, cache, clock)
        document = restored(tmp_path / "0.sqlite").consensus
        cache.hold(document, open_consensus(document, network.document, clock()))
        async with network.stream(b"", service) as stream:
            fetched = await fetch_consensus(stream, network.document, clock)
            assert fetched == (document, consensus)
            with pytest.raises(RefusedError, match="ask an authority"):
                await publish(stream, relay(1).descriptor(clock()), clock)

        def fast() -> float:
            return clock() + 2 * 86_400

        async with network.stream(b"", service) as stream:
            with pytest.raises(ProtocolError, match="2880 minutes fast"):
                await fetch_consensus(stream, network.document, fast)
        assert Held.of(document, consensus).digest == consensus.digest


async def test_a_silent_server_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    here, _there = memory_stream_pair()
    with pytest.raises(RelayError, match="did not answer"):
        await fetch_consensus(here, make_network().document, clock)


async def test_a_silent_client_is_let_go(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        await network.start(0)
        async with network.stream(network.network.authorities[0].identity) as stream:
            await stream.send_all(b"\0\0")
            assert await stream.receive_some(10) == b""


async def test_a_full_disk_stops_signing_not_the_authority(
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(tmp_path) as network:
        broken = network.make(3)

        def fail(valid_after: int, data: bytes) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(broken._store, "journal_vote", fail)
        for index in range(3):
            await network.start(index)
        await network.start(3, broken)
        await network.until(nth_round(network.document, 1).valid_after + 0.5)
        consensus = network.consensus(0)
        assert consensus is not None
        assert network.network.authorities[3].identity not in consensus.voters
        assert broken.core.consensus == consensus
        assert "the disk is full" in caplog.text


def test_an_authority_describes_itself_only(tmp_path: Path) -> None:
    network = make_network()
    with closing(Store(tmp_path / "db")) as store:
        shell = AuthorityShell(
            network.document,
            network.authorities[0].credentials,
            store,
            connect=None,  # type: ignore[arg-type]
            probe=None,  # type: ignore[arg-type]
            clock=lambda: START,
        )
    with pytest.raises(ProtocolError, match="another node"):
        shell.publish_own(network.authorities[1].descriptor(START))
    other = Description("x1", Role.RELAY, network.authorities[0].addresses)
    with pytest.raises(ProtocolError, match="contradict"):
        shell.publish_own(network.authorities[0].descriptor(START, other))


# The mint.


async def test_shares_and_states_are_on_the_disk_and_given_to_authorities_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """An authority that was killed has its share again; others may have the state it stands in."""
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        await network.until(nth_round(network.document, 2).valid_after + 0.2)
        identity = network.network.authorities[0].identity
        before = network.shells[identity].core.mint
        share, name = before.share_of(0), before.held.name
        assert share is not None
        network.kill(0)
        mint = (await network.start(0)).core.mint
        assert (mint.share_of(0), mint.held.name) == (share, name)
        peer = network.network.authorities[1].identity
        async with network.stream(identity, peer=peer) as stream:
            document = await fetch_mint(stream, name[0], clock)
        opened = open_consensus(document, network.document, name[0])
        assert opened.mint == mint.held.state
        for valid_after, other in ((name[0] + 1, peer), (name[0], None)):
            async with network.stream(identity, peer=other) as stream:
                with pytest.raises(RefusedError):
                    await fetch_mint(stream, valid_after, clock)


async def test_one_that_lacks_a_state_asks_the_others_for_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as network:
        for index in range(4):
            await network.start(index)
        await network.until(nth_round(network.document, 2).valid_after + 0.2)
        shell = network.shells[network.network.authorities[0].identity]
        mint = shell.core.mint
        name, state = mint.held.name, mint.held.state
        # As if it had never heard of it; the others are down, but for one that holds it.
        mint.held = HeldState()
        for index in (2, 3):
            network.kill(index)
        mint.want(name, math.inf)
        shell._act(FetchMint(network.network.authorities[2].identity, name[0]))
        shell._act(FetchMint(network.network.authorities[1].identity, name[0]))
        await trio.sleep(1)
        assert mint.held == HeldState(name[0], state, name[1])
        assert mint.wanted == NO_STATE
