"""What a worker's shell is to do because of what a client said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fogbank.sandbox.runtimes.catalogue import RuntimeId


@dataclass(frozen=True, slots=True)
class ModuleArrived:
    """The module is here whole, or its runtime named: it may wait for its place."""

    module: bytes | RuntimeId


@dataclass(frozen=True, slots=True)
class TaskArrived:
    """There is a task more to start."""


@dataclass(frozen=True, slots=True)
class CancelRunning:
    """The client wants the running task ended."""


@dataclass(frozen=True, slots=True)
class GrantRunning:
    """The running task may use so much fuel in all."""

    fuel: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The client has ended its held session for good."""


WorkerEvent: TypeAlias = ModuleArrived | TaskArrived | CancelRunning | GrantRunning | Forget
