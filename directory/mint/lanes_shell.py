"""Standing streams from one authority's mint to the others': what waits goes in batches.

    lanes = Lanes(connect)
    nursery.start_soon(lanes.run)
    ticket = lanes.put(member, message, heard)      # None: it cannot be asked now
    ticket.is_wanted = False                        # its answer is not waited for any more

Streams come with the first message, stay while there are some, and are made again when they fail.
Whatever happens, `heard` is called once for each ticket that is wanted (spec/09 §6.6).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

import trio

from fogbank.directory.mint.bodies import unpack_replies
from fogbank.directory.mint.crunch import Pace
from fogbank.directory.mint.exchange import (
    BATCH_LIMIT,
    MAX_BATCH,
    Batch,
    Reply,
    decode_reply,
)
from fogbank.directory.mint.talking_shell import ask, opened
from fogbank.directory.peer_shell import FAILURES, Connect, why
from fogbank.relay.keys import NodeId, show_id
from fogbank.relay.messages_shell import Stream

log = logging.getLogger(__name__)

STREAMS: Final = 2
"""Batches under way to one member, each on a stream of its own."""
GATHER_SECONDS: Final = (0.003, 0.006)
"""The next batch to a member begins so long after the last for each that was in it, at most."""
MAX_QUEUE: Final = 512
"""Messages that wait for one member."""
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
"""A batch that is not answered by then has failed."""
KEEP_SECONDS: Final = 40.0
"""A stream is kept so long without a message; the other side closes it after 60 s."""
REST_SECONDS: Final = (0.1, 5.0)
"""A member that failed is not asked for so long at first, and twice as long each time, at most."""
_ROOM = BATCH_LIMIT - 256
_HEAD = 5

Heard: TypeAlias = Callable[[Reply | None], None]
"""Hears the reply to a message, None if it failed. It must neither wait nor raise."""


@dataclass(slots=True)
class Ticket:
    """A message that waits for its answer."""

    item: bytes
    heard: Heard
    is_wanted: bool = True

    def tell(self, reply: Reply | None) -> None:
        """Tell its owner, once."""
        if self.is_wanted:
            self.is_wanted = False
            self.heard(reply)


class _Lane:
    """What waits for one member, and the streams to it."""

    def __init__(self, identity: NodeId, connect: Connect) -> None:
        self._identity = identity
        self._connect = connect
        self._queue: deque[Ticket] = deque()
        self._idle: list[trio.Event] = []
        self._streams = 0
        self._is_called = False
        self._pace = Pace(*GATHER_SECONDS)
        self._rest = 0.0
        self._rests_until = -inf

    def put(self, ticket: Ticket, nursery: trio.Nursery) -> bool:
        """Have a message sent; tell whether it will be."""
        if len(self._queue) >= MAX_QUEUE or trio.current_time() < self._rests_until:
            return False
        self._queue.append(ticket)
        if not self._is_called:
            self._call(nursery)
        return True

    def _call(self, nursery: trio.Nursery) -> None:
        """Have a stream send what waits; while all are at work, the next that is done does."""
        if self._idle:
            self._is_called = True
            self._idle.pop().set()
        elif self._streams < STREAMS:
            self._is_called = True
            self._streams += 1
            nursery.start_soon(self._run)

    def close(self) -> None:
        """Fail whatever waits."""
        while self._queue:
            self._queue.popleft().tell(None)

    async def _run(self) -> None:
        """Send batches over one stream, then over another one, while there is something to send."""
        try:
            while self._queue:
                try:
                    async with opened(self._connect, self._identity, CONNECT_SECONDS) as stream:
                        await self._send_all(stream)
                except FAILURES as error:
                    self._failed(error)
        finally:
            self._streams -= 1
            self._is_called = False

    async def _send_all(self, stream: Stream) -> None:
        """Send batch after batch until nothing has come for a while."""
        while True:
            if self._queue:
                self._is_called = True
                await trio.sleep_until(self._pace.due)
                await self._send(stream, self._take())
                continue
            self._is_called = False
            news = trio.Event()
            self._idle.append(news)
            with trio.move_on_after(KEEP_SECONDS):
                await news.wait()
            if not news.is_set():
                self._idle.remove(news)
                return

    def _take(self) -> list[Ticket]:
        """Return the next batch: what is still wanted, as far as there is room."""
        self._is_called = False
        batch: list[Ticket] = []
        room = _ROOM
        while self._queue and len(batch) < MAX_BATCH:
            if self._queue[0].is_wanted:
                room -= len(self._queue[0].item) + _HEAD
                if room < 0:
                    break
                batch.append(self._queue[0])
            self._queue.popleft()
        return batch

    async def _send(self, stream: Stream, batch: list[Ticket]) -> None:
        """Send a batch, and tell whoever waits for it what came of it."""
        if not batch:
            return
        self._pace.began(trio.current_time(), len(batch))
        try:
            replies = await _answers(stream, [ticket.item for ticket in batch])
            self._rest = 0.0
            for ticket, each in zip(batch, replies, strict=True):
                ticket.tell(each)
        finally:
            for ticket in batch:
                ticket.tell(None)

    def _failed(self, error: BaseException) -> None:
        """Leave the member alone for a while; whoever waits for it asks another one."""
        if not self._rest:
            log.info(
                "authority %s does not answer batches: %s", show_id(self._identity), why(error)
            )
        least, most = REST_SECONDS
        self._rest = min(2 * self._rest, most) or least
        self._rests_until = trio.current_time() + self._rest
        self.close()


async def _answers(stream: Stream, items: list[bytes]) -> list[Reply]:
    """Return the answers to a batch; raise one of `FAILURES` if it is not answered as it should."""
    reply = await ask(stream, Batch(tuple(items)), ANSWER_SECONDS)
    return [decode_reply(each) for each in unpack_replies(reply.body, len(items))]


class Lanes:
    """The lanes to all members; nothing is sent before `run`, nor after it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lanes: dict[NodeId, _Lane] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Send until cancelled; then whatever waits has failed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for lane in self._lanes.values():
                lane.close()
            self._lanes.clear()

    def put(self, identity: NodeId, item: bytes, heard: Heard) -> Ticket | None:
        """Have a message sent to a member; None if that cannot be now. `heard` comes later."""
        if self._nursery is None:
            return None
        lane = self._lanes.get(identity)
        if lane is None:
            lane = self._lanes[identity] = _Lane(identity, self._connect)
        ticket = Ticket(item, heard)
        return ticket if lane.put(ticket, self._nursery) else None
