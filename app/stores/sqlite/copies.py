"""Copies of a SQLite file, and checks of one, for the operator of a server."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from app.stores.errors import StoreError
from app.stores.sqlite.database import BUSY_S, is_busy
from app.stores.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION, pragma

#: Lines of SQLite's own check that are shown.
_MOST_LINES = 100
#: Files that SQLite keeps beside a database.
_BESIDE = ("-wal", "-shm")

#: Queries for rows that nothing belongs to, or that do not add up, with the sentence for each row.
_CHECKS = (
    (
        "SELECT digest FROM blobs WHERE digest NOT IN (SELECT digest FROM bindings)",
        "the array {} is bound to no program",
    ),
    (
        "SELECT kind, usage.bytes, sums.bytes FROM usage JOIN (SELECT 'programs' AS kind, "
        "(SELECT COALESCE(SUM(bytes), 0) FROM programs) + (SELECT COALESCE(SUM(bytes), 0) FROM blobs) AS bytes "
        "UNION SELECT 'sessions', COALESCE(SUM(bytes), 0) FROM sessions) AS sums USING (kind) "
        "WHERE usage.bytes <> sums.bytes",
        "the bytes of {} count as {}, and are {}",
    ),
    (
        "SELECT COUNT(*) FROM client_usage LEFT JOIN (SELECT client, COUNT(*) AS number, SUM(bytes) AS size "
        "FROM sessions GROUP BY client) USING (client) WHERE (number, size) IS NOT (sessions, bytes) "
        "HAVING COUNT(*) > 0",
        "the bytes of sessions of {} clients do not add up",
    ),
)


def copy(source: Path, target: Path) -> None:
    """Copy a database, also one that a server uses, to a new file that only this user can read.

    The copy is one state of the database, in one file, and is on the disk when this returns.

    Raises:
        StoreError: the source cannot be read, or the target exists or cannot be written.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        if target.exists():
            raise StoreError(f'"{target}" exists already')
        partial.touch(0o600, exist_ok=False)
        try:
            with closing(_connected(source, "ro")) as origin, closing(_connected(partial, "rw")) as made:
                origin.backup(made)
                made.execute("PRAGMA journal_mode = DELETE")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f'"{target}" cannot be written: {os.strerror(error.errno or 0)}') from None
    except sqlite3.Error as error:
        raise StoreError(f'"{source}" cannot be read, or "{target}" not written: {error}') from None


def replace(path: Path, copied: Path) -> None:
    """Put a file made by `copy` in the place of a database, whose journal is removed first: it would be replayed."""
    for more in _BESIDE:
        path.with_name(path.name + more).unlink(missing_ok=True)
    copied.replace(path)


def faults(path: Path) -> list[str]:
    """Return a sentence for each fault of a file as a database: of another kind or release, damaged, with orphans."""
    try:
        with closing(_connected(path, "ro")) as connection:
            if pragma(connection, "application_id") != APPLICATION_ID:
                return ["the file is a database of something else"]
            version = pragma(connection, "user_version")
            if version > SCHEMA_VERSION:
                return [f"the file has schema version {version}; this release reads up to version {SCHEMA_VERSION}"]
            return list(_faults(connection, version))
    except sqlite3.Error as error:
        return [f"the file cannot be read: {error}"]


def _faults(connection: sqlite3.Connection, version: int) -> Iterator[str]:
    for (line,) in connection.execute(f"PRAGMA integrity_check({_MOST_LINES})"):
        if line != "ok":
            yield f"SQLite finds the file damaged: {' '.join(line.split())}"
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"a row of {table} belongs to nothing in {parent}"
    if version == SCHEMA_VERSION:
        for query, sentence in _CHECKS:
            for row in connection.execute(query):
                yield sentence.format(*row)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Keep servers from opening a database; yields False where one has it open already."""
    if not path.exists():
        yield True
        return
    with closing(_connected(path, "rw")) as connection:
        is_free = True
        # A damaged file cannot be locked, and no server can work with it.
        with suppress(sqlite3.DatabaseError):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            try:
                connection.execute("BEGIN EXCLUSIVE")
                connection.rollback()
            except sqlite3.OperationalError as error:
                is_free = not is_busy(error)
        yield is_free


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S if mode == "ro" else 0, isolation_level=None)
