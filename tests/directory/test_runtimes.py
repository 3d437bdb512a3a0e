"""Accepted runtimes: what a quorum names, and nothing of a few (spec/05 §3.3, §4.4)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from fogbank.directory.computation import compute
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.descriptor import DescriptorCache
from fogbank.directory.entries import MAX_RUNTIMES
from fogbank.directory.runtimes import (
    EXTENSION,
    KNOWN,
    LIST_LIMIT,
    Runtime,
    Runtimes,
    agreed,
    decode_runtimes,
    encode_runtimes,
)
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import (
    VOTE_LABEL,
    VOTE_LIMIT,
    Observation,
    OpenVote,
    Policy,
    Vote,
    open_vote,
)
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Signed
from fogbank.sandbox.limits import MODULE_SIZE
from fogbank.sandbox.runtimes.catalogue import CATALOGUE
from tests.directory.factory import START, make_network, worker

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
ROUND = nth_round(DOCUMENT, 0)
WORKER = worker(0)


def runtime(name: str, release: int = 1, size: int = 1000) -> Runtime:
    return Runtime(name, hashlib.sha256(f"{name} {release}".encode()).digest(), size)


PYTHON, NEWER, LUA = runtime("python"), runtime("python", 2), runtime("lua")


def listed(*runtimes: Runtime) -> Runtimes:
    return tuple(sorted(runtimes))


def vote(
    index: int,
    runtimes: Runtimes,
    held: tuple[Runtime, ...] = (),
    extension: bytes | None = None,
    methods: tuple[int, ...] = (1, 2, 3),
) -> OpenVote:
    """Sign and open a vote that lists a worker which holds those runtimes.

    With `extension` it is put together again with these bytes in place of the runtimes.
    """
    authority = NETWORK.authorities[index]
    description = replace(WORKER.description(), runtimes=tuple(each.digest for each in held))
    nodes = ((WORKER.descriptor(START, description), Observation(10, START)),)
    policy = Policy(methods=methods, runtimes=runtimes)
    made = Vote(ROUND.valid_after, policy, b"", b"", nodes)
    data = made.sign(DOCUMENT.network_id, authority.credentials)
    if extension is not None:
        fields = decode(Signed.decode(data, VOTE_LIMIT).body, VOTE_LIMIT)
        fields[13] = [[EXTENSION, extension]]
        data = Signed.make(authority.signing_key, VOTE_LABEL, encode(fields)).encode()
    cache = DescriptorCache(DOCUMENT)
    return open_vote(data, authority.identity, DOCUMENT, ROUND.valid_after, cache)


def consensus(votes: list[OpenVote]) -> Consensus:
    """Compute, sign, and pass through the gate."""
    body = compute(votes, DOCUMENT, ROUND).encode_body()
    return open_consensus(NETWORK.sign(body), DOCUMENT, ROUND.valid_after)


def test_the_default_is_what_the_program_knows() -> None:
    assert [(each.name, each.digest, each.size) for each in KNOWN] == sorted(
        (each.name, each.digest, each.size) for each in CATALOGUE
    )
    assert consensus([vote(i, KNOWN) for i in range(3)]).runtimes == KNOWN


def test_a_runtime_needs_a_quorum() -> None:
    mine = [listed(PYTHON, LUA), listed(PYTHON, NEWER), listed(PYTHON, NEWER), listed(NEWER, LUA)]
    found = consensus([vote(i, runtimes) for i, runtimes in enumerate(mine)])
    assert found.runtimes == listed(PYTHON, NEWER)


def test_one_of_four_can_neither_name_nor_rename_nor_remove_a_runtime() -> None:
    other = Runtime("snake", PYTHON.digest, PYTHON.size)
    for lie in (listed(LUA), listed(other), listed(replace(PYTHON, size=7)), ()):
        honest = [vote(i, listed(PYTHON)) for i in range(3)]
        assert consensus([*honest, vote(3, lie)]).runtimes == (PYTHON,)


@pytest.mark.parametrize("extension", [b"", b"\xff", encode([["python"]]), encode({})])
def test_an_extension_that_cannot_be_read_is_as_if_it_were_not_there(extension: bytes) -> None:
    spoilt = vote(3, listed(PYTHON), extension=extension)
    assert spoilt.policy.runtimes == ()
    votes = [spoilt, *(vote(i, listed(PYTHON)) for i in range(3))]
    assert consensus(votes).runtimes == (PYTHON,)
    assert consensus(votes[:3]).runtimes == ()


def test_entries_name_accepted_runtimes_alone() -> None:
    votes = [vote(i, listed(PYTHON), (NEWER, PYTHON)) for i in range(4)]
    (entry,) = consensus(votes).workers()
    assert entry.runtimes == (PYTHON.digest,)


def test_before_method_3_entries_name_what_descriptors_do() -> None:
    votes = [vote(i, listed(PYTHON), (NEWER,), methods=(1, 2)) for i in range(4)]
    found = consensus(votes)
    assert found.runtimes is None
    assert found.workers()[0].runtimes == (NEWER.digest,)


def test_no_more_than_may_be_listed() -> None:
    many = [runtime("a", number) for number in range(60)]
    lists = [many[:32], many[10:42], [*many[:10], *many[32:42]]]
    assert len(agreed([many, many, many], 3)) == MAX_RUNTIMES
    assert len(agreed(lists, 2)) == MAX_RUNTIMES


@pytest.mark.parametrize(
    "value",
    [
        {},
        [["python", PYTHON.digest]],
        [["Python", PYTHON.digest, 1]],
        [["", PYTHON.digest, 1]],
        [[b"python", PYTHON.digest, 1]],
        [["python", PYTHON.digest[1:], 1]],
        [["python", PYTHON.digest, 0]],
        [["python", PYTHON.digest, MODULE_SIZE + 1]],
        [["python", PYTHON.digest, True]],
        [["python", PYTHON.digest, 1], ["lua", LUA.digest, 1]],
        [["python", PYTHON.digest, 1], ["python", PYTHON.digest, 1]],
        [["lua", PYTHON.digest, 1], ["python", PYTHON.digest, 1]],
        [["a", number.to_bytes(32, "big"), 1] for number in range(MAX_RUNTIMES + 1)],
    ],
)
def test_what_is_no_list_of_runtimes(value: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_runtimes(encode(value))


def test_the_longest_list_fits() -> None:
    longest = tuple(
        Runtime("a" * 32, number.to_bytes(32, "big"), MODULE_SIZE) for number in range(MAX_RUNTIMES)
    )
    data = encode_runtimes(longest)
    assert len(data) <= LIST_LIMIT
    assert decode_runtimes(data) == longest


def test_a_consensus_of_method_3_says_which_and_an_older_one_does_not() -> None:
    found = consensus([vote(i, listed(PYTHON)) for i in range(4)])
    for changed in (replace(found, runtimes=None), replace(found, method=2)):
        with pytest.raises(ProtocolError):
            open_consensus(NETWORK.sign(changed.encode_body()), DOCUMENT, ROUND.valid_after)
