"""When answers make a task's answer, and who was wrong (spec/12 §2, §4)."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.client.scheduling.words import Kind
from fogbank.client.verification.jury import Finding, Rule, judge
from fogbank.client.verification.words import Checked
from fogbank.relay.keys import NodeId
from fogbank.sandbox.outcome import Outcome
from tests.client.attesting import Witness, ended, right

WITNESSES = [Witness(f"worker {number}") for number in range(9)]
HONEST = right()
LIE = right(b"43\n")
SHORTAGES = (Outcome.TRAP, Outcome.OUT_OF_MEMORY, Outcome.TIMEOUT)
RESULTS = [
    HONEST,
    LIE,
    right(fuel=1001),
    right(b""),
    *map(ended, SHORTAGES),
    ended(Outcome.OUT_OF_FUEL),
]
CHECKED = {
    (witness.name, index): witness.checked(result)
    for witness in WITNESSES
    for index, result in enumerate(RESULTS)
}


def answers(*indices: int) -> list[tuple[NodeId, Checked]]:
    """One witness after the other gives a result of RESULTS."""
    return [
        (witness.identity, CHECKED[witness.name, index])
        for witness, index in zip(WITNESSES, indices, strict=False)
    ]


rules = st.integers(1, 5).flatmap(
    lambda n: st.builds(
        Rule, st.just(n), st.integers(n // 2 + 1, n), st.integers(n, 9), st.booleans()
    )
)
courses = st.lists(st.integers(0, len(RESULTS) - 1), min_size=0, max_size=9)


def essences(given: list[tuple[NodeId, Checked]]) -> dict[NodeId, tuple[bytes, ...]]:
    return {worker: answer.essence for worker, answer in given}


@settings(derandomize=True, max_examples=300)
@given(rules, courses)
def test_what_is_accepted_was_given_by_a_quorum_of_workers(rule: Rule, course: list[int]) -> None:
    given = answers(*course[: rule.most])
    judgement = judge(given, rule)
    said = essences(given)
    if judgement.kind is Kind.ENOUGH:
        assert len(set(judgement.agreed)) == len(judgement.agreed) >= rule.quorum
        assert len({said[worker] for worker in judgement.agreed}) == 1
        if rule.judges:
            assert len(judgement.agreed) >= 2
    elif judgement.kind is Kind.MORE:
        assert 1 <= judgement.more <= rule.most - len(given)
    else:
        assert judgement == Finding(Kind.DISPUTED)
        commonest = max((list(said.values()).count(each) for each in said.values()), default=0)
        needed = max(rule.quorum, 2) if rule.judges else rule.quorum
        assert commonest + rule.most - len(given) < needed


@settings(derandomize=True, max_examples=300)
@given(rules, courses)
def test_who_agreed_or_had_a_shortage_is_never_convicted(rule: Rule, course: list[int]) -> None:
    given = answers(*course[: rule.most])
    judgement = judge(given, rule)
    said = dict(given)
    assert set(judgement.wrong).isdisjoint(judgement.agreed)
    assert not judgement.wrong or len(judgement.agreed) >= 2
    for worker in judgement.wrong:
        assert said[worker].result.outcome not in SHORTAGES
        assert said[judgement.agreed[0]].result.outcome not in SHORTAGES
        assert said[worker].essence != said[judgement.agreed[0]].essence


@settings(derandomize=True, max_examples=300)
@given(rules, st.data())
def test_fewer_liars_than_the_quorum_never_win(rule: Rule, data: st.DataObject) -> None:
    """They all tell the same lie, and come in any order among the honest."""
    rule = replace(rule, judges=False)
    liars = data.draw(st.integers(0, rule.quorum - 1))
    honest = rule.most - liars
    course = data.draw(st.permutations([1] * liars + [0] * honest))
    for count in range(1, rule.most + 1):
        given = answers(*course[:count])
        judgement = judge(given, rule)
        if judgement.kind is Kind.ENOUGH:
            assert dict(given)[judgement.agreed[0]].result == HONEST
            honest_workers = {worker for worker, answer in given if answer.result == HONEST}
            assert set(judgement.wrong).isdisjoint(honest_workers)
            return
    # So few are asked that the honest among them are no quorum: then it is disputed, not decided.
    assert honest < rule.quorum


def test_a_quorum_that_colludes_wins_and_one_more_vote_stops_it() -> None:
    """What replicas do not promise: N = 3, K = 2 against two that collude; K = 3 is enough."""
    for course in set(permutations((0, 1, 1))):
        assert judge(answers(*course), Rule(3, 2, 8)).kind is Kind.ENOUGH
        lied = judge(answers(*course), Rule(3, 2, 8))
        assert dict(answers(*course))[lied.agreed[0]].result == LIE
        careful = judge(answers(*course), Rule(3, 3, 8))
        assert careful == Finding(Kind.MORE, more=1)
        # The next worker may be the third that colludes, or honest: only honest ones are left.
        decided = judge(answers(*course, 0, 0), Rule(3, 3, 8))
        assert decided.kind is Kind.ENOUGH
        assert dict(answers(*course, 0, 0))[decided.agreed[0]].result == HONEST
        assert len(decided.wrong) == 2


def test_a_quorum_is_enough_before_all_have_answered() -> None:
    assert judge(answers(0), Rule(3, 2, 8)) == Finding(Kind.MORE, more=1)
    assert judge(answers(0, 0), Rule(3, 2, 8)).kind is Kind.ENOUGH


def test_a_dispute_goes_to_more_workers_until_the_tries_end() -> None:
    rule = Rule(3, 2, 5)
    assert judge(answers(0, 1, 2), rule) == Finding(Kind.MORE, more=1)
    assert judge(answers(0, 1, 2, 3), rule) == Finding(Kind.MORE, more=1)
    assert judge(answers(0, 1, 2, 3, 4), rule).kind is Kind.DISPUTED
    assert judge(answers(0, 1, 2, 3, 0), rule).kind is Kind.ENOUGH
    assert judge(answers(0, 1, 2), Rule(3, 3, 4)).kind is Kind.DISPUTED


def test_fuel_and_each_output_count() -> None:
    assert judge(answers(0, 2), Rule(3, 2, 8)) == Finding(Kind.MORE, more=1)
    first, second, third = WITNESSES[:3]
    loud = replace(HONEST, stderr=b"warning")
    given = [(first.identity, first.checked(HONEST)), (second.identity, second.checked(loud))]
    assert judge(given, Rule(3, 2, 8)).kind is Kind.MORE
    other = [(third.identity, third.checked(replace(HONEST, exit_code=1)))]
    assert judge([*given, *other], Rule(3, 2, 8)).kind is Kind.MORE


@pytest.mark.parametrize("outcome", SHORTAGES)
def test_of_a_shortage_the_outcome_alone_counts(outcome: Outcome) -> None:
    first, second = WITNESSES[:2]
    slow = replace(ended(outcome), fuel=1), replace(ended(outcome), fuel=2, stdout=b"so far")
    given = [(first.identity, first.checked(slow[0])), (second.identity, second.checked(slow[1]))]
    assert judge(given, Rule(3, 2, 8)) == Finding(Kind.ENOUGH, 0, (first.identity, second.identity))


def test_engine_classes_are_not_compared() -> None:
    first, second, third = WITNESSES[:3]
    given = [
        (first.identity, first.checked(HONEST, "one class")),
        (second.identity, second.checked(HONEST, "another")),
    ]
    assert judge(given, Rule(3, 2, 8)) == Finding(Kind.MORE, more=1)
    given.append((third.identity, third.checked(LIE, "one class")))
    given.append((WITNESSES[3].identity, WITNESSES[3].checked(LIE, "one class")))
    assert judge(given, Rule(3, 2, 8)).wrong == (first.identity,)


def test_what_a_program_judged_right_is_enough_and_other_ends_need_two() -> None:
    rule = Rule(judges=True, most=6)
    first, second = WITNESSES[:2]
    good = [(first.identity, first.checked(HONEST, judged=True))]
    assert judge(good, rule).kind is Kind.ENOUGH
    crash = [(first.identity, first.checked(ended(Outcome.TRAP)))]
    assert judge(crash, rule) == Finding(Kind.MORE, more=1)
    assert judge([*crash, (second.identity, second.checked(ended(Outcome.TRAP)))], rule).agreed == (
        first.identity,
        second.identity,
    )


def test_one_answer_that_a_program_finds_right_convicts_nobody_who_said_otherwise() -> None:
    """Who failed honestly, where a liar guessed a right answer, is no liar."""
    first, second = WITNESSES[:2]
    failed = [(first.identity, first.checked(replace(HONEST, exit_code=3)))]
    right_one = (second.identity, second.checked(LIE, judged=True))
    finding = judge([*failed, right_one], Rule(judges=True, most=6))
    assert finding == Finding(Kind.ENOUGH, 0, (second.identity,))


@pytest.mark.parametrize(
    ("replicas", "quorum", "words"),
    [(0, 1, "1 to 16"), (17, 9, "1 to 16"), (2, 1, "both win"), (4, 2, "both win"), (3, 4, "3")],
)
def test_numbers_that_decide_nothing_are_refused(replicas: int, quorum: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rule(replicas, quorum, 20)
