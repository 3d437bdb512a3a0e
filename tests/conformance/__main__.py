"""Run the public conformance programs of WASI preview 1 in the sandbox.

    make conformance SUITE=/path/to/wasi-testsuite

The folder must hold the built programs (the project's branch prod/testsuite-base does). Each runs
twice, each time compiled anew and in a jailed process of its own. Exits with 1 if one fails.
"""

import sys
from pathlib import Path

import trio

from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import ModuleRefused, Result
from fogbank.sandbox.pool_shell import Sandbox, open_sandbox
from tests.conformance.suite import Program, find_suites

_USAGE = "usage: make conformance SUITE=/path/to/wasi-testsuite"


async def run_program(sandbox: Sandbox, program: Program) -> str:
    """Run one program; return why it fails, or an empty text."""
    module = program.path.read_bytes()
    results: list[Result] = []
    try:
        for _ in range(2):
            async with sandbox.open_job(module) as job:
                results.append(await job.run(program.task))
    except ModuleRefused as refusal:
        return f"{refusal.outcome.name}: {refusal.reason}"
    return program.judge(*results)


async def run_all(top: Path) -> int:
    """Run every suite below `top`; return how many programs fail."""
    suites = find_suites(top)
    failed = total = 0
    async with open_sandbox(SandboxConfig(processes=1, spares=1)) as sandbox:
        for name, programs in suites.items():
            reasons = {one.path.name: await run_program(sandbox, one) for one in programs}
            bad = {program: reason for program, reason in reasons.items() if reason}
            print(f"{name}: {len(programs) - len(bad)} of {len(programs)} pass")
            for program, reason in bad.items():
                print(f"  {program}: {reason}")
            failed, total = failed + len(bad), total + len(programs)
    print(f"{total - failed} of {total} pass")
    return failed


def main() -> None:
    """Run what the command line names."""
    if len(sys.argv) != 2 or not (top := Path(sys.argv[1])).is_dir():
        sys.exit(_USAGE)
    if not find_suites(top):
        sys.exit(f"error: no programs for preview 1 in {top}: check out branch prod/testsuite-base")
    sys.exit(1 if trio.run(run_all, top) else 0)


if __name__ == "__main__":
    main()
