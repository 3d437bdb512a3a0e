"""A node's wallet, filled once a day with what the node is allotted (spec/09 §8.2).

The time of day is the node's own. The wallet is open only meanwhile: at any other time it is free
for `fog wallet … --dir NODE`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from typing import Final

from fogbank.client.errors import ClientError
from fogbank.client.wallet.asking_shell import Means, MintOpener
from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.errors import WalletLocked
from fogbank.client.wallet.mint_client_shell import MintClient
from fogbank.client.wallet.mint_errors import MintUnavailable
from fogbank.client.wallet.own import Sign
from fogbank.client.wallet.payments_shell import Payments, allotted
from fogbank.client.wallet.store_shell import Wallet, wallet_exists
from fogbank.client.wallet.terms import Terms
from fogbank.directory.consensus import Consensus
from fogbank.directory.mint.requests import Request, SignedRequest, sign_withdrawal
from fogbank.directory.network import NetworkDocument
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home
from fogbank.nodes.wallet import VARIABLE, KnownMint, make_wallet, wallet_folder
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId, show_id
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.links_shell import contain
from fogbank.relay.waking_shell import Waking

log = logging.getLogger(__name__)

_LABEL: Final = b"fogbank-withdrawal-v1\0"


def next_slot(identity: NodeId, length: int, now: float) -> float:
    """Return when a node withdraws next: its own moment in each `length` seconds."""
    digest = hashlib.sha256(_LABEL + identity).digest()
    own = int.from_bytes(digest[:8], "big") % length
    return now + length - (now - own) % length


def withdrawal_signer(store: KeyStore) -> Sign:
    """Return what signs a node's withdrawals with its signing key of the day."""

    def sign(request: Request) -> SignedRequest:
        return sign_withdrawal(request, store.signing_key, store.chain.signing)

    return sign


class Withdrawals:
    """Withdraws for as long as the node runs; what fails is done the next time.

    `opener` opens streams to authorities' mints, `consensus` gives the newest one.
    """

    def __init__(
        self,
        home: Home,
        network: NetworkDocument,
        store: KeyStore,
        opener: MintOpener,
        consensus: Callable[[], Consensus | None],
        machine: Environment,
    ) -> None:
        self._home = home
        self._network = network
        self._store = store
        self._machine = machine
        self._consensus = consensus
        self._known = KnownMint(home, consensus, machine)
        means = Means(
            log.warning,
            self._name_of,
            machine.chooser,
            machine.clock,
            machine.random,
            blocking=machine.blocking,
        )
        self._mint = MintClient(opener, means)
        self._terms = Terms.of(network)
        self._withdrawn: dict[int, int] = {}
        self._complaint = ""

    async def run(self, waking: Waking) -> None:
        """Withdraw once a day; in a test network, once in the time of its first interval."""
        timing, clock = self._network.timing, self._machine.clock
        length = timing.first_interval if self._network.test else self._terms.calendar.day
        while True:
            await waking.sleep(next_slot(self._store.identity, length, clock()) - clock())
            await contain("withdrawing", self._try)

    async def _try(self) -> None:
        try:
            await self.withdraw()
        except (ClientError, RelayError, OSError) as error:
            self._complain(str(error))

    async def withdraw(self) -> None:
        """Withdraw what is allotted and not yet withdrawn; make a wallet if there is none."""
        amounts = self._allotted()
        if amounts == self._withdrawn or not amounts:
            return
        folder = wallet_folder(self._home)
        if not wallet_exists(folder):
            await self._machine.blocking(make_wallet, self._home, Role.NODE)
            log.info("a wallet was made: `fog wallet backup --dir` shows the words that restore it")
        with await self._machine.blocking(Wallet.open, folder, self._terms, _passphrase) as wallet:
            if self._consensus() is not None:
                now = int(self._machine.clock())
                await self._machine.blocking(wallet.expire, now)
            payments = Payments(wallet, self._mint, self._terms.calendar, self._known.state)
            settled = await payments.withdraw(self._store.identity, withdrawal_signer(self._store))
        if settled.tokens:
            log.info("%d tokens were withdrawn", settled.tokens)
        settled.raise_first()
        self._withdrawn, self._complaint = amounts, ""

    def _allotted(self) -> dict[int, int]:
        """Return what the node may withdraw now, by series: it tells whether anything is new."""
        try:
            state = self._known.state()
        except MintUnavailable:
            return {}
        now = self._machine.clock()
        return allotted(state, self._terms.calendar, self._store.identity, now)

    def _complain(self, sentence: str) -> None:
        if sentence != self._complaint:
            self._complaint = sentence
            log.warning("nothing was withdrawn now: %s", sentence)

    def _name_of(self, identity: NodeId) -> str:
        consensus = self._consensus()
        entry = consensus.by_identity(identity) if consensus is not None else None
        return entry.nickname if entry is not None else show_id(identity)


def _passphrase() -> str:
    known = os.environ.get(VARIABLE)
    if known is None:
        raise WalletLocked(
            f"the node's wallet is sealed: start the node with its passphrase in {VARIABLE}, or "
            "withdraw by hand with `fog wallet withdraw --dir`"
        )
    return known
