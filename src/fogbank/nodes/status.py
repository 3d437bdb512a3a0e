"""What a node tells its operator of itself: a small file in its folder (spec/10 §1). Pure.

It holds sums and states only: no client's address, circuit, stream or job has a place in it, and
what counts peers is rounded, as files are copied into letters that ask for help.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from fogbank.directory.consensus import Consensus, Entry, Flag
from fogbank.relay.keys import NodeId, show_id

SCHEMA = "fogbank.status/3"
STATUS_LIMIT = 64 << 10
"""Bytes of a status file."""
ROUNDING = 8
"""Counts of peers are rounded up to a multiple of this."""
MAX_REASON = 300
_MISSED = 3
_WRONG = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a file of another shape leads to."""
_SLACK = 5.0

_T = TypeVar("_T")


class State(StrEnum):
    """Whether a node runs, as far as its status file tells."""

    RUNNING = "running"
    LEAVING = "leaving"
    STOPPED = "stopped"
    SILENT = "silent"


class Reply(StrEnum):
    """What became of a descriptor that was sent to an authority."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Publication:
    """The last try to publish with one authority, named by its nickname; `at` in seconds."""

    authority: str
    reply: Reply
    at: int
    reason: str = ""

    @classmethod
    def of(cls, authority: str, reply: Reply, now: float, reason: object = "") -> Publication:
        """Note a try made now."""
        return cls(authority, reply, int(now), str(reason)[:MAX_REASON])


@dataclass(frozen=True, slots=True)
class Contact:
    """One of a worker's contact relays, and whether a link to it stands."""

    nickname: str
    linked: bool


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """A series of the mint: its tokens locked and issued here; `votes` while nothing is missing."""

    series: int
    locked: int
    issued: int
    votes: bool


@dataclass(frozen=True, slots=True)
class AuthorityReport:
    """What an authority adds: its last round, the nodes that it knows, whom it does not reach.

    `unreachable` holds, by nickname, why another authority cannot be reached. `credit` says which
    series there are, `mint` are the
    ledgers of series that live, `mint_effort` what is asked of everyone for a LOCK (spec/09 §6.4).
    """

    round: str
    nodes: int
    running: int
    unreachable: Mapping[str, str]
    tor_port: int | None = None
    mint: tuple[SeriesReport, ...] = ()
    mint_effort: int = 0
    credit: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a running node sees of itself at one moment."""

    identity: NodeId
    links: int
    consensus: Consensus | None
    published: tuple[Publication, ...] = ()
    contacts: tuple[Contact, ...] = ()
    authority: AuthorityReport | None = None
    effort: int = 0
    leaving: float = 0.0


@dataclass(frozen=True, slots=True)
class Status:
    """A node's status as written; times in seconds since 1970, `period` between two writings.

    `valid_after` and the like are the held consensus's, 0 without one. `flags` are None if that
    does not list the node. `links` is rounded up. `effort` is what the node asks of everyone for a
    circuit, 0 while it keeps up (spec/03 §2.5). `leaving` is when a node that was told to end will
    have ended, 0 if it was not.
    """

    role: str
    nickname: str
    identity: str
    version: str
    started: int
    written: int
    period: float
    ended: bool
    links: int
    valid_after: int
    fresh_until: int
    valid_until: int
    flags: tuple[str, ...] | None
    published: tuple[Publication, ...] = ()
    contacts: tuple[Contact, ...] = ()
    authority: AuthorityReport | None = None
    effort: int = 0
    leaving: int = 0

    def state(self, now: float) -> State:
        """Tell whether the node runs: a running one has written lately."""
        if self.ended:
            return State.STOPPED
        late = now - self.written > _MISSED * self.period + _SLACK
        if late:
            return State.SILENT
        return State.LEAVING if self.leaving else State.RUNNING

    def fields(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"schema": SCHEMA, **asdict(self)}

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return json.dumps(self.fields(), indent=1).encode()

    @classmethod
    def decode(cls, data: bytes) -> Status:
        """Read a file's bytes; raise `ValueError` if they are no status."""
        if len(data) > STATUS_LIMIT:
            raise ValueError("a status file is too large to be one")
        try:
            return _status(json.loads(data))
        except _WRONG as error:
            raise ValueError("this is no status file of this version") from error


