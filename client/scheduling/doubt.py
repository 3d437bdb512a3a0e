"""Whether a program is believed to be none, because workers say so (spec/11 §3). Pure."""

from __future__ import annotations

from fogbank.client.scheduling.records import Worker


class Doubt:
    """Who took the program, and who refused it; one liar cannot have it refused."""

    def __init__(self, doubters: int) -> None:
        self._doubters = doubters
        self._takers: set[Worker] = set()
        self._refusers: set[Worker] = set()
        self.answered = False
        """Whether some worker has answered a task."""

    @property
    def is_taken(self) -> bool:
        """Whether some worker has begun a task."""
        return bool(self._takers)

    def began(self, worker: Worker) -> bool:
        """Hear that a worker runs a task; tell whether that is new."""
        if worker in self._takers:
            return False
        self._takers.add(worker)
        return True

    def refused(self, worker: Worker) -> None:
        """Hear that a worker says that the program is none."""
        self._refusers.add(worker)

    @property
    def is_refused(self) -> bool:
        """Whether so many say so that it is believed."""
        enough = self._doubters * (1 + len(self._takers - self._refusers))
        return not self.answered and bool(self._refusers) and len(self._refusers) >= enough
