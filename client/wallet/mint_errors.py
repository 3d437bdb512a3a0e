"""What asking the authorities for credit may end in; each docstring is what the user should do."""

from __future__ import annotations

from fogbank.client.errors import ClientError


class MintError(ClientError):
    """A request was not carried out; the message says why, and what becomes of it."""


class MintUnavailable(MintError):
    """Too few authorities answered. Nothing is lost: the next command goes on with the request."""


class RequestRefused(MintError):
    """More authorities refused the request than can be faulty; the message has their reasons."""


class LockedElsewhere(MintError):
    """A token of the request was used in another one by a wallet of the same words.

    `others` are the signed requests that it is locked to instead, as they were sent, the one that
    most authorities named first.
    """

    def __init__(self, others: tuple[bytes, ...]) -> None:
        super().__init__(
            "tokens of this wallet were used in another request, by a wallet made of the same "
            "words: never use one wallet in two places; `fog wallet restore` finds what is left"
        )
        self.others = others
