"""Calls into a program that come up for air every so much fuel (spec/07 §5).

wasmtime's Python API has no such call; the C functions for it stand in the private binding of the
pinned release. This is the one module that uses them, and `self_test` tells whether they still do
what is written here:

* a store with an interval yields each time that so much fuel was used, at the next point where the
  compiled code looks at its fuel: within one basic block, or one bulk instruction, whose bytes are
  counted before and looked at after;
* at a yield `Store.get_fuel` is exact, and so is it inside a host call;
* `Store.set_fuel` and `set_interval` take effect there, and begin the interval anew;
* the fuel used in all is that of a plain call.

The program runs on a stack of its own (a fiber) in this same thread; host functions do too, and
may block or fork.
"""

from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func

from fogbank.sandbox.binding import ERROR, BindingChanged, address, byref, c, check, plain, size

_TRAP: Any = c.POINTER(ffi.wasm_trap_t)
_set_interval = plain("wasmtime_context_fuel_async_yield_interval", ERROR, address, c.c_uint64)
_instantiate = plain("wasmtime_linker_instantiate_async", address, *[address] * 6)
_call = plain(
    "wasmtime_func_call_async", address, *[address] * 3, size, address, size, address, address
)
_poll = plain("wasmtime_call_future_poll", c.c_bool, address)
_delete = plain("wasmtime_call_future_delete", None, address)

OnYield = Callable[[], None]
"""Runs while the program stands still; an error that it raises ends the program."""

_TEST_INTERVAL = 1000
_TEST_MODULE = """(module
 (func (export "f") (local i32)
  (loop
   (local.set 0 (i32.add (local.get 0) (i32.const 1)))
   (br_if 0 (i32.lt_u (local.get 0) (i32.const 1000))))))"""


def set_interval(store: wasmtime.Store, fuel: int) -> None:
    """Have calls yield each time that `fuel` (1 or more) was used, counted from now.

    From then on the store takes no plain calls, only those of this module.
    """
    check(_set_interval(store._context(), fuel))


def instantiate(
    linker: wasmtime.Linker, store: wasmtime.Store, module: wasmtime.Module, on_yield: OnYield
) -> wasmtime.Instance:
    """Make an instance, and run its start section; raises what `Linker.instantiate` does."""
    instance = ffi.wasmtime_instance_t()

    def begin(trap: Any, error: Any) -> Any:
        return _instantiate(
            linker.ptr(), store._context(), module.ptr(), byref(instance), trap, error
        )

    _drive(begin, on_yield)
    return wasmtime.Instance._from_raw(instance)


def call(store: wasmtime.Store, function: wasmtime.Func, on_yield: OnYield) -> None:
    """Call a function without parameters or results; raises what a plain call does."""

    def begin(trap: Any, error: Any) -> Any:
        return _call(store._context(), byref(function._func), None, 0, None, 0, trap, error)

    _drive(begin, on_yield)


def self_test(engine: wasmtime.Engine) -> None:
    """Raise `BindingChanged` unless yields are there, exact, and take what is set at them."""
    try:
        plain, counted = _trial(engine)
    except Exception as error:  # noqa: BLE001 -- what is missing may show in any way
        raise BindingChanged(
            "wasmtime's private calls that yield by fuel are not as expected"
            f" ({type(error).__name__}: {error})"
        ) from None
    if plain != counted:
        raise BindingChanged(
            f"wasmtime counts fuel otherwise where it yields: {counted} in place of {plain}"
        )


def _trial(engine: wasmtime.Engine) -> tuple[int, int]:
    """Return the fuel of a plain call, and that of one with yields; check the yields."""
    module = wasmtime.Module(engine, _TEST_MODULE)
    full = 1 << 40
    used = []
    for interval in (0, _TEST_INTERVAL):
        store = wasmtime.Store(engine)
        store.set_fuel(full)
        linker = wasmtime.Linker(engine)
        seen: list[int] = []

        def watch(store: wasmtime.Store = store, seen: list[int] = seen) -> None:
            seen.append(full - store.get_fuel())
            if len(seen) == 1:
                set_interval(store, 3 * _TEST_INTERVAL)

        if interval:
            set_interval(store, interval)
            function = instantiate(linker, store, module, watch).exports(store)["f"]
        else:
            function = linker.instantiate(store, module).exports(store)["f"]
        if not isinstance(function, wasmtime.Func):
            raise TypeError("an export is no function")
        if interval:
            call(store, function, watch)
            _check_yields(seen, interval)
        else:
            function(store)
        used.append(full - store.get_fuel())
        store.close()
    return used[0], used[1]


def _check_yields(seen: list[int], interval: int) -> None:
    """Check that the first yield came after one interval, and the second after three more."""
    slack = interval // 10
    expected = [interval, 4 * interval]
    if any(abs(at - want) > slack for at, want in zip(seen[:2], expected, strict=True)):
        raise ValueError(f"yields at {seen[:2]} of fuel in place of {expected}")


def _drive(begin: Callable[[Any, Any], Any], on_yield: OnYield) -> None:
    """Poll what `begin` begins until it is done; raise what ended it."""
    trap, error = _TRAP(), ERROR()
    future = begin(byref(trap), byref(error))
    try:
        while not _poll(future):
            on_yield()
    finally:
        _delete(future)
    if error or trap:
        ended = wasmtime.WasmtimeError._from_ptr(error) if error else wasmtime.Trap._from_ptr(trap)
        # What a host function raised, which the API keeps; it forgets it then.
        _func.maybe_raise_last_exn()
        raise ended
