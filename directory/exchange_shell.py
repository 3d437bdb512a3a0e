"""The `dir` service and its client, over streams (spec/05 §7)."""

from __future__ import annotations

import io
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from fogbank.directory.broadcast import open_evidence, part
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.exchange import (
    AUTHORITY_REQUEST_LIMIT,
    LINKS_LIMIT,
    MAX_LINKS,
    REPLY_LIMIT,
    REQUEST_LIMIT,
    GetConsensus,
    GetEvidence,
    GetMint,
    GetNetwork,
    PushVote,
    PutDescriptor,
    RefusedError,
    Reply,
    Request,
    Status,
    clock_note,
    decode_reply,
    decode_request,
    pack,
    pack_links,
    unpack_evidence,
    unpack_links,
    unpacking,
)
from fogbank.directory.network import (
    NetworkDocument,
    SignedNetwork,
    dump_network,
    load_network,
    verify_successor,
)
from fogbank.directory.votes_shell import Votes
from fogbank.relay.certificates import CLOCK_SKEW
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import (
    Stream,
    receive_exactly,
    receive_length,
    receive_message,
    send_message,
)

IDLE_SECONDS = 60.0
"""A server waits so long for the next request."""
TRANSFER_SECONDS = 120.0
"""Longest time that one request or one reply may take on its way."""
MAX_REQUESTS = 64
"""Requests on one stream of someone who is no authority."""
_MAX_LINK_REQUESTS = 16
_PART = 256 << 10
UNPACKED_PER_SECOND = float(64 << 20)
"""Bytes of documents that a process inflates: so much of its time hostile ones may take."""
UNPACKED_BURST = float(4 << 20)
"""Bytes that are inflated at once, after a pause."""


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


def answer_links(request: GetNetwork, versions: Sequence[SignedNetwork], now: float) -> Reply:
    """Answer with the versions that follow the one named; raise `ProtocolError` to refuse.

    `versions` are those held, in order and without gaps.
    """
    later = [each for each in versions if each.document.version > request.version]
    same = next((each for each in versions if each.document.version == request.version), None)
    if same is not None and same.document.digest != request.digest:
        raise ProtocolError(
            f"here another version {request.version} of the network document is in use; compare "
            "its fingerprint with others, and get the network's own file"
        )
    if not later:
        return Reply(Status.NOT_MODIFIED, int(now))
    if later[0].document.version != request.version + 1:
        raise ProtocolError(
            f"the versions between {request.version} and {later[0].document.version} of the "
            "network document are not here: ask another authority"
        )
    return Reply(Status.DONE, int(now), pack_links([dump_network(each) for each in later]))


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
        self,
        network: NetworkDocument,
        directory: Directory,
        clock: Callable[[], float],
        folder: Path | None = None,
    ) -> None:
        """Serve what `directory` answers; large votes wait in files in `folder`."""
        self.network = network
        """Replaced when the next version is taken up."""
        self._directory = directory
        self._clock = clock
        self._votes = Votes(self._answer, folder)

    async def __call__(self, stream: Stream, origin: Origin) -> None:
        """Serve one stream and close it."""
        peer = origin.linked_peer
        if peer is not None and not self._is_authority(peer):
            peer = None
        try:
            await self._serve(stream, peer)
        finally:
            await stream.aclose()

    def _is_authority(self, peer: NodeId) -> bool:
        """Tell whether someone is an authority now, lately or soon."""
        engaged = self.network.engaged(self._clock() - CLOCK_SKEW)
        return any(pin.identity == peer for pin in engaged)

    async def _serve(self, stream: Stream, peer: NodeId | None) -> None:
        served = 0
        while peer is not None or served < MAX_REQUESTS:
            served += 1
            reply = None
            with trio.move_on_after(IDLE_SECONDS if peer is None else TRANSFER_SECONDS):
                reply = await self._next(stream, peer)
            if reply is None:
                return
            with trio.fail_after(TRANSFER_SECONDS):
                await send_message(stream, reply.encode())

    async def _next(self, stream: Stream, peer: NodeId | None) -> Reply | None:
        """Receive and answer the next request; None at the end of the stream."""
        limit = REQUEST_LIMIT if peer is None else AUTHORITY_REQUEST_LIMIT
        length = await receive_length(stream, limit)
        if length is None:
            return None
        if peer is not None and length > REQUEST_LIMIT:
            return await self._votes.take(stream, length, peer)
        data = await receive_exactly(stream, length) or b""
        return self._answer(decode_request(data, REQUEST_LIMIT), peer)

    def _answer(self, request: Request, peer: NodeId | None) -> Reply:
        try:
            return self._directory.answer(request, peer)
        except RelayError as error:
            return Reply(Status.REFUSED, int(self._clock()), reason=str(error))


