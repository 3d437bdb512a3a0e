"""WebAssembly text, for a user's own machine: workers read only the binary form (spec/07 §1)."""

from fogbank.sandbox.limits import MODULE_SIZE
from fogbank.sandbox.outcome import ModuleRefused, Outcome, clean

MAGIC = b"\0asm"


def is_wasm(data: bytes) -> bool:
    """Whether `data` begins as a binary module does."""
    return data[:4] == MAGIC


def module_from_file(data: bytes) -> bytes:
    """Turn the content of a `.wasm` or `.wat` file into the binary module that workers take.

    Raises `ModuleRefused` if it is neither, or too large. For the user's own files only: the
    text parser runs in this very process.
    """
    if len(data) > MODULE_SIZE:
        raise ModuleRefused(
            Outcome.INVALID_MODULE, f"the module has {len(data)} bytes; {MODULE_SIZE} is the most"
        )
    if is_wasm(data):
        return data
    if not data.lstrip().startswith((b"(", b";;")):
        raise ModuleRefused(
            Outcome.INVALID_MODULE,
            "this is neither a WebAssembly module (.wasm) nor WebAssembly text (.wat)",
        )
    import wasmtime  # noqa: PLC0415 -- 0.1 s, and only text needs it

    try:
        return bytes(wasmtime.wat2wasm(data))
    except wasmtime.WasmtimeError as error:
        reason = f"the WebAssembly text does not parse: {clean(str(error))}"
        raise ModuleRefused(Outcome.INVALID_MODULE, reason) from None
