"""`python -m fogbank` is the `fog` command."""

from fogbank.cli import main

main()
