"""The `fog` command."""

import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the `fog` command with the process's arguments, and end the process."""
    # While modules load there is nothing to clean up: Ctrl-C just ends the process.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fogbank.cli.app import run_app

    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run_app()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)
