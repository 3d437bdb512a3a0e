"""What the options of a command want of verification (spec/12)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fogbank.cli.programs import read_program

if TYPE_CHECKING:
    from fogbank.nodes.job_spec import Wanted


@dataclass(frozen=True, slots=True)
class Checks:
    """The options `--replicas`, `--quorum`, `--verify` and `--attestations`."""

    replicas: int | None = None
    quorum: int | None = None
    verify: Path | None = None
    attestations: Path | None = None

    def wanted(self, retries: int) -> Wanted | None:
        """Return what is wanted, if anything; raise `ValueError`, `ModuleRefused` or `OSError`."""
        from fogbank.nodes.job_spec import Wanted
        from fogbank.nodes.verification import rule_of

        if self == Checks():
            return None
        if self.quorum is not None and self.replicas is None:
            raise ValueError("--quorum says how many of the --replicas must agree: give both")
        replicas = 1 if self.replicas is None else self.replicas
        quorum = replicas // 2 + 1 if self.quorum is None else self.quorum
        judge = None
        if self.verify is not None:
            judge = read_program(self.verify, None, (), [], (None, None, None, None))
        folder = None if self.attestations is None else str(self.attestations.resolve())
        wanted = Wanted(replicas, quorum, judge, folder)
        rule_of(wanted, retries)
        return wanted
