"""The `dir` service and its client, over streams (spec/05 §7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from fogbank.directory.broadcast import open_evidence
from fogbank.directory.consensus import CONSENSUS_LIMIT, Consensus, open_consensus
from fogbank.directory.exchange import (
    AUTHORITY_REQUEST_LIMIT,
    REQUEST_LIMIT,
    GetConsensus,
    GetEvidence,
    PutDescriptor,
    RefusedError,
    Reply,
    Request,
    Status,
    clock_note,
    decode_reply,
    decode_request,
    pack,
    unpack,
    unpack_evidence,
)
from fogbank.directory.network import NetworkDocument
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message

IDLE_SECONDS = 60.0
"""A server waits so long for the next request."""
TRANSFER_SECONDS = 120.0
"""Longest time that one request or one reply may take on its way."""
MAX_REQUESTS = 64
"""Requests on one stream of someone who is no authority."""


class Origin(Protocol):
    """Who opened a stream, as far as a service may know."""

    @property
    def linked_peer(self) -> NodeId | None:
        """The identity that the dialer proved on a one-hop link, or None."""


class Directory(Protocol):
    """What answers requests: an authority, or a cache of consensuses."""

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        """Answer one request; raise `ProtocolError` with the reason to refuse it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A consensus as it is served: its digest, and its bytes compressed."""

    digest: bytes
    packed: bytes

    @classmethod
    def of(cls, document: bytes, consensus: Consensus) -> Held:
        """Compress a consensus once, for all who will ask."""
        return cls(consensus.digest, pack(document))


def answer_consensus(request: GetConsensus, held: Held | None, now: float) -> Reply:
    """Answer with the consensus that is held, unless it is the one that the client knows."""
    if held is None:
        return Reply(Status.REFUSED, int(now), reason="no consensus is here yet: ask again soon")
    if held.digest == request.known:
        return Reply(Status.NOT_MODIFIED, int(now))
    return Reply(Status.DONE, int(now), held.packed)


class Cache:
    """A directory that serves the newest consensus it was given, and nothing else: a relay's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: Held | None = None

    def hold(self, document: bytes, consensus: Consensus) -> None:
        """Serve this consensus from now on; it must have passed the gate."""
        self._held = Held.of(document, consensus)

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        """Answer one request."""
        del peer
        if not isinstance(request, GetConsensus):
            raise ProtocolError("this node serves the consensus only: ask an authority")
        return answer_consensus(request, self._held, self._clock())


class DirService:
    """The service itself: requests in, replies out, until either side is done."""

    def __init__(
        self, network: NetworkDocument, directory: Directory, clock: Callable[[], float]
    ) -> None:
        self._network = network
        self._directory = directory
        self._clock = clock

    async def __call__(self, stream: Stream, origin: Origin) -> None:
        """Serve one stream and close it."""
        peer = origin.linked_peer
        if peer is not None and self._network.find(peer) is None:
            peer = None
        try:
            await self._serve(stream, peer)
        finally:
            await stream.aclose()

    async def _serve(self, stream: Stream, peer: NodeId | None) -> None:
        limit = REQUEST_LIMIT if peer is None else AUTHORITY_REQUEST_LIMIT
        served = 0
        while peer is not None or served < MAX_REQUESTS:
            served += 1
            data = None
            with trio.move_on_after(IDLE_SECONDS if peer is None else TRANSFER_SECONDS):
                data = await receive_message(stream, limit)
            if data is None:
                return
            request = decode_request(data, limit)
            with trio.fail_after(TRANSFER_SECONDS):
                await send_message(stream, self._answer(request, peer).encode())

    def _answer(self, request: Request, peer: NodeId | None) -> Reply:
        try:
            return self._directory.answer(request, peer)
        except RelayError as error:
            return Reply(Status.REFUSED, int(self._clock()), reason=str(error))


async def ask(stream: Stream, request: Request) -> Reply:
    """Send one request and return the reply, a refusal included.

    Raises `ProtocolError` for a reply that is none, `RelayError` if none comes in two minutes
    or the stream ends.
    """
    try:
        with trio.fail_after(TRANSFER_SECONDS):
            await send_message(stream, request.encode())
            data = await receive_message(stream, CONSENSUS_LIMIT)
    except trio.TooSlowError as error:
        raise RelayError(f"the directory did not answer within {TRANSFER_SECONDS:g} s") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise RelayError("the directory closed the stream before it answered") from error
    if data is None:
        raise RelayError("the directory closed the stream without an answer")
    return decode_reply(data)


def _refuse(reply: Reply, now: float) -> None:
    if reply.status not in {Status.DONE, Status.NOT_MODIFIED}:
        reason = reply.reason or "no reason given"
        raise RefusedError(f"the directory refused: {reason}{clock_note(reply.time, now)}")


async def fetch_consensus(
    stream: Stream,
    network: NetworkDocument,
    clock: Callable[[], float],
    known: Consensus | None = None,
) -> tuple[bytes, Consensus] | None:
    """Fetch the consensus if it is newer than `known`: its signed bytes, and opened.

    Returns None if the directory has nothing newer. Raises `ProtocolError` if what came does not
    pass the gate, `RefusedError` if the directory has none, `RelayError` if it does not answer.
    """
    reply = await ask(stream, GetConsensus(known.digest if known else b""))
    now = clock()
    _refuse(reply, now)
    if reply.status is Status.NOT_MODIFIED:
        return None
    document = unpack(reply.body)
    try:
        consensus = open_consensus(document, network, now)
    except ProtocolError as error:
        raise ProtocolError(f"{error}{clock_note(reply.time, now)}") from error
    if known is not None and consensus.valid_after <= known.valid_after:
        return None
    return document, consensus


async def publish(
    stream: Stream,
    descriptor: bytes,
    clock: Callable[[], float],
) -> None:
    """Publish a descriptor; raise `RefusedError` with the directory's reason if it is refused."""
    _refuse(await ask(stream, PutDescriptor(descriptor)), clock())


async def fetch_evidence(
    stream: Stream, network: NetworkDocument, clock: Callable[[], float]
) -> list[tuple[NodeId, bytes]]:
    """Fetch the proofs that authorities sent two votes: who, and the verified proof."""
    reply = await ask(stream, GetEvidence())
    _refuse(reply, clock())
    return [(open_evidence(proof, network), proof) for proof in unpack_evidence(reply.body)]
