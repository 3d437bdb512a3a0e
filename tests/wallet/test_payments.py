"""Wallets at work over a mint some of whose members fail: all is completed, nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.wallet.asking_shell import Means, MintOpener
from fogbank.client.wallet.errand_shell import Errand
from fogbank.client.wallet.errors import NotEnough, NotYet, WalletError
from fogbank.client.wallet.mint_client_shell import MintClient
from fogbank.client.wallet.mint_errors import LockedElsewhere, MintUnavailable
from fogbank.client.wallet.payments_shell import Payments
from fogbank.client.wallet.store_shell import Received, Wallet
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream
from tests.client.networks import SeededChooser
from tests.wallet.doubles import DoubleMint, Fault, at_once
from tests.wallet.model_mint import DAY, NODE, START, TERMS, new_wallet, sign

T = TypeVar("T")


class Knife:
    """Cuts a command off at the `moment`-th of its messages and writes."""

    def __init__(self, moment: int) -> None:
        self.left = moment
        self.scope = trio.CancelScope()

    @property
    def has_cut(self) -> bool:
        return self.left < 0

    def __call__(self) -> None:
        self.left -= 1
        if self.has_cut:
            self.scope.cancel()

    async def at_once(self, function: Callable[..., T], *arguments: object) -> T:
        self()
        result = await at_once(function, *arguments)
        self()
        return result

    def opener(self, inner: MintOpener) -> MintOpener:
        @asynccontextmanager
        async def opener(identity: NodeId) -> AsyncIterator[Stream]:
            async with inner(identity) as stream:
                yield CutStream(stream, self)

        return opener


class CutStream:
    """A stream that tells the knife of what was sent, and of what came."""

    def __init__(self, stream: Stream, knife: Knife) -> None:
        self._stream = stream
        self._knife = knife

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)
        self._knife()

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self._knife()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@dataclass
class Market:
    """A mint, and wallets of two people."""

    mint: DoubleMint
    folder: Path
    now: float = START
    said: list[str] = field(default_factory=list)
    wallets: dict[str, Wallet] = field(default_factory=dict)

    def wallet(self, name: str) -> Wallet:
        if name not in self.wallets:
            folder = self.folder / name
            if not folder.exists():
                new_wallet(folder, name[0].encode() * 16)
            self.wallets[name] = Wallet.open(folder, TERMS)
        return self.wallets[name]

    def at(self, name: str, knife: Knife | None = None) -> Payments:
        means = Means(
            self.said.append,
            lambda identity: f"authority{self.mint.member_of(identity).place}",
            SeededChooser(name),
            clock=lambda: self.now,
            blocking=at_once if knife is None else knife.at_once,
        )
        opener = self.mint.open if knife is None else knife.opener(self.mint.open)
        client = MintClient(opener, means)
        return Payments(self.wallet(name), client, TERMS.calendar, lambda: self.mint.state)

    def kill(self, name: str) -> None:
        """Let a wallet be opened anew from the disk."""
        self.wallets.pop(name).close()

    def ready(self, name: str) -> int:
        return self.wallet(name).balance(int(self.now)).ready

    async def fill(self, name: str, amount: int) -> None:
        """Withdraw so much, and let it rest."""
        self.mint.allot(NODE, 0, amount)
        settled = await self.at(name).withdraw(NODE, sign)
        assert (settled.tokens, settled.troubles) == (amount, [])
        self.now += TERMS.rest


@asynccontextmanager
async def a_market(folder: Path) -> AsyncIterator[Market]:
    async with trio.open_nursery() as nursery:
        market = Market(DoubleMint(now=START), folder)
        market.mint.nursery = nursery
        yield market
        for wallet in market.wallets.values():
            wallet.close()
        nursery.cancel_scope.cancel()


async def test_what_is_allotted_is_withdrawn_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_market(tmp_path) as market:
        await market.fill("alice", 77)
        assert market.ready("alice") == 77
        again = await market.at("alice").withdraw(NODE, sign)
        assert (again.tokens, market.ready("alice")) == (0, 77)
        market.mint.allot(NODE, 0, 80)
        assert (await market.at("alice").withdraw(NODE, sign)).tokens == 3
        assert market.at("alice").allotted(NODE) == {0: 80}


async def test_more_is_withdrawn_than_may_wait_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_market(tmp_path) as market:
        await market.fill("alice", 330)
        assert market.ready("alice") == 330


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.SILENT, Fault.WRONG_SHARES, Fault.BUSY])
async def test_a_payment_goes_through_with_one_authority_faulty(
    fault: Fault, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_market(tmp_path) as market:
        market.mint.members[2].faults.add(fault)
        await market.fill("alice", 20)
        invoice = market.wallet("bob").invoice(11, int(market.now) + DAY, int(market.now))
        number = await market.at("alice").pay(invoice)
        cheque = market.wallet("alice").cheque(number)
        received, settled = await market.at("bob").receive(cheque)
        assert (received, settled.tokens) == (Received(11, 0), 11)
        again, settled = await market.at("bob").receive(cheque)
        assert (again, settled.tokens) == (Received(0, 11), 0)
        market.now += TERMS.rest
        assert (market.ready("alice"), market.ready("bob")) == (9, 11)


async def test_what_the_network_did_not_complete_is_completed_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_market(tmp_path) as market:
        await market.fill("alice", 8)
        for member in market.mint.members[:2]:
            member.faults.add(Fault.DOWN)
        invoice = market.wallet("bob").invoice(5, int(market.now) + DAY, int(market.now))
        with pytest.raises(MintUnavailable, match="nothing is lost"):
            await market.at("alice").pay(invoice)
        with pytest.raises(NotYet):
            market.wallet("alice").cheque(1)
        # Whoever runs the command again pays once.
        for member in market.mint.members:
            member.faults.clear()
        number = await market.at("alice").pay(invoice)
        cheque = market.wallet("alice").cheque(number)
        for member in market.mint.members[2:]:
            member.faults.add(Fault.DOWN)
        received, settled = await market.at("bob").receive(cheque)
        assert (received.counted, settled.tokens, len(settled.troubles)) == (5, 0, 2)
        assert market.wallet("bob").balance(int(market.now)).on_its_way == 5
        for member in market.mint.members:
            member.faults.clear()
        settled = await market.at("bob").settle()
        assert (settled.tokens, settled.troubles) == (5, [])
        market.now += TERMS.rest
        assert (market.ready("alice"), market.ready("bob")) == (3, 5)


async def test_wherever_it_is_cut_off_the_next_command_completes_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Cut off at each event in turn; what is on the disk goes on, and no token is lost or made."""
    async with a_market(tmp_path) as market:
        await market.fill("alice", 256)
        spent = 0
        for moment in range(0, 200, 5):
            now = int(market.now)
            invoice = market.wallet("bob").invoice(3, now + DAY, now)
            paying = Knife(moment)
            with paying.scope:
                await market.at("alice", paying).pay(invoice)
            market.kill("alice")
            assert (await market.at("alice").settle()).troubles == []
            number = await market.at("alice").pay(invoice)
            cheque = market.wallet("alice").cheque(number)
            taking = Knife(moment)
            with taking.scope:
                await market.at("bob", taking).receive(cheque)
            market.kill("bob")
            received, settled = await market.at("bob").receive(cheque)
            assert received.counted + received.again == 3
            assert (await market.at("bob").settle()).troubles == settled.troubles == []
            spent += 3
            if not (paying.has_cut or taking.has_cut):
                break
        else:
            pytest.fail("it was always cut off: look at more moments")
        market.now += TERMS.rest
        assert (market.ready("alice"), market.ready("bob")) == (256 - spent, spent)
        assert market.said == []


