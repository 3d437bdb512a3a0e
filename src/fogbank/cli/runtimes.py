"""`fog worker runtime`: which interpreters a worker holds, so that it can run scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli.output import emit, errors_in_words, note, read_bounded

if TYPE_CHECKING:
    from fogbank.nodes.home import Home
    from fogbank.sandbox.runtimes.catalogue import RuntimeSpec

app = typer.Typer(
    help="Which runtimes the worker holds: interpreters for scripts. A running worker sees a "
    "change within seconds.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option("--dir", help="The worker's folder.")]


@app.command()
def add(
    runtime: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="The runtime's name, or its module's file.")
    ],
    folder: Folder,
    from_network: Annotated[
        bool,
        typer.Option(
            "--from-network", help="Get it from other workers, anonymously, not from a registry."
        ),
    ] = False,
) -> None:
    """Get a runtime, check it, and keep it."""
    with errors_in_words():
        from fogbank.sandbox.runtimes.catalogue import by_name
        from fogbank.sandbox.runtimes.store_shell import RuntimeStore

        home = _worker(folder)
        store = RuntimeStore(home.runtimes_folder)
        spec = by_name(runtime)
        if spec is not None and spec in store.held():
            note(f"the runtime {spec.name} is here already")
            return
        if spec is None:
            data = _from_file(runtime, from_network)
        else:
            data = _from_network(home, spec) if from_network else _from_registry(spec)
        spec = store.add(data)
        note(f"the worker holds {spec.name} now ({spec.origin}; {spec.licence})")


@app.command("list")
def list_runtimes(folder: Folder) -> None:
    """Show the runtimes that this release knows, and which of them the worker holds."""
    with errors_in_words():
        from fogbank.sandbox.runtimes.catalogue import CATALOGUE
        from fogbank.sandbox.runtimes.store_shell import RuntimeStore

        held = RuntimeStore(_worker(folder).runtimes_folder).held()
        for spec in CATALOGUE:
            here = "held" if spec in held else "-"
            size = f"{spec.size / 1e6:.1f} MB"
            emit(f"{spec.name:12} {here:5} {size:>8}  {spec.digest.hex()}  {spec.origin}")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The runtime's name.")],
    folder: Folder,
) -> None:
    """Delete a runtime; jobs that run on it go on."""
    with errors_in_words():
        from fogbank.sandbox.runtimes.store_shell import RuntimeStore

        RuntimeStore(_worker(folder).runtimes_folder).remove(name)
        note(f"the worker does not hold {name} any more")


def _worker(folder: Path) -> Home:
    """Return the home of a worker; raise `HomeError` or `ValueError` if it is none."""
    from fogbank.directory.descriptor import Role
    from fogbank.nodes.home import Home

    home = Home(folder.absolute())
    if home.settings().role is not Role.WORKER:
        raise ValueError(f"{folder} is no worker's: only workers hold runtimes")
    return home


def _from_file(name: str, from_network: bool) -> bytes:
    from fogbank.sandbox.limits import MODULE_SIZE
    from fogbank.sandbox.runtimes.catalogue import CATALOGUE

    path = Path(name)
    if from_network or not path.exists():
        known = ", ".join(spec.name for spec in CATALOGUE)
        what = "" if from_network else ", nor is there such a file"
        raise ValueError(f"there is no runtime {name!r}{what}: this release knows {known}")
    return read_bounded(path, MODULE_SIZE)


def _from_registry(spec: RuntimeSpec) -> bytes:
    from fogbank.runtimes import cache_folder, obtain

    return obtain(spec.name, cache_folder())


def _from_network(home: Home, spec: RuntimeSpec) -> bytes:
    import trio

    from fogbank.nodes.user import open_user

    async def fetch() -> bytes:
        async with open_user(home, note) as user:
            return await user.fetch_runtime(spec, note)

    return trio.run(fetch)
