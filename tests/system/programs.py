"""Small WASI programs in text form, each for one way to end."""

from __future__ import annotations

_HEAD = """
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
"""

# Copies standard input to standard output until its end, then exits with 7.
COPY = (
    _HEAD
    + """
  (func (export "_start")
    (block $done
      (loop $more
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 4096))
        (br_if $done (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $done (i32.eqz (i32.load (i32.const 8))))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (br_if $done (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $more)))
    (call $exit (i32.const 7))))
"""
)

# Writes a line to standard error and ends well.
COMPLAIN = (
    _HEAD
    + r"""
  (data (i32.const 64) "oh dear\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""
)

FOREVER = _HEAD + '(func (export "_start") (loop $again (br $again))))'

TRAP = _HEAD + '(func (export "_start") unreachable))'

FOREIGN = """
(module
  (import "env" "open_socket" (func $open))
  (memory (export "memory") 1)
  (func (export "_start") (call $open)))
"""

HUNGRY = """
(module
  (memory (export "memory") 60000)
  (func (export "_start")))
"""

# Judges: ends with 0 if standard input and the file `input` begin alike (4096 bytes), else with 1.
EQUAL = r"""
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "input")
  (func $fill (param $descriptor i32) (param $at i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (local.get $descriptor) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start") (local $at i32)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12))
      (then (call $exit (i32.const 2))))
    (call $fill (i32.const 0) (i32.const 8192))
    (call $fill (i32.load (i32.const 12)) (i32.const 16384))
    (loop $more
      (if (i64.ne (i64.load (i32.add (local.get $at) (i32.const 8192)))
                  (i64.load (i32.add (local.get $at) (i32.const 16384))))
        (then (call $exit (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 4096))))))
"""
