"""Runs of single programs: outcomes, limits, fuel, determinism (spec/07 §4 to §6).

In this very process, without a jail: the programs are ours.
"""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.sandbox.data import whole
from fogbank.sandbox.engine import FLAGS, WASMTIME, engine_class, make_engine
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Silent
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.runner import Order, Runner
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import MODULE
from fogbank.sandbox.wasi.system import CALL_FUEL
from fogbank.sandbox.wat import module_from_file
from tests.sandbox import programs

ROOT = Path(__file__).resolve().parents[2]
ENGINE = make_engine()
SMALL = Limits(fuel=10**7, memory=1 << 24, output=100_000)


def run(module: bytes, task: Task | None = None, limits: Limits = SMALL) -> Result:
    runner = Runner(ENGINE)
    runner.load(compile_module(ENGINE, module))
    return runner.run(task or Task(limits=limits))


def refusal(module: bytes) -> ModuleRefused:
    with pytest.raises(ModuleRefused) as info:
        compile_module(ENGINE, module)
    return info.value


def test_a_program_that_prints_completes() -> None:
    result = run(programs.HELLO)
    assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 0)
    assert (result.stdout, result.stderr, result.reason) == (b"hello\n", b"", "")
    assert result.succeeded
    assert run(programs.printing(b"oops", stream=2)).stderr == b"oops"


@pytest.mark.parametrize("code", [0, 1, 126, 255, 256, -1])
def test_the_exit_code_is_the_programs_own(code: int) -> None:
    result = run(programs.exiting(code))
    assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, code & 0xFFFF_FFFF)
    assert result.succeeded is (code == 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const -1)))", "out of bounds memory access"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "conversion to integer"),
        ("(call_indirect (i32.const 9))", "out of bounds"),
    ],
)
def test_what_webassembly_forbids_is_a_trap(body: str, words: str) -> None:
    result = run(programs.command(body, more="(table 1 funcref)"))
    assert (result.outcome, result.exit_code) == (Outcome.TRAP, None)
    assert words in result.reason


def test_a_trap_keeps_the_output_and_names_the_function() -> None:
    assert run(programs.TRAP).stdout == b"before\n"
    result = run(programs.RECURSION)
    assert result.outcome is Outcome.TRAP
    assert result.reason == "call stack exhausted in f"


def test_endless_programs_run_out_of_fuel() -> None:
    result = run(programs.LOOP)
    assert (result.outcome, result.exit_code) == (Outcome.OUT_OF_FUEL, None)
    assert result.fuel == SMALL.fuel
    in_start_section = programs.text(
        '(memory (export "memory") 1) (func (export "_start")) (func $s (loop (br 0))) (start $s)'
    )
    assert run(in_start_section).outcome is Outcome.OUT_OF_FUEL


def test_a_host_call_that_is_not_paid_ends_the_program() -> None:
    needed = run(programs.HELLO).fuel
    assert needed > CALL_FUEL
    exact = run(programs.HELLO, limits=Limits(fuel=needed))
    assert (exact.outcome, exact.fuel) == (Outcome.COMPLETED, needed)
    short = run(programs.HELLO, limits=Limits(fuel=needed - 1))
    assert (short.outcome, short.fuel) == (Outcome.OUT_OF_FUEL, needed - 1)


def test_output_beyond_its_limit_is_an_outcome_and_keeps_what_fitted() -> None:
    result = run(programs.FLOOD)
    assert result.outcome is Outcome.OUTPUT_LIMIT
    assert len(result.stdout) == SMALL.output
    assert run(programs.HELLO, limits=Limits(output=5)).outcome is Outcome.OUTPUT_LIMIT
    assert run(programs.HELLO, limits=Limits(output=6)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("program", "outcome", "code"),
    [
        (programs.GROW_AND_FAIL, Outcome.OUT_OF_MEMORY, None),
        (programs.GROW_AND_EXIT, Outcome.OUT_OF_MEMORY, 3),
        (programs.GROW_IN_PEACE, Outcome.COMPLETED, 0),
        (programs.HUGE, Outcome.OUT_OF_MEMORY, None),
        (programs.TRAP, Outcome.TRAP, None),
    ],
)
def test_out_of_memory_is_told_from_a_trap(
    program: bytes, outcome: Outcome, code: int | None
) -> None:
    result = run(program)
    assert (result.outcome, result.exit_code) == (outcome, code)
    if outcome is Outcome.OUT_OF_MEMORY:
        assert str(SMALL.memory) in result.reason


