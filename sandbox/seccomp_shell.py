"""The system calls that a jailed process may make. The only module that knows pyseccomp."""

import os

import pyseccomp

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
        self._filter = pyseccomp.SyscallFilter(defaction=pyseccomp.KILL_PROCESS)
        for name in COMMON:
            self._filter.add_rule(pyseccomp.ALLOW, name)

    def load(self) -> None:
        """Bind this process to the filter, for good. Raises OSError."""
        # So that an abort shows as what it is; no other process can be reached thus.
        self._filter.add_rule(
            pyseccomp.ALLOW, "tgkill", pyseccomp.Arg(0, pyseccomp.EQ, os.getpid())
        )
        self._filter.load()
