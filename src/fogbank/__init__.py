"""Fogbank: shared computing that nobody can trace.

The package's rooms, from the ground up: `fogbank.sandbox` runs WebAssembly modules,
`fogbank.relay` is the onion network, `fogbank.directory` says who is in it, and
`fogbank.client` does what a user does. Importing one room loads none above it.
"""

__version__ = "0.1.0"