def test_tables_are_bounded() -> None:
    assert run(programs.TABLE_GROW).outcome is Outcome.COMPLETED
    huge = run(programs.command("", more="(table 4000000000 funcref)"))
    many = run(programs.command("", more="(table 1 funcref)" * 50))
    assert huge.outcome is many.outcome is Outcome.OUT_OF_MEMORY


def test_many_exports_cost_a_task_nothing() -> None:
    more = " ".join(f'(export "e{number}" (memory 0))' for number in range(100_000))
    plain, crowded = run(programs.command("")), run(programs.command("", more=more))
    assert (crowded.outcome, crowded.fuel) == (plain.outcome, plain.fuel)


def test_a_start_section_has_no_memory_to_show_the_host() -> None:
    start = (
        f'(import "{MODULE}" "args_sizes_get" (func $a (param i32 i32) (result i32)))'
        '(memory (export "memory") 1) (func (export "_start"))'
        "(func $s (drop (call $a (i32.const 0) (i32.const 4)))) (start $s)"
    )
    result = run(programs.text(start))
    assert (result.outcome, result.reason) == (
        Outcome.TRAP,
        "the module called the host from its start section",
    )


def test_tasks_on_one_module_share_nothing() -> None:
    counter = programs.command(
        "(i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))"
        + programs.vector(0, 64, 1)
        + "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
        "fd_write",
        more=programs.data(64, b"a"),
    )
    runner = Runner(ENGINE)
    runner.load(compile_module(ENGINE, counter))
    assert [runner.run(Task()).stdout for _ in range(3)] == [b"b"] * 3


def test_input_is_read_and_memory_may_grow_and_move_meanwhile() -> None:
    text = bytes(range(256)) * 1000
    limits = Limits(fuel=10**9, output=1 << 20)
    result = run(programs.ECHO, Task(stdin=text, limits=limits))
    assert result.stdout == text
    mover = programs.command(
        "(drop (memory.grow (i32.const 8000)))"
        "(drop (call $random_get (i32.const 500000000) (i32.const 8)))"
        "(if (i64.eqz (i64.load (i32.const 500000000))) (then unreachable))",
        "random_get",
    )
    assert run(mover, limits=Limits(memory=1 << 30)).outcome is Outcome.COMPLETED


def test_who_hands_over_is_told_where_the_memory_lies() -> None:
    reading = programs.command(
        programs.vector(0, 64, 4)
        + "(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
        "fd_read",
        more=programs.data(100, b"here"),
    )
    seen = []

    def hand_over(memory: tuple[int, int]) -> Order:
        begin, end = memory
        seen.append((ctypes.string_at(begin + 100, 4), end - begin))
        return Order(Task(), SMALL.fuel, Silent())

    runner = Runner(ENGINE)
    assert runner.code_extent() == (0, 0)
    runner.load(compile_module(ENGINE, reading))
    assert runner.start(Task(limits=SMALL), hand_over).succeeded
    assert seen == [(b"here", 1 << 16)]
    begin, end = runner.code_extent()
    assert 0 < begin < end


def test_output_and_fuel_are_the_same_in_another_process() -> None:
    task = Task(seed=b"s" * 32)
    here = run(programs.SAMPLER, task)
    assert len(here.stdout) == 48
    script = (
        "import sys; from tests.sandbox.test_runner import run; from fogbank.sandbox.task import"
        " Task; r = run(bytes.fromhex(sys.argv[1]), Task(seed=b's' * 32));"
        " print(r.stdout.hex(), r.fuel)"
    )
    command = [sys.executable, "-c", script, programs.SAMPLER.hex()]
    for _ in range(2):
        there = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        assert there.split() == [whole(here.stdout).hex(), str(here.fuel)]
    assert run(programs.SAMPLER, Task(seed=b"t" * 32)).stdout != here.stdout


def test_a_run_without_a_module_is_the_hosts_failure() -> None:
    assert Runner(ENGINE).run(Task()).outcome is Outcome.HOST_FAILURE


