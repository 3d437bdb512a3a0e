"""The tables of the journal, by their versions (spec/13 §1). Pure.

A later version is a further entry: what was written once is brought up to it, never made anew.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = (
    """CREATE TABLE job (
        id TEXT PRIMARY KEY,
        created REAL NOT NULL,
        title TEXT NOT NULL,
        spec TEXT NOT NULL,
        log TEXT,
        total INTEGER,
        state TEXT NOT NULL DEFAULT 'open',
        reason TEXT NOT NULL DEFAULT '',
        code INTEGER NOT NULL DEFAULT 0,
        ended REAL,
        wish TEXT
    ) WITHOUT ROWID""",
    """CREATE TABLE task (
        job TEXT NOT NULL,
        level INTEGER NOT NULL,
        place INTEGER NOT NULL,
        number INTEGER NOT NULL,
        value TEXT,
        input TEXT,
        digest TEXT NOT NULL DEFAULT '',
        stage TEXT NOT NULL DEFAULT 'queued',
        reason TEXT NOT NULL DEFAULT '',
        code INTEGER NOT NULL DEFAULT 0,
        outcome TEXT NOT NULL DEFAULT '',
        fuel INTEGER NOT NULL DEFAULT 0,
        seconds REAL NOT NULL DEFAULT 0,
        worker TEXT NOT NULL DEFAULT '',
        output INTEGER,
        stdout INTEGER NOT NULL DEFAULT 0,
        stderr INTEGER NOT NULL DEFAULT 0,
        over INTEGER NOT NULL DEFAULT 0,
        seq INTEGER,
        delivered INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (job, level, place)
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX task_number ON task (job, level, number)",
    "CREATE INDEX task_seq ON task (job, level, seq)",
    "CREATE INDEX task_open ON task (job, level, place) WHERE NOT over",
    "CREATE INDEX task_waiting ON task (job, level, place) WHERE over AND NOT delivered",
    """CREATE TABLE lane (
        job TEXT NOT NULL,
        level INTEGER NOT NULL,
        lane INTEGER NOT NULL,
        worker BLOB NOT NULL,
        ticket BLOB NOT NULL,
        secret BLOB NOT NULL,
        last_id INTEGER NOT NULL DEFAULT 0,
        seen REAL NOT NULL,
        PRIMARY KEY (job, level, lane)
    ) WITHOUT ROWID""",
    """CREATE TABLE sent (
        job TEXT NOT NULL,
        level INTEGER NOT NULL,
        lane INTEGER NOT NULL,
        wire_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (job, level, lane, wire_id)
    ) WITHOUT ROWID""",
    "CREATE INDEX sent_number ON sent (job, level, number)",
    """CREATE TABLE event (
        job TEXT NOT NULL,
        number INTEGER,
        time REAL NOT NULL,
        text TEXT NOT NULL
    )""",
    "CREATE INDEX event_job ON event (job, number)",
)

MIGRATIONS: Final = (_FIRST,)
"""Statements that bring the tables from each version to the next."""
