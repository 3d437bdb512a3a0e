"""Which relays a worker holds its links to: rendezvous hashing (spec/05 §6.2).

Nobody chooses them: worker and clients compute the same three from the same consensus, and a
relay that comes or goes moves only the workers that it wins or loses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fogbank.directory.consensus import Consensus
from fogbank.directory.entries import Entry, Flag
from fogbank.directory.families import conflicts_any, same_family
from fogbank.relay.keys import NodeId

CONTACTS = 3
_LABEL = b"fogbank-contact-v1\0"
_NEEDED = Flag.RUNNING | Flag.STABLE


def contacts(worker: NodeId, consensus: Consensus) -> tuple[Entry, ...]:
    """Return the worker's contact relays, best first: three of at least two families.

    Relays that were listed before the worker's seed was committed to come first: later ones could
    have been made to match it. The best-ranked that share no family and no prefix are taken;
    where there are too few, the others fill up. Fewer than three come back only if there are no
    more that fit.
    """
    seed = consensus.seed_of(worker)
    eligible = [relay for relay in consensus.relays() if relay.flags & _NEEDED == _NEEDED]
    ranked = sorted(eligible, key=lambda relay: _rank(seed.value, worker, relay))
    chosen: list[Entry] = []
    _take([relay for relay in ranked if relay.since < seed.before], chosen)
    _take([relay for relay in ranked if relay.since >= seed.before], chosen)
    return tuple(chosen)


def _take(ranked: Sequence[Entry], chosen: list[Entry]) -> None:
    """Add relays to the choice until it is full."""
    for relay in ranked:
        if len(chosen) < CONTACTS and not conflicts_any(relay, chosen):
            chosen.append(relay)
    for relay in ranked:
        if len(chosen) < CONTACTS and relay not in chosen and _mixes(relay, chosen):
            chosen.append(relay)


def _rank(seed: bytes, worker: NodeId, relay: Entry) -> bytes:
    return hashlib.sha256(_LABEL + seed + worker + relay.identity).digest()


def _mixes(relay: Entry, chosen: Sequence[Entry]) -> bool:
    """Tell whether the choice can still have two families with `relay` in it."""
    last = len(chosen) == CONTACTS - 1
    return not last or any(
        not same_family(a, b) for a in (relay, *chosen) for b in (relay, *chosen)
    )
