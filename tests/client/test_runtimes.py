"""Which runtime a script is sent to, and what is said if there is none (spec/06 §3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fogbank.client.errors import NoPath
from fogbank.client.runtimes import accepted_runtime, choose_runtime
from fogbank.client.topology import Topology
from fogbank.directory.entries import Flag
from fogbank.directory.runtimes import Runtime
from fogbank.sandbox.runtimes.catalogue import CATALOGUE
from tests.client import networks

KNOWN = Runtime("python", CATALOGUE[0].digest, CATALOGUE[0].size)
FIRST, LAST = (Runtime("python", digest, 1) for digest in (bytes(32), b"\xff" * 32))
LUA = Runtime("lua", b"l" * 32, 1)


def topology(
    accepted: tuple[Runtime, ...] | None, *held: Runtime, running: bool = True
) -> Topology:
    """Return a network whose one worker holds some of the runtimes."""
    worker = networks.worker(0, runtimes=tuple(runtime.digest for runtime in held))
    worker = worker if running else replace(worker, flags=Flag.WORKER)
    consensus = networks.consensus([worker, networks.relay(0)])
    return Topology(replace(consensus, method=3 if accepted else 2, runtimes=accepted))


def test_the_program_s_own_release_comes_first_where_it_is_held() -> None:
    assert KNOWN.name == "python"
    accepted = (LUA, FIRST, KNOWN, LAST)
    assert choose_runtime(topology(accepted, LAST, FIRST, KNOWN), "python") == KNOWN
    assert choose_runtime(topology(accepted, LAST, FIRST), "python") == FIRST
    assert choose_runtime(topology(accepted, LAST, LUA), "python") == LAST


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (topology(None, KNOWN), "does not know runtimes yet .*method 2"),
        (topology((LUA,), KNOWN), "does not accept .*'python'.*: lua"),
        (topology((LUA, KNOWN), LUA), "no worker that runs now .*fog worker runtime add python"),
        (topology((LUA, KNOWN), KNOWN, running=False), "no worker that runs now"),
    ],
)
def test_where_there_is_none_the_error_says_why(network: Topology, sentence: str) -> None:
    with pytest.raises(NoPath, match=sentence):
        choose_runtime(network, "python")


def test_a_runtime_is_fetched_only_if_it_is_accepted() -> None:
    spec = CATALOGUE[0]
    assert accepted_runtime(topology((FIRST, KNOWN)), spec) == KNOWN
    with pytest.raises(NoPath, match="other releases of the runtime python"):
        accepted_runtime(topology((FIRST,)), spec)
    with pytest.raises(NoPath, match="does not accept"):
        accepted_runtime(topology((LUA,)), spec)
