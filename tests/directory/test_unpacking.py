"""Compressed and nested documents: what grows when it is opened (spec/01 §1, spec/05 §7)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from fogbank.directory import exchange_shell
from fogbank.directory.consensus import CONSENSUS_LIMIT, SignedConsensus, open_consensus
from fogbank.directory.descriptor import DescriptorCache
from fogbank.directory.exchange import (
    UNPACK_STEP,
    Reply,
    Status,
    decode_reply,
    decode_request,
    pack,
    unpack,
    unpack_evidence,
    unpack_links,
    unpacking,
)
from fogbank.directory.exchange_shell import (
    UNPACKED_BURST,
    UNPACKED_PER_SECOND,
    fetch_consensus,
)
from fogbank.directory.vote import VOTE_LABEL, open_vote
from fogbank.relay.codec import ARRAY, encode, make_head
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Signed
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from tests.directory.factory import START, make_network

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
BOMB = zlib.compress(bytes(CONSENSUS_LIMIT), 1)


@settings(deadline=None)
@given(
    st.binary(max_size=50),
    st.integers(0, 3 * UNPACK_STEP),
    st.integers(0, 9),
)
def test_steps_are_small_and_make_the_whole(data: bytes, count: int, level: int) -> None:
    document = data + bytes(count) + data
    parts = list(unpacking(zlib.compress(document, level), len(document)))
    assert (b"".join(parts) == document) is True
    assert all(0 < len(part) <= UNPACK_STEP for part in parts)
    if document:
        with pytest.raises(ProtocolError, match="too large"):
            unpack(zlib.compress(document, level), len(document) - 1)


@pytest.mark.parametrize("size", [0, 10, UNPACK_STEP, 3 * UNPACK_STEP])
@pytest.mark.parametrize("level", [0, 9])
def test_cut_off_or_with_a_tail(size: int, level: int) -> None:
    packed = zlib.compress(bytes(size), level)
    for cut in {0, 1, len(packed) // 2, len(packed) - 4, len(packed) - 1}:
        with pytest.raises(ProtocolError, match="cut off"):
            unpack(packed[:cut])
    for tail in (b"\0", packed, bytes(UNPACK_STEP)):
        with pytest.raises(ProtocolError, match="tail"):
            unpack(packed + tail)


async def serve(stream: Stream, document: bytes) -> None:
    """Answer one request with a consensus."""
    await receive_message(stream, 4096)
    await send_message(stream, Reply(Status.DONE, START, document).encode())


async def test_one_document_at_a_time_and_others_in_between(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process inflates no more than its rate, whoever it fetches from, and holds one document."""
    begin, turns, inside = trio.current_time(), 0, 0
    judged: list[float] = []

    def counted(data: bytes) -> Iterator[bytes]:
        nonlocal inside
        inside += 1
        assert inside == 1, "two documents are inflated at once"
        yield from unpacking(data)
        inside -= 1

    async def fetch() -> None:
        here, there = memory_stream_pair()
        async with trio.open_nursery() as inner:
            inner.start_soon(serve, there, BOMB)
            with pytest.raises(ProtocolError, match="canonical"):
                await fetch_consensus(here, DOCUMENT, lambda: START)
        judged.append(trio.current_time() - begin)

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.sleep(UNPACK_STEP / UNPACKED_PER_SECOND)
            turns += 1

    monkeypatch.setattr(exchange_shell, "unpacking", counted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async with trio.open_nursery() as fetches:
            fetches.start_soon(fetch)
            fetches.start_soon(fetch)
        nursery.cancel_scope.cancel()
    first = (CONSENSUS_LIMIT - UNPACKED_BURST) / UNPACKED_PER_SECOND
    assert judged == pytest.approx([first, first + CONSENSUS_LIMIT / UNPACKED_PER_SECOND])
    assert turns >= 2 * (CONSENSUS_LIMIT - UNPACKED_BURST) / UNPACK_STEP - 2


async def test_a_small_consensus_waits_for_nothing(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    here, there = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, there, pack(bytes(1 << 20)))
        with pytest.raises(ProtocolError):
            await fetch_consensus(here, DOCUMENT, lambda: START)
    assert trio.current_time() == begin


ARRAYS = make_head(ARRAY, 1 << 20) + b"\x80" * (1 << 20)
"""A million empty arrays: a megabyte here, 70 where they are decoded."""


def test_a_vote_of_many_small_parts_is_none() -> None:
    liar = NETWORK.authorities[1]
    vote = Signed.make(liar.signing_key, VOTE_LABEL, ARRAYS).encode()
    with pytest.raises(ProtocolError, match="more than"):
        open_vote(vote, liar.identity, DOCUMENT, START, DescriptorCache(DOCUMENT))


@pytest.mark.parametrize("decoder", ["signed", "reply", "request", "evidence", "links"])
def test_no_frame_holds_many_small_parts(decoder: str) -> None:
    read: Callable[[bytes], object] = {
        "signed": lambda data: Signed.decode(data, 1 << 22),
        "reply": lambda data: decode_reply(data, 1 << 22),
        "request": lambda data: decode_request(data, 1 << 22),
        "evidence": lambda data: unpack_evidence(data[: 1 << 19]),
        "links": unpack_links,
    }[decoder]
    with pytest.raises(ProtocolError, match="more than"):
        read(ARRAYS)


def test_a_consensus_is_looked_into_after_its_signatures() -> None:
    """Too few of them, or ones that do not verify: what is signed is not even decoded."""
    with pytest.raises(ProtocolError, match="0 signatures"):
        open_consensus(SignedConsensus(ARRAYS, ()).encode(), DOCUMENT, START)
    wrong = tuple(each.sign("none", b"") for each in NETWORK.credentials)
    with pytest.raises(ProtocolError, match="does not verify"):
        open_consensus(SignedConsensus(ARRAYS, wrong).encode(), DOCUMENT, START)
    with pytest.raises(ProtocolError, match="not a map"):
        open_consensus(NETWORK.sign(encode(b"no consensus")), DOCUMENT, START)
