"""Arrays whose answers are compared and judged, over real sessions (spec/12 §2 to §4)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.array_shell import Array
from fogbank.client.errors import CircuitUnavailable, NoQuorum
from fogbank.client.exit_codes import ending_of_task
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Candidate, Ending, Replicas
from fogbank.client.verification.apart import Apart
from fogbank.client.verification.inspector_shell import Inspecting, Opinion, Word
from fogbank.client.verification.jury import Rule
from fogbank.client.verification.panel import Conviction, Panel, convictions
from fogbank.client.verification.words import Verification
from fogbank.relay.job.attestation import Leaf, Proof, Statement
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.job.service_shell import JobService
from fogbank.relay.keys import NodeId
from fogbank.sandbox.data import whole
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task
from tests.client.attesting import ENGINE, NOW, Witness
from tests.client.networks import SeededChooser
from tests.client.test_array_shell import Given, Kept, echoes
from tests.relay.job_fakes import CEILINGS, MODULE, FakeRunner, serve, task

PROGRAM = hashlib.sha256(MODULE).digest()
LIMITS = ArrayLimits(concurrent=16)
THREE = Rule(3, 2, 8)
Lie = Callable[[Task, Result], Result]


def lies(task: Task, result: Result) -> Result:
    """The same lie, whoever tells it."""
    return replace(result, stdout=b"a lie about " + whole(task.stdin)[:8])


def tells(_: Task, result: Result) -> Result:
    """The truth."""
    return result


@dataclass(eq=False)
class Teller:
    """Tells of what the honest runner came to; each task takes a while, so that all get some."""

    honest: FakeRunner
    tale: Lie

    @asynccontextmanager
    async def open_job(self, program: Any) -> Any:
        async with self.honest.open_job(program) as job:
            yield TellingJob(job, self.tale)


@dataclass(eq=False)
class TellingJob:
    job: Any
    tale: Lie

    async def run(self, task: Task, supply: Any) -> Result:
        await trio.sleep(2)
        return self.tale(task, await self.job.run(task, supply))


@dataclass(eq=False)
class Attesting:
    """A worker that attests; it lies, is of a family, or attests otherwise, as it is told."""

    name: str
    nursery: trio.Nursery
    lie: Lie | None = None
    families: frozenset[bytes] = frozenset()
    attest: Callable[[Statement], bytes] | None = None
    engine: str = ENGINE
    runner: FakeRunner = field(default_factory=FakeRunner)

    @property
    def witness(self) -> Witness:
        return Witness(self.name)

    @property
    def way(self) -> tuple[str, ...]:
        return ("guard", "relay", self.name)

    async def open_stream(self) -> Any:
        near, far = memory_stream_pair()
        runner = Teller(self.runner, self.lie or tells)
        attest = self.attest or self.witness.attest
        self.nursery.start_soon(
            serve, JobService(runner, self.engine, CEILINGS, attest=attest), far
        )
        return near

    def close(self) -> None:
        """Its circuit is no circuit."""


@dataclass(eq=False)
class Cloud:
    """The workers, and who is apart from whom."""

    workers: dict[NodeId, Attesting]
    apart: Apart
    missing: set[NodeId] = field(default_factory=set)

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(each, 1000, 2) for each in self.workers if each not in self.missing)

    async def connect(self, worker: NodeId) -> Attesting:
        await trio.sleep(0.5)
        if worker in self.missing:
            raise CircuitUnavailable("no circuit could be built")
        return self.workers[worker]

    def ran(self, name: str) -> int:
        return len(self.workers[Witness(name).identity].runner.ran)


@dataclass(frozen=True)
class Came:
    """What became of an array."""

    ends: dict[int, TaskEnd]
    cloud: Cloud
    told: list[Conviction]

    @property
    def wrong(self) -> set[NodeId]:
        return {each.worker for each in self.told}

    @property
    def codes(self) -> set[int]:
        return {ending_of_task(end).code for end in self.ends.values()}


async def run(
    tasks: Sequence[Task],
    rule: Rule,
    liars: dict[str, Lie] | None = None,
    *,
    workers: int = 6,
    change: Callable[[Attesting], None] = lambda _: None,
    judge: Any = None,
    retries: int = 5,
) -> Came:
    """Run an array among workers of which some lie."""
    async with trio.open_nursery() as nursery:
        named = [f"w{number}" for number in range(1, workers + 1)]
        known = {Witness(name).identity: Attesting(name, nursery) for name in named}
        for worker in known.values():
            worker.lie = (liars or {}).get(worker.name)
            change(worker)
        apart = Apart(rule.most, rule.quorum)
        apart.update(
            {each: worker.families for each, worker in known.items()}, lambda _: frozenset()
        )
        cloud = Cloud(known, apart)
        told: list[Conviction] = []

        def convict(worker: NodeId, why: str, own: Proof, others: Sequence[Proof]) -> None:
            told.append(Conviction(worker, why, own, tuple(others)))

        inspector = Inspecting(PROGRAM, lambda: NOW, ENGINE, judge, convict)
        replicas = Replicas(rule.replicas, rule.most, apart.conflict, Panel(rule).judge)
        source = Given(tasks)
        sink = Kept(source)
        chooser = SeededChooser("verified")
        limits = replace(LIMITS, retries=retries)
        checks = Verification(replicas, inspector)
        with trio.fail_after(24 * 3600):
            array = Array(cloud, MODULE, source, sink, chooser, limits=limits, verification=checks)
            await array.run()
        nursery.cancel_scope.cancel()
    for end in sink.ends.values():
        told += convictions(end.number, end.replies, end.wrong)
    return Came(sink.ends, cloud, told)


def outputs(came: Came) -> list[bytes]:
    return [bytes(end.result.stdout) for _, end in sorted(came.ends.items()) if end.result]  # type: ignore[arg-type]


async def test_honest_workers_agree_and_each_task_has_a_quorum(autojump_clock: MockClock) -> None:
    tasks = echoes(30)
    came = await run(tasks, THREE)
    assert outputs(came) == [each.stdin for each in tasks]
    assert came.codes == {0}
    assert not came.told
    for end in came.ends.values():
        workers = [reply.worker for reply in end.replies]
        assert len(set(workers)) == len(workers) >= 2


async def test_a_lying_worker_is_outvoted_found_wrong_and_avoided(
    autojump_clock: MockClock,
) -> None:
    tasks = echoes(60)
    came = await run(tasks, THREE, {"w2": lies})
    liar = Witness("w2").identity
    assert outputs(came) == [each.stdin for each in tasks]
    assert came.wrong == {liar}
    assert came.cloud.ran("w2") < 30
    for each in came.told:
        assert each.own.verify() == liar
        assert len(each.others) >= 2
        for other in each.others:
            assert other.verify() in came.cloud.workers
            assert other.shown[Leaf.INPUT][1] == each.own.shown[Leaf.INPUT][1]
            assert other.shown[Leaf.STDOUT][1] != each.own.shown[Leaf.STDOUT][1]


async def test_two_that_collude_do_not_win_against_a_quorum_of_three(
    autojump_clock: MockClock,
) -> None:
    """K = 3 is more than the two that lie alike: what is promised holds, whoever is drawn."""
    tasks = echoes(60)
    came = await run(tasks, Rule(3, 3, 8), {"w1": lies, "w4": lies})
    assert outputs(came) == [each.stdin for each in tasks]
    assert came.wrong <= {Witness("w1").identity, Witness("w4").identity}
    assert came.wrong


async def test_two_that_collude_can_win_against_a_quorum_of_two(
    autojump_clock: MockClock,
) -> None:
    """K = 2 promises nothing against two: some of their lies are accepted where both are drawn."""
    tasks = echoes(60)
    came = await run(tasks, THREE, {"w1": lies, "w2": lies}, workers=3)
    told = outputs(came)
    assert len(told) == 60
    lied = [out for out in told if out.startswith(b"a lie")]
    assert lied
    # Nothing but the truth and their one lie: a quorum is behind each.
    assert set(told) <= {each.stdin for each in tasks} | set(lied)


async def test_two_that_collude_but_are_of_one_family_are_one(autojump_clock: MockClock) -> None:
    def family(worker: Attesting) -> None:
        if worker.name in {"w1", "w2"}:
            worker.families = frozenset({b"f" * 32})

    tasks = echoes(60)
    came = await run(tasks, THREE, {"w1": lies, "w2": lies}, workers=5, change=family)
    assert outputs(came) == [each.stdin for each in tasks]
    for end in came.ends.values():
        names = {came.cloud.workers[reply.worker].name for reply in end.replies}
        assert not names >= {"w1", "w2"}


async def test_answers_that_all_differ_are_disputed(autojump_clock: MockClock) -> None:
    def own(name: str) -> Lie:
        return lambda _, result: replace(result, stdout=name.encode())

    liars = {f"w{number}": own(f"w{number}") for number in range(1, 7)}
    came = await run(echoes(4), Rule(3, 2, 5), liars)
    assert {end.ending for end in came.ends.values()} == {Ending.DISPUTED}
    assert came.codes == {127}
    assert not came.told
    for end in came.ends.values():
        assert isinstance(end.error, NoQuorum)
        assert end.result is None
        assert 3 <= len(end.replies) <= 5


async def test_fewer_independent_workers_than_a_quorum_end_as_no_quorum(
    autojump_clock: MockClock,
) -> None:
    def family(worker: Attesting) -> None:
        worker.families = frozenset({b"f" * 32})

    came = await run(echoes(2), THREE, workers=4, change=family)
    assert came.codes == {127}
    assert not outputs(came)


@pytest.mark.parametrize("fault", ["none", "garbage", "another's", "another task's", "late"])
async def test_an_answer_without_an_attestation_that_holds_is_none(
    fault: str, autojump_clock: MockClock
) -> None:
    other = Witness("somebody else")
    attest: dict[str, Callable[[Statement], bytes]] = {
        "garbage": lambda _: b"garbage",
        "another's": other.attest,
        "another task's": lambda said: Witness("w1").attest(
            Statement((*said.values[:1], said.values[0], *said.values[2:]))
        ),
        "late": lambda said: Witness("w1").signer.attest(said, bytes(32), NOW + 7200).encode(),
    }

    def change(worker: Attesting) -> None:
        if worker.name == "w1":
            worker.attest = attest.get(fault, lambda _: b"\xa0")

    tasks = echoes(20)
    came = await run(tasks, THREE, change=change, workers=4)
    assert outputs(came) == [each.stdin for each in tasks]
    assert not came.told
    for end in came.ends.values():
        assert Witness("w1").identity not in {reply.worker for reply in end.replies}


async def test_another_engine_class_is_not_compared(autojump_clock: MockClock) -> None:
    def change(worker: Attesting) -> None:
        if worker.name == "w1":
            worker.engine, worker.lie = "another class", lies

    tasks = echoes(20)
    came = await run(tasks, THREE, change=change)
    assert outputs(came) == [each.stdin for each in tasks]
    assert not came.told
    assert came.cloud.ran("w1") < 10


@pytest.mark.parametrize(
    "outcome", [Outcome.TRAP, Outcome.OUT_OF_MEMORY, Outcome.TIMEOUT, Outcome.HOST_FAILURE]
)
async def test_a_shortage_convicts_nobody(outcome: Outcome, autojump_clock: MockClock) -> None:
    def short(_: Task, result: Result) -> Result:
        return Result(outcome, fuel=result.fuel, reason="there was no more")

    tasks = echoes(20)
    came = await run(tasks, THREE, {"w1": short})
    assert outputs(came) == [each.stdin for each in tasks]
    assert not came.told


async def test_a_program_s_own_failure_is_agreed_on(autojump_clock: MockClock) -> None:
    came = await run([task("exit", "3"), task("end", "TRAP")], THREE)
    assert [ending_of_task(came.ends[number]).code for number in (1, 2)] == [3, 122]


class Knows:
    """A program that judges, and knows what is right; it takes a while, like any program."""

    def __init__(self, *, here: bool = True, word: Word | None = None) -> None:
        self.asked = 0
        self._here = here
        self._word = word

    async def judge(self, worker: NodeId, task: Task, result: TaskResult) -> Opinion:
        self.asked += 1
        assert worker in {Witness(f"w{number}").identity for number in range(1, 7)}
        await trio.sleep(3)
        right = Word.RIGHT if result.stdout == task.stdin else Word.WRONG
        return Opinion(self._word or right, "exit code 1", self._here)


JUDGED = Rule(1, 1, 6, judges=True)


async def test_what_the_program_refuses_goes_elsewhere_and_convicts_its_worker(
    autojump_clock: MockClock,
) -> None:
    tasks = echoes(30)
    judge = Knows()
    came = await run(tasks, JUDGED, {"w1": lies}, judge=judge)
    assert outputs(came) == [each.stdin for each in tasks]
    assert came.wrong == {Witness("w1").identity}
    assert judge.asked >= 30
    for each in came.told:
        assert each.own.shown[Leaf.INPUT][1] == each.others[0].shown[Leaf.INPUT][1]


@pytest.mark.parametrize("word", [Word.WRONG, Word.NOTHING])
async def test_a_program_that_accepts_nothing_convicts_nobody(
    word: Word, autojump_clock: MockClock
) -> None:
    came = await run(echoes(3), JUDGED, judge=Knows(word=word), retries=2)
    assert came.codes == {127}
    assert not outputs(came)
    assert not came.told


async def test_a_worker_s_judgement_convicts_nobody(autojump_clock: MockClock) -> None:
    tasks = echoes(10)
    came = await run(tasks, JUDGED, {"w1": lies}, judge=Knows(here=False))
    assert outputs(came) == [each.stdin for each in tasks]
    assert not came.told


async def test_a_claim_of_failure_needs_a_second_worker(autojump_clock: MockClock) -> None:
    """It is the cheapest lie of all where only outputs are judged."""

    def claims(_: Task, result: Result) -> Result:
        return Result(Outcome.TRAP, fuel=result.fuel, reason="unreachable")

    tasks = echoes(20)
    judge = Knows()
    came = await run(tasks, JUDGED, {"w1": claims}, judge=judge)
    assert outputs(came) == [each.stdin for each in tasks]
    assert [each.code for each in map(ending_of_task, came.ends.values())] == [0] * 20
    both = await run([task("end", "TRAP")], JUDGED, judge=judge)
    assert both.codes == {122}
    assert len(both.ends[1].replies) == 2


async def test_what_is_judged_does_not_hold_up_its_lane(autojump_clock: MockClock) -> None:
    """Sixteen are judged at once, at three seconds each: a lane alone would take a minute more."""
    began = trio.current_time()
    came = await run(echoes(40), JUDGED, judge=Knows(), workers=1)
    assert came.codes == {0}
    assert trio.current_time() - began < 60


def test_evidence_names_those_that_agreed() -> None:
    assert convictions(1, (), ()) == []
