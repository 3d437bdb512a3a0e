"""Ways between a program and its host that cost little: calls of the host, fuel, memory's size.

wasmtime's Python API wraps each number that crosses in objects: a host call costs it 7 µs, of which
most is wrapping. Here the same C functions are reached by the private binding of the pinned
release. `self_test` tells whether they still do what is written here:

* a host function gets an array of 16-byte slots, one for each parameter, and leaves its result in
  the first; of a slot for an i32 the first four bytes count, and the others may be anything;
* it returns null, or a trap, which ends the program. The Python error behind it is kept where the
  API keeps it, so that whoever called the program raises it.

A `Gauge` must not be used once its store is closed.
"""

from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func

from fogbank.sandbox.binding import BindingChanged, address, byref, c, image, plain, size, view
from fogbank.sandbox.wasi.abi import NO_RESULT, SIGNATURES

HostCall = Callable[[str, list[int]], int]
"""Carries out one call, by name, with unsigned arguments; returns its error number."""

_CALLBACK = c.CFUNCTYPE(c.c_size_t, address, address, c.POINTER(c.c_uint32), size)
_FINALIZER = c.CFUNCTYPE(None, address)
_get_fuel = plain("wasmtime_context_get_fuel", address, address, address)
_set_fuel = plain("wasmtime_context_set_fuel", address, address, c.c_uint64)
_memory_size = plain("wasmtime_memory_data_size", size, address, address)
_memory_data = plain("wasmtime_memory_data", address, address, address)
_export = plain(
    "wasmtime_instance_export_get", c.c_bool, address, address, c.c_char_p, size, address
)
_FUNCTION, _MEMORY = ffi.WASMTIME_EXTERN_FUNC.value, ffi.WASMTIME_EXTERN_MEMORY.value
_WORDS = 4
"""The 32-bit words of a slot."""

_TEST_NAME = "path_filestat_set_times"
_TEST_NUMBERS = (1, 0xFFFF_FFFE, 3, 0x8000_0000, 0xFFFF_FFFF_0000_0005, 0x8000_0000_0000_0006, 7)


