"""What authorities send each other, when the other one is gone (spec/05 §4.2)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.directory.broadcast import Chain, Relayed
from fogbank.directory.descriptor import Role
from fogbank.directory.effects import SendSignature, SendVote, SignatureMessage
from fogbank.directory.exchange import (
    AUTHORITY_REQUEST_LIMIT,
    PushVote,
    Reply,
    Request,
    Status,
    decode_request,
)
from fogbank.directory.exchange_shell import Directory, DirService
from fogbank.directory.peer_shell import Peer
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from tests.directory.factory import START, Node, make_network

PHASE = 0.5
OTHER = Node("other", Role.AUTHORITY)


class Restarted:
    """An authority that lost power: the first stream to it is never answered, later ones are."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.streams = 0
        self.heard: list[tuple[float, Request]] = []

    @asynccontextmanager
    async def connect(self, identity: NodeId) -> AsyncIterator[Stream]:
        assert identity == OTHER.identity
        here, there = memory_stream_pair()
        self.streams += 1
        if self.streams > 1:
            self._nursery.start_soon(self._answer, there)
        yield here

    async def _answer(self, stream: Stream) -> None:
        limit = AUTHORITY_REQUEST_LIMIT
        with suppress(ProtocolError):
            while (data := await receive_message(stream, limit)) is not None:
                self.heard.append((trio.current_time(), decode_request(data, limit)))
                await send_message(stream, Reply(Status.DONE, 0).encode())


async def test_a_signature_that_nobody_answers_holds_up_no_vote_of_the_next_round(
    autojump_clock: MockClock,
) -> None:
    me = Node("me", Role.AUTHORITY).credentials
    signature = me.sign("fogbank-test-v1", b"a consensus")
    chain = Chain(30, me.identity, bytes(32), (signature,))
    begin = trio.current_time()

    def clock() -> float:
        return trio.current_time() - begin

    async with trio.open_nursery() as nursery:
        other = Restarted(nursery)
        peer = Peer(OTHER.identity, "other", PHASE, other.connect, clock, lambda *_: None)
        nursery.start_soon(peer.run)
        peer.put(SendSignature(OTHER.identity, SignatureMessage(0, bytes(32), signature), 30.0))
        await trio.sleep(28.0)
        peer.put(SendVote(Relayed(OTHER.identity, chain, b"a vote"), 29.0))
        await trio.sleep(PHASE)
        nursery.cancel_scope.cancel()
    when, request = other.heard[-1]
    assert isinstance(request, PushVote)
    assert when - begin < 28.0 + PHASE
    assert len(other.heard) == 2


class Slow:
    """A stream that takes a little of what is sent at a time, and no more after so many bytes."""

    def __init__(self, stream: Stream, seconds: float, most: int) -> None:
        self._stream = stream
        self._seconds = seconds
        self._left = most

    async def send_all(self, data: bytes) -> None:
        await trio.sleep(self._seconds if len(data) <= self._left else math.inf)
        self._left -= len(data)
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Line(Restarted):
    """An authority that answers always, at the end of lines of the given kinds, in order."""

    def __init__(self, nursery: trio.Nursery, *kinds: tuple[float, int]) -> None:
        super().__init__(nursery)
        self.kinds = list(kinds)

    @asynccontextmanager
    async def connect(self, identity: NodeId) -> AsyncIterator[Stream]:
        assert identity == OTHER.identity
        here, there = memory_stream_pair()
        self.streams += 1
        self._nursery.start_soon(self._answer, there)
        seconds, most = self.kinds.pop(0) if len(self.kinds) > 1 else self.kinds[0]
        try:
            yield Slow(here, seconds, most)
        finally:
            await here.aclose()


VOTE = bytes(1 << 20)
"""Sixteen parts."""


async def vote_over(
    *kinds: tuple[float, int], phase: float = 10.0, deadline: float = 300.0
) -> tuple[Line, list[str]]:
    """Send a vote over such lines; return what became of it."""
    me = Node("me", Role.AUTHORITY).credentials
    chain = Chain(30, me.identity, bytes(32), (me.sign("fogbank-test-v1", b"a vote"),))
    begin = trio.current_time()
    troubles: list[str] = []
    async with trio.open_nursery() as nursery:
        other = Line(nursery, *kinds)
        peer = Peer(
            OTHER.identity, "other", phase, other.connect,
            lambda: trio.current_time() - begin, lambda _, trouble: troubles.append(trouble),
        )  # fmt: skip
        nursery.start_soon(peer.run)
        peer.put(SendVote(Relayed(OTHER.identity, chain, VOTE), deadline))
        await trio.sleep(deadline)
        nursery.cancel_scope.cancel()
    other.heard = [(when - begin, request) for when, request in other.heard]
    return other, troubles


async def test_a_slow_peer_that_takes_something_is_not_given_up(autojump_clock: MockClock) -> None:
    """It takes five times as long as a stream may stand still."""
    other, troubles = await vote_over((6.0, 1 << 30))
    assert other.streams == 1
    assert troubles == [""]
    ((when, request),) = other.heard
    assert isinstance(request, PushVote)
    assert request.body == VOTE
    assert 96 <= when < 105


async def test_a_stream_that_dies_in_mid_vote_is_given_up_for_another(
    autojump_clock: MockClock,
) -> None:
    """It costs two phases, not the rest of the round."""
    other, troubles = await vote_over((0.1, 1 << 19), (0.1, 1 << 30))
    assert other.streams == 2
    assert troubles == ["it did not answer in time", ""]
    ((when, request),) = other.heard
    assert isinstance(request, PushVote)
    assert request.body == VOTE
    assert 20 < when < 26


async def test_a_peer_on_which_every_stream_dies_is_left_at_the_deadline(
    autojump_clock: MockClock,
) -> None:
    other, troubles = await vote_over((0.1, 1 << 19), deadline=100.0)
    assert other.heard == []
    assert 3 <= other.streams <= 6
    assert set(troubles) == {"it did not answer in time"}


@dataclass(frozen=True)
class Liar:
    linked_peer: NodeId | None


class Nothing(Directory):
    """Takes whatever it is sent."""

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        assert isinstance(request, PushVote)
        assert peer is not None
        return Reply(Status.DONE, 0)


async def test_huge_requests_of_one_authority_are_two_at_a_time(autojump_clock: MockClock) -> None:
    """A third ends the oldest one's stream: so the memory of the one who reads is bounded."""
    network = make_network()
    ours, other = (node.identity for node in network.authorities[:2])
    service = DirService(network.document, Nothing(), lambda: START + 5.0)
    half = AUTHORITY_REQUEST_LIMIT.to_bytes(4, "big") + bytes(1000)
    async with trio.open_nursery() as nursery:

        async def dial(peer: NodeId) -> Stream:
            here, there = memory_stream_pair()
            nursery.start_soon(service, there, Liar(peer))
            await here.send_all(half)
            await trio.testing.wait_all_tasks_blocked()
            return here

        async def is_open(stream: Stream) -> bool:
            with trio.move_on_after(1):
                return bool(await stream.receive_some(1))
            return True

        honest = await dial(other)
        streams = [await dial(ours) for _ in range(5)]
        assert [await is_open(stream) for stream in streams] == [False] * 3 + [True] * 2
        assert await is_open(honest)
        nursery.cancel_scope.cancel()
