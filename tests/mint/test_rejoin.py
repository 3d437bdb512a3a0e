"""Authorities that get back what they lost (spec/09 §7.4, §4.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fogbank.directory.mint.bodies import Held, pack_ledger
from fogbank.directory.mint.certificates import make_certificate
from fogbank.directory.mint.exchange import GetLedger, Lock, Message, Reply, Status
from fogbank.directory.mint.ledger_shell import SeriesFile
from tests.mint.committee import (
    Answer,
    Liar,
    Member,
    Seat,
    committee,
    fresh,
    votes_for_everything,
)
from tests.mint.deals import SERIES, key_of
from tests.mint.test_attacks_service import lose_memory, whole_again
from tests.mint.test_service import until


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


async def made_up(member: Member, message: Message, honest: Answer) -> Reply:
    """Tell of withdrawals of nodes that nobody knows, without end."""
    if not isinstance(message, GetLedger):
        return await honest(message)
    dealt = member.bank.deals[SERIES]
    found = [dealt.withdrawal(1, first, str(first)) for first in range(9)]
    entries = sorted((Held(each, ()) for each in found), key=lambda e: e.signed.request.digest())
    after = [each for each in entries if each.signed.request.digest() > message.after]
    return Reply(Status.DONE, pack_ledger(after[:1] or entries[:1]))


async def garbage(member: Member, message: Message, honest: Answer) -> Reply:
    """Tell of nothing that can be read."""
    is_ledger = isinstance(message, GetLedger)
    return Reply(Status.DONE, b"garbage") if is_ledger else await honest(message)


@pytest.mark.parametrize("liar", [made_up, garbage])
async def test_what_a_liar_tells_is_not_kept_and_does_not_count_as_merged(
    tmp_path: Path, liar: Liar, autojump_clock: object
) -> None:
    async with committee(tmp_path) as bank:
        honest = bank.swap(fresh(1), fresh(1))
        await bank.votes(honest, [2, 3])
        member = bank.members[1]
        file = member.mint.ledgers.all()[SERIES]
        bank.members[4].liar = liar
        await file.doubt(bank.now)
        member.mint.adopted()
        await trio.sleep(60)
        assert not file.head.is_whole
        # What the others told is there, and nothing else.
        assert [each.digest for each in await file.requests(b"", 9)] == [honest.request.digest()]
        bank.members[4].liar = None
        await whole_again(member)


async def test_many_requests_over_one_token_take_no_more_room_than_one(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path) as bank:
        token, many = fresh(1), fresh(6)
        swaps = [bank.swap(token, [each]) for each in many]
        for place, signed in zip((2, 3, 4), swaps, strict=False):
            await bank.votes(signed, [place])
        member = bank.members[1]
        file = member.mint.ledgers.all()[SERIES]
        await file.doubt(bank.now)
        member.mint.adopted()
        await whole_again(member)
        assert len(await file.requests(b"", 9)) == 1
        for signed in swaps:
            assert (await member.ask(Lock(signed))).status is not Status.DONE
        # A certificate of any of them still gets its shares.
        certificate = bank.deals[SERIES].certificate(swaps[1])
        assert await bank.shares(certificate, [1]) == {1}


@pytest.mark.parametrize("has_new_identity", [False, True])
async def test_one_of_four_is_replaced_while_another_lies(
    tmp_path: Path,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    has_new_identity: bool,
) -> None:
    """Who comes in its place, with a key of its own, has no seat in a series that lives."""
    async with committee(tmp_path, liars={4: votes_for_everything}) as bank:
        token = fresh(1)
        first, second = bank.swap(token, fresh(1)), bank.swap(token, fresh(1))
        hoarded = await bank.votes(first, [1, 4])
        member, deals = bank.members[1], bank.deals[SERIES]
        await member.stop()
        for path in member.folder.iterdir():
            path.unlink()
        other = key_of("who comes instead")
        keys = {i: other if i == 1 else deals.vote_key(i) for i in bank.members}
        monkeypatch.setattr(Seat, "vote", property(lambda seat: keys[seat.place]))
        if has_new_identity:
            member.identity = other.public
        await member.start()
        for _ in range(60):
            await trio.sleep(1)
            for signed in (first, second):
                reply = await member.ask(Lock(signed))
                assert reply.status is Status.NOT_NOW
                assert "no seat" in reply.reason
        votes = await bank.votes(second)
        assert {vote.member for vote in votes} == {2, 3, 4}
        assert make_certificate(second, votes, bank.record)
        with pytest.raises(ValueError, match="needs 3 votes"):
            make_certificate(first, [*hoarded, *await bank.votes(first, [2, 3])], bank.record)


async def test_one_of_four_leaves_office_and_serves_its_series_while_another_is_down(
    tmp_path: Path, autojump_clock: object
) -> None:
    """A series keeps its committee: who has its place in the network is nobody in the series."""
    async with committee(tmp_path) as bank:
        bank.retire(1)
        await bank.members[2].stop()
        token, output = fresh(1), fresh(1)
        signed = bank.swap(token, output)
        votes = await bank.votes(signed, [3, 4])
        with pytest.raises(ValueError, match="needs 3 votes"):
            make_certificate(signed, votes, bank.record)
        votes += await bank.votes(signed, [1])
        certificate = make_certificate(signed, votes, bank.record)
        assert await bank.shares(certificate, [1, 3, 4]) == {1, 3, 4}
        assert bank.tokens(output) == output
        assert await bank.votes(bank.swap(output, fresh(1)), [1])


async def test_one_of_four_leaves_office_while_another_lies(
    tmp_path: Path, autojump_clock: object
) -> None:
    """The liar votes for both payees, the departed one for the first it was asked for."""
    async with committee(tmp_path, liars={4: votes_for_everything}) as bank:
        token = fresh(1)
        first, second = bank.swap(token, fresh(1)), bank.swap(token, fresh(1))
        hoarded = await bank.votes(first, [1])
        bank.retire(1)
        votes = await bank.votes(second)
        assert {vote.member for vote in votes} == {2, 3, 4}
        assert make_certificate(second, votes, bank.record)
        with pytest.raises(ValueError, match="needs 3 votes"):
            make_certificate(first, [*hoarded, *await bank.votes(first, [2, 3, 4])], bank.record)
        (again,) = await bank.votes(first, [1])
        assert again == hoarded[0]


async def test_ledgers_are_merged_from_and_by_a_departed_authority(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path) as bank:
        bank.retire(1)
        signed = bank.swap(fresh(1), fresh(1))
        await bank.votes(signed, [1])
        for place in (3, 1):
            member = bank.members[place]
            await member.mint.ledgers.all()[SERIES].doubt(bank.now)
            member.mint.adopted()
            # All three others are needed, those with the forgotten vote among them.
            await whole_again(member)
            assert len(await member.mint.ledgers.all()[SERIES].requests(b"", 9)) == 1


async def test_what_was_merged_in_one_life_makes_no_later_one_whole(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses its memory again while it notes that all is merged."""
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        file = member.mint.ledgers.all()[SERIES]
        trust = SeriesFile.trust

        async def lost_again(file: SeriesFile, count: int, life: int) -> None:
            monkeypatch.undo()
            await file.doubt(bank.now + 100)
            await trust(file, count, life)

        monkeypatch.setattr(SeriesFile, "trust", lost_again)
        await file.doubt(bank.now)
        member.mint.adopted()
        await until(lambda: SeriesFile.trust is trust)
        await trio.sleep(1)
        assert not file.head.is_whole
        bank.now += 100
        member.mint.adopted()
        await whole_again(member)
        (vote,) = await bank.votes(bank.swap(fresh(1), fresh(1)), [1])
        assert vote.life == int(bank.now)


async def test_merging_ends_with_its_series(tmp_path: Path, autojump_clock: object) -> None:
    async def gives_nothing(member: Member, message: Message, honest: Answer) -> Reply:
        if isinstance(message, GetLedger):
            return Reply(Status.NOT_NOW, reason="not now")
        return await honest(message)

    async with committee(tmp_path, liars=dict.fromkeys((2, 3, 4), gives_nothing)) as bank:
        member = bank.members[1]
        await member.mint.ledgers.all()[SERIES].doubt(bank.now)
        member.mint.adopted()
        rejoin = member.mint._rejoin
        await until(lambda: bool(rejoin._under_way))
        bank.state = replace(bank.state, series=())
        for _ in range(60):
            await trio.sleep(1)
        assert not rejoin._under_way
