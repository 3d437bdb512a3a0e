"""Users whose arrays outlive them: a journal here, sessions held by workers (spec/08 §3.1, 13).

A researcher starts an array, may close the laptop at any moment, is killed, and comes back to what
the journal knows. However that goes, each task's result comes once, and nothing that was fetched is
sent to a worker again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from fogbank.client.array_shell import Array
from fogbank.client.errors import ClientError
from fogbank.client.journal.array_shell import JobJournal
from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import JobState, Kept, Origin, Stage
from fogbank.client.journal.store_shell import Store
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.tasks import ArrayTask, TaskEnd
from fogbank.nodes.arrays import open_reach
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.relay.errors import RelayError
from fogbank.sandbox.data import whole
from fogbank.sandbox.task import Task
from tests.simulation.actors import Actor, kinds
from tests.simulation.chance import Chance
from tests.simulation.jobs import LIMITS, MODULE, expected
from tests.simulation.tasks import ArrayTaskLog

if TYPE_CHECKING:
    from tests.simulation.world import World

ONCE = "each result comes once"
FETCHED = "nothing fetched is computed again"
_PATIENT = ArrayLimits(retries=1000)
"""Whatever dies under a task, it is tried again: so each must be done in the end."""


class ResearcherActor(Actor):
    """A user with one array after another, as long as the world is `busy`."""

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name, host)
        self.user: User | None = None
        self.successes = 0
        """How many of its jobs are over."""
        self.misled = 0
        self._jobs = 0

    def join(self, network: str) -> None:
        """Join the network."""
        Home(self.folder).set_network(network)

    async def live(self) -> None:
        store = Store(self.folder / "jobs")
        try:
            while True:
                try:
                    async with open_user(self.home(), lambda _: None, self.machine()) as self.user:
                        await self._work(self.user, store)
                except* ClientError as errors:
                    self.world.trace.note("no user", f"{self.name}: {kinds(errors)}")
                finally:
                    self.user = None
                await trio.sleep(3.0)
        finally:
            store.close()

    async def _work(self, user: User, store: Store) -> None:
        while True:
            await trio.sleep(self.chance.uniform(0.2, 4.0))
            open_jobs = [each for each in store.jobs() if not each.is_over]
            if not open_jobs and self.world.busy:
                await self._begin(store)
            elif open_jobs:
                with store.drive(open_jobs[0].id) as job:
                    await self._go_on(user, job, open_jobs[0].title)

    async def _begin(self, store: Store) -> None:
        """Put a new job with its tasks in the journal; one that is left half done is begun anew."""
        self._jobs += 1
        title = f"{self.name}.{self.lives}.{self._jobs}"
        count = self.chance.randint(2, 8)
        with store.drive(store.create(title, "", {})) as job:
            await job.take_in([Kept(Origin(place + 1), place) for place in range(count)])
            await job.taken_in(count)
        self.world.trace.note("array", f"{title} of {count}")

    async def _go_on(self, user: User, job: Job, title: str) -> None:
        """Work at a job until it is over, or the laptop is closed."""
        if job.total is None:
            await job.over(JobState.CANCELLED, "its inputs were lost", 130)
            return
        work = _Work(self, job, title)
        for kept in job.tasks():
            if kept.is_over:
                work.fetched(kept)
        for kept in job.undelivered():
            await work.deliver(kept.number)
        lanes = len(work.journal.held())
        self.world.trace.note("array", f"{title} goes on with {lanes} lanes")
        self.world.trace.counts["came back to held sessions"] += lanes
        closed = trio.CancelScope()
        if self.chance.once_in(0.6):
            closed.deadline = trio.current_time() + self.chance.uniform(0.0, 12.0)
        try:
            with closed, open_reach(user, MODULE) as (reach, program):
                await Array(
                    reach,
                    program,
                    work,
                    work,
                    self.chance,
                    limits=_PATIENT,
                    journal=work.journal,
                    durable=True,
                ).run()
        except* (RelayError, ClientError, trio.BrokenResourceError) as errors:
            self.world.trace.note("no array", f"{title}: {kinds(errors)}")
        if closed.cancelled_caught:
            self.world.trace.note("detached", title)
            self.world.trace.counts["detached"] += 1
            await trio.sleep(self.chance.choice((0.1, 5.0, 30.0)))
        elif not list(job.unfinished()):
            await self._conclude(job, title)

    async def _conclude(self, job: Job, title: str) -> None:
        for kept in job.tasks():
            log = self.world.tasks.array_log(f"{title}/{kept.number}")
            if kept.stage is not Stage.DONE:
                self.world.trace.fail(ONCE, f"{title}/{kept.number} is {kept.stage}: {kept.reason}")
            if not kept.delivered or not log.delivered:
                self.world.trace.fail(ONCE, f"{title}/{kept.number} was not delivered: {log}")
        await job.over(JobState.DONE, "all is done", 0)
        self.successes += 1
        self.world.trace.counts["arrays done"] += 1
        self.world.trace.counts["array tasks done"] += job.count()


class _Work:
    """What an array is given and gives: source, sink, and a journal that is watched."""

    def __init__(self, actor: ResearcherActor, job: Job, title: str) -> None:
        self._actor = actor
        self._job = job
        self._title = title
        self.journal = _Watched(self)
        lanes = self.journal.held()
        first = sorted({number for lane in lanes for number in lane.tasks.values()})
        left = [kept.number for kept in job.unfinished()]
        self._numbers = [each for each in first if each in left]
        self._numbers += [each for each in left if each not in first]

    @property
    def job(self) -> Job:
        """The job."""
        return self._job

    def log(self, number: int) -> ArrayTaskLog:
        """Return what is known of a task."""
        return self._actor.world.tasks.array_log(f"{self._title}/{number}")

    def task(self, number: int) -> Task:
        """Return a task, the same in every life."""
        name = f"{self._title}/{number}"
        chance = Chance(self._actor.world.seed, name)
        seconds = chance.choice((0.1, 1.0, 5.0, 20.0))
        stdin = chance.randbytes(chance.choice((0, 100, 50_000)))
        return Task((name, str(seconds)), stdin=stdin, limits=LIMITS)

    async def next(self) -> ArrayTask | None:
        """Give a task that has not ended."""
        await trio.lowlevel.checkpoint()
        if not self._numbers:
            return None
        number = self._numbers.pop(0)
        return ArrayTask(number, self.task(number))

    async def take(self, end: TaskEnd) -> None:
        """Take a task's end, which the journal has."""
        await self.deliver(end.number)

    async def deliver(self, number: int) -> None:
        """Put a result where it belongs; whoever dies meanwhile does it again, with the same."""
        log, life = self.log(number), self._actor.lives
        kept = self._job.task(number)
        if kept is None or not kept.is_over:
            self.fail(ONCE, number, "is delivered before the journal has it")
            return
        if log.delivered and log.life == life:
            self.fail(ONCE, number, f"is delivered twice: {log}")
        self.fetched(kept)
        log.delivered, log.life = log.delivered + 1, life
        self._actor.world.trace.note("result", f"{self._title}/{number}")
        await self._job.delivered([number])

    def fetched(self, kept: Kept) -> None:
        """Note what the journal has of a result: the same for ever, and right if nobody lied."""
        log = self.log(kept.number)
        data = whole(self._job.outputs.read(kept.stdout))
        digest = hashlib.sha256(data).hexdigest()
        if log.fetched not in {"", digest}:
            self.fail(ONCE, kept.number, "has another result than before")
        log.fetched = digest
        answered = [each for each in self._actor.world.workers() if each.name == kept.worker]
        honest = all(each.honest for each in answered)
        if kept.stage is Stage.DONE and honest and data != expected(self.task(kept.number)):
            self.fail("results are right", kept.number, f"is wrong, from {kept.worker}")

    def fail(self, what: str, number: int, words: str) -> None:
        """Fail the run."""
        self._actor.world.trace.fail(what, f"{self._title}/{number} {words}")


class _Watched(JobJournal):
    """A job's journal, which finds fault with an array that sends what it has."""

    def __init__(self, work: _Work) -> None:
        job = work.job
        super().__init__(job._database, job.id, 0, job.outputs)
        self._work = work

    async def sent(self, lane: int, tasks: Mapping[int, int]) -> None:
        for number in tasks.values():
            log = self._work.log(number)
            log.sent += 1
            kept = self._work.job.task(number)
            if log.fetched or kept is None or kept.is_over:
                self._work.fail(FETCHED, number, f"is sent again: {log}")
        await super().sent(lane, tasks)

    async def ended(self, ends: Sequence[TaskEnd]) -> None:
        for end in ends:
            if self._work.log(end.number).fetched:
                self._work.fail(ONCE, end.number, "ends twice")
        await super().ended(ends)
