"""A committee of ledgers without points, keys or wires: what members decide, and nothing else.

Members are the real cores of `ledger.py` over books in memory. A vote is a name in a set, and liars
vote for everything. It holds for any order of messages, losses of memory and merges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

from fogbank.directory.mint import ledger
from fogbank.directory.mint.certificates import Vote
from fogbank.directory.mint.ledger import Entry, Held, Holder, Issued, Locked, Votes
from fogbank.relay.codec import encode

Lives: TypeAlias = dict[int, int]


@dataclass
class MemoryBook:
    """A series' records in memory."""

    requests: dict[bytes, tuple[Entry, Held]] = field(default_factory=dict)
    holders: dict[bytes, Holder] = field(default_factory=dict)
    given: dict[bytes, bytes] = field(default_factory=dict)
    issued: set[bytes] = field(default_factory=set)
    evidence: dict[bytes, bytes] = field(default_factory=dict)
    count: int = 0

    def find(self, digest: bytes) -> Held | None:
        found = self.requests.get(digest)
        return None if found is None else found[1]

    def holder(self, serial: bytes) -> Holder | None:
        return self.holders.get(serial)

    def shares(self, outputs: Sequence[bytes]) -> tuple[bytes, ...] | None:
        if not all(each in self.given for each in outputs):
            return None
        return tuple(self.given[each] for each in outputs)

    def put(self, entry: Entry, *, may_vote: bool, votes: Votes = ()) -> None:
        held = Held(entry.digest, entry.signed, may_vote, votes)
        self.requests[entry.digest] = (entry, held)

    def take(self, serial: bytes, holder: Holder) -> None:
        self.holders[serial] = holder

    def give(self, digest: bytes, outputs: Iterable[tuple[bytes, bytes]]) -> None:
        self.issued.add(digest)
        for point, share in outputs:
            self.given.setdefault(point, share)

    def has_evidence(self, subject: bytes) -> bool:
        return subject in self.evidence

    def keep_evidence(self, subject: bytes, proof: bytes) -> None:
        self.evidence.setdefault(subject, proof)

    def answered(self, locked: int, issued: int) -> None:  # noqa: ARG002 - counted elsewhere
        self.count += 1


@dataclass
class Member:
    """A member that follows the rules. `lives` are what it knows of who lost its memory."""

    book: MemoryBook = field(default_factory=MemoryBook)
    lives: Lives = field(default_factory=dict)
    is_whole: bool = True
    merged: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Rules:
    """What members do; each switch turned is something that was thought of, and is unsound."""

    needs_certificate: bool = True
    """Shares are given under a certificate alone."""
    locks: bool = True
    """A serial gets one vote."""
    names_lives: bool = True
    """Votes name who lost its memory, and a certificate's agree in that."""
    merges: int | None = None
    """Others whose ledgers are merged; None: as many as are needed."""
    notices_loss: bool = True


def request(name: str, *serials: int) -> Entry:
    """Return a request for some serials, with outputs of its own."""
    digest = name.encode().ljust(32, b".")
    names = tuple(b"serial%d" % each for each in serials)
    return Entry(digest, encode([digest]), names, tuple(name.encode() + each for each in names))


