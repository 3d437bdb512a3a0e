"""What an authority decides on LOCK and ISSUE, and what it keeps of them (spec/09 §6, §7).

A serial is locked to one request. Only a certificate takes it away from that one, and nothing
takes it from a request that was certified itself. So no authority gives shares for two requests
that share an input, whatever comes in whatever order, and it votes for two such requests never.

What is decided is written in the same transaction of a `Book`; whoever calls answers only once
that is on the disk. Signatures, points and pairings have been checked before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from fogbank.directory.mint.certificates import Vote
from fogbank.relay.codec import Value, decode, encode

TWO_REQUESTS: Final = 1
"""Evidence that the owner of a serial signed two requests."""
TWO_VOTES: Final = 2
"""Evidence that a member voted for two requests that share an input."""

_SIGNED_LIMIT: Final = 16 << 10

Votes: TypeAlias = "tuple[Vote, ...]"


def bucket_of(point: bytes) -> bytes:
    """Return what an output is sorted by in OUTPUTS: SHA-256 of the blinded point."""
    return hashlib.sha256(point).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed request, as far as the ledger looks into it.

    `digest` is H(R), `signed` the bytes that arrived, `outputs` its blinded points B.
    """

    digest: bytes
    signed: bytes
    serials: tuple[bytes, ...]
    outputs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A request in the ledger.

    `may_vote`: no other request of its serials can have had this authority's vote. `votes` are its
    certificate's, none until one was shown.
    """

    digest: bytes
    signed: bytes
    may_vote: bool
    votes: Votes = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """What a serial is locked to.

    `is_disputed`: other members had two requests for it; this one votes for neither, and a
    certificate settles it.
    """

    digest: bytes
    is_disputed: bool = False


class Book(Protocol):
    """One series' records within a transaction."""

    def find(self, digest: bytes) -> Held | None:
        """Return the request of that digest."""

    def holder(self, serial: bytes) -> Holder | None:
        """Return what a serial is locked to."""

    def shares(self, outputs: Sequence[bytes]) -> tuple[bytes, ...] | None:
        """Return the shares that were given for these points, or None if one has none."""

    def put(self, entry: Entry, *, may_vote: bool, votes: Votes = ()) -> None:
        """Keep a request; one that is there already gets the votes."""

    def take(self, serial: bytes, holder: Holder) -> None:
        """Lock a serial to a request, whoever held it."""

    def give(self, digest: bytes, outputs: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep the shares that a request's points get."""

    def has_evidence(self, subject: bytes) -> bool:
        """Tell whether there is a proof on a subject, or no room for one."""

    def keep_evidence(self, subject: bytes, proof: bytes) -> None:
        """Keep a proof, unless there is one on that subject or there are very many."""

    def answered(self, locked: int, issued: int) -> None:
        """Count an answer that is new, and how many serials and outputs it is the first for."""


@dataclass(frozen=True, slots=True)
class Locked:
    """All serials are locked to the request: its vote may be given."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The shares of a request's outputs, in order."""

    shares: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """What stands in a request's way: what one of its serials is locked to instead.

    That is the request itself if the serial is disputed. `may_vote`: this authority's vote for
    what stands in the way can be shown.
    """

    held: Held
    may_vote: bool


@dataclass(frozen=True, slots=True)
class Certified:
    """The request was certified without this authority's vote, which it cannot have any more."""


def answer_lock(book: Book, entry: Entry) -> Locked | Conflict | Certified | None:
    """Return how LOCK goes if nothing has to be written: None if the request is new and fits."""
    holders = [book.holder(serial) for serial in entry.serials]
    found = next(_rivals(book, entry, holders), None)
    if found is not None:
        return found
    # Serials of what is in the book are held: by it, or by what took them from it.
    held = book.find(entry.digest) if any(holders) else None
    if held is None:
        return None
    return Locked() if held.may_vote else Certified()


def lock(book: Book, entry: Entry) -> Locked | Conflict | Certified:
    """Lock a request's serials to it, unless one is locked to another."""
    known = answer_lock(book, entry)
    if known is not None:
        return known
    book.put(entry, may_vote=True)
    for serial in entry.serials:
        book.take(serial, Holder(entry.digest))
    book.answered(len(entry.serials), 0)
    return Locked()


def issue(book: Book, entry: Entry, votes: Votes, shares: Sequence[bytes]) -> Issued | Conflict:
    """Take up a certified request, whatever its serials were locked to, and give its shares.

    A request that was certified before gets the same ones again; one that shares an input with
    such a request gets none, as two certificates are the work of more liars than there may be.
    """
    held = book.find(entry.digest)
    if held is not None and held.votes:
        given = book.shares(entry.outputs)
        return Issued(tuple(shares) if given is None else given)
    if held is not None:
        # These proofs were checked; those that came with the certificate need not have been.
        entry = replace(entry, signed=held.signed)
    holders = [book.holder(serial) for serial in entry.serials]
    rivals = list(_rivals(book, entry, holders))
    for rival in rivals:
        if rival.held.votes:
            _blame_members(book, rival.held, entry, votes)
            return rival
    for rival in rivals:
        blame_owner(book, rival.held, entry)
    may_vote = not rivals and (held is None or held.may_vote)
    book.put(entry, may_vote=may_vote, votes=votes)
    for serial in entry.serials:
        book.take(serial, Holder(entry.digest))
    book.give(entry.digest, zip(entry.outputs, shares, strict=True))
    book.answered(holders.count(None), len(shares))
    return Issued(tuple(shares))


def merge(book: Book, entry: Entry) -> None:
    """Take a request that another member holds as locked (spec/09 §7.4).

    Two that share a serial lock it to neither, until a certificate is shown.
    """
    if book.find(entry.digest) is not None:
        return
    free = [serial for serial in entry.serials if book.holder(serial) is None]
    for serial in entry.serials:
        holder = book.holder(serial)
        rival = None if holder is None else book.find(holder.digest)
        if holder is not None and rival is not None and not rival.votes:
            blame_owner(book, rival, entry)
            book.take(serial, Holder(holder.digest, is_disputed=True))
    if free:
        # One that holds nothing is not kept: who owns a token may sign it over without end.
        book.put(entry, may_vote=True)
        for serial in free:
            book.take(serial, Holder(entry.digest))
        book.answered(len(free), 0)


def blame_owner(book: Book, held: Held, entry: Entry) -> None:
    """Keep the proof that an owner signed two requests with one serial."""
    if held.digest == entry.digest:
        return
    first, second = sorted((held.signed, entry.signed))
    proof: Value = [TWO_REQUESTS, _opened(first), _opened(second)]
    book.keep_evidence(held.digest, encode(proof))


def _blame_members(book: Book, held: Held, entry: Entry, votes: Votes) -> None:
    """Keep the proof for each member that voted for two certified requests of one input."""
    before = {vote.member: vote.life for vote in held.votes}
    certificate: Value = [_opened(held.signed), [vote.value() for vote in held.votes]]
    for vote in votes:
        if before.get(vote.member) == vote.life:
            proof: Value = [TWO_VOTES, certificate, _opened(entry.signed), vote.value()]
            book.keep_evidence(held.digest + bytes((vote.member,)), encode(proof))


def _opened(signed: bytes) -> Value:
    value: Value = decode(signed, _SIGNED_LIMIT)
    return value


def _rivals(book: Book, entry: Entry, holders: Iterable[Holder | None]) -> Iterator[Conflict]:
    """Go through what holds serials of a request instead of it, or disputes them with it."""
    for holder in holders:
        if holder is None or (holder.digest == entry.digest and not holder.is_disputed):
            continue
        held = book.find(holder.digest)
        if held is not None:
            yield Conflict(held, held.may_vote and not holder.is_disputed)
