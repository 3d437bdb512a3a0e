"""The messages of sessions that outlive their streams (spec/08 §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from fogbank.relay.codec import Value, encode
from fogbank.relay.job.kinds import Kind, ModulePlace, State

TICKET_SIZE: Final = 32
"""Bytes of the capability under which a session is found again."""
SEALING_KEY_SIZE: Final = 32
"""Bytes of the X25519 key to which a client has outputs sealed."""
JOB_KEY_SIZE: Final = 32
HELD_TASKS: Final = 4096
"""The most tasks that a message names."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep this session when its stream ends, under `ticket`, its outputs sealed to `key`.

    `durable`: a task is on the worker's disk before it is said to be queued.
    """

    ticket: bytes
    key: bytes
    durable: bool = False
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.HOLD, 1: self.ticket, 2: self.key}
        return encode({**fields, 3: True} if self.durable else fields)


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with the session of `ticket`.

    `have`: pairs of a task and how many bytes of its sealed output the client has.
    """

    ticket: bytes
    have: tuple[tuple[int, int], ...] = ()
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.RESUME, 1: self.ticket, 2: [list(pair) for pair in self.have]})


@dataclass(frozen=True, slots=True)
class Resumed:
    """The session goes on: where its module is, and each task that the worker has of it.

    `arriving`: a task that did not come whole, and how many bytes of its input the worker has.
    """

    module: ModulePlace
    tasks: tuple[tuple[int, State], ...] = ()
    arriving: tuple[int, int] | None = None
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        fields: dict[int, Value] = {0: Kind.RESUMED, 1: self.module}
        fields[2] = [list(pair) for pair in self.tasks]
        if self.arriving is not None:
            fields[3] = dict(enumerate(self.arriving, 1))
        return encode(fields)


@dataclass(frozen=True, slots=True)
class Ack:
    """The result of the task `task` is safe with the client: the worker forgets it."""

    task: int
    attachments: ClassVar[tuple[int, ...]] = ()

    def encode(self) -> bytes:
        """Encode."""
        return encode({0: Kind.ACK, 1: self.task})
