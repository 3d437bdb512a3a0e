"""`fog authority policy`: what this authority votes for, beyond the nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fogbank.cli.output import emit, errors_in_words

app = typer.Typer(
    help="What this authority votes for: its policy.toml, read again at every round.",
    no_args_is_help=True,
)


@app.command()
def check(
    folder: Annotated[Path, typer.Option("--dir", help="The authority's folder.")],
) -> None:
    """Check policy.toml, and say what its authority will vote for."""
    with errors_in_words():
        from fogbank.nodes.policy_file import POLICY_FILE, load_policy

        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: name the authority's")
        path = folder / POLICY_FILE
        policy, rules = load_policy(path)
        if not path.exists():
            emit(f"{path} is not there: the default policy holds")
        rejected, approved = rules.rejected, rules.approved
        emit(f"consensus methods: {_join(policy.methods)}")
        emit(f"required protocol versions: {_join(policy.required_protocols)}")
        emit(f"recommended protocol versions: {_join(policy.recommended_protocols)}")
        emit(f"accepted engine classes: {_join(policy.engines) or 'all'}")
        emit(f"accepted runtimes: {_join(tuple(each.name for each in policy.runtimes)) or 'none'}")
        emit(f"revoked: {len(policy.revoked)} identities")
        emit(f"rejected: {len(rejected.identities)} identities, {len(rejected.networks)} networks")
        if policy.grants:
            emit(f"grants, in a test network: {len(policy.grants)} nodes")
        emit(
            "approved: everyone"
            if approved is None
            else f"approved: {len(approved.identities)} identities, "
            f"{len(approved.networks)} networks, nobody else"
        )


def _join(items: tuple[object, ...]) -> str:
    return ", ".join(map(str, items))
