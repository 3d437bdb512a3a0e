"""Interpreters that a worker holds, so that a client sends a script alone (spec/07 §1.1)."""
