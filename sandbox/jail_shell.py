"""Builds the jail (spec/07 §8): once for the launcher, then for each process that it forks.

The launcher leaves every namespace that the kernel lets it leave and becomes an ordinary user
without capabilities. A process that is to meet a client's bytes then closes all descriptors but
its channel, is bound by rlimits, and last by the seccomp filter.
"""

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fogbank.sandbox import kernel_shell as kernel
from fogbank.sandbox.jail import Layer
from fogbank.sandbox.seccomp_shell import Filter

NOBODY = 65534
CHANNEL = 0
"""The descriptor on which a jailed process speaks to the sandbox."""
_DESCRIPTORS = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16)
"""Above all that this process, or one that it forks, has open."""
_PDEATHSIG, _SIGKILL = kernel.PR_SET_PDEATHSIG, int(signal.SIGKILL)
_NAMESPACES = (
    ("mount_namespace", kernel.CLONE_NEWNS),
    ("network_namespace", kernel.CLONE_NEWNET),
    ("ipc_namespace", kernel.CLONE_NEWIPC),
    ("uts_namespace", kernel.CLONE_NEWUTS),
    ("pid_namespace", kernel.CLONE_NEWPID),
)
_INNER = "empty"
_NEW_ROOT = ("/tmp", "/mnt", "/proc", "/var")  # noqa: S108 -- a place to mount on, in private


def isolate() -> list[Layer]:
    """Leave the machine's namespaces, users and files behind, as far as the kernel allows.

    Works for root and for an ordinary user. Afterwards a fork is needed to be inside the new pid
    namespace. Returns a layer for each thing tried; raises nothing for those that fail.
    """
    layers = [_try("no_new_privs", partial(kernel.prctl, kernel.PR_SET_NO_NEW_PRIVS, 1))]
    if os.geteuid() == 0:
        # Root needs no user namespace to leave the others, unless root is not really root.
        privileged = _leave_all()
        if all(layer.active for layer in privileged):
            layers += [Layer("user_namespace", active=False, detail="root needs none"), *privileged]
            layers += [_try("empty_root", _empty_root), _try("unprivileged_uid", _become_nobody)]
        else:
            layers += [_try("unprivileged_uid", _become_nobody), *_leave_by_user_namespace()]
    else:
        layers += [Layer("unprivileged_uid", active=True), *_leave_by_user_namespace()]
    layers.append(_try("no_capabilities", kernel.drop_capabilities))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return layers


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends."""
    kernel.prctl(_PDEATHSIG, _SIGKILL)


class LayerMissing(Exception):
    """A layer that every jailed process must have cannot be had."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(f"{layer.name}: {layer.detail}")
        self.layer = layer


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of address space, and of memory among them that can be written."""

    addresses: int
    data: int

    def plus(self, addresses: int, data: int) -> "Extent":
        """Return an extent that is larger by so much."""
        return Extent(self.addresses + addresses, self.data + data)


def own_extent() -> Extent:
    """Return what this process has mapped."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    size = resource.getpagesize()
    return Extent(int(pages[0]) * size, int(pages[5]) * size)


def close_all_but(channel: int) -> None:
    """Close every descriptor but `channel`, which becomes `CHANNEL`."""
    if channel != CHANNEL:
        os.dup2(channel, CHANNEL)
    os.closerange(CHANNEL + 1, _DESCRIPTORS)


class Binding:
    """All that binds a process for good, made ready by the one that forks it.

    What a forked process need not think of, it need not touch: it shares the rest of its memory.
    """

    def __init__(self, extent: Extent, cpu_seconds: int, filtering: Filter) -> None:
        self._limits = _limits(extent, cpu_seconds)
        self._filtering = filtering

    def bind(self) -> str:
        """Bind this process; return why Landlock does not, empty if it does.

        From then on it can open nothing, its channel's number included, and so can wait for its
        channel by reading alone: poll and select want room for descriptors. Raises `LayerMissing`
        without one of the others.
        """
        die_with_parent()
        refused = ""
        try:
            # A domain of its own, so that it is shut off from other jailed processes too.
            kernel.enter_landlock_domain()
        except OSError as error:
            refused = str(error)
        name = "rlimits"
        try:
            self.limit()
            name = "seccomp"
            self._filtering.load()
        except (OSError, ValueError) as error:
            raise LayerMissing(Layer(name, active=False, detail=str(error))) from None
        return refused

    def limit(self) -> None:
        """Bound what this process can use, and nothing else. Raises OSError."""
        for number, bounds in self._limits:
            resource.setrlimit(number, bounds)


def binding_layers(refused: str) -> tuple[Layer, ...]:
    """Return the layers that a process has which `Binding.bind` bound, by what that returned."""
    landlock = Layer("landlock", active=not refused, detail=refused)
    return (landlock, Layer("rlimits", active=True), Layer("seccomp", active=True))


def _limits(extent: Extent, cpu_seconds: int) -> tuple[tuple[int, tuple[int, int]], ...]:
    """Return the rlimits of a process, of which this one may already have lower ones."""
    limits = []
    for number, value in (
        (resource.RLIMIT_AS, extent.addresses),
        (resource.RLIMIT_DATA, extent.data),
        (resource.RLIMIT_CPU, cpu_seconds),
        # Not even one in the channel's place, once that is closed.
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(number)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # A second between the two makes the kernel send a signal that says why.
        spare = 1 if number == resource.RLIMIT_CPU and least != hard else 0
        limits.append((number, (least, least + spare)))
    return tuple(limits)


def _try(name: str, action: Callable[[], object]) -> Layer:
    try:
        action()
    except OSError as error:
        return Layer(name, active=False, detail=str(error))
    return Layer(name, active=True)


def _leave_all() -> list[Layer]:
    return [_try(name, partial(kernel.unshare, flag)) for name, flag in _NAMESPACES]


def _leave_by_user_namespace() -> list[Layer]:
    """Leave the namespaces by way of a user namespace, in which this process has the right to."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    user = _try("user_namespace", _enter_user_namespace)
    left = _leave_all()
    if any(layer.name == "mount_namespace" and layer.active for layer in left):
        root = _try("empty_root", _empty_root)
    else:
        root = Layer("empty_root", active=False, detail="it needs a mount namespace")
    return [user, *left, root]


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny", encoding="ascii")
    (own / "uid_map").write_text(f"{NOBODY} {uid} 1", encoding="ascii")
    (own / "gid_map").write_text(f"{NOBODY} {gid} 1", encoding="ascii")


def _empty_root() -> None:
    """Put an empty file system that cannot be written in place of everything."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE, None)
    place = next(place for place in _NEW_ROOT if Path(place).is_dir())
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("none", place, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555")
    os.chdir(place)
    kernel.pivot_root_here()
    os.chdir("/")
    Path(_INNER).mkdir(0o555)
    kernel.mount("none", "/", None, flags | kernel.MS_REMOUNT | kernel.MS_RDONLY, None)
    # Who is not at the root of its mounts can make no user namespace, and be mighty in that.
    os.chroot(_INNER)
    os.chdir("/")


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
