"""What native code tries that is planted in a jailed process: system calls of x86-64.

What is `refused` must get nowhere, whichever layer meets it first. With the filter most of it ends
the process at once; what the filter lets through must fail. What is `ended` is ended by the filter,
and without it does no harm.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.sandbox.native import Call, Poke, Step, Value, call

LAST, STACK, COUNT = Value.LAST, Value.STACK, Value.COUNT

READ, WRITE, OPEN, CLOSE, STAT, MMAP, IOCTL = 0, 1, 2, 3, 4, 9, 16
DUP, GETPID, SOCKET, CONNECT, SENDTO, SENDMSG, BIND = 32, 39, 41, 42, 44, 46, 49
CLONE, FORK, VFORK, EXECVE, EXIT, KILL = 56, 57, 58, 59, 60, 62
PTRACE, SETUID, GETPPID, PRCTL, SETRLIMIT, CHROOT = 101, 105, 110, 157, 160, 161
MOUNT, TGKILL, SYSTEM_EXIT, UNSHARE = 165, 234, 231, 272
READV, WRITEV, EXECVEAT, CLONE3 = 310, 311, 322, 435
PIDFD_OPEN, PIDFD_SIGNAL, PIDFD_GETFD = 434, 424, 438

X32 = 1 << 30
CHANNEL = 0


@dataclass(frozen=True)
class Around:
    """What there is to reach: a listener on this machine, and another jailed process.

    The process's number is the one by which jailed processes would see it.
    """

    port: int
    socket_name: bytes
    sibling: int


def refused(around: Around) -> dict[str, tuple[Step, ...]]:
    """All that must fail with and without the filter, by name."""
    return {
        **_files(),
        **_sockets(around),
        **_processes(),
        **_others("the launcher", (call(GETPPID),), LAST),
        **_others("another job", (), around.sibling),
        **_rights(),
        **dict(_descriptors()),
        **_kernel(),
    }


def _files() -> dict[str, tuple[Step, ...]]:
    path = b"/etc/passwd\0"
    return {
        "open a file": (call(OPEN, path, 0),),
        "open a file by openat2": (call(437, -100, path, bytes(24), 24),),
        "make a file": (call(OPEN, b"/planted\0", 0o102, 0o600),),
        "make a file in /tmp": (call(OPEN, b"/tmp/planted\0", 0o102, 0o600),),
        "make a nameless file": (call(OPEN, b"/\0", 0o20200002, 0o600),),
        "look at a file": (call(STAT, path, STACK),),
        "list the root": (call(OPEN, b"/\0", 0o200000), call(217, LAST, STACK, 4096)),
        "read /proc": (call(OPEN, b"/proc/self/maps\0", 0),),
        "look at the launcher in /proc": (call(STAT, b"/proc/1\0", STACK),),
        "write the launcher's memory": (call(OPEN, b"/proc/1/mem\0", 2),),
        "open a device": (call(OPEN, b"/dev/mem\0", 2),),
        "remove a file": (call(87, path),),
        "make a folder": (call(83, b"/planted\0", 0o700),),
        "make a link": (call(88, path, b"/planted\0"),),
        "make a device": (call(133, b"/planted\0", 0o020600, 0x0101),),
        "change a file's rights": (call(90, path, 0o777),),
        "mount": (call(MOUNT, b"none\0", b"/\0", b"tmpfs\0", 0, b"\0"),),
        "take a mount away": (call(166, b"/\0", 2),),
        "change the root": (call(CHROOT, b"/\0"),),
        "pivot the root": (call(155, b".\0", b".\0"),),
        "open a file by handle": (call(304, -100, bytes(16), 0),),
    }


def _sockets(around: Around) -> dict[str, tuple[Step, ...]]:
    inet = struct.pack("<H", 2) + struct.pack(">H", around.port) + bytes([127, 0, 0, 1]) + bytes(8)
    local = struct.pack("<H", 1) + b"\0" + around.socket_name
    return {
        "open a socket": (call(SOCKET, 2, 1, 0),),
        "connect": (call(SOCKET, 2, 1, 0), call(CONNECT, LAST, inet, len(inet))),
        "connect to a local socket": (
            call(SOCKET, 1, 1, 0),
            call(CONNECT, LAST, local, len(local)),
        ),
        "open a packet socket": (call(SOCKET, 17, 3, 0),),
        "speak to the kernel by netlink": (call(SOCKET, 16, 3, 0),),
        "open a vsock": (call(SOCKET, 40, 1, 0),),
        "make a pair of sockets": (call(53, 1, 1, 0, STACK),),
        "connect its channel elsewhere": (call(CONNECT, CHANNEL, inet, len(inet)),),
        "listen": (call(SOCKET, 2, 1, 0), call(BIND, LAST, inet, len(inet)), call(50, LAST, 1)),
    }


def _processes() -> dict[str, tuple[Step, ...]]:
    shell = b"/bin/sh\0"
    zeros = _zeros(88)
    return {
        "fork": (call(FORK),),
        "vfork": (call(VFORK),),
        "clone": (call(CLONE, signal.SIGCHLD, 0, 0, 0, 0),),
        "start a thread": (call(CLONE, 0x0001_0F00, STACK, 0, 0, 0),),
        "clone3": (*zeros, Poke(32, signal.SIGCHLD), call(CLONE3, STACK, 88)),
        "clone3 into a new user namespace": (
            *zeros,
            Poke(0, 1 << 28),
            Poke(32, signal.SIGCHLD),
            call(CLONE3, STACK, 88),
        ),
        "exec": (call(EXECVE, shell, 0, 0),),
        "execveat": (call(EXECVEAT, -100, shell, 0, 0, 0),),
        "exec its channel": (call(EXECVEAT, CHANNEL, b"\0", 0, 0, 0x1000),),
        "load a library": (call(134, shell),),
    }


def _zeros(size: int) -> tuple[Step, ...]:
    return tuple(Poke(offset, 0) for offset in range(0, size, 8))


def _others(whom: str, find: tuple[Step, ...], pid: int | Value) -> dict[str, tuple[Step, ...]]:
    """What reaches for another process: the last answer is its number, if `pid` is LAST."""
    # Somewhere in it that is mapped: processes forked from one have their stacks in one place.
    vectors = (Poke(0, STACK), Poke(8, 16))
    pidfd = (*find, call(PIDFD_OPEN, pid, 0))
    return {
        f"kill {whom}": (*find, call(KILL, pid, 9)),
        f"kill {whom}'s thread": (*find, call(200, pid, 9)),
        f"queue a signal to {whom}": (*find, Poke(0, 9), Poke(8, -1), call(129, pid, 9, STACK)),
        f"stop {whom}": (*find, call(KILL, pid, signal.SIGSTOP)),
        f"signal {whom} by a descriptor": (*pidfd, call(PIDFD_SIGNAL, LAST, 9, 0, 0)),
        f"take a descriptor of {whom}": (*pidfd, call(PIDFD_GETFD, LAST, 0, 0)),
        f"trace {whom}": (*find, call(PTRACE, 16, pid, 0, 0)),
        f"seize {whom}": (*find, call(PTRACE, 0x4206, pid, 0, 0)),
        f"read the memory of {whom}": (*vectors, *find, call(READV, pid, STACK, 1, STACK, 1, 0)),
        f"write the memory of {whom}": (*vectors, *find, call(WRITEV, pid, STACK, 1, STACK, 1, 0)),
        f"compare kernel objects with {whom}": (*find, call(312, pid, pid, 0, 0, 0)),
        f"advise on the memory of {whom}": (*pidfd, *vectors, call(440, LAST, STACK, 1, 4, 0)),
        f"move the pages of {whom}": (*find, call(256, pid, 64, STACK, STACK)),
    }


def _rights() -> dict[str, tuple[Step, ...]]:
    return {
        "become root": (call(SETUID, 0),),
        "become root by setresuid": (call(117, 0, 0, 0),),
        "take another group": (call(106, 0),),
        "take more groups": (call(116, 1, bytes(4)),),
        "take a capability": (Poke(0, 0x2008_0522), call(126, STACK, b"\xff" * 24)),
        "take an ambient capability": (call(PRCTL, 47, 2, 21, 0, 0),),
        "switch its filter off": (call(PRCTL, 22, 0, 0, 0, 0),),
        "let programs gain rights again": (call(PRCTL, 38, 0, 0, 0, 0),),
        "raise a limit": (call(SETRLIMIT, 7, struct.pack("<QQ", 64, 64)),),
        "raise a limit by prlimit": (call(302, 0, 6, struct.pack("<QQ", 64, 64), 0),),
        "enter a new user namespace": (call(UNSHARE, 1 << 28),),
        "enter a new network namespace": (call(UNSHARE, 1 << 30),),
        "enter a new mount namespace": (call(UNSHARE, 1 << 17),),
        "enter another's namespace": (*(call(PIDFD_OPEN, 1, 0), call(308, LAST, 1 << 30)),),
        "change the host's name": (call(170, b"planted", 7),),
        "set the clock": (call(227, 0, bytes(16)),),
        "reboot": (call(169, 0xFEE1_DEAD, 0x2812_1969, 0x1234_567, 0),),
        "lock memory": (call(149, STACK, 4096),),
    }


def _descriptors() -> Iterator[tuple[str, tuple[Step, ...]]]:
    """New descriptors: beside the channel, and in its place once it is closed."""
    making: dict[str, tuple[Step, ...]] = {
        "a copy of its channel": (call(DUP, CHANNEL),),
        "a copy elsewhere": (call(33, CHANNEL, 9),),
        "a copy by fcntl": (call(72, CHANNEL, 0, 9),),
        "a pipe": (call(22, STACK),),
        "a memory file": (call(319, b"planted\0", 0),),
        "a secret memory file": (call(447, 0),),
        "an event's": (call(290, 0, 0),),
        "a timer's": (call(283, 0, 0),),
        "a signal's": (call(289, -1, bytes(8), 8, 0),),
        "an epoll": (call(291, 0),),
        "a watch on files": (call(294, 0),),
        "a watch on the system": (call(300, 0, 0),),
        "a process's own": (call(GETPID), call(PIDFD_OPEN, LAST, 0)),
        "an io_uring": (*_zeros(120), call(425, 1, STACK)),
        "a userfaultfd": (call(323, 1),),
        "a map in the kernel": (call(321, 0, struct.pack("<IIII", 2, 4, 4, 1), 16),),
        "a counter of events": (call(298, b"\1\0\0\0\x70" + bytes(107), 0, -1, -1, 0),),
        "a message queue": (call(240, b"planted\0", 0o102, 0o600, 0),),
        "a Landlock ruleset": (call(444, struct.pack("<Q", 1), 8, 0),),
        "an open tree of mounts": (call(428, -100, b"/\0", 1),),
        "a file system": (call(430, b"tmpfs\0", 0),),
    }
    for name, steps in making.items():
        yield f"make {name}", steps
    for name in ("a memory file", "an event's", "an io_uring", "a userfaultfd"):
        told = (call(CLOSE, CHANNEL), *making[name], call(SYSTEM_EXIT, Value.ERROR))
        yield f"make {name} in its channel's place", told
    told = (call(CLOSE, CHANNEL), call(SOCKET, 2, 1, 0), call(SYSTEM_EXIT, Value.ERROR))
    yield "open a socket in its channel's place", told
    # The launcher's, a zygote's, and any other that was left open.
    yield "write to any other descriptor", (call(WRITE, COUNT, b"planted", 7),)
    yield "send by any other descriptor", (call(SENDTO, COUNT, b"planted", 7, 0, 0, 0),)
    yield "read from any other descriptor", (call(READ, COUNT, STACK, 1),)
    yield "map any descriptor", (call(MMAP, 0, 4096, 1, 2, COUNT, 0),)
    yield "map its channel", (call(MMAP, 0, 4096, 1, 2, CHANNEL, 0),)


def _kernel() -> dict[str, tuple[Step, ...]]:
    return {
        "load a module": (call(175, bytes(64), 64, b"\0"),),
        "load another kernel": (call(246, 0, 0, 0, 0),),
        "read the kernel's log": (call(103, 3, STACK, 16),),
        "switch accounting on": (call(163, b"/planted\0"),),
        "set ports free": (call(172, 3),),
        "swap": (call(167, b"/planted\0", 0),),
        "ask for more than its memory": (call(MMAP, 0, 1 << 40, 3, 0x22, -1, 0),),
        "map the first page": (call(MMAP, 0, 4096, 3, 0x32, -1, 0),),
    }


def ended(around: Around) -> dict[str, tuple[Step, ...]]:
    """What the filter ends, and without it gains nothing."""
    return {
        # It ends itself, or may look at itself; no other process is the worse for it.
        "be dumpable again": (call(PRCTL, 4, 1, 0, 0, 0),),
        "be traced": (call(PTRACE, 0, 0, 0, 0),),
        "change its name": (call(PRCTL, 15, b"planted\0", 0, 0, 0),),
        "outlive its parent": (call(PRCTL, 1, 0, 0, 0, 0),),
        "end one thread": (call(EXIT, 0),),
        "find its channel's other end": (call(52, CHANNEL, STACK, b"\x10\0\0\0"),),
        "ask what its channel is": (call(IOCTL, CHANNEL, 0x541B, STACK),),
        # Everything that the launcher or another job would die of has an entry of its own above.
        "kill all": (call(KILL, -1, 9),),
        # In calls of other architectures other numbers are other calls.
        "write as an x32 program": (call(WRITE | X32, CHANNEL, b"", 0),),
        "fork as an x32 program": (call(FORK | X32),),
        "ask its number as a 32-bit program": (Call(20, (), gate=True),),
        "write as a 32-bit program": (Call(4, (CHANNEL, 0, 0), gate=True),),
        "exec as a 32-bit program": (Call(11, (0, 0, 0), gate=True),),
        "make a call that is none": (call(9999),),
        # Keys and System V's objects hold nothing of others and die with the worker's namespace.
        "keep a key": (call(250, 0, -3, 0),),
        "find shared memory": (call(29, 0x5EED, 4096, 0),),
        # These send nothing to anyone; the process is without its channel afterwards.
        "shut its channel": (call(48, CHANNEL, 0),),
        "send a descriptor": (call(SENDMSG, CHANNEL, bytes(56), 0),),
        "sleep": (call(35, bytes(16), 0),),
        "yield its turn": (call(24),),
        "wait for signals": (call(128, bytes(8), 0, bytes(16), 8),),
        "have an alarm": (call(37, 0),),
        "read another clock's adjustment": (call(159, bytes(208)),),
        "go by another personality": (call(135, 0x0040000),),
        "see who it is": (call(102),),
        "pin itself to a processor": (call(203, 0, 8, b"\1" + bytes(7)),),
    }
