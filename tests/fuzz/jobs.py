"""The decoders of job sessions: their messages, and what both ends make of a whole stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.job.attestation import Attestation, Leaf, Proof, Signer
from fogbank.relay.job.client_session import ClientEvent, ClientSession, TaskDone
from fogbank.relay.job.client_tasks import ClientTasks, Keep
from fogbank.relay.job.decoding import decode_from_client, decode_from_worker
from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.job.events import CancelRunning, GrantRunning, ModuleArrived, WorkerEvent
from fogbank.relay.job.frames import Blobs, Frames, Message, frame
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.held.records import (
    AnyRecord,
    EndRecord,
    GrantRecord,
    LeftRecord,
    ModuleRecord,
    SessionRecord,
    SettledRecord,
    TaskRecord,
    decode_body,
    encode_record,
)
from fogbank.relay.job.held.sealing import Sealed, sealed_size
from fogbank.relay.job.held.work import HeldWork
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import TASK_OVERHEAD, Budget, JobLimits, Patience
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Grant,
    Hello,
    Holding,
    Load,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.statement import Ended, read_leaf, statement
from fogbank.relay.job.worker_session import Phase, WorkerSession
from fogbank.relay.keys import Ed25519Key
from fogbank.relay.transfer.messages import Reply, Request, Status, decode_reply, decode_request
from fogbank.sandbox.limits import CEILINGS, Limits
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import SEED_SIZE, Task
from tests.fuzz.kinds import Decoder, Form, StreamDecoder, byte_by_byte

OFFER = Offer("class", CEILINGS, 1000, 1000, 4, Load(1, 0, 0), (b"r" * 32,))
NAMED = ModuleHead(b"r" * 32, 0)
TASK = TaskHead(1, ("a",), (("N", "v"),), (("f", 3),), 5, Limits(), bytes(SEED_SIZE))
RESULT = ResultHead(1, Outcome.COMPLETED, 0, 5, 3, 4, 2, "")
MODULE = b"aaaa"
MODULE_HEAD = ModuleHead(
    bytes.fromhex("61be55a8e2f6b4e172338bddf184d6dbee29c98853e0a0485ecee7f27b9af0b4"), len(MODULE)
)
FROM_CLIENT: list[Message] = [
    Hello(),
    ModuleHead(bytes(32), 4),
    NAMED,
    TASK,
    replace(TASK, granted=7),
    replace(TASK, skipped=6),
    Cancel(1),
    Grant(1, 9),
    replace(MODULE_HEAD, job_key=b"j" * 32),
    Hold(b"t" * 32, b"k" * 32, durable=True),
    Resume(b"t" * 32, ((1, 0), (2, 9))),
    Ack(1),
    Pad(3),
]
FROM_WORKER: list[Message] = [
    OFFER,
    Accepted(),
    Refused(Cause.MODULE, "why", None, Outcome.INVALID_MODULE),
    TaskState(1, State.RUNNING, "why", 7),
    TaskState(1, State.PAUSED, "why", 7),
    RESULT,
    replace(OFFER, holding=Holding(1, 2, 3)),
    replace(RESULT, attestation=b"a", sealed=Sealed(sealed_size(6), 100)),
    Resumed(ModulePlace.PARKED, ((1, State.DONE), (2, State.PAUSED))),
    Resumed(ModulePlace.OPEN, (), (3, 9)),
    Pad(3),
]


def encoded(message: Any) -> bytes:
    """Encode what was decoded."""
    return bytes(message.encode())


STATED = statement(bytes(32), Task(), "class", Ended(Outcome.COMPLETED, 0, 5, b"out", b"err"))
SIGNING = Ed25519Key(b"s" * 32)
CERTIFICATE = issue(Ed25519Key(b"i" * 32), Use.SIGNING, SIGNING.public, 60, SIGNING_LIFETIME)
ATTESTED = Signer(SIGNING, CERTIFICATE).attest(STATED, b"x" * 32, 60)
PROOF = Proof.of(STATED, ATTESTED)


def attestation_file(data: bytes) -> Proof:
    """Read an attestation and all that it shows."""
    proof = Proof.decode(data)
    for leaf, (_, value) in proof.shown.items():
        read_leaf(leaf, value)
    return proof


SEALED = replace(RESULT, sealed=Sealed(sealed_size(6)))
RECORDS: list[AnyRecord] = [
    SessionRecord(b"k" * 32),
    ModuleRecord(b"m" * 32, is_runtime=True),
    TaskRecord(TASK, b"stdinabc"),
    TaskRecord(replace(TASK, granted=7)),
    GrantRecord(1, 9),
    EndRecord(SEALED, b"s" * sealed_size(6)),
    EndRecord(SEALED),
    SettledRecord(1),
    LeftRecord(1000),
]


def record_body(record: Any) -> bytes:
    """Encode what was decoded, without its frame."""
    return encode_record(record)[8:]


JOBS = [
    Decoder(
        "record of a held session",
        decode_body,
        record_body(RECORDS[0]),
        more=tuple(map(record_body, RECORDS[1:])),
        again=record_body,
    ),
    Decoder("attestation", Attestation.decode, ATTESTED.encode(), again=encoded),
    Decoder(
        "attestation file",
        attestation_file,
        PROOF.encode(),
        more=tuple(PROOF.only(leaves).encode() for leaves in ([], [Leaf.FUEL], list(Leaf)[2:])),
        again=encoded,
    ),
    Decoder(
        "job message of a client",
        decode_from_client,
        FROM_CLIENT[0].encode(),
        more=tuple(message.encode() for message in FROM_CLIENT[1:]),
        again=encoded,
    ),
    Decoder(
        "request for a runtime",
        decode_request,
        Request(b"r" * 32, 1000).encode(),
        again=encoded,
    ),
    Decoder(
        "reply about a runtime",
        decode_reply,
        Reply(Status.FOLLOWS, 1000).encode(),
        more=(Reply(Status.BUSY).encode(),),
        again=encoded,
    ),
    Decoder(
        "job message of a worker",
        decode_from_worker,
        FROM_WORKER[0].encode(),
        more=tuple(message.encode() for message in FROM_WORKER[1:]),
        again=encoded,
    ),
]


def frames(decode_message: Any, portions: Iterable[bytes]) -> Iterator[object]:
    """Cut a stream into messages and attachments."""
    reader: Frames[Any] = Frames(decode_message, lambda m: Blobs(m.attachments, hashed=True))
    for portion in portions:
        for message, blobs in reader.feed(portion):
            yield message, blobs and (blobs.take(), blobs.sha256)


def framed(said: Iterable[Message], filler: bytes = b"a") -> bytes:
    """Return what is said, each with attachments of one byte again and again."""
    return b"".join(frame(m) + filler * sum(m.attachments) for m in said)


SMALL = Limits(1 << 30, 1 << 20, 10.0, 1000)
SMALL_OFFER = Offer("class", SMALL, 1000, 20, 3, Load(1, 0, 0), (b"r" * 32,))
_ROOM = 2 * TASK_OVERHEAD + 100


def worker_session(data: bytes) -> list[WorkerEvent]:
    """Be a small worker to a hostile client; its module and its tasks take some events' time.

    What both sides say depends on when it arrives: byte by byte, nothing is late.
    """
    events: list[WorkerEvent] = []
    budget = Budget(_ROOM)
    session = WorkerSession(SMALL_OFFER, JobLimits(), budget, 0.0)
    for portion in byte_by_byte(data):
        new = session.receive(portion, 1.0)
        if new:
            events += new
            _work(session, new[-1], len(events))
        session.data_to_send()
        session.deadline()
    session.close()
    assert budget.left == _ROOM, "a session that is over holds memory"
    return events


def _work(session: WorkerSession, event: WorkerEvent, count: int) -> None:
    """Do a worker's part after an event."""
    match event:
        case ModuleArrived():
            session.work.queue_module("why")
            session.work.load_module()
        case GrantRunning(fuel):
            session.work.tell_progress(fuel - 1, 3.0)
        case CancelRunning():
            session.work.finish_task(Result(Outcome.CANCELLED), 1.0)
        case _ if session.phase is Phase.LOADING:
            session.work.accept_module(1.0)
        case _ if count % 3 == 0:
            session.work.finish_task(Result(Outcome.COMPLETED, 0, 1, b"o", b"e"), 1.0)
        case _ if count % 5 == 0:
            session.work.tell_pause(1, 1.0)
        case _ if count % 7 == 0:
            session.work.refuse_task(Cause.BUSY, "why", 1.0)
    session.work.start_task(1.0)


