"""No input in two certificates, whatever is asked of whom in which order (spec/09 §6, §7, §11)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fogbank.directory.mint.ledger import Entry
from tests.mint.quorum_model import Member, Quorum, Rules, request

REQUESTS = [
    request("a", 0),
    request("b", 0),
    request("c", 0, 1),
    request("d", 1),
    request("e", 1, 2),
    request("f", 2),
    request("g", 2),
    request("h", 3),
]
LONELY = REQUESTS[-1]
"""The one whose owner signs no other."""


class Committee(RuleBasedStateMachine):
    """Whatever is asked of four members, or of seven, while b of them lie."""

    quorum: Quorum
    backups: list[tuple[int, Member]]

    @property
    def members(self) -> list[int]:
        return sorted(self.quorum.honest)

    def __init__(self) -> None:
        super().__init__()
        self.quorum = Quorum(7, 2) if type(self) is Seven else Quorum(4, 1)
        self.backups = []

    @rule(at=st.integers(0, 6), entry=st.sampled_from(REQUESTS))
    def lock(self, at: int, entry: Entry) -> None:
        i = self.members[at % len(self.members)]
        voted = self.quorum.lock(i, entry)
        if entry is LONELY and self.quorum.honest[i].is_whole:
            assert voted

    @rule(at=st.integers(0, 6), entry=st.sampled_from(REQUESTS))
    def issue(self, at: int, entry: Entry) -> None:
        i = self.members[at % len(self.members)]
        if self.quorum.issue(i, entry):
            # The same ones, however often.
            assert self.quorum.issue(i, entry)

    @rule(at=st.integers(0, 6))
    def back_up(self, at: int) -> None:
        i = self.members[at % len(self.members)]
        self.backups.append((i, self.quorum.backup(i)))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        i, old = data.draw(st.sampled_from(self.backups))
        # No more than b lose their memory, while b others lie.
        if len(self.quorum.lost | {i}) <= self.quorum.liars:
            self.quorum.restore(i, old)

    @rule(at=st.integers(0, 6), other=st.integers(1, 7))
    def merge(self, at: int, other: int) -> None:
        i = self.members[at % len(self.members)]
        if other != i and other <= self.quorum.n and not self.quorum.honest[i].is_whole:
            self.quorum.merge(i, other)

    @invariant()
    def no_input_is_in_two_certificates(self) -> None:
        assert not self.quorum.spent_twice()

    @invariant()
    def nobody_gives_shares_for_two_requests_of_an_input(self) -> None:
        assert not self.quorum.issued_twice()

    @invariant()
    def no_honest_member_is_convicted(self) -> None:
        assert not self.quorum.convicted()


class Seven(Committee):
    """The same with seven members."""


TestFour = Committee.TestCase
TestFour.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSeven = Seven.TestCase
TestSeven.settings = settings(max_examples=25, stateful_step_count=60, deadline=None)


def inflate(quorum: Quorum) -> None:
    """Three tokens for four outputs: each member signs three of these, each under another input.

    The lock alone does not help, as every serial is locked once at each member.
    """
    for i in quorum.honest:
        outputs = [output for output in range(4) if output != i - 1]
        for serial, output in enumerate(outputs):
            entry = request("naive", serial)
            entry = replace(
                entry,
                digest=b"%d for %d" % (serial, output),
                outputs=(b"output%d" % output,),
            )
            quorum.lock(i, entry)
            quorum.issue(i, entry)


@pytest.mark.parametrize(("rules", "created"), [(Rules(), 0), (Rules(needs_certificate=False), 1)])
def test_shares_over_one_output_from_different_requests_make_no_token(
    rules: Rules, created: int
) -> None:
    quorum = Quorum(4, 0, rules)
    inflate(quorum)
    assert quorum.created() == created


def split(quorum: Quorum) -> None:
    """One token to two payees: each is shown to other members first."""
    one, other = REQUESTS[0], REQUESTS[1]
    members = sorted(quorum.honest)
    for order, entry in ((members, one), (members[::-1], other)):
        for i in order:
            quorum.lock(i, entry)


@pytest.mark.parametrize(("rules", "twice"), [(Rules(), 0), (Rules(locks=False), 1)])
@pytest.mark.parametrize(("n", "liars"), [(4, 1), (5, 1), (7, 2), (9, 2)])
def test_split_views_give_one_certificate_at_most(
    rules: Rules, twice: int, n: int, liars: int
) -> None:
    quorum = Quorum(n, liars, rules)
    split(quorum)
    assert len(quorum.spent_twice()) == twice


def test_more_liars_than_b_would_spend_twice() -> None:
    quorum = Quorum(4, 2)
    one, other = REQUESTS[0], REQUESTS[1]
    quorum.lock(1, one)
    quorum.lock(2, other)
    assert len(quorum.spent_twice()) == 1


def hoard(quorum: Quorum) -> None:
    """One vote is hoarded; its giver loses its memory, and merges while nobody else knows of it."""
    one, other = REQUESTS[0], REQUESTS[1]
    old = quorum.backup(1)
    quorum.lock(1, one)
    quorum.restore(1, old)
    for each in (2, 3, 4):
        quorum.merge(1, each)
    quorum.lock(1, other)
    quorum.lock(2, other)
    quorum.lock(3, one)


@pytest.mark.parametrize(
    ("rules", "twice"),
    [(Rules(), 0), (Rules(names_lives=False), 1), (Rules(notices_loss=False), 1)],
)
def test_one_of_four_is_restored_while_another_lies(rules: Rules, twice: int) -> None:
    quorum = Quorum(4, 1, rules)
    hoard(quorum)
    assert len(quorum.spent_twice()) == twice


@pytest.mark.parametrize(("rules", "twice"), [(Rules(), 0), (Rules(merges=5), 1)])
def test_two_of_seven_are_restored_while_two_others_lie(rules: Rules, twice: int) -> None:
    """Neither asks the one other who voted for what they forgot."""
    quorum = Quorum(7, 2, rules)
    one, other = REQUESTS[0], REQUESTS[1]
    old = {i: quorum.backup(i) for i in (1, 2)}
    for i in (1, 2, 3):
        quorum.lock(i, one)
    for i in (1, 2):
        quorum.restore(i, old[i])
    for i, asked in ((1, (2, 4, 5, 6, 7, 3)), (2, (1, 4, 5, 6, 7, 3))):
        for each in asked[: quorum.merges]:
            quorum.merge(i, each)
    for i in (1, 2, 4):
        quorum.lock(i, other)
    assert len(quorum.spent_twice()) == twice


def test_a_member_that_was_restored_votes_again() -> None:
    quorum = Quorum(4, 1)
    old = quorum.backup(1)
    quorum.lock(1, LONELY)
    quorum.restore(1, old)
    assert not quorum.lock(1, LONELY)
    for each in (2, 3, 4):
        quorum.merge(1, each)
    for i in (1, 2):
        assert quorum.lock(i, LONELY)
    assert quorum.certificate(LONELY) is not None
