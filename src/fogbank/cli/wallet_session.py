"""Where a `fog wallet` command works: which home, which wallet, the network if it needs it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from fogbank.cli.home import user_home
from fogbank.cli.output import note
from fogbank.cli.passphrase import read_passphrase
from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.errors import NoWallet, WalletBusy
from fogbank.client.wallet.store_shell import Wallet, wallet_exists
from fogbank.client.wallet.terms import Terms
from fogbank.nodes.home import Home, HomeError
from fogbank.nodes.wallet import make_wallet, wallet_folder

if TYPE_CHECKING:
    from fogbank.client.wallet.payments_shell import Payments, Settled

_T = TypeVar("_T")
_BUSY_SECONDS = 20.0
_BUSY_PAUSE = 0.1


class Desk:
    """A home's wallet, as one command uses it: the user's own, or that of the node in `node`."""

    def __init__(self, node: Path | None, descriptor: int | None = None) -> None:
        self.home = user_home() if node is None else Home(node.absolute())
        self.role = Role.CLIENT if node is None else Role.NODE
        self._descriptor = descriptor
        self._passphrase: str | None = None
        if node is not None and not (self.home.folder / "node.toml").exists():
            raise HomeError(f"{node} holds no node: name its folder with --dir")
        self.terms = Terms.of(self.home.network())
        self.folder = wallet_folder(self.home)

    @property
    def has_wallet(self) -> bool:
        """Whether there is a wallet."""
        return wallet_exists(self.folder)

    def make(self, entropy: bytes | None = None) -> None:
        """Make a wallet, of new words or of these."""
        make_wallet(self.home, self.role, entropy)

    def passphrase(self) -> str:
        """Return the passphrase of the wallet, asked for once if need be."""
        if self._passphrase is None:
            self._passphrase = read_passphrase(self._descriptor)
        return self._passphrase

    @contextmanager
    def reading(self) -> Iterator[tuple[Wallet, int]]:
        """Open the wallet to look at it, also while another process works at it; and the time."""
        if not self.has_wallet:
            raise NoWallet(
                f"there is no wallet in {self.home.folder} yet: `fog wallet receive` makes one, "
                "`fog wallet restore` makes it from words"
            )
        with Wallet.open(self.folder, self.terms, self.passphrase, read_only=True) as wallet:
            yield wallet, int(time.time())

    @contextmanager
    def writing(self, *, make: bool = True) -> Iterator[Wallet]:
        """Open the wallet to work at it; `make` one if there is none."""
        if make and not self.has_wallet:
            self.make()
            note(
                "a wallet was made: write down the words that `fog wallet backup` shows, as they "
                "alone bring its tokens back"
            )
        with self._open() as wallet:
            yield wallet

    def _open(self) -> Wallet:
        """Open the wallet; a node, or another command, that is at work at it is waited for."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return Wallet.open(self.folder, self.terms, self.passphrase)
            except WalletBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE)

    def work(self, task: Callable[[Payments], Awaitable[_T]], *, make: bool = True) -> _T:
        """Open the wallet and the network, and do the task."""
        from fogbank.nodes.wallet_work import open_payments

        async def work() -> _T:
            async with open_payments(self.home, wallet, self.terms, note) as payments:
                return await task(payments)

        with self.writing(make=make) as wallet:
            return trio.run(work)


def tell(settled: Settled) -> None:
    """Say what could not be completed now."""
    for sentence in dict.fromkeys(map(str, settled.troubles)):
        note(sentence)
