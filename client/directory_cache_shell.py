"""The consensus at hand: on disk, in memory, and how it is kept new (spec/06 §5)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TypeAlias

import trio

from fogbank.client.chance import Chooser
from fogbank.client.errors import ClientError, DirectoryUnavailable
from fogbank.client.fetch_schedule import next_fetch, retry_wait
from fogbank.client.limits import LIMITS, ClientLimits
from fogbank.client.topology import Topology
from fogbank.directory.consensus import CONSENSUS_LIMIT, Consensus, open_consensus
from fogbank.directory.exchange import RefusedError
from fogbank.directory.exchange_shell import fetch_consensus, fetch_links
from fogbank.directory.network import AuthorityPin, NetworkDocument, SignedNetwork
from fogbank.directory.schedule import interval_at
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.files_shell import write_atomic

DirectoryOpener: TypeAlias = Callable[[AuthorityPin], AbstractAsyncContextManager[Stream]]
"""Opens a `dir` stream to an authority, and closes what it took when the block is left."""

_FILE = "consensus"
_HELP = (
    "See that this machine is online and its clock is right; if `fog network show` fails on other "
    "machines too, ask the network's operators, or `fog join` its newest file"
)
_FAILURES = (
    RelayError,
    ClientError,
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
_HUNGRY_SHARE = 0.25
"""Of an interval: the longest wait while there is no consensus at all."""
_LONGEST_SLEEP = 300.0
"""A machine that slept looks at its clock again after so many seconds."""


class DirectoryCache:
    """The newest consensus that passed the gate, in memory and in a folder, which must exist.

    `clock` is the wall clock in seconds; `warn` hears sentences for the user; `on_consensus`
    hears of every consensus that is taken up, its signed bytes and opened.
    """

    def __init__(
        self,
        folder: Path,
        network: NetworkDocument,
        chooser: Chooser,
        warn: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        write: Callable[[Path, bytes], None] = write_atomic,
        limits: ClientLimits = LIMITS,
        on_consensus: Callable[[bytes, Consensus], None] | None = None,
    ) -> None:
        self._path = folder / _FILE
        self._on_consensus = on_consensus
        self._complaints: dict[NodeId, str] = {}
        self.network = network
        """The newest version of the network document; replaced when the next one is taken up."""
        self.on_version: Callable[[SignedNetwork, NetworkDocument], None] | None = None
        """Hears of every later version, as it was signed and as it was verified."""
        self._chooser = chooser
        self._warn = warn
        self._clock = clock
        self._write = write
        self._limits = limits
        self._topology: Topology | None = None

    @property
    def topology(self) -> Topology | None:
        """The live consensus, fresh or stale, to choose paths from; None if there is none."""
        topology = self._topology
        if topology is not None and self._clock() >= topology.consensus.valid_until:
            topology = self._topology = None
        return topology

    @property
    def consensus(self) -> Consensus | None:
        """The live consensus, or None."""
        topology = self.topology
        return topology.consensus if topology is not None else None

    @property
    def is_fresh(self) -> bool:
        """Whether there is a consensus, and no newer one is to be expected yet."""
        consensus = self.consensus
        return consensus is not None and self._clock() < consensus.fresh_until

    def load(self) -> bool:
        """Take up the consensus on disk; tell whether it is live. A bad file is just none."""
        try:
            with self._path.open("rb") as file:
                data = file.read(CONSENSUS_LIMIT + 1)
            consensus = open_consensus(data, self.network, self._clock())
        except FileNotFoundError:
            return False
        except OSError as error:
            self._warn(f"{self._path} cannot be read ({error.strerror}): fetching a consensus anew")
            return False
        except ProtocolError:
            # Expired, of another network, or damaged: what is fetched next takes its place.
            return False
        self._take(data, consensus)
        return True

    async def ensure(
        self, opener: DirectoryOpener, renewer: DirectoryOpener | None = None
    ) -> Topology:
        """Return a live consensus: the one at hand, fresh or stale, or else one fetched now.

        With `renewer` a stale one whose successor is due is renewed first: a program that runs for
        seconds only would otherwise never come to it. If that fails the stale one serves. Raises
        `DirectoryUnavailable`.
        """
        if self.topology is None:
            await self.refresh(opener)
        elif renewer is not None and self._is_due():
            with trio.move_on_after(self._limits.renew_seconds), suppress(DirectoryUnavailable):
                await self.refresh(renewer)
        topology = self.topology
        if topology is None:
            raise DirectoryUnavailable(
                "the authorities have no consensus yet: wait until their first round is over"
            )
        return topology

    def _is_due(self) -> bool:
        consensus = self.consensus
        if consensus is None:
            return True
        soon = self.network.test
        return self._clock() >= next_fetch(consensus, self._chooser, soon=soon)

    async def refresh(self, opener: DirectoryOpener) -> bool:
        """Fetch a newer consensus from some authority; tell whether there was one.

        Raises `DirectoryUnavailable` with every reason if none of those asked could answer.
        """
        reasons = []
        pins = self._shuffled()[: self._limits.fetch_authorities]
        for pin in pins:
            try:
                if await self._fetch(pin, opener):
                    return True
            except trio.TooSlowError:
                reasons.append(f"{pin.nickname}: no answer in {self._limits.fetch_seconds:g} s")
            except _FAILURES as error:
                reasons.append(f"{pin.nickname}: {error}")
        if len(reasons) == len(pins):
            raise DirectoryUnavailable(
                f"no authority gave a consensus. {'. '.join(reasons)}. {_HELP}"
            )
        return False

    async def keep_new(
        self,
        opener: DirectoryOpener,
        *,
        soon: bool = False,
        sleep: Callable[[float], Awaitable[None]] = trio.sleep,
    ) -> None:
        """Fetch each next consensus in its time, until cancelled (spec/06 §5.3).

        `soon` is for nodes; the clients of a test network do it in any case. `sleep` waits so many
        seconds, and less if the machine slept meanwhile.
        """
        failures = 0
        while True:
            due = self._due(failures, soon=soon or self.network.test)
            while (rest := due - self._clock()) > 0:
                await sleep(min(rest, _LONGEST_SLEEP))
            await trio.lowlevel.checkpoint()
            try:
                failures = 0 if await self.refresh(opener) else failures + 1
            except DirectoryUnavailable as error:
                failures += 1
                if self.topology is None:
                    self._warn(str(error))

    def _due(self, failures: int, *, soon: bool) -> float:
        """Return when to fetch next, by the wall clock, after so many failures in a row."""
        consensus = self.consensus
        if failures:
            interval: float = interval_at(self.network, self._clock())
            if consensus is None:
                # Nothing can be done without one, and the next one may come at any moment.
                interval *= _HUNGRY_SHARE
            return self._clock() + retry_wait(failures, interval, self._chooser)
        if consensus is None:
            return self._clock()
        return next_fetch(consensus, self._chooser, soon=soon)

    async def _fetch(self, pin: AuthorityPin, opener: DirectoryOpener) -> bool:
        with trio.fail_after(self._limits.fetch_seconds):
            async with opener(pin) as stream:
                found = await self._ask(stream, pin)
        if found is None:
            return False
        data, consensus = found
        known = self.consensus
        if known is not None and consensus.valid_after <= known.valid_after:
            # Another task was faster.
            return False
        self._take(data, consensus)
        try:
            self._write(self._path, data)
        except OSError as error:
            self._warn(f"the consensus cannot be written to {self._path} ({error.strerror})")
        return True

    async def _ask(self, stream: Stream, pin: AuthorityPin) -> tuple[bytes, Consensus] | None:
        """Ask for a newer consensus, and for later versions of the network document (spec/05 §1.5).

        A consensus that does not pass may be one that a later version governs.
        """
        try:
            found = await fetch_consensus(stream, self.network, self._clock, self.consensus)
        except ProtocolError:
            before = self.network.version
            await self._follow(stream, pin)
            if self.network.version == before:
                raise
            return await fetch_consensus(stream, self.network, self._clock, self.consensus)
        await self._follow(stream, pin)
        return found

    async def _follow(self, stream: Stream, pin: AuthorityPin) -> None:
        try:
            await fetch_links(stream, self.network, self._clock, self._take_version)
        except (ProtocolError, RefusedError) as error:
            complaint = f"authority {pin.nickname}, asked for the next network document: {error}"
            if self._complaints.get(pin.identity) != complaint:
                self._complaints[pin.identity] = complaint
                self._warn(complaint)
        except _FAILURES:
            # Older programs close the stream; the consensus was had before.
            return

    def _take_version(self, signed: SignedNetwork, network: NetworkDocument) -> None:
        self.network = network
        if self.on_version is not None:
            self.on_version(signed, network)

    def _take(self, data: bytes, consensus: Consensus) -> None:
        self._topology = Topology(consensus)
        if self._on_consensus is not None:
            self._on_consensus(data, consensus)

    def _shuffled(self) -> list[AuthorityPin]:
        pins = list(self.network.governing(int(self._clock())).authorities)
        return [pins.pop(self._chooser.below(len(pins))) for _ in range(len(pins))]
