"""A user's verification of what workers answer: who runs what, who judges, what is kept (spec/12).

async with open_court(user, reach, program, wanted, retries, say) as court:
    array = Array(court.reach, program, …, verification=court.verification)
    …
    court.ended(end)   # for the end of each task
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from fogbank.client.chance_shell import SystemChooser
from fogbank.client.errors import NoPath
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Candidate, Replicas
from fogbank.client.verification.apart import Apart, Level
from fogbank.client.verification.evidence_shell import SUFFIX, Evidence
from fogbank.client.verification.inspector_shell import Inspecting, Judge
from fogbank.client.verification.judges_shell import Judging, RemoteJudge, open_local_judge
from fogbank.client.verification.jury import Rule
from fogbank.client.verification.panel import Panel, checked_of, convictions
from fogbank.client.verification.words import Verification
from fogbank.directory.entries import Entry
from fogbank.nodes.arrays import UserReach, WorkerLine, open_reach
from fogbank.nodes.job_spec import Program, Wanted
from fogbank.nodes.user import Note, User
from fogbank.relay.job.attestation import Proof
from fogbank.relay.job.statement import program_digest
from fogbank.relay.keys import NodeId
from fogbank.runtimes import cache_folder, cached
from fogbank.sandbox.jail import SandboxUnavailable
from fogbank.sandbox.runtimes.catalogue import RuntimeId, RuntimeSpec
from fogbank.sandbox.runtimes.store_shell import RuntimeStore

_LOCAL_JOBS: Final = 2
_LEVELS: Final = {
    Level.SETS: "this network is small: workers that run the same task may share contact relays",
    Level.FAMILIES: "this network is very small: workers that run the same task may have the same "
    "contact relays, and differ in their families alone",
}


class ApartReach:
    """The workers of one engine class, of which it is known who is apart from whom."""

    def __init__(self, user: User, reach: UserReach, apart: Apart) -> None:
        self._user = user
        self._reach = reach
        self.apart = apart
        self._seen: tuple[Candidate, ...] = ()
        self.engine = self._largest_class()
        self.is_enough = True
        self.candidates()

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the workers that are listed now, of that class."""
        entries = {each.identity: each for each in self._user.workers()}
        listed = tuple(
            each
            for each in self._reach.candidates()
            if each.identity in entries and entries[each.identity].engine == self.engine
        )
        if listed != self._seen:
            self._seen = listed
            families = {each.identity: entries[each.identity].families for each in listed}
            known = {each: frozenset(names) for each, names in families.items()}
            self.is_enough = self.apart.update(known, self._contacts_in(entries))
        return listed

    async def connect(self, worker: NodeId) -> WorkerLine:
        """Build a circuit; raise `NoPath` or `CircuitUnavailable`."""
        return await self._reach.connect(worker)

    def _largest_class(self) -> str:
        listed = {each.identity: each.weight for each in self._reach.candidates()}
        sizes: Counter[str] = Counter()
        for entry in self._user.workers():
            sizes[entry.engine] += listed.get(entry.identity, 0)
        return max(sizes, key=lambda name: (sizes[name], name), default="")

    def _contacts_in(self, entries: dict[NodeId, Entry]) -> Callable[[NodeId], frozenset[NodeId]]:
        topology = self._user.topology

        def contacts(worker: NodeId) -> frozenset[NodeId]:
            entry = entries.get(worker)
            found = () if entry is None else topology.contacts(entry)
            return frozenset(relay.identity for relay in found)

        return contacts


