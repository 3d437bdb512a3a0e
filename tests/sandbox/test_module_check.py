"""What cannot run is refused with what to change; imports are read as they are (spec/07 §1)."""

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.features import FEATURES
from fogbank.sandbox.imports import Import, Kind, read_imports
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import REASON_CHARACTERS, ModuleRefused, Outcome
from fogbank.sandbox.wat import module_from_file
from tests.sandbox import programs

UNUSUAL = {
    "threads": (
        "(module (memory 1 1 shared))",
        "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
        '(module (import "env" "memory" (memory 1 1 shared)))',
    ),
    "garbage collection": (
        "(module (type (struct (field i32))))",
        "(module (type (array i8)))",
        "(module (rec (type $a (func))))",
        "(module (func (param anyref)))",
        "(module (func (drop (ref.i31 (i32.const 1)))))",
    ),
    "exceptions": (
        "(module (tag $t) (func (throw $t)))",
        "(module (func (try_table)))",
        "(module (func try end))",
        "(module (func (param exnref)))",
    ),
    "64-bit memory": ("(module (memory i64 1))", "(module (table i64 1 funcref))"),
    "several memories": ("(module (memory 1) (memory 1))",),
    "relaxed SIMD": (
        "(module (func (param v128 v128) local.get 0 local.get 1 i8x16.relaxed_swizzle drop))",
    ),
    "components": ("(component)",),
    "typed function references": (
        "(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))",
        "(module (func (param (ref func))))",
    ),
    "custom page sizes": ("(module (memory 1 (pagesize 1)))",),
    "wide arithmetic": (f"(module (func (result i64 i64) {'(i64.const 1)' * 4} i64.add128))",),
    "stack switching": ("(module (type $f (func)) (type $c (cont $f)))",),
}


def refusal(module: bytes) -> ModuleRefused:
    with pytest.raises(ModuleRefused) as caught:
        compile_module(make_engine(), module)
    assert len(caught.value.reason) <= REASON_CHARACTERS
    return caught.value


def test_every_feature_has_a_module_that_uses_it() -> None:
    assert {item.name for item in FEATURES} == set(UNUSUAL)


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in UNUSUAL.items() for text in texts]
)
def test_a_feature_that_is_not_taken_is_named_with_what_to_change(name: str, text: str) -> None:
    refused = refusal(bytes(wasmtime.wat2wasm(text)))
    advice = next(item.advice for item in FEATURES if item.name == name)
    assert refused.outcome is Outcome.INVALID_MODULE
    assert f"the module uses {name}, which no worker takes: {advice} (" in refused.reason


@pytest.mark.parametrize(
    ("place", "name", "advice"),
    [
        ("env", "cos", "the linker did not find it"),
        ("wasi_unstable", "fd_write", "WASI of 2019"),
        ("wasi_snapshot_preview1", "sock_open", "some other host"),
        ("wasi:io/poll@0.2.0", "poll", "not wasm32-wasip2"),
        ("wasi", "thread-spawn", "without -pthread"),
        ("wasix_32v1", "fd_dup", "WASIX"),
        ("gojs", "runtime.wasmExit", "GOOS=wasip1"),
        ("__wbindgen_placeholder__", "x", "wasm-bindgen"),
        ("a", "b", "Emscripten"),
        ("tools", "x", "only wasi_snapshot_preview1 is offered"),
    ],
)
def test_an_import_that_is_not_offered_is_told_with_where_it_comes_from(
    place: str, name: str, advice: str
) -> None:
    one, two = (f'(import "{place}" "{item}" (func))' for item in (name, name + "2"))
    refused = refusal(programs.text(one))
    assert refused.outcome is Outcome.UNKNOWN_IMPORT
    assert refused.reason.startswith(f"the module imports {place}.{name}: ")
    assert advice in refused.reason
    assert (
        f"{place}.{name} (and 1 more that are not offered): "
        in refusal(programs.text(one + two)).reason
    )


