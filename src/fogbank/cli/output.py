"""What the command line prints where: results on stdout, all else on stderr; errors in words."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from fogbank.client.exit_codes import Ending
    from fogbank.sandbox.data import Data

FAILED = 125
"""Exit code when the network or the command's use is at fault, not the job (spec/08 §7)."""
_INTERRUPTED = 130

ErrorReport = Callable[[BaseException, "Ending"], None]
"""Hears of the error that ends a command, and of what the command line ends with."""


def emit(data: str | Data) -> None:
    """Write a result to standard output: a line of text, or bytes as they are.

    Raises `OSError` that names standard output if it takes no more.
    """
    _write_all(sys.stdout, data, "standard output")


def emit_errors(data: Data) -> None:
    """Write a program's standard error to ours, as it is."""
    _write_all(sys.stderr, data, "standard error")


def _write_all(stream: TextIO | None, data: str | Data, name: str) -> None:
    if isinstance(data, str | bytes):
        _write(stream, data, name)
        return
    from fogbank.sandbox.data import portions

    for part in portions(data):
        _write(stream, part, name)


def _write(stream: TextIO | None, data: str | bytes, name: str) -> None:
    if stream is None:
        if data:
            raise ValueError(f"{name} is closed: direct it to a file, or to /dev/null")
        return
    try:
        typer.echo(data, file=stream, nl=isinstance(data, str))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def note(text: str) -> None:
    """Tell the user something on standard error, if there is one."""
    try:
        typer.echo(f"fog: {text}", err=True)
    except OSError:
        _give_up_unwritable()


def fail(text: str, code: int = FAILED) -> NoReturn:
    """End with a sentence on standard error."""
    note(text)
    raise typer.Exit(code)


def read_bounded(path: Path, most: int) -> bytes:
    """Read a file of the user's; raise `ValueError` if it has more than `most` bytes.

    Devices and pipes may have no end, so no more than that is read. Raises `OSError`.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} has more than {most} bytes, the most that is taken")
    return data


def read_data(path: Path, most: int) -> Data:
    """Read a file of the user's as `read_bounded` does; a large one is left where it is."""
    with path.open("rb") as file:
        data = file_of(file)
    if data is None:
        return read_bounded(path, most)
    if len(data) > most:
        raise ValueError(f"{path} has more than {most} bytes, the most that is taken")
    return data


def file_of(file: BinaryIO) -> Data | None:
    """Return what a large file holds, to be read in portions; None for any other stream."""
    from fogbank.sandbox.scratch_shell import IN_MEMORY, FileData

    about = os.fstat(file.fileno())
    is_whole = stat.S_ISREG(about.st_mode) and about.st_size > IN_MEMORY and not file.tell()
    return FileData.adopt(os.dup(file.fileno())) if is_whole else None


def as_text(data: bytes) -> str | None:
    """Return output as text, or None if it is not UTF-8; its bytes stand in base64 in any case."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


@contextmanager
def errors_in_words(report: ErrorReport | None = None) -> Iterator[None]:
    """Turn every error into one sentence and an exit code; `FOG_DEBUG=1` shows the traceback.

    `report` writes the error to standard output too, for programs that read it there.
    """
    try:
        yield
    except BaseException as error:
        if os.environ.get("FOG_DEBUG") == "1":
            raise
        cause = _first(error)
        _give_up_unwritable()
        if isinstance(cause, typer.Exit | SystemExit | typer.Abort):
            raise cause from None
        if isinstance(cause, KeyboardInterrupt):
            raise typer.Exit(_INTERRUPTED) from None
        if isinstance(cause, BrokenPipeError):
            # Whoever read our output has gone; nothing more can be said there.
            raise typer.Exit(FAILED) from None
        ending = _ending(cause)
        if report is not None:
            with suppress(OSError, ValueError):
                report(cause, ending)
        _give_up_unwritable()
        fail(ending.sentence, ending.code)


def _give_up_unwritable() -> None:
    """Direct an output that takes no more elsewhere, or Python would complain of it at the end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group of them, as nurseries raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _ending(error: BaseException) -> Ending:
    from fogbank.client.errors import ClientError
    from fogbank.client.exit_codes import Ending, ending_of_error
    from fogbank.relay.errors import RelayError
    from fogbank.runtimes.packages import RuntimeUnobtainable
    from fogbank.sandbox.jail import SandboxUnavailable
    from fogbank.sandbox.outcome import ModuleRefused
    from fogbank.sandbox.runtimes.store_shell import RuntimeRefused

    if isinstance(error, RelayError | ClientError | ModuleRefused) and str(error):
        return ending_of_error(error)
    sayable = SandboxUnavailable | RuntimeRefused | RuntimeUnobtainable | ValueError
    if isinstance(error, sayable) and str(error):
        return Ending(FAILED, str(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Ending(FAILED, f"{where}{error.strerror or error}")
    return Ending(
        FAILED,
        f"an internal error ({type(error).__name__}): please report it, with what FOG_DEBUG=1 "
        "shows",
    )
