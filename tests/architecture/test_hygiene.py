"""The project's files say nothing of the machine that they were written on."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {"__pycache__", "dist", "demo-output"}
OF_ONE_MACHINE = re.compile(rb"/(?:home|Users|work)/\w|/root/[\w.]")
INDEX_ADDRESS = re.compile(r"^\s*(?:-i|-f|--(?:extra-)?index-url|--find-links)\b|://", re.MULTILINE)


def project_files() -> Iterator[Path]:
    """All files of the tree except what commands leave in it."""
    folders = [ROOT]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            hidden = entry.name.startswith(".") and entry.name != ".ci"
            if entry.is_symlink() or hidden or entry.name in NOT_OURS:
                continue
            if entry.is_dir():
                folders.append(entry)
            else:
                yield entry


def test_no_file_names_a_place_on_one_machine() -> None:
    files = list(project_files())
    assert ROOT / "pyproject.toml" in files
    found = {
        str(file.relative_to(ROOT)): match.group()
        for file in files
        if (match := OF_ONE_MACHINE.search(file.read_bytes()))
    }
    assert found == {}


def test_the_locks_name_no_index_and_hash_everything() -> None:
    for lock in ("run.txt", "dev.txt", "fuzz.txt"):
        text = (ROOT / "requirements" / lock).read_text()
        assert not INDEX_ADDRESS.search(text)
        pins = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
        assert len(pins) > 10
        assert all("==" in pin and "--hash=sha256:" in pin for pin in pins), lock
