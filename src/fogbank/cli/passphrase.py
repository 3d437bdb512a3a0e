"""Passphrases: from the environment, a file descriptor, or a prompt; never from an argument."""

from __future__ import annotations

import os
import sys

import typer

NEW_VARIABLE = "FOG_WALLET_NEW_PASSPHRASE"
_LIMIT = 4096


def read_passphrase(descriptor: int | None = None, *, is_new: bool = False) -> str:
    """Return a passphrase: of a descriptor's first line, of the environment, or asked for.

    A new one is asked for twice. Raises `ValueError` where nobody can be asked.
    """
    if descriptor is not None:
        return _from(descriptor)
    from fogbank.nodes.wallet import VARIABLE

    variable = NEW_VARIABLE if is_new else VARIABLE
    known = os.environ.get(variable)
    if known is not None:
        return known
    if not sys.stdin.isatty():
        raise ValueError(
            f"a passphrase is needed, and nobody is there to be asked: put it into {variable}, or "
            "name a file descriptor (see --help)"
        )
    text = "New passphrase" if is_new else "Passphrase of the wallet"
    answer: str = typer.prompt(text, hide_input=True, confirmation_prompt=is_new, err=True)
    return answer


def _from(descriptor: int) -> str:
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            line = file.readline(_LIMIT)
    except OSError as error:
        raise ValueError(f"file descriptor {descriptor} cannot be read: {error.strerror}") from None
    return line.rstrip(b"\r\n").decode()
