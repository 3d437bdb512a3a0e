"""Which runtime a script is sent to: one that is accepted, and held by a worker (spec/06 §3)."""

from __future__ import annotations

from fogbank.client.errors import NoPath
from fogbank.client.topology import Topology
from fogbank.directory.runtimes import Runtime
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec, by_digest


def choose_runtime(topology: Topology, name: str) -> Runtime:
    """Return the runtime of that name that a script of this program runs on.

    Of several releases it is one that this program knows if some worker holds it, else the first
    that some worker holds. Raises `NoPath` with what is in the way.
    """
    named = _accepted(topology, name)
    named.sort(key=lambda runtime: by_digest(runtime.digest) is None)
    held = {digest for worker in topology.workers.items for digest in worker.runtimes}
    for runtime in named:
        if runtime.digest in held:
            return runtime
    raise NoPath(
        f"no worker that runs now holds the runtime {name}: wait for the next consensus, or give "
        f"it to a worker of yours with `fog worker runtime add {name}`"
    )


def accepted_runtime(topology: Topology, spec: RuntimeSpec) -> Runtime:
    """Return a runtime of this program as the network accepts it; raise `NoPath` if it does not."""
    for runtime in _accepted(topology, spec.name):
        if runtime.digest == spec.digest:
            return runtime
    raise NoPath(
        f"this network accepts other releases of the runtime {spec.name} than this program knows: "
        "update Fogbank"
    )


def _accepted(topology: Topology, name: str) -> list[Runtime]:
    """Return the accepted runtimes of that name, one at least; raise `NoPath` if there is none."""
    accepted = topology.consensus.runtimes
    if accepted is None:
        raise NoPath(
            f"this network does not know runtimes yet (its consensus is of method "
            f"{topology.consensus.method}): send a WebAssembly program, or wait until its "
            "authorities are updated"
        )
    named = [runtime for runtime in accepted if runtime.name == name]
    if not named:
        names = ", ".join(sorted({runtime.name for runtime in accepted})) or "none"
        raise NoPath(
            f"this network does not accept the runtime {name!r}; those that it accepts: {names}"
        )
    return named