@dataclass
class Quorum:
    """n members of which the last `liars` lie."""

    n: int = 4
    liars: int = 1
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.quorum = 2 * self.n // 3 + 1
        faulty = self.n - self.quorum
        needed = max(self.quorum, 3 * faulty)
        self.merges = needed if self.rules.merges is None else self.rules.merges
        self.honest = {i: Member() for i in range(1, self.n - self.liars + 1)}
        self.entries: dict[bytes, Entry] = {}
        self.votes: dict[bytes, list[Vote]] = {}
        """All votes that were ever given for a request; none is taken back."""
        self.shares: dict[bytes, set[int]] = {}
        """Which honest members gave their share of an output."""
        self.lost: set[int] = set()
        self._life = 0

    def lock(self, i: int, entry: Entry) -> bool:
        """Ask for a vote; tell whether it was given."""
        self._know(entry)
        member = self.honest[i]
        if not member.is_whole:
            return False
        if self.rules.locks and not isinstance(ledger.lock(member.book, entry), Locked):
            return False
        vote = Vote(i, b"", tuple(sorted(member.lives.items())))
        if vote not in self.votes[entry.digest]:
            self.votes[entry.digest].append(vote)
        if not self.rules.needs_certificate:
            self._issued(i, entry)
        return True

    def certificate(self, entry: Entry) -> Votes | None:
        """Return votes that agree, out of all that were ever given and the liars'."""
        given = [*self.votes[entry.digest], *(Vote(i, b"") for i in self._liars())]
        return self._choose((), given)

    def _liars(self) -> range:
        return range(self.n - self.liars + 1, self.n + 1)

    def _choose(self, chosen: Votes, left: Sequence[Vote]) -> Votes | None:
        if len(chosen) == self.quorum:
            return chosen
        for at, vote in enumerate(left):
            others = {each.member for each in chosen}
            if vote.member not in others and self._agree((*chosen, vote)):
                found = self._choose((*chosen, vote), left[at + 1 :])
                if found is not None:
                    return found
        return None

    def _agree(self, votes: Votes) -> bool:
        if not self.rules.names_lives:
            return True
        lives = {vote.member: dict(vote.lives) for vote in votes}
        return all(
            named.get(i, 0) <= own.get(i, 0) for i, own in lives.items() for named in lives.values()
        )

    def issue(self, i: int, entry: Entry) -> bool:
        """Show a certificate, if there is one; tell whether shares were given."""
        self._know(entry)
        votes = self.certificate(entry)
        if votes is None:
            return False
        shares = tuple(b"share" for _ in entry.outputs)
        done = isinstance(ledger.issue(self.honest[i].book, entry, votes, shares), Issued)
        if done:
            self._issued(i, entry)
        return done

    def _issued(self, i: int, entry: Entry) -> None:
        for output in entry.outputs:
            self.shares.setdefault(output, set()).add(i)

    def backup(self, i: int) -> Member:
        """Copy what a member has on its disk."""
        return deepcopy(self.honest[i])

    def restore(self, i: int, old: Member) -> None:
        """Put an old disk in a member's place."""
        member = self.honest[i] = deepcopy(old)
        self.lost.add(i)
        if self.rules.notices_loss:
            self._life += 1
            member.is_whole, member.merged = False, set()
            member.lives[i] = self._life

    def merge(self, i: int, other: int) -> None:
        """Have a member that lost its memory take another's ledger; a liar's is empty."""
        member = self.honest[i]
        if member.is_whole:
            return
        if other in self.honest:
            asked = self.honest[other]
            asked.lives[i] = max(asked.lives.get(i, 0), member.lives[i])
            for entry, held in list(asked.book.requests.values()):
                ledger.merge(member.book, entry)
                if held.votes:
                    shares = tuple(b"share" for _ in entry.outputs)
                    ledger.issue(member.book, entry, held.votes, shares)
        member.merged.add(other)
        member.is_whole = member.is_whole or len(member.merged) >= self.merges

    def _know(self, entry: Entry) -> None:
        self.entries[entry.digest] = entry
        self.votes.setdefault(entry.digest, [])

    # What may not be.

    def spent_twice(self) -> list[tuple[bytes, bytes]]:
        """Return the pairs of certificates that share an input."""
        certified = [each for each in self.entries.values() if self.certificate(each) is not None]
        return [
            (one.digest, other.digest)
            for one, other in combinations(certified, 2)
            if set(one.serials) & set(other.serials)
        ]

    def created(self) -> int:
        """Return how many more tokens exist than there are inputs.

        A token exists once q members gave a share of one output; liars give all of theirs.
        """
        outputs = [each for each, by in self.shares.items() if len(by) + self.liars >= self.quorum]
        inputs = {serial for entry in self.entries.values() for serial in entry.serials}
        return max(0, len(outputs) - len(inputs))

    def issued_twice(self) -> list[int]:
        """Return the honest members that gave shares for two requests of one input."""
        found = []
        for i, member in self.honest.items():
            issued = [member.book.requests[each][0] for each in member.book.issued]
            if any(set(a.serials) & set(b.serials) for a, b in combinations(issued, 2)):
                found.append(i)
        return found

    def convicted(self) -> set[int]:
        """Return the honest members of whom there is evidence that they voted twice."""
        voted: set[int] = set()
        for one, other in combinations(self.entries.values(), 2):
            if set(one.serials) & set(other.serials):
                first, second = (
                    {vote.member for vote in self.votes[each.digest]} for each in (one, other)
                )
                voted |= first & second
        return voted - self.lost
