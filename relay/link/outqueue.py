"""What waits to be sent on a link: whole cells, in order, bounded, fair among circuits.

A cell is built where it will be sent from: `slot()` says where, `commit()` sends it on its way.
While little waits, that is all, and costs no copy. When the link is congested (over `HIGH`
bytes), committed cells go to their circuit's own `Lane`, and from there a few at a time, in turn,
as the link drains. So no circuit starves another, what each one holds is counted, and a circuit
that hoards can be found and destroyed (spec/02 §6).

The buffers of all links come from one `Slabs`, which a drained link gives back; over its limit, the
link with most in it is doomed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from fogbank.relay.cells import CELL

SLAB: Final = 64 * CELL
HIGH: Final = 2 * SLAB
LOW: Final = SLAB
_TURN: Final = 8
"""Cells that a lane sends before the next one's turn."""
_SPARE_SLABS: Final = 64
_NOTHING: Final = memoryview(bytearray())


class LaneOwner(Protocol):
    """A circuit, as far as a queue needs to know it."""

    def fail(self, reason: int) -> None:
        """End the circuit in both directions."""


class Lane:
    """The cells of one circuit that wait for one congested link, and what else it holds."""

    __slots__ = ("cells", "held", "owner")

    def __init__(self, owner: LaneOwner) -> None:
        self.owner = owner
        self.cells: deque[bytes] = deque()
        self.held = 0
        """Cells that arrived and wait for the readers of the circuit's streams."""

    @property
    def size(self) -> int:
        """Cells that wait in either direction."""
        return len(self.cells) + self.held


class Budget:
    """Counts what waits in all lanes of a process, and names whose circuit must go.

    `limit` is for all lanes together, `lane_limit` for each, in bytes.
    """

    __slots__ = ("_lane_limit", "_lanes", "_limit", "doomed", "waiting")

    def __init__(self, limit: int, lane_limit: int) -> None:
        self._limit = limit // CELL
        self._lane_limit = lane_limit // CELL
        self._lanes: set[Lane] = set()
        self.waiting = 0
        """Cells that wait in lanes, or that lanes hold."""
        self.doomed: list[LaneOwner] = []
        """Circuits for which too much waits: to be failed as soon as no cell is in the making."""

    def add(self, lane: Lane) -> None:
        """Count a cell that was put into `lane`; doom a circuit if that is too many."""
        self.waiting += 1
        self._lanes.add(lane)
        if len(lane.cells) > self._lane_limit:
            self.doomed.append(lane.owner)
        else:
            self._check()

    def remove(self, lane: Lane, count: int) -> None:
        """Count `count` cells that left `lane`."""
        self.waiting -= count
        if not lane.size:
            self._lanes.discard(lane)

    def hold(self, lane: Lane, cells: int) -> None:
        """Count `cells` more that wait for the readers of a lane's circuit, or fewer."""
        lane.held += cells
        self.waiting += cells
        if lane.size:
            self._lanes.add(lane)
            self._check()
        else:
            self._lanes.discard(lane)

    def _check(self) -> None:
        if self.waiting > self._limit and not self.doomed:
            self.doomed.append(max(self._lanes, key=lambda each: each.size).owner)


class Slabs:
    """The buffers of all links of a process: so many bytes at most, or a link must go."""

    __slots__ = ("_holders", "_limit", "_spare", "count")

    def __init__(self, limit: int) -> None:
        self._limit = limit // SLAB
        self._spare: list[memoryview] = []
        self._holders: dict[OutQueue, None] = {}
        self.count = 0
        """Slabs in use."""

    def take(self, queue: OutQueue) -> memoryview:
        """Return a slab for `queue`."""
        self._holders[queue] = None
        self.count += 1
        if self.count > self._limit:
            self._make_room(queue)
        return self._spare.pop() if self._spare else memoryview(bytearray(SLAB))

    def give(self, slab: memoryview) -> None:
        """Take a slab back."""
        self.count -= 1
        if len(self._spare) < _SPARE_SLABS:
            self._spare.append(slab)

    def forget(self, queue: OutQueue) -> None:
        """Hear that a queue holds no slab any more."""
        self._holders.pop(queue, None)

    def _make_room(self, newcomer: OutQueue) -> None:
        for queue in list(self._holders):
            if queue is not newcomer:
                queue.trim()
        if self.count > self._limit:
            living = [queue for queue in self._holders if not queue.doomed]
            if living:
                max(living, key=lambda queue: queue.queued).doom()


