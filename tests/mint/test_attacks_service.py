"""Attacks on a member's memory, readers and time; each against a naive rule too (spec/09 §7)."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from pyblst import BlstP1Element

from fogbank.directory.mint import crunch, rejoin_shell, seats_shell
from fogbank.directory.mint.bodies import unpack_vote
from fogbank.directory.mint.certificates import Certificate, check_certificate, make_certificate
from fogbank.directory.mint.exchange import (
    REPLY_LIMIT,
    GetEvidence,
    GetLedger,
    GetOutputs,
    GetRequest,
    GetSerials,
    Issue,
    Lock,
    Status,
    decode_reply,
)
from fogbank.directory.mint.points import G1
from fogbank.directory.mint.requests import SignedRequest, Swap, sign_swap
from fogbank.relay.errors import ProtocolError
from fogbank.relay.messages_shell import receive_message, send_message
from fogbank.relay.work import EFFORT_LEAST, Demand, search
from tests.mint.committee import (
    DAY,
    Committee,
    Member,
    committee,
    document,
    fresh,
    votes_for_everything,
)
from tests.mint.curve import NETWORK, outside_the_subgroups
from tests.mint.deals import NOW, SERIES, Output, Series

# Memory that was lost.


def lose_memory(member: Member, old: bytes, *, in_place: bool) -> None:
    """Put an old ledger in a member's place, as a backup's copy or as a rolled back disk."""
    for ending in ("-wal", "-shm"):
        member.ledger.with_name(member.ledger.name + ending).unlink(missing_ok=True)
    if not in_place:
        member.ledger.rename(member.ledger.with_suffix(".gone"))
    member.ledger.write_bytes(old)


async def whole_again(member: Member) -> None:
    """Wait until a member has merged others' ledgers."""
    for _ in range(60):
        await trio.sleep(1)
        if member.mint.ledgers.all()[SERIES].head.is_whole:
            return
    raise AssertionError("nothing was merged in a minute")