async def ask(stream: Stream, request: Request, limit: int = REPLY_LIMIT) -> Reply:
    """Send one request and return the reply of at most `limit` bytes, a refusal included.

    Raises `ProtocolError` for a reply that is none, `RelayError` if none comes in two minutes
    or the stream ends.
    """
    try:
        with trio.fail_after(TRANSFER_SECONDS):
            await _send(stream, request)
            data = await receive_message(stream, limit)
    except trio.TooSlowError as error:
        raise RelayError(f"the directory did not answer within {TRANSFER_SECONDS:g} s") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise RelayError("the directory closed the stream before it answered") from error
    if data is None:
        raise RelayError("the directory closed the stream without an answer")
    return decode_reply(data, limit)


async def _send(stream: Stream, request: Request) -> None:
    """Send a request; a large vote's bytes as they are, not copied into one message."""
    if not isinstance(request, PushVote) or request.body is None:
        await send_message(stream, request.encode())
        return
    head, body = request.head(), request.body
    length = len(head) + len(body)
    await stream.send_all(length.to_bytes(4, "big") + head)
    for at in range(0, len(body), _PART):
        await stream.send_all(part(body, at, _PART))


def _refuse(reply: Reply, now: float) -> None:
    if reply.status not in {Status.DONE, Status.NOT_MODIFIED}:
        reason = reply.reason or "no reason given"
        raise RefusedError(f"the directory refused: {reason}{clock_note(reply.time, now)}")


class _Judge:
    """Inflates documents step by step, others' work in between, at a bounded rate."""

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self._due = -math.inf

    async def unpack(self, data: bytes) -> bytes:
        """Undo `pack`; raise `ProtocolError` for anything else."""
        document = io.BytesIO()
        for each in unpacking(data):
            document.write(each)
            await self._pace(len(each))
        return document.getvalue()

    async def _pace(self, count: int) -> None:
        rested = trio.current_time() - UNPACKED_BURST / UNPACKED_PER_SECOND
        self._due = max(self._due, rested) + count / UNPACKED_PER_SECOND
        await trio.sleep_until(self._due)


_judge: trio.lowlevel.RunVar[_Judge] = trio.lowlevel.RunVar("judge of documents")


@asynccontextmanager
async def _judging() -> AsyncIterator[_Judge]:
    """Take one's turn: a process holds one inflated document that is not judged yet."""
    try:
        judge = _judge.get()
    except LookupError:
        judge = _Judge()
        _judge.set(judge)
    async with judge.turn:
        yield judge


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
    async with _judging() as judge:
        document = await judge.unpack(reply.body)
        try:
            consensus = open_consensus(document, network, now)
        except ProtocolError as error:
            raise ProtocolError(f"{error}{clock_note(reply.time, now)}") from error
    if known is not None and consensus.valid_after <= known.valid_after:
        return None
    return document, consensus


async def fetch_mint(stream: Stream, valid_after: int, clock: Callable[[], float]) -> bytes:
    """Fetch the consensus of that time, which may have expired; nothing of it is verified yet.

    Raises `RefusedError` if the authority does not have it, and else what `fetch_consensus` does.
    """
    reply = await ask(stream, GetMint(valid_after))
    _refuse(reply, clock())
    async with _judging() as judge:
        return await judge.unpack(reply.body)


async def fetch_links(
    stream: Stream,
    network: NetworkDocument,
    clock: Callable[[], float],
    take: Callable[[SignedNetwork, NetworkDocument], None],
) -> NetworkDocument:
    """Fetch the versions that follow `network`, and return the newest that holds.

    `take` hears of each in turn, as it was signed and as it was verified. Raises `ProtocolError` at
    the first that is no successor, `RefusedError` or `RelayError` if the directory gives none; what
    was taken before stays so.
    """
    for _ in range(_MAX_LINK_REQUESTS):
        reply = await ask(stream, GetNetwork(network.version, network.digest), LINKS_LIMIT)
        _refuse(reply, clock())
        if reply.status is Status.NOT_MODIFIED:
            break
        texts = unpack_links(reply.body)
        for text in texts:
            try:
                signed = load_network(text)
                network = verify_successor(network, signed)
            except ProtocolError as error:
                raise ProtocolError(f"what was offered is not to be trusted: {error}") from error
            take(signed, network)
        if len(texts) < MAX_LINKS:
            break
    return network


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
