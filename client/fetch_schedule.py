"""When a client or a node fetches the next consensus (spec/06 §5.3). Pure."""

from __future__ import annotations

from fogbank.client.chance import Chooser, jitter
from fogbank.directory.consensus import Consensus

_LATE_WINDOW = (0.5, 3.0)
_SOON_WINDOW = (0.05, 0.25)
_LATEST_SHARE = 7 / 8
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 600.0


def next_fetch(consensus: Consensus, chooser: Chooser, *, soon: bool) -> float:
    """Return when to fetch what follows `consensus`, in seconds since 1970.

    `soon` is for nodes, and for every client of a test network.
    """
    interval = consensus.fresh_until - consensus.valid_after
    first, last = _SOON_WINDOW if soon else _LATE_WINDOW
    stale = consensus.valid_until - consensus.fresh_until
    delay = interval * (first + (last - first) * chooser.uniform())
    return consensus.fresh_until + min(delay, _LATEST_SHARE * stale)


def retry_wait(failures: int, interval: float, chooser: Chooser) -> float:
    """Return the seconds to wait after `failures` (at least one) in a row.

    `interval` is the seconds between consensuses now: waiting longer would miss one.
    """
    longest = min(_LONGEST_WAIT, interval)
    # Past some failures the wait is the longest one anyway.
    return min(_FIRST_WAIT * 2.0 ** min(failures - 1, 16), longest) * jitter(chooser)
