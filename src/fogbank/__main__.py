"""`python -m fogbank` is the `fog` command."""

from fogbank.cli import main

if __name__ == "__main__":
    main()
