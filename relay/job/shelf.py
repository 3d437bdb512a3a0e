"""Modules that several sessions of a job share at a worker (spec/08 §2, MODULE). Pure."""

from __future__ import annotations

from weakref import WeakSet

from fogbank.relay.job.work import Work


class Shelf:
    """Finds the module that another session of a job has brought, as long as that has it."""

    def __init__(self) -> None:
        self._owners: dict[tuple[bytes, bytes], WeakSet[Work]] = {}

    def put(self, job_key: bytes, digest: bytes, work: Work) -> None:
        """A session has the module with this SHA-256, and gave this key for it."""
        self._owners = {name: owners for name, owners in self._owners.items() if owners}
        self._owners.setdefault((job_key, digest), WeakSet()).add(work)

    def get(self, job_key: bytes, digest: bytes) -> bytes | None:
        """Return the module, if it is in the memory of a session that gave the same key."""
        for work in self._owners.get((job_key, digest), ()):
            if isinstance(work.module, bytes) and not work.is_over:
                return work.module
        return None