class _Holder:
    """Holds one session, whose disk takes every other change."""

    def __init__(self) -> None:
        self.memory, self.disk = Budget(_ROOM), Budget(_ROOM)
        self.work: HeldWork | None = None
        self._stores = False

    def hold(self, hold: Hold, offer: Offer) -> HeldWork | None:
        """Begin to hold it."""
        self.work = HeldWork(hold, offer, self.memory, self.disk)
        return self.work

    def resume(self, _: bytes) -> HeldWork | None:
        """Find it, whatever its ticket."""
        return self.work

    def store(self) -> None:
        """Store what is to be stored, or fail to."""
        if self.work is not None:
            changes = self.work.take_changes()
            self._stores = not self._stores
            if self._stores:
                self.work.stored(changes)
            else:
                self.work.not_stored(changes, "why")


def held_worker_session(data: bytes) -> list[WorkerEvent]:
    """Be a small worker that holds a hostile client's session."""
    events: list[WorkerEvent] = []
    holder = _Holder()
    offer = replace(SMALL_OFFER, holding=Holding(1, _ROOM, 3))
    session = WorkerSession(offer, JobLimits(), holder.memory, 0.0, holder=holder)
    for portion in byte_by_byte(data):
        new = session.receive(portion, 1.0)
        if new:
            events += new
            holder.store()
            _work(session, new[-1], len(events))
        session.data_to_send()
        session.deadline()
    session.close()
    if holder.work is not None:
        holder.work.close()
    assert (holder.memory.left, holder.disk.left) == (_ROOM, _ROOM), "it holds what is over"
    return events


