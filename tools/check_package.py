"""Builds the distributions as a release would, and tries them as a user would.

The sdist is built from the tree and the wheel from the sdist; the wheel goes into a fresh
environment with the locked dependencies; every module that the tree has must be there and import;
`fog --version` must answer. A tree without symbolic links must be refused.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "fogbank"
ROOMS = ("sandbox", "relay", "directory", "client")
NEEDED_TO_BUILD = ("pyproject.toml", "README.md", "LICENSE", "tools", "src")

IMPORT_ALL = """
import importlib, pkgutil, fogbank
for module in pkgutil.walk_packages(fogbank.__path__, "fogbank."):
    importlib.import_module(module.name)
    print(module.name)
"""


class CheckError(Exception):
    """The distributions are wrong; the message says how."""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it printed; raise `CheckError` with its output if it fails."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        line = " ".join(map(str, command))
        raise CheckError(f"`{line}` ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def modules_of_tree() -> set[str]:
    """Names of all modules under `src/fogbank`, the links followed."""
    names = set()
    for folder in (PACKAGE, *(entry for entry in PACKAGE.iterdir() if entry.is_dir())):
        # Path.rglob stops at links, so it starts anew in each.
        for file in folder.rglob("*.py"):
            parts = ["fogbank", *file.relative_to(PACKAGE).with_suffix("").parts]
            names.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names - {"fogbank"}


def build(work: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it; return both paths."""
    dist = work / "dist"
    # Without isolation: the lock holds the build backend. With no --sdist or --wheel, `build`
    # makes the wheel out of the sdist.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT, cwd=work)
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        links = [member.name for member in archive if member.issym() or member.islnk()]
    if links:
        raise CheckError(f"the sdist holds links, which some unpackers refuse: {links}")
    return sdist, wheel


def install(wheel: Path, work: Path) -> Path:
    """Install a wheel and the locked dependencies afresh; return the environment's `bin`."""
    home = work / "venv"
    venv.create(home, with_pip=True)
    pip = (home / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install")
    lock = ROOT / "requirements" / "run.txt"
    # Of stem there is no wheel.
    wheels = ("--only-binary", ":all:", "--no-binary", "stem")
    run(*pip, "--require-hashes", *wheels, "-r", lock, cwd=work)
    run(*pip, "--no-deps", wheel, cwd=work)
    run(home / "bin" / "python", "-m", "pip", "check", cwd=work)
    return home / "bin"


def check_modules(binaries: Path, work: Path) -> int:
    """Import every installed module, compare with the tree, and return how many there are."""
    imported = set(run(binaries / "python", "-W", "error", "-c", IMPORT_ALL, cwd=work).split())
    expected = modules_of_tree()
    if imported != expected:
        raise CheckError(
            f"modules lost on the way: {sorted(expected - imported)}; "
            f"added on the way: {sorted(imported - expected)}"
        )
    absent = [room for room in ROOMS if f"fogbank.{room}" not in imported]
    if absent:
        raise CheckError(f"rooms absent from the wheel: {absent}")
    return len(imported)


def check_refusal(work: Path) -> None:
    """Require that a clone without symbolic links, each a text file instead, does not build."""
    clone = work / "clone"
    clone.mkdir()
    for name in NEEDED_TO_BUILD:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, clone / name)
    for room in ROOMS:
        link = clone / "src" / "fogbank" / room
        target = link.readlink()
        link.unlink()
        link.write_text(str(target))
    try:
        run(sys.executable, "-m", "build", "--no-isolation", "--wheel", clone, cwd=work)
    except CheckError as refusal:
        if "without symbolic links" in str(refusal):
            return
        raise
    raise CheckError("a clone without symbolic links built a package, which has no rooms in it")


def main() -> None:
    """Run all checks; exit with 1 and the reason when one fails."""
    with tempfile.TemporaryDirectory(prefix="fogbank-package-") as folder:
        work = Path(folder)
        try:
            sdist, wheel = build(work)
            print(f"built {sdist.name}, and {wheel.name} from it", flush=True)
            binaries = install(wheel, work)
            print("installed it with the locked dependencies", flush=True)
            print(f"imported {check_modules(binaries, work)} modules", flush=True)
            print(run(binaries / "fog", "--version", cwd=work).strip(), flush=True)
            check_refusal(work)
            print("a clone without symbolic links is refused")
        except CheckError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
