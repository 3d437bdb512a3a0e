"""A mint of n authorities in memory, whose keys one hand dealt: fast, and as faulty as is wanted.

Each `Member` answers messages as spec/09 §6 has it, from dictionaries. `DoubleMint.open` is a
`MintOpener`; `Member.answer` serves tests that need no streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeVar

import trio
from trio.testing import memory_stream_pair

from fogbank.directory.mint.bodies import (
    Carried,
    Held,
    Output,
    Page,
    Spent,
    pack_conflict,
    pack_outputs,
    pack_serials,
    pack_shares,
    pack_vote,
    unpack_shares,
    unpack_vote,
)
from fogbank.directory.mint.certificates import (
    Certificate,
    Vote,
    check_certificate,
    make_certificate,
    sign_vote,
)
from fogbank.directory.mint.exchange import (
    MESSAGE_LIMIT,
    Carry,
    GetOutputs,
    GetRequest,
    GetSerials,
    Issue,
    Lock,
    Message,
    Reply,
    Status,
    decode_message,
)
from fogbank.directory.mint.points import (
    blind,
    decode_g1,
    decode_g2,
    encode_point,
    hash_token,
    sign_share,
    wrong_signatures,
)
from fogbank.directory.mint.requests import SignedRequest, Withdrawal, signed_inputs
from fogbank.directory.mint.state import Allotment, MintState, SeriesRecord
from fogbank.directory.mint.state import Member as Seat
from fogbank.relay.errors import LinkFailed, ProtocolError
from fogbank.relay.keys import Ed25519Key, NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from fogbank.relay.work import Demand, effort_of, work_digest
from tests.mint.curve import NETWORK, DealtKey, scalar

T = TypeVar("T")
RANDOM = bytes(32)
DEMAND = Demand(10, bytes(16))


class Fault(Enum):
    """What is wrong with a member."""

    DOWN = auto()
    SILENT = auto()
    WRONG_VOTES = auto()
    WRONG_SHARES = auto()
    REFUSING = auto()
    BUSY = auto()
    """It asks for work."""
    NOT_NOW = auto()
    OLD = auto()
    """It is of a version that carries no requests; it is right in all it does."""
    IDLE = auto()
    """It does not answer who wants a request carried."""
    FORGED_VOTES = auto()
    """Votes of others that it carries are not theirs; so with the next two."""
    FORGED_SHARES = auto()
    FORGED_BOTH = auto()
    FEW_SHARES = auto()
    """It brings the votes, and its own share alone."""
    RENUMBERED = auto()
    """It brings shares as those of members that there are none of."""


@dataclass
class Ledger:
    """What a member keeps of one series."""

    record: SeriesRecord
    share: int
    locks: dict[bytes, bytes] = field(default_factory=dict)
    requests: dict[bytes, SignedRequest] = field(default_factory=dict)
    votes: dict[bytes, tuple[Vote, ...]] = field(default_factory=dict)
    issued: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """B: the share, and H(R)."""


class Member:
    """One authority. `faults` may be changed at any time; `asked` counts what it was asked."""

    def __init__(self, place: int, now: float) -> None:
        self.place = place
        self.now = now
        self.key = Ed25519Key(hashlib.sha256(b"member %d" % place).digest())
        self.identity: NodeId = hashlib.sha256(b"authority %d" % place).digest()
        self.ledgers: dict[int, Ledger] = {}
        self.state = MintState()
        self.faults: set[Fault] = set()
        self.asked: list[Message] = []
        self.peers: list[Member] = []
        self.delay = 0.0
        self.lives: tuple[tuple[int, int], ...] = ()
        """What its votes say of members that lost their memory."""

    def answer(self, message: Message) -> Reply:
        """Answer a message."""
        self.asked.append(message)
        if isinstance(message, Carry) and Fault.OLD in self.faults:
            return Reply(Status.REFUSED, reason="a message to the mint is of the unknown kind 9")
        if Fault.NOT_NOW in self.faults:
            return Reply(Status.NOT_NOW, reason="this authority rejoins")
        if Fault.REFUSING in self.faults:
            return Reply(Status.REFUSED, reason="this authority refuses everything")
        try:
            return self._answer(message)
        except ProtocolError as error:
            return Reply(Status.REFUSED, reason=str(error))

    def _answer(self, message: Message) -> Reply:  # noqa: PLR0911
        match message:
            case Lock(signed, nonce):
                if Fault.BUSY in self.faults and not self._worked(signed, nonce):
                    return Reply(Status.WORK, DEMAND.encode())
                return self._lock(self._ledger(signed.request.series), signed)
            case Issue(certificate):
                return self._issue(self._ledger(certificate.request.series), certificate)
            case Carry():
                return self._carry(message)
            case GetOutputs(series, bits, prefix, after):
                return self._outputs(self._ledger(series), bits, prefix, after)
            case GetSerials(series, bits, prefix, after):
                return self._serials(self._ledger(series), bits, prefix, after)
            case GetRequest(series, digest):
                return self._request(self._ledger(series), digest)
            case _:
                raise ProtocolError("a double does not answer that")

    def _carry(self, message: Carry) -> Reply:
        """Ask others, until there are enough of them, what the message asks of this one."""
        signed, votes = message.signed, message.votes
        series = self._ledger(signed.request.series).record
        if not votes:
            own = self._answer(Lock(signed, message.nonce))
            if own.status is not Status.DONE:
                return own
            votes = self._gather(unpack_vote(own.body), signed, series)
            if not votes:
                return Reply(Status.NOT_NOW, reason="too few others vote now")
        issue = Issue(Certificate(signed, votes))
        shares: dict[int, tuple[bytes, ...]] = {}
        count = len(signed.request.outputs)
        for each in (self, *self._others()) if message.wants_shares else ():
            reply = self._answer(issue) if each is self else each.answer(issue)
            if reply.status is Status.DONE and len(shares) < series.quorum:
                shares[each.place] = unpack_shares(reply.body, count)
        return Reply(Status.DONE, self._forged(Carried(votes, tuple(sorted(shares.items())))))

    def _gather(self, own: Vote, signed: SignedRequest, series: SeriesRecord) -> tuple[Vote, ...]:
        votes = [own]
        for each in self._others():
            with suppress(ValueError):
                return make_certificate(signed, votes, series).votes
            reply = each.answer(Lock(signed))
            if reply.status is Status.DONE and Fault.WRONG_VOTES not in each.faults:
                votes.append(unpack_vote(reply.body))
        with suppress(ValueError):
            return make_certificate(signed, votes, series).votes
        return ()

    def _others(self) -> list[Member]:
        away = {Fault.DOWN, Fault.SILENT}
        return [each for each in self.peers if each is not self and not each.faults & away]

    def _forged(self, carried: Carried) -> bytes:
        """Return what this member makes of what it carries."""
        votes, shares = carried.votes, carried.shares
        if self.faults & {Fault.FORGED_VOTES, Fault.FORGED_BOTH}:
            votes = tuple(
                each if each.member == self.place else replace(each, signature=bytes(64))
                for each in votes
            )
        if self.faults & {Fault.FORGED_SHARES, Fault.FORGED_BOTH}:
            own = dict(shares).get(self.place, ())
            shares = tuple((place, own) for place, _ in shares)
        if Fault.FEW_SHARES in self.faults:
            shares = tuple(each for each in shares if each[0] == self.place)
        if Fault.RENUMBERED in self.faults:
            shares = tuple((place + len(self.peers), given) for place, given in shares)
        return Carried(votes, shares).encode()

    def _request(self, ledger: Ledger, digest: bytes) -> Reply:
        if digest not in ledger.requests:
            return Reply(Status.NOT_NOW, reason="no such request is here")
        held = Held(ledger.requests[digest], ledger.votes.get(digest, ()))
        return Reply(Status.DONE, held.encode())

    def _worked(self, signed: SignedRequest, nonce: int | None) -> bool:
        digest = signed.request.digest()
        return nonce is not None and (
            effort_of(work_digest(nonce, DEMAND.seed, digest)) >= DEMAND.effort
        )

    def _ledger(self, series: int) -> Ledger:
        if series not in self.ledgers:
            raise ProtocolError("that series is not active")
        return self.ledgers[series]

    def _lock(self, ledger: Ledger, signed: SignedRequest) -> Reply:
        request, digest = signed.request, signed.request.digest()
        if request.network_id != NETWORK:
            raise ProtocolError("another network")
        serials = request.serials()
        for serial in serials:
            held = ledger.locks.get(serial, digest)
            if held != digest:
                other = ledger.requests[held]
                vote = sign_vote(self.key, self.place, other.request)
                return Reply(Status.CONFLICT, pack_conflict(other, vote))
        signed.check_proofs(self.now)
        if isinstance(request.source, Withdrawal):
            source = request.source
            allotted = self.state.allotted(source.identity, request.series)
            if source.first + source.count > allotted:
                raise ProtocolError("more than is allotted")
        elif wrong_signatures(signed_inputs(request), decode_g2(ledger.record.key), RANDOM):
            raise ProtocolError("an input is no token")
        ledger.requests[digest] = signed
        for serial in serials:
            ledger.locks[serial] = digest
        vote = sign_vote(self.key, self.place, request, self.lives)
        if Fault.WRONG_VOTES in self.faults:
            return Reply(Status.DONE, pack_vote(replace(vote, signature=bytes(64))))
        return Reply(Status.DONE, pack_vote(vote))

    def _issue(self, ledger: Ledger, certificate: Certificate) -> Reply:
        check_certificate(certificate, NETWORK, ledger.record)
        request, digest = certificate.request, certificate.request.digest()
        ledger.requests[digest] = certificate.signed
        ledger.votes[digest] = certificate.votes
        for serial in request.serials():
            ledger.locks[serial] = digest
        factor = ledger.share + (Fault.WRONG_SHARES in self.faults)
        shares = [encode_point(sign_share(factor, decode_g1(each))) for each in request.outputs]
        for output, share in zip(request.outputs, shares, strict=True):
            ledger.issued[output] = share, digest
        return Reply(Status.DONE, pack_shares(shares))

    def _outputs(self, ledger: Ledger, bits: int, prefix: int, after: bytes) -> Reply:
        def place(output: bytes) -> bytes:
            return hashlib.sha256(output).digest()

        found = sorted(filter(lambda each: in_bucket(place(each), bits, prefix), ledger.issued))
        found.sort(key=place)
        rest = found[found.index(after) + 1 :] if after else found
        entries = tuple(Output(each, *ledger.issued[each]) for each in rest[:PAGE])
        return Reply(Status.DONE, pack_outputs(Page(len(ledger.issued), entries)))

    def _serials(self, ledger: Ledger, bits: int, prefix: int, after: bytes) -> Reply:
        found = sorted(each for each in ledger.locks if in_bucket(each, bits, prefix))
        rest = [each for each in found if each > after]
        entries = tuple(Spent(each, ledger.locks[each]) for each in rest[:PAGE])
        return Reply(Status.DONE, pack_serials(Page(len(ledger.locks), entries)))

    async def serve(self, stream: Stream) -> None:
        """Answer messages of one stream, until it ends."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await receive_message(stream, MESSAGE_LIMIT):
                await trio.sleep(self.delay)
                message = decode_message(data)
                is_idle = isinstance(message, Carry) and Fault.IDLE in self.faults
                if Fault.SILENT not in self.faults and not is_idle:
                    await send_message(stream, self.answer(message).encode())