class HostCalls:
    """The functions of preview 1 in a linker: all lead to `call`, which changes with the task."""

    def __init__(self, linker: wasmtime.Linker, module: str) -> None:
        self.call: HostCall = _nobody
        # The linker holds pointers to these.
        self._entries = [self._define(linker, module, name) for name in SIGNATURES]

    def forget(self) -> None:
        """Lead nowhere any more."""
        self.call = _nobody

    def _define(self, linker: wasmtime.Linker, module: str, name: str) -> Any:
        entry, kind = _CALLBACK(self._entry(name)), function_type(name)
        error = ffi.wasmtime_linker_define_func_unchecked(
            linker.ptr(),
            c.create_string_buffer(module.encode()),
            len(module),
            c.create_string_buffer(name.encode()),
            len(name),
            kind.ptr(),
            c.cast(entry, ffi.wasmtime_func_unchecked_callback_t),
            None,
            _FINALIZER(),
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        return entry

    def _entry(self, name: str) -> Callable[[Any, Any, Any, int], int]:
        kinds = SIGNATURES[name]
        end = _WORDS * len(kinds)
        long = [index for index, kind in enumerate(kinds) if kind == "I"]
        silent = name in NO_RESULT

        def enter(_env: Any, _caller: Any, slots: Any, _count: int) -> int:
            try:
                # An empty slice of a pointer would have one item.
                arguments = slots[0:end:_WORDS] if end else []
                for index in long:
                    arguments[index] |= slots[_WORDS * index + 1] << 32
                answer = self.call(name, arguments)
                if not silent:
                    slots[0] = answer
            except BaseException as error:  # noqa: BLE001 -- raised again by who called the program
                return _trap(error)
            return 0

        return enter


class Gauge:
    """A store's fuel, to be read and set, and the size of a memory in it."""

    def __init__(self, store: wasmtime.Store) -> None:
        self._context = c.cast(store._context(), address).value
        self._fuel = c.c_uint64(0)
        self._at = c.addressof(self._fuel)
        self._memory = 0

    def read(self) -> int:
        """Return the fuel that is left."""
        if _get_fuel(self._context, self._at):
            raise BindingChanged("wasmtime does not tell its fuel")
        return int(self._fuel.value)

    def set(self, fuel: int) -> None:
        """Set the fuel that is left."""
        if _set_fuel(self._context, fuel):
            raise BindingChanged("wasmtime does not take fuel")

    def take(self, fuel: int) -> int:
        """Take fuel away and return what is left; if it is below 0, nothing was taken."""
        if _get_fuel(self._context, self._at):
            raise BindingChanged("wasmtime does not tell its fuel")
        left: int = self._fuel.value - fuel
        if left >= 0 and _set_fuel(self._context, left):
            raise BindingChanged("wasmtime does not take fuel")
        return left

    def watch(self, memory: wasmtime.Memory) -> None:
        """Tell the size of `memory` from now on; whoever calls this keeps it alive."""
        self._memory = c.addressof(memory._memory)

    def memory_size(self) -> int:
        """Return the size of the memory that is watched, in bytes; 0 if none is."""
        return int(_memory_size(self._context, self._memory)) if self._memory else 0

    def memory(self, length: int) -> memoryview:
        """Return the memory that is watched, which has this size, until it grows."""
        return view(self.memory_begin(), length)

    def memory_begin(self) -> int:
        """Return where the memory that is watched begins."""
        return int(_memory_data(self._context, self._memory))


def exported(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> Any:
    """Return what an instance exports under a name: the API's plain structure, or None.

    The API makes a list of all that is exported, which takes minutes where that is 100 000 things.
    """
    item, text = ffi.wasmtime_extern_t(), name.encode()
    place = byref(instance._instance)
    found = _export(store._context(), place, text, len(text), byref(item))
    return item if found else None


def exported_function(
    store: wasmtime.Store, instance: wasmtime.Instance, name: str
) -> wasmtime.Func | None:
    """Return the function that an instance exports under a name, or None."""
    item = exported(store, instance, name)
    if item is None or item.kind != _FUNCTION:
        return None
    return wasmtime.Func._from_raw(item.of.func)


def exported_memory(
    store: wasmtime.Store, instance: wasmtime.Instance, name: str
) -> wasmtime.Memory | None:
    """Return the memory that an instance exports under a name, or None."""
    item = exported(store, instance, name)
    if item is None or item.kind != _MEMORY:
        return None
    return wasmtime.Memory._from_raw(item.of.memory)


def function_type(name: str) -> wasmtime.FuncType:
    """Return the type of one of WASI's functions."""
    kinds = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
    results = [] if name in NO_RESULT else [wasmtime.ValType.i32()]
    return wasmtime.FuncType([kinds[kind]() for kind in SIGNATURES[name]], results)


def self_test(engine: wasmtime.Engine) -> None:
    """Raise `BindingChanged` unless a call's numbers and errors, and fuel, pass as they should."""
    try:
        _trial(engine)
    except Exception as error:  # noqa: BLE001 -- what is missing may show in any way
        raise BindingChanged(
            "wasmtime's private calls of the host are not as expected"
            f" ({type(error).__name__}: {error})"
        ) from None


def _trial(engine: wasmtime.Engine) -> None:
    kinds = ["i64" if kind == "I" else "i32" for kind in SIGNATURES[_TEST_NAME]]
    pairs = zip(kinds, _TEST_NUMBERS, strict=True)
    numbers = " ".join(f"({kind}.const {number})" for kind, number in pairs)
    module = wasmtime.Module(
        engine,
        f'(module (import "m" "{_TEST_NAME}" (func $f (param {" ".join(kinds)}) (result i32)))'
        f' (memory (export "m") 3) (func (export "f") (result i32) (call $f {numbers})))',
    )
    linker = wasmtime.Linker(engine)
    host, got = HostCalls(linker, "m"), []

    def call(name: str, arguments: list[int]) -> int:
        got.append((name, tuple(arguments)))
        if len(got) > 1:
            raise KeyError(name)
        return 76

    host.call = call
    store = wasmtime.Store(engine)
    gauge = Gauge(store)
    gauge.set(1 << 40)
    instance = linker.instantiate(store, module)
    function = exported_function(store, instance, "f")
    memory = exported_memory(store, instance, "m")
    for absent in (exported_function, exported_memory):
        _expect(absent(store, instance, "n"), None)
    _expect(exported_function(store, instance, "m"), None)
    _expect(exported_memory(store, instance, "f"), None)
    if function is None or memory is None:
        raise TypeError("an export is not found")
    _expect(function(store), 76)
    _expect(got, [(_TEST_NAME, _TEST_NUMBERS)])
    _expect(gauge.take(5), store.get_fuel())
    _expect(gauge.read(), store.get_fuel())
    gauge.watch(memory)
    _expect(gauge.memory_size(), memory.data_len(store))
    seen = gauge.memory(gauge.memory_size())
    memory.write(store, b"seen", 3)
    _expect((len(seen), bytes(seen[3:7])), (memory.data_len(store), b"seen"))
    seen[3:7] = b"told"
    _expect(bytes(memory.read(store, 3, 7)), b"told")
    begin, end = image(module)
    _expect(0 < begin < end, True)
    try:
        function(store)
    except KeyError as error:
        _expect(error.args, (_TEST_NAME,))
    else:
        raise ValueError("an error was lost")
    store.close()


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise ValueError(f"{found} in place of {wanted}")


def _nobody(name: str, _arguments: list[int]) -> int:
    raise LookupError(f"{name} was called while no task runs")


def _trap(error: BaseException) -> int:
    """Make the trap behind which `error` is raised."""
    # As the API's own functions do; its type there leaves out what the API puts there.
    _func.LAST_EXCEPTION = error  # type: ignore[assignment]
    trap = wasmtime.Trap("python exception")._consume()
    return int(c.cast(trap, address).value)
