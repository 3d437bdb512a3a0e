"""What an authority answers to a BATCH, by which another carries requests (spec/09 §6.6)."""

from __future__ import annotations

from collections import Counter
from typing import Final

from fogbank.directory.mint.bodies import pack_replies
from fogbank.directory.mint.exchange import Batch, Issue, Lock, Reply, Status, decode_message
from fogbank.directory.mint.seats_shell import Seats
from fogbank.directory.mint.swaps_shell import Swaps
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId

AT_ONCE: Final = 4
"""Batches of one authority that are answered at once."""
_STRANGER = Reply(
    Status.REFUSED, reason="only authorities may send batches, over a link of their own"
)
_BUSY = Reply(Status.NOT_NOW, reason="too many batches at once: wait for the answer to one")


class Batches:
    """Answers the items of a batch all at once, so that they are computed and written together."""

    def __init__(self, swaps: Swaps, seats: Seats) -> None:
        self._swaps = swaps
        self._seats = seats
        self._under_way: Counter[NodeId] = Counter()

    async def answer(self, batch: Batch, peer: NodeId | None) -> Reply:
        """Answer a batch of who the link proved."""
        if peer is None:
            return _STRANGER
        if self._under_way[peer] >= AT_ONCE:
            return _BUSY
        self._under_way[peer] += 1
        try:
            replies = await self._answer_all(batch.items, peer)
        finally:
            self._under_way[peer] -= 1
            if not self._under_way[peer]:
                del self._under_way[peer]
        return Reply(Status.DONE, pack_replies([_bare(each).encode() for each in replies]))

    async def _answer_all(self, items: tuple[bytes, ...], peer: NodeId) -> list[Reply]:
        replies: dict[int, Reply] = {}
        messages: dict[int, Lock | Issue] = {}
        for place, item in enumerate(items):
            try:
                messages[place] = self._read(item, peer)
            except ProtocolError as error:
                replies[place] = Reply(Status.REFUSED, reason=str(error))
        answers = await self._swaps.answer_all(list(messages.values()))
        replies.update(zip(messages, answers, strict=True))
        return [replies[place] for place in range(len(items))]

    def _read(self, item: bytes, peer: NodeId) -> Lock | Issue:
        """Return what is asked; raise `ProtocolError` for something else, or a stranger."""
        match decode_message(item):
            case Lock(signed=signed) as message:
                series = signed.request.series
            case Issue(certificate=certificate) as message:
                series = certificate.request.series
            case _:
                raise ProtocolError("a batch holds LOCKs and ISSUEs alone")
        record = self._seats.state.series_of(series)
        if record is None or not record.place_of(peer):
            raise ProtocolError("only members of a series' committee may ask this in a batch")
        return message


def _bare(reply: Reply) -> Reply:
    """Return what a batch tells of a reply: what was done whole, of others no body."""
    return reply if reply.status is Status.DONE else Reply(reply.status, reason=reply.reason)
