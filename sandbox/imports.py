"""Reads what a binary module imports and exports, without compiling it (spec/07 §1).

Wasmtime's own list of imports ends the process where a type has a vector of 128 bits in it, and its
lists cost a small job a tenth of its time. Every job's process does this once, in pages of memory
that it shares until it writes to them: so there are few functions here, and no objects in between.
"""

import enum
from collections.abc import Container
from dataclasses import dataclass

from fogbank.sandbox.wasi.abi import MODULE, SIGNATURES

_TYPES, _IMPORTS, _FUNCTIONS, _EXPORTS = 1, 2, 3, 7
"""Sections."""
_FUNCTION_TYPE = b"\x60"
_VERSION = b"\0asm\x01\0\0\0"
_REFERENCE_TYPES = {b"\x63", b"\x64"}
"""Begin a type of two parts, as reference types of later proposals do."""
_NUMBER_SIZE = 10
"""The most bytes of a number."""


class Kind(enum.IntEnum):
    """What can be imported."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


_KINDS = tuple(Kind)
_FUNCTION = Kind.FUNCTION
"""To name a member of an enumeration is to call a function."""


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
        return self.kind is _FUNCTION and self.module == MODULE and self.name in SIGNATURES


class Sections:
    """Where a binary module's sections are. Raises ValueError if they do not parse, as all here."""

    def __init__(self, wasm: bytes) -> None:
        if wasm[: len(_VERSION)] != _VERSION:
            raise ValueError("these bytes begin no core module of WebAssembly")
        self._wasm = wasm
        self._begins: dict[int, int] = {}
        at, size = len(_VERSION), len(wasm)
        while at < size:
            section = wasm[at]
            length, at = _number(wasm, at + 1)
            self._begins.setdefault(section, at)
            at += length
        if at > size:
            raise ValueError("the module ends too soon")

    def imports(self) -> tuple[Import, ...]:
        """Return what the module imports."""
        wasm, found = self._wasm, []
        count, at = self._begin(_IMPORTS)
        for _ in range(count):
            module, at = _text(wasm, at)
            name, at = _text(wasm, at)
            number, at = _number(wasm, at)
            if number >= len(_KINDS):
                raise ValueError("the module imports a thing of no known kind")
            kind = _KINDS[number]
            if kind is _FUNCTION:
                shape, at = _number(wasm, at)
                found.append(Import(module, name, kind, shape))
            else:
                at = _behind_type(wasm, at, kind)
                found.append(Import(module, name, kind))
        return tuple(found)

    def types(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the types of functions that a valid module names: a byte for each value's type.

        Raises ValueError for any other types than those of functions.
        """
        wasm, found = self._wasm, []
        count, at = self._begin(_TYPES)
        for _ in range(count):
            if wasm[at : at + 1] != _FUNCTION_TYPE:
                raise ValueError("the module names a type that is no function's")
            length, at = _number(wasm, at + 1)
            parameters = wasm[at : at + length]
            length, at = _number(wasm, at + length)
            found.append((parameters, wasm[at : at + length]))
            at += length
        return tuple(found)

    def exports(self, names: Container[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return which of these names a valid module exports: the kind and the thing's number."""
        wasm, found = self._wasm, {}
        count, at = self._begin(_EXPORTS)
        for _ in range(count):
            length, at = _number(wasm, at)
            name = wasm[at : at + length]
            kind, at = _number(wasm, at + length)
            number, at = _number(wasm, at)
            if name in names:
                found[name] = kind, number
        return found

    def function_type(self, number: int) -> int:
        """Return the number of the type of the valid module's own function of this number."""
        _, at = self._begin(_FUNCTIONS)
        for _ in range(number):
            _, at = _number(self._wasm, at)
        return _number(self._wasm, at)[0]

    def _begin(self, section: int) -> tuple[int, int]:
        """Return how many things are in a section, and where the first one is."""
        at = self._begins.get(section)
        return (0, 0) if at is None else _number(self._wasm, at)


def read_imports(wasm: bytes) -> tuple[Import, ...]:
    """Return the imports of a binary module. Raises ValueError if its sections do not parse."""
    return Sections(wasm).imports()


def _number(wasm: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number of up to 64 bits, seven in each byte; return where it ends, too."""
    value = shift = 0
    for byte in wasm[at : at + _NUMBER_SIZE]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number in the module does not end")


def _text(wasm: bytes, at: int) -> tuple[str, int]:
    length, at = _number(wasm, at)
    end = at + length
    if end > len(wasm):
        raise ValueError("the module ends too soon")
    return wasm[at:end].decode(), end


def _behind_type(wasm: bytes, at: int, kind: Kind) -> int:
    """Return where the type of an import that is no function ends."""
    if kind is Kind.TAG:
        return _number(wasm, at + 1)[1]
    if kind in {Kind.TABLE, Kind.GLOBAL}:
        at = _number(wasm, at + 1)[1] if wasm[at : at + 1] in _REFERENCE_TYPES else at + 1
    if kind is Kind.GLOBAL:
        return at + 1
    flags, at = wasm[at : at + 1], at + 1
    at = _number(wasm, at)[1]
    return _number(wasm, at)[1] if flags and flags[0] & 1 else at
