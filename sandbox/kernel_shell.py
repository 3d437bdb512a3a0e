"""The few calls of the kernel that Python does not offer, by ctypes."""

import ctypes
import functools
import os
import platform
import struct
from collections.abc import Callable

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
"""Of one number on every architecture that is younger than Landlock's first system calls."""
_LANDLOCK_VERSION = 1
_LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many kinds of access to files each version knows; later ones know 16."""
_LANDLOCK_NETWORK, _LANDLOCK_SCOPES = 4, 6
"""The versions that first knew TCP, and sockets and signals of other domains; two kinds each."""
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x2008_0522
_LAST_CAPABILITY = 63
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *parameters: type) -> Callable[..., int]:
    """Return a C function that takes plain numbers and bytes, and returns a number."""
    function = _libc[name]
    function.argtypes, function.restype = parameters, ctypes.c_int
    return function


# What each jailed process calls is at hand: it shares the launcher's memory until it writes to it.
_word = ctypes.c_ulong
_prctl = _call("prctl", ctypes.c_int, _word, _word, _word, _word)
_landlock = _call("syscall", ctypes.c_long, ctypes.c_char_p, _word, _word)
_restrict = _call("syscall", ctypes.c_long, _word, _word)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int = 0) -> int:
    """Set or read an attribute of this process, as prctl does. Raises OSError."""
    return _checked(_prctl(option, value, 0, 0, 0), "prctl")


class FilterProgram:
    """A seccomp filter that is at hand: `instructions`, of 8 bytes each, may still be changed."""

    def __init__(self, program: bytes) -> None:
        self.instructions = ctypes.create_string_buffer(program, len(program))
        self._whole = _FilterProgram(len(program) // 8, ctypes.addressof(self.instructions))
        self._address = ctypes.addressof(self._whole)

    def bind(self) -> None:
        """Bind this process to it, for good. Raises OSError."""
        bound = _prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._address, 0, 0)
        _checked(bound, "seccomp")


def unshare(flags: int) -> None:
    """Leave a namespace for a new one. Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    """Mount a file system, or change a mount, as mount does. Raises OSError."""
    text = [item.encode() if item is not None else None for item in (source, target, kind, data)]
    result = _libc.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3])
    _checked(result, f"mount {target}")


def pivot_root_here() -> None:
    """Make the working directory, a mount point, the root, and drop the old one."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(0, f"pivot_root is not known on {platform.machine()}")
    _checked(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", ctypes.c_int(MNT_DETACH)), "umount2")


def drop_capabilities() -> None:
    """Give up every capability, and the way to regain one. Raises OSError."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            # Beyond the kernel's last capability, or without the right to drop from the set:
            # no_new_privs then keeps what the set still allows out of reach.
            break
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "capset")


@functools.cache
def landlock_rules() -> bytes:
    """Return all that this kernel's Landlock can deny. Raises OSError where there is none."""
    version = _checked(_landlock(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION), "landlock")
    files = (1 << _LANDLOCK_FILES.get(version, 16)) - 1
    network = 3 if version >= _LANDLOCK_NETWORK else 0
    scopes = 3 if version >= _LANDLOCK_SCOPES else 0
    return struct.pack("=QQQ", files, network, scopes)


def enter_landlock_domain() -> None:
    """Give up files, TCP, and whatever reaches processes outside, as far as the kernel knows how.

    Needs no_new_privs, and one descriptor for a moment. Raises OSError where there is no Landlock.
    """
    rules = landlock_rules()
    domain = _checked(_landlock(_LANDLOCK_CREATE, rules, len(rules), 0), "landlock")
    try:
        _checked(_restrict(_LANDLOCK_RESTRICT, domain, 0), "landlock")
    finally:
        os.close(domain)
