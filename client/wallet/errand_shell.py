"""One request on its way: who carries it, who has voted, who is asked next (spec/09 §8.2).

One member is asked to have all of it done. Of what it brings that is used which proves itself; if
that is not all, or takes long, members are asked directly: only they decide that it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TypeAlias, TypeVar

import trio

from fogbank.client.errors import ClientError
from fogbank.client.wallet.asking_shell import FAILURES, Committee, Conflicting, Refusing
from fogbank.client.wallet.carried import Brought, look_at
from fogbank.client.wallet.mint_errors import (
    LockedElsewhere,
    MintError,
    MintUnavailable,
    RequestRefused,
)
from fogbank.client.wallet.tally import Output, Tally
from fogbank.directory.mint.bodies import Carried
from fogbank.directory.mint.certificates import (
    Certificate,
    Vote,
    check_certificate,
    make_certificate,
)
from fogbank.directory.mint.points import RANDOM_LENGTH
from fogbank.directory.mint.requests import SignedRequest
from fogbank.directory.mint.state import SeriesRecord
from fogbank.relay.errors import ProtocolError

Certified: TypeAlias = Callable[[Certificate], Awaitable[None]]
"""Keeps a certificate; nothing else is sent before it returns. Tokens that came with it are kept
in its stead: then it is not called."""

_SMALL = 8
"""Outputs whose tokens are made in place, in some 3 ms: a thread would hold up as much."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Errand:
    """What is wanted for one request.

    Without a `certificate` LOCK comes first. Without `outputs` no shares are asked for.
    """

    series: SeriesRecord
    signed: SignedRequest
    certificate: Certificate | None
    outputs: Sequence[Output]
    certified: Certified


