"""A node's own withdrawals: once each, at its own time, as soon as there is something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.wallet.errors import WalletBusy
from fogbank.client.wallet.mint_errors import MintUnavailable
from fogbank.client.wallet.store_shell import Wallet
from fogbank.client.wallet.terms import Terms
from fogbank.directory.consensus import Consensus
from fogbank.directory.mint.state import Allotment, MintState
from fogbank.directory.network import NetworkDocument, Timing
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home
from fogbank.nodes.wallet import wallet_folder
from fogbank.nodes.withdrawals import Withdrawals, next_slot
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.waking_shell import Waking
from tests.client.networks import SeededChooser
from tests.mint.curve import NETWORK
from tests.wallet.doubles import DoubleMint, Fault, at_once

START = 1_800_000_000
DOCUMENT = NetworkDocument(NETWORK, "test", 1, (), Timing(START, 600, 30, 20, 3), test=True)


@dataclass
class Known:
    """As much of a consensus as withdrawals look at."""

    mint: MintState | None = None

    def by_identity(self, _: bytes) -> None:
        return None


@dataclass
class Place:
    """A node's home, and what withdraws there."""

    home: Home
    store: KeyStore
    mint: DoubleMint
    known: Known = field(default_factory=Known)
    now: float = START + 1.0

    def withdrawals(self) -> Withdrawals:
        machine = Environment(
            clock=lambda: self.now, chooser=SeededChooser("node"), blocking=at_once
        )
        consensus = cast("Consensus", self.known)
        return Withdrawals(
            self.home, DOCUMENT, self.store, self.mint.open, lambda: consensus, machine
        )

    def grant(self, amount: int) -> None:
        self.mint.allot(self.store.identity, 0, amount)
        self.known.mint = self.mint.state

    def tokens(self) -> int:
        with Wallet.open(wallet_folder(self.home), Terms.of(DOCUMENT), read_only=True) as wallet:
            found = wallet.balance(int(self.now))
        return found.ready + found.resting


class HomeIn(Home):
    """A home whose network needs no file."""

    def network(self) -> NetworkDocument:
        return DOCUMENT


@asynccontextmanager
async def a_place(folder: Path) -> AsyncIterator[Place]:
    home = HomeIn(folder / "node")
    store = KeyStore.create(home.folder / "keys", START)
    async with trio.open_nursery() as nursery:
        place = Place(home, store, DoubleMint(now=START + 1.0))
        place.mint.nursery = nursery
        yield place
        nursery.cancel_scope.cancel()


async def test_what_is_granted_is_withdrawn_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with a_place(tmp_path) as place:
        withdrawals = place.withdrawals()
        await withdrawals.withdraw()
        place.known.mint = MintState()
        await withdrawals.withdraw()
        assert not wallet_folder(place.home).exists(), "nothing is there to be withdrawn"
        # Granted before the series has keys: there is nothing to be done yet, but later.
        place.known.mint = MintState(allotments=(Allotment(place.store.identity, 0, 7),))
        await withdrawals.withdraw()
        place.grant(7)
        await withdrawals.withdraw()
        assert place.tokens() == 7
        asked = len(place.mint.opened)
        await withdrawals.withdraw()
        await place.withdrawals().withdraw()
        assert (place.tokens(), len(place.mint.opened)) == (7, asked)
        place.grant(10)
        await withdrawals.withdraw()
        assert place.tokens() == 10


async def test_the_newest_state_counts_where_a_consensus_has_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_place(tmp_path) as place:
        place.grant(3)
        await place.withdrawals().withdraw()
        place.grant(8)
        with held(place), pytest.raises(WalletBusy):
            await place.withdrawals().withdraw()
        place.known.mint = None
        # A node that was started again.
        await place.withdrawals().withdraw()
        assert place.tokens() == 8


async def test_whatever_fails_the_node_lives_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_place(tmp_path) as place:
        withdrawals, tries = place.withdrawals(), []

        async def withdraw() -> None:
            tries.append(trio.current_time())
            raise ExceptionGroup("several", [OSError(28, "no space"), KeyError("a fault")])

        monkeypatch.setattr(withdrawals, "withdraw", withdraw)
        with trio.move_on_after(10):
            await withdrawals.run(Waking(lambda: START + trio.current_time()))
        assert len(tries) >= 3


def held(place: Place) -> Wallet:
    """Hold the wallet as another process does."""
    return Wallet.open(wallet_folder(place.home), Terms.of(DOCUMENT))


async def test_what_fails_is_done_the_next_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with a_place(tmp_path) as place:
        withdrawals = place.withdrawals()
        place.grant(5)
        for member in place.mint.members[:2]:
            member.faults.add(Fault.DOWN)
        with pytest.raises(MintUnavailable):
            await withdrawals.withdraw()
        assert place.tokens() == 0
        for member in place.mint.members:
            member.faults.clear()
        with held(place), pytest.raises(WalletBusy):
            await withdrawals.withdraw()
        await withdrawals.withdraw()
        assert place.tokens() == 5


def test_a_test_network_without_a_warm_up_has_its_times_too() -> None:
    bare = replace(DOCUMENT, timing=Timing(START, 600, 30))
    assert (Terms.of(bare).rest, bare.timing.first_interval) == (30, 30)
    assert (Terms.of(DOCUMENT).rest, DOCUMENT.timing.first_interval) == (3, 3)


def test_a_node_has_its_own_time_of_day() -> None:
    times = set()
    for number in range(50):
        identity = bytes([number]) * 32
        first = next_slot(identity, 86_400, START)
        assert START < first <= START + 86_400
        assert next_slot(identity, 86_400, first) == first + 86_400
        assert next_slot(identity, 86_400, first - 0.5) == first
        times.add(first)
    assert len(times) == 50
    assert max(times) - min(times) > 43_200
