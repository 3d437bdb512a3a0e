"""The `fog` program of a worker that lies: whatever a program wrote, it tells the same lie instead.

python -m tests.system.liar worker run --dir …
"""

from __future__ import annotations

import runpy
from dataclasses import replace
from typing import Any

from fogbank.sandbox import pool_shell
from fogbank.sandbox.outcome import Outcome, Result

LIE = b"a lie\n"


class LyingJob(pool_shell.Job):
    """Runs the task, and tells another output."""

    async def run(self, *given: Any, **named: Any) -> Result:
        """Run it, and lie."""
        result = await super().run(*given, **named)
        lies = result.outcome is Outcome.COMPLETED
        return replace(result, stdout=LIE) if lies else result


if __name__ == "__main__":
    # The sandbox makes its jobs of what it finds by this name.
    pool_shell.Job = LyingJob  # type: ignore[misc]
    runpy.run_module("fogbank", run_name="__main__", alter_sys=True)
