"""A program run by wasmtime as it comes, with fuel counted: what the sandbox is compared with.

    python bench/bare_wasmtime.py MODULE [ARGUMENT ...]

Compiles once; then, for each line of its input, runs the program and prints the CPU seconds that
this took, the fuel it used, and what it wrote.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import wasmtime

FUEL = 1 << 44


def main() -> None:
    """Compile, then run on demand."""
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    module = wasmtime.Module.from_file(engine, sys.argv[1])
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    for _ in sys.stdin:
        written = bytearray()
        store = wasmtime.Store(engine)
        store.set_fuel(FUEL)
        wasi = wasmtime.WasiConfig()
        wasi.argv = [Path(sys.argv[1]).stem, *sys.argv[2:]]
        wasi.stdout_custom = written.extend
        store.set_wasi(wasi)
        begin = time.process_time()
        start = linker.instantiate(store, module).exports(store)["_start"]
        if not isinstance(start, wasmtime.Func):
            raise TypeError("the module exports no function _start")
        try:
            start(store)
        except wasmtime.ExitTrap as end:
            if end.code:
                raise
        seconds = time.process_time() - begin
        used = FUEL - store.get_fuel()
        store.close()
        print(json.dumps([seconds, used, written.decode()]), flush=True)
    # The threads of its WASI do not bear the interpreter's end.
    os._exit(0)


if __name__ == "__main__":
    main()
