"""Processes that compute: batches, what is wrong in them, and what becomes of those that die."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from fogbank.directory.mint import crunch_shell
from fogbank.directory.mint.crunch import (
    GATHER_MOST,
    GATHER_SECONDS,
    Cruncher,
    Pace,
    Statement,
    Task,
    pack_batch,
    unpack_batch,
)
from fogbank.directory.mint.crunch_shell import Busy, Crunch
from fogbank.directory.mint.points import (
    GENERATOR_1,
    decode_g1,
    encode_point,
    hash_token,
    is_right,
    sign_share,
)
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key
from tests.mint.curve import NETWORK, DealtKey, scalar

KEY = DealtKey.of(3, 4)
PLACE = 2
LABEL = "fogbank-mint-request-v1"
INFINITY = b"\xc0" + bytes(47)


def task(number: int, k: int = 1, *, wants_shares: bool = False) -> Task:
    """A task of k right tokens whose owners signed it."""
    owners = [Ed25519Key(number.to_bytes(16, "big") + bytes((at,)) * 16) for at in range(k)]
    body = f"request {number}".encode()
    tokens = tuple(
        (each.public, encode_point(sign_share(KEY.secret, hash_token(NETWORK, each.public))))
        for each in owners
    )
    outputs = tuple(
        encode_point(GENERATOR_1.scalar_mul(scalar("output", number, at))) for at in range(k)
    )
    signatures = tuple((each.public, each.sign(LABEL, body)) for each in owners)
    return Task(0, (Statement(LABEL, body, signatures),), outputs, tokens, wants_shares)


def changed(good: Task, **fields: object) -> Task:
    return replace(good, **fields)  # type: ignore[arg-type] # some are wrong on purpose


def misquoted(good: Task) -> Task:
    """The task with a body that nobody signed."""
    (statement,) = good.statements
    return changed(good, statements=(replace(statement, body=b"another"),))


def cruncher() -> Cruncher:
    made = Cruncher(NETWORK)
    made.learn(0, encode_point(KEY.key), KEY.share(PLACE))
    return made


def test_a_batch_goes_between_processes_as_it_is() -> None:
    tasks = [task(1), task(2, 4, wants_shares=True)]
    assert unpack_batch(pack_batch(tasks)) == tasks


def test_wrong_tasks_of_a_batch_are_found_and_the_others_stand() -> None:
    good = [task(number, k) for number, k in enumerate((1, 2, 4, 1, 8, 1, 1, 2))]
    stolen = good[1].tokens
    bad = {
        1: misquoted(good[1]),
        2: changed(good[2], tokens=(*good[2].tokens[:3], (good[2].tokens[3][0], stolen[0][1]))),
        4: changed(good[4], outputs=(INFINITY, *good[4].outputs[1:])),
        5: changed(good[5], series=7),
        6: changed(good[6], tokens=((good[6].tokens[0][0], bytes(48)),)),
    }
    outcomes = cruncher().run([bad.get(at, each) for at, each in enumerate(good)], bytes(32))
    assert {at for at, each in enumerate(outcomes) if each != ()} == set(bad)
    assert outcomes[2] == "a token is not signed by its series' key"
    assert "no key of that series" in str(outcomes[5])


def test_shares_are_given_of_what_holds_alone() -> None:
    good = task(1, 2, wants_shares=True)
    wrong = misquoted(good)
    shares, refused = cruncher().run([good, wrong], bytes(32))
    assert isinstance(refused, str)
    for output, share in zip(good.outputs, shares, strict=True):
        assert is_right(decode_g1(output), decode_g1(str_is_not(share)), KEY.share_key(PLACE))


def str_is_not(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def test_the_more_tasks_come_the_longer_they_are_left_to_come_together() -> None:
    pace = Pace()
    assert pace.due == 0  # the first one waits for nothing
    pace.began(10, 1)
    assert pace.due == 10 + GATHER_SECONDS
    for number in range(11, 14):
        pace.began(number, 100)
        assert pace.due == number + GATHER_MOST
    gaps = []
    for number in range(14, 20):
        pace.began(number, 1)
        gaps.append(round(pace.due - number, 9))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > gaps[-1] == pytest.approx(GATHER_SECONDS)


@asynccontextmanager
async def crunching(most: int = 1) -> AsyncIterator[Crunch]:
    async with trio.open_nursery() as nursery:
        crunch = Crunch(NETWORK, most)
        crunch.learn(0, encode_point(KEY.key), KEY.share(PLACE))
        nursery.start_soon(crunch.run)
        yield crunch
        nursery.cancel_scope.cancel()


async def test_a_process_that_dies_is_replaced_and_its_work_done_again() -> None:
    async with crunching() as crunch:
        assert not crunch.pids  # nothing runs before it is needed
        assert len(await crunch.do(task(0, wants_shares=True))) == 1
        (first,) = crunch.pids
        done = []

        async def do(number: int) -> None:
            done.append(await crunch.do(task(number, 8)))

        async with trio.open_nursery() as nursery:
            os.kill(first, signal.SIGSTOP)
            for number in range(1, 9):
                nursery.start_soon(do, number)
            await trio.testing.wait_all_tasks_blocked(0.05)
            os.kill(first, signal.SIGKILL)
        assert done == [()] * 8
        assert first not in crunch.pids
    assert not crunch.pids


async def test_what_is_little_is_one_batch_of_one_process() -> None:
    async with crunching(most=3) as crunch:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(crunch.do, task(number))
        assert len(crunch.pids) == 1
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(crunch.do, task(number))
        assert len(crunch.pids) > 1


async def test_shares_of_keys_are_in_no_argument_and_no_environment() -> None:
    async with crunching() as crunch:
        await crunch.do(task(0))
        (pid,) = crunch.pids
        secret = KEY.share(PLACE)
        for name in ("cmdline", "environ"):
            shown = await trio.Path(f"/proc/{pid}/{name}").read_bytes()
            assert str(secret).encode() not in shown
            assert secret.to_bytes(32, "big") not in shown
            assert f"{secret:x}".encode() not in shown


async def test_a_task_that_ends_every_process_ends_no_other_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crunch_shell, "_PAUSE", 0.0)
    poison = changed(task(0), tokens=((b"",),))  # no pair: the process cannot take it apart
    async with crunching() as crunch:
        failed, done = [], []

        async def do(each: Task) -> None:
            try:
                done.append(await crunch.do(each))
            except Busy:
                failed.append(each)

        async with trio.open_nursery() as nursery:
            for each in (task(1), poison, task(2)):
                nursery.start_soon(do, each)
        assert failed == [poison]
        assert done == [(), ()]


async def test_a_wrong_task_is_refused_in_words_and_too_many_are_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with crunching() as crunch:
        with pytest.raises(ProtocolError, match="does not verify"):
            await crunch.do(misquoted(task(1)))
    monkeypatch.setattr(crunch_shell, "MAX_WAITING", 2)
    idle = Crunch(NETWORK, 1)  # nobody runs it
    with pytest.raises(Busy, match="no share of series"):
        await idle.do(task(0))
    idle.learn(0, encode_point(KEY.key), KEY.share(PLACE))
    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(idle.do, task(number))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Busy, match="try again"):
            await idle.do(task(3))
        nursery.cancel_scope.cancel()
