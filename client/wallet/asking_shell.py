"""Talking to one member of a committee over one circuit (spec/09 §6)."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import trio

from fogbank.client.chance import Chooser
from fogbank.client.chance_shell import SystemChooser
from fogbank.client.errors import ClientError
from fogbank.client.wallet.mint_errors import MintError
from fogbank.directory.mint.bodies import (
    Carried,
    unpack_carried,
    unpack_conflict,
    unpack_shares,
    unpack_vote,
)
from fogbank.directory.mint.certificates import Certificate, Vote, check_vote
from fogbank.directory.mint.exchange import (
    REPLY_LIMIT,
    Carry,
    Issue,
    Lock,
    Message,
    Reply,
    Status,
    decode_reply,
)
from fogbank.directory.mint.requests import SignedRequest
from fogbank.directory.mint.state import SeriesRecord
from fogbank.relay.circuits.work_shell import Solver, solve_in_thread
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.job.held.keeper_shell import Blocking, in_thread
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from fogbank.relay.work import EFFORT_MOST, Demand

MintOpener: TypeAlias = Callable[[NodeId], AbstractAsyncContextManager[Stream]]
"""Opens a stream to the service `mint` of an authority, over a circuit that nothing else uses."""

FAILURES = (
    RelayError,
    ClientError,
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""What talking to one member may end in."""


class Refusing(MintError):
    """A member refuses a request, for a reason that it gave."""


class NotNow(MintError):
    """A member cannot answer now; it may later."""


class Conflicting(MintError):
    """A member has locked a serial of the request to `other`, the bytes of a signed request."""

    def __init__(self, other: bytes) -> None:
        super().__init__("an input of the request is locked to another one")
        self.other = other


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried; times in seconds."""

    total: float = 60.0
    """For all members together."""
    answer: float = 20.0
    """For one circuit, or one answer."""
    carried: float = 5.0
    """After so long without a word of who carries the request others are asked directly."""
    hedge: float = 1.5
    """After so long without news one more member is asked."""
    attempts: int = 4
    """Circuits to one member, for one request."""
    pause: float = 0.5
    """Between two of them; twice as long each time."""
    work: float = 30.0
    """Processor time for the work that one member asks for."""


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Means:
    """What asking takes of the machine and its user.

    `say` hears sentences for the user, `name_of` tells what an authority is called. `clock` gives
    seconds since 1970, `random` that many random bytes. `blocking` calls what takes a while.
    """

    say: Callable[[str], None]
    name_of: Callable[[NodeId], str]
    chooser: Chooser = field(default_factory=SystemChooser)
    clock: Callable[[], float] = time.time
    random: Callable[[int], bytes] = os.urandom
    solve: Solver = solve_in_thread
    blocking: Blocking = in_thread
    patience: Patience = PATIENCE


class Committee:
    """The members of one series' committee, as one client talks to them.

    `opener` opens a stream to one of them. `name_of` tells what an authority is called, `failed`
    hears of those that cost time, `say` of those that lie, in a sentence for the user.
    """

    def __init__(
        self,
        series: SeriesRecord,
        opener: MintOpener,
        means: Means,
        failed: Callable[[NodeId], None],
    ) -> None:
        self.series = series
        self.means = means
        self._opener = opener
        self._failed = failed

    def identity(self, place: int) -> NodeId:
        """Return who has a place, from 1."""
        return self.series.members[place - 1].identity

    def name(self, place: int) -> str:
        """Return what the member of a place is called."""
        return self.means.name_of(self.identity(place))

    @asynccontextmanager
    async def talk(self, place: int) -> AsyncIterator[Talk]:
        """Talk to a member; its circuit ends with the block."""
        async with self._opener(self.identity(place)) as stream:
            yield Talk(self.series, place, stream, self.means)

    def note_slow(self, place: int) -> None:
        """Note that a member is waited for: the next requests ask others first."""
        self._failed(self.identity(place))

    def trouble(self, place: int, error: Exception) -> str:
        """Note that talking to a member failed; return why, in words."""
        self.note_slow(place)
        reason = str(error) or "it did not answer in time"
        if isinstance(error, ProtocolError):
            self.means.say(f"{self.name(place)} answers as no honest authority does: {reason}")
        return reason

    def doubt(self, carrier: int, members: Iterable[int]) -> None:
        """Note that one member brought what is wrong as others': which of them lies is not seen."""
        for member in members:
            self.note_slow(member)
            self.means.say(
                f"{self.name(carrier)} or {self.name(member)} answers as no honest authority does: "
                "the first brought a wrong share of a signature as the other's"
            )
        self.note_slow(carrier)


