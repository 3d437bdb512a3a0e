"""The links of the network document's chain, fetched and judged (spec/05 §1.5, §7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import trio
from trio.testing import memory_stream_pair

from fogbank.directory.descriptor import Role, open_descriptor
from fogbank.directory.exchange import LINKS_LIMIT, Reply, Request, Status, pack_links
from fogbank.directory.exchange_shell import Directory, DirService, fetch_links
from fogbank.directory.network import (
    NETWORK_LIMIT,
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    dump_network,
)
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message
from tests.directory.factory import START, Node, make_network, relay
from tests.directory.served import ServedByAuthority

OLD = make_network(4)
NODES = (*OLD.authorities, *(Node(f"auth{i}", Role.AUTHORITY, i) for i in range(4, 40)))


def clock() -> float:
    return START + 5.0


def successor(
    old: NetworkDocument,
    members: Sequence[int],
    signers: Sequence[int] | None = None,
    in_force: int = 0,
) -> SignedNetwork:
    """The next version, with the authorities of those numbers, signed by all or by those."""
    pins = tuple(
        AuthorityPin(NODES[i].identity, NODES[i].name, NODES[i].addresses) for i in members
    )
    document = replace(
        old,
        version=old.version + 1,
        authorities=pins,
        in_force=in_force or START + 1000 * old.version,
        previous=None,
    )
    signed = SignedNetwork(document)
    for i in range(len(NODES)) if signers is None else signers:
        if old.is_authority(NODES[i].identity) or document.is_authority(NODES[i].identity):
            signed = signed.sign(NODES[i].identity_key)
    return signed


def moving_chain(length: int) -> list[SignedNetwork]:
    """Versions of which each replaces one authority: after four nobody of the first is left."""
    chain = [OLD.signed()]
    for number in range(1, length):
        chain.append(successor(chain[-1].document, range(number, number + 4)))
    return chain


Serve = Callable[[Stream, "Stranger"], Awaitable[None]]


@dataclass(frozen=True)
class Stranger:
    linked_peer: NodeId | None = None


@dataclass
class Reader:
    """Someone who holds a version, and asks."""

    network: NetworkDocument = OLD.document
    taken: list[SignedNetwork] = field(default_factory=list)

    def take(self, signed: SignedNetwork, network: NetworkDocument) -> None:
        assert signed.document == network
        self.taken.append(signed)
        self.network = network

    async def ask(self, directory: Directory) -> NetworkDocument:
        return await self.ask_service(DirService(OLD.document, directory, clock))

    async def ask_service(self, service: Serve) -> NetworkDocument:
        here, there = memory_stream_pair()
        failure: RelayError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service, there, Stranger())
            try:
                await fetch_links(here, self.network, clock, self.take)
            except RelayError as error:
                failure = error
            await here.aclose()
        if failure is not None:
            raise failure
        return self.network


@dataclass
class Answers(Directory):
    """A directory that answers with bytes of its own."""

    body: Callable[[], bytes]

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        del request, peer
        return Reply(Status.DONE, int(clock()), self.body())


def offering(*links: SignedNetwork) -> Answers:
    return Answers(lambda: pack_links([dump_network(each) for each in links]))


async def refusal(directory: Directory, reader: Reader | None = None) -> str:
    """What a reader is told that takes nothing of what it is offered."""
    asking = reader or Reader()
    with pytest.raises(RelayError) as caught:
        await asking.ask(directory)
    assert asking.taken == []
    return str(caught.value)


async def test_who_was_away_catches_up_through_all_links() -> None:
    chain = moving_chain(30)
    reader = Reader()
    newest = await reader.ask(ServedByAuthority(clock, chain))
    assert newest.version == 30
    assert [each.document.version for each in reader.taken] == list(range(2, 31))
    assert not any(newest.is_authority(pin.identity) for pin in OLD.document.authorities)
    # Each time is governed by the version that was in force then.
    assert newest.governing(START).version == 1
    assert newest.governing(START + 3500).version == 4
    assert newest.governing(START + 10**6).version == 30
    assert {pin.nickname for pin in newest.engaged(START + 28_500)} == {
        f"auth{i}" for i in range(28, 33)
    }
    again = await reader.ask(ServedByAuthority(clock, chain))
    assert again is newest


async def test_what_was_verified_before_a_bad_link_stays() -> None:
    chain = moving_chain(4)
    few = successor(chain[1].document, [2, 3, 4, 5], signers=[2, 3])
    reader = Reader()
    with pytest.raises(ProtocolError):
        await reader.ask(offering(chain[1], few))
    assert reader.network.version == 2
    assert await reader.ask(ServedByAuthority(clock, chain)) is reader.network
    assert reader.network.version == 4


async def test_a_link_without_either_quorum_is_refused() -> None:
    by_few_old = successor(OLD.document, [0, 1, 4, 5], signers=[0, 1, 4, 5])
    told = await refusal(offering(by_few_old))
    assert "not to be trusted" in told
    assert "2 signatures of authorities; 3 are needed" in told
    by_few_new = successor(OLD.document, [0, 4, 5, 6], signers=[0, 1, 2, 3, 4])
    assert "2 signatures of authorities" in await refusal(offering(by_few_new))


async def test_a_forged_signature_is_refused() -> None:
    good = successor(OLD.document, [0, 1, 2, 4])
    (signer, signature), *others = good.signatures
    bad = bytes([signature[0] ^ 1]) + signature[1:]
    forged = SignedNetwork(good.document, ((signer, bad), *others))
    assert "not to be trusted" in await refusal(offering(forged))
    moved = replace(good.document, in_force=good.document.in_force + 1)
    assert "not to be trusted" in await refusal(offering(SignedNetwork(moved, good.signatures)))


async def test_a_roll_back_is_refused() -> None:
    chain = moving_chain(4)
    reader = Reader()
    await reader.ask(ServedByAuthority(clock, chain))
    for older in chain[:3]:
        held = Reader(reader.network)
        told = await refusal(offering(older), held)
        assert "version 5 comes next" in told
    # A directory that holds less than the reader has nothing for it.
    assert await reader.ask(ServedByAuthority(clock, chain[:2])) is reader.network


async def test_the_two_sides_of_a_fork_refuse_each_other() -> None:
    ours = successor(OLD.document, [0, 1, 2, 4])
    theirs = successor(OLD.document, [0, 5, 6, 7])
    after = successor(theirs.document, [5, 6, 7, 8])
    reader = Reader()
    await reader.ask(ServedByAuthority(clock, [OLD.signed(), ours]))
    held = Reader(reader.network)
    told = await refusal(ServedByAuthority(clock, [OLD.signed(), theirs, after]), held)
    assert "another version 2 of the network document is in use" in told
    assert "compare its fingerprint" in told
    lying = await refusal(offering(after), held)
    assert "signatures of authorities" in lying


async def test_a_link_of_another_network_or_schedule_is_refused() -> None:
    other = make_network(4, name="other")
    told = await refusal(offering(successor(other.document, [0, 1, 2, 4])))
    assert "of another network" in told
    timing = replace(OLD.document.timing, interval=60)
    slower = successor(replace(OLD.document, timing=timing), [0, 1, 2, 4])
    assert "another schedule" in await refusal(offering(slower))


async def test_a_gap_is_refused_in_words() -> None:
    chain = moving_chain(4)
    told = await refusal(ServedByAuthority(clock, chain[2:]))
    assert "between 1 and 3" in told
    assert "ask another authority" in told


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", encode([1]), encode({1: b""}), encode([b"\xff\xfe"]), encode([b"no toml = ="]),
     encode([b""] * 17), encode([b"x" * (NETWORK_LIMIT + 1)]), b"\x00" * (LINKS_LIMIT + 1)],
    ids=["empty", "cut", "number", "map", "not text", "not toml", "17", "long", "huge"],
)  # fmt: skip
async def test_what_is_no_link_is_one_error(body: bytes) -> None:
    assert await refusal(Answers(lambda: body))


async def test_a_directory_that_never_ends_is_left_after_so_many_links() -> None:
    """It repeats what it said before: that is no successor any more."""
    chain = moving_chain(20)
    reader = Reader()
    with pytest.raises(ProtocolError):
        await reader.ask(offering(*chain[1:17]))
    assert reader.network.version == 17


async def test_a_program_that_does_not_know_the_request_closes_the_stream() -> None:
    async def older(stream: Stream, _origin: object) -> None:
        await receive_message(stream, 1 << 14)
        await stream.aclose()

    with pytest.raises(RelayError, match="closed the stream"):
        await Reader().ask_service(older)


def test_who_was_an_authority_may_be_a_relay_once_it_is_none() -> None:
    """All judge by the version in force: a vote that lists it is a vote for everyone or no one."""
    signed = successor(OLD.document, [0, 1, 2, 4], in_force=START + 100)
    knows_both = replace(signed.document, previous=OLD.document)
    knows_one = signed.document
    gone = replace(relay(7), name="auth3")
    before, after = START + 50, START + 150
    for document in (OLD.document, knows_both):
        with pytest.raises(ProtocolError, match="contradict"):
            open_descriptor(gone.descriptor(before), document, before)
    for document in (knows_one, knows_both):
        assert open_descriptor(gone.descriptor(after), document, after).identity == gone.identity
    newcomer = NODES[4]
    assert open_descriptor(newcomer.descriptor(before), knows_both, before)
