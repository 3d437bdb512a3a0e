"""Credit in a simulated network: the mint's part of an authority, its liars, and what must hold.

Of all that honest authorities have in their ledgers: no two certificates share an input, and no
more was withdrawn than was allotted. Of all wallets: they never have more tokens than were
withdrawn, and once everybody has come to rest they have all of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fogbank.directory.exchange_shell import Origin
from fogbank.directory.mint.bodies import (
    Carried,
    pack_ledger,
    pack_replies,
    pack_shares,
    pack_vote,
    unpack_carried,
)
from fogbank.directory.mint.certificates import Certificate, sign_vote
from fogbank.directory.mint.cheques import Invoice
from fogbank.directory.mint.crunch import Cruncher, Task
from fogbank.directory.mint.exchange import (
    BATCH_LIMIT,
    Batch,
    Carry,
    GetLedger,
    Issue,
    Lock,
    Message,
    Reply,
    Status,
    decode_message,
)
from fogbank.directory.mint.mint_shell import Mint, MintService
from fogbank.directory.mint.points import RANDOM_LENGTH, decode_g1, encode_point, sign_share
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Withdrawal,
    decode_signed_request,
)
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from tests.mint.computing import one_by_one
from tests.simulation.chance import Chance

if TYPE_CHECKING:
    from tests.simulation.world import World

TWICE = "no input in two certificates"
BEYOND = "no more withdrawn than allotted"
CREATED = "no token created"
LOST = "no token lost"
_SILENCE = 8.0
"""Seconds for which a liar keeps those waiting whose request it carries."""


class SimCrunch:
    """Computes for a mint at once."""

    capacity = 1
    waiting = 0
    cost = 0.001

    def __init__(self, network_id: bytes, chance: Chance) -> None:
        self._cruncher = Cruncher(network_id)
        self._chance = chance

    def learn(self, series: int, key: bytes, share: int) -> None:
        """Take a series' key and the share of it."""
        self._cruncher.learn(series, key, share)

    def forget(self, series: int) -> None:
        """Drop a series."""
        self._cruncher.forget(series)

    async def run(self) -> None:
        """Have nothing to do beside."""
        await trio.sleep_forever()

    async def do_all(
        self, tasks: Sequence[tuple[Task, int]]
    ) -> list[tuple[bytes, ...] | RelayError]:
        """Compute several."""
        return await one_by_one(self.do, tasks)

    async def do(self, task: Task, urgency: int = 0) -> tuple[bytes, ...]:  # noqa: ARG002
        """Compute."""
        await trio.lowlevel.checkpoint()
        (outcome,) = self._cruncher.run([task], self._chance.randbytes(RANDOM_LENGTH))
        if isinstance(outcome, str):
            raise ProtocolError(outcome)
        return outcome


class MintLiar:
    """A member that votes for everything, gives wrong shares, carries badly, hides its ledger."""

    def __init__(self, honest: MintService, chance: Chance) -> None:
        assert isinstance(honest._mint, Mint)
        self._mint = honest._mint
        self._answers = honest._mint.answers
        self._chance = chance

    async def __call__(self, stream: Stream, origin: Origin) -> None:
        """Serve one stream and close it."""
        try:
            while (data := await receive_message(stream, BATCH_LIMIT)) is not None:
                message = decode_message(data, BATCH_LIMIT)
                reply = await self._reply(message, origin.linked_peer)
                await send_message(stream, reply.encode())
        finally:
            await stream.aclose()

    async def _reply(self, message: Message, peer: NodeId | None) -> Reply:  # noqa: PLR0911
        answers, chance = self._answers, self._chance
        if isinstance(message, Batch):
            replies = [await self._reply(decode_message(item), peer) for item in message.items]
            return Reply(Status.DONE, pack_replies([each.encode() for each in replies]))
        honest = await self._mint.answer(message, peer)
        if chance.once_in(0.3):
            return honest
        match message:
            case Lock(signed=signed):
                place = self._place(signed.request)
                if place:
                    vote = sign_vote(answers._seats.vote, place, signed.request)
                    return Reply(Status.DONE, pack_vote(vote))
            case Issue(certificate=certificate):
                share = answers._seats.share_of(certificate.request.series)
                if share is not None:
                    points = map(decode_g1, certificate.request.outputs)
                    wrong = chance.below(2)
                    shares = [encode_point(sign_share(share + wrong, each)) for each in points]
                    return Reply(Status.DONE, pack_shares(shares))
            case GetLedger():
                return Reply(Status.DONE, pack_ledger([]))
            case Carry(signed=signed) if honest.status is Status.DONE:
                carried = unpack_carried(honest.body, len(signed.request.outputs))
                return await self._carried(carried)
        return honest

    async def _carried(self, carried: Carried) -> Reply:
        """Bring wrong votes or shares, or nothing, or nothing for a while."""
        votes, shares = carried.votes, carried.shares
        match self._chance.below(4):
            case 0:
                votes = tuple(replace(each, signature=bytes(64)) for each in votes)
            case 1:
                places = [place for place, _ in shares]
                shares = tuple(zip(places, reversed([each for _, each in shares]), strict=True))
            case 2:
                await trio.sleep(_SILENCE)
            case _:
                return Reply(Status.REFUSED, reason="it carries nothing")
        return Reply(Status.DONE, Carried(votes, shares).encode())

    def _place(self, request: Request) -> int:
        record = self._answers._seats.state.series_of(request.series)
        return 0 if record is None else record.place_of(self._answers.swaps._identity)


