"""WASI preview 1, in memory and deterministic (spec/07 §7). Imports nothing by itself."""
