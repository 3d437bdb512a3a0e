"""A user's array: the workers that may run it, and the circuits to them (spec/11 §3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fogbank.client.circuits_shell import BuiltCircuit, CircuitSet
from fogbank.client.errors import NoPath
from fogbank.client.runtimes import choose_runtime
from fogbank.client.scheduling.words import Candidate
from fogbank.nodes.user import User
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.job.kinds import SERVICE
from fogbank.relay.keys import NodeId
from fogbank.relay.streams.shell import CircuitStream
from fogbank.sandbox.runtimes.catalogue import RuntimeId, RuntimeSpec

_ATTEMPTS: Final = 2
"""Circuits that are tried at once to a worker that an array can do without."""


class UserReach:
    """The workers of the newest consensus that run the program, which may need a runtime."""

    def __init__(self, user: User, circuits: CircuitSet[Circuit], runtime: bytes | None) -> None:
        self._user = user
        self._circuits = circuits
        self._runtime = runtime

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the workers that are listed now and may run the program."""
        return tuple(
            Candidate(entry.identity, max(1, entry.fuel_rate), entry.cores)
            for entry in self._user.workers()
            if self._runtime is None or self._runtime in entry.runtimes
        )

    async def connect(self, worker: NodeId) -> WorkerLine:
        """Build a circuit; raise `NoPath` or `CircuitUnavailable`."""
        topology = self._user.topology
        built = await self._circuits.to_worker(topology, worker=worker, attempts=_ATTEMPTS)
        return WorkerLine(self._circuits, built)


class WorkerLine:
    """A circuit to a worker."""

    def __init__(self, circuits: CircuitSet[Circuit], built: BuiltCircuit[Circuit]) -> None:
        self._circuits = circuits
        self._circuit = built.circuit
        self.way = built.path.nicknames

    async def open_stream(self) -> CircuitStream:
        """Begin a stream to its job service."""
        return await self._circuit.open_stream(SERVICE)

    def close(self) -> None:
        """End the circuit."""
        self._circuits.end(self._circuit)


@contextmanager
def open_reach(
    user: User, program: bytes | RuntimeSpec
) -> Iterator[tuple[UserReach, bytes | RuntimeId]]:
    """Give a way to the workers that run a program, and what they are sent of it.

    The circuits end with the block. Raises `NoPath` if there is no such worker.
    """
    runtime: bytes | None = None
    sent: bytes | RuntimeId
    if isinstance(program, RuntimeSpec):
        runtime = choose_runtime(user.topology, program.name).digest
        sent = RuntimeId(runtime)
    else:
        sent = program
    # The scheduler of the array counts failures, and bounds them (spec/11 §3).
    with user.circuits(failures=math.inf) as circuits:
        reach = UserReach(user, circuits, runtime)
        if not reach.candidates():
            raise NoPath(
                "the network lists no worker that runs now: wait for the next consensus, or start "
                "one with `fog worker run`"
            )
        yield reach, sent
