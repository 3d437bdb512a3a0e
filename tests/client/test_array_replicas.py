"""Tasks that several workers answer, and a judge who says what that is worth (spec/11 §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fogbank.client.scheduling.words import Ending, Judgement, Kind, Replicas, Reply, Verdict
from tests.client.array_model import LIMITS, Model, candidates, pairs, quorum, started

TWO = Replicas(2, 5, pairs, quorum(2))


def answer_next(model: Model, answer: str, verdict: Verdict = Verdict.ANSWERED) -> bytes:
    """Let the next attempt, once there is one, be answered; return by whom."""
    while not model.running():
        if model.opening:
            model.opened(min(model.opening))
        else:
            assert model.wait(), "nothing happens any more"
    attempt = model.running()[0]
    worker = model.open[model.attempts[attempt][1]]
    model.answer(attempt, verdict, answer)
    model.check()
    return worker


def test_each_task_is_answered_by_workers_apart_from_each_other() -> None:
    model = started(30, workers=8, replicas=TWO)
    model.finish_honestly()
    assert {ending for ending, _ in model.endings.values()} == {Ending.DONE}
    for finish in model.finishes.values():
        first, second = (reply.worker for reply in finish.replies)
        assert not pairs(first, second)


def test_what_is_disputed_goes_to_further_workers_and_liars_are_used_no_more() -> None:
    model = Model(replicas=TWO)
    model.scheduler.workers(candidates(12), 0.0)
    model.add()
    liar = answer_next(model, "a lie")
    answer_next(model, "true")
    assert not model.endings
    answer_next(model, "true")
    assert model.endings == {0: (Ending.DONE, "true")}
    assert model.finishes[0].wrong == (liar,)
    model.add(40)
    model.scheduler.close(model.now)
    while not model.scheduler.is_over:
        assert liar not in set(model.open.values()) | set(model.opening.values())
        answer_next(model, "true")


def test_a_dispute_without_end_is_told_with_all_replies() -> None:
    model = started(1, workers=20, replicas=TWO)
    for number in range(5):
        answer_next(model, f"answer {number}")
    ending, _ = model.endings[0]
    assert ending is Ending.DISPUTED
    assert [reply.answer for reply in model.finishes[0].replies] == [
        f"answer {number}" for number in range(5)
    ]


def test_if_nobody_is_left_who_is_apart_the_array_ends() -> None:
    model = started(3, workers=2, replicas=TWO)
    model.finish_honestly()
    assert {ending for ending, _ in model.endings.values()} == {Ending.FAILED}
    assert model.now >= LIMITS.give_up_seconds
    assert all(len(finish.replies) == 1 for finish in model.finishes.values())


def test_a_dispute_that_nobody_is_left_to_settle_is_one() -> None:
    model = started(1, workers=4, replicas=TWO)
    answer_next(model, "one")
    answer_next(model, "other")
    model.finish_honestly()
    assert model.endings[0][0] is Ending.DISPUTED


def test_a_judge_who_has_enough_early_spares_the_rest() -> None:
    model = started(1, workers=20, replicas=Replicas(5, 7, pairs, quorum(2)))
    for _ in range(2):
        answer_next(model, "same")
    assert model.endings == {0: (Ending.DONE, "same")}
    assert not model.attempts


def test_a_judge_may_want_several_more() -> None:
    def judge(task: int, replies: Sequence[Reply]) -> Judgement:
        del task
        if len(replies) < 5:
            return Judgement(Kind.MORE, more=5 - len(replies))
        return Judgement(Kind.ENOUGH, "all five")

    model = started(1, workers=20, replicas=Replicas(1, 9, pairs, judge))
    answer_next(model, "first")
    while len(model.attempts) < 4:
        if model.opening:
            model.opened(min(model.opening))
        else:
            assert model.wait()
    model.finish_honestly()
    assert model.endings == {0: (Ending.DONE, "all five")}


def test_failures_are_tried_again_and_do_not_count_as_replies() -> None:
    model = started(1, workers=30, replicas=TWO)
    answer_next(model, "true")
    for _ in range(LIMITS.retries):
        answer_next(model, "failed", Verdict.FAILED)
    assert not model.endings
    answer_next(model, "true")
    assert model.endings[0] == (Ending.DONE, "true")


def test_tries_that_end_before_the_quorum_end_the_task() -> None:
    model = started(1, workers=30, replicas=TWO)
    answer_next(model, "true")
    for _ in range(LIMITS.retries + 1):
        answer_next(model, "failed", Verdict.FAILED)
    assert model.endings[0] == (Ending.FAILED, "failed")


def test_while_an_answer_is_verified_its_lane_goes_on() -> None:
    model = started(3, workers=1, limits=replace(LIMITS, concurrent=1))
    model.opened(min(model.opening))
    (first,) = model.running()
    lane = model.attempts[first][1]
    model.now += 1
    model.verify(first)
    assert [where for _, where in model.attempts.values()].count(lane) >= 1
    assert not model.endings
    model.answer(first, Verdict.ANSWERED, "verified")
    assert model.endings == {0: (Ending.DONE, "verified")}
    model.finish_honestly()


def test_a_worker_that_is_proven_wrong_is_used_no_more() -> None:
    model = started(20, workers=6)
    model.opened(min(model.opening))
    (first,) = model.running()
    liar = model.open[model.attempts[first][1]]
    model.verify(first)
    model.answer(first, Verdict.WRONG, "refuted")
    for _ in range(200):
        assert liar not in set(model.open.values()) | set(model.opening.values())
        if model.scheduler.is_over:
            break
        answer_next(model, "true")
    assert {ending for ending, _ in model.endings.values()} == {Ending.DONE}
