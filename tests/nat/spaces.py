"""Network namespaces: an outside, a router that translates addresses, and a home behind it.

    outside ── 198.18.0.0/24 ── router (masquerades) ── 192.168.77.0/24 ── home

All three have names of their own and are removed whatever happens; nothing touches the network of
the machine itself. Where namespaces or the router's rules cannot be had, tests are skipped with the
reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.toolchains import absent

LINE = "198.18.0"
AWAY = f"{LINE}.1"
HOME_NETWORK = "192.168.77"
ROUTER_INSIDE = f"{HOME_NETWORK}.1"
_RULES = """
table ip home {
  chain out {
    type nat hook postrouting priority 100
    oifname "line" masquerade
  }
  chain through {
    type filter hook forward priority 0
    policy drop
    ct state invalid drop
    ct state established,related accept
    iifname "inside" accept
  }
}
"""


class Refused(Exception):
    """A command did not do what it should; the message says which, and why."""


def run(*command: str, stdin: str = "") -> None:
    """Run a command of the system."""
    done = subprocess.run(
        command, input=stdin, text=True, capture_output=True, check=False, timeout=30
    )
    if done.returncode:
        raise Refused(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


@dataclass
class Spaces:
    """Three namespaces. `host` is the last number of the router's address on its line."""

    tag: str = field(default_factory=lambda: f"fog{os.getpid()}")
    host: int = 2

    @property
    def outside(self) -> str:
        return f"{self.tag}-outside"

    @property
    def router(self) -> str:
        return f"{self.tag}-router"

    @property
    def home(self) -> str:
        return f"{self.tag}-home"

    def enter(self, space: str) -> list[str]:
        """Return what a command begins with that is to run there."""
        return ["ip", "netns", "exec", space]

    def make(self) -> None:
        """Make all three, and the lines between them."""
        for space in (self.outside, self.router, self.home):
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        self._wire("line", self.outside, "line")
        self._wire("inside", self.home, "net0")
        run("ip", "-n", self.outside, "address", "add", f"{AWAY}/24", "dev", "line")
        run("ip", "-n", self.outside, "link", "set", "line", "up")
        run("ip", "-n", self.router, "address", "add", f"{ROUTER_INSIDE}/24", "dev", "inside")
        run("ip", "-n", self.router, "link", "set", "inside", "up")
        run(*self.enter(self.router), "nft", "-f", "-", stdin=_RULES)
        self._set("net/ipv4/ip_forward", "1")
        # What it has not seen begin it does not translate, as most routers.
        self._set("net/netfilter/nf_conntrack_tcp_loose", "0")
        self._dial_in()
        self.connect(2)

    def _wire(self, name: str, far: str, far_name: str) -> None:
        link = ("ip", "-n", self.router, "link", "add", name, "type", "veth")
        run(*link, "peer", "name", far_name, "netns", far)

    def _set(self, key: str, value: str) -> None:
        run(*self.enter(self.router), "sh", "-c", f"echo {value} > /proc/sys/{key}")

    def _dial_in(self) -> None:
        address = f"{LINE}.{self.host}/24"
        run("ip", "-n", self.router, "address", "add", address, "dev", "line")
        run("ip", "-n", self.router, "link", "set", "line", "up")
        run("ip", "-n", self.router, "route", "add", "default", "via", AWAY)

    def add_host(self, host: str) -> None:
        """Give the outside one more address."""
        run("ip", "-n", self.outside, "address", "add", f"{host}/32", "dev", "lo")

    def renumber(self) -> None:
        """Give the router another address; it forgets the connections that went by the old one.

        At home nobody is told.
        """
        run("ip", "-n", self.router, "link", "set", "line", "down")
        run("ip", "-n", self.router, "address", "flush", "dev", "line")
        self.host += 1
        self._dial_in()

    def connect(self, host: int) -> None:
        """Have the home's machine go online under this address."""
        run("ip", "-n", self.home, "address", "flush", "dev", "net0")
        run("ip", "-n", self.home, "address", "add", f"{HOME_NETWORK}.{host}/24", "dev", "net0")
        run("ip", "-n", self.home, "link", "set", "net0", "up")
        run("ip", "-n", self.home, "route", "add", "default", "via", ROUTER_INSIDE)

    def disconnect(self) -> None:
        """Take the home's machine offline."""
        run("ip", "-n", self.home, "link", "set", "net0", "down")

    def remove(self) -> None:
        """Remove whatever there is of them."""
        for space in (self.router, self.home, self.outside):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


@contextmanager
def home_behind_router() -> Iterator[Spaces]:
    """Make the namespaces for a block, or skip the test with the reason."""
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            absent(f"`{tool}` is missing: install iproute2 and nftables to test behind a router")
    if os.geteuid():
        pytest.skip("only root may make network namespaces")
    spaces = Spaces()
    try:
        try:
            spaces.make()
        except Refused as error:
            # What the kernel lacks, no installation brings.
            pytest.skip(f"this system lets nobody make a network behind a router: {error}")
        yield spaces
    finally:
        spaces.remove()
