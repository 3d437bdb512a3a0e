"""Why a relay lacks flags, or a worker gets no work, and what to do (spec/10 §2). Pure.

What is known: the node's settings, what it last told of itself, and a consensus. From these follow
findings, in the order in which one thing depends on another; a bad one says what to do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from fogbank.directory.addresses import machine_of
from fogbank.directory.computation import FAST_BANDWIDTH, STABLE_UPTIME
from fogbank.directory.consensus import Consensus, Entry, Flag
from fogbank.directory.network import NetworkDocument
from fogbank.directory.nodes import MAX_PER_ADDRESS
from fogbank.directory.schedule import Round, nth_round, round_at
from fogbank.nodes.home import Settings
from fogbank.nodes.status import Publication, Reply, State, Status
from fogbank.relay.keys import NodeId


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its name, whether it is well, and a sentence or more."""

    topic: str
    well: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of a node at `now`. `folder` is named in what to do.

    `status` is None if the node never ran, `consensus` None if none is to be had, and `trouble`
    says then why.
    """

    folder: str
    settings: Settings
    identity: NodeId
    network: NetworkDocument
    now: float
    status: Status | None = None
    consensus: Consensus | None = None
    trouble: str = ""

    @property
    def entry(self) -> Entry | None:
        """The node's entry in the consensus."""
        return self.consensus.by_identity(self.identity) if self.consensus else None

    @property
    def runs(self) -> bool:
        """Whether the node runs now."""
        running = {State.RUNNING, State.LEAVING}
        return self.status is not None and self.status.state(self.now) in running

    @property
    def role(self) -> str:
        """What kind of node it is."""
        return self.settings.role.name.lower()


def explain(case: Case) -> tuple[Finding, ...]:
    """Return what was found of a relay."""
    findings = found_of_any(case)
    if case.consensus is None:
        return tuple(findings)
    entry = case.entry
    if entry is None:
        findings.append(Finding("Running", False, _why_not_running(case, case.consensus)))
        findings.append(Finding("Guard", False, "A relay that is not listed has no flags."))
        return tuple(findings)
    findings.append(_listed(case, entry))
    findings.append(_stable(case.consensus, entry))
    findings.append(_fast(case.consensus, entry))
    findings.append(_guard(entry))
    return tuple(findings)


def found_of_any(case: Case) -> list[Finding]:
    """Return what is found of every kind of node."""
    findings = [_process(case), _consensus(case)]
    if case.runs:
        findings.append(_published(case))
    return findings


def _process(case: Case) -> Finding:
    status, start = case.status, f"start it with `fog {case.role} run --dir {case.folder}`"
    if status is None:
        return Finding("process", False, f"The {case.role} has not run yet: {start}.")
    match status.state(case.now):
        case State.STOPPED:
            return Finding("process", False, f"It ended at {at(status.written)}: {start}.")
        case State.SILENT:
            sentence = (
                f"It has told nothing since {at(status.written)}: it was killed, or it hangs, or "
                f"its disk is full. See its log, and {start}."
            )
            return Finding("process", False, sentence)
    return Finding("process", True, f"It has run for {span(case.now - status.started)}.")


def _consensus(case: Case) -> Finding:
    consensus = case.consensus
    if consensus is None:
        reason = f" ({case.trouble})" if case.trouble else ""
        sentence = (
            f"There is no valid consensus{reason}. See that this machine reaches the authorities "
            "in network.toml and that its clock is right; else ask their operators."
        )
        return Finding("consensus", False, sentence)
    grace = consensus.fresh_until - consensus.valid_after
    if case.now > consensus.fresh_until + grace:
        sentence = (
            f"The newest consensus that could be had is of {at(consensus.valid_after)}: the "
            "authorities have agreed on none since, or this machine does not reach them."
        )
        return Finding("consensus", False, sentence)
    return Finding("consensus", True, f"The consensus of {at(consensus.valid_after)} is held.")


def _published(case: Case) -> Finding:
    """Say what became of the descriptor; one authority that has it passes it on to the others."""
    tries = case.status.published if case.status else ()
    total = len(case.network.authorities)
    taken = [each for each in tries if each.reply is Reply.TAKEN]
    refused = [each for each in tries if each.reply is Reply.REFUSED]
    if refused:
        reasons = "; ".join(f"{each.authority}: {each.reason}" for each in refused)
        sentence = (
            f"Refused by {len(refused)} of {total} authorities ({reasons}). {_remedy(refused)}"
        )
        return Finding("descriptor", False, sentence)
    if taken:
        last = max(each.at for each in taken)
        sentence = (
            f"{len(taken)} of {total} authorities have taken the descriptor, the last of them "
            f"{span(case.now - last)} ago."
        )
        return Finding("descriptor", True, sentence)
    if tries:
        sentence = (
            f"No authority can be reached (the last reason: {tries[-1].reason}). See that this "
            "machine is online and that its firewall lets connections out."
        )
        return Finding("descriptor", False, sentence)
    return Finding("descriptor", False, "It is just being published: ask again in a minute.")