PAGE = 256


def in_bucket(data: bytes, bits: int, prefix: int) -> bool:
    """Tell whether bytes begin with so many bits."""
    return int.from_bytes(data, "big") >> (8 * len(data) - bits) == prefix


class DoubleMint:
    """n members, q of whom are needed, and series whose keys were dealt."""

    def __init__(
        self,
        n: int = 4,
        series: Iterable[int] = (0,),
        allotments: Iterable[Allotment] = (),
        now: float = 1_800_000_000.0,
    ) -> None:
        self.quorum = 2 * n // 3 + 1
        members = [Member(place, now) for place in range(1, n + 1)]
        # A committee is in the order of identities.
        members.sort(key=lambda each: each.identity)
        for place, member in enumerate(members, 1):
            member.place = place
        self.members = members
        for member in members:
            member.peers = members
        self.opened: list[NodeId] = []
        self.nursery: trio.Nursery | None = None
        records = tuple(self._deal(number) for number in series)
        self.set_state(MintState(series=records, allotments=tuple(allotments)))

    def _deal(self, number: int) -> SeriesRecord:
        dealt = DealtKey.of(self.quorum, len(self.members), f"series {number}")
        seats = tuple(
            Seat(each.identity, each.key.public, encode_point(dealt.share_key(each.place)), 1)
            for each in self.members
        )
        record = SeriesRecord(number, self.quorum, encode_point(dealt.key), seats, ())
        for each in self.members:
            each.ledgers[number] = Ledger(record, dealt.share(each.place))
        return record

    def set_state(self, state: MintState) -> None:
        """Let all members go by this state."""
        self.state = state
        for each in self.members:
            each.state = state

    def allot(self, identity: NodeId, series: int, amount: int) -> None:
        """Allot tokens to a node."""
        others = [each for each in self.state.allotments if each.key != (identity, series)]
        allotments = sorted([*others, Allotment(identity, series, amount)], key=lambda a: a.key)
        self.set_state(MintState(series=self.state.series, allotments=tuple(allotments)))

    def member_of(self, identity: NodeId) -> Member:
        """Return the member of an identity."""
        return next(each for each in self.members if each.identity == identity)

    @asynccontextmanager
    async def open(self, identity: NodeId) -> AsyncIterator[Stream]:
        """Open a stream to a member: a `MintOpener`. `nursery` must be set."""
        member = self.member_of(identity)
        self.opened.append(identity)
        await trio.lowlevel.checkpoint()
        if Fault.DOWN in member.faults:
            raise LinkFailed("it does not run")
        assert self.nursery is not None
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(member.serve, theirs)
        try:
            yield ours
        finally:
            await ours.aclose()


@dataclass(frozen=True)
class OwnOutput:
    """An output as a wallet knows it."""

    serial: bytes
    blind: int
    blinded: bytes


def own_output(*name: object) -> OwnOutput:
    """Return the output that only its name determines; its serial's key is `serial_key(name)`."""
    factor = scalar("blind", *name)
    serial = serial_key(*name).public
    return OwnOutput(serial, factor, encode_point(blind(hash_token(NETWORK, serial), factor)))


def serial_key(*name: object) -> Ed25519Key:
    """Return the key of a serial that only its name determines."""
    return Ed25519Key(hashlib.sha256(repr(name).encode()).digest())


async def at_once(function: Callable[..., T], *arguments: object) -> T:
    """Call a function: a `Blocking` for clocks that jump while threads work."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)
