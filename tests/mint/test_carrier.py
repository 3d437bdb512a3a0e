"""Requests that one member carries to the others: real services, four and nine of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fogbank.directory.mint import batches_shell, carrier_shell, lanes_shell
from fogbank.directory.mint.bodies import (
    Carried,
    pack_shares,
    pack_vote,
    unpack_carried,
    unpack_conflict,
    unpack_shares,
    unpack_vote,
)
from fogbank.directory.mint.certificates import Certificate, check_certificate, sign_vote
from fogbank.directory.mint.exchange import (
    Batch,
    Carry,
    Issue,
    Lock,
    Message,
    Reply,
    Status,
)
from fogbank.directory.mint.requests import SignedRequest, Swap, sign_swap
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream
from tests.mint.committee import (
    Answer,
    Committee,
    Liar,
    Member,
    committee,
    fresh,
    votes_for_everything,
)
from tests.mint.curve import NETWORK
from tests.mint.deals import SERIES


async def carried(
    bank: Committee, signed: SignedRequest, by: int = 1, *, wants_shares: bool = True
) -> Carried:
    """Have a request carried; its certificate is right, and its shares count as given."""
    reply = await bank.members[by].ask(Carry(signed, wants_shares=wants_shares))
    assert reply.status is Status.DONE, reply.reason
    return taken(bank, signed, reply)


def taken(bank: Committee, signed: SignedRequest, reply: Reply) -> Carried:
    got = unpack_carried(reply.body, len(signed.request.outputs))
    check_certificate(Certificate(signed, got.votes), NETWORK, bank.record)
    for member, shares in got.shares:
        for output, share in zip(signed.request.outputs, shares, strict=True):
            bank.given.setdefault(output, {})[member] = share
    return got


def asked(bank: Committee) -> list[int]:
    """Return which members computed anything."""
    return [place for place, member in bank.members.items() if member.crunch.tasks]


def forget_tasks(bank: Committee) -> None:
    for member in bank.members.values():
        member.crunch.tasks.clear()


async def silent(_: Member, message: Message, honest: Answer) -> Reply:
    """Answer nothing that comes from who carries."""
    if isinstance(message, Lock | Issue):
        await trio.sleep_forever()
    return await honest(message)


async def gives_no_shares(_: Member, message: Message, honest: Answer) -> Reply:
    if isinstance(message, Issue):
        await trio.sleep_forever()
    return await honest(message)


async def is_busy(_: Member, message: Message, honest: Answer) -> Reply:
    return Reply(Status.WORK) if isinstance(message, Lock) else await honest(message)


async def signs_wrongly(_: Member, message: Message, honest: Answer) -> Reply:
    """Vote by a signature that is none."""
    reply = await honest(message)
    if isinstance(message, Lock) and reply.status is Status.DONE:
        return Reply(Status.DONE, pack_vote(replace(unpack_vote(reply.body), signature=bytes(64))))
    return reply


async def is_another(member: Member, message: Message, honest: Answer) -> Reply:
    """Give a vote in another one's name."""
    if isinstance(message, Lock):
        vote = sign_vote(
            member.bank.deals[SERIES].vote_key(member.place), 4, message.signed.request
        )
        return Reply(Status.DONE, pack_vote(vote))
    return await honest(message)


async def tells_of_a_lost_memory(member: Member, message: Message, honest: Answer) -> Reply:
    """Say of member 1 that its votes are of a life that it has forgotten."""
    if isinstance(message, Lock):
        key = member.bank.deals[SERIES].vote_key(member.place)
        vote = sign_vote(key, member.place, message.signed.request, ((1, 5),))
        return Reply(Status.DONE, pack_vote(vote))
    return await honest(message)


async def gives_few_shares(_: Member, message: Message, honest: Answer) -> Reply:
    reply = await honest(message)
    if isinstance(message, Issue) and reply.status is Status.DONE:
        return Reply(Status.DONE, reply.body[:-1])
    return reply


async def gives_wrong_shares(member: Member, message: Message, honest: Answer) -> Reply:
    reply = await honest(message)
    if isinstance(message, Issue) and reply.status is Status.DONE:
        shares = unpack_shares(reply.body, len(message.certificate.request.outputs))
        return Reply(Status.DONE, pack_shares([fresh(1)[0].blinded for _ in shares]))
    return reply


LIES = (signs_wrongly, is_another, gives_few_shares)


async def test_a_request_is_certified_and_issued_by_way_of_one_member(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path) as bank:
        outputs = fresh(2)
        signed = bank.swap(fresh(2), outputs)
        got = await carried(bank, signed)
        assert len(got.votes) == len(got.shares) == 3
        assert 1 in [member for member, _ in got.shares]
        assert len(asked(bank)) == 3
        assert bank.tokens(outputs) == outputs
        # The same again: the same votes and shares, as they are on the disk.
        forget_tasks(bank)
        assert await carried(bank, signed) == got
        assert asked(bank) == []


