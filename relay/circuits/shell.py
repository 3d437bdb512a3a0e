"""A circuit's origin for those who wait: build hop by hop, open streams, close (spec/03)."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from fogbank.relay.cells import DestroyReason
from fogbank.relay.circuits.origin import Hop, OriginCircuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.circuits.work_shell import Solver, solve_in_thread
from fogbank.relay.errors import CircuitDestroyed, StreamReset, WorkRefused
from fogbank.relay.limits import MOST_WORKS
from fogbank.relay.streams.shell import CircuitStream
from fogbank.relay.work import EFFORT_MOST, Demand


class Circuit:
    """A circuit that begins in this process. Made by `Node.build`; close it when done.

    `solver` does the work that relays may ask for, of `work_seconds` of processor time at most.
    """

    def __init__(
        self,
        core: OriginCircuit,
        switch: Switch,
        solver: Solver = solve_in_thread,
        work_seconds: float = 0.0,
    ) -> None:
        self._core = core
        self._switch = switch
        self._solver = solver
        self._work_seconds = work_seconds
        self._changed = trio.lowlevel.ParkingLot()
        core.wake = self._wake

    def _wake(self) -> None:
        self._changed.unpark_all()

    @property
    def length(self) -> int:
        """The number of hops."""
        return self._core.length

    @property
    def alive(self) -> bool:
        """Whether the circuit takes another stream."""
        return self._core.takes_streams(self._switch.now())

    async def extend(self, hop: Hop, seconds: float) -> None:
        """Add a hop at the far end; raise `ExtendRefused` or `CircuitDestroyed`.

        If the hop asks for work, that is done; beyond reason (spec/03 §2.5) the circuit is closed
        and `WorkRefused` raised.
        """
        core = self._core
        wanted = core.length + 1
        works = 0
        core.add_hop(hop)
        self._switch.flush()
        try:
            with trio.move_on_after(seconds):
                while core.length < wanted:
                    if core.error is not None:
                        raise core.error
                    if core.refused is not None:
                        raise core.refused
                    if core.demand is None:
                        await self._changed.park()
                    else:
                        works += 1
                        await self._work(core.demand, works)
                return
        except (trio.Cancelled, WorkRefused):
            self.close()
            raise
        self.close()
        raise CircuitDestroyed(f"hop {wanted} did not answer within {seconds:g} s")

    async def _work(self, demand: Demand, works: int) -> None:
        """Do what a hop asks for, for the `works`-th time, and ask it again."""
        core = self._core
        nonce: int | None = None
        if works <= MOST_WORKS and demand.effort <= EFFORT_MOST:
            solution = await self._solver(
                demand, core.message, self._work_seconds, lambda: core.error is None
            )
            nonce = solution.nonce
            self._work_seconds -= solution.seconds
        if core.error is not None:
            raise core.error
        if nonce is None:
            raise WorkRefused(
                f"relay {core.length + 1} of the circuit is overloaded, and asks for more work "
                "than is reasonable; another path will be taken"
            )
        core.repeat(nonce)
        self._switch.flush()

    async def extend_all(self, hops: Sequence[Hop], seconds: float) -> None:
        """Add several hops, one after the other, all within `seconds`."""
        deadline = trio.current_time() + seconds
        for hop in hops:
            await self.extend(hop, deadline - trio.current_time())

    async def open_stream(self, service: str) -> CircuitStream:
        """Begin a stream to a service of the last hop, without waiting for its answer.

        Raises `CircuitDestroyed`, or `StreamReset` if the circuit takes no more streams.
        """
        mux = self._core.mux
        if not self.alive:
            raise StreamReset("this circuit is too old for another stream: build a new one")
        stream = CircuitStream(mux, mux.begin(service), self._switch)
        await trio.lowlevel.checkpoint_if_cancelled()
        return stream

    def send_padding(self) -> None:
        """Send one padding cell to the last hop."""
        self._core.send_padding()
        self._switch.flush()

    def close(self) -> None:
        """End the circuit and all its streams."""
        self._core.fail(DestroyReason.REQUESTED)
        self._switch.flush()
