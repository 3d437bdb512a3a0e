"""The consensus at hand (spec/06 §5): from disk, from authorities, and what it refuses."""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.errors import DirectoryUnavailable, NoPath
from fogbank.client.limits import LIMITS
from fogbank.directory.consensus import VALIDITY, open_consensus
from fogbank.directory.exchange_shell import DirService
from fogbank.directory.network import AuthorityPin
from fogbank.relay.errors import LinkFailed
from fogbank.relay.messages_shell import Stream
from tests.client.networks import SeededChooser
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay
from tests.directory.served import ServedByAuthority

NETWORK = make_network()
INTERVAL = 30


@dataclass(frozen=True)
class Origin:
    linked_peer: bytes | None = None


def signed(valid_after: int) -> bytes:
    entries = [make_entry(relay(number)) for number in range(3)]
    return NETWORK.sign(make_consensus(NETWORK, entries, valid_after, INTERVAL).encode_body())


@dataclass
class Authorities:
    """What the pinned authorities answer: a document, an error, or silence."""

    clock: Callable[[], float]
    nursery: trio.Nursery
    answers: dict[str, bytes | Exception | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def all_answer(self, answer: bytes | Exception | None) -> None:
        self.answers = {pin.nickname: answer for pin in NETWORK.document.authorities}

    def opener(self, pin: AuthorityPin) -> AbstractAsyncContextManager[Stream]:
        return self._open(pin)

    @asynccontextmanager
    async def _open(self, pin: AuthorityPin) -> AsyncIterator[Stream]:
        self.asked.append(pin.nickname)
        answer = self.answers[pin.nickname]
        if isinstance(answer, Exception):
            raise answer
        here, there = memory_stream_pair()
        if answer is not None:
            # An authority vouches for what it serves; the client's own gate is under test.
            consensus = open_consensus(answer, NETWORK.document, START + 3, skew=10**9)
            served = ServedByAuthority(self.clock)
            served.hold(answer, consensus)
            self.nursery.start_soon(
                DirService(NETWORK.document, served, self.clock), there, Origin()
            )
        try:
            yield here
        finally:
            await here.aclose()


@dataclass
class Setting:
    cache: DirectoryCache
    authorities: Authorities
    said: list[str]
    folder: Path

    def another(self) -> DirectoryCache:
        """The cache of a client that starts later, on the same folder."""
        chooser = SeededChooser("another")
        return DirectoryCache(
            self.folder, NETWORK.document, chooser, self.said.append, clock=self.authorities.clock
        )


def setting(folder: Path, nursery: trio.Nursery, now: float = START + 4, off: float = 0) -> Setting:
    """A cache and authorities whose clocks show `now`, but for the client's, which is off."""
    begin = trio.current_time()

    def true_clock() -> float:
        return now + trio.current_time() - begin

    def clock() -> float:
        return true_clock() + off

    said: list[str] = []
    chooser = SeededChooser("cache")
    cache = DirectoryCache(folder, NETWORK.document, chooser, said.append, clock=clock)
    return Setting(cache, Authorities(true_clock, nursery), said, folder)


async def test_the_first_fetch_is_kept_for_the_next_start(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path, nursery)
    assert not here.cache.load()
    assert here.cache.topology is None
    here.authorities.all_answer(signed(START + 3))
    topology = await here.cache.ensure(here.authorities.opener)
    assert len(topology.relays.items) == 3
    assert here.cache.is_fresh
    assert len(here.authorities.asked) == 1
    assert await here.cache.ensure(here.authorities.opener) is topology
    assert len(here.authorities.asked) == 1
    later = here.another()
    assert later.load()
    assert later.consensus == here.cache.consensus
    assert here.said == []


async def test_stale_serves_and_expired_does_not(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path, nursery)
    here.authorities.all_answer(signed(START + 3))
    await here.cache.ensure(here.authorities.opener)
    stale = START + 3 + INTERVAL
    await trio.sleep(stale - 1 - here.authorities.clock())
    assert here.cache.is_fresh
    await trio.sleep(1)
    later = here.cache
    assert not later.is_fresh
    assert later.topology is not None
    assert here.another().load()
    await trio.sleep(VALIDITY - INTERVAL)
    assert here.cache.topology is None
    assert not here.another().load()
    with pytest.raises(DirectoryUnavailable, match="expired"):
        await here.cache.ensure(here.authorities.opener)


async def test_a_start_with_a_stale_consensus_renews_it_if_its_successor_is_due(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path, nursery)
    here.authorities.all_answer(signed(START + 3))
    first = await here.cache.ensure(here.authorities.opener)
    here.authorities.all_answer(signed(START + 33))
    opener = here.authorities.opener
    assert await here.cache.ensure(opener, opener) is first
    await trio.sleep(3 * INTERVAL)
    newer = await here.cache.ensure(opener, opener)
    assert newer.consensus.valid_after == START + 33
    await trio.sleep(3 * INTERVAL)
    here.authorities.all_answer(None)
    begin = trio.current_time()
    assert await here.cache.ensure(opener, opener) is newer
    assert trio.current_time() - begin == LIMITS.renew_seconds


async def test_one_good_authority_suffices(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    answers = {
        "auth0": LinkFailed("nothing answers at 127.1.0.1 port 9000"),
        "auth1": None,
        "auth2": signed(START + 3),
        "auth3": NoPath("no relay runs"),
    }
    asked = set()
    for number in range(8):
        here = setting(tmp_path, nursery)
        here.cache = DirectoryCache(
            tmp_path,
            NETWORK.document,
            SeededChooser(number),
            here.said.append,
            clock=here.authorities.clock,
        )
        here.authorities.answers = dict(answers)
        await here.cache.ensure(here.authorities.opener)
        assert len(set(here.authorities.asked)) == len(here.authorities.asked) <= 4
        asked.add(tuple(here.authorities.asked))
    assert len(asked) > 2


async def test_if_all_fail_every_reason_is_told(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path, nursery)
    here.authorities.all_answer(LinkFailed("nothing answers there"))
    here.authorities.answers["auth1"] = None
    with pytest.raises(DirectoryUnavailable) as caught:
        await here.cache.ensure(here.authorities.opener)
    sentence = str(caught.value)
    assert sentence.count("nothing answers there") == 3
    assert "auth1: no answer in 60 s" in sentence
    assert not (tmp_path / "consensus").exists()


@pytest.mark.parametrize(
    ("off", "sentence"),
    [(-3600, "60 minutes slow"), (2 * VALIDITY, "2880 minutes fast")],
)
async def test_a_wrong_clock_is_named(
    tmp_path: Path,
    nursery: trio.Nursery,
    off: float,
    sentence: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    here = setting(tmp_path, nursery, off=off)
    here.authorities.all_answer(signed(START + 3))
    with pytest.raises(DirectoryUnavailable, match=sentence):
        await here.cache.ensure(here.authorities.opener)
    assert here.cache.topology is None


async def test_an_older_consensus_never_takes_the_place_of_a_newer_one(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path, nursery, START + 70)
    here.authorities.all_answer(signed(START + 63))
    await here.cache.ensure(here.authorities.opener)
    newer = here.cache.consensus
    kept = (tmp_path / "consensus").read_bytes()
    here.authorities.all_answer(signed(START + 33))
    assert not await here.cache.refresh(here.authorities.opener)
    assert here.cache.consensus is newer
    assert (tmp_path / "consensus").read_bytes() == kept
    here.authorities.answers["auth2"] = signed(START + 66)
    assert await here.cache.refresh(here.authorities.opener)
    assert here.cache.consensus is not None
    assert here.cache.consensus.valid_after == START + 66


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign", "unsigned"])
async def test_a_bad_file_is_just_no_consensus(
    tmp_path: Path, nursery: trio.Nursery, damage: str, autojump_clock: trio.testing.MockClock
) -> None:
    data = signed(START + 3)
    foreign = make_network(name="another")
    bad = {
        "cut": data[:-7],
        "changed": data[:300] + bytes([data[300] ^ 1]) + data[301:],
        "empty": b"",
        "foreign": foreign.sign(make_consensus(foreign).encode_body()),
        "unsigned": NETWORK.sign(make_consensus(NETWORK).encode_body(), signers=[0, 1]),
    }[damage]
    (tmp_path / "consensus").write_bytes(bad)
    here = setting(tmp_path, nursery)
    assert not here.cache.load()
    assert here.cache.topology is None
    here.authorities.all_answer(data)
    await here.cache.ensure(here.authorities.opener)
    assert (tmp_path / "consensus").read_bytes() == data


async def test_a_full_disk_is_told_and_the_consensus_is_used(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    def write(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    here = setting(tmp_path, nursery)
    here.authorities.all_answer(signed(START + 3))
    cache = DirectoryCache(
        tmp_path,
        NETWORK.document,
        SeededChooser(0),
        here.said.append,
        clock=here.authorities.clock,
        write=write,
    )
    assert await cache.ensure(here.authorities.opener)
    (sentence,) = here.said
    assert "No space left" in sentence


async def test_each_consensus_is_fetched_soon_after_it_is_made(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    here = setting(tmp_path, nursery)
    here.authorities.all_answer(LinkFailed("not yet"))
    begin = trio.current_time()

    async def make_rounds() -> None:
        await trio.sleep(10)
        for number in range(20):
            here.authorities.all_answer(signed(START + 3 + number * INTERVAL))
            due = START + 3 + (number + 1) * INTERVAL
            await trio.sleep(due - here.authorities.clock())
            if number % 5 == 4:
                here.authorities.all_answer(LinkFailed("down"))

    nursery.start_soon(here.cache.keep_new, here.authorities.opener)
    nursery.start_soon(make_rounds)
    await trio.sleep(8)
    assert here.cache.topology is None
    assert any("not yet" in sentence for sentence in here.said)
    for number in range(19):
        await trio.sleep(begin + number * INTERVAL + INTERVAL - 2 - trio.current_time())
        assert here.cache.consensus is not None
        assert here.cache.consensus.valid_after == START + 3 + number * INTERVAL
    nursery.cancel_scope.cancel()
    assert len(here.authorities.asked) < 20 * 8