def _remedy(refused: list[Publication]) -> str:
    reasons = " ".join(each.reason for each in refused)
    if "clock" in reasons or "in force" in reasons:
        return "Set this machine's clock right, best by NTP."
    if "address" in reasons:
        return "Set addresses in node.toml to what others reach from outside, and restart."
    return "If the reason is no mistake of yours, ask those authorities' operators."


def why_not_listed(case: Case, consensus: Consensus) -> str | None:
    """Return why a node of any kind is not listed, or None if it is for another reason."""
    if case.identity in consensus.revoked:
        return (
            "The authorities have revoked this identity: it will not be listed again. Ask their "
            f"operators why; a new {case.role} is made with `fog {case.role} init` in another "
            "folder."
        )
    if not case.runs or case.status is None:
        return "It is not listed, as it does not run."
    if not any(each.reply is Reply.TAKEN for each in case.status.published):
        return "It is not listed, as no authority has its descriptor: see there."
    first = _first_chance(case.network, case.status.started)
    if case.now < first.fresh_until:
        return (
            "It has only just come up: the authorities still look at it. Ask again after the "
            f"consensus of {at(first.fresh_until)}."
        )
    return None


def _why_not_running(case: Case, consensus: Consensus) -> str:
    reason = why_not_listed(case, consensus)
    if reason is not None:
        return reason
    places = " or ".join(map(str, case.settings.addresses))
    machines = set(map(machine_of, case.settings.addresses))
    beside = [
        relay.nickname
        for relay in consensus.relays()
        if not machines.isdisjoint(map(machine_of, relay.addresses))
    ]
    if len(beside) >= MAX_PER_ADDRESS:
        return (
            f"At most {MAX_PER_ADDRESS} relays at one IP address are listed, and there are so many "
            f"already: {', '.join(beside[:MAX_PER_ADDRESS])}. Give it an address of its own, or "
            "end another of yours; a relay with more bandwidth serves as well as two."
        )
    return (
        f"The authorities know it, but do not reach it at {places}. Open that port in the "
        "firewall, forward it in the router, and see that addresses in node.toml is what others "
        "reach from outside."
    )


def _first_chance(network: NetworkDocument, started: float) -> Round:
    """Return the first round that begins after the relay started."""
    this = round_at(network, started)
    while this.begins <= started:
        this = nth_round(network, this.number + 1)
    return this


def _listed(case: Case, entry: Entry) -> Finding:
    if set(entry.addresses) != set(case.settings.addresses):
        listed, own = (
            ", ".join(map(str, each)) for each in (entry.addresses, case.settings.addresses)
        )
        sentence = (
            f"It is listed, but at {listed}, and node.toml says {own}. Restart the relay if you "
            "changed that, and wait for the next consensus."
        )
        return Finding("Running", False, sentence)
    if not case.runs:
        sentence = "It is still listed, but will not be for long, as it does not run."
        return Finding("Running", False, sentence)
    return Finding("Running", True, f"It has been listed since {at(entry.since)}.")


def _stable(consensus: Consensus, entry: Entry) -> Finding:
    if Flag.STABLE in entry.flags:
        return Finding("Stable", True, "It has run long enough, seen from the authorities.")
    # Uptimes are not in the consensus; who is listed without a break runs without one.
    spans = [consensus.valid_after - each.since for each in consensus.relays()]
    needed = min(_median(spans), STABLE_UPTIME)
    own = consensus.valid_after - entry.since
    most = max(STABLE_UPTIME - own, 0)
    sentence = (
        "Authorities compare how long relays have run without a break: the median relay for about "
        f"{span(needed)}, this one for about {span(own)}. Keep it up: it has the flag in "
        f"{span(most)} at the latest. A restart that an authority notices begins it anew."
    )
    return Finding("Stable", False, sentence)


def _fast(consensus: Consensus, entry: Entry) -> Finding:
    needed = min(_median([each.bandwidth for each in consensus.relays()]), FAST_BANDWIDTH)
    if Flag.FAST in entry.flags:
        return Finding("Fast", True, f"Its bandwidth counts as {_rate(entry.bandwidth)}.")
    sentence = (
        f"Its bandwidth counts as {_rate(entry.bandwidth)}, and {_rate(needed)} are needed. A "
        "value at most doubles per consensus; if it stays low, the line or the machine is too slow."
    )
    return Finding("Fast", False, sentence)


def _guard(entry: Entry) -> Finding:
    if Flag.GUARD in entry.flags:
        return Finding("Guard", True, "Clients may choose it as their guard.")
    lacking = [
        name for flag, name in ((Flag.STABLE, "Stable"), (Flag.FAST, "Fast"))
        if flag not in entry.flags
    ]  # fmt: skip
    return Finding(
        "Guard", False, f"A guard is both Stable and Fast: it lacks {' and '.join(lacking)}."
    )


def _median(values: list[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


def at(seconds: float) -> str:
    """Return a time as people write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def span(seconds: float) -> str:
    """Return a time in its two largest units."""
    rest = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _rate(count: int) -> str:
    return f"{count / 1_000_000:g} MB/s"
