"""The import contracts hold, and break when they ought to."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = "fogbank.relay.planted"

CONTRACT = """
[tool.importlinter]
root_package = "fogbank"
include_external_packages = true
exclude_type_checking_imports = true
contract_types = ["pure_cores: pure_cores.PureCores"]

[[tool.importlinter.contracts]]
name = "pure"
type = "pure_cores"
rooms = ["fogbank.relay"]
impure = ["time", "trio"]
"""


def lint(folder: Path, *options: str) -> tuple[int, str]:
    """Run import-linter in a folder: its exit code, and what it printed with lines unwrapped."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache", *options],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT / 'tools'}", "COLUMNS": "200"},
        text=True,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def plant(folder: Path, **modules: str) -> tuple[int, str]:
    """Lint a small `fogbank` whose relay room holds these modules."""
    room = folder / "fogbank" / "relay"
    room.mkdir(parents=True)
    (folder / "fogbank" / "__init__.py").touch()
    (room / "__init__.py").touch()
    for name, source in modules.items():
        (room / f"{name}.py").write_text(source)
    (folder / "contract.toml").write_text(CONTRACT)
    return lint(folder, "--config", "contract.toml")


def test_the_tree_keeps_every_contract() -> None:
    code, said = lint(ROOT)
    assert code == 0, said
    assert "2 kept, 0 broken" in said


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import time\n", "time"),
        ("def later() -> None:\n    from trio.lowlevel import checkpoint\n", "trio"),
        ("from fogbank.relay import link_shell\n", "fogbank.relay.link_shell"),
    ],
)
def test_an_impure_core_breaks_the_contract(tmp_path: Path, source: str, imported: str) -> None:
    line = len(source.splitlines())
    code, said = plant(tmp_path, planted=source, link_shell="import time\n")
    assert code == 1, said
    assert f"{CORE} -> {imported} (l.{line})" in said


def test_a_name_that_only_ends_like_a_shell_is_a_core(tmp_path: Path) -> None:
    code, said = plant(tmp_path, seashell="import time\n")
    assert code == 1, said
    assert "fogbank.relay.seashell -> time" in said


def test_shells_may_import_all_that(tmp_path: Path) -> None:
    code, said = plant(
        tmp_path,
        shell="import time, trio\nfrom fogbank.relay import link_shell\n",
        link_shell="import time\n",
        planted="import struct\n",
    )
    assert code == 0, said


def test_an_import_for_type_checking_is_none(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import trio\n"
    code, said = plant(tmp_path, planted=source)
    assert code == 0, said


def cores() -> Iterator[Path]:
    """All modules of the rooms that are no shells."""
    for room in ("relay", "directory", "client", "sandbox"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.name != "shell.py" and not path.name.endswith("_shell.py"):
                yield path


def test_a_core_never_waits() -> None:
    """Sealing and queueing a cell are one step, since nothing in a core can be interrupted."""
    checked = 0
    for path in cores():
        checked += 1
        for node in ast.walk(ast.parse(path.read_text())):
            waits = isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
            assert not waits, f"{path.relative_to(ROOT)} waits"
    assert checked > 50
