"""Decides whether a compiled module is a program that a sandbox can run (spec/07 §1)."""

from collections.abc import Sequence

import wasmtime

from fogbank.sandbox.binding import new_module
from fogbank.sandbox.features import advice_on_import, missing_feature
from fogbank.sandbox.imports import Kind, Sections
from fogbank.sandbox.outcome import ModuleRefused, Outcome, clean
from fogbank.sandbox.wasi.abi import MODULE, NO_RESULT, SIGNATURES
from fogbank.sandbox.wat import is_wasm

_A_FUNCTION, _A_MEMORY = Kind.FUNCTION, Kind.MEMORY
_KINDS = {"i": 0x7F, "I": 0x7E}
_SHAPES = {
    name: (bytes(_KINDS[kind] for kind in kinds), b"" if name in NO_RESULT else b"\x7f")
    for name, kinds in SIGNATURES.items()
}
"""Parameters and results of every import that is offered, as a module writes them."""

_NOTHING = (b"", b"")
"""The type of a function without parameters and results."""
_START, _MEMORY, _INITIALIZE = b"_start", b"memory", b"_initialize"
_EXPORTS = frozenset({_START, _MEMORY, _INITIALIZE})

_NO_START = (
    "the module exports no function _start without parameters: give it a main function and build it"
    " as a command, not as a library"
)
_LIBRARY = (
    "the module is a library (it exports _initialize, and no _start): build it as a command,"
    " without -mexec-model=reactor, -buildmode=c-shared or Rust's crate type cdylib"
)


def compile_module(engine: wasmtime.Engine, wasm: bytes) -> bytes:
    """Compile a binary module into the engine's own form, as `compiled` does."""
    return bytes(compiled(engine, wasm).serialize())


def compiled(engine: wasmtime.Engine, wasm: bytes) -> wasmtime.Module:
    """Compile a binary module.

    Raises `ModuleRefused` if it is no program that can run here. The bytes may be hostile: call
    this only in a process that may be lost.
    """
    if not is_wasm(wasm):
        raise ModuleRefused(Outcome.INVALID_MODULE, "this is not a WebAssembly module")
    try:
        module = new_module(engine, wasm)
    except wasmtime.WasmtimeError as error:
        raise ModuleRefused(Outcome.INVALID_MODULE, _why_invalid(str(error))) from None
    check_imports(Sections(wasm))
    return module


def check_imports(sections: Sections) -> None:
    """Raise `ModuleRefused` if a valid module imports what is not offered."""
    imports = sections.imports()
    unknown = [wanted for wanted in imports if not wanted.is_offered]
    if unknown:
        where, name = unknown[0].module, unknown[0].name
        more = f" (and {len(unknown) - 1} more that are not offered)" if unknown[1:] else ""
        raise ModuleRefused(
            Outcome.UNKNOWN_IMPORT,
            f"the module imports {clean(f'{where[:100]}.{name[:100]}')}{more}:"
            f" {advice_on_import(where, name)}",
        )
    types = sections.types()
    for wanted in imports:
        if types[wanted.type] != _SHAPES[wanted.name]:
            raise ModuleRefused(
                Outcome.UNKNOWN_IMPORT,
                f"the module imports {MODULE}.{wanted.name} with another type than it has",
            )
    check_exports(sections, [wanted.type for wanted in imports], types)


def check_exports(
    sections: Sections, imported: Sequence[int], types: Sequence[tuple[bytes, bytes]]
) -> None:
    """Raise `ModuleRefused` unless a valid module exports `_start` and `memory`, as a command does.

    `imported`: the numbers of its imported functions' types, which are all that it imports.
    """
    exports = sections.exports(_EXPORTS)
    kind, number = exports.get(_START, (None, 0))
    if kind == _A_FUNCTION:
        own = number - len(imported)
        shape = imported[number] if own < 0 else sections.function_type(own)
    if kind != _A_FUNCTION or types[shape] != _NOTHING:
        raise ModuleRefused(
            Outcome.INVALID_MODULE, _LIBRARY if _INITIALIZE in exports else _NO_START
        )
    if exports.get(_MEMORY, (None,))[0] != _A_MEMORY:
        raise ModuleRefused(
            Outcome.INVALID_MODULE,
            "the module exports no memory named memory: link with --export-memory=memory",
        )


def _why_invalid(words: str) -> str:
    """Put wasmtime's words into a sentence that says what to change, where that is known."""
    said = clean(words.rpartition("Caused by:")[2]).rpartition("Invalid input WebAssembly code ")[2]
    feature = missing_feature(said)
    if feature is not None:
        said = said.partition(", note")[0]
        return f"the module uses {feature.name}, which no worker takes: {feature.advice} ({said})"
    if "unexpected end" in said:
        return f"the module is cut off: copy or build it again ({said})"
    return f"the module is not valid: {clean(words)}"
