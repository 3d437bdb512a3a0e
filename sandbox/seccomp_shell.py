"""The system calls that a jailed process may make. The only module that knows pyseccomp."""

import os
import struct
from typing import Any

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


class Filter:
    """A filter, built once and loaded by every jailed process after it was forked."""

    def __init__(self) -> None:
        """Raises `SandboxUnavailable` where the library for it is missing."""
        library = _library()
        try:
            made = library.SyscallFilter(defaction=library.KILL_PROCESS)
            # Calls as programs of other architectures make them (x32, i386) end it likewise.
            made.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)
            for name in COMMON:
                made.add_rule(library.ALLOW, name)
            # So that an abort shows as what it is; no other process can be reached thus.
            made.add_rule(library.ALLOW, "tgkill", library.Arg(0, library.EQ, _NOBODY))
            self._program, self._places = _exported(made)
        except OSError as error:
            raise SandboxUnavailable(
                f"the layer seccomp of the jail is missing: this kernel has none ({error})"
            ) from None

    def load(self) -> None:
        """Bind this process to the filter, for good. Raises OSError."""
        own = os.getpid()
        for place in self._places:
            _NUMBER.pack_into(self._program, place, own)
        kernel.set_filter(bytes(self._program))


def _exported(made: Any) -> tuple[bytearray, list[int]]:
    """Return the program that the library makes of a filter, and where `_NOBODY` is in it."""
    reading, writing = os.pipe()
    with open(reading, "rb") as program:  # noqa: PTH123 -- a descriptor, not a path
        with open(writing, "wb") as sink:  # noqa: PTH123
            made.export_bpf(sink)
        made_of = bytearray(program.read())
    numbers = range(_INSTRUCTION - _NUMBER.size, len(made_of), _INSTRUCTION)
    return made_of, [at for at in numbers if _NUMBER.unpack_from(made_of, at)[0] == _NOBODY]


def _library() -> Any:
    try:
        import pyseccomp  # noqa: PLC0415 -- looks for a C library as it is imported
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxUnavailable(
            f"the layer seccomp of the jail is missing ({error}): install libseccomp, which is the"
            " package libseccomp2 on Debian and Ubuntu"
        ) from None
    return pyseccomp