@pytest.mark.parametrize(
    ("imported", "named"),
    [
        ('(import "env" "socket" (func))', "env.socket"),
        (f'(import "{MODULE}" "fork" (func))', f"{MODULE}.fork"),
        (f'(import "{MODULE}" "fd_write" (func))', f"{MODULE}.fd_write"),
        (f'(import "{MODULE}" "fd_write" (global i32))', f"{MODULE}.fd_write"),
        ('(import "env" "memory" (memory 1))', "env.memory"),
        ('(import "a\\0a" "b\\1b" (func))', "a .b?"),
    ],
)
def test_an_import_that_is_not_offered_is_named(imported: str, named: str) -> None:
    module = programs.text(
        f'{imported} (memory $m (export "memory") 1) (func (export "_start"))'
        if "(memory 1)" not in imported
        else f'{imported} (export "memory" (memory 0)) (func (export "_start"))'
    )
    refused = refusal(module)
    assert refused.outcome is Outcome.UNKNOWN_IMPORT
    assert named in refused.reason


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (b"", "not a WebAssembly module"),
        (b"(module)", "not a WebAssembly module"),
        (b"\0asm\2\0\0\0", "unknown binary version"),
        (programs.HELLO[:-3], "unexpected end"),
        (programs.text('(memory (export "memory") 1)'), "no function _start"),
        (programs.text('(memory (export "memory") 1) (func (export "_start") (param i32))'), "_st"),
        (programs.text('(func (export "_start"))'), "no memory named memory"),
        (programs.text('(func (export "_start")) (func (export "memory"))'), "no memory"),
        (programs.text("(memory 1 1) (memory 1 1)"), "multiple memories"),
        (programs.text("(memory 1 1 shared)"), "threads"),
        (programs.text("(memory i64 1)"), "memory64"),
    ],
)
def test_what_is_no_program_is_refused_with_a_reason(module: bytes, words: str) -> None:
    refused = refusal(module)
    assert refused.outcome is Outcome.INVALID_MODULE
    assert words in refused.reason


SAMPLES = (programs.HELLO, programs.ECHO, programs.TABLE_GROW, programs.RECURSION)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_modules_are_refused_or_run_to_an_outcome(data: st.DataObject) -> None:
    module = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(module) - 1))
        kind = data.draw(st.sampled_from("sdi"))
        if kind == "s":
            module[at] = data.draw(st.integers(0, 255))
        elif kind == "d":
            del module[at:]
            break
        else:
            module[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if len(module) <= 9:
            break
    try:
        result = run(bytes(module), limits=Limits(fuel=10**5, memory=1 << 20, output=1000))
    except ModuleRefused as refused:
        ended, reason = refused.outcome, refused.reason
    else:
        ended, reason = result.outcome, result.reason
    assert ended not in {Outcome.HOST_FAILURE, Outcome.COMPILE_LIMIT}, reason
    assert reason or ended is Outcome.COMPLETED


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_with_a_reason(tail: bytes) -> None:
    for module in (tail, b"\0asm\1\0\0\0" + tail):
        refused = refusal(module)
        assert refused.outcome in {Outcome.INVALID_MODULE, Outcome.UNKNOWN_IMPORT}
        assert refused.reason


def test_text_is_taken_from_the_users_own_files_alone() -> None:
    assert module_from_file(programs.HELLO) == programs.HELLO
    assert module_from_file(b" ;; a comment\n(module)")[:4] == b"\0asm"
    for data, words in (
        (b"(module (func", "does not parse"),
        (b"#!/bin/sh", "neither"),
        (b"", "neither"),
        (b"(\xff", "does not parse"),
        (bytes((64 << 20) + 1), "the most"),
    ):
        with pytest.raises(ModuleRefused, match=words) as info:
            module_from_file(data)
        assert info.value.outcome is Outcome.INVALID_MODULE


def test_the_engine_class_names_everything_that_results_depend_on() -> None:
    assert engine_class() == engine_class()
    assert engine_class().startswith(f"wasmtime-{WASMTIME}-")
    settable = {
        name for name in dir(wasmtime.Config) if name.startswith(("wasm_", "cranelift_", "memory_"))
    }
    listed = {name for name, _ in FLAGS}
    assert settable - listed == {
        "cranelift_flag_enable",
        "cranelift_flag_set",
        "wasm_component_model_implements",
        "wasm_component_model_map",
        "wasm_relaxed_simd_deterministic",
    }
