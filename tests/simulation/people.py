"""People with wallets: they withdraw, pay each other by cheques, and die at any write (spec/09 §8).

Whoever is about to die has all on the disk that was sent. A cheat signs two requests for each of
its tokens and shows them to the authorities in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from fogbank.client.errors import ClientError
from fogbank.client.wallet.asking_shell import FAILURES, Conflicting, Means
from fogbank.client.wallet.derivation import Role as WalletRole
from fogbank.client.wallet.errand_shell import Errand
from fogbank.client.wallet.errors import NotEnough, WalletError
from fogbank.client.wallet.mint_client_shell import MintClient, mint_streams
from fogbank.client.wallet.payments_shell import Payments
from fogbank.client.wallet.store_shell import Wallet, wallet_exists
from fogbank.client.wallet.terms import Terms
from fogbank.directory.descriptor import Role
from fogbank.directory.mint.certificates import Certificate, Vote, make_certificate
from fogbank.directory.mint.cheques import cheque_from_text
from fogbank.directory.mint.points import blind, encode_point, hash_token, wide
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Swap,
    Token,
    Withdrawal,
    sign_swap,
    sign_withdrawal,
)
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.nodes.wallet import KnownMint, wallet_folder
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import Ed25519Key
from tests.simulation.actors import Actor, kinds
from tests.simulation.chance import Chance
from tests.simulation.work import solve

if TYPE_CHECKING:
    from tests.simulation.world import World

_POSTED = 2
"""Invoices of one person that wait to be paid."""
_GOOD_SECONDS = 1800
_GONE = (ClientError, RelayError, OSError, trio.BrokenResourceError)


class PersonActor(Actor):
    """Somebody with a wallet and an allotment."""

    role = Role.WORKER

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name, host)
        self.user: User | None = None
        self.successes = 0
        """Cheques that were received."""
        self.misled = 0
        self.held = 0
        """Tokens in the wallet when it was looked at last: no more are in it than that."""
        self.is_idle = False
        """Whether nothing of its own was under way when that was."""
        self._wallet: Wallet | None = None

    async def live(self) -> None:
        home = self.home()
        terms = Terms.of(home.network())
        folder = wallet_folder(home)
        if not wallet_exists(folder):
            words = Chance(self.world.seed, self.name, "words").randbytes
            network_id = home.network().network_id
            await self.on_disk(Wallet.create, folder, network_id, WalletRole.CLIENT, None, words)
        random = Chance(self.world.seed, self.name, "wallet", self.lives).randbytes
        with Wallet.open(folder, terms, random=random) as wallet, self._at_work(wallet):
            while True:
                try:
                    await self._open(home, wallet, terms)
                except* ClientError as errors:
                    self.world.trace.note("no user", f"{self.name}: {kinds(errors)}")
                finally:
                    self.user = None
                await trio.sleep(3.0)

    async def _open(self, home: Home, wallet: Wallet, terms: Terms) -> None:
        machine = self.machine()
        async with open_user(self.home(), lambda _: None, machine) as user:
            self.user = user
            known = KnownMint(home, lambda: user.topology.consensus, machine)
            opener = mint_streams(user.builder, lambda: user.topology)
            client = MintClient(opener, self._means(user, machine.random))
            payments = Payments(wallet, client, terms.calendar, known.state)
            while True:
                await trio.sleep(self.chance.uniform(1.0, 8.0))
                await self.once(payments, wallet)

    def _means(self, user: User, random: object) -> Means:
        return Means(
            lambda _: None,
            user.name_of,
            self.chance,
            self.clock,
            random,  # type: ignore[arg-type]
            solve=solve,
            blocking=self.on_disk,
        )

    @contextmanager
    def _at_work(self, wallet: Wallet) -> Iterator[None]:
        self._wallet = wallet
        self.look()
        try:
            yield
        finally:
            self.look()
            self._wallet = None

    def look(self) -> None:
        """Count what is in the wallet now; a process that died has left it as it is."""
        if self._wallet is not None:
            tokens = self._wallet.tokens()
            self.held = sum(not each.locked for each in tokens)
            letters = self.world.market.letters.get(self.name)
            open_payments = [each for each in self._wallet.payments() if not each.handed_over]
            self.is_idle = not (self._wallet.unfinished() or letters or open_payments)

    async def once(self, payments: Payments, wallet: Wallet) -> None:
        """Complete what is under way, take what came, pay somebody."""
        now = int(self.clock())
        try:
            await payments.settle()
            store = self.home().keys(self.clock())
            await payments.withdraw(
                self.identity,
                lambda request: sign_withdrawal(request, store.signing_key, store.chain.signing),
            )
            await self._hand_over(wallet, now)
            await self._receive(payments)
            if self.world.is_trading:
                await self._post(wallet, now)
                await self._pay(payments)
        except* _GONE as errors:
            self.world.trace.note("no payment", f"{self.name}: {kinds(errors)}")

    async def _post(self, wallet: Wallet, now: int) -> None:
        market = self.world.market
        if sum(payee == self.name for payee, _ in market.invoices) < _POSTED:
            amount = self.chance.randint(1, 5)
            invoice = await self.on_disk(wallet.invoice, amount, now + _GOOD_SECONDS, now)
            market.invoices.append((self.name, invoice))
            market.payees |= dict.fromkeys(invoice.outputs, self.name)

    async def _pay(self, payments: Payments) -> None:
        market = self.world.market
        others = [each for each in market.invoices if each[0] != self.name]
        if not others:
            return
        chosen = self.chance.choice(others)
        # It was taken by its payer, whatever becomes of that.
        market.invoices.remove(chosen)
        try:
            number = await payments.pay(chosen[1])
        except NotEnough:
            market.invoices.append(chosen)
        else:
            self.world.trace.note("paid", f"{self.name} to {chosen[0]}: {number}")

    async def _hand_over(self, wallet: Wallet, now: int) -> None:
        """Send cheques; one may be sent again, if its payer died in the midst of it."""
        for payment in wallet.payments():
            if payment.handed_over:
                continue
            try:
                cheque = wallet.cheque(payment.number)
            except WalletError:
                continue
            for certificate in cheque.certificates:
                self.world.market.certified(certificate)
            payee = self.world.market.payees[cheque.outputs()[0]]
            self.world.market.letters.setdefault(payee, []).append(cheque.text())
            await self.on_disk(wallet.handed_over, payment.number, now)

    async def _receive(self, payments: Payments) -> None:
        letters = self.world.market.letters.get(self.name, [])
        while letters:
            received, _ = await payments.receive(cheque_from_text(letters[0]))
            self.successes += bool(received.counted)
            self.world.trace.note("received", f"{self.name}: {received.counted}")
            self.world.trace.counts["cheques"] += bool(received.counted)
            del letters[0]


class CheatActor(PersonActor):
    """Somebody who signs two requests for each token."""

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name, host)
        self._unit = 0

    @property
    def honest(self) -> bool:
        return False

    def look(self) -> None:
        """Have nothing that counts."""
        self.is_idle = True

    async def once(self, payments: Payments, wallet: Wallet) -> None:  # noqa: ARG002
        """Withdraw a token, and try to spend it twice."""
        if not self.world.is_trading or self._unit >= self.world.market.granted[self.identity]:
            return
        client, state = payments._mint, payments._state
        try:
            series = state().series[0]
            token, key = await self._withdraw(client, series.number, payments)
            requests = [self._spend(token, key, series.number) for _ in range(2)]
            votes: list[dict[int, Vote]] = [{}, {}]
            committee = client.committee(series)
            places = [(at, place) for at in (0, 1) for place in range(1, len(series.members) + 1)]
            self.chance.shuffle(places)
            for at, place in places:
                try:
                    async with committee.talk(place) as talk:
                        votes[at][place] = await talk.lock(requests[at])
                except (Conflicting, *FAILURES):
                    continue
            self.world.trace.counts["cheated"] += 1
            for signed, given in zip(requests, votes, strict=True):
                if len(given) >= series.quorum:
                    made = make_certificate(signed, given.values(), series)
                    self.world.market.certified(made)
        except* (ValueError, IndexError, *_GONE) as errors:
            self.world.trace.note("no cheating", f"{self.name}: {kinds(errors)}")

    async def _withdraw(
        self, client: MintClient, number: int, payments: Payments
    ) -> tuple[Token, Ed25519Key]:
        series = payments._series(number)
        store = self.home().keys(self.clock())
        output = _Output(self.world.network.network_id, self.chance)
        source = Withdrawal(self.identity, self._unit, 1)
        self._unit += 1
        request = Request(self.world.network.network_id, number, source, (output.blinded,))
        signed = sign_withdrawal(request, store.signing_key, store.chain.signing)

        async def certified(certificate: Certificate) -> None:
            await trio.lowlevel.checkpoint()
            self.world.market.certified(certificate)

        (signature,) = await client.carry(Errand(series, signed, None, (output,), certified))
        return Token(output.serial, signature), output.key

    def _spend(self, token: Token, key: Ed25519Key, series: int) -> SignedRequest:
        network_id = self.world.network.network_id
        blinded = _Output(network_id, self.chance).blinded
        return sign_swap(Request(network_id, series, Swap((token,)), (blinded,)), [key])


class _Output:
    """An output of a cheat's, which keeps nothing."""

    def __init__(self, network_id: bytes, chance: Chance) -> None:
        self.key = Ed25519Key(chance.randbytes(32))
        self.serial = self.key.public
        self.blind = wide(chance.randbytes(64))
        self.blinded = encode_point(blind(hash_token(network_id, self.serial), self.blind))