class Run:
    """Has one errand carried by the first of `order`, or asks as many members as are needed."""

    def __init__(self, errand: Errand, committee: Committee, order: Sequence[int]) -> None:
        self._errand = errand
        self._committee = committee
        self._patience = committee.means.patience
        self._spare = list(order)
        self._certificate = errand.certificate
        self._tally = self._new_tally()
        self._votes: dict[int, Vote] = {}
        self._conflicts: dict[int, bytes] = {}
        self._refusals: dict[int, str] = {}
        self._troubles: dict[int, str] = {}
        self._at_work: set[int] = set()
        self._waiting: set[int] = set()
        self._is_carried = self._is_direct = False
        self._silence = trio.CancelScope()
        self._tokens: tuple[bytes, ...] | None = None
        self._fault: ClientError | None = None
        self._counting = trio.Lock()
        self._certified, self._news, self._over = trio.Event(), trio.Event(), trio.Event()
        if errand.certificate is not None:
            self._certified.set()

    async def run(self) -> tuple[bytes, ...]:
        """Return the tokens' signatures, none if none were wanted; errors as `MintClient.carry`."""
        with trio.move_on_after(self._patience.total):
            async with trio.open_nursery() as nursery:
                await self._ask_carrier(nursery)
                await self._over.wait()
                nursery.cancel_scope.cancel()
        if self._tokens is None:
            raise self._fault or self._failure()
        return self._tokens

    # Carried by one member.

    async def _ask_carrier(self, nursery: trio.Nursery) -> None:
        """Have one member carry it, until it is over or nothing was heard of that for a while."""
        carrier = self._spare.pop(0)
        # If that comes to nothing others are asked first.
        self._spare.append(carrier)
        self._is_carried = True
        nursery.start_soon(self._have_carried, carrier, nursery)
        with self._silence:
            self._hear()
            await self._over.wait()
        if self._silence.cancelled_caught:
            self._committee.note_slow(carrier)
            self._ask_directly(nursery)

    def _hear(self) -> None:
        self._silence.deadline = trio.current_time() + self._patience.carried

    async def _have_carried(self, carrier: int, nursery: trio.Nursery) -> None:
        """Have one member do all of it; ask directly for what it does not bring."""
        errand, carried = self._errand, None
        try:
            async with self._committee.talk(carrier) as member:
                carried = await member.carry(
                    errand.signed,
                    self._certificate,
                    self._hear,
                    wants_shares=bool(errand.outputs),
                )
        except FAILURES as error:
            # An answer that came is worth as much if its circuit broke behind it.
            if carried is None:
                self._committee.trouble(carrier, error)
        if carried is not None:
            try:
                await self._take_carried(carrier, carried, nursery)
            except ProtocolError as error:
                self._committee.trouble(carrier, error)
        self._is_carried = False
        if not self._over.is_set():
            self._ask_directly(nursery)
            self._give_up_if_hopeless()

    async def _take_carried(self, carrier: int, carried: Carried, nursery: trio.Nursery) -> None:
        """Take what proves itself: tokens, which need no more, or right shares and the votes.

        Raises `ProtocolError` for what no honest member brings.
        """
        async with self._counting:
            self._news.set()
            errand, brought = self._errand, Brought(None)
            if any(errand.series.member(place) is None for place, _ in carried.shares):
                raise ProtocolError("it brings shares of nobody in the committee")
            if errand.outputs:
                random = self._committee.means.random(RANDOM_LENGTH)
                tally = self._new_tally()
                brought = await self._compute(look_at, carried.shares, tally, random)
            if brought.tokens is not None:
                self._finish(brought.tokens)
                return
            for place, shares in brought.right:
                self._tally.take(place, shares)
            if self._certificate is None:
                certificate = Certificate(errand.signed, carried.votes)
                check_certificate(certificate, errand.signed.request.network_id, errand.series)
                await self._keep(certificate)
            await self._make_tokens(nursery)
            self._blame(carrier, brought.wrong)

    def _blame(self, carrier: int, wrong: frozenset[int]) -> None:
        """Tell whose shares were wrong; of what was passed on either may be the liar."""
        if carrier in wrong:
            raise ProtocolError("it gave a wrong share of a signature")
        self._spare.sort(key=lambda place: (place in wrong, place == carrier))
        if self._errand.outputs:
            self._committee.doubt(carrier, sorted(wrong))

    # Asked directly.

    def _ask_directly(self, nursery: trio.Nursery) -> None:
        if self._is_direct:
            return
        self._is_direct = True
        self._silence.deadline = inf
        lacking = self._errand.series.quorum
        if self._certificate is not None:
            there = self._tally.members
            self._spare = [place for place in self._spare if place not in there]
            lacking -= len(there)
        for _ in range(lacking):
            self._ask_another(nursery)
        nursery.start_soon(self._hedge, nursery)

    def _ask_another(self, nursery: trio.Nursery) -> None:
        if self._spare:
            place = self._spare.pop(0)
            self._at_work.add(place)
            nursery.start_soon(self._member, place, nursery)

    async def _hedge(self, nursery: trio.Nursery) -> None:
        """Ask one more member whenever nothing was heard for a while."""
        while self._spare:
            self._news = trio.Event()
            with trio.move_on_after(self._patience.hedge) as waiting:
                await self._news.wait()
            if waiting.cancelled_caught:
                for place in self._waiting:
                    self._committee.note_slow(place)
                self._ask_another(nursery)

    async def _member(self, place: int, nursery: trio.Nursery) -> None:
        """See one member through, over several circuits if need be."""
        pause = self._patience.pause
        for attempt in range(self._patience.attempts):
            try:
                await self._visit(place, nursery)
            except Refusing as error:
                self._refusals[place] = str(error)
            except Conflicting as error:
                self._conflicts[place] = error.other
            except FAILURES as error:
                self._trouble(place, error)
                if not attempt:
                    self._ask_another(nursery)
                await trio.sleep(pause)
                pause *= 2
                continue
            break
        if place in self._refusals or place in self._conflicts:
            self._ask_another(nursery)
        self._at_work.discard(place)
        self._give_up_if_hopeless()

    async def _visit(self, place: int, nursery: trio.Nursery) -> None:
        """Have a member's vote and its shares, as far as they are wanted, over one circuit."""
        with self._answer_of(place):
            async with self._committee.talk(place) as member:
                if self._certificate is None:
                    await self._take_vote(await member.lock(self._errand.signed), nursery)
                self._waiting.discard(place)
                self._give_up_if_hopeless()
                await self._certified.wait()
                if self._errand.outputs and self._certificate is not None:
                    self._waiting.add(place)
                    shares = await member.issue(self._certificate)
                    await self._take_shares(place, shares, nursery)

    def _give_up_if_hopeless(self) -> None:
        """End it if nobody is left who could bring it on: those who voted only wait for others."""
        voted = set() if self._certificate else set(self._votes)
        if self._is_lost() or not (self._is_carried or self._at_work - voted):
            self._over.set()

    @contextmanager
    def _answer_of(self, place: int) -> Iterator[None]:
        """Count a member as waited for; a block that has an answer may end that before."""
        self._waiting.add(place)
        try:
            yield
        finally:
            self._waiting.discard(place)

    async def _take_vote(self, vote: Vote, nursery: trio.Nursery) -> None:
        """Count a vote. q of them make the certificate, which is kept before it is used."""
        async with self._counting:
            self._news.set()
            if self._certificate is not None:
                return
            self._votes[vote.member] = vote
            if len(self._votes) < self._errand.series.quorum:
                return
            try:
                made = make_certificate(
                    self._errand.signed, self._votes.values(), self._errand.series
                )
            except ValueError:
                # Some cannot stand together, as a member lost its memory or another says so.
                self._ask_another(nursery)
                return
            await self._keep(made)

    async def _keep(self, certificate: Certificate) -> None:
        """Keep a certificate, and go on with it."""
        try:
            await self._errand.certified(certificate)
        except ClientError as error:
            # What is not kept is not used; and no member is at fault.
            self._fault = error
            self._over.set()
            return
        self._certificate = certificate
        self._certified.set()
        if not self._errand.outputs:
            self._finish(())

    async def _take_shares(
        self, place: int, shares: Sequence[bytes], nursery: trio.Nursery
    ) -> None:
        """Count a member's shares; q right ones make the tokens."""
        async with self._counting:
            self._news.set()
            self._tally.take(place, shares)
            await self._make_tokens(nursery)

    async def _make_tokens(self, nursery: trio.Nursery) -> None:
        """Make tokens if there are shares enough; ask others in place of who gave wrong ones."""
        if not self._tally.is_full or self._over.is_set():
            return
        known = self._tally.wrong
        random = self._committee.means.random(RANDOM_LENGTH)
        tokens = await self._compute(self._tally.tokens, random)
        for liar in sorted(self._tally.wrong - known):
            error = ProtocolError("it gave a wrong share of a signature")
            self._trouble(liar, error)
            self._ask_another(nursery)
        if tokens is not None:
            self._finish(tokens)

    async def _compute(self, function: Callable[..., _T], *arguments: object) -> _T:
        if len(self._errand.outputs) > _SMALL:
            return await self._committee.means.blocking(function, *arguments)
        return function(*arguments)

    def _new_tally(self) -> Tally:
        errand = self._errand
        return Tally(errand.signed.request.network_id, errand.series, errand.outputs)

    def _finish(self, tokens: tuple[bytes, ...]) -> None:
        self._tokens = tokens
        self._over.set()

    def _trouble(self, place: int, error: Exception) -> None:
        self._troubles[place] = self._committee.trouble(place, error)

    def _is_lost(self) -> bool:
        """Tell whether so many said no that the others are no quorum, before a certificate."""
        faulty = self._errand.series.faulty
        return self._certificate is None and len(self._conflicts) + len(self._refusals) > faulty

    def _failure(self) -> MintError:
        faulty = self._errand.series.faulty
        if len(self._conflicts) > faulty:
            others = Counter(self._conflicts.values()).most_common()
            return LockedElsewhere(tuple(other for other, _ in others))
        reasons = "; ".join(
            f"{self._committee.name(place)}: {reason}"
            for place, reason in sorted((self._troubles | self._refusals).items())
        )
        if len(self._refusals) > faulty:
            return RequestRefused(f"the authorities refuse the request: {reasons}")
        return MintUnavailable(
            "too few authorities answered to complete a request; nothing is lost, and the next "
            f"`fog wallet` command goes on with it. {reasons or 'None answered in time'}"
        )