async def test_a_certificate_alone_and_shares_alone(tmp_path: Path, autojump_clock: object) -> None:
    async with committee(tmp_path) as bank:
        outputs = fresh(1)
        signed = bank.swap(fresh(1), outputs)
        got = await carried(bank, signed, wants_shares=False)
        assert got.shares == ()
        assert bank.tokens(outputs) == []
        reply = await bank.members[4].ask(Carry(signed, got.votes))
        shared = taken(bank, signed, reply)
        assert shared.votes == got.votes
        assert 4 in [member for member, _ in shared.shares]
        assert bank.tokens(outputs) == outputs


async def test_a_withdrawal_is_carried_too(tmp_path: Path, autojump_clock: object) -> None:
    async with committee(tmp_path) as bank:
        bank.allot(64)
        signed = bank.deals[SERIES].withdrawal(64)
        got = await carried(bank, signed, by=2)
        assert [len(shares) for _, shares in got.shares] == [64] * 3


async def test_who_is_refused_makes_it_ask_nobody(tmp_path: Path, autojump_clock: object) -> None:
    """Its own answer is the answer: of what is no token, is spent, or is not certified."""
    async with committee(tmp_path) as bank:
        token, outputs = fresh(1), fresh(2)
        signed = bank.swap(token, outputs[:1])
        assert isinstance(signed.request.source, Swap)
        other = bank.token(fresh(1)[0])
        forged = replace(other, serial=signed.request.source.inputs[0].serial)
        request = replace(signed.request, source=Swap((forged,)))
        reply = await bank.members[1].ask(Carry(sign_swap(request, [token[0].key])))
        assert reply.status is Status.REFUSED
        assert asked(bank) == [1]
        await carried(bank, signed)
        forget_tasks(bank)
        reply = await bank.members[1].ask(Carry(bank.swap(token, outputs[1:])))
        assert reply.status is Status.CONFLICT
        assert unpack_conflict(reply.body)[0] == signed
        wrong = Carry(bank.swap(fresh(1), fresh(1)), (await carried(bank, signed)).votes)
        assert (await bank.members[1].ask(wrong)).status is Status.REFUSED
        assert asked(bank) in ([], [1])


@pytest.mark.parametrize(
    "lie",
    [
        silent,
        gives_no_shares,
        is_busy,
        signs_wrongly,
        is_another,
        tells_of_a_lost_memory,
        gives_few_shares,
    ],
    ids=lambda lie: lie.__name__,
)
async def test_one_faulty_member_is_left_out(
    tmp_path: Path, autojump_clock: object, caplog: pytest.LogCaptureFixture, lie: Liar
) -> None:
    async with committee(tmp_path, liars={2: lie}) as bank:
        outputs = fresh(1)
        signed = bank.swap(fresh(1), outputs)
        begun = trio.current_time()
        got = await carried(bank, signed)
        assert trio.current_time() - begun < 4
        assert [member for member, _ in got.shares] == [1, 3, 4]
        assert bank.tokens(outputs) == outputs
        # From then on, for a minute, it is asked last.
        begun = trio.current_time()
        await carried(bank, bank.swap(fresh(1), fresh(1)))
        assert trio.current_time() - begun < 1
        cheque = bank.swap(fresh(1), fresh(1))
        await carried(bank, cheque, wants_shares=False)
    said = " ".join(each.getMessage() for each in caplog.records)
    assert ("as no honest one does" in said) == (lie in LIES)
    assert signed.request.digest().hex() not in said


async def test_a_wrong_vote_is_found_where_no_shares_are_wanted(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path, liars={2: signs_wrongly}) as bank:
        got = await carried(bank, bank.swap(fresh(1), fresh(1)), wants_shares=False)
        assert [vote.member for vote in got.votes] == [1, 3, 4]


async def test_a_wrong_share_is_found_by_who_asked_and_another_completes_it(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path, liars={2: gives_wrong_shares}) as bank:
        outputs = fresh(1)
        signed = bank.swap(fresh(1), outputs)
        got = await carried(bank, signed)
        assert bank.tokens(outputs) == []
        assert await bank.shares(Certificate(signed, got.votes), [4]) == {4}
        assert bank.tokens(outputs) == outputs


async def test_nine_members_two_of_them_at_fault(tmp_path: Path, autojump_clock: object) -> None:
    async with committee(tmp_path, 9, liars={2: silent, 5: signs_wrongly}) as bank:
        outputs = fresh(2)
        got = await carried(bank, bank.swap(fresh(2), outputs), by=9)
        assert [member for member, _ in got.shares] == [1, 3, 4, 6, 7, 8, 9]
        assert bank.tokens(outputs) == outputs


async def test_with_too_few_members_it_ends_in_words_and_in_time(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path, liars={2: silent, 3: silent}) as bank:
        signed = bank.swap(fresh(1), fresh(1))
        begun = trio.current_time()
        reply = await bank.members[1].ask(Carry(signed))
        assert reply.status is Status.NOT_NOW
        assert "too few" in reply.reason
        assert trio.current_time() - begun < 6
        bank.members[2].liar = None
        await trio.sleep(lanes_shell.ANSWER_SECONDS + lanes_shell.REST_SECONDS[1])
        await carried(bank, signed)


