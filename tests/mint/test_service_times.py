"""How long the `mint` service waits for the other side of a stream (spec/09 §6.4)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from fogbank.directory.mint.exchange import (
    REPLY_LIMIT,
    GetEvidence,
    Message,
    Reply,
    Status,
    decode_reply,
)
from fogbank.directory.mint.mint_shell import IDLE_SECONDS, TRANSFER_SECONDS, MintService
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import receive_message, send_message
from tests.mint.committee import Peer
from tests.mint.deals import SERIES

ASKED = GetEvidence(SERIES).encode()


class Slow:
    """Takes longer to answer than a stream may be silent."""

    async def answer(self, message: Message, peer: NodeId | None) -> Reply:  # noqa: ARG002
        await trio.sleep(2 * IDLE_SECONDS)
        return Reply(Status.DONE)


class Unread:
    """A stream that brings a message, and whose other side reads nothing."""

    def __init__(self) -> None:
        self._data = len(ASKED).to_bytes(4, "big") + ASKED
        self.is_closed = False

    async def send_all(self, data: bytes) -> None:  # noqa: ARG002
        await trio.sleep_forever()

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        part, self._data = self._data[:max_bytes], self._data[max_bytes:]
        return part

    async def aclose(self) -> None:
        self.is_closed = True


def service() -> MintService:
    return MintService(Slow(), lambda _: False)


async def test_answers_take_their_time_and_who_is_silent_is_left(autojump_clock: object) -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service(), far, Peer())
        for pause in (0.0, 0.9 * IDLE_SECONDS):
            await trio.sleep(pause)
            await send_message(near, ASKED)
            answer = await receive_message(near, REPLY_LIMIT)
            assert answer is not None
            assert decode_reply(answer).status is Status.DONE
        begun = trio.current_time()
        assert await receive_message(near, REPLY_LIMIT) is None
        assert trio.current_time() - begun == pytest.approx(IDLE_SECONDS)


async def test_who_reads_nothing_is_given_up(autojump_clock: object) -> None:
    stream = Unread()
    begun = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await service()(stream, Peer())
    assert stream.is_closed
    took = trio.current_time() - begun
    assert took == pytest.approx(2 * IDLE_SECONDS + TRANSFER_SECONDS)