def client_session(data: bytes) -> list[ClientEvent]:
    """Be a client to a hostile worker: send a module and two tasks as soon as there is an offer."""
    events: list[ClientEvent] = []
    session = ClientSession(Patience(), 0.0)
    for portion in byte_by_byte(data):
        for event in session.receive(portion, 1.0):
            events.append(event)
            if isinstance(event, Offer):
                _ask(session)
        session.data_to_send()
        session.sent_all()
        session.deadline()
    return events


_SECRET = bytes(range(32))


def held_session(data: bytes) -> list[ClientEvent]:
    """Come back to a hostile worker, which has three tasks, and a part of an output."""
    tasks = ClientTasks(Keep(b"t" * 32, _SECRET), 4, begun=True)
    for number in (1, 2, 3):
        tasks.expect(number, SMALL)
    events: list[ClientEvent] = []
    session = ClientSession(Patience(), 0.0, tasks)
    for portion in byte_by_byte(data):
        for event in session.receive(portion, 1.0):
            events.append(event)
            match event:
                case Offer():
                    session.resume()
                case Resumed():
                    session.cancel(3)
                    if session.has_room_for(Task(limits=SMALL)) and _fits(SMALL, OFFER.ceilings):
                        with suppress(JobRefused):
                            session.send_task(Task(limits=SMALL))
                case TaskDone(task):
                    session.acknowledge(task)
        session.data_to_send()
        session.sent_all()
        session.deadline()
    return events


def _ask(session: ClientSession) -> None:
    """Ask for all that the offer allows."""
    small = Limits(1000, 1 << 16, 1.0, 100)
    offer = session.offer
    if offer is not None and offer.module >= len(MODULE):
        session.send_module(MODULE)
        for _ in range(min(2, offer.tasks)):
            task = Task(limits=small)
            if session.has_room_for(task) and _fits(small, offer.ceilings):
                session.grant(session.send_task(task, 3), 1000)


def _fits(limits: Limits, ceilings: Limits) -> bool:
    return (
        limits.fuel <= ceilings.fuel
        and limits.memory <= ceilings.memory
        and limits.wall_seconds <= ceilings.wall_seconds
        and limits.output <= ceilings.output
    )


