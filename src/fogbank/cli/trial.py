"""Runs a program once in this machine's own jail, and keeps what that showed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import trio

from fogbank.runtimes import RuntimeUnobtainable, cache_folder, cached, obtain
from fogbank.sandbox.data import whole
from fogbank.sandbox.engine import engine_class
from fogbank.sandbox.imports import Import, read_imports
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import REFUSALS, ModuleRefused, Outcome, Result
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.runtimes.catalogue import RuntimeId, RuntimeSpec
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.task import Task

_ERROR_LINES = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a program. `size` is its bytes, `prepared_seconds` what compiling took."""

    name: str
    runtime: RuntimeSpec | None
    size: int
    imports: tuple[Import, ...]
    prepared_seconds: float
    result: Result
    engine: str

    @property
    def was_run(self) -> bool:
        """Whether it was started at all."""
        return self.result.outcome not in REFUSALS

    @property
    def runs(self) -> bool:
        """Whether it ended of itself, within its limits."""
        return self.result.outcome is Outcome.COMPLETED

    def last_errors(self) -> list[str]:
        """Return the last lines that it wrote to stderr."""
        return whole(self.result.stderr).decode(errors="replace").splitlines()[-_ERROR_LINES:]

    def report(self, code: int) -> dict[str, object]:
        """Return it all for programs; `code` is the command's exit code."""
        result = self.result
        return {
            "schema": "fogbank.check/1",
            "runs": self.runs,
            "outcome": result.outcome.name.lower(),
            "reason": result.reason,
            "exit_code": code,
            "program": self.name,
            "runtime": self.runtime.name if self.runtime else None,
            "bytes": self.size,
            "imports": [
                {
                    "module": item.module,
                    "name": item.name,
                    "kind": item.kind.name.lower(),
                    "offered": item.is_offered,
                }
                for item in self.imports
            ],
            "prepared_seconds": round(self.prepared_seconds, 6),
            "fuel": result.fuel,
            "memory": result.memory,
            "seconds": round(result.seconds, 6),
            "stdout_bytes": len(result.stdout),
            "stderr_bytes": len(result.stderr),
            "stderr": "\n".join(self.last_errors()),
            "engine": self.engine,
        }


def prepare(runtime: RuntimeSpec, get: bool) -> RuntimeId:
    """Make sure that a script's runtime is in the user's cache. Raises `ModuleRefused`."""
    try:
        if get:
            obtain(runtime.name, cache_folder())
    except RuntimeUnobtainable as error:
        raise ModuleRefused(Outcome.UNKNOWN_RUNTIME, str(error)) from None
    if cached(runtime, cache_folder()) is None:
        raise ModuleRefused(
            Outcome.UNKNOWN_RUNTIME,
            f"the runtime {runtime.name} is not on this machine: get it with --get-runtime. Workers"
            " that hold it run the script without that",
        )
    return runtime.id


async def try_out(
    name: str, runtime: RuntimeSpec | None, module: bytes | RuntimeId, task: Task
) -> Trial:
    """Run a task of the module or runtime in the jail; a refusal becomes a result too.

    Raises `SandboxUnavailable`, and `TaskError` or `LimitError` for what no worker grants.
    """
    imports: tuple[Import, ...] = ()
    size = len(task.files[0][1]) if isinstance(module, RuntimeId) else len(module)
    if isinstance(module, bytes):
        with suppress(ValueError):
            imports = read_imports(module)
    config = SandboxConfig(processes=1, spares=0)
    task.check(config.ceilings)
    started = trio.current_time()
    prepared = 0.0
    try:
        async with (
            open_sandbox(config, RuntimeStore(cache_folder() / "runtimes")) as sandbox,
            sandbox.open_job(module) as job,
        ):
            prepared = trio.current_time() - started
            result = await job.run(task)
    except ModuleRefused as refusal:
        result = Result(refusal.outcome, reason=refusal.reason)
    prepared = prepared or trio.current_time() - started
    return Trial(name, runtime, size, imports, prepared, result, engine_class())
