"""What authorities send each other, when the other one is gone (spec/05 §4.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.directory.broadcast import Chain, Relayed
from fogbank.directory.effects import SendSignature, SendVote, SignatureMessage
from fogbank.directory.exchange import PushVote, Reply, Request, Status, decode_request
from fogbank.directory.peer_shell import Peer
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from tests.directory.factory import Node, Role

PHASE = 0.5
OTHER = Node("other", Role.AUTHORITY)


class Restarted:
    """An authority that lost power: the first stream to it is never answered, later ones are."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.streams = 0
        self.heard: list[tuple[float, Request]] = []

    @asynccontextmanager
    async def connect(self, _: NodeId) -> AsyncIterator[Stream]:
        here, there = memory_stream_pair()
        self.streams += 1
        if self.streams > 1:
            self._nursery.start_soon(self._answer, there)
        yield here

    async def _answer(self, stream: Stream) -> None:
        while (data := await receive_message(stream, 1 << 20)) is not None:
            self.heard.append((trio.current_time(), decode_request(data, 1 << 20)))
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
