"""`fog attestation`: workers' signatures on what tasks came to, and who was wrong (spec/12)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fogbank.cli.home import user_home
from fogbank.cli.output import emit, errors_in_words, note, read_bounded
from fogbank.cli.rerun import rerun

if TYPE_CHECKING:
    from fogbank.client.verification.evidence_shell import Evidence
    from fogbank.relay.job.attestation import Leaf, Proof

app = typer.Typer(
    help="Look at workers' attestations, show parts of them, and see who was proven wrong.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="A file of an attestation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_OUTPUT_LIMIT = 256 << 20


@app.command()
def show(file: File, as_json: AsJson = False) -> None:
    """Show what an attestation says; `verify` tells whether it holds."""
    with errors_in_words():
        _print(_read(file), None, as_json)


@app.command()
def verify(
    file: File,
    worker: Annotated[
        str | None, typer.Option(help="The identity that must have attested it.")
    ] = None,
    module: Annotated[
        Path | None, typer.Option(metavar="PROGRAM", help="It must be of this program.")
    ] = None,
    stdout: Annotated[
        Path | None, typer.Option(metavar="FILE", help="It must be of this output.")
    ] = None,
    stderr: Annotated[
        Path | None, typer.Option(metavar="FILE", help="It must be of these errors.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a worker attested what FILE shows; the exit code is 0 if it did, else 125."""
    with errors_in_words():
        from fogbank.cli.programs import read_module, runtime_of
        from fogbank.relay.errors import ProtocolError
        from fogbank.relay.job.attestation import Leaf
        from fogbank.relay.job.statement import program_digest
        from fogbank.relay.keys import parse_id, show_id

        proof = _read(file)
        identity = proof.verify()
        if worker is not None and parse_id(worker) != identity:
            raise ProtocolError(
                f"it is another worker's attestation: {show_id(identity)} signed it"
            )
        if module is not None:
            script = runtime_of(module, None)
            sent = read_module(module) if script is None else script.id
            _require(proof, Leaf.MODULE, program_digest(sent), f"of {module}")
        for leaf, path in ((Leaf.STDOUT, stdout), (Leaf.STDERR, stderr)):
            if path is not None:
                _require(proof, leaf, _output(path), f"of {path}")
        _print(proof, identity, as_json)


@app.command()
def disclose(
    file: File,
    to: Annotated[Path, typer.Argument(help="Where to write what is left.")],
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PARTS...",
            help="What stays: module, input, limits, outcome, stdout, stderr, fuel, engine.",
        ),
    ],
) -> None:
    """Write an attestation that proves some parts, and of the others shows nothing but hashes."""
    with errors_in_words():
        from fogbank.relay.job.attestation import Leaf
        from fogbank.sandbox.files_shell import write_atomic

        known = {leaf.name.lower(): leaf for leaf in Leaf}
        unknown = [part for part in parts if part not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no part: take some of {', '.join(known)}")
        proof = _read(file)
        proof.verify()
        write_atomic(to, proof.only([known[part] for part in parts]).encode(), 0o644)
        note(f"{to} proves: {', '.join(parts)}")


app.command()(rerun)


@app.command()
def wrong(as_json: AsJson = False) -> None:
    """List the workers that were proven wrong, which get no task of yours any more."""
    with errors_in_words():
        from fogbank.relay.keys import show_id

        for each in _evidence().convictions():
            name = show_id(each.worker)
            if as_json:
                fields = {"worker": name, "when": each.when, "reason": each.reason}
                fields["folder"] = str(each.folder)
                emit(json.dumps({"schema": "fogbank.wrong/1", **fields}))
            else:
                emit(f"{name}\n  {each.when}  {_printable(each.reason)}\n  {each.folder}")


@app.command()
def forgive(worker: Annotated[str, typer.Argument(help="The worker's identity.")]) -> None:
    """Forget that a worker was wrong, and the evidence: it is used again."""
    with errors_in_words():
        from fogbank.relay.keys import parse_id

        if not _evidence().forgive(parse_id(worker)):
            raise ValueError("nothing is kept against this worker: see `fog attestation wrong`")
        note("it is used again from now on")


def _evidence() -> Evidence:
    return user_home().evidence


def _read(file: Path) -> Proof:
    from fogbank.relay.job.attestation import PROOF_LIMIT, Proof

    return Proof.decode(read_bounded(file, PROOF_LIMIT))


def _output(path: Path) -> tuple[int, bytes]:
    from fogbank.sandbox.data import sha256

    data = read_bounded(path, _OUTPUT_LIMIT)
    return len(data), sha256(data)


def _require(proof: Proof, leaf: Leaf, expected: object, what: str) -> None:
    """Raise `ProtocolError` unless the leaf is shown and says what it must."""
    from fogbank.relay.errors import ProtocolError
    from fogbank.relay.job.statement import read_leaf

    name = leaf.name.lower()
    if leaf not in proof.shown:
        raise ProtocolError(f"this attestation does not show its {name}: ask for one that does")
    if read_leaf(leaf, proof.shown[leaf][1]) != expected:
        raise ProtocolError(f"this attestation is not {what}: its {name} is another")


def _print(proof: Proof, worker: bytes | None, as_json: bool) -> None:
    from fogbank.relay.keys import show_id

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(proof.time))
    fields = _fields(proof)
    if as_json:
        known = {"verified": worker is not None, "time": when}
        name = {} if worker is None else {"worker": show_id(worker)}
        emit(json.dumps({"schema": "fogbank.attestation/1", **known, **name, **fields}))
        return
    who = "not verified" if worker is None else f"attested by {show_id(worker)}"
    lines = [("", who), ("time", when), *((name, _words(value)) for name, value in fields.items())]
    emit("\n".join(f"{name:<9}{_printable(text)}" for name, text in lines).strip())


def _fields(proof: Proof) -> dict[str, Any]:
    """Return what is shown, for programs; what is hidden is not there."""
    from fogbank.relay.job.attestation import Leaf
    from fogbank.relay.job.statement import read_leaf
    from fogbank.sandbox.limits import Limits

    fields: dict[str, Any] = {}
    for leaf in Leaf:
        if leaf not in proof.shown:
            continue
        match read_leaf(leaf, proof.shown[leaf][1]):
            case Limits() as limits:
                fields["limits"] = {
                    "fuel": limits.fuel,
                    "memory": limits.memory,
                    "seconds": limits.wall_seconds,
                    "output": limits.output,
                }
            case (int(length), bytes(digest)):
                fields[leaf.name.lower()] = {"bytes": length, "sha256": digest.hex()}
            case (outcome, code):
                fields["outcome"] = {"name": outcome.name.lower(), "exit_code": code}
            case bytes(digest):
                fields[leaf.name.lower()] = digest.hex()
            case value:
                fields[leaf.name.lower()] = value
    return fields


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each is not None)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _printable(text: str) -> str:
    """What a file says must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
