"""Exit codes of the command line (spec/08 §7)."""

import pytest

from fogbank.client.exit_codes import ending_of, ending_of_error
from fogbank.relay.errors import CircuitDestroyed
from fogbank.relay.job.errors import Cause, JobInterrupted, JobRefused, Progress
from fogbank.sandbox.outcome import ModuleRefused, Outcome

CODES = {
    Outcome.TOO_SLOW: 119,
    Outcome.OUT_OF_FUEL: 120,
    Outcome.OUT_OF_MEMORY: 121,
    Outcome.TRAP: 122,
    Outcome.OUTPUT_LIMIT: 123,
    Outcome.TIMEOUT: 124,
    Outcome.HOST_FAILURE: 125,
    Outcome.UNKNOWN_IMPORT: 126,
    Outcome.INVALID_MODULE: 126,
    Outcome.COMPILE_LIMIT: 126,
    Outcome.UNKNOWN_RUNTIME: 126,
    Outcome.CANCELLED: 130,
}


@pytest.mark.parametrize("code", [0, 1, 120, 255])
def test_the_programs_own_code_passes_in_silence(code: int) -> None:
    ending = ending_of(Outcome.COMPLETED, code)
    assert (ending.code, ending.sentence) == (code, "")


def test_every_other_outcome_has_its_code_and_a_sentence_of_its_own() -> None:
    assert set(CODES) == set(Outcome) - {Outcome.COMPLETED}
    endings = {outcome: ending_of(outcome) for outcome in CODES}
    assert {outcome: ending.code for outcome, ending in endings.items()} == CODES
    assert len({ending.sentence for ending in endings.values()}) == len(CODES)


def test_the_workers_reason_is_part_of_the_sentence() -> None:
    sentence = ending_of(Outcome.TRAP, reason="unreachable was executed.").sentence
    assert sentence == (
        "The program crashed (unreachable was executed). The fault is in the program or its input."
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobRefused(Cause.BUSY, "full"), 126),
        (ModuleRefused(Outcome.INVALID_MODULE, "text"), 126),
        (JobInterrupted(Progress.RUNNING, "the circuit ended"), 125),
        (CircuitDestroyed("gone"), 125),
    ],
)
def test_errors_have_codes_and_sentences_too(error: Exception, code: int) -> None:
    assert isinstance(error, JobRefused | ModuleRefused | JobInterrupted | CircuitDestroyed)
    ending = ending_of_error(error)
    assert ending.code == code
    assert ending.sentence
