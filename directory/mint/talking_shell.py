"""Talking to another authority's mint: streams that open in time, answers that come in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import trio

from fogbank.directory.mint.exchange import REPLY_LIMIT, Message, Reply, Status, decode_reply
from fogbank.directory.peer_shell import Connect
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message


@asynccontextmanager
async def opened(connect: Connect, member: NodeId, seconds: float) -> AsyncIterator[Stream]:
    """Open a stream to a member, or give up in time; the block itself takes as long as it likes.

    Raises `trio.TooSlowError`, and what `connect` does.
    """
    with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
        async with connect(member) as stream:
            scope.deadline = inf
            yield stream
    if scope.cancelled_caught:
        raise trio.TooSlowError


async def ask(stream: Stream, message: Message, seconds: float) -> Reply:
    """Send one message to a mint and return its reply.

    Raises `ProtocolError` for a reply that is none, `RelayError` for a refusal or if none comes,
    `trio.TooSlowError` if it does not come within `seconds`.
    """
    with trio.fail_after(seconds):
        await send_message(stream, message.encode())
        data = await receive_message(stream, REPLY_LIMIT)
    if data is None:
        raise RelayError("the mint closed the stream without an answer")
    reply = decode_reply(data)
    if reply.status is not Status.DONE:
        raise RelayError(f"the mint refused: {reply.reason or 'no reason given'}")
    return reply
