"""The numbers of a job's session: version, kinds of message, states (spec/08 §1, §2)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

VERSION: Final = 3
MESSAGE_SIZE: Final = 65536
"""The longest message, in bytes, without its attachments."""
HASH_SIZE: Final = 32
TASK_ID_MAX: Final = 2**32 - 1

SERVICE: Final = "job"
"""The name of the service that sessions are streams of (spec/08 §1)."""


class Kind(IntEnum):
    """What a message is: its key 0."""

    HELLO = 1
    OFFER = 2
    MODULE = 3
    ACCEPTED = 4
    REFUSED = 5
    TASK = 6
    STATE = 7
    RESULT = 8
    CANCEL = 9
    PAD = 10
    GRANT = 16
    HOLD = 20
    RESUME = 21
    RESUMED = 22
    ACK = 23


class State(IntEnum):
    """Where a task is; but for RESUMED, its ends are results and refusals."""

    QUEUED = 1
    RUNNING = 2
    PAUSED = 3
    DONE = 5
    """It has ended, and its result is held: only in RESUMED."""


class ModulePlace(IntEnum):
    """Where the module of a session that is resumed is."""

    QUEUED = 1
    """It waits for a place; ACCEPTED will follow."""
    LOADING = 2
    """It is being compiled; ACCEPTED will follow."""
    OPEN = 3
    """It is ready: ACCEPTED was said before and does not come again."""
    PARKED = 5
    """Nothing runs or waits: its process and its place were given back until the next task."""