class Court:
    """All of one array's verification; without any it lets everything pass."""

    def __init__(
        self,
        reach: UserReach | ApartReach,
        verification: Verification | None,
        evidence: Evidence,
        folder: Path | None,
    ) -> None:
        self.reach = reach
        self.verification = verification
        self._evidence = evidence
        self._folder = folder

    async def ended(self, end: TaskEnd) -> None:
        """Keep what the end of a task has shown. Raises `OSError`."""
        if end.wrong or (self._folder is not None and end.replies):
            await trio.to_thread.run_sync(self._keep, end)
        else:
            await trio.lowlevel.checkpoint()

    def _keep(self, end: TaskEnd) -> None:
        for each in convictions(end.number, end.replies, end.wrong):
            self._evidence.keep(each.worker, each.reason, each.own, each.others)
        if self._folder is not None:
            for place, (_, answer) in enumerate(checked_of(end.replies), 1):
                path = self._folder / f"{end.number}-{place}{SUFFIX}"
                temporary = path.with_name(f".{path.name}.{os.getpid()}")
                temporary.write_bytes(answer.proof.encode())
                temporary.replace(path)


@asynccontextmanager
async def open_court(
    user: User,
    reach: UserReach,
    program: bytes | RuntimeId,
    wanted: Wanted | None,
    retries: int,
    say: Note,
) -> AsyncIterator[Court]:
    """Give what verifies the answers of an array of `program`; `say` hears sentences.

    Raises `ValueError` for numbers that decide nothing, `NoPath` if the network has too few workers
    that are apart, and `ModuleRefused` if what is to judge is no program.
    """
    if wanted is None:
        yield Court(reach, None, user.evidence, None)
        return
    rule = rule_of(wanted, retries)
    apart = Apart(rule.most, rule.quorum)
    ours = ApartReach(user, reach, apart)
    _check(ours, rule, say)
    folder = None if wanted.attestations is None else Path(wanted.attestations)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)

    def convict(worker: NodeId, reason: str, own: Proof, others: Sequence[Proof]) -> None:
        user.evidence.keep(worker, reason, own, others)

    async with AsyncExitStack() as stack:
        judge = None
        if wanted.judge is not None:
            judge = await _open_judge(stack, user, wanted.judge, apart, say)
        digest = program_digest(program)
        inspector = Inspecting(digest, time.time, ours.engine, judge, convict)
        replicas = Replicas(rule.replicas, rule.most, apart.conflict, Panel(rule).judge)
        verification = Verification(replicas, inspector)
        yield Court(ours, verification, user.evidence, folder)


def rule_of(wanted: Wanted, retries: int) -> Rule:
    """Return what the jury goes by; raise `ValueError` if it decides nothing."""
    judges = wanted.judge is not None
    return Rule(wanted.replicas, wanted.quorum, wanted.replicas + retries, judges)


def _check(reach: ApartReach, rule: Rule, say: Note) -> None:
    if not reach.is_enough:
        raise NoPath(
            f"the network lists fewer workers of one engine class and of different families than "
            f"the {rule.quorum} that must agree: lower --quorum, or wait for more workers"
        )
    if rule.replicas > 1 and reach.apart.level in _LEVELS:
        say(_LEVELS[reach.apart.level])


async def _open_judge(
    stack: AsyncExitStack, user: User, program: Program, apart: Apart, say: Note
) -> Judge:
    """Give a judge in the user's own sandbox, or if there is none, on workers."""
    sent, why = program.sent, ""
    name, files = program.pattern.name, program.pattern.files
    runtime = sent if isinstance(sent, RuntimeSpec) else None
    if runtime is not None and cached(runtime, cache_folder()) is None:
        why = f"the runtime {runtime.name} is not on this machine"
    else:
        ours = sent.id if isinstance(sent, RuntimeSpec) else sent
        judging = Judging(ours, name, files)
        store = RuntimeStore(cache_folder() / "runtimes")
        try:
            return await stack.enter_async_context(open_local_judge(judging, store, _LOCAL_JOBS))
        except SandboxUnavailable as error:
            why = str(error)
    say(
        f"the program that judges runs on workers ({why.rstrip('.')}): what it refuses there is "
        "run again, but proves nobody wrong"
    )
    reach, far = stack.enter_context(open_reach(user, sent))
    judging = Judging(far, name, files)
    return RemoteJudge(judging, reach, SystemChooser(), apart.conflict)
