"""What an authority answers readers, without the authority: a consensus, and later versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fogbank.directory.exchange import GetNetwork, Reply, Request
from fogbank.directory.exchange_shell import Cache, answer_links
from fogbank.directory.network import SignedNetwork
from fogbank.relay.keys import NodeId


class ServedByAuthority(Cache):
    """Answers as an authority that holds these versions of the network document."""

    def __init__(self, clock: Callable[[], float], versions: Sequence[SignedNetwork] = ()) -> None:
        super().__init__(clock)
        self.versions = versions
        self.now = clock

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        """Answer one request."""
        if isinstance(request, GetNetwork):
            return answer_links(request, self.versions, self.now())
        return super().answer(request, peer)
