"""The examples in every language do their work in a worker's sandbox; Python checks the answers."""

import csv
import itertools
import math
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.outcome import Result
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.runtimes.catalogue import by_suffix
from fogbank.sandbox.task import Task
from tests.toolchains import example_module, runtime_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIG = SandboxConfig(processes=1, spares=0)


async def run_all(module: bytes, *tasks: Task) -> list[Result]:
    """Run tasks of one job in a jail."""
    async with open_sandbox(CONFIG) as sandbox, sandbox.open_job(module) as job:
        return [await job.run(task) for task in tasks]


async def run_scripts(request: pytest.FixtureRequest, name: str, *tasks: Task) -> list[Result]:
    """Run an example that is a script, once for each task, on its runtime in a jail."""
    runtime = by_suffix(name)
    assert runtime is not None
    script = (runtime.entry, (EXAMPLES / name).read_bytes())
    store = runtime_store(request, runtime.name)
    results = []
    async with open_sandbox(CONFIG, store) as sandbox, sandbox.open_job(runtime.id) as job:
        for task in tasks:
            files = (script, *task.files)
            results.append(
                await job.run(
                    Task(args=(name, *task.args), files=files, stdin=task.stdin, limits=task.limits)
                )
            )
    return results


def kmers(text: str, k: int) -> Counter[str]:
    """Count k-mers as the example does, in another way."""
    found: Counter[str] = Counter()
    for record in re.split(r"^>.*$", text, flags=re.MULTILINE):
        for part in re.split(r"[^ACGT]+", "".join(record.split()).upper()):
            for at in range(len(part) - k + 1):
                word = part[at : at + k]
                other = word.translate(str.maketrans("ACGT", "TGCA"))[::-1]
                found[min(word, other)] += 1
    return found


async def test_cpp_counts_kmers(request: pytest.FixtureRequest) -> None:
    chance = random.Random(5)
    long = "".join(chance.choices("ACGTacgtN", k=20_000))
    texts = [(EXAMPLES / "sequences.fasta").read_text(), f">a b\n{long}\n>c\n{long[:99]}\n", ""]
    module = example_module("kmers", request)
    results = await run_all(
        module,
        *(Task(args=("kmers", "4", "7"), stdin=text.encode()) for text in texts),
        Task(args=("kmers", "99", "1")),
    )
    for text, result in zip(texts, results, strict=False):
        counts = kmers(text, 4)
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:7]
        lines = [f"{word} {times}" for word, times in most]
        lines.append(f"{counts.total()} words, {len(counts)} different")
        assert whole(result.stdout).decode().splitlines() == lines
        assert result.succeeded
    assert (results[-1].exit_code, whole(results[-1].stderr)[:7]) == (2, b"usage: ")


def is_solution(puzzle: str, answer: str) -> bool:
    rows = [answer[at : at + 9] for at in range(0, 81, 9)]
    columns = ["".join(column) for column in zip(*rows, strict=True)]
    boxes = [
        "".join(rows[y + dy][x : x + 3] for dy in range(3)) for y in (0, 3, 6) for x in (0, 3, 6)
    ]
    whole = all(sorted(group) == list("123456789") for group in (*rows, *columns, *boxes))
    return whole and all(p in (a, ".") for p, a in zip(puzzle, answer, strict=True))


async def test_zig_solves_sudokus(request: pytest.FixtureRequest) -> None:
    puzzles = (EXAMPLES / "puzzles.txt").read_text().split()
    lines = [*puzzles, "." * 81, "55" + "." * 79, "12345678." + "........9" + "." * 63, "12"]
    task = Task(args=("sudoku",), stdin="\r\n".join(lines).encode())
    (result,) = await run_all(example_module("sudoku", request), task)
    answers = whole(result.stdout).decode().splitlines()
    assert all(map(is_solution, puzzles, answers))
    assert answers[2:] == ["several", "none", "none", "no sudoku: a line has 81 squares"]
    assert result.succeeded


