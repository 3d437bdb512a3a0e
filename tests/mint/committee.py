"""n authorities' mints in one process: the real service, ledgers on a disk, computing in place.

    async with committee(tmp_path) as bank:
        signed = bank.swap(tokens, outputs)
        certificate = await bank.certify(signed)
        tokens = await bank.issue(certificate, outputs)

Streams are memory's, keys are dealt by one hand, and the clock stands still. A member that lies has
its answers changed: `liar`.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeAlias, TypeVar

import trio
from trio.testing import memory_stream_pair

from fogbank.directory.addresses import Address
from fogbank.directory.mint.bodies import (
    pack_replies,
    pack_shares,
    pack_vote,
    unpack_shares,
    unpack_vote,
)
from fogbank.directory.mint.certificates import (
    Certificate,
    Vote,
    check_vote,
    make_certificate,
    sign_vote,
)
from fogbank.directory.mint.crunch import Cruncher, Task
from fogbank.directory.mint.crunch_shell import Busy
from fogbank.directory.mint.exchange import (
    BATCH_LIMIT,
    REPLY_LIMIT,
    Batch,
    Issue,
    Lock,
    Message,
    Reply,
    Status,
    decode_message,
    decode_reply,
)
from fogbank.directory.mint.ledgers_shell import Ledgers
from fogbank.directory.mint.mint_shell import Mint
from fogbank.directory.mint.points import (
    combine_unblind,
    decode_g1,
    decode_g2,
    encode_point,
    hash_token,
    is_right,
)
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Swap,
    Token,
    sign_swap,
)
from fogbank.directory.mint.state import Allotment, MintState, SeriesRecord
from fogbank.directory.network import AuthorityPin, NetworkDocument, Timing
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import Ed25519Key, NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from tests.mint.computing import one_by_one
from tests.mint.curve import NETWORK
from tests.mint.deals import NOW, SERIES, Output, Series, key_of

INTERVAL = 3600
DAY = 4 * INTERVAL
_RANDOM = bytes(range(32))

_T = TypeVar("_T")
Answer: TypeAlias = Callable[[Message], Awaitable[Reply]]
Liar: TypeAlias = Callable[["Member", Message, Answer], Awaitable[Reply]]
"""What a member answers instead: it is given the message, and what honestly answers it."""


def document(n: int) -> NetworkDocument:
    """Return a network whose series of that number is two days old now."""
    start = NOW - (7 * SERIES + 2) * DAY
    pins = tuple(
        AuthorityPin(key_of("authority", i).public, f"auth{i}", (Address(f"127.{i}.0.1", 9001),))
        for i in range(1, n + 1)
    )
    return NetworkDocument(
        NETWORK, "committee", 1, pins, Timing(start, 60_000, INTERVAL), test=True
    )


class InlineCrunch:
    """Computes at once, in the event loop; counts what it is asked."""

    capacity = 1
    waiting = 0
    cost = 0.001

    def __init__(self) -> None:
        self._cruncher = Cruncher(NETWORK)
        self._learned: set[int] = set()
        self.tasks: list[Task] = []
        self.refused = 0

    def learn(self, series: int, key: bytes, share: int) -> None:
        self._cruncher.learn(series, key, share)
        self._learned.add(series)

    def forget(self, series: int) -> None:
        self._learned.discard(series)
        self._cruncher.forget(series)

    async def run(self) -> None:
        await trio.sleep_forever()

    async def do_all(
        self, tasks: Sequence[tuple[Task, int]]
    ) -> list[tuple[bytes, ...] | RelayError]:
        return await one_by_one(self.do, tasks)

    async def do(self, task: Task, urgency: int = 0) -> tuple[bytes, ...]:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        if task.series not in self._learned:
            raise Busy("this series was not learned")
        self.tasks.append(task)
        (outcome,) = self._cruncher.run([task], _RANDOM)
        if isinstance(outcome, str):
            self.refused += 1
            raise ProtocolError(outcome)
        return outcome


@dataclass
class Seat:
    """What an authority knows of the mint: the state that all know, and its own secrets."""

    bank: Committee
    place: int

    @property
    def state(self) -> MintState:
        return self.bank.state

    @property
    def vote(self) -> Ed25519Key:
        return self.bank.deals[SERIES].vote_key(self.place)

    def share_of(self, series: int) -> int | None:
        dealt = self.bank.deals.get(series)
        return None if dealt is None or self.place > dealt.n else dealt.dealt.share(self.place)

    def dealings(self, series: int) -> Sequence[tuple[NodeId, bytes]]:  # noqa: ARG002
        return ()

    def missing(self) -> Sequence[int]:
        return ()

    def take_dealings(self, series: int, dealings: Iterable[tuple[NodeId, bytes]]) -> None:
        raise NotImplementedError("nothing is missing here")


@dataclass(frozen=True)
class Peer:
    """Who opened a stream, by what the link proved."""

    linked_peer: NodeId | None = None


class Member:
    """One authority: processes of it come and go, its folder stays."""

    def __init__(self, bank: Committee, place: int, folder: Path) -> None:
        self.bank = bank
        self.place = place
        self.identity = key_of("authority", place).public
        self.folder = folder
        self.crunch = InlineCrunch()
        self.liar: Liar | None = None
        self.mint: Mint
        self._scope = trio.CancelScope()

    @property
    def ledger(self) -> Path:
        """Where its ledger of the series is."""
        return self.folder / f"{SERIES}.db"

    async def start(self, *, lacking: Collection[int] = ()) -> None:
        """Be a new process, which has adopted a consensus; some ledgers may not be opened."""
        ledgers = Ledgers(self.folder, self.bank.clock, _at_once)
        self.crunch = InlineCrunch()
        self.mint = Mint(
            self.bank.network or document(self.bank.n),
            self.identity,
            Seat(self.bank, self.place),
            ledgers,
            crunch=self.crunch,
            connect=partial(self.bank.connect, self),
            clock=self.bank.clock,
            random=bytes,
        )
        self.mint.adopted()
        self._scope = trio.CancelScope()
        self.bank.nursery.start_soon(self._run)
        while set(ledgers.all()) < {each.number for each in self.bank.state.series} - set(lacking):
            await trio.lowlevel.checkpoint()

    async def _run(self) -> None:
        with self._scope:
            await self.mint.run()

    async def stop(self) -> None:
        """End the process."""
        self._scope.cancel()
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        self.mint.ledgers.close()

    async def serve(self, stream: Stream, peer: NodeId | None) -> None:
        """Serve one stream, by the rules or as it lies."""
        liar = self.liar
        if liar is None:
            await self.mint.service(stream, Peer(peer))
            return
        while (data := await receive_message(stream, 1 << 20)) is not None:
            reply = await self._lie(liar, decode_message(data, BATCH_LIMIT), peer)
            await send_message(stream, reply.encode())

    async def _lie(self, liar: Liar, message: Message, peer: NodeId | None) -> Reply:
        """Answer as it lies; in a batch to each item."""
        if not isinstance(message, Batch):
            return await liar(self, message, partial(self.mint.answer, peer=peer))
        replies = [await self._lie(liar, decode_message(item), peer) for item in message.items]
        return Reply(Status.DONE, pack_replies([reply.encode() for reply in replies]))

    async def ask(self, message: Message | bytes, peer: NodeId | None = None) -> Reply:
        """Ask one thing, as somebody who is nobody; a closed stream is `NOT_NOW`."""
        (reply,) = await self.ask_all([message], peer)
        return reply

    async def ask_all(
        self, messages: Iterable[Message | bytes], peer: NodeId | None = None
    ) -> list[Reply]:
        """Ask one thing after the other on one stream, until it is closed."""
        replies: list[Reply] = []
        near, far = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve, far, peer)
            for message in messages:
                data = message if isinstance(message, bytes) else message.encode()
                try:
                    await send_message(near, data)
                    answer = await receive_message(near, REPLY_LIMIT)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    answer = None
                if answer is None:
                    break
                replies.append(decode_reply(answer))
            await near.aclose()
        return replies or [Reply(Status.NOT_NOW, reason="the stream was closed")]


async def _at_once(function: Callable[..., _T], *args: object) -> _T:
    await trio.lowlevel.checkpoint()
    return function(*args)


@dataclass
class Committee:
    """The mint as its users see it, and all that was ever given away."""

    folder: Path
    nursery: trio.Nursery
    n: int = 4
    now: float = float(NOW)
    network: NetworkDocument | None = None
    """The version of the network document in force; None: that of the committee."""
    state: MintState = field(default_factory=MintState)
    deals: dict[int, Series] = field(default_factory=dict)
    members: dict[int, Member] = field(default_factory=dict)
    given: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    """All shares that anybody was given: by output, then member."""

    def clock(self) -> float:
        """Return seconds since 1970, which pass only when a test says so."""
        return self.now

    @property
    def record(self) -> SeriesRecord:
        """The series as the consensus has it."""
        return self.record_of(SERIES)

    def record_of(self, series: int) -> SeriesRecord:
        """Return another series as the consensus has it."""
        record = self.state.series_of(series)
        assert record is not None
        return record

    def add_series(self, dealt: Series) -> None:
        """Have a series come to be."""
        self.deals[dealt.number] = dealt
        series = sorted((*self.state.series, dealt.record), key=lambda each: each.number)
        self.state = replace(self.state, series=tuple(series))

    def count(self) -> None:
        """Have a consensus name how many answers the ledgers of all who run hold."""
        series = []
        for record in self.state.series:
            heads = {
                each.identity: each.mint.ledgers.counts().get(record.number, 0)
                for each in self.members.values()
            }
            members = (replace(each, count=heads.get(each.identity, 0)) for each in record.members)
            series.append(replace(record, members=tuple(members)))
        self.state = replace(self.state, series=tuple(series))

    def retire(self, place: int) -> None:
        """Have another one than this member be an authority from now on; it goes on running."""
        old = self.network or document(self.n)
        newcomer = AuthorityPin(
            key_of("newcomer", place).public, "newcomer", (Address("127.99.0.1", 9001),)
        )
        gone = self.members[place].identity
        pins = tuple(newcomer if pin.identity == gone else pin for pin in old.authorities)
        self.network = replace(old, authorities=pins)
        for member in self.members.values():
            member.mint.network = self.network

    def allot(self, amount: int) -> None:
        """Allot tokens to the node that `Series.withdrawal` is of."""
        identity = key_of("identity").public
        self.state = replace(self.state, allotments=(Allotment(identity, SERIES, amount),))

    @asynccontextmanager
    async def connect(self, asker: Member, identity: NodeId) -> AsyncIterator[Stream]:
        """Open a stream from one authority to another."""
        member = next(each for each in self.members.values() if each.identity == identity)
        near, far = memory_stream_pair()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.serve, far, asker.identity)
                try:
                    yield near
                finally:
                    await near.aclose()
        except BaseExceptionGroup as group:
            # What the block raised comes as it is, as on a circuit.
            raise group.exceptions[0] from None

    # A user.

    def token(self, output: Output, series: int = SERIES) -> Token:
        """Return a token out of nothing, for a test to begin with."""
        return self.deals[series].token(output)

    def swap(
        self, inputs: Sequence[Output], outputs: Sequence[Output], series: int = SERIES
    ) -> SignedRequest:
        """Sign a swap of these tokens to these outputs."""
        keys = sorted(inputs, key=lambda each: each.key.public)
        source = Swap(tuple(self.token(each, series) for each in keys))
        blinded = tuple(sorted(each.blinded for each in outputs))
        return sign_swap(Request(NETWORK, series, source, blinded), [each.key for each in keys])

    async def begin_series(self, dealt: Series) -> None:
        """Have a series come to be while members run, and wait until they have taken it up."""
        self.add_series(dealt)
        for member in self.members.values():
            member.mint.adopted()
            while dealt.number not in member.mint.ledgers.all():
                await trio.lowlevel.checkpoint()
        self.count()

    async def votes(self, signed: SignedRequest, of: Iterable[int] | None = None) -> list[Vote]:
        """Return the votes that members give now, each checked."""
        found = []
        for i in of or self.members:
            reply = await self.members[i].ask(Lock(signed))
            if reply.status is Status.DONE:
                vote = unpack_vote(reply.body)
                check_vote(vote, signed.request, self.record_of(signed.request.series))
                found.append(vote)
        return found

    async def certify(self, signed: SignedRequest) -> Certificate:
        """Return the certificate of a request; raise `ValueError` if there is none."""
        record = self.record_of(signed.request.series)
        return make_certificate(signed, await self.votes(signed), record)

    async def shares(self, certificate: Certificate, of: Iterable[int] | None = None) -> set[int]:
        """Take members' shares, as far as they give some; return who did."""
        request = certificate.request
        by = set()
        for i in of or self.members:
            reply = await self.members[i].ask(Issue(certificate))
            if reply.status is Status.DONE:
                by.add(i)
                shares = unpack_shares(reply.body, len(request.outputs))
                for output, share in zip(request.outputs, shares, strict=True):
                    self.given.setdefault(output, {})[i] = share
        return by

    def tokens(self, outputs: Iterable[Output], series: int = SERIES) -> list[Output]:
        """Return those of the outputs whose token can be had from all shares ever given."""
        record = self.record_of(series)
        key = decode_g2(record.key)
        found = []
        for output in outputs:
            shares = self.right_shares(output, series)
            if len(shares) >= record.quorum:
                chosen = dict(list(shares.items())[: record.quorum])
                points = {i: decode_g1(share) for i, share in chosen.items()}
                signature = combine_unblind(points, output.factor)
                if is_right(hash_token(NETWORK, output.key.public), signature, key):
                    found.append(output)
        return found

    def right_shares(self, output: Output, series: int = SERIES) -> dict[int, bytes]:
        """Return the shares of an output that are right, by member."""
        members = self.record_of(series).members
        blinded = decode_g1(output.blinded)
        return {
            i: share
            for i, share in self.given.get(output.blinded, {}).items()
            if is_right(blinded, decode_g1(share), decode_g2(members[i - 1].share_key))
        }


