"""Why a worker gets no work, and what to do (spec/10 §2). Pure."""

from __future__ import annotations

from fogbank.directory.consensus import Consensus, Entry
from fogbank.nodes.status import Status
from fogbank.nodes.why import Case, Finding, at, found_of_any, span, why_not_listed


def explain_worker(case: Case) -> tuple[Finding, ...]:
    """Return what was found."""
    findings = found_of_any(case)
    consensus, entry = case.consensus, case.entry
    if consensus is not None:
        findings.append(_listed(case, consensus, entry))
    if case.runs and case.status is not None:
        findings.append(_contacts(case.status))
        findings.append(_work(case, case.status, entry))
    return tuple(findings)


def _listed(case: Case, consensus: Consensus, entry: Entry | None) -> Finding:
    if entry is None:
        reason = why_not_listed(case, consensus) or (
            "The authorities know it, but do not list it: they no longer accept its engine class, "
            "or do not approve of it. Upgrade this program; else ask their operators."
        )
        return Finding("Running", False, reason)
    if not case.runs:
        sentence = "It is still listed, but will not be for long, as it does not run."
        return Finding("Running", False, sentence)
    return Finding("Running", True, f"It has been listed since {at(entry.since)}.")


def _contacts(status: Status) -> Finding:
    """Whoever has a job for a worker comes by one of its contacts."""
    linked = [each.nickname for each in status.contacts if each.linked]
    others = [each.nickname for each in status.contacts if not each.linked]
    if not status.contacts:
        sentence = "It has no contact relay yet: these follow from the consensus."
        return Finding("contacts", False, sentence)
    if not linked:
        sentence = (
            f"None of its contact relays ({', '.join(others)}) is linked, so nobody can reach it. "
            "See that this machine is online and that its firewall lets connections out."
        )
        return Finding("contacts", False, sentence)
    sentence = f"Jobs reach it by {', '.join(linked)}."
    if others:
        sentence += f" Not linked now, and tried again: {', '.join(others)}."
    return Finding("contacts", True, sentence)


def _work(case: Case, status: Status, entry: Entry | None) -> Finding:
    if status.leaving:
        left = span(status.leaving - case.now)
        sentence = (
            f"It was told to end: it takes no new work, and ends in {left}, or as soon as nothing "
            "runs any more."
        )
        return Finding("work", False, sentence)
    if entry is not None and not entry.services:
        sentence = (
            "It was told to end and was started again: clients pass it over until the next "
            "consensus."
        )
        return Finding("work", False, sentence)
    return Finding("work", True, "It takes work; when and what comes, others decide.")
