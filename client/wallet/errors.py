"""Errors of the wallet; each docstring is what the user should know or do."""

from __future__ import annotations

from fogbank.client.errors import ClientError


class WalletError(ClientError):
    """The wallet cannot do what it was asked; the message says why and what to do."""


class WordsWrong(WalletError):
    """These are not the words of a wallet; compare them with what was written down."""


class NoWallet(WalletError):
    """There is no wallet in this folder yet."""


class WalletExists(WalletError):
    """There is a wallet in this folder already; nothing was changed."""


class WalletBusy(WalletError):
    """Another process is at work on the wallet; wait until it has ended."""


class WalletLocked(WalletError):
    """The wallet is sealed by a passphrase, and this is not it; try again."""


class NeedsRestore(WalletError):
    """The wallet was made from words, copied or put back: run `fog wallet restore` first."""


class NotEnough(WalletError):
    """Fewer tokens are ready than are wanted.

    `ready` are there now; `resting` more will be by `until` (seconds since 1970).
    """

    def __init__(self, wanted: int, ready: int, resting: int, until: int) -> None:
        more = f"; {resting} more rest for a while after they were issued" if resting else ""
        super().__init__(f"{wanted} tokens are wanted, and {ready} are ready{more}")
        self.ready = ready
        self.resting = resting
        self.until = until


class TooManyWaiting(WalletError):
    """So many outputs wait to be issued that a later one might not be found again from words.

    Complete what is under way, swap some tokens, or wait for the next series.
    """

    def __init__(self) -> None:
        super().__init__(
            "too many invoices and requests of this wallet wait for their tokens: let those under "
            "way be completed, refresh some tokens, or wait for the next series"
        )


class NotYet(WalletError):
    """The cheque is not made yet: its requests wait for the authorities' votes."""


class ChequeRefused(WalletError):
    """The cheque is not taken, and nothing of it was counted; the message says why."""
