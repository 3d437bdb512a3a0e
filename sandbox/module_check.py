"""Decides whether a compiled module is a program that a sandbox can run (spec/07 §1)."""

import wasmtime

from fogbank.sandbox.outcome import ModuleRefused, Outcome, clean
from fogbank.sandbox.wasi.abi import MODULE, NO_RESULT, SIGNATURES
from fogbank.sandbox.wat import is_wasm

_KINDS = {"i": "i32", "I": "i64"}
_SHAPES = {
    name: ([_KINDS[kind] for kind in kinds], [] if name in NO_RESULT else ["i32"])
    for name, kinds in SIGNATURES.items()
}
"""Parameters and results of every import that is offered."""


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
        reason = f"the module is not valid: {clean(str(error))}"
        raise ModuleRefused(Outcome.INVALID_MODULE, reason) from None
    check_imports(module)
    check_exports(module)
    return bytes(module.serialize())


def check_imports(module: wasmtime.Module) -> None:
    """Raise `ModuleRefused` if the module imports what is not offered."""
    for wanted in module.imports:
        name = wanted.name or ""
        full = clean(f"{wanted.module[:100]}.{name[:100]}")
        if wanted.module != MODULE or name not in _SHAPES:
            hint = "" if wanted.module == MODULE else f"; only {MODULE} is offered"
            raise ModuleRefused(Outcome.UNKNOWN_IMPORT, f"the module imports {full}{hint}")
        if not isinstance(wanted.type, wasmtime.FuncType) or _shape(wanted.type) != _SHAPES[name]:
            raise ModuleRefused(
                Outcome.UNKNOWN_IMPORT, f"the module imports {full} with another type than it has"
            )


def check_exports(module: wasmtime.Module) -> None:
    """Raise `ModuleRefused` unless the module exports `_start` and `memory`, as a command does."""
    start = memory = False
    for export in module.exports:
        if export.name == "_start":
            kind = export.type
            start = isinstance(kind, wasmtime.FuncType) and _shape(kind) == ([], [])
        elif export.name == "memory":
            memory = isinstance(export.type, wasmtime.MemoryType)
    if not start:
        raise ModuleRefused(
            Outcome.INVALID_MODULE,
            "the module exports no function _start without parameters: build it as a command, not"
            " as a library",
        )
    if not memory:
        raise ModuleRefused(Outcome.INVALID_MODULE, "the module exports no memory named memory")


def _shape(kind: wasmtime.FuncType) -> tuple[list[str], list[str]]:
    return [str(item) for item in kind.params], [str(item) for item in kind.results]
