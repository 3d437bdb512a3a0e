"""The onion network's limits, all in one place (spec/02 §6, spec/04 §4)."""

from __future__ import annotations

from dataclasses import dataclass

from fogbank.relay.cells import CELL

CIRCUIT_WINDOW = 2048
CIRCUIT_INCREMENT = 128
STREAM_WINDOW = 1024
STREAM_INCREMENT = 64
MAX_STREAMS = 32
CIRCUIT_LIFETIME = 3600.0
"""Seconds for which a circuit takes new streams."""
CIRCUIT_CELLS = 1 << 20
"""Cells in one direction after which a circuit takes no new streams."""

LATE_SECONDS = 0.25
"""For so long BEGIN, CONNECTED and an EOF that nobody waits for may wait for what they can be sent
with (spec/04 §3)."""
SOON_SECONDS = 0.02
"""For so long an EOF that answers one may: somebody may read on until it comes."""

MOST_WORKS = 3
"""How often the next hop may ask for work while a circuit is extended once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node spends on its peers. Times in seconds, sizes in bytes."""

    links_per_address: int = 64
    half_open: int = 256
    handshake_seconds: float = 10.0
    dial_seconds: float = 10.0
    handshakes_per_second: float = 32.0
    """Links that one address may begin; these, and CREATEs, are counted over all its links."""
    handshakes_burst: float = 128.0
    creates_per_second: float = 100.0
    creates_burst: float = 200.0
    circuits_per_link: int = 4096
    creation_share: float = 0.3
    """The share of the node's time that handshakes have (spec/03 §2.5)."""
    creations_waiting: int = 1024
    creation_wait: float = 0.5
    """Once a CREATE would wait longer, work is asked."""
    creation_patience: float = 5.0
    """A CREATE that waited so long is given up."""
    creation_least_cost: float = 20e-6
    """What a handshake is reckoned at, at least."""
    work_seconds: float = 2.0
    """Processor time that an origin works for one circuit."""
    unread_answers: int = 2 << 20
    """Bytes that may wait on a link while its peer asks for more circuits."""
    link_queue: int = 16 << 20
    """Bytes that may wait on a link, those of congested circuits not counted."""
    node_links_per_address: int = 256
    links: int = 2048
    circuits: int = 16_384
    link_memory: int = 256 << 20
    """Bytes of buffers of all links."""
    circuit_queue: int = 4 * CIRCUIT_WINDOW * CELL
    process_queue: int = 256 << 20
    link_idle_seconds: float = 180.0
    extend_seconds: float = 20.0
    build_seconds: float = 30.0
