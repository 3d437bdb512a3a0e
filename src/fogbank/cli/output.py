"""What the command line prints where: results on stdout, all else on stderr; errors in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

FAILED = 125
"""Exit code when the network or the command's use is at fault, not the job (spec/08 §7)."""
_INTERRUPTED = 130


def note(text: str) -> None:
    """Tell the user something on standard error."""
    typer.echo(f"fog: {text}", err=True)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """End with a sentence on standard error."""
    note(text)
    raise typer.Exit(code)


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Turn every error into one sentence and an exit code; `FOG_DEBUG=1` shows the traceback."""
    try:
        yield
    except BaseException as error:
        if os.environ.get("FOG_DEBUG") == "1":
            raise
        cause = _first(error)
        if isinstance(cause, typer.Exit | SystemExit | typer.Abort):
            raise cause from None
        if isinstance(cause, KeyboardInterrupt):
            raise typer.Exit(_INTERRUPTED) from None
        if isinstance(cause, BrokenPipeError):
            # Whoever read our output has gone; nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        fail(_sentence(cause))


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group of them, as nurseries raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(error: BaseException) -> str:
    from fogbank.client.errors import ClientError
    from fogbank.relay.errors import RelayError
    from fogbank.sandbox.jail import SandboxUnavailable

    if isinstance(error, RelayError | ClientError | SandboxUnavailable | ValueError) and str(error):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return (
        f"an internal error ({type(error).__name__}): please report it, with what FOG_DEBUG=1 shows"
    )
