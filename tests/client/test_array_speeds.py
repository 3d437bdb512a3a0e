"""What is expected of workers and tasks, from what was seen of them (spec/11 §3)."""

from __future__ import annotations

import math

import pytest

from fogbank.client.scheduling.records import Attempt, Lane, Unfinished, Worker
from fogbank.client.scheduling.speeds import Lengths, Speeds
from fogbank.client.scheduling.tail import level
from fogbank.client.scheduling.words import Candidate
from tests.client.networks import identity


def worker(name: str, speed: int = 1000) -> Worker:
    return Worker(Candidate(identity(name), speed, 1))


def running(where: Worker) -> Attempt:
    return Attempt(1, Unfinished(1), Lane(1, where))


def test_what_is_left_of_a_task_follows_from_the_longer_ones() -> None:
    lengths = Lengths()
    for length in (100, 200, 300, 400):
        lengths.add(length)
    assert lengths.mean() == 250
    assert lengths.left(0) == 250
    assert lengths.left(200) == 150
    assert lengths.left(390) == pytest.approx(12.1875)
    assert lengths.left(1000) == 250


def test_one_that_lies_about_lengths_counts_for_little() -> None:
    lengths = Lengths()
    for _ in range(99):
        lengths.add(100)
    lengths.add(1e18)
    assert lengths.mean() < 120


def test_old_lengths_are_forgotten() -> None:
    lengths = Lengths()
    for length in range(1000):
        lengths.add(1 if length < 500 else 1000)
    assert lengths.mean() == 1000


def test_who_has_not_answered_is_as_fast_as_it_is_listed_against_the_others() -> None:
    speeds, seen = Speeds(), worker("seen")
    assert speeds.expected(seen) is None
    speeds.answered(seen, 5000, 10)
    assert speeds.expected(seen) == 10
    assert speeds.expected(worker("other", 2000)) == 5


def test_progress_tells_how_long_a_run_needs_yet() -> None:
    speeds, where = Speeds(), worker("worker")
    for _ in range(20):
        speeds.answered(where, 10_000, 10)
    attempt = running(where)
    speeds.progress(attempt, 2_000, 20.0)
    slow = speeds.left(attempt, 0.0, 20.0)
    speeds.progress(attempt, 9_000, 20.0)
    fast = speeds.left(attempt, 0.0, 20.0)
    assert slow is not None
    assert fast is not None
    assert fast < 3
    assert slow > 20


def test_a_run_that_tells_nothing_any_more_is_not_believed_to_end() -> None:
    speeds, where = Speeds(), worker("worker")
    speeds.answered(where, 10_000, 10)
    attempt = running(where)
    speeds.progress(attempt, 9_900, 9.9)
    speeds_left = speeds.left(attempt, 0.0, 10.0)
    assert speeds_left is not None
    assert speeds_left < 2
    for now in (30.0, 60.0):
        left = speeds.left(attempt, 0.0, now)
        assert left is not None
        assert left > now - 10


def test_the_end_is_when_all_that_waits_fits_in_before_it() -> None:
    assert level(5, [], 1.0) == math.inf
    assert level(4, [(0.0, 10.0), (0.0, 10.0)], 1.0) == pytest.approx(20, rel=0.01)
    # A slow lane, which would end after that, is not counted on.
    assert level(4, [(0.0, 10.0), (0.0, 10.0), (0.0, 25.0)], 1.0) == pytest.approx(20, rel=0.01)
    assert level(5, [(0.0, 10.0), (0.0, 10.0), (0.0, 25.0)], 1.0) == pytest.approx(25, rel=0.01)
    assert level(1, [(3.0, 10.0)], 1.5) == pytest.approx(18, rel=0.01)
