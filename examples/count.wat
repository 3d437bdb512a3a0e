;; Counts the lines, words and bytes of standard input, as wc does:
;;
;;   fog run examples/count.wat < README.md
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; 0: one buffer's address and length. 8: how much was read or written.
  ;; 16 to 64: the output, written from its end. 64 on: what was read.
  (memory (export "memory") 2)
  (global $end (mut i32) (i32.const 64))
  (global $buffer i32 (i32.const 64))

  (func $put (param $byte i32)
    (global.set $end (i32.sub (global.get $end) (i32.const 1)))
    (i32.store8 (global.get $end) (local.get $byte)))

  (func $put_number (param $number i32)
    (loop $digit
      (call $put (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $digit (local.get $number))))

  ;; Space, tab, line feed, vertical tab, form feed, carriage return.
  (func $is_space (param $byte i32) (result i32)
    (i32.or
      (i32.eq (local.get $byte) (i32.const 32))
      (i32.lt_u (i32.sub (local.get $byte) (i32.const 9)) (i32.const 5))))

  (func (export "_start")
    (local $lines i32) (local $words i32) (local $bytes i32)
    (local $at i32) (local $stop i32) (local $byte i32) (local $inside i32)
    (block $done
      (loop $more
        (i32.store (i32.const 0) (global.get $buffer))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 1))))
        (br_if $done (i32.eqz (i32.load (i32.const 8))))
        (local.set $bytes (i32.add (local.get $bytes) (i32.load (i32.const 8))))
        (local.set $at (global.get $buffer))
        (local.set $stop (i32.add (global.get $buffer) (i32.load (i32.const 8))))
        (loop $next
          (local.set $byte (i32.load8_u (local.get $at)))
          (local.set $lines
            (i32.add (local.get $lines) (i32.eq (local.get $byte) (i32.const 10))))
          (if (call $is_space (local.get $byte))
            (then (local.set $inside (i32.const 0)))
            (else
              (local.set $words (i32.add (local.get $words) (i32.eqz (local.get $inside))))
              (local.set $inside (i32.const 1))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $at) (local.get $stop))))
        (br $more)))
    (call $put (i32.const 10))
    (call $put_number (local.get $bytes))
    (call $put (i32.const 32))
    (call $put_number (local.get $words))
    (call $put (i32.const 32))
    (call $put_number (local.get $lines))
    (i32.store (i32.const 0) (global.get $end))
    (i32.store (i32.const 4) (i32.sub (i32.const 64) (global.get $end)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
