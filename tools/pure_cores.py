"""The pure-core contract: an import-linter contract type.

A core decides and a codec names bytes; neither waits. So neither may import what waits, reads the
clock, draws randomness or touches the system: time and random bytes reach them as arguments. Only
a *shell* may: a module whose last name is `shell` or ends in `_shell`. And a core that imported a
shell would be no core, so that is refused too.

Only direct imports count: a shell imports cores, and cores import one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    import grimp


class Breach(TypedDict):
    """One import that a core must not make."""

    core: str
    imported: str
    lines: list[int]
    reason: str


def is_shell(module: str) -> bool:
    """Whether a dotted module name is a shell's."""
    last = module.rpartition(".")[2]
    return last == "shell" or last.endswith("_shell")


class PureCores(Contract):
    """Modules of `rooms` import no `impure` module and no shell, unless they are shells themselves.

    Options:
        rooms: the packages whose modules are judged.
        impure: top-level names of the modules that only shells may import.
    """

    type_name = "pure_cores"

    rooms = fields.ListField(subfield=fields.StringField())
    impure = fields.SetField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Judge every module of the rooms that is no shell."""
        breaches = [
            breach
            for room in self.contract_options["rooms"]
            for core in sorted({room, *graph.find_descendants(room)})
            if not is_shell(core)
            for breach in self._breaches(graph, core)
        ]
        output.verbose_print(verbose, f"{len(breaches)} breaches")
        return ContractCheck(kept=not breaches, metadata={"breaches": breaches})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each breach with its lines and the ways out."""
        breaches: list[Breach] = check.metadata["breaches"]
        for breach in breaches:
            lines = ", ".join(f"l.{line}" for line in breach["lines"])
            output.print_error(
                f"- {breach['core']} -> {breach['imported']} ({lines}): {breach['reason']}"
            )
        output.new_line()
        output.print_error(
            "A core takes the time and random bytes as arguments. Code that waits or touches the "
            "system belongs in a module named `shell` or `*_shell`."
        )

    def _breaches(self, graph: grimp.ImportGraph, core: str) -> list[Breach]:
        found: list[Breach] = []
        for imported in sorted(graph.find_modules_directly_imported_by(core)):
            if imported.partition(".")[0] in self.contract_options["impure"]:
                reason = "only a shell may import this"
            elif is_shell(imported):
                reason = "a core imports no shell"
            else:
                continue
            details = graph.get_import_details(importer=core, imported=imported)
            lines = sorted({detail["line_number"] for detail in details})
            found.append(Breach(core=core, imported=imported, lines=lines, reason=reason))
        return found
