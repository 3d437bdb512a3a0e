"""Errors of the onion network; each docstring is what the user should know or do."""

from __future__ import annotations


class RelayError(Exception):
    """Something in the onion network went wrong; the message says what to do."""


class ProtocolError(RelayError):
    """A peer broke the protocol; its link, circuit or document was dropped (spec/00 §5)."""


class CircuitDestroyed(RelayError):
    """A circuit ended while it was in use; try again, another path will be taken."""


class StreamReset(RelayError):
    """The other end of a circuit ended a stream early; the message says why."""


class ExtendRefused(RelayError):
    """A relay would not extend a circuit; the message says why, another path will be taken."""


class WorkRefused(ExtendRefused):
    """A relay is overloaded, and asks for more work than is reasonable; try another path."""


class LinkFailed(RelayError):
    """No link to a node could be had; check that it runs and that its address is right."""


class KeyStoreError(RelayError):
    """A node's keys cannot be read, written or renewed; the message says what to do."""
