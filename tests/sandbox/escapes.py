"""Plants native code where an escaped module would be, and lets it try to get out.

Run as a script: prints, as JSON, what each attempt said and how its process ended, first under the
whole jail, then without the seccomp filter, so that the layers below it are seen too.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from fogbank.sandbox import jail_shell
from fogbank.sandbox.seccomp_shell import Filter

LIBC = ctypes.CDLL(None, use_errno=True)
MEGABYTE = 1 << 20
MEMORY = 512 * MEGABYTE


def use_memory() -> None:
    """What a program is allowed to do."""
    region = mmap.mmap(-1, MEGABYTE)
    region[:4] = b"good"
    region.close()


def load_code() -> None:
    region = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    region.close()


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


ALLOWED: dict[str, Callable[[], object]] = {"use memory": use_memory, "load code": load_code}
FORBIDDEN: dict[str, Callable[[], object]] = {
    "open a socket": socket.socket,
    "open a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "read /proc": lambda: os.open("/proc/self/maps", os.O_RDONLY),
    "write a file": lambda: os.open("/tmp/planted", os.O_WRONLY | os.O_CREAT),
    "list the root": lambda: list(Path("/").iterdir()),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/sh", ["sh"]),
    "kill the launcher": lambda: os.kill(1, signal.SIGKILL),
    "kill everything": lambda: os.kill(-1, signal.SIGKILL),
    "signal the launcher's thread": lambda: checked(LIBC.syscall(234, 1, 1, 9)),
    "trace the launcher": lambda: checked(LIBC.ptrace(16, 1, 0, 0)),
    "read another's memory": lambda: checked(LIBC.process_vm_readv(1, 0, 0, 0, 0, 0)),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "make a descriptor": os.pipe,
    "copy its channel": lambda: os.dup(0),
    "make a memory file": lambda: os.memfd_create("planted"),
    "become root": lambda: os.setuid(0),
    "leave the namespace": lambda: checked(LIBC.unshare(0x1000_0000)),
    "mount": lambda: checked(LIBC.mount(b"none", b"/", b"tmpfs", 0, 0)),
    "loosen its filter": lambda: checked(LIBC.prctl(22, 0, 0, 0, 0)),
    "load a program into the kernel": lambda: checked(LIBC.syscall(321, 0, 0, 0)),
}


def attempt(action: Callable[[], object], confine: Callable[[], object]) -> tuple[str, int]:
    """Try something in a jailed process: its last word, and how it ended."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        # Whatever happens, the child must not go on with its parent's work.
        try:
            jail_shell.close_all_but(theirs.fileno())
            confine()
            os.write(0, b"jailed ")
            action()
            os.write(0, b"done")
        except BaseException as error:  # noqa: BLE001 -- told to the parent
            os.write(0, type(error).__name__.encode())
        finally:
            os._exit(0)
    theirs.close()
    words = bytearray()
    while part := ours.recv(100):
        words += part
    ours.close()
    return words.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def below_the_filter() -> dict[str, object]:
    """What the layers below the filter leave, seen from inside them."""

    def fails(action: Callable[[], object]) -> str:
        try:
            action()
        except OSError as error:
            return type(error).__name__
        return "done"

    return {
        "uid": list(os.getresuid()),
        "descriptors": [fd for fd in range(1024) if fails(lambda fd=fd: os.fstat(fd)) == "done"],  # type: ignore[misc]
        "fork": fails(os.fork),
        "open": fails(lambda: os.open("/etc/passwd", os.O_RDONLY)),
        "socket": fails(socket.socket),
        "memory": fails(lambda: mmap.mmap(-1, 2 * MEMORY, flags=mmap.MAP_PRIVATE)),
        "addresses": fails(lambda: mmap.mmap(-1, 9 * MEMORY, prot=mmap.PROT_READ)),
        "become root": fails(lambda: os.setuid(0)),
        "unshare": fails(lambda: checked(LIBC.unshare(0x0400_0000))),
        "root": fails(Path("/etc").stat),
        "parent": os.getppid(),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "file size": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
    }


def main() -> None:
    extent = jail_shell.own_extent().plus(8 * MEMORY, MEMORY)
    binding = jail_shell.Binding(extent, 10, Filter())
    layers = [(layer.name, layer.active) for layer in jail_shell.isolate()]
    pid = os.fork()
    if pid:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def tell() -> None:
        os.write(0, json.dumps(below_the_filter()).encode())

    below = attempt(tell, binding.limit)[0].removeprefix("jailed ").removesuffix("done")
    found = {
        "layers": layers,
        "allowed": {name: attempt(action, binding.bind) for name, action in ALLOWED.items()},
        "forbidden": {name: attempt(action, binding.bind) for name, action in FORBIDDEN.items()},
        "below": json.loads(below),
    }
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
