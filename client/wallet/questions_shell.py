"""What a restore asks of all members of a series' committee (spec/09 §8.3).

Each question goes to each member over a circuit of its own, so that an authority does not see
which buckets belong to one wallet.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from fogbank.client.wallet.answers import Answer, Question, What
from fogbank.client.wallet.asking_shell import FAILURES, Committee, NotNow, Refusing, Talk
from fogbank.client.wallet.mint_errors import MintUnavailable
from fogbank.directory.mint.bodies import unpack_held, unpack_outputs, unpack_serials
from fogbank.directory.mint.exchange import GetOutputs, GetRequest, GetSerials

_MOST_PAGES = 8
"""Of a bucket. One is chosen so that an honest member has two at most."""


async def ask_all(committee: Committee, question: Question) -> dict[int, Answer]:
    """Return what members answered, by their places.

    Once a quorum has answered, the others have as long again as a request waits for one of them.
    Raises `MintUnavailable` if fewer than a quorum did; but one member that has a request is
    enough, as its hash tells that it is the one, and so is none: then nobody says what it is.
    """
    answers: dict[int, Answer] = {}
    troubles: dict[int, str] = {}
    patience, quorum = committee.means.patience, committee.series.quorum

    async def member(place: int, scope: trio.CancelScope) -> None:
        for attempt in range(patience.attempts):
            await trio.sleep(patience.pause * attempt)
            try:
                async with committee.talk(place) as talk:
                    answers[place] = await _ask(talk, question)
            except FAILURES as error:
                troubles[place] = committee.trouble(place, error)
                if isinstance(error, Refusing):
                    break
            else:
                break
        if len(answers) == quorum:
            scope.deadline = min(scope.deadline, trio.current_time() + patience.hedge)

    with trio.move_on_after(patience.total) as scope:
        async with trio.open_nursery() as nursery:
            for place, each in enumerate(committee.series.members, 1):
                if each.vote_key:
                    nursery.start_soon(member, place, scope)
    if len(answers) < quorum and question.what is not What.REQUEST:
        reasons = "; ".join(f"{committee.name(i)}: {why}" for i, why in sorted(troubles.items()))
        raise MintUnavailable(f"too few authorities say what they have: try again. {reasons}")
    return answers


async def _ask(talk: Talk, question: Question) -> Answer:
    series = question.series
    if question.what is What.REQUEST:
        try:
            return Answer(held=unpack_held(await talk.ask(GetRequest(series, question.digest))))
        except (Refusing, NotNow):
            # It does not have that one, which is an answer too.
            return Answer()
    rows: list[tuple[bytes, ...]] = []
    total, after = 0, b""
    for _ in range(1 if question.first_page else _MOST_PAGES):
        total, page = await _page(talk, question, after)
        rows += page
        if not page:
            break
        after = page[-1][0]
    return Answer(rows, total)


async def _page(
    talk: Talk, question: Question, after: bytes
) -> tuple[int, Sequence[tuple[bytes, ...]]]:
    """Return how many there are in the series, and the rows of a bucket that come next."""
    place = (question.series, question.bits, question.prefix, after)
    if question.what is What.OUTPUTS:
        outputs = unpack_outputs(await talk.ask(GetOutputs(*place)))
        return outputs.total, [(each.point, each.share, each.digest) for each in outputs.entries]
    serials = unpack_serials(await talk.ask(GetSerials(*place)))
    return serials.total, [(each.serial, each.digest) for each in serials.entries]
