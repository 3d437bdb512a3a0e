"""A wallet on the disk, as its user drives it (spec/09 §8).

    with Wallet.open(folder, terms, ask_passphrase) as wallet:
        payment = wallet.pay(invoice, now)         # signed, and on the disk
        for request in wallet.unfinished(): ...    # drive each one, also after a kill
        wallet.certified(request.id, certificate)

Every method that changes something plans it (`wallet.py`), writes it, and only then returns: what
it returns may be sent. Methods may be called from several threads; each waits for the disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from fogbank.client.wallet import balance as counting
from fogbank.client.wallet import cheques, own, restored
from fogbank.client.wallet.derivation import Output, Role, Secrets
from fogbank.client.wallet.errors import WalletError
from fogbank.client.wallet.records import (
    About,
    Balance,
    Change,
    Entry,
    Offer,
    OpenRequest,
    Payment,
    Token,
)
from fogbank.client.wallet.restore import Found, Restore
from fogbank.client.wallet.terms import Terms
from fogbank.client.wallet.vault_shell import Passphrase, Random, Vault, wallet_exists
from fogbank.client.wallet.wallet import Book
from fogbank.client.wallet.words import ENTROPY_SIZE, seed_of, words_of
from fogbank.directory.mint.cheques import Cheque, Invoice
from fogbank.directory.mint.points import RANDOM_LENGTH
from fogbank.directory.mint.requests import SignedRequest
from fogbank.directory.mint.state import MintState
from fogbank.relay.keys import NodeId

__all__ = ["Received", "Wallet", "wallet_exists"]


@dataclass(frozen=True, slots=True)
class Received:
    """What came of a cheque: tokens `counted` now, and those counted `again`, which are not."""

    counted: int
    again: int


class Wallet:
    """An open wallet. Times are seconds since 1970; everything that fails raises `WalletError`."""

    def __init__(self, vault: Vault, terms: Terms, random: Random = os.urandom) -> None:
        if vault.network_id != terms.network_id:
            raise WalletError("this wallet is of another network: choose another folder for it")
        self._vault = vault
        self._random = random
        self._guard = threading.RLock()
        secrets = Secrets(seed_of(vault.entropy), terms.network_id)
        self._book = Book(secrets, terms, vault.records())

    @classmethod
    def create(
        cls,
        folder: Path,
        network_id: bytes,
        role: Role,
        entropy: bytes | None = None,
        random: Random = os.urandom,
    ) -> None:
        """Make a wallet of new words, or of these; raise `WalletExists` if there is one.

        One of words that were in use has to be restored before it does anything.
        """
        is_new = entropy is None
        entropy = random(ENTROPY_SIZE) if entropy is None else entropy
        change = Change((About(role),))
        Vault.create(folder, network_id, entropy, change, random, is_new=is_new)

    @classmethod
    def open(
        cls,
        folder: Path,
        terms: Terms,
        passphrase: Passphrase | None = None,
        random: Random = os.urandom,
        *,
        read_only: bool = False,
    ) -> Wallet:
        """Open the wallet in a folder, as the only process that changes it, or to read it only.

        `passphrase` is called if one is needed. Raises `NoWallet`, `WalletBusy`, `WalletLocked`.
        """
        vault = Vault.open(folder, passphrase, random, read_only=read_only)
        try:
            return cls(vault, terms, random)
        except BaseException:
            vault.close()
            raise

    def close(self) -> None:
        """Give it up."""
        self._vault.close()

    def __enter__(self) -> Wallet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _change(self, plan: Callable[[Book], Change], *, adopt: bool = False) -> Change:
        with self._guard:
            change = plan(self._book)
            if change != Change() or adopt:
                self._vault.write(change, adopt=adopt)
                self._book.apply(change)
            return change

    # What there is.

    @property
    def role(self) -> Role:
        """Whose the wallet is."""
        return self._book.about.role

    @property
    def is_copy(self) -> bool:
        """Whether it was made from words, copied or put back: then it must be restored first."""
        return self._vault.is_copy

    @property
    def is_protected(self) -> bool:
        """Whether a passphrase is needed to open it."""
        return self._vault.is_protected

    def balance(self, now: int) -> Balance:
        """Count what there is."""
        with self._guard:
            return counting.balance(self._book, now)

    def warnings(self, now: int) -> tuple[str, ...]:
        """Return sentences about what the user should do soon."""
        with self._guard:
            return counting.warnings(self._book, now)

    def history(self, limit: int | None = None) -> list[Entry]:
        """Return the last lines of the history, the newest first."""
        with self._guard:
            return self._vault.history(limit)

    def unfinished(self) -> tuple[OpenRequest, ...]:
        """Return the requests that are to be driven to their end, with the bytes to be sent."""
        with self._guard:
            return self._book.unfinished()

    def tokens(self) -> tuple[Token, ...]:
        """Return the tokens that are here; those that are locked are in a request's inputs."""
        with self._guard:
            return tuple(self._book.tokens.values())

    def payments(self) -> tuple[Payment, ...]:
        """Return the payments whose cheques could be handed over, or will be."""
        with self._guard:
            return tuple(self._book.payments.values())

    def offers(self) -> tuple[Offer, ...]:
        """Return the invoices that were made, and what of them was paid."""
        with self._guard:
            return tuple(self._book.offers.values())

    def words(self) -> str:
        """Return the words from which the wallet can be restored."""
        return words_of(self._vault.entropy)

    def protect(self, passphrase: str | None) -> None:
        """Seal the wallet by a passphrase, or by none any more; takes a second."""
        with self._guard:
            self._vault.protect(passphrase)

    # Tokens of one's own.

    def withdraw(
        self, series: int, identity: NodeId, allotment: int, sign: own.Sign, now: int
    ) -> OpenRequest | None:
        """Sign the next withdrawal of a node's allotment; None if nothing is left."""
        change = self._change(
            lambda book: own.withdraw(book, series, identity, allotment, sign, now)
        )
        return next(iter(change.requests), None)

    def refresh(self, now: int, *, everything: bool = False) -> tuple[OpenRequest, ...]:
        """Sign swaps of what came from words, or of all that is ready, into fresh outputs."""
        return self._change(lambda book: own.refresh(book, now, everything=everything)).requests

    def certified(self, name: bytes, certificate: bytes, now: int) -> None:
        """Keep a request's certificate, which was checked; `name` is H(R)."""
        self._change(lambda book: own.certified(book, name, certificate, now))

    def outputs(self, name: bytes) -> tuple[Output, ...]:
        """Return a request's own outputs, in R's order, to unblind its shares."""
        with self._guard:
            request = self._book.requests.get(name)
            places = request.outputs if request is not None else ()
            return tuple(self._book.secrets.output(place) for place in places)

    def issued(self, name: bytes, signatures: Sequence[bytes], now: int) -> None:
        """Take in a request's tokens: unblinded signatures that were checked, in R's order."""
        self._change(lambda book: own.issued(book, name, signatures, now))

    def beaten(self, name: bytes, other: SignedRequest, now: int) -> None:
        """Take note that another request, of this wallet's own keys, holds a request's inputs."""
        self._change(lambda book: own.beaten(book, name, other, now))

    def expire(self, now: int) -> None:
        """Forget what no authority knows any more."""
        if not self.is_copy:
            self._change(lambda book: counting.expire(book, now))

    # From words.

    def restoring(self, state: MintState, now: int, identity: NodeId | None = None) -> Restore:
        """Begin a search for what the mint has of this wallet's words; `identity`: of its node."""
        with self._guard:
            known = tuple(self._book.tokens.values())
        return Restore(
            self._book.secrets,
            self._book.terms,
            state,
            now,
            self._random(RANDOM_LENGTH),
            known=known,
            identity=identity,
        )

    def restored(self, found: Found, now: int, identity: NodeId | None = None) -> int:
        """Take in what was found, and go on in a new branch; return how many tokens are new.

        What is under way and what came from words is then driven and refreshed as ever.
        """
        change = self._change(
            lambda book: restored.restored(book, found, now, identity), adopt=True
        )
        return sum(entry.amount for entry in change.history)

    # Cheques.

    def invoice(self, amount: int, until: int, now: int) -> Invoice:
        """Make an invoice over 1 to 64 tokens, good until some time within 28 days."""
        change = self._change(lambda book: cheques.offer(book, amount, until, now))
        (made,) = (each for each in change.put if isinstance(each, Offer))
        return cheques.invoice_of(self._book, made)

    def pay(self, invoice: Invoice, now: int) -> Payment:
        """Sign what pays an invoice; one that is paid already is not paid again."""
        with self._guard:
            before = cheques.paid_already(self._book, invoice)
            if before is not None:
                return before
            change = self._change(lambda book: cheques.pay(book, invoice, now))
        (made,) = (each for each in change.put if isinstance(each, Payment))
        return made

    def cheque(self, number: int) -> Cheque:
        """Return a payment's cheque; raise `NotYet` if votes are missing."""
        with self._guard:
            payment = self._book.payments.get(number)
            if payment is None:
                raise WalletError(f"there is no payment {number}")
            return cheques.cheque_of(self._book, payment)

    def handed_over(self, number: int, now: int) -> None:
        """Keep that a cheque was handed over; it can be again."""
        self._change(lambda book: cheques.handed_over(book, number, now))

    def receive(self, cheque: Cheque, state: MintState, now: int) -> Received:
        """Check a cheque and count it, once; raise `ChequeRefused` if it is not good."""
        change = self._change(lambda book: cheques.receive(book, cheque, state, now))
        counted = sum(request.count for request in change.requests)
        return Received(counted, len(cheque.outputs()) - counted)