def edit_distance(a: list[str], b: list[str]) -> int:
    """The same distance, from the front and with one row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


async def test_go_aligns_files(request: pytest.FixtureRequest) -> None:
    chance = random.Random(3)
    pairs = [
        ([chance.choice("abcd") for _ in range(n)], [chance.choice("abcd") for _ in range(m)])
        for n, m in ((0, 3), (40, 0), (60, 90), (120, 100))
    ]
    tasks = [
        Task(
            args=("align", "a", "b"),
            files=tuple(
                (name, "".join(f"{line}\n" for line in lines).encode())
                for name, lines in zip("ab", pair, strict=True)
            ),
        )
        for pair in pairs
    ]
    module = example_module("align", request)
    *results, missing = await run_all(module, *tasks, Task(args=("align", "a", "b")))
    for (a, b), result in zip(pairs, results, strict=True):
        distance, *lines = whole(result.stdout).decode().splitlines()
        assert int(distance) == edit_distance(a, b)
        assert [line[2:] for line in lines if line[0] in " -~"] == a
        assert [line[2:] for line in lines if line[0] in " +"] == b
        assert sum(line[0] in "-+" for line in lines) == int(distance)
    assert (missing.exit_code, whole(missing.stderr)[:7]) == (1, b"align: ")


def formula(chance: random.Random, variables: int, clauses: int) -> list[tuple[int, ...]]:
    chosen = range(1, variables + 1)
    return [
        tuple(chance.choice((1, -1)) * variable for variable in chance.sample(chosen, 3))
        for _ in range(clauses)
    ]


def holds(clauses: list[tuple[int, ...]], truth: set[int]) -> bool:
    return all(any(literal in truth for literal in clause) for clause in clauses)


async def test_rust_decides_satisfiability(request: pytest.FixtureRequest) -> None:
    chance = random.Random(11)
    formulas = [formula(chance, 9, count) for count in (9, 30, 60, 90)]
    texts = [
        f"c three literals a clause\np cnf 9 {len(clauses)}\n"
        + "".join(f"{' '.join(map(str, clause))} 0\n" for clause in clauses)
        for clauses in formulas
    ]
    tasks = [Task(args=("sat",), stdin=text.encode()) for text in texts]
    bad = Task(args=("sat",), stdin=b"p cnf 1 1\n2 0\n")
    *results, refused = await run_all(example_module("sat", request), *tasks, bad)
    verdicts = set()
    for clauses, result in zip(formulas, results, strict=True):
        signs = itertools.product((1, -1), repeat=9)
        possible = any(
            holds(clauses, {sign * at for at, sign in enumerate(each, 1)}) for each in signs
        )
        verdict, *values = whole(result.stdout).decode().splitlines()
        assert verdict == ("s SATISFIABLE" if possible else "s UNSATISFIABLE")
        assert result.exit_code == (10 if possible else 20)
        if possible:
            assert holds(clauses, {int(line.split()[1]) for line in values})
        verdicts.add(possible)
    assert verdicts == {True, False}
    assert (refused.exit_code, refused.stderr) == (1, b'sat: "2" is no literal of the formula\n')


async def test_a_public_solver_runs_unchanged(request: pytest.FixtureRequest) -> None:
    module = example_module("boolector", request)
    problem = (EXAMPLES / "semiprime.smt2").read_bytes()
    prime = problem.replace(b"bv12787751", b"bv12787763")
    sat, unsat = await run_all(
        module,
        Task(args=("boolector", "problem"), files=(("problem", problem),)),
        Task(args=("boolector",), stdin=prime),
    )
    p, q = (int(digits, 2) for digits in re.findall(rb"#b([01]{12})", whole(sat.stdout))[:2])
    assert (p * q, 1 < p <= q) == (12787751, True)
    assert (whole(sat.stdout)[:4], sat.exit_code) == (b"sat\n", 10)
    assert all(12787763 % number for number in range(2, math.isqrt(12787763) + 1))
    assert (whole(unsat.stdout)[:6], unsat.exit_code) == (b"unsat\n", 20)


async def test_python_fits_lines(request: pytest.FixtureRequest) -> None:
    table = (EXAMPLES / "trees.csv").read_bytes()
    args = ("trees.csv", "species", "girth", "height")
    good, bad, wrong = await run_scripts(
        request,
        "regression.py",
        Task(args=args, files=(("trees.csv", table),)),
        Task(args=args, files=(("trees.csv", table + b"oak,many,3\n"),)),
        Task(args=args),
    )
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in csv.DictReader(table.decode().splitlines()):
        groups[row["species"]].append((float(row["girth"]), float(row["height"])))
    lines = whole(good.stdout).decode().splitlines()
    assert lines[0] == "species,rows,slope,intercept,correlation"
    assert [line.split(",")[0] for line in lines[1:]] == sorted(groups)
    for line in lines[1:]:
        name, rows, *numbers = line.split(",")
        pairs = groups[name]
        n, sx, sy = len(pairs), sum(x for x, _ in pairs), sum(y for _, y in pairs)
        sxx, syy = sum(x * x for x, _ in pairs), sum(y * y for _, y in pairs)
        sxy = sum(x * y for x, y in pairs)
        slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
        spread = math.sqrt((n * sxx - sx * sx) * (n * syy - sy * sy))
        expected = [slope, (sy - slope * sx) / n, (n * sxy - sx * sy) / spread]
        assert [float(number) for number in numbers] == pytest.approx(expected, abs=1e-5)
        assert int(rows) == n
    assert (bad.stdout, bad.exit_code) == (good.stdout, 0)
    assert (
        bad.stderr == f"line {len(table.splitlines()) + 1}: no number in girth or height\n".encode()
    )
    assert wrong.exit_code == 1
    assert b"FileNotFoundError" in whole(wrong.stderr)


def sobel(pixels: bytes, width: int, height: int) -> bytes:
    """The example's filter by its definition: two kernels over a picture with repeated borders."""

    def at(x: int, y: int) -> int:
        return pixels[min(max(y, 0), height - 1) * width + min(max(x, 0), width - 1)]

    kernel = {(dx, dy): dx * (2 - dy * dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
    result = bytearray()
    for y, x in itertools.product(range(height), range(width)):
        across = sum(weight * at(x + dx, y + dy) for (dx, dy), weight in kernel.items())
        down = sum(weight * at(x + dy, y + dx) for (dx, dy), weight in kernel.items())
        result.append(min(255, math.isqrt(across * across + down * down)))
    return bytes(result)


async def test_javascript_finds_edges(request: pytest.FixtureRequest) -> None:
    width, height = 37, 23
    pixels = random.Random(2).randbytes(width * height)
    picture = b"P5 # noise\n%d %d\n255\n" % (width, height) + pixels
    plain, cut, short = await run_scripts(
        request,
        "edges.js",
        Task(args=(), stdin=picture),
        Task(args=("200",), stdin=picture, limits=Limits(memory=32 << 20)),
        Task(args=(), stdin=picture[:-1]),
    )
    expected = sobel(pixels, width, height)
    header = b"P5\n%d %d\n255\n" % (width, height)
    assert plain.stdout == header + expected
    assert cut.stdout == header + bytes(255 * (value >= 200) for value in expected)
    assert plain.succeeded
    assert short.exit_code == 1
    assert whole(short.stderr).startswith(
        b"Error: the picture ends too soon\n    at parse (edges.js:"
    )
