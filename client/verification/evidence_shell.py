"""Workers that were proven wrong, and the evidence, on the user's disk (spec/12 §4).

    wrong/ID/wrong.attestation     what the worker attested, all leaves shown
    wrong/ID/agreed-1.attestation  what others attested of the same task, if others decided
    wrong/ID/why.json              when, and why

A folder appears at once and whole; what is there stays until the user forgives.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fogbank.relay.job.attestation import Proof
from fogbank.relay.keys import NodeId, parse_id, show_id
from fogbank.sandbox.files_shell import sync, write_atomic

SUFFIX: Final = ".attestation"
_WRONG: Final = "wrong" + SUFFIX
_WHY: Final = "why.json"
_WHY_LIMIT: Final = 4096
_OTHERS: Final = 4
"""The most of those that agreed whose attestations are kept."""


@dataclass(frozen=True, slots=True)
class Conviction:
    """Why a worker is not used: when it was found wrong, as UTC text, a reason, and the files."""

    worker: NodeId
    when: str
    reason: str
    folder: Path


class Evidence:
    """All that is kept, in the folder `folder`, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wrong(self) -> frozenset[NodeId]:
        """Return the workers that were proven wrong."""
        return frozenset(worker for worker, _ in self._kept())

    def convictions(self) -> list[Conviction]:
        """Return them with the reasons, in the order of their identities."""
        return [self._conviction(worker, folder) for worker, folder in self._kept()]

    def keep(self, worker: NodeId, reason: str, own: Proof, others: Sequence[Proof]) -> None:
        """Keep why a worker was wrong; of what is known of it already nothing changes.

        Raises `OSError`.
        """
        final = self._folder / show_id(worker)
        if final.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # One that another process is writing is its own: the name tells them apart.
        temporary = self._folder / f".{show_id(worker)}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write_atomic(temporary / _WRONG, own.encode(), 0o600)
        for number, other in enumerate(others[:_OTHERS], 1):
            write_atomic(temporary / f"agreed-{number}{SUFFIX}", other.encode(), 0o600)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        why = {"when": when, "reason": reason}
        write_atomic(temporary / _WHY, (json.dumps(why) + "\n").encode(), 0o600)
        try:
            temporary.rename(final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not final.exists():
                raise
        sync(self._folder)

    def forgive(self, worker: NodeId) -> bool:
        """Forget what is kept of a worker, which is used again; tell whether there was anything."""
        folder = self._folder / show_id(worker)
        if not folder.exists():
            return False
        shutil.rmtree(folder)
        return True

    def _kept(self) -> list[tuple[NodeId, Path]]:
        kept = []
        for folder in sorted(self._folder.glob("*")):
            try:
                kept.append((parse_id(folder.name), folder))
            except ValueError:
                continue
        return kept

    def _conviction(self, worker: NodeId, folder: Path) -> Conviction:
        try:
            with (folder / _WHY).open("rb") as file:
                why = json.loads(file.read(_WHY_LIMIT))
            return Conviction(worker, str(why["when"]), str(why["reason"]), folder)
        except (OSError, ValueError, KeyError, TypeError):
            return Conviction(worker, "", "its file is damaged", folder)
