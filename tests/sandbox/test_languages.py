"""Programs of real compilers and their libraries run (spec/07 §7)."""

from pathlib import Path

from fogbank.sandbox.data import whole
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from tests.sandbox.conftest import Compiler

SOURCES = Path(__file__).parent / "sources"
PROBE = Task(
    args=("probe", "a b", "ü"),
    env=(("COLOUR", "blue"),),
    stdin=b"one\ntwo\n",
    files=(("data/in.txt", b"first\nsecond\n"),),
    limits=Limits(memory=1 << 26),
)
PROBE_SAYS = """\
argument probe
argument a b
argument ü
environment blue
input one
input two
read first
read second
wrote 42 2.500
stat 0 8
rename 0, unlink 0, mkdir 0
entry .
entry ..
entry moved
entry sub
outside 1 1
year 2025
slept 5
too much 1
"""
LINKS = Task(files=(("data/in.txt", b"first"), ("secret", b"s")), limits=PROBE.limits)
LINKS_SAYS = """\
symlink ok
readlink 14
/tmp/soft: first
link 1 of 14 bytes
file 1 of 5 bytes
/tmp/loop: Symbolic link loop
/tmp/out: Capabilities insufficient
absolute Capabilities insufficient
/data/in.txt: through the link
hard link ok
names 2
/tmp/two: shared
names 0, bytes 6
directory Operation not permitted
later 1
utimensat ok
times 1000.5 2000.7
removed 300, rmdir ok
renumber ok
old Bad file descriptor
new y
shutdown Not a socket
allocated 30
"""


def run_here(module: bytes, task: Task) -> Result:
    engine = make_engine()
    runner = Runner(engine)
    runner.load(compile_module(engine, module))
    return runner.run(task)


async def test_a_c_program_finds_what_it_expects(compile_with_zig: Compiler) -> None:
    module = compile_with_zig(SOURCES / "probe.c", "cc", "-Os", "-s")
    async with open_sandbox(SandboxConfig(spares=0)) as sandbox, sandbox.open_job(module) as job:
        result = await job.run(PROBE)
    assert whole(result.stdout).decode() == PROBE_SAYS
    assert result.stderr == b"done\n"
    assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 7)
    here = run_here(module, PROBE)
    assert (here.stdout, here.fuel) == (result.stdout, result.fuel)


async def test_a_c_program_uses_links_times_listings_and_descriptors(
    compile_with_zig: Compiler,
) -> None:
    module = compile_with_zig(SOURCES / "links.c", "cc", "-Os", "-s")
    async with open_sandbox(SandboxConfig(spares=0)) as sandbox, sandbox.open_job(module) as job:
        results = [await job.run(LINKS) for _ in range(2)]
    here = run_here(module, LINKS)
    assert whole(here.stdout).decode() == LINKS_SAYS
    for result in results:
        assert result.succeeded
        assert (result.stdout, result.fuel) == (here.stdout, here.fuel)


def test_a_zig_program_finds_what_it_expects(compile_with_zig: Compiler) -> None:
    module = compile_with_zig(SOURCES / "sum.zig", "build-exe", "-OReleaseSmall")
    result = run_here(module, Task(args=("sum", "3"), stdin=b"3\n3\n-2\n40"))
    assert result.stdout == b"sum 44, wanted 2\n"
    assert result.succeeded
    failing = run_here(module, Task(args=("sum",), stdin=b"3\nx\n"))
    assert failing.exit_code == 1
    assert failing.stderr == b"error: InvalidCharacter\n"
