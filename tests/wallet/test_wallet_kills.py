"""Whatever two wallets do, and wherever they are killed, no token is lost and none doubled."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.errors import NotEnough, NotYet
from fogbank.client.wallet.records import Purpose
from fogbank.client.wallet.store_shell import Wallet
from fogbank.directory.mint.cheques import Cheque
from tests.mint.curve import NETWORK
from tests.wallet.model_mint import DAY, NODE, START, TERMS, ModelMint, new_wallet, sign
from tests.wallet.mortal import Killed, mortal

NAMES = ("alice", "bob")
WHO = st.sampled_from(NAMES)
MEMBERS = st.sets(st.integers(0, 3)).map(sorted)
DEATHS = st.none() | st.tuples(st.integers(0, 3), st.booleans())
"""After how many writes it comes, and whether the last one is on the disk."""


class Wallets(RuleBasedStateMachine):
    """Two wallets that withdraw, pay and swap, at a mint of which some members answer."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fogbank-wallets-"))
        self.mint = ModelMint()
        self.now = START
        self.cheques: list[tuple[str, Cheque]] = []
        self.allotted: dict[int, int] = {}
        self.wallets: dict[str, Wallet] = {}
        for name in NAMES:
            new_wallet(self.folder / name, name[:1].encode() * 16)
            self.wallets[name] = Wallet.open(self.folder / name, TERMS)

    def do(
        self, who: str, death: tuple[int, bool] | None, action: Callable[[Wallet], None]
    ) -> None:
        """Let a wallet do something; if it is killed meanwhile, begin it again."""
        if death is None:
            action(self.wallets[who])
            return
        lives, after = death
        try:
            with mortal(lives, after=after):
                action(self.wallets[who])
        except Killed:
            self.wallets[who].close()
            self.wallets[who] = Wallet.open(self.folder / who, TERMS)

    @rule(more=st.integers(1, 7), death=DEATHS)
    def withdraw(self, more: int, death: tuple[int, bool] | None) -> None:
        series = TERMS.calendar.current(self.now)
        amount = self.allotted[series] = self.allotted.get(series, 0) + more

        def action(wallet: Wallet) -> None:
            while wallet.withdraw(series, NODE, amount, sign, self.now):
                pass

        self.do("alice", death, action)

    @rule(who=WHO, amount=st.integers(1, 11), death=DEATHS)
    def pay(self, who: str, amount: int, death: tuple[int, bool] | None) -> None:
        (other,) = {*NAMES} - {who}
        invoice = self.wallets[other].invoice(amount, self.now + DAY, self.now)

        def action(wallet: Wallet) -> None:
            with suppress(NotEnough):
                wallet.pay(invoice, self.now)

        self.do(who, death, action)

    @rule(who=WHO, everything=st.booleans(), death=DEATHS)
    def refresh(self, who: str, everything: bool, death: tuple[int, bool] | None) -> None:
        self.do(who, death, lambda wallet: void(wallet.refresh(self.now, everything=everything)))

    @rule(who=WHO, voters=MEMBERS, issuers=MEMBERS, death=DEATHS)
    def work(
        self, who: str, voters: list[int], issuers: list[int], death: tuple[int, bool] | None
    ) -> None:
        def action(wallet: Wallet) -> None:
            for request in wallet.unfinished():
                if not request.certificate:
                    self.mint.vote(request, wallet, self.now, voters)
            for request in wallet.unfinished():
                if request.wants_shares:
                    self.mint.shares(request, wallet, self.now, issuers)

        self.do(who, death, action)

    @rule(who=WHO, members=MEMBERS, death=DEATHS)
    def carried(self, who: str, members: list[int], death: tuple[int, bool] | None) -> None:
        """Have tokens without a certificate before them, as from a member that carries."""

        def action(wallet: Wallet) -> None:
            for request in wallet.unfinished():
                if request.purpose is not Purpose.PAYMENT:
                    self.mint.carry(request, wallet, self.now, members)

        self.do(who, death, action)

    @rule(who=WHO, death=DEATHS)
    def hand_over(self, who: str, death: tuple[int, bool] | None) -> None:
        (other,) = {*NAMES} - {who}

        def action(wallet: Wallet) -> None:
            for payment in wallet.payments():
                try:
                    cheque = wallet.cheque(payment.number)
                except NotYet:
                    continue
                self.cheques.append((other, cheque))
                wallet.handed_over(payment.number, self.now)

        self.do(who, death, action)

    @rule(which=st.integers(0, 1 << 16), death=DEATHS)
    def receive(self, which: int, death: tuple[int, bool] | None) -> None:
        if self.cheques:
            who, cheque = self.cheques[which % len(self.cheques)]
            state = self.mint.state(self.now)
            self.do(who, death, lambda wallet: void(wallet.receive(cheque, state, self.now)))

    @rule(hours=st.integers(1, 8))
    def wait(self, hours: int) -> None:
        self.now += hours * DAY // 24

    def teardown(self) -> None:
        for name in NAMES:
            self.work(name, [0, 1, 2, 3], [0, 1, 2, 3], None)
            self.hand_over(name, None)
        for who, cheque in self.cheques:
            self.wallets[who].receive(cheque, self.mint.state(self.now), self.now)
        for wallet in self.wallets.values():
            self.mint.drive(wallet, self.now)
        self.audit()
        self.restore()
        for wallet in self.wallets.values():
            wallet.close()
        shutil.rmtree(self.folder)

    def restore(self) -> None:
        """Words alone give what the wallet that was killed so often has."""
        folder = self.folder / "restored"
        Wallet.create(folder, NETWORK, Role.CLIENT, b"a" * 16)
        with Wallet.open(folder, TERMS) as wallet:
            self.mint.restore(wallet, self.now, (0, 1, 3))
            # What too few of those asked had issued is asked for again.
            self.mint.drive(wallet, self.now)
            found = {(token.serial, token.signature) for token in wallet.tokens()}
            alice = self.wallets["alice"]
            assert found == {(token.serial, token.signature) for token in alice.tokens()}
            assert wallet.unfinished() == ()

    def audit(self) -> None:
        """All that was withdrawn is in the wallets, once, and unspent."""
        tokens = [token for each in self.wallets.values() for token in each.tokens()]
        assert len({token.serial for token in tokens}) == len(tokens)
        assert not any(self.mint.is_spent(token.serial) for token in tokens)
        assert len(tokens) == self.mint.withdrawn()
        for wallet in self.wallets.values():
            found = wallet.balance(self.now)
            assert found.on_its_way == found.leaving == 0
        noted = [entry for each in self.wallets.values() for entry in each.history()]
        assert all(entry.kind in {"withdrew", "paid", "received"} for entry in noted)
        assert sum(entry.amount for entry in noted if entry.kind == "withdrew") == len(tokens)


def void(_: object) -> None:
    """Return nothing."""


TestWallets = Wallets.TestCase
TestWallets.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
