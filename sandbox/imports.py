"""Reads what a binary module imports, without compiling it (spec/07 §1).

Wasmtime's own list of imports ends the process where a type has a vector of 128 bits in it.
"""

import enum
from dataclasses import dataclass

from fogbank.sandbox.wasi.abi import MODULE, SIGNATURES

_TYPES, _IMPORTS = 1, 2
"""Sections."""
_FUNCTION_TYPE = 0x60
_VERSION = b"\0asm\x01\0\0\0"
_REFERENCE_TYPES = {0x63, 0x64}
"""Begin a type of two parts, as reference types of later proposals do."""


class Kind(enum.IntEnum):
    """What can be imported."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module; `type` is the number of a function's type."""

    module: str
    name: str
    kind: Kind
    type: int = 0

    @property
    def is_offered(self) -> bool:
        """Whether a sandbox has a function of this name; its type may still differ."""
        return self.kind is Kind.FUNCTION and self.module == MODULE and self.name in SIGNATURES


def read_imports(wasm: bytes) -> tuple[Import, ...]:
    """Return the imports of a binary module. Raises ValueError if its sections do not parse."""
    reader = _section(wasm, _IMPORTS)
    return () if reader is None else tuple(reader.entry() for _ in range(reader.number()))


def read_types(wasm: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the types of functions that a valid module names: a byte for each value's type.

    Raises ValueError for any other types than those of functions.
    """
    reader = _section(wasm, _TYPES)
    return () if reader is None else tuple(reader.shape() for _ in range(reader.number()))


def _section(wasm: bytes, wanted: int) -> "_Reader | None":
    if wasm[: len(_VERSION)] != _VERSION:
        raise ValueError("these bytes begin no core module of WebAssembly")
    reader = _Reader(wasm, len(_VERSION))
    while not reader.at_end:
        section = reader.byte()
        body = reader.take(reader.number())
        if section == wanted:
            return _Reader(body, 0)
    return None


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError("the module ends too soon")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self) -> int:
        """Read an unsigned number of up to 64 bits, seven in each byte."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number in the module does not end")

    def text(self) -> str:
        return self.take(self.number()).decode()

    def entry(self) -> Import:
        module, name = self.text(), self.text()
        number = self.byte()
        if number > max(Kind):
            raise ValueError("the module imports a thing of no known kind")
        kind = Kind(number)
        if kind is Kind.FUNCTION:
            return Import(module, name, kind, self.number())
        self._skip_type(kind)
        return Import(module, name, kind)

    def shape(self) -> tuple[bytes, bytes]:
        if self.byte() != _FUNCTION_TYPE:
            raise ValueError("the module names a type that is no function's")
        return self.take(self.number()), self.take(self.number())

    def _skip_type(self, kind: Kind) -> None:
        if kind is Kind.TAG:
            self.byte()
            self.number()
            return
        if kind in {Kind.TABLE, Kind.GLOBAL} and self.byte() in _REFERENCE_TYPES:
            self.number()
        if kind is Kind.GLOBAL:
            self.byte()
            return
        flags = self.byte()
        self.number()
        if flags & 1:
            self.number()
