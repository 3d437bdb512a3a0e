"""What an operator reads of the mint's state."""

from __future__ import annotations

from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.generation import KEY_ROUNDS
from fogbank.directory.mint.wording import in_words
from tests.mint.lies import withholds
from tests.mint.table import Table


def words(table: Table) -> str:
    return in_words(table.state, Calendar.of(table.network), table.now)


def test_what_is_under_way_and_what_is_there_is_told() -> None:
    table = Table()
    assert words(table) == "no series yet"
    for _ in range(KEY_ROUNDS):
        assert table.round(absent={3}).series == ()
    assert words(table) == "keys of series 0 are made: dealings come next"
    table.round(absent={3}, lies={0: withholds})
    assert words(table) == "keys of series 0 are made: commitments come next, attempt 2"
    table.rounds_until(0, 5, absent={3})
    assert words(table) == "series 0 is current, 3 of 4 sign"
    table.rounds_until(1, 12)
    assert words(table) == "series 0 is current, 3 of 4 sign; series 1 is ready, 4 of 4 sign"
    while Calendar.of(table.network).current(table.now) < 1:
        table.number += 1
    assert words(table) == "series 1 is current, 4 of 4 sign; 1 older ones live"


def test_a_consensus_without_it_says_why() -> None:
    table = Table()
    assert "method 4" in in_words(None, Calendar.of(table.network), table.now)
