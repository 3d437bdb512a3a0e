"""BATCHes: what members ask for others' requests, and what they are refused (spec/09 §6.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fogbank.directory.mint import batches_shell
from fogbank.directory.mint.bodies import unpack_replies
from fogbank.directory.mint.exchange import (
    Batch,
    Carry,
    GetEvidence,
    Issue,
    Lock,
    Reply,
    Status,
    decode_reply,
)
from fogbank.directory.mint.requests import sign_swap
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId
from tests.mint.committee import Committee, committee, fresh
from tests.mint.deals import SERIES, Output, key_of


async def in_batch(
    bank: Committee, items: Sequence[bytes], peer: NodeId | None, of: int = 1
) -> list[Reply]:
    reply = await bank.members[of].ask(Batch(tuple(items)), peer)
    assert reply.status is Status.DONE, reply.reason
    return [decode_reply(each) for each in unpack_replies(reply.body, len(items))]


async def test_a_batch_answers_each_item_as_if_it_came_alone(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path) as bank:
        peer = bank.members[2].identity
        token, outputs = fresh(1), fresh(3)
        locked, rival, other = (
            bank.swap(token if k < 2 else fresh(1), [outputs[k]]) for k in range(3)
        )
        certificate = await bank.certify(other)
        assert (await bank.members[1].ask(Lock(locked))).status is Status.DONE
        items = [
            Lock(locked).encode(),
            Lock(rival).encode(),
            Issue(certificate).encode(),
            GetEvidence(SERIES).encode(),
            Carry(other).encode(),
            Batch((b"",)).encode(),
            b"nothing",
            Issue(replace(certificate, votes=certificate.votes[:2])).encode(),
        ]
        replies = await in_batch(bank, items, peer)
        assert [reply.status for reply in replies] == [
            Status.DONE,
            Status.CONFLICT,
            Status.DONE,
            *[Status.REFUSED] * 5,
        ]
        assert all(not reply.body for reply in replies if reply.status is not Status.DONE)
        assert replies[0] == await bank.members[1].ask(Lock(locked))
        assert replies[2] == await bank.members[1].ask(Issue(certificate))


async def test_a_batch_is_for_members_alone(tmp_path: Path, autojump_clock: object) -> None:
    """Strangers are refused; who has no seat in a series' committee is refused what is of it."""
    async with committee(tmp_path) as bank:
        item = Lock(bank.swap(fresh(1), fresh(1))).encode()
        for stranger in (None, key_of("nobody").public):
            reply = await bank.members[1].ask(Batch((item,)), stranger)
            assert reply.status is Status.REFUSED
        long = Batch((bytes(15 << 10),) * 4).encode()
        with pytest.raises(ExceptionGroup) as refused:
            await bank.members[1].ask(long)
        assert refused.group_contains(ProtocolError, match="over its limit", depth=None)
        for reply in await in_batch(bank, [bytes(15 << 10)] * 4, bank.members[2].identity):
            assert reply.status is Status.REFUSED
        assert (await in_batch(bank, [item], bank.members[4].identity))[0].status is Status.DONE
        members = bank.record.members
        without = replace(
            bank.record, members=(*members[:3], replace(members[3], identity=bytes(32)))
        )
        bank.state = replace(bank.state, series=(without,))
        item = Lock(bank.swap(fresh(1), fresh(1))).encode()
        (reply,) = await in_batch(bank, [item], bank.members[4].identity)
        assert reply.status is Status.REFUSED
        assert not bank.members[1].crunch.tasks[1:]


async def test_only_so_many_batches_of_one_member_are_answered_at_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path) as bank:
        peer = bank.members[2].identity
        item = Lock(bank.swap(fresh(1), fresh(1))).encode()
        statuses: list[Status] = []

        async def ask() -> None:
            statuses.append((await bank.members[1].ask(Batch((item,)), peer)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(batches_shell.AT_ONCE + 2):
                nursery.start_soon(ask)
        assert sorted(statuses) == [Status.DONE] * batches_shell.AT_ONCE + [Status.NOT_NOW] * 2


async def test_a_flood_of_batches_costs_a_member_what_it_costs_alone(
    tmp_path: Path, autojump_clock: object
) -> None:
    """What a lying member sends is looked at once each, as far as the first check that fails."""
    async with committee(tmp_path) as bank:
        peer = bank.members[2].identity
        forged = []
        for _ in range(32):
            signed = bank.swap(fresh(1), fresh(1))
            forged.append(Lock(replace(signed, proofs=(bytes(64),))).encode())
        replies = await in_batch(bank, forged, peer)
        assert {reply.status for reply in replies} == {Status.REFUSED}
        assert bank.members[1].crunch.refused == 32
        assert bank.members[1].mint.ledgers.all()[SERIES].head.locked == 0
        # Of other series than are known, nothing is computed at all.
        strange = bank.swap([Output.of("strange")], fresh(1))
        unknown = replace(strange.request, series=SERIES + 1)
        bank_key = Output.of("strange").key
        (reply,) = await in_batch(bank, [Lock(sign_swap(unknown, [bank_key])).encode()], peer)
        assert reply.status is Status.REFUSED
        assert len(bank.members[1].crunch.tasks) == 32
