"""What `fog run -v` and `fog map -v` say of what happens."""

import pytest

from fogbank.cli.happenings import Happenings
from fogbank.cli.progress import ProgressLines, show_fuel
from fogbank.cli.sizes import parse_fuel
from fogbank.client.exit_codes import Ending
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import TaskState


@pytest.mark.parametrize(
    ("fuel", "shown"),
    [(0, "0"), (999, "999"), (1500, "1.5k"), (27 * 10**10, "270G"), (2 * 10**12, "2T")],
)
def test_fuel_is_shown_as_the_command_line_takes_it(fuel: int, shown: str) -> None:
    assert show_fuel(fuel) == shown
    assert not fuel or parse_fuel(shown) == fuel


def test_progress_is_said_at_first_often_and_then_seldom() -> None:
    lines = ProgressLines()
    assert lines.line(TaskState(0, State.QUEUED, "2 jobs wait before it"), 0.0) == (
        "queued 2 jobs wait before it"
    )
    assert lines.line(TaskState(1, State.RUNNING, fuel=0), 1.0) == "running"
    assert lines.line(TaskState(1, State.RUNNING, fuel=5), 1.5) is None
    assert lines.line(TaskState(1, State.RUNNING, fuel=3 * 10**9), 2.5) == (
        "running, 3G of fuel so far, 2G a second"
    )
    said = [lines.line(TaskState(1, State.RUNNING, fuel=at * 10**9), at) for at in range(4, 1000)]
    assert 15 < sum(line is not None for line in said) < 50


def test_a_pause_and_its_end_are_said_at_once() -> None:
    lines = ProgressLines()
    lines.line(TaskState(1, State.RUNNING, fuel=0), 1.0)
    paused = TaskState(1, State.PAUSED, "its granted fuel is used up", 2_000_000)
    assert lines.line(paused, 1.1) == "paused at 2M of fuel: its granted fuel is used up"
    assert lines.line(TaskState(1, State.RUNNING, fuel=2_000_000), 1.2) == "running at 2M of fuel"


def test_of_an_array_each_event_is_said_once_and_why_a_task_is_run_again() -> None:
    heard = Happenings()
    assert heard.reached(["g", "m", "c", "w"]) == ("a session at w, over the circuit g → m → c → w")
    assert heard.told(TaskState(0, State.QUEUED, "2 jobs wait before it"), "w") == (
        "w: the program is queued 2 jobs wait before it"
    )
    assert heard.told(TaskState(5, State.QUEUED), "w") == "task 5 is queued at w"
    assert heard.told(TaskState(5, State.QUEUED), "w") is None
    assert heard.told(TaskState(5, State.RUNNING, fuel=0), "w") == "task 5 runs at w"
    assert heard.told(TaskState(5, State.RUNNING, fuel=7), "w") is None
    assert heard.told(TaskState(5, State.RUNNING, fuel=0), "x") == "task 5 runs at x, and at w"
    assert heard.tried(5, "w", "it was cut off") == (
        "task 5 came to nothing at w, and goes to another worker: it was cut off"
    )
    assert (
        heard.told(TaskState(5, State.PAUSED, "no fuel"), "x") == "task 5 is paused at x: no fuel"
    )
    assert heard.told(TaskState(5, State.RUNNING, fuel=9), "x") == "task 5 runs again at x"
    assert heard.ended(5, Ending(3)) == "task 5 has ended, with exit code 3"
    assert heard.ended(6, Ending(124, "It was late.")) == "task 6 has ended: It was late."
    assert heard.left("w") == "a session at w is over"