async def test_a_certificate_is_not_lost_where_shares_are(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(
        tmp_path, liars={2: gives_no_shares, 3: gives_no_shares, 4: gives_few_shares}
    ) as bank:
        begun = trio.current_time()
        got = await carried(bank, bank.swap(fresh(1), fresh(1)))
        assert len(got.votes) == 3
        assert [member for member, _ in got.shares] == [1]
        assert trio.current_time() - begun < 6


async def test_who_votes_for_everything_and_who_refuses_change_nothing(
    tmp_path: Path, autojump_clock: object
) -> None:
    """A token's second request is certified by way of no member: q-1 honest ones hold the first."""
    async with committee(tmp_path, liars={4: votes_for_everything}) as bank:
        token, outputs = fresh(1), fresh(2)
        first, second = (bank.swap(token, [output]) for output in outputs)
        for place in (1, 2):
            assert (await bank.members[place].ask(Lock(first))).status is Status.DONE
        reply = await bank.members[3].ask(Carry(second))
        assert reply.status is Status.NOT_NOW
        assert await bank.certify(first)
        assert (await bank.members[1].ask(Carry(second))).status is Status.CONFLICT
        assert bank.tokens(outputs) == []


async def test_a_member_that_is_down_costs_no_time(tmp_path: Path, autojump_clock: object) -> None:
    async with committee(tmp_path) as bank:
        connect = bank.connect

        @asynccontextmanager
        async def refused(asker: Member, identity: NodeId) -> AsyncIterator[Stream]:
            if identity == bank.members[2].identity and bank.members[2].liar is silent:
                raise RelayError("nobody listens there")
            async with connect(asker, identity) as stream:
                yield stream

        bank.members[2].liar = silent
        bank.connect = refused  # type: ignore[method-assign]
        await bank.members[1].stop()
        await bank.members[1].start()
        begun = trio.current_time()
        for _ in range(3):
            await carried(bank, bank.swap(fresh(1), fresh(1)))
        assert trio.current_time() - begun < 1
        # It comes back, and is asked as others are after a while.
        bank.members[2].liar = None
        await trio.sleep(carrier_shell.MEMORY_SECONDS)
        got = await carried(bank, bank.swap(fresh(1), fresh(1)))
        assert [vote.member for vote in got.votes] == [1, 2, 3]


async def test_what_comes_together_goes_together(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many requests at once are few batches, few fsyncs, and no more than two under way."""
    sizes: list[int] = []
    under_way = 0
    answer = batches_shell.Batches.answer

    async def counted(self: object, batch: Batch, peer: NodeId | None) -> Reply:
        nonlocal under_way
        under_way += 1
        assert under_way <= 3 * lanes_shell.STREAMS
        sizes.append(len(batch.items))
        try:
            return await answer(self, batch, peer)  # type: ignore[arg-type]
        finally:
            under_way -= 1

    monkeypatch.setattr(batches_shell.Batches, "answer", counted)
    async with committee(tmp_path) as bank:
        requests = [bank.swap(fresh(1), fresh(1)) for _ in range(80)]
        commits = bank.members[2].mint.ledgers.all()[SERIES].commits

        async with trio.open_nursery() as nursery:
            for signed in requests:
                nursery.start_soon(carried, bank, signed)
        assert sum(sizes) == 80 * 4
        assert len(sizes) < 80
        assert max(sizes) <= 32
        assert bank.members[2].mint.ledgers.all()[SERIES].commits - commits < 80
        assert len(bank.tokens([])) == 0


async def test_only_so_many_are_carried_at_once(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_shell, "MAX_CARRIED", 3)
    async with committee(tmp_path, liars={2: silent, 3: silent, 4: silent}) as bank:
        replies: list[Reply] = []

        async def ask(signed: SignedRequest) -> None:
            replies.append(await bank.members[1].ask(Carry(signed)))

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, bank.swap(fresh(1), fresh(1)))
        assert trio.current_time() - begun < 6
        assert {reply.status for reply in replies} == {Status.NOT_NOW}
        assert sum("too many" in reply.reason for reply in replies) == 2
        for place in (2, 3):
            bank.members[place].liar = None
        await trio.sleep(lanes_shell.ANSWER_SECONDS + lanes_shell.REST_SECONDS[1])
        await carried(bank, bank.swap(fresh(1), fresh(1)))


async def test_an_authority_that_stops_ends_what_it_carries(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with committee(tmp_path, liars={2: silent, 3: silent}) as bank:
        member = bank.members[1]
        replies: list[Reply] = []

        async def ask() -> None:
            replies.append(await member.ask(Carry(bank.swap(fresh(1), fresh(1)))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            begun = trio.current_time()
            member._scope.cancel()
        assert trio.current_time() - begun < 1
        assert replies[0].status is Status.NOT_NOW
        await member.stop()
        await member.start()
        bank.members[2].liar = None
        await carried(bank, bank.swap(fresh(1), fresh(1)))
