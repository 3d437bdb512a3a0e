"""What a task may use, and what a sandbox may grant: pure numbers and their checks (spec/07 §3).

`Limits` belong to one task and come from the client. `CompileLimits` and `SandboxConfig` belong
to the machine that runs the task and are its owner's.
"""

import math
from dataclasses import dataclass, field, fields

MODULE_SIZE = 64 << 20
"""The largest module, in bytes, that a sandbox reads (spec/07 §3)."""

PAGE = 65536
"""Bytes in one page of WebAssembly memory."""


class LimitError(ValueError):
    """A limit that cannot be granted: lower it, or ask a worker that offers more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one task. Each is also the most that the task can cost its host.

    `fuel`: units of execution (spec/07 §5). `memory`: bytes of linear memory, and separately of
    the in-memory files. `wall_seconds`: real time from start to answer. `output`: bytes of
    stdout and stderr together.
    """

    fuel: int = 1 << 38
    memory: int = 256 << 20
    wall_seconds: float = 120.0
    output: int = 16 << 20

    def check(self, ceilings: "Limits | None" = None) -> None:
        """Raise `LimitError` unless every limit is positive and at most its ceiling.

        Without `ceilings` the hard ceilings of the protocol apply (`CEILINGS`).
        """
        most = CEILINGS if ceilings is None else ceilings
        for item in fields(self):
            value, top = getattr(self, item.name), getattr(most, item.name)
            kinds = (int, float) if item.name == "wall_seconds" else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                raise LimitError(f"the limit {item.name} must be a number, not {value!r}")
            if value < _LEAST[item.name]:
                least = _LEAST[item.name]
                raise LimitError(f"the limit {item.name} is {value}: it must be at least {least}")
            if value > top:
                raise LimitError(
                    f"the limit {item.name} is {value}: the most that is granted here is {top}"
                )


CEILINGS = Limits(fuel=1 << 50, memory=4 << 30, wall_seconds=7 * 86400.0, output=256 << 20)
"""What no sandbox grants more of (spec/07 §3)."""

_LEAST: dict[str, float] = {"fuel": 1, "memory": PAGE, "wall_seconds": 0.001, "output": 0}


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What compiling one module may cost: seconds of CPU and of real time, bytes of memory.

    `artifact` is the most bytes that the compiled code may have.
    """

    cpu_seconds: int = 60
    wall_seconds: float = 120.0
    memory: int = 2 << 30
    artifact: int = 256 << 20


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What one sandbox grants.

    `processes`: jobs at the same time. `spares`: jailed processes kept ready for the next jobs.
    `ceilings`: the most that a task may ask for. `compiling`: the bounds of one compilation.
    `floor`: fuel per second of CPU time below which a task is too slow, 0 for none; code that waits
    for memory at each step reaches twice the default, be the machine ever so busy.
    `pause_seconds`: how long a task whose granted fuel is used up waits for more.
    """

    processes: int = 2
    spares: int = 2
    ceilings: Limits = field(
        default=Limits(fuel=1 << 44, memory=1 << 30, wall_seconds=900.0, output=256 << 20)
    )
    compiling: CompileLimits = field(default=CompileLimits())
    floor: int = 10_000_000
    pause_seconds: float = 300.0

    def check(self) -> None:
        """Raise `LimitError` unless the numbers make a sandbox."""
        if self.processes < 1:
            raise LimitError("a sandbox needs at least one process")
        if self.spares < 0:
            raise LimitError("the number of spare processes cannot be negative")
        if self.floor < 0:
            raise LimitError("the speed floor cannot be negative: 0 is none")
        self.ceilings.check()

    @property
    def child_cpu_seconds(self) -> int:
        """CPU seconds after which the kernel ends a job's process, whatever else fails."""
        return 2 * math.ceil(self.ceilings.wall_seconds) + 30
