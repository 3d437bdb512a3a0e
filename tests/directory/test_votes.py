"""Large votes of other authorities: what they cost the one who receives them (spec/05 §7)."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import lockstep_stream_pair

from fogbank.directory.agreement import Agreement, Journal
from fogbank.directory.authority import Authority, Restored
from fogbank.directory.broadcast import Answer, Body, Chain, load
from fogbank.directory.descriptor import DescriptorCache
from fogbank.directory.effects import JournalSignature, Log
from fogbank.directory.exchange import (
    REQUEST_LIMIT,
    PushVote,
    Reply,
    Request,
    Status,
    announced_vote,
)
from fogbank.directory.exchange_shell import DirService, ask
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import VOTE_LIMIT
from fogbank.directory.votes_shell import DiskError, StoredVote
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId
from tests.directory.factory import make_network

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
CREDENTIALS = NETWORK.credentials
ROUND = nth_round(DOCUMENT, 0)
NOW = ROUND.begins + 0.1
LIAR = CREDENTIALS[1]
MIB = 1 << 20


@dataclass(frozen=True)
class Linked:
    linked_peer: NodeId | None = LIAR.identity


@dataclass
class Served:
    """An authority's core behind its service, and what it was asked."""

    asked: list[PushVote] = field(default_factory=list)
    core: Authority = field(
        default_factory=lambda: Authority(DOCUMENT, CREDENTIALS[0], Restored(), NOW)
    )

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        assert isinstance(request, PushVote)
        assert peer is not None
        self.asked.append(request)
        answer, _ = self.core.receive_vote(peer, request.chain, request.body, NOW)
        status = Status.NEED_BODY if answer is Answer.NEED_BODY else Status.DONE
        return Reply(status, int(NOW))


def chain_of(body: bytes) -> Chain:
    chain = Chain(ROUND.valid_after, LIAR.identity, hashlib.sha256(body).digest())
    return chain.signed(DOCUMENT.network_id, LIAR)


async def push(served: Served, folder: Path, *requests: PushVote) -> list[Reply]:
    """Send requests over one stream; return the replies."""
    service = DirService(DOCUMENT, served, lambda: NOW, folder)
    here, there = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service, there, Linked())
        replies = [await ask(here, request) for request in requests]
        await here.aclose()
    return replies


async def test_a_large_vote_takes_no_memory(tmp_path: Path) -> None:
    vote = bytes(24 * MIB)
    served = Served()
    request = PushVote(chain_of(vote), vote)
    tracemalloc.start()
    try:
        (reply,) = await push(served, tmp_path, request)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reply.status is Status.DONE
    assert most < 4 * MIB
    ((_, body),) = served.core._agreement._broadcast._values[LIAR.identity].values()
    assert isinstance(body, StoredVote)
    # Not compared by pytest, which would show all of it.
    assert hashlib.sha256(load(body)).digest() == request.chain.digest


