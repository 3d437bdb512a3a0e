"""The C functions of the pinned wasmtime, without what its Python API wraps around them.

A job's process shares the launcher's memory until it writes to it, and every Python function that
it runs, every object that it only counts, is a page written: wrapping would be a good part of what
a small job costs. The objects of the API stay, where something is held for longer than a call.
Whether the functions still do what is expected, the self-tests of who uses them tell.
"""

from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func

# ctypes, as the API itself uses it.
c: Any = vars(_func)["ctypes"]
byref: Any = c.byref
address, size = c.c_void_p, c.c_size_t
ERROR: Any = c.POINTER(ffi.wasmtime_error_t)
_MODULE: Any = c.POINTER(ffi.wasmtime_module_t)
_STORE: Any = c.POINTER(ffi.wasmtime_store_t)

LIBRARY = str(ffi.filename)
"""Where the engine is."""


class BindingChanged(Exception):
    """The private binding of wasmtime is not the one that this release was written for."""


def plain(name: str, result: Any, *parameters: Any) -> Any:
    """Return a function of the library; None, which self-tests see, if there is none."""
    try:
        return c.CFUNCTYPE(result, *parameters)((name, ffi.dll))
    except AttributeError:
        return None


_WRITABLE = 0x200
_view: Any = c.PYFUNCTYPE(c.py_object, address, c.c_ssize_t, c.c_int)(
    ("PyMemoryView_FromMemory", c.pythonapi)
)
_new_module = plain("wasmtime_module_new", ERROR, address, c.c_char_p, size, address)
_image = plain("wasmtime_module_image_range", None, address, address, address)
_new_store = plain("wasmtime_store_new", _STORE, address, address, address)
_delete_store = plain("wasmtime_store_delete", None, address)
_context = plain("wasmtime_store_context", c.POINTER(ffi.wasmtime_context_t), address)
_limit = plain("wasmtime_store_limiter", None, address, *[c.c_int64] * 5)


def new_module(engine: wasmtime.Engine, wasm: bytes) -> wasmtime.Module:
    """Compile a binary module. Raises `WasmtimeError`."""
    module = _MODULE()
    check(_new_module(engine.ptr(), wasm, len(wasm), byref(module)))
    return wasmtime.Module._from_ptr(module)


def image(module: wasmtime.Module) -> tuple[int, int]:
    """Return where a module's compiled code begins and ends."""
    begin, end = c.c_size_t(), c.c_size_t()
    _image(module.ptr(), byref(begin), byref(end))
    return begin.value, end.value


class Store(wasmtime.Store):
    """A store without data of the host's."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        pointer = _new_store(engine.ptr(), None, None)
        self._set_ptr(pointer)
        self.engine = engine
        self._own = _context(pointer)

    def _context(self) -> Any:
        if self._own is None:
            raise ValueError("this store is closed")
        return self._own

    def _delete(self, ptr: Any) -> None:
        self._own = None
        _delete_store(ptr)

    def set_limits(
        self,
        memory_size: int = -1,
        table_elements: int = -1,
        instances: int = -1,
        tables: int = -1,
        memories: int = -1,
    ) -> None:
        """Bound memories in bytes, tables in elements, and the number of each thing; -1: not."""
        _limit(self.ptr(), memory_size, table_elements, instances, tables, memories)


def view(begin: int, length: int) -> memoryview:
    """Return bytes of memory to read and write, which must be there for as long as this is used.

    The API makes an array's type for each length, which costs more than a small host call.
    """
    seen: memoryview = _view(begin, length, _WRITABLE)
    return seen


def check(error: Any) -> None:
    """Raise the error that a function returned, if it did."""
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)
