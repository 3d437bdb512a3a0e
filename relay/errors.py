"""Errors of the onion network; each docstring is what the user should know or do."""

from __future__ import annotations


class RelayError(Exception):
    """Something in the onion network went wrong; the message says what to do."""


class ProtocolError(RelayError):
    """A peer broke the protocol; its link, circuit or document was dropped (spec/00 §5)."""
