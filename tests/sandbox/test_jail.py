"""The jail holds: native code planted in it gets nowhere (spec/07 §8)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox import jail_shell, kernel_shell
from fogbank.sandbox.jail import MANDATORY, OPTIONAL
from tests.sandbox.escapes import ALLOWED, FORBIDDEN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def escapes() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sandbox.escapes"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_program_needs_is_allowed(escapes: dict[str, Any], name: str) -> None:
    assert escapes["allowed"][name] == ["jailed done", 0]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_planted_code_is_killed_when_it_tries(escapes: dict[str, Any], name: str) -> None:
    assert escapes["forbidden"][name] == ["jailed ", -signal.SIGSYS]


def test_without_the_filter_the_other_layers_hold(escapes: dict[str, Any]) -> None:
    below = escapes["below"]
    assert below["descriptors"] == [jail_shell.CHANNEL]
    assert below["core"] == below["file size"] == 0
    for attempt in ("fork", "open", "socket", "memory", "addresses", "become root", "unshare"):
        assert below[attempt] != "done", attempt
    active = {name for name, is_active in escapes["layers"] if is_active}
    assert ("empty_root" in active) == (below["root"] == "FileNotFoundError")
    if "pid_namespace" in active:
        assert below["parent"] == 1
    assert len(set(below["uid"])) == 1
    assert below["uid"][0] != 0


def test_every_layer_is_reported_by_a_known_name(escapes: dict[str, Any]) -> None:
    names = [name for name, _ in escapes["layers"]]
    assert set(names) == set(MANDATORY + OPTIONAL) - {"seccomp", "rlimits", "landlock"}
    assert len(names) == len(set(names))


@contextmanager
def kernel_without(
    monkeypatch: pytest.MonkeyPatch, euid: int, *missing: str
) -> Iterator[list[str]]:
    """A kernel whose calls are recorded, and some of which fail."""
    calls: list[str] = []

    def call(name: str) -> Any:
        def record(*arguments: object) -> int:
            calls.append(name if name != "unshare" else f"unshare {arguments[0]:#x}")
            if name in missing or calls[-1] in missing:
                raise PermissionError(1, f"{name}: not permitted")
            return 0

        return record

    for name in ("prctl", "unshare", "mount", "pivot_root_here", "drop_capabilities"):
        monkeypatch.setattr(kernel_shell, name, call(name))
    monkeypatch.setattr(jail_shell, "_enter_user_namespace", call("user namespace"))
    monkeypatch.setattr(jail_shell, "_become_nobody", call("become nobody"))
    monkeypatch.setattr(os, "chdir", call("chdir"))
    monkeypatch.setattr(os, "chroot", call("chroot"))
    monkeypatch.setattr(Path, "mkdir", call("mkdir"))
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    yield calls


def states() -> dict[str, bool]:
    return {layer.name: layer.active for layer in jail_shell.isolate()}


def test_root_leaves_the_namespaces_before_it_becomes_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with kernel_without(monkeypatch, 0) as calls:
        assert [name for name, active in states().items() if not active] == ["user_namespace"]
    assert calls.index("become nobody") > calls.index("chroot") > calls.index("pivot_root_here")
    assert "user namespace" not in calls


def test_root_without_rights_goes_by_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel_without(monkeypatch, 0, "unshare 0x40000000") as calls:
        found = states()
    assert found["user_namespace"]
    assert not found["network_namespace"]
    assert calls.index("become nobody") < calls.index("user namespace")


def test_nothing_is_mounted_in_the_machines_own_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel_without(monkeypatch, 1000, "unshare 0x20000") as calls:
        found = states()
    assert not found["empty_root"]
    assert not found["mount_namespace"]
    assert not {"mount", "mkdir", "chroot"} & set(calls)


def test_a_kernel_without_namespaces_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ("unshare", "user namespace")
    with kernel_without(monkeypatch, 1000, *missing), kernel_without(monkeypatch, 1000, *missing):
        found = states()
    assert found["no_new_privs"]
    assert found["unprivileged_uid"]
    assert not any(active for name, active in found.items() if name.endswith("_namespace"))


def on_a_kernel_without(what: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "tests.sandbox.poor_kernel", what],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
        text=True,
    ).stdout


@pytest.mark.parametrize("layer", MANDATORY)
def test_without_a_mandatory_layer_there_is_no_sandbox(layer: str) -> None:
    said = on_a_kernel_without(layer)
    assert f"the layer {layer} of the jail is missing" in said
    assert "Traceback" not in said


def test_without_namespaces_jobs_run_in_the_layers_that_there_are() -> None:
    said = on_a_kernel_without("namespaces")
    assert said.startswith("hello\n")
    assert set(MANDATORY) <= set(said.split())
    assert "_namespace" not in said
