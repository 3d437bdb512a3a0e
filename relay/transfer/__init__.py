"""Runtimes from worker to worker: the service `runtime` (spec/08 §8)."""
