"""Runtimes from worker to worker (spec/08 §8): messages, what is given, what is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from fogbank.relay.errors import ProtocolError
from fogbank.relay.messages_shell import receive_message, send_message
from fogbank.relay.transfer.allowance import LEAST_CHARGE, Allowance, TransferLimits
from fogbank.relay.transfer.download import Download
from fogbank.relay.transfer.messages import (
    MESSAGE_SIZE,
    Reply,
    Request,
    Status,
    decode_reply,
    decode_request,
)
from fogbank.relay.transfer.service_shell import TransferService
from fogbank.sandbox.limits import MODULE_SIZE
from tests.relay.job_fakes import serve

SPEC = Path(__file__).resolve().parents[2] / "spec" / "vectors"
VECTORS: dict[str, Any] = json.loads((SPEC / "08-jobs.json").read_text())["transfer"]
DECODERS = {"request": decode_request, "reply": decode_reply}
LIMITS = TransferLimits()
MODULE = bytes(range(256)) * 8192
DIGEST = hashlib.sha256(MODULE).digest()

# Messages.


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda v: v["name"])
def test_right_messages_decode_and_encode(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["message"])
    decoded: Any = DECODERS[vector["kind"]](data)
    assert decoded.encode() == data
    assert len(data) <= MESSAGE_SIZE


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["why"])
def test_a_message_with_one_fault_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(ProtocolError):
        DECODERS[vector["kind"]](bytes.fromhex(vector["message"]))


# The allowance.


def test_a_worker_gives_so_much_in_a_row_and_more_as_time_passes() -> None:
    allowance = Allowance(LIMITS, 0.0)
    assert allowance.take(LIMITS.burst - 5, 0.0)
    assert not allowance.take(LEAST_CHARGE, 0.0)
    seconds = LEAST_CHARGE / LIMITS.per_second
    assert not allowance.take(1, seconds / 2)
    assert allowance.take(1, seconds)
    assert not allowance.take(1, seconds), "a byte costs as much as a MiB"
    assert not Allowance(LIMITS, 0.0).take(LIMITS.burst + 1, 1e9)


def test_what_was_not_sent_is_put_back() -> None:
    allowance = Allowance(LIMITS, 0.0)
    assert allowance.take(LIMITS.burst, 0.0)
    allowance.put_back(LIMITS.burst, 3 * LEAST_CHARGE, 0.0)
    assert allowance.take(LIMITS.burst - 3 * LEAST_CHARGE, 0.0)
    assert not allowance.take(1, 0.0)
    allowance.put_back(1, 0, 0.0)
    assert not allowance.take(1, 0.0), "a request that gets nothing is not free"


@given(st.lists(st.tuples(st.integers(1, 64 << 20), st.floats(0, 1), st.floats(0, 100))))
def test_no_order_of_requests_gets_more_than_the_allowance(
    acts: list[tuple[int, float, float]],
) -> None:
    allowance = Allowance(LIMITS, 0.0)
    now, sent = 0.0, 0
    for size, share, seconds in acts:
        now += seconds
        if allowance.take(size, now):
            part = int(size * share)
            sent += part
            allowance.put_back(size, part, now)
        assert sent <= LIMITS.burst + now * LIMITS.per_second + 1


# What is believed.


@given(st.lists(st.integers(1, 1 << 20), max_size=8))
def test_parts_of_any_length_make_the_module(sizes: list[int]) -> None:
    download = Download(DIGEST, len(MODULE))
    for size in [*sizes, len(MODULE)]:
        request = download.request()
        assert request == Request(DIGEST, len(MODULE) - download.missing)
        download.take(MODULE[request.offset :][:size])
        if not download.missing:
            break
        assert download.end() is None
    assert download.end() == MODULE


def test_more_than_was_asked_for_is_a_breach() -> None:
    download = Download(DIGEST, len(MODULE))
    with pytest.raises(ProtocolError, match="more of a runtime"):
        download.take(MODULE + b"x")


def test_after_a_spoilt_module_one_worker_must_give_all_of_it() -> None:
    download = Download(DIGEST, len(MODULE))
    download.take(bytes(1000))
    assert download.end() is None
    download.take(MODULE[1000:])
    with pytest.raises(ProtocolError, match="not the runtime"):
        download.end()
    assert download.request().offset == 0
    download.take(bytes(1000))
    assert download.end() is None
    assert download.request().offset == 0, "what half a worker gave was kept"
    download.take(MODULE)
    assert download.end() == MODULE


# The service.


class OneShelf:
    """Has one module, until it is lost or damaged."""

    def __init__(self) -> None:
        self.module: bytes | None = MODULE
        self.read_count = 0

    def size(self, digest: bytes) -> int | None:
        return len(MODULE) if digest == DIGEST else None

    async def read(self, digest: bytes) -> bytes | None:
        assert digest == DIGEST
        self.read_count += 1
        return self.module


@asynccontextmanager
async def asked(
    service: TransferService, said: bytes, ends: list[str]
) -> AsyncIterator[tuple[Reply | None, Any]]:
    """Say something to a service; its reply, if there is one, and the stream."""
    near, far = memory_stream_pair()

    async def serve_it() -> None:
        ends.append(await serve(service, far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_it)
        await near.send_all(said)
        await near.send_eof()
        try:
            data = await receive_message(near, MESSAGE_SIZE)
        except trio.BrokenResourceError:
            data = None
        yield None if data is None else decode_reply(data), near
        await near.aclose()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


async def everything(stream: Any) -> bytes:
    data = bytearray()
    while part := await stream.receive_some(1 << 16):
        data += part
    return bytes(data)


@pytest.mark.parametrize("offset", [0, 1, 1_000_000, len(MODULE) - 1])
async def test_a_module_is_given_from_the_offset_on(offset: int) -> None:
    ends: list[str] = []
    request = framed(Request(DIGEST, offset).encode())
    async with asked(TransferService(OneShelf()), request, ends) as (reply, stream):
        assert reply == Reply(Status.FOLLOWS, len(MODULE) - offset)
        assert await everything(stream) == MODULE[offset:]
    assert ends == [""]


@pytest.mark.parametrize(
    "request_", [Request(bytes(32)), Request(DIGEST, len(MODULE)), Request(DIGEST, MODULE_SIZE - 1)]
)
async def test_what_is_not_here_is_not_given(request_: Request) -> None:
    shelf = OneShelf()
    async with asked(TransferService(shelf), framed(request_.encode()), []) as (reply, stream):
        assert reply == Reply(Status.NOT_HERE)
        assert await everything(stream) == b""
    assert shelf.read_count == 0


@pytest.mark.parametrize("module", [None, MODULE[1:]])
async def test_a_module_that_is_lost_or_damaged_is_not_given(module: bytes | None) -> None:
    shelf = OneShelf()
    shelf.module = module
    service = TransferService(shelf)
    async with asked(service, framed(Request(DIGEST).encode()), []) as (reply, _):
        assert reply == Reply(Status.NOT_HERE)


@pytest.mark.parametrize(
    "said", [framed(b""), framed(b"\xff"), framed(bytes(MESSAGE_SIZE + 1)), b"\0", framed(b"\xa0")]
)
async def test_what_is_no_request_ends_the_stream(said: bytes) -> None:
    ends: list[str] = []
    async with asked(TransferService(OneShelf()), said, ends) as (reply, _):
        assert reply is None
    assert ends == ["ProtocolError"]


async def test_a_silent_reader_is_left(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    assert await serve(TransferService(OneShelf()), far) == "TooSlowError"
    assert trio.current_time() <= LIMITS.request_seconds + 1
    await near.aclose()


async def test_the_allowance_holds_for_all_readers_together() -> None:
    room = 2 * len(MODULE) + LEAST_CHARGE // 2
    service = TransferService(OneShelf(), replace(LIMITS, burst=room, per_second=0))
    said = framed(Request(DIGEST).encode())
    for _ in range(2):
        async with asked(service, said, []) as (reply, stream):
            assert reply == Reply(Status.FOLLOWS, len(MODULE))
            await everything(stream)
    for offset in (0, len(MODULE) - 1):
        async with asked(service, framed(Request(DIGEST, offset).encode()), []) as (reply, _):
            assert reply == Reply(Status.BUSY)


class Unread:
    """A stream with a request in it, whose reader takes nothing."""

    def __init__(self) -> None:
        self._said = framed(Request(DIGEST).encode())
        self.offered = 0

    async def receive_some(self, max_bytes: int) -> bytes:
        part, self._said = self._said[:max_bytes], self._said[max_bytes:]
        return part

    async def send_all(self, data: bytes) -> None:
        self.offered += bool(data)
        if self.offered > 1:
            await trio.sleep_forever()

    async def aclose(self) -> None:
        return


async def test_readers_that_take_nothing_hold_the_places_only_so_long(
    autojump_clock: MockClock,
) -> None:
    service = TransferService(OneShelf())
    ends: list[str] = []

    async def hang() -> None:
        try:
            await service(Unread(), None)
        except trio.TooSlowError:
            ends.append("left")

    said = framed(Request(DIGEST).encode())
    async with trio.open_nursery() as nursery:
        for _ in range(LIMITS.at_once):
            nursery.start_soon(hang)
        await trio.testing.wait_all_tasks_blocked()
        async with asked(service, said, []) as (reply, _):
            assert reply == Reply(Status.BUSY)
        await trio.sleep(LIMITS.portion_seconds + 1)
        assert ends == ["left"] * LIMITS.at_once
        async with asked(service, said, []) as (reply, stream):
            assert reply == Reply(Status.FOLLOWS, len(MODULE))
            assert await everything(stream) == MODULE


async def test_a_reader_that_goes_away_gets_what_it_did_not_take_put_back() -> None:
    room = len(MODULE) + LEAST_CHARGE
    service = TransferService(OneShelf(), replace(LIMITS, burst=room, per_second=0))
    near, far = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        await send_message(near, Request(DIGEST).encode())
        assert await receive_message(near, MESSAGE_SIZE)
        await near.aclose()
    async with asked(service, framed(Request(DIGEST).encode()), []) as (reply, _):
        assert reply == Reply(Status.FOLLOWS, len(MODULE))
