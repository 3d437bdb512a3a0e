"""The examples do what their README says."""

from pathlib import Path

import pytest

from fogbank.sandbox.data import whole
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from fogbank.sandbox.wat import module_from_file
from tests.sandbox.conftest import Compiler

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RENDER = (EXAMPLES / "render" / "render.wasm").read_bytes()
SCENE = (EXAMPLES / "render" / "scene.txt").read_bytes()
WIDTH, HEIGHT = 48, 36
BUILD = ("cc", "-Os", "-s", "-ffp-contract=off")


@pytest.fixture(scope="module")
def renderer() -> Runner:
    engine = make_engine()
    runner = Runner(engine)
    runner.load(compile_module(engine, RENDER))
    return runner


def tile(renderer: Runner, *place: int | str) -> Result:
    words = tuple(str(word) for word in place)
    return renderer.run(Task(args=("render", *words), files=(("scene.txt", SCENE),)))


def test_tiles_make_up_the_picture(renderer: Runner) -> None:
    picture = tile(renderer, 0, 0, WIDTH, HEIGHT, WIDTH, HEIGHT)
    assert picture.succeeded, picture.stderr
    pixels = whole(picture.stdout)
    assert len(pixels) == 3 * WIDTH * HEIGHT
    assert len({pixels[at : at + 3] for at in range(0, len(pixels), 3)}) > 500
    rows = [b""] * HEIGHT
    for x in range(0, WIDTH, 16):
        for y in range(0, HEIGHT, 12):
            part = whole(tile(renderer, x, y, 16, 12, WIDTH, HEIGHT).stdout)
            for row in range(12):
                rows[y + row] += part[48 * row : 48 * (row + 1)]
    # Rows of tiles were met from left to right, so each row is whole.
    assert b"".join(rows) == pixels


def test_a_scene_may_come_by_standard_input(renderer: Runner) -> None:
    place = ("0", "0", "8", "8", "8", "8")
    by_input = renderer.run(Task(args=("render", *place), stdin=SCENE))
    assert by_input.stdout == tile(renderer, *place).stdout


@pytest.mark.parametrize(
    ("place", "scene", "words"),
    [
        ((), SCENE, b"usage: "),
        ((0, 0, 9, 9, 8, 8), SCENE, b"outside the image"),
        ((0, 0, 0, 8, 8, 8), SCENE, b"no whole number"),
        ((0, 0, 8, 8, 8, 99999), SCENE, b"no whole number"),
        ((0, 0, 8, 8, 8, "8x"), SCENE, b"no whole number"),
        ((0, 0, 8, 8, 8, 8), b"", b"there is no scene"),
        ((0, 0, 8, 8, 8, 8), b"fog 1\nball 1\n", b"line 2 of the scene: it begins with no word"),
        ((0, 0, 8, 8, 8, 8), b"\n\nfog\n", b"line 3 of the scene: it has too few numbers"),
        ((0, 0, 8, 8, 8, 8), b"fog x\n", b"line 1 of the scene: something in it is no number"),
        ((0, 0, 8, 8, 8, 8), b"#" * 70_000, b"longer than 64 KiB"),
        ((0, 0, 8, 8, 8, 8), b"quality 2 99 1\n", b"each quality is from 1 to 16"),
        ((0, 0, 8, 8, 8, 8), b"sphere 0 0 0 1 1 1 1 0 0\n" * 129, b"more than 128 spheres"),
    ],
)
def test_bad_input_is_told_in_words(
    renderer: Runner, place: tuple[int | str, ...], scene: bytes, words: bytes
) -> None:
    arguments = tuple(str(word) for word in place)
    result = renderer.run(Task(args=("render", *arguments), files=(("scene.txt", scene),)))
    assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 2)
    assert whole(result.stderr).startswith(b"render: ")
    assert words in whole(result.stderr)


def test_the_checked_in_module_is_what_its_source_compiles_to(compile_with_zig: Compiler) -> None:
    assert compile_with_zig(EXAMPLES / "render" / "render.c", *BUILD) == RENDER
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert f"ziglang cc -target wasm32-wasi {' '.join(BUILD[1:])} " in readme


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (b"", b"0 0 0\n"),
        (b"one", b"0 1 3\n"),
        (b"  one\ttwo\n\nthree \n", b"3 3 18\n"),
        (b"word\n" * 40_000, b"40000 40000 200000\n"),
    ],
)
def test_counting(text: bytes, counts: bytes) -> None:
    engine = make_engine()
    runner = Runner(engine)
    source = (EXAMPLES / "count.wat").read_bytes()
    runner.load(compile_module(engine, module_from_file(source)))
    result = runner.run(Task(stdin=text, limits=Limits(fuel=10**8)))
    assert result.stdout == counts
    assert result.succeeded