SMALL_TASKS = [replace(TASK, id=number, limits=SMALL) for number in range(1, 6)]
_ANSWERS: list[Message] = [
    OFFER,
    TaskState(0, State.QUEUED, "why"),
    TaskState(0, State.RUNNING, "why"),
    Accepted(),
    TaskState(1, State.RUNNING, "", 0),
    TaskState(1, State.PAUSED, "", 3),
    TaskState(1, State.RUNNING, "", 3),
    RESULT,
    Refused(Cause.BUSY, "why", 2, None),
]

_SEALED = bytes.fromhex(
    "7517e2d9312eddda4ab8d5e9a28ad68de0dde3f40efcf77ce38201ebadd20a678d4dbebf0fffe56f696c7143"
    "c46d57ee4487566e5a5758ff1fe48562774211b50c6de53f35bcd9659d90a225c2bf229c5b2a54da5bd58eb9"
    "bf87e0aa9e5d716b81f911d3942bf2e5d33937a16f9d80d11ad6f363304a482bce08c7e4b6a119"
)
"""An output of 4 and 2 bytes, sealed to the public key of `_SECRET`."""
_HELD: list[Message] = [
    OFFER,
    Resumed(ModulePlace.OPEN, ((1, State.DONE), (2, State.RUNNING), (3, State.QUEUED))),
    replace(RESULT, sealed=Sealed(len(_SEALED))),
]
_LATER: list[Message] = [
    TaskState(2, State.RUNNING, "", 0),
    replace(RESULT, task=2),
    ResultHead(3, Outcome.CANCELLED, None, 0, 1, 0, 0, ""),
    Accepted(),
    TaskState(5, State.QUEUED),
    TaskState(5, State.RUNNING, "", 0),
    replace(RESULT, task=5),
]

JOB_STREAMS = [
    StreamDecoder(
        "client's frames",
        lambda p: frames(decode_from_client, p),
        framed(FROM_CLIENT),
        form=Form.FRAMES,
    ),
    StreamDecoder(
        "worker's frames",
        lambda p: frames(decode_from_worker, p),
        framed(FROM_WORKER),
        form=Form.FRAMES,
    ),
]

SESSIONS = [
    Decoder(
        "worker's session",
        worker_session,
        framed([Hello(), MODULE_HEAD, *SMALL_TASKS, Cancel(2), Cancel(1), Cancel(3)]),
        more=(
            framed([Hello((1, 2, 3)), MODULE_HEAD, replace(TASK, granted=1), Grant(1, 9)]),
            framed([Hello(), NAMED, *SMALL_TASKS[:2]]),
            framed([Hello((1,))]),
        ),
        exact=False,
        form=Form.FRAMES,
        limit=1024,
    ),
    Decoder(
        "worker's held session",
        held_worker_session,
        framed(
            [
                Hello(),
                Hold(b"t" * 32, b"k" * 32, durable=True),
                MODULE_HEAD,
                *SMALL_TASKS[:2],
                *(Cancel(1), Ack(1), Cancel(0)),
            ]
        ),
        more=(
            framed([Hello(), Hold(b"t" * 32, b"k" * 32), MODULE_HEAD, *SMALL_TASKS[:1], Ack(1)]),
            framed([Hello(), Resume(b"t" * 32, ((1, 2),))]),
        ),
        exact=False,
        form=Form.FRAMES,
        limit=1024,
    ),
    Decoder(
        "client's held session",
        held_session,
        framed(_HELD[:2]) + frame(_HELD[2]) + _SEALED + framed(_LATER[:3] + _LATER[4:]),
        more=(
            framed([OFFER, Resumed(ModulePlace.PARKED, ()), *_LATER[3:]]),
            framed([OFFER, Refused(Cause.UNKNOWN, "why")]),
        ),
        exact=False,
        form=Form.FRAMES,
        limit=1024,
    ),
    Decoder(
        "client's session",
        client_session,
        framed(_ANSWERS),
        exact=False,
        form=Form.FRAMES,
        limit=1024,
    ),
]