class OutQueue:
    """The outgoing cells of one link."""

    __slots__ = (
        "_budget", "_closed", "_dirty", "_dirty_list", "_fill", "_full", "_local_first", "_on_late",
        "_room_waiters", "_sent", "_slabs", "_turns", "doomed", "queued", "view",
    )  # fmt: skip

    def __init__(
        self,
        budget: Budget,
        slabs: Slabs,
        dirty_list: list[OutQueue],
        on_late: Callable[[OutQueue, float], None] | None = None,
    ) -> None:
        self._on_late = on_late
        self._budget = budget
        self._slabs = slabs
        self._closed = False
        self._dirty_list = dirty_list
        self._dirty = False
        self._full: deque[memoryview] = deque()
        self._turns: deque[Lane] = deque()
        self._room_waiters: deque[Callable[[], None]] = deque()
        self._local_first = False
        # As after a slab that was filled and sent: the first slot takes a new one.
        self._fill = SLAB
        self._sent = SLAB
        self.queued = 0
        """Bytes that wait on the link, lanes not counted."""
        self.view = _NOTHING
        """The buffer that the last `slot()` points into."""
        self.doomed = False
        """Whether the link must be closed: too much waits in all links, and in this one most."""

    def slot(self) -> int:
        """Return the offset in `view` at which the next cell may be built."""
        if self._fill == SLAB:
            self._next_slab()
        return self._fill

    def _next_slab(self) -> None:
        if self._closed:
            # Nothing is sent any more: whatever is written goes nowhere.
            self.view = memoryview(bytearray(SLAB))
        elif self.view:
            self._full.append(self.view)
            self.view = self._slabs.take(self)
        else:
            self.view = self._slabs.take(self)
            self._sent = 0
        self._fill = 0

    def commit(self, lane: Lane) -> None:
        """Send the cell that was built in the slot."""
        if self.queued >= HIGH or lane.cells:
            if not lane.cells:
                self._turns.append(lane)
            lane.cells.append(bytes(self.view[self._fill : self._fill + CELL]))
            self._budget.add(lane)
        else:
            # What `_advance` does, without the call: this is for every cell.
            self._fill += CELL
            self.queued += CELL
            if not self._dirty:
                self._dirty = True
                self._dirty_list.append(self)

    def commit_late(self, lane: Lane, seconds: float) -> None:
        """Do the same for a cell that may wait for others so long, and until `mark` is called."""
        if self._on_late is None or self._dirty or self.queued >= HIGH or lane.cells:
            self.commit(lane)
        else:
            self._fill += CELL
            self.queued += CELL
            self._on_late(self, seconds)

    def mark(self) -> None:
        """Have what waits here sent by the next flush, if anything does."""
        if self.queued and not self._dirty:
            self._dirty = True
            self._dirty_list.append(self)

    def put(self, cell: bytes) -> None:
        """Send a whole cell of the link itself, ahead of what waits in lanes."""
        at = self.slot()
        self.view[at : at + CELL] = cell
        self._advance()

    def _advance(self) -> None:
        self._fill += CELL
        self.queued += CELL
        if not self._dirty:
            self._dirty = True
            self._dirty_list.append(self)

    def drop(self, lane: Lane) -> None:
        """Forget what waits in `lane`; its circuit is gone."""
        count = len(lane.cells)
        if count:
            lane.cells.clear()
            self._turns.remove(lane)
            self._budget.remove(lane, count)
        if lane.held:
            self._budget.hold(lane, -lane.held)

    def hold(self, lane: Lane, cells: int) -> None:
        """Count cells that wait for the readers of `lane`'s circuit."""
        self._budget.hold(lane, cells)

    def has_room(self, lane: Lane) -> bool:
        """Tell whether a local sender should go on."""
        return self.queued < HIGH and not lane.cells

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the link has drained."""
        self._room_waiters.append(callback)

    def peek(self) -> memoryview:
        """Return the next bytes to send: the same ones, or more, until `consumed` is called."""
        self._dirty = False
        if self._full:
            return self._full[0][self._sent :]
        return self.view[self._sent : self._fill]

    def consumed(self, count: int) -> None:
        """Hear that the first `count` bytes of what `peek` returned were sent."""
        self.queued -= count
        self._sent += count
        if self._full:
            if self._sent == SLAB:
                self._sent = 0
                self._slabs.give(self._full.popleft())
        elif self._sent == self._fill and self.view:
            self._sent = self._fill = 0
        if self.queued < LOW and (self._turns or self._room_waiters):
            self._refill()

    def close(self) -> None:
        """Forget everything; the link is gone."""
        for lane in list(self._turns):
            self.drop(lane)
        self._room_waiters.clear()
        self._closed = True
        for slab in (*self._full, self.view):
            if slab:
                self._slabs.give(slab)
        self._full.clear()
        self._slabs.forget(self)
        self.view = _NOTHING
        self._fill = self._sent = SLAB
        self.queued = 0

    def trim(self) -> None:
        """Give the buffer back if nothing waits in it."""
        if self.view and not self.queued and not self._closed:
            self._slabs.give(self.view)
            self._slabs.forget(self)
            self.view = _NOTHING
            self._fill = self._sent = SLAB

    def doom(self) -> None:
        """Have the link closed, as soon as it is asked to send."""
        self.doomed = True
        if not self._dirty:
            self._dirty = True
            self._dirty_list.append(self)

    def _refill(self) -> None:
        # Lanes and local senders go first by turns, or one of the two could starve the other.
        self._local_first = not self._local_first
        if self._local_first:
            self._call_waiters()
        self._drain_lanes()
        self._call_waiters()

    def _call_waiters(self) -> None:
        # Whoever sends until there is no room asks for room again, behind those who still wait.
        for _ in range(len(self._room_waiters)):
            if self.queued >= HIGH:
                return
            self._room_waiters.popleft()()

    def _drain_lanes(self) -> None:
        turns = self._turns
        while turns and self.queued < HIGH:
            lane = turns.popleft()
            count = min(_TURN, len(lane.cells))
            for _ in range(count):
                self.put(lane.cells.popleft())
            self._budget.remove(lane, count)
            if lane.cells:
                turns.append(lane)
