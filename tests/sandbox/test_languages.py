"""Programs of real compilers and their libraries run (spec/07 §7)."""

from pathlib import Path

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


def run_here(module: bytes, task: Task) -> Result:
    engine = make_engine()
    runner = Runner(engine)
    runner.load(compile_module(engine, module))
    return runner.run(task)


async def test_a_c_program_finds_what_it_expects(compile_with_zig: Compiler) -> None:
    module = compile_with_zig(SOURCES / "probe.c", "cc", "-Os", "-s")
    async with open_sandbox(SandboxConfig(spares=0)) as sandbox, sandbox.open_job(module) as job:
        result = await job.run(PROBE)
    assert result.stdout.decode() == PROBE_SAYS
    assert result.stderr == b"done\n"
    assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 7)
    here = run_here(module, PROBE)
    assert (here.stdout, here.fuel) == (result.stdout, result.fuel)


def test_a_zig_program_finds_what_it_expects(compile_with_zig: Compiler) -> None:
    module = compile_with_zig(SOURCES / "sum.zig", "build-exe", "-OReleaseSmall")
    result = run_here(module, Task(args=("sum", "3"), stdin=b"3\n3\n-2\n40"))
    assert result.stdout == b"sum 44, wanted 2\n"
    assert result.succeeded
    failing = run_here(module, Task(args=("sum",), stdin=b"3\nx\n"))
    assert failing.exit_code == 1
    assert failing.stderr == b"error: InvalidCharacter\n"
