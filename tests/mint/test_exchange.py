"""Messages of the mint and its answers (spec/09 §6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fogbank.directory.mint import bodies
from fogbank.directory.mint.bodies import Carried, Held, Output, Page, Spent
from fogbank.directory.mint.exchange import (
    BATCH_LIMIT,
    BODY_LIMIT,
    MAX_BATCH,
    MESSAGE_LIMIT,
    REPLY_LIMIT,
    Batch,
    Carry,
    GetDealings,
    GetEvidence,
    GetLedger,
    GetOutputs,
    GetRequest,
    GetSerials,
    Issue,
    Kind,
    Lock,
    Message,
    Reply,
    Status,
    decode_message,
    decode_reply,
)
from fogbank.directory.mint.ledger import bucket_of
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from tests.mint.deals import Series, key_of, outputs_of

SERIES = Series()
SWAP = SERIES.swap(2)
VOTES = tuple(SERIES.vote(i, SWAP.request) for i in range(1, 4))
MESSAGES: list[Message] = [
    Lock(SWAP),
    Lock(SERIES.withdrawal(64), 2**64 - 1),
    Issue(SERIES.certificate(SWAP)),
    GetOutputs(3, 2, 3, outputs_of(1, "x")[0]),
    GetOutputs(3),
    GetSerials(3, 32, 2**32 - 1, key_of("x").public),
    GetRequest(3, bytes(32)),
    GetEvidence(3),
    GetDealings(3),
    GetLedger(3, bytes(32), 1_800_000_000),
    GetLedger(3),
    Carry(SWAP),
    Carry(SWAP, VOTES, 2**64 - 1),
    Carry(SERIES.withdrawal(64), wants_shares=False),
    Batch((Lock(SWAP).encode(), b"")),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_a_message_travels_whole(message: Message) -> None:
    assert decode_message(message.encode()) == message


def test_every_kind_of_message_is_tried() -> None:
    kinds = {type(message) for message in MESSAGES}
    assert len(kinds) == len(Kind)


def test_the_largest_message_fits() -> None:
    series = Series(22, 32)
    certificate = series.certificate(series.withdrawal(64, first=2**32 - 64))
    assert len(Issue(certificate).encode()) < MESSAGE_LIMIT
    carried = Carry(certificate.signed, certificate.votes, 2**64 - 1)
    assert len(carried.encode()) < MESSAGE_LIMIT


def test_a_batch_alone_may_be_longer_and_that_is_bounded() -> None:
    batch = Batch((bytes(15 << 10),) * 4)
    assert decode_message(batch.encode(), BATCH_LIMIT) == batch
    with pytest.raises(ProtocolError):
        decode_message(batch.encode())
    with pytest.raises(ProtocolError):
        decode_message(Batch((bytes(13 << 10),) * 5).encode(), BATCH_LIMIT)
    with pytest.raises(ProtocolError):
        decode_message(Batch((bytes(MESSAGE_LIMIT + 1),)).encode(), BATCH_LIMIT)
    long = encode({1: Kind.EVIDENCE, 2: 3, 9: bytes(MESSAGE_LIMIT)})
    with pytest.raises(ProtocolError, match="over"):
        decode_message(long, BATCH_LIMIT)
    full = Batch((b"x",) * MAX_BATCH)
    assert decode_message(full.encode()) == full
    with pytest.raises(ProtocolError):
        decode_message(Batch((b"x",) * (MAX_BATCH + 1)).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {1: 0, 2: 3},
        {1: 11, 2: 3},
        {1: 6},
        {1: 6, 2: -1},
        {1: 6, 2: 3, 3: 0},
        {1: 1, 2: SWAP.encode(), 3: -1},
        {1: 1, 2: b""},
        {1: 2, 2: SWAP.encode()},
        {1: 3, 2: 3, 3: 33, 4: 0, 5: b""},
        {1: 3, 2: 3, 3: 2, 4: 4, 5: b""},
        {1: 3, 2: 3, 3: 0, 4: 1, 5: b""},
        {1: 3, 2: 3, 3: 2, 4: 3, 5: bytes(32)},
        {1: 4, 2: 3, 3: 2, 4: 3, 5: bytes(48)},
        {1: 5, 2: 3, 3: bytes(31)},
        {1: 8, 2: 3, 3: bytes(31)},
        {1: 9, 2: SWAP.encode(), 4: True},
        {1: 9, 2: Held(SWAP, ()).encode()},
        {1: 9, 2: Held(SWAP, ()).encode(), 4: 1},
        {1: 9, 2: Held(SWAP, VOTES).encode(), 4: False},
        {1: 10, 2: []},
        {1: 10, 2: [0]},
        {1: 10, 2: b""},
    ],
)
def test_a_message_of_a_wrong_shape_is_refused(fields: dict[int, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode_message(encode(fields))


def test_replies_travel_whole_and_are_bounded() -> None:
    for reply in (
        Reply(Status.DONE, bytes(64)),
        Reply(Status.REFUSED, reason="ü" * 512),
        Reply(Status.DONE, bytes(BODY_LIMIT), "x" * 512),
    ):
        assert decode_reply(reply.encode()) == reply
        assert len(reply.encode()) <= REPLY_LIMIT
    assert len(decode_reply(Reply(Status.REFUSED, reason="x" * 600).encode()).reason) == 512
    wrong: list[dict[int, Any]] = [
        {1: 5, 2: b"", 3: ""},
        {1: 0, 2: bytes(BODY_LIMIT + 1), 3: ""},
        {1: 0, 2: b"", 3: "x" * 513},
        {1: 0, 2: b"", 3: "two\nlines"},
        {1: 0, 2: b""},
    ]
    for fields in wrong:
        with pytest.raises(ProtocolError):
            decode_reply(encode(fields))


def test_shares_are_as_many_as_the_outputs() -> None:
    shares = outputs_of(2, "shares")
    assert bodies.unpack_shares(bodies.pack_shares(shares), 2) == shares
    for wrong in (1, 3):
        with pytest.raises(ProtocolError):
            bodies.unpack_shares(bodies.pack_shares(shares), wrong)
    with pytest.raises(ProtocolError):
        bodies.unpack_shares(bodies.pack_shares([shares[0] + b"x"]), 1)


def test_what_was_carried_travels_whole() -> None:
    points = outputs_of(2, "carried")
    for carried in (
        Carried(VOTES, ((1, points), (4, points[::-1]))),
        Carried(VOTES),
        Carried((), ((32, points),)),
    ):
        assert bodies.unpack_carried(carried.encode(), 2) == carried
    for wrong in (
        Carried(VOTES, ((2, points), (1, points))),
        Carried(VOTES, ((2, points), (2, points))),
        Carried(VOTES, ((0, points),)),
        Carried(VOTES, ((33, points),)),
        Carried(VOTES[::-1]),
        Carried(VOTES, ((1, points[:1]),)),
        Carried(VOTES, ((1, (points[0], b"x")),)),
    ):
        with pytest.raises(ProtocolError):
            bodies.unpack_carried(wrong.encode(), 2)
    series = Series(22, 32)
    votes = series.certificate(series.swap(1)).votes
    named = tuple(replace(each, lives=tuple((k, 2**40) for k in range(1, 33))) for each in votes)
    largest = Carried(named, tuple((k, (points[0],) * 64) for k in range(1, 33)))
    assert len(largest.encode()) < BODY_LIMIT


def test_replies_of_a_batch_travel_whole_and_fit() -> None:
    replies = (Reply(Status.DONE, b"one").encode(), Reply(Status.WORK).encode())
    assert bodies.unpack_replies(bodies.pack_replies(replies), 2) == replies
    for wrong in (1, 3):
        with pytest.raises(ProtocolError):
            bodies.unpack_replies(bodies.pack_replies(replies), wrong)
    shares = bodies.pack_shares(outputs_of(1, "share") * 64)
    full = bodies.pack_replies([Reply(Status.DONE, shares).encode()] * MAX_BATCH)
    assert len(full) < BODY_LIMIT


def test_pages_travel_whole() -> None:
    points = sorted(outputs_of(4, "page"), key=bucket_of)
    outputs = Page(900, tuple(Output(point, points[0], bytes(32)) for point in points))
    assert bodies.unpack_outputs(bodies.pack_outputs(outputs)) == outputs
    spent = tuple(Spent(bytes((k,)) * 32, bytes(32)) for k in range(3))
    assert bodies.unpack_serials(bodies.pack_serials(Page(3, spent))) == Page(3, spent)
    with pytest.raises(ProtocolError, match="out of order"):
        bodies.unpack_serials(bodies.pack_serials(Page(3, spent[::-1])))
    with pytest.raises(ProtocolError, match="out of order"):
        bodies.unpack_outputs(bodies.pack_outputs(Page(4, outputs.entries[::-1])))
    numbered = sorted((k.to_bytes(48, "big") for k in range(bodies.MAX_ISSUED + 1)), key=bucket_of)
    full = tuple(Output(each, bytes(48), bytes(32)) for each in numbered)
    most = bodies.pack_outputs(Page(2**64 - 1, full[:-1]))
    assert len(most) < BODY_LIMIT
    assert len(bodies.unpack_outputs(most).entries) == bodies.MAX_ISSUED
    with pytest.raises(ProtocolError):
        bodies.unpack_outputs(bodies.pack_outputs(Page(5000, full)))


def test_requests_conflicts_and_ledgers_travel_whole() -> None:
    held = Held(SWAP, VOTES)
    assert bodies.unpack_held(held.encode()) == held
    for vote in (VOTES[1], None):
        assert bodies.unpack_conflict(bodies.pack_conflict(SWAP, vote)) == (SWAP, vote)
    named = replace(VOTES[1], lives=((1, 7), (3, 9)))
    assert bodies.unpack_vote(bodies.pack_vote(named)) == named
    other = Held(SERIES.withdrawal(64), VOTES[:1])
    entries = tuple(sorted((held, other), key=lambda each: each.signed.request.digest()))
    assert bodies.unpack_ledger(bodies.pack_ledger(entries)) == entries
    for wrong in (entries[::-1], entries[:1] * 2):
        with pytest.raises(ProtocolError, match="out of order"):
            bodies.unpack_ledger(bodies.pack_ledger(wrong))


def test_evidence_and_dealings_travel_whole() -> None:
    proofs = (b"one", bytes(bodies.EVIDENCE_LIMIT))
    assert bodies.unpack_evidence(bodies.pack_evidence(proofs)) == proofs
    full = (bytes(bodies.EVIDENCE_LIMIT),) * 20
    assert len(bodies.unpack_evidence(bodies.pack_evidence(full))) == 16
    dealings = ((key_of("a").public, b"dealing"), (key_of("b").public, b""))
    assert bodies.unpack_dealings(bodies.pack_dealings(dealings)) == dealings


@pytest.mark.parametrize(
    "unpack",
    [
        lambda data: bodies.unpack_shares(data, 1),
        lambda data: bodies.unpack_carried(data, 1),
        lambda data: bodies.unpack_replies(data, 1),
        bodies.unpack_outputs,
        bodies.unpack_serials,
        bodies.unpack_held,
        bodies.unpack_conflict,
        bodies.unpack_evidence,
        bodies.unpack_dealings,
        bodies.unpack_ledger,
    ],
)
def test_bodies_of_a_wrong_shape_are_refused(unpack: Callable[[bytes], object]) -> None:
    values: list[Any] = [0, b"", [[]], [0], [0, [0]], [1, [[b"", b""]]], {1: 1}, [True], [True, []]]
    for value in (*values, [SWAP.value()], [SWAP.value(), [[]]], [[b"x" * 32, 1]]):
        with pytest.raises(ProtocolError):
            unpack(encode(value))
