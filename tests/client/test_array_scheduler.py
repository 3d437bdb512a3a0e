"""The scheduler of arrays (spec/11 §3): whatever happens, each task ends once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fogbank.client.scheduling.words import Ending, Replicas, Terms, Verdict
from tests.client.array_model import LIMITS, Model, candidates, pairs, quorum, started
from tests.client.array_world import Size, simulate


def test_all_tasks_of_an_honest_network_are_done_once() -> None:
    model = started(50)
    model.finish_honestly()
    assert all(ending is Ending.DONE for ending, _ in model.endings.values())


def test_an_array_without_tasks_is_over_at_once() -> None:
    model = started(0)
    assert model.scheduler.is_over
    assert not model.opened_ever


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.NOT_TAKEN, Verdict.UNFIT])
def test_what_a_worker_fails_goes_to_another(verdict: Verdict) -> None:
    model = started(1)
    model.opened(min(model.opening))
    ((attempt, (_, lane)),) = model.attempts.items()
    first = model.open[lane]
    model.answer(attempt, verdict)
    assert not model.endings
    assert lane not in model.open
    while not model.attempts:
        if model.opening:
            model.opened(min(model.opening))
        else:
            assert model.wait()
    ((_, lane),) = model.attempts.values()
    if verdict is not Verdict.NOT_TAKEN:
        assert model.open[lane] != first
    model.finish_honestly()
    assert model.endings[0][0] is Ending.DONE


def test_a_task_that_fails_everywhere_is_given_up_with_the_last_answer() -> None:
    model = started(1, workers=9)
    tries = 0
    while not model.endings:
        if model.attempts:
            tries += 1
            model.answer(min(model.attempts), Verdict.FAILED, f"failure {tries}")
        elif model.opening:
            model.opened(min(model.opening))
        else:
            assert model.wait()
    assert tries == LIMITS.retries + 1
    assert model.endings == {0: (Ending.FAILED, f"failure {tries}")}


def test_a_program_that_nobody_takes_is_refused_after_a_few_workers() -> None:
    model = started(40, workers=30)
    while not model.scheduler.is_over:
        if model.opening:
            model.opened(min(model.opening))
        elif model.attempts:
            model.answer(min(model.attempts), Verdict.REFUSED, "no program")
        else:
            assert model.wait()
    assert {answer for _, answer in model.endings.values()} == {"no program"}
    assert model.opened_ever <= LIMITS.first + LIMITS.doubters


def test_one_liar_does_not_make_a_program_refused() -> None:
    model = started(40, workers=30)
    model.opened(min(model.opening))
    model.answer(min(model.attempts), Verdict.REFUSED, "no program")
    model.finish_honestly()
    assert all(ending is Ending.DONE for ending, _ in model.endings.values())


def test_failures_do_not_draw_ever_new_paths() -> None:
    limits = replace(LIMITS, concurrent=500, budget=20, give_up_seconds=1e6)
    model = started(1000, workers=500, limits=limits)
    while model.now < 600:
        if model.opening:
            model.failed(min(model.opening))
        else:
            assert model.wait()
    assert model.opened_ever <= 20 + 600 / limits.budget_seconds + 1


@pytest.mark.parametrize("takes_sessions", [False, True])
def test_with_no_worker_left_the_array_ends(takes_sessions: bool) -> None:
    model = started(4)
    for _ in range(2000):
        if model.scheduler.is_over:
            break
        if model.opening:
            lane = min(model.opening)
            if takes_sessions:
                model.opened(lane)
                for attempt in [
                    each for each, (_, where) in model.attempts.items() if where == lane
                ]:
                    model.answer(attempt, Verdict.NOT_TAKEN)
            else:
                model.failed(lane)
        else:
            assert model.wait()
    assert {ending for ending, _ in model.endings.values()} == {Ending.FAILED}
    assert model.now >= LIMITS.give_up_seconds


def test_a_straggler_is_copied_and_the_first_answer_counts() -> None:
    model = started(8, workers=2, limits=replace(LIMITS, depth=1))
    while model.opening:
        model.opened(min(model.opening))
    stuck = min(model.attempts)
    task = model.attempts[stuck][0]
    while len(model.endings) < 7:
        model.now += 1
        model.answer(next(each for each in model.attempts if each != stuck), Verdict.ANSWERED)
        while model.opening:
            model.opened(min(model.opening))
    for _ in range(200):
        if len(model.attempts) == 2:
            break
        assert model.wait()
        while model.opening:
            model.opened(min(model.opening))
    assert {each for each, _ in model.attempts.values()} == {task}
    copy = next(each for each in model.attempts if each != stuck)
    model.answer(copy, Verdict.ANSWERED, "the copy's")
    assert model.endings[task] == (Ending.DONE, "the copy's")
    assert not model.attempts
    model.check()


def test_a_task_that_is_longer_than_all_others_comes_to_its_end_in_some_run() -> None:
    """Of none of its runs is anything heard but that it runs: copies seem ever better."""
    model = started(9, workers=4, limits=replace(LIMITS, depth=1))
    while model.opening:
        model.opened(min(model.opening))
    task = model.attempts[min(model.attempts)][0]
    begun: dict[int, float] = {}
    longest = 0.0
    while longest < 300.0:
        assert model.now < 3000.0
        model.now += 0.1
        model.scheduler.timer(model.now)
        model.act()
        while model.opening:
            model.opened(min(model.opening))
        for each, (number, _) in list(model.attempts.items()):
            if number != task:
                model.answer(each, Verdict.ANSWERED)
            else:
                begun.setdefault(each, model.now)
                longest = max(longest, model.now - begun[each])
    assert 2 <= len(begun) < 30
    model.check()


def test_what_is_unfinished_expires_at_the_deadline() -> None:
    model = Model(expires=100.0)
    model.scheduler.workers(candidates(3), 0.0)
    model.add(10)
    model.act()
    model.opened(min(model.opening))
    while not model.scheduler.is_over:
        assert model.scheduler.deadline() <= 100.0
        assert model.wait()
    assert model.now == 100.0
    assert {ending for ending, _ in model.endings.values()} == {Ending.EXPIRED}
    model.check()


def test_no_more_run_at_once_than_allowed() -> None:
    model = started(100, workers=20, limits=replace(LIMITS, concurrent=3))
    while not model.scheduler.is_over:
        assert len(model.open) + len(model.opening) <= 3
        if model.opening:
            model.opened(min(model.opening))
        else:
            model.now += 1
            model.answer(min(model.attempts), Verdict.ANSWERED)
    assert len(model.endings) == 100


def test_a_busy_worker_is_left_for_another() -> None:
    model = started(1, workers=2)
    first = model.opening[min(model.opening)]
    model.opened(min(model.opening), Terms(free=0, tasks=32))
    assert not model.open
    assert first not in model.opening.values()


def test_what_a_held_session_runs_is_not_run_elsewhere() -> None:
    model = Model()
    model.scheduler.workers(candidates(6), 0.0)
    held = candidates(9)[-1].identity
    attempts = model.resume(7, held, [0, 1, 2])
    model.add(6)
    model.scheduler.close(0.0)
    model.act()
    assert not {task for task, lane in model.attempts.values() if lane != 7} & {0, 1, 2}
    model.opened(7, Terms(free=0, tasks=32))
    for attempt in attempts:
        model.now += 1
        model.answer(attempt, Verdict.ANSWERED, "held")
    assert [model.endings[task] for task in range(3)] == [(Ending.DONE, "held")] * 3
    model.finish_honestly()
    assert model.opened_at > {7}
    assert min(model.opened_at - {7}) > 7


def test_a_held_session_that_is_gone_has_its_tasks_run_elsewhere_and_counts_as_no_try() -> None:
    model = Model(replace(LIMITS, retries=0))
    model.scheduler.workers(candidates(3), 0.0)
    model.resume(1, candidates(1)[0].identity, [0, 1])
    model.scheduler.close(0.0)
    model.act()
    model.failed(1)
    assert not model.endings
    model.finish_honestly()
    assert {ending for ending, _ in model.endings.values()} == {Ending.DONE}


def test_what_a_held_session_has_lost_is_run_again_and_the_rest_goes_on() -> None:
    model = Model(replace(LIMITS, retries=0))
    model.scheduler.workers(candidates(3), 0.0)
    first, second = model.resume(1, candidates(1)[0].identity, [0, 1])
    model.scheduler.close(0.0)
    model.opened(1)
    model.lose(first)
    assert 1 in model.open
    assert second in model.attempts
    model.finish_honestly()
    assert {ending for ending, _ in model.endings.values()} == {Ending.DONE}


def test_a_task_in_two_held_sessions_ends_with_the_first_answer() -> None:
    model = Model()
    model.scheduler.workers(candidates(3), 0.0)
    (first,) = model.resume(1, candidates(1)[0].identity, [0])
    (second,) = model.resume(2, candidates(2)[1].identity, [0])
    model.scheduler.close(0.0)
    model.opened(1)
    model.opened(2)
    model.answer(second, Verdict.ANSWERED, "second")
    assert model.endings == {0: (Ending.DONE, "second")}
    assert first not in model.attempts
    model.check()


def test_a_run_that_tells_nothing_any_more_is_copied_before_it_is_overdue() -> None:
    model = started(8, workers=2, limits=replace(LIMITS, depth=1))
    while len(model.endings) < 6:
        if model.opening:
            model.opened(min(model.opening))
            continue
        model.now += 10
        model.answer(model.running()[-1], Verdict.ANSWERED)
    silent, telling = model.running()[:2]
    begun = model.now
    while len({task for task, _ in model.attempts.values()}) == len(model.attempts):
        model.scheduler.progress(telling, 1 + model.now - begun, model.now)
        assert model.wait()
        while model.opening:
            model.opened(min(model.opening))
        assert model.now < begun + 100
    tasks = [task for task, _ in model.attempts.values()]
    assert tasks.count(model.attempts[silent][0]) == 2
    model.finish_honestly()


def test_who_is_back_and_at_work_gets_all_its_lanes_again() -> None:
    model = Model()
    model.scheduler.workers(candidates(1, places=4), 0.0)
    model.add(20)
    model.opened(min(model.opening), Terms(free=4, tasks=32))
    assert len(model.opening) == 3
    while model.open | model.opening:
        model.failed(min(model.open | model.opening))
    while not model.opening:
        assert model.wait()
    model.opened(min(model.opening), Terms(free=4, tasks=32))
    assert not model.opening
    model.scheduler.progress(model.running()[0], 5, model.now)
    model.act()
    assert len(model.opening) == 3


def handed_over(count: int, workers: int, terms: Terms) -> Model:
    """An array whose client leaves at once, until all is placed that can be."""
    model = started(count, workers, limits=replace(LIMITS, concurrent=8))
    model.hand_over()
    model.opened(min(model.opening), terms)
    model.scheduler.began(model.running()[0], model.now)
    model.act()
    for _ in range(1000):
        if model.opening:
            model.opened(min(model.opening), terms)
        elif len(model.attempts) == count or model.scheduler.is_stuck:
            break
        else:
            assert model.wait()
    return model


def test_when_the_client_leaves_workers_get_all_tasks_in_equal_shares() -> None:
    model = handed_over(1000, 20, Terms(free=2, tasks=1024))
    held = Counter(lane for _, lane in model.attempts.values())
    assert sum(held.values()) == 1000
    assert len({task for task, _ in model.attempts.values()}) == 1000
    assert len(held) == 8
    assert max(held.values()) <= 2 * 1000 / 8
    assert not model.scheduler.is_stuck
    for attempt in model.running():
        model.answer(attempt, Verdict.ANSWERED)
    assert model.scheduler.is_over


def test_what_no_worker_takes_when_the_client_leaves_is_told() -> None:
    model = handed_over(1000, 3, Terms(free=1, tasks=100))
    assert model.scheduler.is_stuck
    assert len(model.attempts) == 300
    for attempt in model.running():
        model.answer(attempt, Verdict.ANSWERED)
    assert len(model.attempts) == 300
    model.finish_honestly()
    assert len(model.endings) == 1000


class Anything(RuleBasedStateMachine):
    """Workers, lanes and attempts do anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.closed = False

    @initialize(count=st.sampled_from((0, 0, 2, 3)), held=st.lists(st.integers(0, 9), max_size=2))
    def begin_with(self, count: int, held: list[int]) -> None:
        replicas = Replicas(count, count + 2, pairs, quorum(2)) if count else None
        self.model = Model(replicas=replicas)
        for place, first in enumerate(held):
            # Each in a session of its own family, since it was so before.
            worker = candidates(2 * place + 1)[-1].identity
            self.model.resume(10 + place, worker, list(range(first, first + 3)))

    @rule(count=st.integers(0, 8), places=st.integers(0, 3))
    def consensus(self, count: int, places: int) -> None:
        self.model.scheduler.workers(candidates(count, places=places), self.model.now)
        self.model.act()

    @precondition(lambda self: not self.closed)
    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        self.model.add(count)

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.model.scheduler.close(self.model.now)
        self.model.act()

    @precondition(lambda self: self.model.opening)
    @rule(data=st.data(), free=st.integers(-1, 4), tasks=st.integers(1, 5))
    def opened(self, data: st.DataObject, free: int, tasks: int) -> None:
        self.model.opened(
            data.draw(st.sampled_from(sorted(self.model.opening))), Terms(free, tasks)
        )

    @precondition(lambda self: self.model.opening or self.model.open)
    @rule(data=st.data(), verdict=st.sampled_from(sorted(Verdict, key=lambda v: v.value)[1:]))
    def lane_fails(self, data: st.DataObject, verdict: Verdict) -> None:
        lanes = sorted(self.model.opening | self.model.open)
        self.model.failed(data.draw(st.sampled_from(lanes)), verdict)

    @precondition(lambda self: self.model.running())
    @rule(data=st.data(), verdict=st.sampled_from(Verdict), answer=st.sampled_from("aab"))
    def answer(self, data: st.DataObject, verdict: Verdict, answer: str) -> None:
        running = self.model.running() + sorted(self.model.verifying)
        self.model.answer(data.draw(st.sampled_from(running)), verdict, answer)

    @precondition(lambda self: self.model.running())
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.model.running()))
        self.model.scheduler.began(attempt, self.model.now)
        self.model.act()

    @precondition(lambda self: self.model.running())
    @rule(data=st.data())
    def verify(self, data: st.DataObject) -> None:
        self.model.verify(data.draw(st.sampled_from(self.model.running())))

    @precondition(lambda self: self.model.running())
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.model.lose(data.draw(st.sampled_from(self.model.running())))

    @rule()
    def hand_over(self) -> None:
        self.model.hand_over()

    @rule(seconds=st.floats(0, 50))
    def time_passes(self, seconds: float) -> None:
        self.model.now += seconds
        self.model.scheduler.timer(self.model.now)
        self.model.act()

    @rule(number=st.integers(0, 10_000))
    def late_words(self, number: int) -> None:
        """What was cancelled or closed may still say something: it does not count."""
        if number not in self.model.attempts | self.model.verifying:
            self.model.scheduler.answered(number, Verdict.ANSWERED, None, self.model.now)
        if number not in self.model.open | self.model.opening:
            self.model.scheduler.lane_failed(number, Verdict.FAILED, None, self.model.now)
        self.model.act()

    @precondition(lambda self: self.closed)
    @rule()
    def cancel(self) -> None:
        self.model.scheduler.cancel(self.model.now)
        self.model.act()

    @invariant()
    def all_is_well(self) -> None:
        self.model.check()

    def teardown(self) -> None:
        if not self.closed:
            self.close()
        self.model.scheduler.workers(candidates(5), self.model.now)
        self.model.act()
        self.model.finish_honestly()


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", range(2))
def test_a_small_cloud_of_all_speeds_with_churn_and_lies_is_used_well(seed: int) -> None:
    figures = simulate(Size(workers=100, tasks=1000, concurrent=400), seed)
    assert figures.done == 1000
    assert figures.failed == 0
    assert figures.ratio <= 1.25
    assert figures.fuel_share <= 1.05
