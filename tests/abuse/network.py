"""What all processes of an abuse test know: who is where, and the limits of the relays."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from functools import cache

from fogbank.directory.consensus import Consensus
from fogbank.directory.network import Timing
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.extend import Address
from fogbank.relay.limits import Limits
from tests.directory.factory import (
    START,
    SyntheticNetwork,
    make_consensus,
    make_entry,
    make_network,
    relay,
)
from tests.relay.onion import Keys

MIB = 1 << 20
LIMITS = Limits(process_queue=32 * MIB, creation_share=0.1)
"""Those of every relay, with less memory and less time for handshakes.

So that a test sees where its use ends, whatever this machine can do.
"""

PORT = int(os.environ.setdefault("ABUSE_PORT", str(10_000 + os.getpid() % 20_000)))
"""Below what the system gives away by itself, and each test run's own."""
SEEDS = {"victim": 1, "end": 2, "third": 3}
HOSTS = {"victim": "127.201.0.1", "end": "127.202.0.1", "third": "127.204.0.1"}


EPOCH = float(os.environ.setdefault("ABUSE_EPOCH", str(time.time())))
"""When the first process of a test run started; the others inherit it."""


def wall_clock() -> float:
    """Return the network's time: it began a minute before the test run did."""
    return START + 60 + time.time() - EPOCH


def say(text: str) -> None:
    """Write a line to standard output, where the process that started this one reads it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def address(name: str) -> Address:
    return Address(HOSTS[name], PORT)


def hop(name: str) -> Hop:
    keys = Keys(SEEDS[name])
    return Hop(keys.identity, keys.onion_key, (address(name),))


@cache
def directory() -> SyntheticNetwork:
    """Return the authorities, in whose first round votes count all the time."""
    phase, interval = 6000, 36_000
    begins = START - 200
    return make_network(timing=Timing(begins + 3 * phase - interval, 1000 * phase, interval, 0, 1))


def consensus() -> Consensus:
    """Return a consensus that lists the relays."""
    entries = [
        replace(
            make_entry(relay(seed)),
            identity=Keys(seed).identity,
            onion_key=Keys(seed).onion_key,
            addresses=(address(name),),
        )
        for name, seed in SEEDS.items()
    ]
    return make_consensus(directory(), entries)
