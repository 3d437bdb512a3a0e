"""What the kernel holds a jailed process to, whatever else fails (spec/07 §8)."""

from dataclasses import astuple, dataclass

from fogbank.sandbox.limits import SandboxConfig

_OVERHEAD = 768 << 20
"""For the interpreter, the engine, and the addresses that a small memory reserves."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of address space beyond the launcher's own, and seconds of CPU, for each process."""

    job_memory: int
    job_cpu: int
    compile_memory: int
    compile_cpu: int

    def encode(self) -> str:
        """Encode for the launcher's command line."""
        return ",".join(str(item) for item in astuple(self))


def bounds_for(config: SandboxConfig) -> Bounds:
    """Derive the kernel's bounds from what the sandbox grants.

    A memory that grows may move, so that two copies exist for a moment; the task's files are a
    third. These bounds are the last line: a task's own limits are far below them.
    """
    most = config.ceilings
    return Bounds(
        job_memory=3 * most.memory + 3 * most.output + 2 * config.compiling.artifact + _OVERHEAD,
        job_cpu=config.child_cpu_seconds,
        compile_memory=config.compiling.memory,
        compile_cpu=config.compiling.cpu_seconds,
    )
