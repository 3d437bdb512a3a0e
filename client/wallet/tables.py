"""The tables of a wallet, by their versions (spec/09 §8.4). Pure.

Nothing in them is plain but how many rows there are, and how long: `name` is a keyed hash.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE record (name BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE history (number INTEGER PRIMARY KEY, sealed BLOB NOT NULL)",
)

MIGRATIONS: Final = (_FIRST,)
"""Statements that bring the tables from each version to the next."""
