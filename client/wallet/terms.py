"""What a wallet has to know of its network (spec/09 §2, §8). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.network import NetworkDocument

GAP: Final = 256
"""No counter is taken that many above the last one of its period that is known as issued."""
OFFER_GAP: Final = 192
"""The same for invoices, which others may never pay: room stays for the wallet's own requests."""
OFFER_DAYS: Final = 28
"""Days that an invoice is good for at most."""
OFFER_PERIODS: Final = 5
"""Periods before a series in which outputs of its tokens can have been taken."""
MOST_OFFERED: Final = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """A network's id and calendar; tokens rest for `rest` seconds after they were issued."""

    network_id: bytes
    calendar: Calendar
    rest: int

    @classmethod
    def of(cls, network: NetworkDocument) -> Terms:
        """Return those of a network; in a test network tokens rest for its first interval."""
        timing = network.timing
        rest = timing.first_interval if network.test else timing.interval
        return cls(network.network_id, Calendar.of(network), rest)
