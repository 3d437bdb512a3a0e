"""Names what a module uses that no sandbox takes, and what to build otherwise (spec/07 §1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of WebAssembly: how wasmtime's words show that it is missing, and what to do."""

    name: str
    signs: tuple[str, ...]
    advice: str


FEATURES = (
    Feature(
        "components",
        ("encoded as a component",),
        "build a core module for WASI preview 1, as the targets wasm32-wasip1 and wasm32-wasi do,"
        " and not wasm32-wasip2",
    ),
    Feature(
        "threads",
        ("threads must be enabled", "threads support is not enabled"),
        "build for wasm32-wasip1 or wasm32-wasi, not for wasm32-wasip1-threads, without -pthread"
        " and -matomics",
    ),
    Feature(
        "exceptions",
        (
            "exceptions proposal not enabled",
            "exceptions support is not enabled",
            "exception refs not supported",
            "legacy_exceptions feature required",
        ),
        "build C and C++ with -fno-exceptions and without -fwasm-exceptions or setjmp, Rust with"
        " -Cpanic=abort",
    ),
    Feature(
        "64-bit memory",
        ("memory64 must be enabled",),
        "build for wasm32, not wasm64",
    ),
    Feature(
        "several memories",
        ("multiple memories",),
        "link with one memory, without --enable-multimemory",
    ),
    Feature(
        "relaxed SIMD",
        ("relaxed SIMD support",),
        "build without -mrelaxed-simd; -msimd128 is taken",
    ),
    Feature(
        "garbage collection",
        ("the gc feature", "`gc` proposal", "which requires gc", "gc support is not enabled"),
        "Kotlin, Dart and Java need it to compile; C, C++, Rust, Zig and Go do without",
    ),
    Feature(
        "stack switching",
        ("when stack switching", "stack switching support"),
        "build without coroutines of WebAssembly's own",
    ),
    Feature(
        "typed function references",
        ("function references required",),
        "build without -mgc or --enable-typed-function-references",
    ),
    Feature(
        "custom page sizes",
        ("the custom page sizes proposal",),
        "link without --page-size",
    ),
    Feature(
        "wide arithmetic",
        ("wide arithmetic support",),
        "build without -mwide-arithmetic",
    ),
)


def missing_feature(words: str) -> Feature | None:
    """Return the feature that wasmtime's `words` say is not there, or None."""
    return next((item for item in FEATURES if any(sign in words for sign in item.signs)), None)


_OWN_MEMORY = "a program brings its own memory: link without --import-memory"
_UNKNOWN = "only wasi_snapshot_preview1 is offered: build for wasm32-wasip1 or wasm32-wasi"
_BY_MODULE = {
    "wasi_snapshot_preview1": "that is no function of WASI preview 1, but of some other host:"
    " build without it",
    "wasi_unstable": "that is WASI of 2019: build with a newer compiler, for WASI preview 1",
    "wasi": "that starts threads: build for wasm32-wasip1, without -pthread",
    "go": "that is Go for browsers: build with GOOS=wasip1, not GOOS=js",
    "gojs": "that is Go for browsers: build with GOOS=wasip1, not GOOS=js",
    "wbg": "that is wasm-bindgen, for browsers: build for wasm32-wasip1 without it",
    "env": "the linker did not find it: link what defines it, without --allow-undefined; a program"
    " made by Emscripten must be built for wasm32-wasi instead",
    "a": "that is Emscripten's, for browsers: build for wasm32-wasi instead",
}
_BY_BEGINNING = {
    "wasi:": "that is WASI preview 2: build for wasm32-wasip1, not wasm32-wasip2",
    "wasix": "that is WASIX: build for plain WASI (wasm32-wasip1)",
    "__wbindgen": "that is wasm-bindgen, for browsers: build for wasm32-wasip1 without it",
}


def advice_on_import(module: str, name: str) -> str:
    """Return what to do about an import that is not offered."""
    if module == "env" and name in {"memory", "__linear_memory"}:
        return _OWN_MEMORY
    for beginning, advice in _BY_BEGINNING.items():
        if module.startswith(beginning):
            return advice
    return _BY_MODULE.get(module, _UNKNOWN)
