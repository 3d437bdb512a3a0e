"""What members of series say of outputs, serials and requests (spec/09 §8.3). Pure.

Whoever restores a wallet says which outputs and serials it wants to know of (`missing`), and is
told which buckets to ask for. Of small series everything is asked for at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fogbank.directory.mint.bodies import Held
from fogbank.directory.mint.exchange import MAX_BITS
from fogbank.directory.mint.state import SeriesRecord

BUCKET: Final = 256
"""Buckets are chosen so wide that they hold about so many, or up to twice as many."""


class What(IntEnum):
    """What is asked for; the numbers are those of the service's messages."""

    OUTPUTS = 3
    SERIALS = 4
    REQUEST = 5


@dataclass(frozen=True, slots=True)
class Question:
    """To be asked of all members of a series.

    A bucket is what begins with the `bits` bits `prefix`; all its pages are wanted, or only the
    first one. Of REQUEST `digest` says which.
    """

    what: What
    series: int
    bits: int = 0
    prefix: int = 0
    digest: bytes = b""
    first_page: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What one member said: rows of OUTPUTS or SERIALS, of how many in the series, or a request."""

    rows: Sequence[tuple[bytes, ...]] = ()
    total: int = 0
    held: Held | None = None


class Answers:
    """All that was said so far, of what somebody wanted to know."""

    def __init__(self, records: Iterable[SeriesRecord]) -> None:
        self.records = {record.number: record for record in records}
        self.held: dict[bytes, list[Held]] = {}
        """By H(R): what any member says it is."""
        self._bits: dict[tuple[What, int], int] = {}
        self._whole: set[tuple[What, int]] = set()
        self._known: set[tuple[What, int, bytes]] = set()
        self._wanted: dict[Question, set[bytes]] = {}
        self._rows: dict[tuple[What, int, bytes], dict[int, tuple[bytes, ...]]] = {}

    def sizes(self) -> set[Question]:
        """Return what to ask to learn how many there are in each series."""
        return {
            Question(what, series, first_page=True)
            for series in self.records
            for what in (What.OUTPUTS, What.SERIALS)
            if (what, series) not in self._bits
        }

    def missing(self, what: What, series: int, key: bytes) -> Question | None:
        """Return what to ask to learn of an output or a serial; None if that was answered."""
        if (what, series) in self._whole or (what, series, key) in self._known:
            return None
        bits = self._bits[what, series]
        question = Question(what, series, bits, prefix_of(what, key, bits))
        self._wanted.setdefault(question, set()).add(key)
        return question

    def said(self, what: What, series: int, key: bytes) -> Mapping[int, tuple[bytes, ...]]:
        """Return what each member has beside an output or a serial: only members that have it."""
        return self._rows.get((what, series, key), {})

    def take(self, question: Question, answers: Mapping[int, Answer]) -> None:
        """Take in what members answered, by their numbers; who did not answer is not there."""
        if question.what is What.REQUEST:
            held = [each.held for each in answers.values() if each.held is not None]
            self.held[question.digest] = [
                each for each in held if each.signed.request.digest() == question.digest
            ]
            return
        key = (question.what, question.series)
        if question.first_page:
            # The middle one: no lie of a few makes buckets too narrow, or too wide.
            totals = sorted(answer.total for answer in answers.values())
            total = totals[len(totals) // 2] if totals else 0
            self._bits[key] = min(MAX_BITS, max(0, (total // BUCKET).bit_length() - 1))
            if self._bits[key] or any(len(each.rows) < each.total for each in answers.values()):
                return
        wanted = self._wanted.pop(question, set())
        if question.bits == 0:
            self._whole.add(key)
        self._known |= {(*key, each) for each in wanted}
        for member, answer in answers.items():
            for name, *rest in answer.rows:
                if question.bits == 0 or name in wanted:
                    self._rows.setdefault((*key, name), {})[member] = tuple(rest)


def prefix_of(what: What, key: bytes, bits: int) -> int:
    """Return the first bits of what buckets are chosen by: an output's SHA-256, a serial itself."""
    data = hashlib.sha256(key).digest() if what is What.OUTPUTS else key
    return int.from_bytes(data[:4], "big") >> 32 - bits