@asynccontextmanager
async def committee(
    folder: Path, n: int = 4, liars: Mapping[int, Liar] | None = None
) -> AsyncIterator[Committee]:
    """Run a committee of n; the liars' numbers are theirs in it."""
    async with trio.open_nursery() as nursery:
        bank = Committee(folder, nursery, n)
        bank.add_series(Series(quorum=2 * n // 3 + 1, n=n))
        for place in range(1, n + 1):
            member = Member(bank, place, folder / str(place))
            member.folder.mkdir()
            bank.members[place] = member
            await member.start()
            member.liar = (liars or {}).get(place)
        bank.count()
        try:
            yield bank
        finally:
            for member in bank.members.values():
                await member.stop()
            nursery.cancel_scope.cancel()


_names = count()


def fresh(number: int) -> list[Output]:
    """Return outputs that nobody has had yet."""
    return [Output.of("fresh", next(_names)) for _ in range(number)]


# Liars.


async def votes_for_everything(member: Member, message: Message, honest: Answer) -> Reply:
    """Vote for whatever is asked, and give shares for it."""
    dealt = member.bank.deals[SERIES]
    match message:
        case Lock(signed=signed):
            vote = sign_vote(dealt.vote_key(member.place), member.place, signed.request)
            return Reply(Status.DONE, pack_vote(vote))
        case Issue(certificate=certificate):
            share = dealt.dealt.share(member.place)
            points = [decode_g1(each).scalar_mul(share) for each in certificate.request.outputs]
            return Reply(Status.DONE, pack_shares([encode_point(each) for each in points]))
        case _:
            return await honest(message)
