"""Messages that come together: one answer of what computes, one commit, and the same replies."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogbank.directory.mint.exchange import Issue, Lock, Status
from fogbank.directory.store_shell import StoreError
from tests.mint.committee import committee, fresh
from tests.mint.deals import SERIES


async def test_what_comes_together_is_written_together(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        certificates = [await bank.certify(bank.swap(fresh(1), fresh(1))) for _ in range(4)]
        requests = [bank.swap(fresh(1), fresh(1)) for _ in range(4)]
        file = member.mint.ledgers.all()[SERIES]
        commits = file.commits
        replies = await member.mint.swaps.answer_all(
            [*map(Lock, requests), *map(Issue, certificates)]
        )
        assert {reply.status for reply in replies} == {Status.DONE}
        assert file.commits == commits + 1
        for message, reply in zip(map(Lock, requests), replies, strict=False):
            assert await member.ask(message) == reply
        assert file.commits == commits + 1


async def test_two_requests_over_one_token_that_come_together(tmp_path: Path) -> None:
    """One of them is locked, the other is told of it, with the proof kept, as if it came later."""
    async with committee(tmp_path) as bank:
        member, token = bank.members[1], fresh(1)
        first, second = (bank.swap(token, fresh(1)) for _ in range(2))
        replies = await member.mint.swaps.answer_all([Lock(first), Lock(second), Lock(first)])
        assert [reply.status for reply in replies] == [
            Status.DONE,
            Status.CONFLICT,
            Status.DONE,
        ]
        assert replies[0] == replies[2]
        assert await member.ask(Lock(second)) == replies[1]
        assert len(await member.mint.ledgers.all()[SERIES].evidence(9)) == 1


async def test_a_full_disk_fails_what_is_written_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with committee(tmp_path) as bank:
        member = bank.members[1]
        known, new = (bank.swap(fresh(1), fresh(1)) for _ in range(2))
        vote = await member.ask(Lock(known))
        file = member.mint.ledgers.all()[SERIES]

        async def full(*_: object) -> None:
            raise StoreError("no room")

        with monkeypatch.context() as patch:
            patch.setattr(file, "write", full)
            replies = await member.mint.swaps.answer_all([Lock(known), Lock(new)])
        assert replies[0] == vote
        assert replies[1].status is Status.NOT_NOW
        assert (await member.ask(Lock(new))).status is Status.DONE