class Talk:
    """One stream to one member: one question at a time, each answer checked.

    All methods raise `Refusing`, `NotNow`, or one of `FAILURES`; `ProtocolError` for an answer that
    no honest member gives.
    """

    def __init__(
        self,
        series: SeriesRecord,
        place: int,
        stream: Stream,
        means: Means,
    ) -> None:
        self._series = series
        self._place = place
        self._stream = stream
        self._means = means

    async def lock(self, signed: SignedRequest) -> Vote:
        """Have the inputs of a request locked; also raises `Conflicting`."""
        reply = await self._ask(Lock(signed))
        if reply.status is Status.WORK:
            nonce = await self._work(Demand.decode(reply.body), signed.request.digest())
            reply = await self._ask(Lock(signed, nonce))
        if reply.status is Status.CONFLICT:
            raise Conflicting(self._conflict(reply.body, signed))
        vote = unpack_vote(done(reply))
        if vote.member != self._place:
            raise ProtocolError("it gives a vote of another member")
        check_vote(vote, signed.request, self._series)
        return vote

    async def issue(self, certificate: Certificate) -> Sequence[bytes]:
        """Return the member's shares over a certified request's outputs, not yet checked."""
        body = done(await self._ask(Issue(certificate)))
        return unpack_shares(body, len(certificate.request.outputs))

    async def carry(
        self,
        signed: SignedRequest,
        certificate: Certificate | None,
        heard: Callable[[], None],
        *,
        wants_shares: bool,
    ) -> Carried:
        """Have the member bring the votes of a committee, and its shares; nothing is verified.

        `heard` is called for each sign of life before the answer. A conflict is `Refusing` here:
        what one member alone says of that decides nothing.
        """
        votes = () if certificate is None else certificate.votes
        message = Carry(signed, votes, wants_shares=wants_shares)
        heard()
        reply = await self._ask(message)
        if reply.status is Status.WORK:
            heard()
            nonce = await self._work(Demand.decode(reply.body), signed.request.digest())
            heard()
            reply = await self._ask(replace(message, nonce=nonce))
        return unpack_carried(done(reply), len(signed.request.outputs))

    async def ask(self, message: Message) -> bytes:
        """Return the body of the answer to any other question."""
        return done(await self._ask(message))

    async def _ask(self, message: Message) -> Reply:
        with trio.fail_after(self._means.patience.answer):
            await send_message(self._stream, message.encode())
            try:
                answer = await receive_message(self._stream, REPLY_LIMIT)
            except ProtocolError as error:
                # Whoever is on the way can cut a stream off: that is no lie of the member's.
                raise RelayError(str(error)) from error
        if answer is None:
            raise RelayError("it ended the stream without an answer")
        return decode_reply(answer)

    async def _work(self, demand: Demand, digest: bytes) -> int:
        if demand.effort > EFFORT_MOST:
            raise NotNow("it asks for more work than is reasonable")
        solution = await self._means.solve(demand, digest, self._means.patience.work, lambda: True)
        if solution.nonce is None:
            raise NotNow("the work that it asks for was not done in time")
        return solution.nonce

    def _conflict(self, body: bytes, signed: SignedRequest) -> bytes:
        """Return the request in our way, if it is one: only the inputs' owner can have made it."""
        other, vote = unpack_conflict(body)
        mine, request = signed.request, other.request
        if (
            (request.network_id, request.series) != (mine.network_id, mine.series)
            or request.digest() == mine.digest()
            or set(request.serials()).isdisjoint(mine.serials())
        ):
            raise ProtocolError("it names a request in the way of another that is in no way of it")
        # At whatever time: a withdrawal's certificate may have ended since.
        other.check_proofs(None)
        if vote is not None:
            check_vote(vote, request, self._series)
        return other.encode()


def done(reply: Reply) -> bytes:
    """Return the body of an answer that is none of the others."""
    if reply.status is Status.NOT_NOW:
        raise NotNow(reply.reason or "it cannot answer now")
    if reply.status is not Status.DONE:
        raise Refusing(reply.reason or "it gives no reason")
    return reply.body
