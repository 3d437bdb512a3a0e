"""Reads what a binary module imports, without compiling it (spec/07 §1)."""

import enum
from dataclasses import dataclass

from fogbank.sandbox.wasi.abi import MODULE, SIGNATURES

_SECTION = 2
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
    """One import of a module."""

    module: str
    name: str
    kind: Kind

    @property
    def is_offered(self) -> bool:
        """Whether a sandbox has a function of this name; its type may still differ."""
        return self.kind is Kind.FUNCTION and self.module == MODULE and self.name in SIGNATURES


def read_imports(wasm: bytes) -> tuple[Import, ...]:
    """Return the imports of a binary module. Raises ValueError if its sections do not parse."""
    if wasm[: len(_VERSION)] != _VERSION:
        raise ValueError("these bytes begin no core module of WebAssembly")
    reader = _Reader(wasm, len(_VERSION))
    while not reader.at_end:
        section = reader.byte()
        body = reader.take(reader.number())
        if section == _SECTION:
            inside = _Reader(body, 0)
            return tuple(inside.entry() for _ in range(inside.number()))
    return ()


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
        self._skip_type(kind)
        return Import(module, name, kind)

    def _skip_type(self, kind: Kind) -> None:
        if kind is Kind.TAG:
            self.byte()
        if kind in {Kind.FUNCTION, Kind.TAG}:
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