YIELD = '(import "wasi_snapshot_preview1" "sched_yield" (func $y (result i32)))'


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ('(import "env" "memory" (memory 1))', "without --import-memory"),
        ('(func (export "_initialize")) (memory (export "memory") 1)', "the module is a library"),
        ('(func (export "main")) (memory (export "memory") 1)', "give it a main function"),
        ('(func (export "_start"))', "--export-memory"),
        ('(memory (export "_start") 1) (func (export "memory"))', "give it a main function"),
        ('(func (export "_start")) (func (export "memory")) (memory 1)', "--export-memory"),
        ('(func) (func (export "_start") (param i32)) (memory (export "memory") 1)', "a main"),
        (f'{YIELD} (export "_start" (func $y)) (memory (export "memory") 1)', "a main function"),
    ],
)
def test_a_module_that_is_no_command_is_told_how_to_become_one(inside: str, words: str) -> None:
    assert words in refusal(programs.text(inside)).reason


def test_start_is_found_among_many_functions() -> None:
    many = (
        "(func (param i64))" * 300
        + '(func (export "_start"))'
        + "(func (result i32) (i32.const 0))"
    )
    exports = '(memory (export "memory") 1) (export "a" (func 1)) (export "b" (func 301))'
    assert compile_module(make_engine(), programs.text(f"{YIELD} {exports} {many}"))


def test_a_module_that_is_cut_off_is_told_so() -> None:
    assert "the module is cut off" in refusal(programs.HELLO[:-3]).reason


IMPORTS = """
(import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
(import "a" "é" (table 1 2 funcref)) (import "a" "b" (table 1 externref))
(import "a" "c" (memory 1)) (import "a" "d" (global (mut i64)))
(import "a" "e" (tag (param i32))) (import "a" "f" (global (ref null extern)))
(import "wasi_snapshot_preview1" "fd_read" (memory 1 2))
"""


def test_imports_of_every_kind_are_read() -> None:
    found = read_imports(bytes(wasmtime.wat2wasm(f"(module {IMPORTS})")))
    assert found == (
        Import("wasi_snapshot_preview1", "fd_read", Kind.FUNCTION),
        Import("a", "é", Kind.TABLE),
        Import("a", "b", Kind.TABLE),
        Import("a", "c", Kind.MEMORY),
        Import("a", "d", Kind.GLOBAL),
        Import("a", "e", Kind.TAG),
        Import("a", "f", Kind.GLOBAL),
        Import("wasi_snapshot_preview1", "fd_read", Kind.MEMORY),
    )
    assert [item.is_offered for item in found] == [True, *[False] * 7]


def test_imports_are_those_that_the_engine_sees() -> None:
    engine = make_engine()
    for module in (programs.HELLO, programs.SAMPLER, programs.NOTHING):
        seen = [(item.module, item.name) for item in wasmtime.Module(engine, module).imports]
        assert [(item.module, item.name) for item in read_imports(module)] == seen


@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_mislead_the_reader_of_imports(noise: bytes, at: int) -> None:
    whole = module_from_file(f"(module {IMPORTS})".encode())
    for data in (noise, whole[:8] + noise, whole[: at + 8] + noise + whole[at + 8 + len(noise) :]):
        try:
            found = read_imports(data)
        except ValueError:
            continue
        assert all(isinstance(item.name, str) for item in found)


@pytest.mark.parametrize("shape", ["(param v128 i32 i32 i32) (result i32)", "(result v128)"])
def test_an_import_with_vectors_among_its_types_is_named(shape: str) -> None:
    module = module_from_file(
        f"""(module (import "wasi_snapshot_preview1" "fd_write" (func {shape}))
        (memory (export "memory") 1) (func (export "_start")))""".encode()
    )
    with pytest.raises(ModuleRefused, match="fd_write with another type") as info:
        compile_module(make_engine(), module)
    assert info.value.outcome is Outcome.UNKNOWN_IMPORT


def test_a_start_with_vectors_is_none() -> None:
    module = module_from_file(
        b'(module (memory (export "memory") 1) (func (export "_start") (param v128)))'
    )
    with pytest.raises(ModuleRefused, match="no function _start without parameters"):
        compile_module(make_engine(), module)
