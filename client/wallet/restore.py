"""Finding a wallet's tokens from its words alone (spec/09 §8.3). Pure.

    while questions := restore.questions():
        for question in questions:
            restore.answer(question, {member: Answer(…), …})    # of a quorum at least
    found = restore.found()

Members may lie: an output is looked into if any member shows it, shares count if they make a token
that is right, and a serial is spent if its own key signed a request over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fogbank.client.wallet.answers import Answer, Answers, Question, What
from fogbank.client.wallet.derivation import Place, Role, Secrets
from fogbank.client.wallet.lanes import Lanes
from fogbank.client.wallet.records import Token
from fogbank.client.wallet.shares import tokens_of
from fogbank.client.wallet.terms import OFFER_PERIODS, Terms
from fogbank.directory.mint.requests import Request, SignedRequest, Withdrawal
from fogbank.directory.mint.state import MintState
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId


@dataclass(frozen=True, slots=True)
class Found:
    """What the mint has of a seed.

    `tokens` can be spent; `spent` are places of those that cannot, also of those known before.
    `open`: requests to be completed, with the places of their outputs. `issued`: H(R), by the
    places of all tokens that were made. `branches`: of each role the first that is not in use.
    `units`: of each series, how many units of the node's allotment are taken.
    """

    tokens: tuple[Token, ...]
    spent: frozenset[Place]
    open: tuple[tuple[SignedRequest, tuple[Place, ...]], ...]
    issued: Mapping[Place, bytes]
    branches: Mapping[Role, int]
    units: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Made:
    """A token that was put together, and H(R) of what it was issued for, as most members say."""

    token: Token
    digest: bytes


class Restore:
    """One search.

    `random`: 32 bytes. `known`: tokens that the wallet has already. `identity`: of the node whose
    wallet it is, to learn what of its allotments is taken.
    """

    def __init__(
        self,
        secrets: Secrets,
        terms: Terms,
        state: MintState,
        now: int,
        random: bytes,
        *,
        known: Iterable[Token] = (),
        identity: NodeId | None = None,
    ) -> None:
        living = terms.calendar.living(now)
        self._answers = Answers(each for each in state.series if each.number in living)
        self._records = self._answers.records
        self._network_id, self._random = terms.network_id, random
        first = max(0, living[0] - OFFER_PERIODS)
        self._lanes = Lanes(secrets, range(first, living[-1] + 1))
        self._known = [token for token in known if token.series in self._records]
        self._identity = identity
        self._allotted = {
            series: state.allotted(identity, series)
            for series in self._records
            if identity is not None and now < terms.calendar.withdraw_until(series)
        }
        self._pending: set[bytes] = set()
        self._shown: dict[int, set[bytes]] = {series: set() for series in self._records}
        """Of each series the outputs of the wallet's own that any member shows."""
        self._made: dict[bytes, _Made] = {}
        self._units: dict[int, int] = {}
        self._signed: dict[bytes, SignedRequest | None] = {}

    def questions(self) -> tuple[Question, ...]:
        """Return what to ask next; nothing once all is known. It may take seconds."""
        for step in (self._answers.sizes, self._outputs, self._spent, self._taken):
            asked = step()
            if asked:
                return tuple(sorted(asked, key=_order))
        return ()

    def answer(self, question: Question, answers: Mapping[int, Answer]) -> None:
        """Take in what members said, by their numbers."""
        self._answers.take(question, answers)

    def found(self) -> Found:
        """Return what there is, once there are no more questions."""
        made = self._made.values()
        tokens = [each.token for each in made]
        spent = {
            token.place
            for token in (*tokens, *self._known)
            if self._is_spent(token.series, token.serial)
        }
        return Found(
            tuple(token for token in tokens if token.place not in spent),
            frozenset(spent),
            tuple(self._open()),
            {each.token.place: each.digest for each in made},
            {role: self._lanes.unused(role) for role in Role},
            self._units,
        )

    # Which outputs were issued.

    def _outputs(self) -> set[Question]:
        while True:
            asked = self._ask_of_pending()
            if asked:
                return asked
            self._pending |= set(self._lanes.derive())
            if not self._pending:
                self._make()
                return set()

    def _ask_of_pending(self) -> set[Question]:
        asked: set[Question] = set()
        for blinded in tuple(self._pending):
            missing = {
                question
                for series in self._records
                if (question := self._answers.missing(What.OUTPUTS, series, blinded))
            }
            asked |= missing
            if not missing:
                self._pending.remove(blinded)
                self._note(blinded)
        return asked

    def _note(self, blinded: bytes) -> None:
        for series in self._records:
            if self._answers.said(What.OUTPUTS, series, blinded):
                self._shown[series].add(blinded)
                self._lanes.reach(blinded)

    def _make(self) -> None:
        """Put tokens together, of all that was not tried yet."""
        for series, shown in self._shown.items():
            rows = {
                blinded: self._answers.said(What.OUTPUTS, series, blinded)
                for blinded in shown
                if blinded not in self._made
            }
            outputs = [
                (self._lanes.output(blinded), {member: row[0] for member, row in given.items()})
                for blinded, given in rows.items()
            ]
            record = self._records[series]
            signatures = tokens_of(record, self._network_id, outputs, self._random)
            for output, _ in outputs:
                place, signature = self._lanes.place(output.blinded), signatures.get(output.blinded)
                if place is not None and signature is not None:
                    token = Token(place, series, output.serial, signature)
                    said = [row[1] for row in rows[output.blinded].values()]
                    digest = max(said, key=said.count)
                    self._made[output.blinded] = _Made(token, digest)

    # Which tokens are spent, and in what.

    def _spent(self) -> set[Question]:
        tokens = [*(each.token for each in self._made.values()), *self._known]
        asked = {
            question
            for token in tokens
            if (question := self._answers.missing(What.SERIALS, token.series, token.serial))
        }
        if asked:
            return asked
        settled = {each.digest for each in self._made.values()}
        wanted = {
            (token.series, digest)
            for token in tokens
            for digest, members in self._claims(token.series, token.serial).items()
            if digest not in settled or members <= self._records[token.series].faulty
        }
        for series, shown in self._shown.items():
            for blinded in shown - self._made.keys():
                rows = self._answers.said(What.OUTPUTS, series, blinded).values()
                wanted |= {(series, row[1]) for row in rows}
        return self._ask_for(wanted)

    def _claims(self, series: int, serial: bytes) -> dict[bytes, int]:
        """Return for which requests a serial is said to be locked, and by how many members."""
        said = [row[0] for row in self._answers.said(What.SERIALS, series, serial).values()]
        return {digest: said.count(digest) for digest in said}

    def _ask_for(self, wanted: Iterable[tuple[int, bytes]]) -> set[Question]:
        return {
            Question(What.REQUEST, series, digest=digest)
            for series, digest in wanted
            if digest not in self._answers.held
        }

    def _is_spent(self, series: int, serial: bytes) -> bool:
        """Tell whether more say so than may lie, or what the serial's own key signed is there."""
        for digest, members in self._claims(series, serial).items():
            signed = self._request(digest)
            if members > self._records[series].faulty:
                return True
            if signed is not None and serial in signed.request.serials():
                return True
        return False

    def _request(self, digest: bytes) -> SignedRequest | None:
        """Return a request that was asked for, if any member has it with all its proofs."""
        if digest not in self._signed:
            held = self._answers.held.get(digest, [])
            good = (each.signed for each in held if _is_signed(each.signed))
            self._signed[digest] = next(good, None)
        return self._signed[digest]

    def _open(self) -> Iterable[tuple[SignedRequest, tuple[Place, ...]]]:
        """Return requests into outputs of the wallet's own, not all of which were issued."""
        for digest in sorted(self._answers.held):
            signed = self._request(digest)
            if signed is None:
                continue
            places = [self._lanes.place(output) for output in signed.request.outputs]
            own = tuple(place for place in places if place is not None)
            if len(own) == len(places) and not self._made.keys() >= set(signed.request.outputs):
                yield signed, own

    # What of allotments is taken.

    def _taken(self) -> set[Question]:
        """Go from one withdrawal to the next, as long as there is one."""
        asked: set[Question] = set()
        for series, amount in self._allotted.items():
            while (first := self._units.setdefault(series, 0)) < amount:
                serial = self._unit(series, first)
                question = self._answers.missing(What.SERIALS, series, serial)
                if question is not None:
                    asked.add(question)
                    break
                claims = self._claims(series, serial)
                missing = self._ask_for((series, digest) for digest in claims)
                if missing:
                    asked |= missing
                    break
                ends = [end for digest in claims if (end := self._end(digest, first))]
                if not ends:
                    break
                self._units[series] = max(ends)
        return asked

    def _unit(self, series: int, unit: int) -> bytes:
        source = Withdrawal(self._identity or b"", unit, 1)
        return Request(self._network_id, series, source, ()).serials()[0]

    def _end(self, digest: bytes, unit: int) -> int:
        """Return the unit behind a withdrawal that has this one; 0 if it is none of this node's."""
        signed = self._request(digest)
        source = signed.request.source if signed is not None else None
        if not isinstance(source, Withdrawal) or source.identity != self._identity:
            return 0
        end = source.first + source.count
        return end if source.first <= unit < end else 0


def _is_signed(signed: SignedRequest) -> bool:
    try:
        signed.check_proofs(None)
    except ProtocolError:
        return False
    return True


def _order(question: Question) -> tuple[int, int, int, bytes]:
    return (question.what, question.series, question.prefix, question.digest)
