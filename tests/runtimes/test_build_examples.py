"""`examples/build.py` builds what it can, and says what to install for the rest."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_examples", EXAMPLES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("render", r"pip install 'fogbank\[languages\]'"),
        ("kmers", r"pip install 'fogbank\[languages\]'"),
        ("sudoku", r"pip install 'fogbank\[languages\]'"),
        ("align", r"Go 1.21 or newer: pip install 'fogbank\[languages\]'"),
        ("sat", r"rustup target add wasm32-wasip1; on Debian .* apt-get install"),
    ],
)
def test_a_missing_compiler_is_told_with_what_to_install(
    build: ModuleType, name: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(build, "_has_target", lambda *_: False)
    with pytest.raises(build.CompilerMissing, match=remedy):
        build.build(name, tmp_path)
    assert not list(tmp_path.glob("*.wasm"))


def test_an_unknown_example_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "build.py", "cobol", "--to", tmp_path / "built"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"there is no example cobol to build: render, kmers, sudoku" in done.stderr
    assert not (tmp_path / "built").exists()


def test_the_readme_names_every_example(build: ModuleType) -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    sources = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    for name in sources - {"README.md", "build.py"}:
        assert f"`{name}`" in readme or f"examples/{name}" in readme, name
    for name, (source, _) in build.EXAMPLES.items():
        assert (EXAMPLES / source).is_file()
        assert f"{name}.wasm" in readme