@pytest.mark.parametrize("is_naive", [False, True])
async def test_one_of_four_is_restored_while_another_lies(
    tmp_path: Path, is_naive: bool, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One vote is hoarded; its giver loses its memory, and others' ledgers know nothing of it."""
    if is_naive:
        monkeypatch.setattr(seats_shell.Series, "lives", ())
    async with committee(tmp_path, liars={4: votes_for_everything}) as bank:
        token, outputs = fresh(1), fresh(2)
        first, second = (bank.swap(token, [output]) for output in outputs)
        member = bank.members[1]
        await member.stop()
        old = member.ledger.read_bytes()
        await member.start()
        hoarded = await bank.votes(first, [1])
        await member.stop()
        lose_memory(member, old, in_place=False)
        bank.now += 60
        await member.start()
        await whole_again(member)
        seconds = await bank.votes(second, [1, 2, 4])
        firsts = [*hoarded, *await bank.votes(first, [3, 4])]
        assert [len(seconds), len(firsts)] == [3, 3]
        cheques = 0
        for signed, votes in ((second, seconds), (first, firsts)):
            certificate = Certificate(signed, tuple(sorted(votes, key=lambda each: each.member)))
            try:
                check_certificate(certificate, NETWORK, bank.record)
            except ProtocolError:
                assert not await bank.shares(certificate) - {4}
            else:
                cheques += 1
                await bank.shares(certificate, [each.member for each in votes])
        # Two payees would have taken them as paid; one gets nothing.
        assert cheques == (2 if is_naive else 1)
        assert len(bank.tokens(outputs)) == 1


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_stale_backup_votes_after_it_has_merged(
    tmp_path: Path, in_place: bool, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        await member.stop()
        old = member.ledger.read_bytes()
        await member.start()
        token = fresh(1)
        signed = bank.swap(token, fresh(1))
        certificate = await bank.certify(signed)
        await bank.shares(certificate)
        bank.count()
        await member.stop()
        lose_memory(member, old, in_place=in_place)
        with monkeypatch.context() as patch:
            patch.setattr(rejoin_shell.Rejoin, "_merge_from", reaches_nobody)
            await member.start()
            for each in (signed, bank.swap(token, fresh(1)), bank.swap(fresh(1), fresh(1))):
                assert (await member.ask(Lock(each))).status is Status.NOT_NOW
            # Shares are given, as their certificate is proof enough.
            assert await bank.shares(certificate, [1]) == {1}
        await whole_again(member)
        reply = await member.ask(Lock(bank.swap(token, fresh(1))))
        assert reply.status is Status.CONFLICT
        (vote,) = await bank.votes(bank.swap(fresh(1), fresh(1)), [1])
        assert vote.life


async def reaches_nobody(*_: object) -> bool:
    """Merge nobody's ledger, as if nobody could be reached."""
    await trio.lowlevel.checkpoint()
    return False


# New keys.


async def test_series_and_committee_change_while_people_spend(tmp_path: Path) -> None:
    """The next series is a committee's of five; tokens stay with the four that made them."""
    async with committee(tmp_path) as bank:
        spent: list[list[Output]] = []

        async def spend() -> None:
            token = fresh(2)
            for _ in range(8):
                output = fresh(2)
                await bank.shares(await bank.certify(bank.swap(token, output)))
                token = output
            spent.append(token)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(spend)
            for days in range(1, 7):
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
                bank.now = NOW + days * DAY
                if days == 3:
                    for member in bank.members.values():
                        member.mint.network = document(5)
                    await bank.begin_series(Series(4, 5, SERIES + 1))
        for tokens in spent:
            assert bank.tokens(tokens) == tokens
        old = await bank.certify(bank.swap(fresh(1), fresh(1)))
        new = await bank.certify(bank.swap(fresh(1), fresh(1), SERIES + 1))
        assert (len(old.votes), len(new.votes)) == (3, 4)
        # A vote of one series counts in no other, though the same keys give them.
        with pytest.raises(ProtocolError):
            check_certificate(replace(new, votes=old.votes), NETWORK, bank.record_of(SERIES + 1))


async def test_a_damaged_ledger_keeps_no_other_series_from_being_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with committee(tmp_path) as bank:
        await bank.begin_series(Series(3, 4, SERIES + 1))
        member = bank.members[1]
        await member.stop()
        member.ledger.write_bytes(b"\xff" * 4096)
        with trio.fail_after(10):
            await member.start(lacking=[SERIES])
        assert set(member.mint.ledgers.all()) == {SERIES + 1}
        assert "is damaged" in caplog.text


async def test_a_series_ends_when_its_days_are_over(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        born = NOW - 2 * DAY
        certified, late = (bank.swap(fresh(1), fresh(1)) for _ in range(2))
        bank.now = born + 60 * DAY - 1
        certificate = await bank.certify(certified)
        bank.now += 1
        assert not await bank.votes(late)
        bank.now = born + 67 * DAY - 1
        assert await bank.shares(certificate) == {1, 2, 3, 4}
        ledgers = [member.ledger for member in bank.members.values()]
        bank.now += 1
        assert (await bank.members[1].ask(Issue(certificate))).status is Status.REFUSED
        # A clock alone deletes nothing: the state must say so too.
        for series, is_there in ((bank.state.series, True), ((), False)):
            bank.state = replace(bank.state, series=series)
            for member in bank.members.values():
                member.mint.adopted()
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            assert all(each.exists() is is_there for each in ledgers)


# Points and encodings.

INFINITY = bytes((0xC0,)) + bytes(47)
NO_POINTS = [INFINITY, outside_the_subgroups()[0], bytes(48), b"\x9f" + b"\xff" * 47]


def unchecked(data: bytes) -> G1:
    """The naive rule: whatever the library takes is a point."""
    try:
        return BlstP1Element.uncompress(data)
    except ValueError as error:
        raise ProtocolError("no point") from error


@pytest.mark.parametrize("is_naive", [False, True])
async def test_malformed_points(
    tmp_path: Path, is_naive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests whose proofs are right, with points that are none, as outputs and as signatures."""
    if is_naive:
        monkeypatch.setattr(crunch, "decode_g1", unchecked)
    async with committee(tmp_path) as bank:
        member, taken = bank.members[1], 0
        for point in NO_POINTS:
            token = fresh(1)
            right = bank.swap(token, fresh(1)).request
            assert isinstance(right.source, Swap)
            (paid,) = right.source.inputs
            for wrong in (
                replace(right, outputs=(point,)),
                replace(right, source=Swap((replace(paid, signature=point),))),
            ):
                reply = await member.ask(Lock(sign_swap(wrong, [token[0].key])))
                taken += reply.status is Status.DONE
                if not is_naive:
                    assert reply.status is Status.REFUSED
        assert bool(taken) == is_naive
        assert bool(member.mint.ledgers.all()[SERIES].head.locked) == is_naive


@pytest.mark.parametrize("seed", range(4))
async def test_messages_that_are_damaged_change_nothing(tmp_path: Path, seed: int) -> None:
    """Bits flipped, parts cut out, doubled and exchanged: refused in words, or another question."""
    chance = random.Random(seed)
    async with committee(tmp_path) as bank:
        signed = bank.swap(fresh(2), fresh(2))
        other = bank.swap(fresh(1), fresh(1))
        certificate = await bank.certify(other)
        member = bank.members[1]
        head = member.mint.ledgers.all()[SERIES].head
        messages = [
            Lock(signed).encode(),
            Issue(certificate).encode(),
            Lock(other, 7).encode(),
            GetOutputs(SERIES, 3, 5).encode(),
            GetSerials(SERIES, 0, 0, bytes(32)).encode(),
            GetRequest(SERIES, signed.request.digest()).encode(),
            GetEvidence(SERIES).encode(),
            GetLedger(SERIES).encode(),
        ]
        for _ in range(250):
            data = damaged(chance, chance.choice(messages), chance.choice(messages))
            if data in messages:
                continue
            replies = await member.ask_all([data] * 2)
            assert all(reply.status in Status for reply in replies)
            assert all(len(reply.reason) <= 512 for reply in replies)
        after = member.mint.ledgers.all()[SERIES].head
        # What is in no proof may be damaged: the certificate was right, and its shares are given.
        assert (after.locked, after.is_whole) == (head.locked, True)
        assert after.issued <= 1
        assert await bank.certify(signed)


def damaged(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Return a message with damage of one kind or several."""
    spoiled = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at, to = sorted(chance.randrange(len(spoiled) + 1) for _ in range(2))
        match chance.randrange(5):
            case 0 if spoiled:
                spoiled[min(at, len(spoiled) - 1)] ^= 1 << chance.randrange(8)
            case 1:
                del spoiled[at:to]
            case 2:
                spoiled[at:at] = spoiled[at:to][:1000]
            case 3:
                spoiled[at:to] = other[at:to]
            case _:
                spoiled[at:at] = chance.randbytes(chance.choice((1, 4, 48)))
    return bytes(spoiled[: 16 << 10])


# Floods.


@pytest.mark.parametrize("is_naive", [False, True])
async def test_a_flood_of_invalid_requests(
    tmp_path: Path, is_naive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load whoever wants anything computed works for it, each time; the honest go on."""
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        monkeypatch.setattr(member.crunch, "waiting", 0 if is_naive else 10_000)
        invalid = [spoiled(bank) for _ in range(24)]
        # The first few find out that there is a load.
        for signed in invalid[:4]:
            await member.ask(Lock(signed))
        before = len(member.crunch.tasks)
        replies = [await member.ask(Lock(signed)) for signed in invalid]
        assert [each.status for each in replies].count(Status.WORK) == (0 if is_naive else 24)
        assert len(member.crunch.tasks) - before == (24 if is_naive else 0)
        if is_naive:
            return
        demand = Demand.decode(replies[0].body)
        assert demand.effort >= EFFORT_LEAST
        # One work, one look: what is sent again is not computed again.
        digest = invalid[0].request.digest()
        nonce = search(demand, digest, 0, 1 << 24)
        for _ in range(5):
            await member.ask(Lock(invalid[0], nonce))
        assert len(member.crunch.tasks) - before == 1
        # Nor is what an honest client did for another request.
        assert (await member.ask(Lock(invalid[1], nonce))).status is Status.WORK
        honest = bank.swap(fresh(1), fresh(1))
        reply = await member.ask(Lock(honest))
        assert reply.status is Status.WORK
        nonce = search(Demand.decode(reply.body), honest.request.digest(), 0, 1 << 24)
        assert (await member.ask(Lock(honest, nonce))).status is Status.DONE
        # Who asks again for what is on the disk needs none.
        assert (await member.ask(Lock(honest))).status is Status.DONE
        assert len(member.crunch.tasks) - before == 2


async def test_who_is_refused_too_often_is_not_heard_any_more(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        replies = await bank.members[1].ask_all(Lock(spoiled(bank)) for _ in range(12))
        assert [each.status for each in replies] == [Status.REFUSED] * 8


def spoiled(bank: Committee) -> SignedRequest:
    """Return a swap that is right but for its token's signature, which is found out last."""
    token = fresh(1)
    request = bank.swap(token, fresh(1)).request
    assert isinstance(request.source, Swap)
    (paid,) = request.source.inputs
    wrong = replace(paid, signature=fresh(1)[0].blinded)
    return sign_swap(replace(request, source=Swap((wrong,))), [token[0].key])


# Death.


async def test_a_member_killed_between_lock_and_issue(tmp_path: Path) -> None:
    """Killed by -9 once its vote was seen, it gives the same vote and the shares afterwards."""
    async with committee(tmp_path) as bank:
        signed = bank.swap(fresh(2), fresh(2))
        votes = await bank.votes(signed, [2, 3])
        member = bank.members[1]
        await member.stop()
        answer = await killed_after_its_vote(member.folder, signed)
        await member.start()
        (again,) = await bank.votes(signed, [1])
        assert unpack_vote(answer) == again
        assert again.life == 0
        await bank.shares(make_certificate(signed, [again, *votes], bank.record), [1])
        conflict = bank.swap(fresh(1), fresh(1))
        assert await bank.certify(conflict)


async def killed_after_its_vote(folder: Path, signed: SignedRequest) -> bytes:
    """Have another process be the member, and kill it as soon as its answer is there."""
    command = [sys.executable, "-m", "tests.mint.member_process", str(folder)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdio is not None
    try:
        await send_message(process.stdio, Lock(signed).encode())
        with trio.fail_after(60):
            answer = await receive_message(process.stdio, REPLY_LIMIT)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdio.aclose()
    assert answer is not None
    reply = decode_reply(answer)
    assert reply.status is Status.DONE, reply
    return reply.body