@dataclass
class Market:
    """Invoices that anybody may pay, and cheques on their way: as letters, which outlive crashes.

    `certificates` are those that anybody got, `payees` whom an output is of.
    """

    invoices: list[tuple[str, Invoice]] = field(default_factory=list)
    payees: dict[bytes, str] = field(default_factory=dict)
    letters: dict[str, list[str]] = field(default_factory=dict)
    certificates: dict[bytes, Certificate] = field(default_factory=dict)
    granted: dict[NodeId, int] = field(default_factory=dict)
    cheats: set[NodeId] = field(default_factory=set)
    read: dict[bytes, SignedRequest] = field(default_factory=dict)
    forgetful: int = 0
    """Which authority's ledgers may be replaced by old ones."""

    def certified(self, certificate: Certificate) -> None:
        """Hear of a certificate that somebody holds."""
        self.certificates[certificate.request.digest()] = certificate


def certified_requests(world: World) -> dict[bytes, Request]:
    """Return the requests that an honest authority issued, or of which somebody has a cheque."""
    market = world.market
    found = {digest: each.request for digest, each in market.certificates.items()}
    for authority in world.authorities():
        if not authority.honest:
            continue
        for digest, signed in _in_ledgers(authority.folder / "mint"):
            known = market.read.get(digest)
            if known is None:
                known = market.read[digest] = decode_signed_request(signed)
            found[digest] = known.request
    return found


def _in_ledgers(folder: Path) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    for path in sorted(folder.glob("[0-9]*.db")) if folder.is_dir() else ():
        database = sqlite3.connect(path)
        try:
            rows += database.execute(
                "SELECT digest, signed FROM request WHERE votes IS NOT NULL"
            ).fetchall()
        except sqlite3.OperationalError:
            # Its process died before the tables were made.
            continue
        finally:
            database.close()
    return rows


def credit_holds(world: World) -> None:
    """No input is in two certificates; nobody withdrew too much; no token is of nothing."""
    if not world.people():
        return
    owners: dict[bytes, bytes] = {}
    withdrawn = 0
    for digest, request in certified_requests(world).items():
        source = request.source
        for serial in request.serials():
            if owners.setdefault(serial, digest) != digest:
                world.trace.fail(TWICE, f"{serial.hex()[:8]} is an input of two")
        if isinstance(source, Withdrawal):
            if source.first + source.count > world.market.granted[source.identity]:
                world.trace.fail(BEYOND, f"units up to {source.first + source.count}")
            if source.identity not in world.market.cheats:
                withdrawn += source.count
    held = sum(person.held for person in world.people())
    if held > withdrawn:
        world.trace.fail(CREATED, f"wallets hold {held} of {withdrawn} tokens")
    world.trace.counts["credit"] = withdrawn


def credit_is_whole(world: World) -> None:
    """At rest wallets hold all that was withdrawn."""
    requests = certified_requests(world)
    withdrawn = sum(
        request.source.count
        for request in requests.values()
        if isinstance(request.source, Withdrawal)
        and request.source.identity not in world.market.cheats
    )
    held = sum(person.held for person in world.people())
    world.trace.checks[LOST] += 1
    if held != withdrawn:
        shares = {person.name: person.held for person in world.people()}
        world.trace.fail(LOST, f"wallets hold {held} of {withdrawn} tokens: {shares}")
