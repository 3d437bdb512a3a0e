"""The `mint` service: what it answers to each message, when, and how much of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.directory.mint import answers_shell
from fogbank.directory.mint.answers_shell import _bounds
from fogbank.directory.mint.bodies import (
    unpack_conflict,
    unpack_dealings,
    unpack_evidence,
    unpack_held,
    unpack_ledger,
    unpack_outputs,
    unpack_serials,
    unpack_vote,
)
from fogbank.directory.mint.certificates import check_vote, vote_key
from fogbank.directory.mint.evidence import TwoRequests, check_evidence, decode_evidence
from fogbank.directory.mint.exchange import (
    GetDealings,
    GetEvidence,
    GetLedger,
    GetOutputs,
    GetRequest,
    GetSerials,
    Issue,
    Lock,
    Status,
)
from fogbank.directory.mint.ledger import bucket_of
from fogbank.relay.keys import NodeId
from fogbank.relay.work import Demand, search
from tests.mint.committee import Committee, Member, committee, fresh
from tests.mint.curve import NETWORK
from tests.mint.deals import SERIES, key_of


async def issued(bank: Committee, number: int) -> None:
    """Have that many tokens swapped and issued."""
    for _ in range(number):
        certificate = await bank.certify(bank.swap(fresh(1), fresh(1)))
        await bank.shares(certificate)


async def all_pages(
    member: Member, kind: type[GetOutputs | GetSerials], bits: int, prefix: int
) -> list[bytes]:
    """Return the points or serials of a bucket, asked for page by page."""
    found: list[bytes] = []
    for _ in range(20):
        reply = await member.ask(kind(SERIES, bits, prefix, found[-1] if found else b""))
        assert reply.status is Status.DONE
        if kind is GetOutputs:
            more = [each.point for each in unpack_outputs(reply.body).entries]
        else:
            more = [each.serial for each in unpack_serials(reply.body).entries]
        if not more:
            return found
        found += more
    raise AssertionError("pages have no end")


async def test_buckets_hold_what_begins_so_and_pages_hold_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_shell, "MAX_ROWS", 3)
    async with committee(tmp_path) as bank:
        await issued(bank, 12)
        member = bank.members[2]
        outputs = await all_pages(member, GetOutputs, 0, 0)
        assert outputs == sorted(bank.given, key=bucket_of)
        serials = await all_pages(member, GetSerials, 0, 0)
        assert len(serials) == 12
        assert serials == sorted(serials)
        for prefix in range(4):
            begins = [each for each in outputs if bucket_of(each)[0] >> 6 == prefix]
            assert await all_pages(member, GetOutputs, 2, prefix) == begins
            begins = [each for each in serials if each[0] >> 6 == prefix]
            assert await all_pages(member, GetSerials, 2, prefix) == begins
        page = unpack_outputs((await member.ask(GetOutputs(SERIES, 2, 3, b""))).body)
        assert page.total == 12
        for row in page.entries:
            reply = await member.ask(GetRequest(SERIES, row.digest))
            assert row.point in unpack_held(reply.body).signed.request.outputs


@given(bits=st.integers(0, 32), data=st.data())
@settings(max_examples=50)
def test_bounds_of_a_bucket(bits: int, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, 2**bits - 1))
    value = data.draw(st.binary(min_size=32, max_size=32))
    low, high = _bounds(bits, prefix)
    begins = int.from_bytes(value, "big") >> (256 - bits) == prefix
    assert (low <= value < high) is begins


async def test_a_request_is_told_with_the_votes_that_there_are(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        member, signed = bank.members[1], bank.swap(fresh(2), fresh(2))
        digest = signed.request.digest()
        assert (await member.ask(GetRequest(SERIES, digest))).status is Status.NOT_NOW
        certificate = await bank.certify(signed)
        held = unpack_held((await member.ask(GetRequest(SERIES, digest))).body)
        (vote,) = held.votes
        assert (held.signed, vote.member) == (signed, 1)
        await bank.shares(certificate)
        held = unpack_held((await member.ask(GetRequest(SERIES, digest))).body)
        assert held.votes == certificate.votes


async def test_two_requests_of_one_owner_are_told_to_anyone(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        member, inputs = bank.members[1], fresh(2)
        first, second = (bank.swap(inputs, fresh(2)) for _ in range(2))
        await member.ask(Lock(first))
        unsigned = replace(second, proofs=first.proofs)
        for other, proofs in ((unsigned, 0), (second, 1), (second, 1)):
            reply = await member.ask(Lock(other))
            assert reply.status is Status.CONFLICT
            told, vote = unpack_conflict(reply.body)
            assert told == first
            assert vote is not None
            check_vote(vote, first.request, bank.record)
            told_of = unpack_evidence((await member.ask(GetEvidence(SERIES))).body)
            found = [decode_evidence(each) for each in told_of]
            assert len(found) == proofs
            assert all(isinstance(each, TwoRequests) for each in found)
            assert not any(check_evidence(each, NETWORK, bank.record) for each in found)


async def test_ledgers_and_dealings_are_for_authorities_alone(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        await issued(bank, 5)
        member, peer = bank.members[1], bank.members[2].identity
        for message in (GetLedger(SERIES), GetDealings(SERIES)):
            for stranger in (None, key_of("stranger").public):
                assert (await member.ask(message, stranger)).status is Status.REFUSED
            assert (await member.ask(message, peer)).status is Status.DONE
        first = unpack_ledger((await member.ask(GetLedger(SERIES), peer)).body)
        assert len(first) == 5
        after = first[2].signed.request.digest()
        rest = unpack_ledger((await member.ask(GetLedger(SERIES, after), peer)).body)
        assert rest == first[3:]
        assert all(len(each.votes) == bank.record.quorum for each in first)
        # To read a ledger is not to have lost one's memory.
        assert not member.mint.ledgers.all()[SERIES].head.lives


async def test_a_long_ledger_comes_in_pages_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_shell, "BODY_LIMIT", 4096)
    async with committee(tmp_path) as bank:
        await issued(bank, 8)
        peer, found = bank.members[2].identity, 0
        after = b""
        while page := unpack_ledger(
            (await bank.members[1].ask(GetLedger(SERIES, after), peer)).body
        ):
            assert len(page) < 8
            found += len(page)
            after = page[-1].signed.request.digest()
        assert found == 8


async def test_under_load_a_vote_takes_work_and_what_is_on_the_disk_takes_none(
    tmp_path: Path,
) -> None:
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        before = bank.swap(fresh(1), fresh(1))
        assert (await member.ask(Lock(before))).status is Status.DONE
        member.crunch.waiting = 10_000
        signed = bank.swap(fresh(1), fresh(1))
        digest = signed.request.digest()
        reply = await member.ask(Lock(signed))
        assert reply.status is Status.WORK
        demand = Demand.decode(reply.body)
        assert member.mint.effort == demand.effort > 0
        nonce = search(demand, digest, 0, 1 << 20)
        assert nonce is not None
        computed = len(member.crunch.tasks)
        # Work for one request is none for another, and counts once.
        other = bank.swap(fresh(1), fresh(1))
        assert (await member.ask(Lock(other, nonce))).status is Status.WORK
        wrong = replace(signed, proofs=(bytes(64),))
        assert (await member.ask(Lock(wrong, nonce))).status is Status.REFUSED
        assert (await member.ask(Lock(wrong, nonce))).status is Status.WORK
        assert len(member.crunch.tasks) == computed + 1
        nonce = search(demand, digest, nonce + 1, 1 << 20)
        assert (await member.ask(Lock(signed, nonce))).status is Status.DONE
        for known in (before, signed):
            assert (await member.ask(Lock(known))).status is Status.DONE
        # Once it is calm again, nobody is asked.
        member.crunch.waiting = 0
        bank.now += 60
        assert (await member.ask(Lock(other))).status is Status.DONE
        assert member.mint.effort == 0


async def test_a_full_disk_is_not_now_and_nothing_is_lost(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        file = member.mint.ledgers.all()[SERIES]
        file._writer.execute("PRAGMA max_page_count=1")
        # There is room for some in the pages that it has.
        for _ in range(50):
            signed = bank.swap(fresh(8), fresh(8))
            reply = await member.ask(Lock(signed))
            if reply.status is not Status.DONE:
                break
        assert reply.status is Status.NOT_NOW
        assert "make room on its disk" in reply.reason
        assert (await member.ask(GetRequest(SERIES, signed.request.digest()))).body == b""
        file._writer.execute("PRAGMA max_page_count=100000")
        assert (await member.ask(Lock(signed))).status is Status.DONE


async def test_before_a_consensus_is_adopted_only_what_is_known_is_answered(
    tmp_path: Path,
) -> None:
    async with committee(tmp_path) as bank:
        member, known = bank.members[1], bank.swap(fresh(1), fresh(1))
        await member.ask(Lock(known))
        new = bank.swap(fresh(1), fresh(1))
        member.mint.swaps.is_current = False
        assert (await member.ask(Lock(known))).status is Status.DONE
        assert (await member.ask(Lock(new))).status is Status.NOT_NOW
        # One of an earlier method has no state that says which answers there were.
        member.mint.adopted(has_state=False)
        assert (await member.ask(Lock(new))).status is Status.NOT_NOW
        member.mint.adopted()
        assert (await member.ask(Lock(new))).status is Status.DONE


async def test_a_missing_ledger_is_made_by_the_newest_state_alone(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        member, newest = bank.members[1], bank.state
        members = tuple(replace(each, count=0) for each in bank.record.members)
        before = replace(newest, series=(replace(bank.record, members=members),))
        # It had named its ledger, and answered, after the backup was made.
        await member.stop()
        member.ledger.unlink()
        bank.state = before
        member.mint.swaps.is_current = False
        await member.mint._look_after()
        assert not member.ledger.exists()
        bank.state = newest
        member.mint.adopted()
        await member.mint._look_after()
        head = member.mint.ledgers.all()[SERIES].head
        assert not head.is_whole


async def test_who_lost_its_memory_while_a_request_was_computed_does_not_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with committee(tmp_path) as bank:
        member, signed = bank.members[1], bank.swap(fresh(1), fresh(1))
        file, compute = member.mint.ledgers.all()[SERIES], member.crunch.do

        async def meanwhile(*args: object) -> tuple[bytes, ...]:
            await file.doubt(bank.now)
            return await compute(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(member.crunch, "do", meanwhile)
        assert (await member.ask(Lock(signed))).status is Status.NOT_NOW


async def test_an_operators_word_makes_it_merge_and_votes_name_its_new_life(
    tmp_path: Path,
) -> None:
    async with committee(tmp_path) as bank:
        await issued(bank, 3)
        member, signed = bank.members[1], bank.swap(fresh(1), fresh(1))
        assert await bank.votes(signed, of=[2])
        file = member.mint.ledgers.all()[SERIES]
        await file.doubt(bank.now)
        member.mint.adopted()
        await until(lambda: file.head.is_whole)
        life = file.head.life
        (own,) = await bank.votes(signed, of=[1])
        assert own.lives == ((1, life),)
        for other in await bank.votes(bank.swap(fresh(1), fresh(1)), of=[2, 3, 4]):
            assert other.lives == ((1, life),)
        # What was locked elsewhere is locked here.
        assert file.look(lambda book: book.find(signed.request.digest())) is not None


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_so():
            return
        await trio.sleep(0.01)
    raise AssertionError("it never came to be")


async def test_dealings_that_are_missing_come_from_other_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealings = [(key_of("authority", i).public, b"dealing %d" % i) for i in (2, 3)]
    taken: list[tuple[NodeId, bytes]] = []
    async with committee(tmp_path) as bank:
        seat, other = bank.members[1].mint._seats, bank.members[3].mint._seats

        def take(series: int, given: Iterable[tuple[NodeId, bytes]]) -> None:
            assert series == SERIES
            taken.extend(given)

        monkeypatch.setattr(type(other), "dealings", lambda *_: dealings)
        monkeypatch.setattr(seat, "missing", lambda: () if taken else (SERIES,))
        monkeypatch.setattr(seat, "take_dealings", take)
        bank.members[1].mint.adopted()
        await until(lambda: bool(taken))
        assert taken == dealings
        peer = bank.members[1].identity
        reply = await bank.members[3].ask(GetDealings(SERIES), peer)
        assert unpack_dealings(reply.body) == tuple(dealings)


async def test_shares_need_no_vote_of_ones_own(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        signed = bank.swap(fresh(4), fresh(4))
        votes = await bank.votes(signed, of=[2, 3, 4])
        certificate = type(await bank.certify(bank.swap(fresh(1), fresh(1))))(signed, tuple(votes))
        # The request is new here, and its proofs, which are no part of H(R), are looked at.
        spoilt = replace(certificate, signed=replace(signed, proofs=(bytes(64),) * 4))
        member = bank.members[1]
        assert (await member.ask(Issue(spoilt))).status is Status.REFUSED
        assert await bank.shares(certificate, of=[1]) == {1}
        held = unpack_held((await member.ask(GetRequest(SERIES, signed.request.digest()))).body)
        assert held.signed == signed
        vote = unpack_vote((await member.ask(Lock(signed))).body)
        assert vote.member == 1


async def test_a_vote_that_was_given_here_is_not_verified_again_and_any_other_is(
    tmp_path: Path,
) -> None:
    async with committee(tmp_path) as bank:
        member, signed = bank.members[1], bank.swap(fresh(1), fresh(1))
        certificate = await bank.certify(signed)
        votes = {vote.member: vote for vote in certificate.votes}
        forged = replace(votes[1], signature=votes[2].signature)
        wrong = replace(certificate, votes=(forged, *certificate.votes[1:]))
        assert (await member.ask(Issue(wrong))).status is Status.REFUSED
        member.crunch.tasks.clear()
        assert await bank.shares(certificate, of=[1]) == {1}
        (task,) = member.crunch.tasks
        record = bank.record_of(SERIES)
        keys = {key for statement in task.statements for key, _ in statement.signatures}
        assert keys == {vote_key(record, i) for i in votes if i != 1}


async def test_hashes_of_outputs_are_what_buckets_go_by() -> None:
    assert bucket_of(b"x" * 48) == hashlib.sha256(b"x" * 48).digest()
