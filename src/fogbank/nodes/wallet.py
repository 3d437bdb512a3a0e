"""A home's wallet: where it is, and what is known there of the mint (spec/09 §8).

wallet/     the wallet itself
mint-state  the newest state of the mint that a consensus brought
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.mint_errors import MintUnavailable
from fogbank.client.wallet.store_shell import Wallet
from fogbank.directory.mint.state import MintState, state_from_value
from fogbank.nodes.home import Home, HomeError
from fogbank.relay.codec import decode
from fogbank.relay.errors import ProtocolError

if TYPE_CHECKING:
    # Looking at a wallet loads no network.
    from fogbank.directory.consensus import Consensus
    from fogbank.nodes.environment import Environment

_STATE_LIMIT = 16 << 20
VARIABLE = "FOG_WALLET_PASSPHRASE"
"""The variable of the environment that may hold a wallet's passphrase."""


class KnownMint:
    """The newest state of the mint that a home has seen; kept, as not each consensus has one."""

    def __init__(
        self, home: Home, consensus: Callable[[], Consensus | None], environment: Environment
    ) -> None:
        self._path = home.folder / "mint-state"
        self._consensus = consensus
        self._write = environment.write
        self._state: MintState | None = None

    def state(self) -> MintState:
        """Return it; raise `MintUnavailable` if no consensus had one yet."""
        consensus = self._consensus()
        newest = consensus.mint if consensus is not None else None
        if newest is not None and newest != self._state:
            self._write(self._path, newest.encode())
            self._state = newest
        if self._state is None:
            self._state = self._read()
        if self._state is None:
            raise MintUnavailable(
                "this network's authorities have made no keys for credit yet: try again after the "
                "next consensus"
            )
        return self._state

    def _read(self) -> MintState | None:
        try:
            with self._path.open("rb") as file:
                return state_from_value(decode(file.read(_STATE_LIMIT), _STATE_LIMIT))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HomeError(f"{self._path} cannot be read: {error.strerror}") from error
        except ProtocolError:
            # Damaged: the next consensus that has a state takes its place.
            return None


def wallet_folder(home: Home) -> Path:
    """Return where a home's wallet is."""
    return home.folder / "wallet"


def make_wallet(home: Home, role: Role, entropy: bytes | None = None) -> None:
    """Make a home's wallet, of new words or of those that gave `entropy`."""
    Wallet.create(wallet_folder(home), home.network().network_id, role, entropy)
