"""What a wallet has and what is under way (spec/09 §8.2). Pure.

A `Book` holds records. What is to be done to it is planned on a `Draft`, which gives a `Change`:
the shell writes that to the disk, and only then does the book `apply` it, and is anything sent. So
a kill at any moment leaves a book in which each token is in one place: here, or in one request,
whose bytes are sent again until it is done. Plans are in `own.py` (withdrawing, swapping, what
comes of requests), `cheques.py` (paying and being paid) and `restored.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from fogbank.client.wallet.derivation import Place, Role, Secrets
from fogbank.client.wallet.errors import TooManyWaiting, WalletError
from fogbank.client.wallet.records import (
    About,
    Change,
    Counter,
    Entry,
    Kind,
    Offer,
    OpenRequest,
    Payment,
    Record,
    Token,
    Units,
)
from fogbank.client.wallet.terms import GAP, Terms

_Key: TypeAlias = tuple[type[Record], object]


class Book:
    """All records of a wallet; `secrets` are what its seed gives."""

    def __init__(self, secrets: Secrets, terms: Terms, records: Iterable[Record]) -> None:
        self.secrets = secrets
        self.terms = terms
        self.about: About
        self.tokens: dict[Place, Token] = {}
        self.requests: dict[bytes, OpenRequest] = {}
        self.offers: dict[int, Offer] = {}
        self.payments: dict[int, Payment] = {}
        self.counters: dict[object, Counter] = {}
        self.units: dict[object, Units] = {}
        for record in records:
            self._put(record)
        if not hasattr(self, "about"):
            raise WalletError("the wallet's file is damaged: move it away, and restore the wallet")

    def apply(self, change: Change) -> None:
        """Take over what is on the disk now."""
        for record in change.drop:
            self._drop(record)
        for record in change.put:
            self._put(record)

    def _put(self, record: Record) -> None:
        match record:
            case Token():
                self.tokens[record.key] = record
            case OpenRequest():
                self.requests[record.key] = record
            case Offer():
                self.offers[record.key] = record
            case Payment():
                self.payments[record.key] = record
            case Counter():
                self.counters[record.key] = record
            case Units():
                self.units[record.key] = record
            case About():
                self.about = record

    def _drop(self, record: Record) -> None:
        match record:
            case Token():
                self.tokens.pop(record.key, None)
            case OpenRequest():
                self.requests.pop(record.key, None)
            case Offer():
                self.offers.pop(record.key, None)
            case Payment():
                self.payments.pop(record.key, None)
            case _:
                raise TypeError("a record that stays cannot go")

    def ready(self, now: int) -> list[Token]:
        """Return the tokens that can be spent and are taken as payment."""
        return [token for token in self.tokens.values() if self.is_ready(token, now)]

    def is_ready(self, token: Token, now: int) -> bool:
        """Tell whether a token can be spent, and is taken as payment."""
        return (
            not token.locked
            and token.rests_until <= now
            and self.terms.calendar.good_for_payment(token.series, now)
        )

    def unfinished(self) -> tuple[OpenRequest, ...]:
        """Return the requests of which something is still to be done, whoever began it."""
        return tuple(each for each in self.requests.values() if not each.is_done)


class Draft:
    """A change that is being planned: what is put later replaces what was put before."""

    def __init__(self, book: Book, now: int) -> None:
        self.book = book
        self.now = now
        self.about = book.about
        self._counters: dict[object, Counter] = {}
        self._put: dict[_Key, Record] = {}
        self._drop: dict[_Key, Record] = {}
        self._history: list[Entry] = []

    def put(self, record: Record) -> None:
        """Keep a record in the place of any other of the same key."""
        self._put[type(record), record.key] = record

    def drop(self, record: Record) -> None:
        """Let a record go."""
        self._put.pop((type(record), record.key), None)
        self._drop[type(record), record.key] = record

    def note(self, kind: Kind, amount: int) -> None:
        """Put a line into the history, if it is about anything."""
        if amount:
            self._history.append(Entry(self.now, kind, amount))

    def change(self) -> Change:
        """Return what was planned."""
        put = (*self._put.values(), *self._counters.values())
        if self.about != self.book.about:
            put = (*put, self.about)
        return Change(put, tuple(self._drop.values()), tuple(self._history))

    def take(self, count: int, gap: int = GAP) -> tuple[Place, ...]:
        """Take outputs of the current period; raise `TooManyWaiting` if they might not be found."""
        period = self.book.terms.calendar.current(self.now)
        counter = self._counter(self.about.role, self.about.branch, period)
        first = counter.next
        if first + count > counter.reached + gap:
            raise TooManyWaiting
        self._counters[counter.key] = replace(counter, next=first + count)
        return tuple(Place(*counter.key, first + each) for each in range(count))

    def reach(self, place: Place) -> None:
        """Keep that an output is known to be issued."""
        counter = self._counter(place.role, place.branch, place.period)
        above = place.counter + 1
        self._counters[counter.key] = replace(
            counter, next=max(counter.next, above), reached=max(counter.reached, above)
        )

    def _counter(self, role: Role, branch: int, period: int) -> Counter:
        fresh = Counter(role, branch, period, 0, 0)
        return self._counters.get(fresh.key) or self.book.counters.get(fresh.key, fresh)

    def number(self) -> int:
        """Return the number of a new payment or invoice."""
        self.about = replace(self.about, numbered=self.about.numbered + 1)
        return self.about.numbered
