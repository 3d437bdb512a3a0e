"""What one authority sends to another: votes and signatures, over a stream kept while it holds.

Whatever fails is tried again until the message is of no use any more (spec/05 §4.1, §7).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Protocol

import trio

from fogbank.directory.effects import SendSignature, SendVote
from fogbank.directory.exchange import PushSignature, PushVote, RefusedError, Reply, Status
from fogbank.directory.exchange_shell import ask
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream

log = logging.getLogger(__name__)

CONNECT_SECONDS = (2.0, 10.0)
"""Time allowed for a stream to another authority: one phase, but within these bounds."""
RETRY_SECONDS = (0.05, 5.0)
"""Wait after a failure: an eighth of a phase, but within these bounds."""
KEEP_SECONDS = 20.0
"""A stream to another authority is kept so long after the last message."""
MAX_QUEUE = 256
"""Messages that wait for one authority; the oldest goes when there are more."""
EAGER_VOTE = 16 << 10
"""A vote of so many bytes is sent unasked."""
STALL_SECONDS = (2.0, 30.0)
"""A stream on which nothing moves is given up after two phases, but within these bounds."""
_CHUNK = 64 << 10
"""So much of a message at a time shows that it moves."""
_LEAST_SEND = 0.1
_CLOCK_GRAIN = 2.0
"""Replies tell whole seconds, and are some time on their way."""
FAILURES = (
    RelayError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
"""What talking to another node may end in."""


def why(error: BaseException) -> str:
    """Return what to tell the operator of a failure."""
    return str(error) or "it did not answer in time"


class Connect(Protocol):
    """Opens a stream to another authority's `dir` service, over a link that proves both ends.

    Failures come as one of `FAILURES`, never in a group.
    """

    def __call__(self, identity: NodeId) -> AbstractAsyncContextManager[Stream]:
        """Return a context manager that opens the stream and closes it."""


class Peer:
    """Another authority, and what waits to be sent to it. `phase` in seconds.

    `heard` is called after each try to reach it, with what went wrong, "" if nothing did.
    """

    def __init__(
        self,
        identity: NodeId,
        nickname: str,
        phase: float,
        connect: Connect,
        clock: Callable[[], float],
        heard: Callable[[NodeId, str], None],
    ) -> None:
        self._heard = heard
        self.nickname = nickname
        self._identity = identity
        self._phase = phase
        self._connect = connect
        self._clock = clock
        self._queue: deque[SendVote | SendSignature] = deque()
        self._news = trio.Event()
        self._clock_told = False

    def put(self, effect: SendVote | SendSignature) -> None:
        """Have a message sent."""
        if len(self._queue) >= MAX_QUEUE:
            self._queue.popleft()
        self._queue.append(effect)
        self._news.set()

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        """Open a stream to the authority, or give up in time."""
        async with AsyncExitStack() as stack:
            with trio.fail_after(_within(self._phase, CONNECT_SECONDS)):
                stream = await stack.enter_async_context(self._connect(self._identity))
            yield stream

    async def run(self) -> None:
        """Send what is queued, over one stream as long as it holds."""
        failing = False
        while True:
            await self._news.wait()
            try:
                async with self.stream() as stream:
                    await self._drain(stream)
                failing = False
            except FAILURES as error:
                self._heard(self._identity, why(error))
                if not failing:
                    log.warning("authority %s cannot be told: %s", self.nickname, why(error))
                failing = True
                await trio.sleep(_within(self._phase / 8, RETRY_SECONDS))
            self._drop_late()

    def _drop_late(self) -> None:
        now = self._clock()
        self._queue = deque(effect for effect in self._queue if effect.deadline > now)
        if not self._queue:
            self._news = trio.Event()

    async def _drain(self, stream: Stream) -> None:
        """Send until nothing has come for a while."""
        while True:
            self._drop_late()
            if self._queue:
                effect = self._queue[0]
                self._compare_clocks(await self._send(stream, effect))
                self._heard(self._identity, "")
                if self._queue and self._queue[0] is effect:
                    self._queue.popleft()
                continue
            with trio.move_on_after(KEEP_SECONDS):
                await self._news.wait()
            if not self._queue:
                return

    async def _send(self, stream: Stream, effect: SendVote | SendSignature) -> Reply:
        # A signature is of use until the next round's end, which none may keep waiting: a peer
        # that lost power answers nothing, and its link breaks late.
        with (
            trio.fail_after(max(effect.deadline - self._clock(), _LEAST_SEND)),
            _moving(stream, _within(2 * self._phase, STALL_SECONDS)) as moving,
        ):
            if isinstance(effect, SendSignature):
                reply = await ask(moving, PushSignature(effect.message))
            else:
                chain, body = effect.relayed.chain, effect.relayed.body
                eager = len(body) <= EAGER_VOTE or len(chain.signatures) == 1
                reply = await ask(moving, PushVote(chain, body if eager else None))
                if reply.status is Status.NEED_BODY:
                    reply = await ask(moving, PushVote(chain, body))
        if reply.status is not Status.DONE:
            raise RefusedError(reply.reason or "it refused without a reason")
        return reply

    def _compare_clocks(self, reply: Reply) -> None:
        """Say so, once, if another authority's clock is too far from this one's for rounds."""
        off = self._clock() - (reply.time + 0.5)  # it was cut to whole seconds
        far = abs(off) > max(self._phase / 4, _CLOCK_GRAIN)
        if far and not self._clock_told:
            name, way = self.nickname, "ahead of" if off > 0 else "behind"
            log.warning(
                "this clock is %.0f s %s authority %s's: rounds need a quarter of a phase; "
                "see which of the two is wrong", abs(off), way, name,
            )  # fmt: skip
        self._clock_told = far


class _Moving:
    """A stream, and a scope that is cancelled once nothing has moved on it for `seconds`."""

    def __init__(self, stream: Stream, scope: trio.CancelScope, seconds: float) -> None:
        self._stream = stream
        self._scope = scope
        self._seconds = seconds
        self._moved()

    def _moved(self) -> None:
        self._scope.deadline = trio.current_time() + self._seconds

    async def send_all(self, data: bytes) -> None:
        for at in range(0, len(data), _CHUNK):
            await self._stream.send_all(data[at : at + _CHUNK])
            self._moved()

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self._moved()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _moving(stream: Stream, seconds: float) -> Iterator[Stream]:
    """Give the stream for a block that is left by `TooSlowError` when it stalls so long."""
    with trio.CancelScope() as scope:
        yield _Moving(stream, scope, seconds)
    if scope.cancelled_caught:
        raise trio.TooSlowError


def _within(seconds: float, bounds: tuple[float, float]) -> float:
    least, most = bounds
    return min(max(seconds, least), most)
