"""What operators ask of a node: its `status`, and `why` it has no flag or no work (spec/10)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli.nodes import Folder
from fogbank.cli.output import emit, errors_in_words, note

if TYPE_CHECKING:
    from fogbank.nodes.home import Home
    from fogbank.nodes.status import SeriesReport, Status
    from fogbank.nodes.why import Case, Finding

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def authority_status(folder: Folder, as_json: AsJson = False) -> None:
    """Show the last round, the nodes known, and which other authorities cannot be reached."""
    _show("authority", folder, as_json)


def relay_status(folder: Folder, as_json: AsJson = False) -> None:
    """Show whether the relay runs, is published, and is listed, and its flags."""
    _show("relay", folder, as_json)


def worker_status(folder: Folder, as_json: AsJson = False) -> None:
    """Show whether the worker runs, is published, and is listed, and its links to contacts."""
    _show("worker", folder, as_json)


def relay_why(folder: Folder, as_json: AsJson = False) -> None:
    """Tell why the relay is not listed, or lacks a flag, and what to do about it."""
    with errors_in_words():
        from fogbank.nodes.why import explain

        _why("relay", folder, as_json, explain)


def worker_why(folder: Folder, as_json: AsJson = False) -> None:
    """Tell why the worker gets no work, and what to do about it."""
    with errors_in_words():
        from fogbank.nodes.why_worker import explain_worker

        _why("worker", folder, as_json, explain_worker)


def _why(
    role: str, folder: Path, as_json: bool, explain: Callable[[Case], tuple[Finding, ...]]
) -> None:
    import trio

    from fogbank.nodes.status_shell import gather

    findings = explain(trio.run(gather, _home(role, folder)))
    if as_json:
        rows = [asdict(finding) for finding in findings]
        emit(json.dumps({"schema": "fogbank.why/1", "findings": rows}, indent=2))
        return
    for finding in findings:
        emit(f"{'ok' if finding.well else 'NO':3} {finding.topic:11} {finding.sentence}")


def _home(role: str, folder: Path) -> Home:
    from fogbank.nodes.home import Home

    home = Home(folder.absolute())
    found = home.settings().role.name.lower()
    if found != role:
        raise ValueError(f"{folder} holds a node of another role: use `fog {found} status`")
    return home


def _show(role: str, folder: Path, as_json: bool) -> None:
    with errors_in_words():
        from fogbank.nodes.status_shell import read_status

        home = _home(role, folder)
        status = read_status(home)
        if status is None:
            raise ValueError(f"it has not run yet: start it with `fog {role} run --dir {folder}`")
        now = time.time()
        if as_json:
            emit(json.dumps({**status.fields(), "state": status.state(now)}, indent=2))
            return
        for line in _lines(status, now):
            emit(line)
        if role == "worker":
            note(f"`fog worker why --dir {folder}` tells why there is no work")
        if role == "relay" and "Guard" not in (status.flags or ()):
            note(f"`fog relay why --dir {folder}` tells what a flag lacks")


def _lines(status: Status, now: float) -> list[str]:
    lines = [
        f"{status.nickname}, {status.role}, version {status.version}",
        f"identity   {status.identity}",
        f"state      {_state(status, now)}",
        f"started    {_at(status.started)}; last heard of {_at(status.written)}",
        f"consensus  {_at(status.valid_after) if status.valid_after else 'none'}",
        f"flags      {' '.join(status.flags) if status.flags is not None else 'not listed'}",
        f"links      at most {status.links}",
        f"circuits   {_load(status.effort)}",
    ]
    for each in status.published:
        reason = f": {each.reason}" if each.reason else ""
        lines.append(f"descriptor {each.reply} by {each.authority}, {_at(each.at)}{reason}")
    lines += [
        f"contact    {contact.nickname} {'linked' if contact.linked else 'NOT linked'}"
        for contact in status.contacts
    ]
    report = status.authority
    if report is not None:
        lines.append(f"round      {report.round}")
        lines.append(f"nodes      {report.nodes} known, {report.running} running")
        for name, why in report.unreachable.items():
            lines.append(f"authority  {name} cannot be reached: {why}")
        lines.append(f"credit     {report.credit}")
        lines += [_series(each) for each in report.mint]
        if report.mint_effort:
            lines.append(
                f"mint       asks for work of effort {report.mint_effort} before each vote"
            )
        if report.tor_port is not None:
            lines.append(f"tor port   {report.tor_port}")
    return lines


def _series(series: SeriesReport) -> str:
    waits = "" if series.votes else "; MERGES the others' ledgers before it votes"
    return f"series {series.series:<3} {series.locked} tokens locked, {series.issued} issued{waits}"


def _state(status: Status, now: float) -> str:
    from fogbank.nodes.status import State

    state = status.state(now)
    if state is State.LEAVING:
        does = {"authority": "serves the mint's series of its time"}
        work = does.get(status.role, "takes no new work")
        return f"leaving: {work}, has ended by {_at(status.leaving)}"
    return str(state)


def _load(effort: int) -> str:
    if not effort:
        return "made as they are asked for"
    return f"more are asked for than it can make: each takes work now, of effort {effort}"


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
