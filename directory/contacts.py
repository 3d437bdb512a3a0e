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

    The best-ranked relays that share no family and no prefix come first; where there are too
    few, the others fill up. Fewer than three come back only if there are no more that fit.
    """
    eligible = [relay for relay in consensus.relays() if relay.flags & _NEEDED == _NEEDED]
    ranked = sorted(eligible, key=lambda relay: _rank(consensus.contact_seed, worker, relay))
    chosen: list[Entry] = []
    for relay in ranked:
        if len(chosen) < CONTACTS and not conflicts_any(relay, chosen):
            chosen.append(relay)
    for relay in ranked:
        if len(chosen) < CONTACTS and relay not in chosen and _mixes(relay, chosen):
            chosen.append(relay)
    return tuple(chosen)


def _rank(seed: bytes, worker: NodeId, relay: Entry) -> bytes:
    return hashlib.sha256(_LABEL + seed + worker + relay.identity).digest()


def _mixes(relay: Entry, chosen: Sequence[Entry]) -> bool:
    """Tell whether the choice can still have two families with `relay` in it."""
    last = len(chosen) == CONTACTS - 1
    return not last or any(
        not same_family(a, b) for a in (relay, *chosen) for b in (relay, *chosen)
    )
