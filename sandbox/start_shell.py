"""Starts the launcher, with all that it loads in one piece of memory (`heap_shell`).

Run as `python -I -m fogbank.sandbox.start_shell FD CONFIG`.
"""

import contextlib

from fogbank.sandbox import heap_shell


def main() -> None:
    """Load the launcher, and let it serve."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(AttributeError):
            stack.enter_context(heap_shell.arenas_in_heap())
        from fogbank.sandbox import launcher_shell  # noqa: PLC0415 -- only now it lies as it should
    launcher_shell.main()


if __name__ == "__main__":
    main()
