"""Runs WebAssembly modules in isolation, metered in fuel."""
