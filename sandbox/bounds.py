"""What the kernel holds a jailed process to, whatever else fails (spec/07 §8)."""

from dataclasses import astuple, dataclass

from fogbank.sandbox.engine import GUARD, RESERVATION
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.task import FILES_COUNT
from fogbank.sandbox.wire import INLINE

_OVERHEAD = 256 << 20
"""For the interpreter and the engine."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What each kind of process may have beyond what the launcher has itself.

    `..._addresses`: bytes of address space. `..._data`: bytes of memory that can be written.
    `..._cpu`: seconds.
    """

    job_addresses: int
    job_data: int
    job_cpu: int
    compile_addresses: int
    compile_data: int
    compile_cpu: int

    def encode(self) -> str:
        """Encode for the launcher's command line."""
        return ",".join(str(item) for item in astuple(self))


def bounds_for(config: SandboxConfig) -> Bounds:
    """Derive the kernel's bounds from what the sandbox grants.

    A task's files count beside its memory; a file that grows, a task's frame and compiled code
    exist twice for a moment. These bounds are the last line: a task's own limits are far below.
    """
    most = config.ceilings
    data = 3 * most.memory + 2 * FILES_COUNT * INLINE + 2 * config.compiling.artifact
    return Bounds(
        job_addresses=data + _OVERHEAD + RESERVATION + 2 * GUARD,
        job_data=data + _OVERHEAD,
        job_cpu=config.child_cpu_seconds,
        compile_addresses=config.compiling.memory,
        compile_data=config.compiling.memory,
        compile_cpu=config.compiling.cpu_seconds,
    )
