"""What `fog map -v` says of an array: circuits, sessions, where tasks are, and why again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fogbank.client.exit_codes import Ending
    from fogbank.relay.job.messages import TaskState

_RUNNING = "running"


class Happenings:
    """Turns what is heard of an array into sentences; some of it is not worth one."""

    def __init__(self) -> None:
        self._at: dict[int, dict[str, str]] = {}

    def reached(self, way: Sequence[str]) -> str:
        """Return what to say of a session that is open, by the nicknames on its circuit."""
        return f"a session at {way[-1]}, over the circuit {' → '.join(way)}"

    def left(self, worker: str) -> str:
        """Return what to say of a session that is over."""
        return f"a session at {worker} is over"

    def told(self, state: TaskState, worker: str) -> str | None:
        """Return what to say of a state that a worker tells of a task, or of the program (0)."""
        name, at = state.state.name.lower(), self._at.setdefault(state.task, {})
        before = at.get(worker)
        at[worker] = name
        if not state.task:
            del self._at[0]
            return f"{worker}: the program is {name} {state.reason}".rstrip()
        if name == before:
            return None
        if name == _RUNNING:
            others = [other for other, what in at.items() if other != worker and what == name]
            also = f", and at {', '.join(others)}" if others else ""
            again = " again" if before == "paused" and not others else ""
            return f"task {state.task} runs{again} at {worker}{also}"
        why = f": {state.reason}" if state.reason else ""
        return f"task {state.task} is {name} at {worker}{why}"

    def tried(self, task: int, worker: str, reason: str) -> str:
        """Return what to say of a try that came to nothing."""
        where = worker or "a worker"
        self._at.get(task, {}).pop(where, None)
        return f"task {task} came to nothing at {where}, and goes to another worker: {reason}"

    def ended(self, task: int, words: Ending) -> str:
        """Return what to say of a task that has ended."""
        self._at.pop(task, None)
        if words.sentence:
            return f"task {task} has ended: {words.sentence}"
        return f"task {task} has ended, with exit code {words.code}"
