"""Where a session's module is: what its worker may say of it to the client (spec/08 §6)."""

from __future__ import annotations

from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.messages import TaskState
from fogbank.relay.job.pending import require
from fogbank.sandbox.outcome import Outcome


class ModuleThere:
    """The module at the worker.

    `was_sent`: it was sent, or the session that has it asked for. `resuming`: what the worker says
    to that is yet to come. `is_accepted`: it is ready to run tasks.
    """

    def __init__(self) -> None:
        self.was_sent = False
        self.resuming = False
        self.is_accepted = False
        self._is_parked = False
        self._state: State | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether the worker is to say something of it."""
        return self.was_sent and not self.is_accepted and not self._is_parked

    def task_sent(self) -> None:
        """Hear of a task, for which it is loaded again if it was put away."""
        self._is_parked = False

    def resumed(self, place: ModulePlace) -> None:
        """Hear where it is when the session goes on."""
        self.resuming = False
        self.is_accepted = place is ModulePlace.OPEN
        self._is_parked = place is ModulePlace.PARKED

    def admit_acceptance(self) -> None:
        """Raise `ProtocolError` if it cannot be accepted now."""
        require(self.was_sent and not self.is_accepted, "an acceptance of nothing")

    def admit_state(self, message: TaskState) -> None:
        """Raise `ProtocolError` if it cannot be so."""
        loading = self.was_sent and not self.is_accepted
        require(loading, "the state of a module that is not there")
        back = self._state is State.RUNNING
        require(not back or message.state is State.RUNNING, "a module that goes back")

    def take_state(self, message: TaskState) -> None:
        """Take in where it is."""
        self._state = message.state

    def admit_refusal(self, outcome: Outcome | None) -> None:
        """Raise `ProtocolError` if it cannot be refused so: once accepted, only by the host."""
        late = self.is_accepted and outcome is not Outcome.HOST_FAILURE
        require(outcome is None or (self.was_sent and not late), "the refusal of no module")
