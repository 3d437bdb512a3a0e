"""The promises of the specification: each names its faults, and a test that is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
PAGES = sorted(SPEC.glob("[0-9][0-9]-*.md"))
PARTS = [page for page in PAGES if not page.name.startswith("00")]
NAMED = re.compile(r"`(tests/[^`\s]*)`")
PROMISES = ["promise", "under which faults", "test"]
BUG_CLASSES = ["bug class", "what is promised", "test"]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the tests of a file: functions, classes, `Class.method`, and state machines' cases."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods} | {node.name}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute):
            # A rule-based machine is collected as `Name = Machine.TestCase`.
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return frozenset(name for name in found if name.lower().startswith("test"))


def missing(name: str) -> str:
    """Return what is wrong with a test's name, or nothing."""
    place, _, test = name.partition("::")
    path = ROOT / place
    if not path.exists():
        return f"{name}: there is no {place}"
    if test and test not in names_in(path):
        return f"{name}: {place} has no test of this name"
    return ""


def table(page: Path, header: list[str]) -> list[list[str]]:
    """Return the rows of the page's tables that have this header."""
    rows: list[list[str]] = []
    inside = False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == header:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            rows.append(cells)
    return rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    names = NAMED.findall(page.read_text())
    assert [complaint for name in names if (complaint := missing(name))] == []


@pytest.mark.parametrize("page", PARTS, ids=lambda page: page.stem)
def test_every_part_promises_and_names_its_tests(page: Path) -> None:
    rows = table(page, PROMISES)
    assert len(rows) >= 4
    for row in rows:
        assert len(row) == 3, row
        assert all(row), f"an empty cell: {row}"
        assert any("::" in name for name in NAMED.findall(row[2])), f"no test is named: {row}"


def test_every_bug_class_has_a_test_or_a_reason() -> None:
    rows = table(SPEC / "00-overview.md", BUG_CLASSES)
    assert len(rows) > 30
    for row in rows:
        assert len(row) == 3, row
        assert all(row), f"an empty cell: {row}"
        named = any("::" in name for name in NAMED.findall(row[2]))
        assert named or row[2].startswith("none: "), f"neither a test nor a reason: {row}"


@pytest.mark.parametrize(
    "name",
    [
        "tests/nowhere.py",
        "tests/nowhere.py::test_a",
        "tests/architecture/test_spec.py::test_a",
        "tests/architecture/test_spec.py::missing",
    ],
)
def test_a_name_that_is_not_there_is_found(name: str) -> None:
    assert missing(name)
    assert not missing("tests/architecture/test_spec.py::test_a_name_that_is_not_there_is_found")
