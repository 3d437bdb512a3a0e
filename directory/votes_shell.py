"""Votes as they come: large ones are looked at before they are received, and wait on disk.

A vote may weigh 64 MiB, and every authority may send two a round. So the chain, which comes first,
is judged before the vote is received: what is not wanted is passed over as it comes; what is wanted
goes into a file without a name, to be read when the round concludes (spec/05 §7).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio

from fogbank.directory.broadcast import CHAIN_LIMIT
from fogbank.directory.exchange import PushVote, Reply, Status, announced_vote
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_exactly

MAX_LARGE = 2
"""Votes over `REQUEST_LIMIT` that are being received of one authority."""
_PART = 256 << 10
_HEAD = CHAIN_LIMIT + 64


class DiskError(RelayError):
    """A vote cannot be put on the disk, or read back."""


class StoredVote:
    """A vote's bytes in a file without a name, which is gone with this object."""

    def __init__(self, folder: Path | None) -> None:
        """Begin with nothing; raise `DiskError` if no file can be made."""
        try:
            with tempfile.TemporaryFile(buffering=0, dir=folder) as file:
                self._file = os.dup(file.fileno())
        except OSError as error:
            raise DiskError(f"a vote finds no place on the disk: {error.strerror}") from error
        weakref.finalize(self, os.close, self._file)
        self._hash = hashlib.sha256()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def digest(self) -> bytes:
        """The SHA-256 of what has been added."""
        return self._hash.digest()

    def add(self, part: bytes | bytearray | memoryview) -> None:
        """Append bytes; raise `DiskError` if the disk does not take them."""
        self._hash.update(part)
        view = memoryview(part)
        try:
            while view:
                count = os.pwrite(self._file, view, self._length)
                self._length += count
                view = view[count:]
        except OSError as error:
            raise DiskError(f"a vote finds no place on the disk: {error.strerror}") from error

    def part(self, at: int, length: int) -> bytes:
        """Return bytes from the middle; raise `DiskError` if they cannot be read."""
        data = b""
        try:
            data = os.pread(self._file, min(length, self._length - at), at)
        except OSError as error:
            raise DiskError(f"a vote cannot be read back: {error.strerror}") from error
        return data

    def load(self) -> bytes:
        """Return it as a whole; raise `DiskError` if it cannot be read."""
        data = self.part(0, self._length)
        if len(data) != self._length:
            raise DiskError("a vote cannot be read back whole")
        return data


class Votes:
    """Takes large votes from other authorities; `answer` judges each, without its bytes and with.

    Few of one authority are under way at a time: a further one ends the stream of the oldest, which
    hangs if the sender is honest.
    """

    def __init__(
        self, answer: Callable[[PushVote, NodeId], Reply], folder: Path | None = None
    ) -> None:
        self._answer = answer
        self._folder = folder
        self._under_way: defaultdict[NodeId, deque[trio.CancelScope]] = defaultdict(deque)

    async def take(self, stream: Stream, length: int, peer: NodeId) -> Reply | None:
        """Receive a request of that length and answer it; None if a later one took its place."""
        under_way = self._under_way[peer]
        with trio.CancelScope() as scope:
            under_way.append(scope)
            if len(under_way) > MAX_LARGE:
                under_way.popleft().cancel()
            try:
                return await self._receive(stream, length, peer)
            finally:
                if scope in under_way:
                    under_way.remove(scope)
        return None

    async def _receive(self, stream: Stream, length: int, peer: NodeId) -> Reply:
        head = await receive_exactly(stream, min(length, _HEAD)) or b""
        chain, begin = announced_vote(head, length)
        reply = self._answer(PushVote(chain), peer)
        left, part = length - len(head), head[begin:]
        if reply.status is Status.NEED_BODY:
            try:
                vote = StoredVote(self._folder)
                vote.add(part)
                while left:
                    part = await receive_exactly(stream, min(left, _PART)) or b""
                    left -= len(part)
                    vote.add(part)
                return self._answer(PushVote(chain, vote), peer)
            except DiskError as error:
                reply = replace(reply, status=Status.REFUSED, reason=str(error))
        while left:
            left -= len(await receive_exactly(stream, min(left, _PART)) or b"")
        return reply
