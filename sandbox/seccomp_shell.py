"""The system calls that a jailed process may make. The only module that knows pyseccomp."""

import os
import struct

from fogbank.sandbox import kernel_shell as kernel
from fogbank.sandbox.jail import SandboxUnavailable

COMMON = (
    # its channel; every other descriptor is closed
    "read",
    "write",
    # memory, for the guest's and for the host's own heap
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "brk",
    # traps arrive as signals
    "rt_sigreturn",
    "rt_sigprocmask",
    "sigaltstack",
    "futex",
    "clock_gettime",
    "getrandom",
    "exit_group",
    # what abort() asks before it ends the process
    "getpid",
    "gettid",
)
"""Everything else kills the process at once."""


_NOBODY = 0x7FED_CBA9
"""Stands for the number of a process in the program that is made before there is one."""
_INSTRUCTION = 8
"""Bytes of an instruction; the last four are its number."""
_NUMBER = struct.Struct("=I")
_MADE, _FAILED = b"\1", b"\0"


class Filter:
    """A filter, made once and loaded by every jailed process after it was forked."""

    def __init__(self) -> None:
        """Raises `SandboxUnavailable` where the library for it is missing."""
        made = _made_apart()
        numbers = range(_INSTRUCTION - _NUMBER.size, len(made), _INSTRUCTION)
        self._places = [at for at in numbers if _NUMBER.unpack_from(made, at)[0] == _NOBODY]
        self._program = kernel.FilterProgram(made)

    def load(self) -> None:
        """Bind this process to the filter, for good. Raises OSError."""
        own = os.getpid()
        for place in self._places:
            _NUMBER.pack_into(self._program.instructions, place, own)
        self._program.bind()


def _made_apart() -> bytes:
    """Have a process of its own make the program.

    The library comes with modules that have something to do at each fork of whoever imported it.
    """
    reading, writing = os.pipe()
    maker = os.fork()
    if not maker:
        try:
            _make(writing)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:  # noqa: PTH123 -- a descriptor, not a path
        words = said.read()
    os.waitpid(maker, 0)
    if not words.startswith(_MADE):
        reason = words[1:].decode("utf-8", "replace") or "nothing was made"
        raise SandboxUnavailable(f"the layer seccomp of the jail is missing: {reason}")
    return words[1:]


def _make(target: int) -> None:
    """Write the program, or why there is none."""
    try:
        import pyseccomp  # noqa: PLC0415 -- looks for a C library as it is imported
    except (ImportError, OSError, RuntimeError) as error:
        reason = (
            f"{error}; install libseccomp, which is the package libseccomp2 on Debian and Ubuntu"
        )
        os.write(target, _FAILED + reason.encode())
        return
    try:
        made = pyseccomp.SyscallFilter(defaction=pyseccomp.KILL_PROCESS)
        # Calls as programs of other architectures make them (x32, i386) end it likewise.
        made.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
        for name in COMMON:
            made.add_rule(pyseccomp.ALLOW, name)
        # So that an abort shows as what it is; no other process can be reached thus.
        made.add_rule(pyseccomp.ALLOW, "tgkill", pyseccomp.Arg(0, pyseccomp.EQ, _NOBODY))
        with open(target, "wb", buffering=0, closefd=False) as sink:
            sink.write(_MADE)
            made.export_bpf(sink)
    except OSError as error:
        os.write(target, _FAILED + f"the filter cannot be made here ({error})".encode())
