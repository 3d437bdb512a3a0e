"""Who is asked next for a request that is carried (spec/09 §6.6)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fogbank.directory.mint.carrying import Round


def test_as_many_are_asked_as_are_needed_and_another_for_each_that_fails() -> None:
    votes = Round(5, [4, 2, 6, 3, 7, 5], {1: "own"})
    assert votes.more() == [4, 2, 6, 3]
    assert votes.more() == []
    votes.took(2, "vote")
    assert votes.more() == []
    votes.failed(6)
    assert votes.more() == [7]
    votes.failed(7)
    assert votes.more() == [5]
    for place in (4, 3, 5):
        assert not votes.is_over
        votes.took(place, "vote")
    assert votes.is_over
    assert sorted(votes.given) == [1, 2, 3, 4, 5]


def test_others_are_asked_beside_who_is_late_and_who_is_late_still_counts() -> None:
    votes = Round(3, [2, 3, 4], {1: "own"})
    assert votes.more() == [2, 3]
    votes.took(3, "vote")
    assert votes.overdue() == [2]
    assert votes.overdue() == []
    assert votes.more() == [4]
    votes.failed(4)
    assert votes.more() == []
    assert not votes.is_lost
    votes.took(2, "late")
    assert votes.is_over


def test_it_is_lost_once_nobody_is_left() -> None:
    votes = Round(3, [2, 3, 4], {1: "own"})
    votes.more()
    votes.overdue()
    votes.more()
    for place in (2, 3, 4):
        assert not votes.is_lost
        votes.failed(place)
    assert votes.is_lost


def test_what_cannot_stand_together_takes_another() -> None:
    votes = Round(3, [2, 3, 4, 5], {1: "own"})
    votes.more()
    votes.took(2, "vote")
    votes.took(3, "vote")
    assert votes.is_over
    votes.clash()
    assert votes.more() == [4]
    votes.failed(4)
    assert votes.more() == [5]
    votes.took(5, "vote")
    assert votes.is_over


@given(data=st.data(), n=st.integers(1, 9))
def test_whatever_comes_nobody_is_asked_twice_and_it_ends(data: st.DataObject, n: int) -> None:
    needed = data.draw(st.integers(1, n))
    order = data.draw(st.permutations(range(2, n + 1)))
    what: Round[str] = Round(needed, order, {1: "own"})
    asked: list[int] = []
    out: list[int] = []
    for _ in range(4 * n):
        if what.is_over or what.is_lost:
            break
        new = what.more()
        asked += new
        out += new
        if not out or data.draw(st.booleans()):
            what.overdue()
            continue
        place = out.pop(data.draw(st.integers(0, len(out) - 1)))
        if data.draw(st.booleans()):
            what.took(place, "given")
        else:
            what.failed(place)
    for place in out:
        what.failed(place)
    while new := what.more():
        asked += new
        for place in new:
            what.failed(place)
    assert what.is_over or what.is_lost
    assert len(set(asked)) == len(asked)
    assert what.is_over or len(asked) == n - 1
