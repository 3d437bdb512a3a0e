"""The system calls that a jailed process may make. The only module that knows pyseccomp."""

import os
from typing import Any

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


class Filter:
    """A filter, built once and loaded by every jailed process after it was forked."""

    def __init__(self) -> None:
        """Raises `SandboxUnavailable` where the library for it is missing."""
        self._library = _library()
        try:
            self._filter = self._library.SyscallFilter(defaction=self._library.KILL_PROCESS)
            # Calls as programs of other architectures make them (x32, i386) end it likewise.
            self._filter.set_attr(self._library.Attr.ACT_BADARCH, self._library.KILL_PROCESS)
            for name in COMMON:
                self._filter.add_rule(self._library.ALLOW, name)
        except OSError as error:
            raise SandboxUnavailable(
                f"the layer seccomp of the jail is missing: this kernel has none ({error})"
            ) from None

    def load(self) -> None:
        """Bind this process to the filter, for good. Raises OSError."""
        # So that an abort shows as what it is; no other process can be reached thus.
        own = self._library.Arg(0, self._library.EQ, os.getpid())
        self._filter.add_rule(self._library.ALLOW, "tgkill", own)
        self._filter.load()


def _library() -> Any:
    try:
        import pyseccomp  # noqa: PLC0415 -- looks for a C library as it is imported
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxUnavailable(
            f"the layer seccomp of the jail is missing ({error}): install libseccomp, which is the"
            " package libseccomp2 on Debian and Ubuntu"
        ) from None
    return pyseccomp
