"""The lean ways between a program and its host, by wasmtime's private binding."""

from collections.abc import Sequence

import pytest
import wasmtime

from fogbank.sandbox import host_calls
from fogbank.sandbox.binding import BindingChanged
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.host_calls import Gauge, HostCalls
from fogbank.sandbox.wasi.abi import MODULE, NO_RESULT, SIGNATURES
from tests.sandbox.programs import imported, text

ENGINE = make_engine()


def test_the_binding_does_what_is_written_of_it() -> None:
    host_calls.self_test(ENGINE)


@pytest.mark.parametrize(("name", "value"), [("_WORDS", 2), ("_get_fuel", lambda *_: 1)])
def test_a_binding_that_has_changed_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(host_calls, name, value)
    with pytest.raises(BindingChanged, match="wasmtime"):
        host_calls.self_test(ENGINE)


def every_call() -> bytes:
    """A module that makes each call once, with all bits of all numbers set but the last."""
    ones = {"i": "(i32.const -2)", "I": "(i64.const -2)"}
    calls = (
        f"(call ${name} {' '.join(ones[kind] for kind in kinds)})"
        if name in NO_RESULT
        else f"(drop (call ${name} {' '.join(ones[kind] for kind in kinds)}))"
        for name, kinds in SIGNATURES.items()
    )
    return text(
        f'{" ".join(imported(name) for name in SIGNATURES)} (memory (export "memory") 1)'
        f' (func (export "_start") {" ".join(calls)})'
    )


def test_every_call_arrives_with_unsigned_numbers() -> None:
    got: dict[str, list[int]] = {}

    def call(name: str, arguments: Sequence[int]) -> int:
        got[name] = list(arguments)
        return 0

    linker = wasmtime.Linker(ENGINE)
    host = HostCalls(linker, MODULE)
    host.call = call
    store = wasmtime.Store(ENGINE)
    store.set_fuel(1 << 20)
    exports = linker.instantiate(store, wasmtime.Module(ENGINE, every_call())).exports(store)
    start = exports["_start"]
    assert isinstance(start, wasmtime.Func)
    start(store)
    bits = {"i": (1 << 32) - 2, "I": (1 << 64) - 2}
    assert got == {name: [bits[kind] for kind in kinds] for name, kinds in SIGNATURES.items()}
    host.forget()
    with pytest.raises(LookupError, match="while no task runs"):
        start(store)
    store.close()


def test_a_gauge_reads_and_sets_fuel_and_sees_memory_grow() -> None:
    store = wasmtime.Store(ENGINE)
    gauge = Gauge(store)
    gauge.set((1 << 63) + 5)
    assert gauge.read() == store.get_fuel() == (1 << 63) + 5
    assert gauge.take(6) == store.get_fuel() == (1 << 63) - 1
    assert gauge.take(1 << 63) == -1
    assert store.get_fuel() == (1 << 63) - 1
    assert gauge.memory_size() == 0
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, 9)))
    gauge.watch(memory)
    assert gauge.memory_size() == 65536
    memory.grow(store, 2)
    assert gauge.memory_size() == 3 * 65536
    store.close()
    plain = wasmtime.Store(wasmtime.Engine())
    with pytest.raises(BindingChanged):
        Gauge(plain).set(1)
    with pytest.raises(BindingChanged):
        Gauge(plain).read()
    with pytest.raises(BindingChanged):
        Gauge(plain).take(0)
    plain.close()