async def test_what_is_not_wanted_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third vote of one sender, a known one, and one of another round: none is kept anywhere."""
    votes = [bytes(each) * MIB for each in (b"a", b"b", b"c")]
    made: list[int] = []
    add = StoredVote.add

    def counted(self: StoredVote, part: bytes) -> None:
        made.append(len(part))
        add(self, part)

    monkeypatch.setattr(StoredVote, "add", counted)
    served = Served()
    late = Chain(ROUND.valid_after + 1, LIAR.identity, bytes(32))
    wanted = [PushVote(chain_of(vote), vote) for vote in votes]
    others = [wanted[2], wanted[0], PushVote(late.signed(DOCUMENT.network_id, LIAR), votes[0])]
    replies = await push(served, tmp_path, *wanted[:2], *others)
    assert [reply.status for reply in replies] == [Status.DONE] * 5
    assert sum(made) == 2 * MIB
    # The chain first; and again with the vote, where that was wanted.
    assert [request.body is not None for request in served.asked] == [0, 1, 0, 1, 0, 0, 0]


def test_a_vote_on_the_disk_has_no_name(tmp_path: Path) -> None:
    """Killed at any moment, an authority leaves nothing behind."""
    stored = StoredVote(tmp_path)
    stored.add(b"a vote")
    assert stored.part(2, 3) + stored.part(5, 9) + stored.part(6, 9) == b"vote"
    assert list(tmp_path.iterdir()) == []


async def test_a_large_vote_with_other_bytes_costs_a_strike(tmp_path: Path) -> None:
    vote = bytes(MIB)
    served = Served()
    await push(served, tmp_path, PushVote(chain_of(vote), vote[:-1] + b"x"))
    assert served.core._agreement._strikes == {LIAR.identity: 1}
    assert LIAR.identity not in served.core._agreement._broadcast.decided()


async def test_without_room_on_the_disk_a_vote_is_refused_in_words(tmp_path: Path) -> None:
    """The stream goes on: what comes next is answered."""
    vote = bytes(MIB)
    small = b"a vote of few bytes"
    requests = PushVote(chain_of(vote), vote), PushVote(chain_of(small), small)
    replies = await push(Served(), tmp_path / "not there", *requests)
    assert [reply.status for reply in replies] == [Status.REFUSED, Status.DONE]
    assert "no place on the disk: No such file" in replies[0].reason


async def test_a_disk_that_fills_up_in_mid_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vote = bytes(MIB)
    left = [2]
    add = StoredVote.add

    def fail(self: StoredVote, part: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise DiskError("a vote finds no place on the disk")
        add(self, part)

    monkeypatch.setattr(StoredVote, "add", fail)
    (reply,) = await push(Served(), tmp_path, PushVote(chain_of(vote), vote))
    assert reply.status is Status.REFUSED


def concluded(body: Body, digest: bytes) -> tuple[Agreement, list[object]]:
    """Return a round's end, for which three votes came, one of them this one."""
    agreement = Agreement(DOCUMENT, ROUND, CREDENTIALS[0], DescriptorCache(DOCUMENT), Journal())
    agreement.start(lambda: b"mine", complete=True)
    chain = Chain(ROUND.valid_after, LIAR.identity, digest).signed(DOCUMENT.network_id, LIAR)
    agreement.receive_vote(LIAR.identity, chain, body, NOW)
    return agreement, list(agreement.conclude())


def test_who_cannot_read_a_vote_back_signs_nothing(tmp_path: Path) -> None:
    """Others hold it, so that another consensus would follow from the rest."""
    stored = StoredVote(tmp_path)
    stored.add(b"a vote")
    stored._length += 1
    agreement, effects = concluded(stored, stored.digest)
    assert not any(isinstance(each, JournalSignature) for each in effects)
    assert Log("no consensus computed: a vote cannot be read back whole", trouble=True) in effects
    assert "not signed: a vote cannot be read back whole" in agreement.roll_call()


def broken(change: Callable[[bytes], bytes]) -> tuple[bytes, int]:
    vote = bytes(REQUEST_LIMIT)
    data = change(PushVote(chain_of(vote), vote).encode())
    return data, len(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xa2" + data[1:],
        lambda data: data[:2] + b"\x02" + data[3:],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data.replace(b"\x03\x59\x40\x00", b"\x04\x59\x40\x00"),
        lambda data: data.replace(b"\x03\x59\x40\x00", b"\x03\x5a\x00\x00\x40\x00"),
        lambda data: data[:3],
        lambda data: data[:30],
        lambda data: bytes(len(data)),
    ],
)
def test_only_a_whole_vote_may_be_large(change: Callable[[bytes], bytes]) -> None:
    vote = bytes(REQUEST_LIMIT)
    request = PushVote(chain_of(vote), vote)
    data = request.encode()
    chain, begin = announced_vote(data, len(data))
    assert (chain, len(data) - begin) == (request.chain, len(vote))
    with pytest.raises(ProtocolError):
        announced_vote(*broken(change))


def test_a_vote_beyond_its_limit_is_none() -> None:
    chain = chain_of(b"")
    long = PushVote(chain, b"").head()[:-1] + b"\x5a" + (VOTE_LIMIT + 1).to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="no vote"):
        announced_vote(long, len(long) + VOTE_LIMIT + 1)
