"""Decides whether a compiled module is a program that a sandbox can run (spec/07 §1)."""

import wasmtime

from fogbank.sandbox.features import advice_on_import, missing_feature
from fogbank.sandbox.outcome import ModuleRefused, Outcome, clean
from fogbank.sandbox.wasi.abi import MODULE, NO_RESULT, SIGNATURES
from fogbank.sandbox.wat import is_wasm

_KINDS = {"i": "i32", "I": "i64"}
_SHAPES = {
    name: ([_KINDS[kind] for kind in kinds], [] if name in NO_RESULT else ["i32"])
    for name, kinds in SIGNATURES.items()
}
"""Parameters and results of every import that is offered."""

_NO_START = (
    "the module exports no function _start without parameters: give it a main function and build it"
    " as a command, not as a library"
)
_LIBRARY = (
    "the module is a library (it exports _initialize, and no _start): build it as a command,"
    " without -mexec-model=reactor, -buildmode=c-shared or Rust's crate type cdylib"
)


def compile_module(engine: wasmtime.Engine, wasm: bytes) -> bytes:
    """Compile a binary module into the engine's own form.

    Raises `ModuleRefused` if it is no program that can run here. The bytes may be hostile: call
    this only in a process that may be lost.
    """
    if not is_wasm(wasm):
        raise ModuleRefused(Outcome.INVALID_MODULE, "this is not a WebAssembly module")
    try:
        module = wasmtime.Module(engine, wasm)
    except wasmtime.WasmtimeError as error:
        raise ModuleRefused(Outcome.INVALID_MODULE, _why_invalid(str(error))) from None
    check_imports(module)
    check_exports(module)
    return bytes(module.serialize())


def check_imports(module: wasmtime.Module) -> None:
    """Raise `ModuleRefused` if the module imports what is not offered."""
    unknown = [
        (wanted.module, wanted.name or "")
        for wanted in module.imports
        if wanted.module != MODULE or wanted.name not in _SHAPES
    ]
    if unknown:
        where, name = unknown[0]
        more = f" (and {len(unknown) - 1} more that are not offered)" if unknown[1:] else ""
        raise ModuleRefused(
            Outcome.UNKNOWN_IMPORT,
            f"the module imports {clean(f'{where[:100]}.{name[:100]}')}{more}:"
            f" {advice_on_import(where, name)}",
        )
    for wanted in module.imports:
        name = wanted.name or ""
        full = f"{MODULE}.{name}"
        if not isinstance(wanted.type, wasmtime.FuncType) or _shape(wanted.type) != _SHAPES[name]:
            raise ModuleRefused(
                Outcome.UNKNOWN_IMPORT, f"the module imports {full} with another type than it has"
            )


def check_exports(module: wasmtime.Module) -> None:
    """Raise `ModuleRefused` unless the module exports `_start` and `memory`, as a command does."""
    start = memory = library = False
    for export in module.exports:
        if export.name == "_start":
            kind = export.type
            start = isinstance(kind, wasmtime.FuncType) and _shape(kind) == ([], [])
        elif export.name == "_initialize":
            library = True
        elif export.name == "memory":
            memory = isinstance(export.type, wasmtime.MemoryType)
    if not start:
        raise ModuleRefused(Outcome.INVALID_MODULE, _LIBRARY if library else _NO_START)
    if not memory:
        raise ModuleRefused(
            Outcome.INVALID_MODULE,
            "the module exports no memory named memory: link with --export-memory=memory",
        )


def _why_invalid(words: str) -> str:
    """Put wasmtime's words into a sentence that says what to change, where that is known."""
    said = clean(words.rpartition("Caused by:")[2]).rpartition("Invalid input WebAssembly code ")[2]
    feature = missing_feature(said)
    if feature is not None:
        return f"the module uses {feature.name}, which no worker takes: {feature.advice} ({said})"
    if "unexpected end" in said:
        return f"the module is cut off: copy or build it again ({said})"
    return f"the module is not valid: {clean(words)}"


def _shape(kind: wasmtime.FuncType) -> tuple[list[str], list[str]]:
    return [str(item) for item in kind.params], [str(item) for item in kind.results]
