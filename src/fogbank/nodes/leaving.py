"""An authority that left office serves the series that need it, then ends (spec/09 §2.1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from fogbank.directory.consensus import Consensus
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.office import Office, office_of, series_served, served_until
from fogbank.directory.mint.state import MintState
from fogbank.directory.network import NetworkDocument
from fogbank.relay.keys import NodeId

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0


class Leaving:
    """Knows by each consensus whether an authority is in office, and what it serves if not.

    `network` gives the newest version of the network document, `state` that of the mint.
    """

    def __init__(
        self,
        identity: NodeId,
        network: Callable[[], NetworkDocument],
        state: Callable[[], MintState],
    ) -> None:
        self._identity = identity
        self._network = network
        self._state = state
        self._calendar = Calendar.of(network())
        self._changed = trio.Event()
        self.office = Office.HELD
        """What the authority is by the newest consensus that it took."""

    @property
    def until(self) -> int:
        """When one that left office will have ended, in seconds since 1970; else 0."""
        if self.office is not Office.LEFT:
            return 0
        return served_until(self._identity, self._state(), self._calendar)

    def adopted(self, consensus: Consensus) -> None:
        """Hear of a consensus that was taken."""
        before = self.office
        self.office = office_of(self._identity, self._network(), consensus, self._state())
        if self.office is before:
            return
        self._changed.set()
        if self.office is Office.LEFT:
            served = ", ".join(map(str, series_served(self._identity, self._state())))
            log.warning(
                "this authority has left office. The mint's series of its time need it (%s), the "
                "last one until %s UTC: leave it running; it says so and ends once none does",
                served, time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.until)),
            )  # fmt: skip

    async def run(
        self, publish: Callable[[], Awaitable[None]], is_cleared: Callable[[], bool]
    ) -> None:
        """Publish while out of office; return once nothing needs the authority any more.

        `is_cleared` tells whether its records of series that are over are gone.
        """
        while self.office is not Office.OVER:
            self._changed = trio.Event()
            async with trio.open_nursery() as nursery:
                if self.office is Office.LEFT:
                    nursery.start_soon(publish)
                await self._changed.wait()
                nursery.cancel_scope.cancel()
        while True:
            await trio.sleep(_LOOK_SECONDS)
            if is_cleared():
                break
        log.warning(
            "this authority has left office, and no series of the mint that lives needs it: it "
            "ends for good. Nothing in its folder is needed any more"
        )
