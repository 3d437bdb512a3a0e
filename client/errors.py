"""Errors of the client; each message is a sentence for the user, and says what to do."""

from __future__ import annotations


class ClientError(Exception):
    """Something that a client wanted could not be had; the message says why and what to do."""


class NoPath(ClientError):
    """No path through the network keeps all limits; the message says which one is in the way."""


class DirectoryUnavailable(ClientError):
    """No authority gave a consensus; the message has each one's reason."""


class RuntimeUnavailable(ClientError):
    """No worker gave a runtime; the message has each one's reason."""


class CircuitUnavailable(ClientError):
    """No circuit could be built within the budget; try again, or see the reasons given."""


class AnswerRefused(ClientError):
    """A worker's answer does not count: it is not attested as it should be, or judged wrong."""


class NoQuorum(ClientError):
    """Too few workers gave the same answer, so none is believed; the message says how many did."""