def make_status(
    observed: Observed,
    role: str,
    nickname: str,
    version: str,
    times: tuple[float, float, float],
    *,
    ended: bool,
) -> Status:
    """Return the status to write; `times` are when the node started, now, and the period."""
    consensus = observed.consensus
    entry = consensus.by_identity(observed.identity) if consensus else None
    started, now, period = times
    return Status(
        role=role,
        nickname=nickname,
        identity=show_id(observed.identity),
        version=version,
        started=int(started),
        written=int(now),
        period=period,
        ended=ended,
        links=rounded(observed.links),
        valid_after=consensus.valid_after if consensus else 0,
        fresh_until=consensus.fresh_until if consensus else 0,
        valid_until=consensus.valid_until if consensus else 0,
        flags=flag_names(entry) if entry else None,
        published=observed.published,
        contacts=observed.contacts,
        authority=observed.authority,
        effort=observed.effort,
        leaving=math.ceil(observed.leaving),
    )


def rounded(count: int) -> int:
    """Return the next multiple of eight."""
    return -(-count // ROUNDING) * ROUNDING


def flag_names(entry: Entry) -> tuple[str, ...]:
    """Return an entry's flags as people write them."""
    return tuple(str(flag.name).capitalize() for flag in Flag if flag in entry.flags)


def _status(fields: Any) -> Status:
    if fields["schema"] != SCHEMA:
        raise TypeError("another schema")
    flags, authority = fields["flags"], fields["authority"]
    return Status(
        role=_is(str, fields["role"]),
        nickname=_is(str, fields["nickname"]),
        identity=_is(str, fields["identity"]),
        version=_is(str, fields["version"]),
        started=_is(int, fields["started"]),
        written=_is(int, fields["written"]),
        period=_seconds(fields["period"]),
        ended=_is(bool, fields["ended"]),
        links=_is(int, fields["links"]),
        valid_after=_is(int, fields["valid_after"]),
        fresh_until=_is(int, fields["fresh_until"]),
        valid_until=_is(int, fields["valid_until"]),
        flags=None if flags is None else tuple(_is(str, each) for each in _is(list, flags)),
        published=tuple(map(_publication, _is(list, fields["published"]))),
        contacts=tuple(
            Contact(_is(str, each["nickname"]), _is(bool, each["linked"]))
            for each in _is(list, fields["contacts"])
        ),
        authority=None if authority is None else _authority(authority),
        effort=_is(int, fields["effort"]),
        leaving=_is(int, fields["leaving"]),
    )


def _publication(fields: Any) -> Publication:
    return Publication(
        _is(str, fields["authority"]),
        Reply(fields["reply"]),
        _is(int, fields["at"]),
        _is(str, fields["reason"]),
    )


def _authority(fields: Any) -> AuthorityReport:
    unreachable = _is(dict, fields["unreachable"])
    port = fields["tor_port"]
    return AuthorityReport(
        _is(str, fields["round"]),
        _is(int, fields["nodes"]),
        _is(int, fields["running"]),
        {_is(str, name): _is(str, why) for name, why in unreachable.items()},
        None if port is None else _is(int, port),
        tuple(map(_series, _is(list, fields["mint"]))),
        _is(int, fields["mint_effort"]),
        _is(str, fields["credit"]),
    )


def _series(fields: Any) -> SeriesReport:
    return SeriesReport(
        _is(int, fields["series"]),
        _is(int, fields["locked"]),
        _is(int, fields["issued"]),
        _is(bool, fields["votes"]),
    )


def _seconds(value: Any) -> float:
    seconds = float(_is((int, float), value))
    if not math.isfinite(seconds):
        raise ValueError("a field is no number of seconds")
    return seconds


def _is(kind: type[_T] | tuple[type[_T], ...], value: Any) -> _T:
    if not isinstance(value, kind):
        raise TypeError("a field has another type")
    return value
