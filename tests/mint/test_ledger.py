"""What LOCK and ISSUE decide, whatever comes in whatever order, with restarts in between."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fogbank.directory.mint.certificates import Vote
from fogbank.directory.mint.ledger import (
    TWO_REQUESTS,
    TWO_VOTES,
    Book,
    Certified,
    Conflict,
    Entry,
    Held,
    Issued,
    Locked,
    answer_lock,
    issue,
    lock,
    merge,
)
from fogbank.directory.mint.ledger_shell import SeriesFile
from fogbank.relay.codec import decode, encode

_T = TypeVar("_T")


async def at_once(function: Callable[..., _T], *args: object) -> _T:
    return function(*args)


def entry(serials: str, name: str = "") -> Entry:
    """A request of these serials, one a letter; another name makes it another request."""
    ordered = sorted(set(serials))
    signed = encode([serials, name])
    return Entry(
        hashlib.sha256(signed).digest(),
        signed,
        tuple(hashlib.sha256(each.encode()).digest() for each in ordered),
        tuple(hashlib.sha384(signed + each.encode()).digest() for each in ordered),
    )


def shares(of: Entry) -> tuple[bytes, ...]:
    return tuple(hashlib.sha384(each).digest() for each in of.outputs)


def votes(*members: int) -> tuple[Vote, ...]:
    return tuple(Vote(each, bytes((each,)) * 64) for each in members)


VOTES = votes(1, 2, 3)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SeriesFile]:
    made = SeriesFile(tmp_path / "0.db", 1000.0, at_once)
    yield made
    made.close()


def proofs(file: SeriesFile) -> list[list[Any]]:
    return [decode(each, 1 << 16) for each in trio.run(file.evidence, 16)]


def do(file: SeriesFile, write: Callable[[Book], _T]) -> _T:
    return trio.run(file.write, write)


def find(file: SeriesFile, digest: bytes) -> Held | None:
    return file.look(lambda book: book.find(digest))


def given(file: SeriesFile, outputs: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    return file.look(lambda book: book.shares(outputs))


def test_a_serial_is_locked_once_and_the_same_request_gets_the_same_answer(
    file: SeriesFile,
) -> None:
    first, second = entry("ab"), entry("bc")
    assert do(file, lambda book: lock(book, first)) == Locked()
    assert do(file, lambda book: lock(book, first)) == Locked()
    refused = do(file, lambda book: lock(book, second))
    assert isinstance(refused, Conflict)
    assert (refused.held.signed, refused.may_vote) == (first.signed, True)
    # What was refused left nothing: its other serial is free.
    assert do(file, lambda book: lock(book, entry("c"))) == Locked()
    assert file.head.count == 3
    assert file.head.locked == 3


def test_a_certificate_takes_serials_from_another_request_and_no_vote_follows(
    file: SeriesFile,
) -> None:
    ours, theirs = entry("ab"), entry("b", "another")
    do(file, lambda book: lock(book, ours))
    given = do(file, lambda book: issue(book, theirs, VOTES, shares(theirs)))
    assert given == Issued(shares(theirs))
    assert do(file, lambda book: lock(book, theirs)) == Certified()
    refused = do(file, lambda book: lock(book, ours))
    assert isinstance(refused, Conflict)
    assert (refused.held.digest, refused.may_vote) == (theirs.digest, False)
    (proof,) = proofs(file)
    assert proof[0] == TWO_REQUESTS
    assert {encode(each) for each in proof[1:]} == {ours.signed, theirs.signed}


def test_a_second_certificate_of_one_input_gets_nothing_and_convicts_who_voted_twice(
    file: SeriesFile,
) -> None:
    first, second = entry("ab"), entry("b", "another")
    do(file, lambda book: issue(book, first, VOTES, shares(first)))
    refused = do(file, lambda book: issue(book, second, votes(2, 3, 4), shares(second)))
    assert isinstance(refused, Conflict)
    assert do(file, lambda book: book.shares(second.outputs)) is None
    assert {(proof[0], proof[3][0]) for proof in proofs(file)} == {(TWO_VOTES, 2), (TWO_VOTES, 3)}


def test_shares_are_the_same_for_ever(file: SeriesFile) -> None:
    first = entry("a")
    do(file, lambda book: issue(book, first, VOTES, shares(first)))
    again = do(file, lambda book: issue(book, first, votes(1, 2, 4), (b"other",)))
    assert again == Issued(shares(first))
    held = find(file, first.digest)
    assert held is not None
    assert held.votes == VOTES


def test_two_requests_in_others_ledgers_get_no_vote_until_a_certificate_comes(
    file: SeriesFile,
) -> None:
    first, second = entry("ab"), entry("b", "another")
    for each in (first, second, first):
        do(file, partial(merge, entry=each))
    for each in (first, second):
        assert isinstance(file.look(partial(answer_lock, entry=each)), Conflict)
    assert len(proofs(file)) == 1
    do(file, lambda book: issue(book, second, VOTES, shares(second)))
    assert isinstance(file.look(partial(answer_lock, entry=first)), Conflict)
    assert not isinstance(file.look(partial(answer_lock, entry=second)), Conflict)


def test_evidence_of_one_serial_is_kept_once(file: SeriesFile) -> None:
    do(file, lambda book: lock(book, entry("a")))
    for number in range(5):
        other = entry("a", str(number))
        do(file, partial(merge, entry=other))
    assert len(proofs(file)) == 1


class Machine(RuleBasedStateMachine):
    """One authority's ledger of few serials, so that requests meet."""

    requests = st.builds(
        entry, st.text("abcd", min_size=1, max_size=4), st.sampled_from(["", "x", "y"])
    )

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "0.db")
        self.file = SeriesFile(self.path, 0.0, at_once)
        self.voted: dict[bytes, Entry] = {}
        self.issued: dict[bytes, Entry] = {}

    def teardown(self) -> None:
        self.file.close()
        self.folder.cleanup()

    @rule(each=requests)
    def lock(self, each: Entry) -> None:
        before = self.file.head.count
        answer = do(self.file, lambda book: lock(book, each))
        if isinstance(answer, Locked):
            self.voted[each.digest] = each
        elif each.digest in self.voted:
            # Only a certificate takes a lock away.
            assert isinstance(answer, Conflict)
            assert answer.held.votes
        if isinstance(answer, Conflict):
            assert self.file.head.count == before
            held = {*self.voted, *self.issued}
            assert answer.held.digest in held
            if answer.may_vote:
                # It is about to be shown a vote of this authority.
                self.lock_again(answer.held.digest)

    def lock_again(self, digest: bytes) -> None:
        known = {**self.issued, **self.voted}
        self.voted[digest] = known[digest]

    @rule(each=requests, members=st.permutations([1, 2, 3, 4]))
    def issue(self, each: Entry, members: list[int]) -> None:
        certified = votes(*sorted(members[:3]))
        answer = do(self.file, lambda book: issue(book, each, certified, shares(each)))
        if isinstance(answer, Issued):
            assert answer.shares == shares(each)
            self.issued[each.digest] = each
        else:
            assert isinstance(answer, Conflict)
            assert each.digest not in self.issued
            assert answer.held.digest in self.issued

    @rule()
    def restart(self) -> None:
        head = self.file.head
        self.file.close()
        self.file = SeriesFile(self.path, 0.0, at_once)
        assert self.file.head == head
        assert head.is_whole

    @invariant()
    def no_serial_has_votes_or_shares_for_two_requests(self) -> None:
        for kind in (self.voted, self.issued):
            serials = [serial for each in kind.values() for serial in each.serials]
            assert len(serials) == len(set(serials))

    @invariant()
    def shares_are_of_certified_requests_alone(self) -> None:
        rows = trio.run(partial(self.file.outputs, b"", b"\xff" * 33, b"", 1000))
        given = {digest for _, _, digest in rows}
        assert given == set(self.issued)
        for digest in given:
            held = find(self.file, digest)
            assert held is not None
            assert len(held.votes) == 3
        assert self.file.head.issued == sum(len(each.outputs) for each in self.issued.values())
        locked = {
            serial
            for each in (*self.voted.values(), *self.issued.values())
            for serial in each.serials
        }
        assert self.file.head.locked == len(locked)


TestAnyRequestsInAnyOrder = Machine.TestCase
TestAnyRequestsInAnyOrder.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None
)
