"""What a wallet does through the network: withdraw, send, receive, restore (spec/09 §8, §9).

Everything is in the wallet, on the disk, before it is sent. So whatever the moment of a kill,
`settle` completes what was begun, and nothing is begun twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from fogbank.client.errors import ClientError
from fogbank.client.wallet.answers import Question
from fogbank.client.wallet.errand_shell import Errand
from fogbank.client.wallet.errors import TooManyWaiting
from fogbank.client.wallet.mint_client_shell import MintClient
from fogbank.client.wallet.mint_errors import LockedElsewhere, MintError
from fogbank.client.wallet.own import Sign
from fogbank.client.wallet.questions_shell import ask_all
from fogbank.client.wallet.records import OpenRequest, Purpose
from fogbank.client.wallet.restore import Restore
from fogbank.client.wallet.store_shell import Received, Wallet
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.certificates import Certificate, decode_certificate
from fogbank.directory.mint.cheques import Cheque, Invoice
from fogbank.directory.mint.requests import decode_signed_request
from fogbank.directory.mint.state import MintState, SeriesRecord
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId

_AT_ONCE = 8
"""Requests that are on their way at the same time; also questions of a restore."""
_SEARCHES = 3
"""Of a restore: what one completes is looked up by the next."""
ALL = frozenset(Purpose)

_T = TypeVar("_T")


@dataclass(slots=True)
class Settled:
    """What became of requests that were unfinished: `troubles` has an error for each that still is.

    `tokens` were issued to this wallet.
    """

    tokens: int = 0
    troubles: list[ClientError | RelayError] = field(default_factory=list)

    def raise_first(self) -> None:
        """Raise the first trouble, if there was one."""
        if self.troubles:
            raise self.troubles[0]

    def raise_if_nothing_came(self) -> None:
        """Raise the first trouble unless there were tokens too."""
        if not self.tokens:
            self.raise_first()


def allotted(state: MintState, calendar: Calendar, identity: NodeId, now: float) -> dict[int, int]:
    """Return, by series, what a node may withdraw now in all: in those that have keys."""
    current = calendar.current(now)
    amounts = {
        series: state.allotted(identity, series)
        for series in (current - 1, current)
        if state.series_of(series) is not None and now < calendar.withdraw_until(series)
    }
    return {series: amount for series, amount in amounts.items() if amount}


class Payments:
    """One wallet at work in its network. `state` gives the newest known state of the mint."""

    def __init__(
        self,
        wallet: Wallet,
        mint: MintClient,
        calendar: Calendar,
        state: Callable[[], MintState],
    ) -> None:
        self._wallet = wallet
        self._mint = mint
        self._calendar = calendar
        self._state = state
        self._means = mint.means

    async def settle(self, purposes: frozenset[Purpose] = ALL) -> Settled:
        """Complete what is unfinished, of these purposes, as far as the authorities answer now."""
        settled = Settled()
        tried: set[bytes] = set()

        def fits(request: OpenRequest) -> bool:
            return request.purpose in purposes and request.id not in tried

        # A request that another one got ahead of may bring that one to be completed.
        while requests := [each for each in self._wallet.unfinished() if fits(each)]:
            tried.update(each.id for each in requests)
            await self._drive(requests, settled)
        return settled

    async def withdraw(self, identity: NodeId, sign: Sign) -> Settled:
        """Turn what a node is allotted, and has not withdrawn, into tokens of its wallet."""
        withdrawn = Settled()
        for series, amount in self.allotted(identity).items():
            plan = partial(self._wallet.withdraw, series, identity, amount, sign)
            # Not more at once than a restore would find.
            while await self._plan(plan) and not withdrawn.troubles:
                settled = await self.settle(frozenset({Purpose.WITHDRAWAL}))
                withdrawn = Settled(withdrawn.tokens + settled.tokens, settled.troubles)
        settled = await self.settle(frozenset({Purpose.WITHDRAWAL}))
        return Settled(withdrawn.tokens + settled.tokens, settled.troubles)

    async def _plan(self, plan: Callable[[int], OpenRequest | None]) -> bool:
        """Plan withdrawals as far as may be; tell whether more will be possible after these."""
        planned = 0
        try:
            while await self._call(plan, self._now()) is not None:
                planned += 1
        except TooManyWaiting:
            if not planned:
                raise
            return True
        return False

    def allotted(self, identity: NodeId) -> dict[int, int]:
        """Return, by series, what a node may withdraw now in all, withdrawn or not."""
        return allotted(self._state(), self._calendar, identity, self._now())

    async def pay(self, invoice: Invoice) -> int:
        """Pay an invoice; return the number of the payment, whose cheque can be handed over now.

        Raises `NotEnough`, or what kept a request from being certified: then the payment stands,
        and `settle`, or paying the same invoice again, goes on with it.
        """
        payment = await self._call(self._wallet.pay, invoice, self._now())
        settled = Settled()
        await self._drive(
            [each for each in self._wallet.unfinished() if each.id in payment.requests], settled
        )
        settled.raise_first()
        return payment.number

    async def receive(self, cheque: Cheque) -> tuple[Received, Settled]:
        """Count a cheque, once, then complete what is unfinished, as far as that goes now."""
        received = await self._call(self._wallet.receive, cheque, self._state(), self._now())
        return received, await self.refresh()

    async def refresh(self) -> Settled:
        """Complete what is unfinished, then swap what came from words for tokens of its own."""
        settled = await self.settle()
        # Not more at once than a restore would find.
        while not settled.troubles and len(await self._call(self._wallet.refresh, self._now())):
            later = await self.settle()
            settled = Settled(settled.tokens + later.tokens, later.troubles)
        return settled

    async def restore(self, identity: NodeId | None = None) -> tuple[int, Settled]:
        """Find what the mint has of the wallet's words; return how many more tokens there are.

        `identity`: of the node whose wallet it is. What was under way is completed, and all is
        swapped for tokens that no copy of the old wallet has (spec/09 §8.3).
        """
        before = len(self._wallet.tokens())
        for _ in range(_SEARCHES):
            await self._search(identity)
            settled = await self.settle()
            if not settled.tokens:
                break
            # What was completed just now may be spent: that is looked up as of any other token.
        count = len(self._wallet.tokens()) - before
        return max(0, count), await self.refresh()

    async def _search(self, identity: NodeId | None) -> None:
        begin = partial(self._wallet.restoring, self._state(), self._now(), identity)
        search = await self._call(begin)
        limiter = trio.CapacityLimiter(_AT_ONCE)
        while questions := await self._call(search.questions):
            async with trio.open_nursery() as nursery:
                for question in questions:
                    nursery.start_soon(self._ask, question, search, limiter)
        found = await self._call(search.found)
        await self._call(self._wallet.restored, found, self._now(), identity)

    async def _ask(
        self, question: Question, search: Restore, limiter: trio.CapacityLimiter
    ) -> None:
        async with limiter:
            committee = self._mint.committee(self._series(question.series))
            search.answer(question, await ask_all(committee, question))

    async def _drive(self, requests: Iterable[OpenRequest], settled: Settled) -> None:
        limiter = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for request in requests:
                nursery.start_soon(self._complete, request, settled, limiter)

    async def _complete(
        self, request: OpenRequest, settled: Settled, limiter: trio.CapacityLimiter
    ) -> None:
        async with limiter:
            try:
                issued = await self._carry(request)
                settled.tokens += issued
            except LockedElsewhere as error:
                settled.troubles.append(error)
                await self._give_way(request, error.others)
            except (ClientError, RelayError) as error:
                settled.troubles.append(error)

    async def _give_way(self, request: OpenRequest, others: Sequence[bytes]) -> None:
        """Take note of what a request's tokens are locked to, by the first that is as it is told.

        If none is, the request stays, and is tried again.
        """
        for other in map(decode_signed_request, others):
            with suppress(ClientError, RelayError):
                await self._call(self._wallet.beaten, request.id, other, self._now())
                return

    async def _carry(self, request: OpenRequest) -> int:
        """Have one request certified, and issued if its outputs are this wallet's."""
        is_ours = request.purpose is not Purpose.PAYMENT
        outputs = self._wallet.outputs(request.id) if is_ours else ()

        async def certified(certificate: Certificate) -> None:
            await self._call(self._wallet.certified, request.id, certificate.encode(), self._now())

        certificate = decode_certificate(request.certificate) if request.certificate else None
        signed = certificate.signed if certificate else decode_signed_request(request.signed)
        series = self._series(request.series)
        signatures = await self._mint.carry(Errand(series, signed, certificate, outputs, certified))
        if is_ours:
            await self._call(self._wallet.issued, request.id, signatures, self._now())
        return len(signatures)

    def _series(self, number: int) -> SeriesRecord:
        series = self._state().series_of(number)
        if series is None:
            raise MintError(
                f"series {number} is not in the newest consensus that is here: wait for the next"
            )
        return series

    def _now(self) -> int:
        return int(self._means.clock())

    async def _call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call what waits for the disk; what is begun is not left in the middle."""
        return await self._means.blocking(function, *arguments)
