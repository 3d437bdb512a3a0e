"""What a node takes from the machine it runs on: time, chance, disk and network.

The default is the real machine. A simulated one makes whole networks run in one process, from a
seed, with whatever faults are wanted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fogbank.client.chance import Chooser
from fogbank.client.chance_shell import SystemChooser
from fogbank.directory.network import NetworkDocument
from fogbank.directory.store_shell import Store
from fogbank.relay.job.held.keeper_shell import Blocking, in_thread
from fogbank.relay.link.pipe import Transport
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.node_shell import Node, NodeConfig
from fogbank.relay.waking_shell import local_address
from fogbank.sandbox.files_shell import write_atomic

if TYPE_CHECKING:
    from fogbank.directory.mint.ledger_shell import SeriesFile
    from fogbank.directory.mint.mint_shell import Crunching


def crunch_on_cores(network_id: bytes) -> Crunching:
    """Return what computes for a mint, in processes of its own for the machine's cores."""
    # Only an authority computes for a mint: all others load no part of that.
    from fogbank.directory.mint.crunch_shell import Crunch, processes  # noqa: PLC0415

    return Crunch(network_id, processes())


def open_ledger(path: Path, now: float, blocking: Blocking, named: int) -> SeriesFile:
    """Open the ledger of a series of the mint."""
    from fogbank.directory.mint.ledger_shell import SeriesFile  # noqa: PLC0415

    return SeriesFile(path, now, blocking, named)


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine under a node.

    `clock` gives seconds since 1970, `random` that many random bytes. `transport` makes the way to
    other nodes from the local address to dial from, or None for any. `write` replaces a file as a
    whole, `store` opens an authority's database; both fail as disks do. `node` makes the node.
    `place` tells the machine's own addresses on the ways to some hosts. `blocking` calls what
    waits for the disk. `ledger` opens a series' ledger of the mint, whose computing is done by what
    `crunch` makes for a network.
    """

    clock: Callable[[], float] = time.time
    random: Callable[[int], bytes] = os.urandom
    chooser: Chooser = field(default_factory=SystemChooser)
    transport: Callable[[str | None], Transport] = TlsTransport
    write: Callable[[Path, bytes], None] = write_atomic
    store: Callable[[Path], Store] = Store
    node: Callable[[NodeConfig], Node] = Node
    place: Callable[[Iterable[str]], str] = local_address
    blocking: Blocking = in_thread
    ledger: Callable[[Path, float, Blocking, int], SeriesFile] = open_ledger
    crunch: Callable[[bytes], Crunching] = crunch_on_cores

    def place_in(self, network: NetworkDocument, source: str | None = None) -> Callable[[], str]:
        """Return what tells the address from which a node reaches the network.

        From a `source` that its operator chose it never moves.
        """
        if source is not None:
            return lambda: source
        hosts = [each.host for pin in network.authorities for each in pin.addresses]
        return partial(self.place, hosts)
