"""A wallet at work in its network, for one command (spec/09 §8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fogbank.client.wallet.asking_shell import Means
from fogbank.client.wallet.mint_client_shell import MintClient, mint_streams
from fogbank.client.wallet.payments_shell import Payments
from fogbank.client.wallet.store_shell import Wallet
from fogbank.client.wallet.terms import Terms
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home
from fogbank.nodes.user import Note, open_user
from fogbank.nodes.wallet import KnownMint


@asynccontextmanager
async def open_payments(
    home: Home, wallet: Wallet, terms: Terms, note: Note
) -> AsyncIterator[Payments]:
    """Open the network for one command's work at a wallet; errors as `open_user`'s."""
    machine = Environment()
    async with open_user(home, note, machine) as user:
        known = KnownMint(home, lambda: user.topology.consensus, machine)
        opener = mint_streams(user.builder, lambda: user.topology)
        mint = MintClient(opener, Means(note, user.name_of, machine.chooser))
        # Not before: a consensus that lives says that this machine's clock is right.
        await machine.blocking(wallet.expire, int(machine.clock()))
        yield Payments(wallet, mint, terms.calendar, known.state)
