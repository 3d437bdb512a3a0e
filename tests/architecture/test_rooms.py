"""The rooms are reached in one way, and importing one loads none above it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "fogbank"
ROOMS = ("sandbox", "relay", "directory", "client")


def loaded_by(module: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after importing `module`."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, stdout=subprocess.PIPE, check=True
    )
    return set(done.stdout.split())


def python_files() -> Iterator[Path]:
    """All Python files of the project itself."""
    for folder in (*ROOMS, "src", "tests", "bench", "examples", "tools"):
        yield from (ROOT / folder).rglob("*.py")


def imported_names(source: str) -> set[str]:
    """First components of all that a source text imports absolutely."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_linked_into_the_package(room: str) -> None:
    link = PACKAGE / room
    assert (link / "__init__.py").is_file()
    # An unpacked sdist holds the rooms in the package alone.
    if (ROOT / room).exists():
        assert link.is_symlink()
        assert link.readlink() == Path("..", "..", room)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_nothing_of_its_own(room: str) -> None:
    assert imported_names((PACKAGE / room / "__init__.py").read_text()) == set()


def test_the_sandbox_loads_no_other_room_and_no_trio() -> None:
    loaded = loaded_by("fogbank.sandbox")
    assert "fogbank.sandbox" in loaded
    assert loaded.isdisjoint({"trio", "fogbank.relay", "fogbank.directory", "fogbank.client"})


def test_the_package_loads_no_room() -> None:
    loaded = loaded_by("fogbank")
    assert "fogbank" in loaded
    assert loaded.isdisjoint({"trio", *(f"fogbank.{room}" for room in ROOMS)})


def test_no_room_is_imported_by_its_bare_name() -> None:
    files = list(python_files())
    assert len(files) > len(ROOMS)
    bare = {
        str(file.relative_to(ROOT)): names
        for file in files
        if (names := imported_names(file.read_text()) & set(ROOMS))
    }
    assert bare == {}


def test_the_check_for_bare_names_sees_them() -> None:
    assert imported_names("import relay.cells\n") == {"relay"}
    assert imported_names("def f():\n    from client import paths\n") == {"client"}
    assert imported_names("from fogbank.relay import cells\n") == {"fogbank"}
