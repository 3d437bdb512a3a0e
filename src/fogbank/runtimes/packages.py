"""Fetches packages by the registries' ordinary clients, and reads files out of them.

A package is taken only with the SHA-256 that its caller names, before anything in it is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

_SECONDS = 600.0
_WORDS = 300


class RuntimeUnobtainable(Exception):
    """The runtime cannot be had here; the sentence says what to install or to do."""


def npm_package(name: str, version: str, digest: str) -> bytes:
    """Return the archive of a package of the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeUnobtainable(
            f"the package {name} is fetched by npm, which is not installed. On Debian and Ubuntu:"
            " apt-get install npm"
        )
    return _fetched(f"{name} {version}", digest, npm, "pack", "--silent", f"{name}@{version}")


def pypi_source(name: str, version: str, digest: str) -> bytes:
    """Return the source archive of a package of the Python package index."""
    return _from_pypi(name, version, digest, "--no-binary")


def pypi_wheel(name: str, version: str, digest: str) -> bytes:
    """Return the wheel, for any machine, of a package of the Python package index."""
    return _from_pypi(name, version, digest, "--only-binary")


def _from_pypi(name: str, version: str, digest: str, form: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fogbank-") as folder:
        wanted = Path(folder) / "wanted.txt"
        # pip looks at the hash first: nothing of another archive is run, not even its setup.
        wanted.write_text(f"{name}=={version} --hash=sha256:{digest}\n", encoding="utf-8")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet")
        options = ("--no-deps", form, name, "--require-hashes", "--requirement", str(wanted))
        return _fetched(f"{name} {version}", digest, *pip, *options)


def members(archive: bytes, sizes: dict[str, int]) -> dict[str, bytes]:
    """Return the files with these names in a tar or zip archive, each of at most `sizes` bytes.

    Nothing is unpacked to disk, so that no name in the archive matters but those asked for.
    Raises `RuntimeUnobtainable` if one is missing or larger.
    """
    file = io.BytesIO(archive)
    found = _in_zip(file, sizes) if zipfile.is_zipfile(file) else _in_tar(file, sizes)
    absent = sorted(sizes.keys() - found.keys())
    if absent:
        raise RuntimeUnobtainable(f"the package lacks {absent[0]}")
    return found


def _in_tar(file: io.BytesIO, sizes: dict[str, int]) -> dict[str, bytes]:
    found = {}
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:gz") as tar:
        for member in tar:
            if member.name in sizes and member.isreg() and member.size <= sizes[member.name]:
                stream = tar.extractfile(member)
                found[member.name] = b"" if stream is None else stream.read()
    return found


def _in_zip(file: io.BytesIO, sizes: dict[str, int]) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {
            member.filename: archive.read(member)
            for member in archive.infolist()
            if member.filename in sizes and member.file_size <= sizes[member.filename]
        }


def _fetched(what: str, digest: str, *command: str) -> bytes:
    """Run a client that leaves one archive in its folder; return the archive."""
    with tempfile.TemporaryDirectory(prefix="fogbank-") as folder:
        run(f"the package {what} could not be fetched", Path(folder), *command)
        files = [path for path in Path(folder).iterdir() if path.is_file()]
        data = files[0].read_bytes() if len(files) == 1 else b""
    if hashlib.sha256(data).hexdigest() != digest:
        raise RuntimeUnobtainable(f"the package {what} is not the one that this release knows")
    return data


def run(failure: str, folder: Path, *command: str, **environment: str) -> None:
    """Run a command in `folder`; raise `RuntimeUnobtainable` with its last words if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeUnobtainable(f"{failure} within {_SECONDS:g} s") from None
    except OSError as error:
        raise RuntimeUnobtainable(f"{failure}: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").split()
        raise RuntimeUnobtainable(f"{failure}: {' '.join(said)[:_WORDS]}")
