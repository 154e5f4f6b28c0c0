"""Keys in a SQLite file."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager

from app.stores.keys import KeyRecord, OnDamage, read_record, read_records

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

#: Statements that make the table; `revision` is a number of its own for every change.
SCHEMA = """
CREATE TABLE keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX keys_revision ON keys (revision);
"""
_NEXT = "(SELECT COALESCE(MAX(revision), 0) + 1 FROM keys)"


class SqliteKeys:
    """Rows of a database that has its tables; `read` and `write` open transactions."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read = read
        self._write = write

    def add(self, record: KeyRecord) -> KeyRecord:
        """See `KeyStore`."""
        with self._write() as connection:
            query = f"INSERT INTO keys (id, revision, record) VALUES (?, {_NEXT}, ?)"
            number = int(connection.execute(query, (record.id, record.written())).lastrowid or 0)
        return read_record(number, record.written())

    def swap(self, before: KeyRecord, after: KeyRecord) -> bool:
        """See `KeyStore`."""
        query = f"UPDATE keys SET record = ?, revision = {_NEXT} WHERE number = ? AND record = ?"
        with self._write() as connection:
            return bool(connection.execute(query, (after.written(), before.number, before.written())).rowcount)

    def list(self, on_damage: OnDamage | None = None) -> list[KeyRecord]:
        """See `KeyStore`."""
        with self._read() as connection:
            return read_records(connection.execute("SELECT number, record FROM keys"), on_damage)

    def revision(self) -> int:
        """See `KeyStore`."""
        with self._read() as connection:
            return int(connection.execute("SELECT COALESCE(MAX(revision), 0) FROM keys").fetchone()[0])