async def test_tokens_that_rest_are_not_spent(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with a_market(tmp_path) as market:
        await market.fill("alice", 4)
        market.mint.allot(NODE, 0, 6)
        await market.at("alice").withdraw(NODE, sign)
        invoice = market.wallet("bob").invoice(5, int(market.now) + DAY, int(market.now))
        with pytest.raises(NotEnough) as caught:
            await market.at("alice").pay(invoice)
        assert (caught.value.ready, caught.value.resting) == (4, 2)
        assert caught.value.until == market.now + TERMS.rest


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.WRONG_SHARES])
async def test_words_bring_back_what_is_there_whatever_one_authority_does(
    fault: Fault, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_market(tmp_path) as market:
        market.mint.members[1].faults.add(fault)
        await market.fill("alice", 40)
        invoice = market.wallet("bob").invoice(6, int(market.now) + DAY, int(market.now))
        number = await market.at("alice").pay(invoice)
        await market.at("bob").receive(market.wallet("alice").cheque(number))
        # Another one of the same words, in another folder.
        count, settled = await market.at("alice again").restore(NODE)
        assert (count, settled.troubles) == (34, [])
        market.now += TERMS.rest
        assert market.ready("alice again") == 34
        assert (await market.at("alice again").withdraw(NODE, sign)).tokens == 0
        # What the old one still has is of no use to it any more.
        invoice = market.wallet("bob").invoice(1, int(market.now) + DAY, int(market.now))
        with pytest.raises(LockedElsewhere, match="same words"):
            await market.at("alice").pay(invoice)
        assert market.wallet("alice").unfinished() == ()
        assert market.ready("alice again") == 34


async def test_a_request_that_few_members_know_keeps_no_wallet_from_being_restored(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """One member is down, and another one never saw the request: one that has it is enough."""
    async with a_market(tmp_path) as market:
        await market.fill("alice", 8)
        invoice = market.wallet("bob").invoice(3, int(market.now) + DAY, int(market.now))
        await market.at("alice").pay(invoice)
        asked = set(market.mint.opened[-3:])
        voter = next(each for each in market.mint.members if each.identity in asked)
        voter.faults.add(Fault.DOWN)
        count, settled = await market.at("alice again").restore(NODE)
        assert (count, settled.troubles) == (5, [])
        market.now += TERMS.rest
        assert market.ready("alice again") == 5


async def test_whatever_a_wallet_says_of_a_conflict_others_go_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_market(tmp_path) as market:
        await market.fill("alice", 3)
        invoice = market.wallet("bob").invoice(3, int(market.now) + DAY, int(market.now))
        payment = market.wallet("alice").pay(invoice, int(market.now))

        def beaten(*_: object) -> None:
            raise WalletError("the disk is full")

        async def carry(errand: Errand) -> tuple[bytes, ...]:
            if errand.signed.request.digest() == payment.requests[0]:
                raise LockedElsewhere((errand.signed.encode(),))
            return await MintClient.carry(client, errand)

        alice = market.at("alice")
        client = alice._mint
        monkeypatch.setattr(client, "carry", carry)
        monkeypatch.setattr(market.wallet("alice"), "beaten", beaten)
        settled = await alice.settle()
        assert list(map(type, settled.troubles)) == [LockedElsewhere]
        assert [each.id for each in market.wallet("alice").unfinished()] == [payment.requests[0]]
