"""Authorities that get back what they lost (spec/09 §7.4, §4.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogbank.directory.mint.exchange import Lock, Status
from tests.mint.committee import Seat, committee, fresh
from tests.mint.test_attacks_service import lose_memory, whole_again


async def test_who_has_no_share_yet_merges_nothing_and_does_not_vote(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup may lack dealings too: until it has its share, others' tokens cannot be checked.

    What it cannot check is no fault of theirs, and is not merged.
    """
    async with committee(tmp_path) as bank:
        member, token = bank.members[1], fresh(1)
        await member.stop()
        old = member.ledger.read_bytes()
        await member.start()
        await bank.shares(await bank.certify(bank.swap(token, fresh(1))))
        bank.count()
        await member.stop()
        lose_memory(member, old, in_place=False)
        again = bank.swap(token, fresh(1))
        share_of = Seat.share_of
        with monkeypatch.context() as patch:
            patch.setattr(
                Seat, "share_of", lambda seat, k: None if seat.place == 1 else share_of(seat, k)
            )
            await member.start()
            for _ in range(200):
                bank.now += 1
                member.mint.adopted()
                reply = await member.ask(Lock(again))
                assert reply.status is Status.NOT_NOW
            assert not member.mint.ledgers.all()[bank.record.number].head.is_whole
        member.mint.adopted()
        await whole_again(member)
        assert (await member.ask(Lock(again))).status is Status.CONFLICT
        (vote,) = await bank.votes(bank.swap(fresh(1), fresh(1)), [1])
        assert vote.life
