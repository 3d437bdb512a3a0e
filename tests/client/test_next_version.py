"""A client goes over to the next versions of the network document (spec/05 §1.5, spec/06 §5.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.errors import DirectoryUnavailable
from fogbank.directory.consensus import CONSENSUS_LABEL, Consensus, SignedConsensus, open_consensus
from fogbank.directory.exchange_shell import DirService
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    verify_successor,
)
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream
from tests.client.networks import SeededChooser
from tests.directory.factory import START, make_consensus, make_entry, relay
from tests.directory.served import ServedByAuthority
from tests.directory.test_links import NODES, OLD, Stranger, successor

NOW = START + 100.0
CHAIN = [OLD.signed()]
for _number, _from in ((1, START + 30), (2, START + 60)):
    CHAIN.append(successor(CHAIN[-1].document, range(2 * _number, 2 * _number + 4), in_force=_from))


def newest(chain: list[SignedNetwork] = CHAIN) -> NetworkDocument:
    document = chain[0].document
    for each in chain[1:]:
        document = verify_successor(document, each)
    return document


def consensus_of(members: range) -> tuple[bytes, Consensus]:
    """A consensus of the third version's time, signed by those."""
    entries = [make_entry(relay(number)) for number in range(3)]
    body = make_consensus(OLD, entries, START + 93, 30).encode_body()
    signatures = tuple(NODES[i].credentials.sign(CONSENSUS_LABEL, body) for i in members)
    document = SignedConsensus(body, signatures).encode()
    return document, open_consensus(document, newest(), NOW)


class Client:
    """A client that holds the first version; all authorities serve the same."""

    def __init__(self, folder: Path, nursery: trio.Nursery, chain: list[SignedNetwork]) -> None:
        self.nursery = nursery
        self.said: list[str] = []
        self.taken: list[int] = []
        self.asked: set[NodeId] = set()
        self.served = ServedByAuthority(lambda: NOW, chain)
        self.served.hold(*consensus_of(range(4, 8)))
        self.cache = DirectoryCache(
            folder, OLD.document, SeededChooser("next"), self.said.append, clock=lambda: NOW
        )
        self.cache.on_version = lambda signed, _: self.taken.append(signed.document.version)

    @asynccontextmanager
    async def opener(self, pin: AuthorityPin) -> AsyncIterator[Stream]:
        self.asked.add(pin.identity)
        here, there = memory_stream_pair()
        service = DirService(OLD.document, self.served, lambda: NOW)
        self.nursery.start_soon(service, there, Stranger())
        try:
            yield here
        finally:
            await here.aclose()


async def test_a_consensus_that_does_not_pass_is_judged_again_by_the_version_that_governs(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    here = Client(tmp_path, nursery, CHAIN)
    assert await here.cache.refresh(here.opener)
    assert here.taken == [2, 3]
    assert here.cache.network == newest()
    assert here.cache.consensus is not None
    assert here.said == []
    # From now on those in force are asked.
    here.asked.clear()
    await here.cache.refresh(here.opener)
    assert here.asked <= {NODES[i].identity for i in range(4, 8)}


async def test_without_the_links_the_consensus_stays_refused(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    here = Client(tmp_path, nursery, CHAIN[:1])
    with pytest.raises(DirectoryUnavailable) as caught:
        await here.cache.refresh(here.opener)
    told = str(caught.value)
    assert "no authority" in told
    for word in ("online", "clock", "fog network show", "fog join"):
        assert word in told
    assert here.taken == []


async def test_a_forged_link_is_told_once_and_changes_nothing(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    forged = SignedNetwork(replace(CHAIN[1].document, name="another"), CHAIN[1].signatures)
    here = Client(tmp_path, nursery, [CHAIN[0], forged])
    for _ in range(3):
        with pytest.raises(DirectoryUnavailable):
            await here.cache.refresh(here.opener)
    assert here.cache.network == OLD.document
    assert here.taken == []
    assert len(here.said) == 4, "one sentence of each authority"
    assert all("not to be trusted" in each for each in here.said)
