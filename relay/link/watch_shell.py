"""Whether the peers of links are still there: padding, questions, silence (spec/02 §6).

A peer may vanish without a word: its machine loses power or changes its address, a router forgets
the connection, the process hangs. TCP may take minutes to say so, or never does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import trio

from fogbank.relay.keys import NodeId
from fogbank.relay.link.shell import Link

JANITOR_SECONDS = 15.0
WATCH_SECONDS = 5.0
"""Between two looks at links, if circuits use any, or any is held."""
PAD_LOOKS = 2
SILENT_LOOKS = 5
"""Who carries circuits, and was not heard for so many looks, is gone."""
ASK_LOOKS = 3
"""Whose link is held, and who was not heard for so many looks, is asked at each look."""
GONE_LOOKS = 5
"""Who was not heard for so many is gone."""
ANSWER_SECONDS = 5.0
"""Who is asked on a suspicion answers within this time, or is gone."""
STALE_SECONDS = 5.0
"""A link that is wanted after such a silence is asked: until then nobody may have looked at it."""


class LinkWatch:
    """Looks at a node's links now and then; `links` gives those that are open."""

    def __init__(self, links: Callable[[], Collection[Link]], idle_seconds: float) -> None:
        self._links = links
        self._idle = idle_seconds
        self._asked: set[Link] = set()
        self.held: frozenset[NodeId] = frozenset()
        """Links that were dialed to these nodes stay open though no circuit uses them."""

    async def run(self, between: Callable[[], None]) -> None:
        """Close links that nobody uses, and those whose peer is gone, until cancelled.

        Those that circuits use are padded, so that the peer knows this node to be there. Between
        two looks `between` is called.
        """
        while True:
            watched = any(link.port.sides or self._is_held(link) for link in self._links())
            await trio.sleep(WATCH_SECONDS if watched else min(JANITOR_SECONDS, self._idle / 4))
            between()
            now = trio.current_time()
            for link in list(self._links()):
                link.port.queue.trim()
                self._look_at(link, now)

    def _is_held(self, link: Link) -> bool:
        return link.port.dialed and link.peer in self.held

    def _look_at(self, link: Link, now: float) -> None:
        silent = link.silent_looks()
        if link.port.sides:
            if silent >= SILENT_LOOKS:
                link.close()
            elif now - link.port.padded > WATCH_SECONDS * (PAD_LOOKS - 0.5):
                link.pad(now)
        elif self._is_held(link):
            if silent >= GONE_LOOKS:
                link.close()
            elif silent >= ASK_LOOKS:
                link.pad(now)
        elif now - link.port.last_used > self._idle:
            link.close()

    def is_stale(self, link: Link) -> bool:
        """Tell whether to ask when a link is wanted that no circuit has used lately."""
        silence = trio.current_time() - link.port.last_used
        return not link.port.sides and silence > STALE_SECONDS

    async def ask(self, links: Iterable[Link]) -> None:
        """Ask the peers of `links` whether they are there; close whose do not answer."""
        asked = set(links) - self._asked
        self._asked |= asked
        try:
            heard = {link: link.port.last_used for link in asked}
            for link in asked:
                link.pad(trio.current_time())
            await trio.sleep(ANSWER_SECONDS)
            for link, before in heard.items():
                if link.port.last_used == before:
                    link.close()
        finally:
            self._asked -= asked
