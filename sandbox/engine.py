"""The one place that configures wasmtime, and names what was configured (spec/07 §6).

Every flag is listed, defaults included, because results, fuel and compiled code compare only
between engines of one class.
"""

import hashlib
import platform

import wasmtime

WASMTIME = "50.0.1"
"""The version that fuel and results are promised for; the sandbox refuses to start with another."""

RESERVATION = 4 << 30
GUARD = 32 << 20
"""Bytes of address space before and after each memory that nothing is ever mapped to."""

STACK = 1 << 20
"""Bytes of stack for the guest."""

FLAGS: tuple[tuple[str, bool | int | str], ...] = (
    ("strategy", "cranelift"),
    ("cranelift_opt_level", "speed"),
    ("cranelift_debug_verifier", False),
    # Costs up to a factor of five, and one architecture gives one result without it.
    ("cranelift_nan_canonicalization", False),
    ("consume_fuel", True),
    ("epoch_interruption", False),
    # A thread that waits cannot be interrupted; and a compiler with threads cannot be forked.
    ("parallel_compilation", False),
    ("wasm_threads", False),
    ("shared_memory", False),
    ("wasm_relaxed_simd", False),
    ("wasm_simd", True),
    ("wasm_bulk_memory", True),
    ("wasm_multi_value", True),
    ("wasm_reference_types", True),
    ("wasm_tail_call", True),
    ("wasm_multi_memory", False),
    ("wasm_memory64", False),
    ("wasm_custom_page_sizes", False),
    ("wasm_wide_arithmetic", False),
    ("wasm_stack_switching", False),
    ("wasm_function_references", False),
    ("wasm_gc", False),
    ("gc_support", False),
    ("wasm_exceptions", False),
    ("wasm_component_model", False),
    ("max_wasm_stack", STACK),
    # All that 32 bits can address: an access needs no check then, and a memory never moves.
    ("memory_reservation", RESERVATION),
    ("memory_reservation_for_growth", 0),
    ("memory_guard_size", GUARD),
    ("memory_may_move", True),
    # Needs a memory file, which the jail forbids.
    ("memory_init_cow", False),
    ("signals_based_traps", True),
    ("native_unwind_info", False),
    ("debug_info", False),
)


def make_engine() -> wasmtime.Engine:
    """Make an engine of this class. It starts no thread."""
    config = wasmtime.Config()
    for name, value in FLAGS:
        setattr(config, name, value)
    return wasmtime.Engine(config)


def engine_class() -> str:
    """Name what results depend on: wasmtime's version, the architecture, every flag."""
    flags = repr(FLAGS).encode()
    digest = hashlib.sha256(b"fogbank engine flags\0" + flags).hexdigest()[:16]
    return f"wasmtime-{WASMTIME}-{platform.machine()}-{digest}"
