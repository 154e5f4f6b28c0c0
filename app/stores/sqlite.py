"""A store in one SQLite file, for all threads and processes of one host; what it was told to keep survives a crash."""

import json
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.stores.base import (
    SUGGESTED_NAMES,
    SWEPT_ROWS,
    Binding,
    NameConflictError,
    Policy,
    Program,
    StoreError,
    StoreUnavailableError,
    Sweeps,
    is_id,
)
from engine.errors import LimitExceededError

_log = logging.getLogger("pullback")

FILE = "pullback.sqlite3"
#: Marks the file as one of ours: "PLBK" in ASCII.
APPLICATION_ID = 0x504C424B
SCHEMA_VERSION = 1
#: How long a write waits for those of other processes.
BUSY_S = 10
#: The journal is cut back to this size after a large write.
_JOURNAL_BYTES = 64 * 2**20

# The sizes stand in indices of their own, so that adding them up does not read what they are the sizes of.
_SCHEMA = """
CREATE TABLE programs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL,
    bytes INTEGER NOT NULL,
    summary TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX programs_used_at ON programs (used_at);
CREATE INDEX programs_bytes ON programs (bytes);
CREATE TABLE program_names (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    program TEXT NOT NULL REFERENCES programs (id) ON DELETE CASCADE
);
CREATE INDEX program_names_program ON program_names (program);
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX blobs_bytes ON blobs (bytes);
CREATE TABLE bindings (
    program TEXT NOT NULL REFERENCES programs (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    dtype TEXT NOT NULL,
    shape TEXT NOT NULL,
    PRIMARY KEY (program, place)
) WITHOUT ROWID;
CREATE INDEX bindings_digest ON bindings (digest);
CREATE TRIGGER bindings_deleted AFTER DELETE ON bindings BEGIN
    DELETE FROM blobs WHERE digest = old.digest AND NOT EXISTS (SELECT 1 FROM bindings WHERE digest = old.digest);
END;
"""
_COLUMNS = """
    programs.number, programs.id, document, summary, created_at,
    (SELECT name FROM program_names WHERE program = programs.id ORDER BY number LIMIT 1)
"""
_SIZE = "SELECT (SELECT COALESCE(SUM(bytes), 0) FROM programs) + (SELECT COALESCE(SUM(bytes), 0) FROM blobs)"
_UNUSED = """
    SELECT number FROM programs
    WHERE used_at < ? AND NOT EXISTS (SELECT 1 FROM program_names WHERE program = programs.id)
    ORDER BY used_at LIMIT ?
"""


class SqliteStore:
    """A store in the file FILE of a directory, which is made where it is not there.

    Each thread that is at work has a connection to itself; writes of one process come one after the other.
    """

    def __init__(self, directory: Path, policy: Policy) -> None:
        self._path = directory / FILE
        self._policy = policy
        self._sweeps = Sweeps(policy)
        self._idle: deque[sqlite3.Connection] = deque()
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._is_open = self._is_closed = False

    def open(self) -> None:
        """See `Store`; it happens by itself with the first use."""
        with self._opening:
            if not self._is_open:
                _prepare(self._path)
                self._is_open = True

    def close(self) -> None:
        """See `Store`; connections that are in use are closed when they are given back."""
        self._is_closed = True
        self._close_idle()

    def add_program(self, program: Program, blobs: Mapping[str, bytes], *, replace: bool) -> tuple[Program, bool]:
        """See `Store`."""
        self._sweep_if_due()
        with self._write() as connection:
            now = self._policy.clock()
            holder = _holder(connection, program.name) if program.name else None
            if program.name and holder and holder != program.id and not replace:
                raise NameConflictError(program.name, holder)
            used = "UPDATE programs SET used_at = ? WHERE id = ?"
            is_new = not connection.execute(used, (now, program.id)).rowcount
            if is_new:
                self._insert(connection, program, blobs, now)
            if program.name and holder != program.id:
                # Whoever loses the name may be without one from here on, and its time begins now.
                connection.execute(used, (now, holder))
                connection.execute("DELETE FROM program_names WHERE name = ?", (program.name,))
                row = (program.name, program.id)
                connection.execute("INSERT INTO program_names (name, program) VALUES (?, ?)", row)
            return _kept(connection, program), is_new

    def resolve_program(self, key: str) -> str | None:
        """See `Store`; what it writes is that the program was used, and this not every time."""
        self._sweep_if_due()
        by_name = "JOIN program_names ON program = id WHERE name = ?"
        query = f"SELECT id, used_at FROM programs {'WHERE id = ?' if is_id(key) else by_name}"
        with self._connection() as connection:
            row = connection.execute(query, (key,)).fetchone()
        if row is None:
            return None
        program_id, used_at = row
        now = self._policy.clock()
        if now - used_at > self._policy.precision_s:
            with self._write() as connection:
                connection.execute("UPDATE programs SET used_at = ? WHERE id = ?", (now, program_id))
        return str(program_id)

    def load_program(self, program_id: str) -> Program | None:
        """See `Store`."""
        with self._read() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM programs WHERE id = ?", (program_id,)).fetchone()
            return None if row is None else _program(connection, row)

    def load_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        found = {}
        with self._connection() as connection:
            for digest in digests:
                row = connection.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
                if row is not None:
                    found[digest] = row[0]
        return found

    def list_programs(self, limit: int, after: int) -> list[tuple[int, Program]]:
        """See `Store`."""
        query = f"SELECT {_COLUMNS} FROM programs WHERE number > ? ORDER BY number LIMIT ?"
        with self._read() as connection:
            rows = connection.execute(query, (after, limit)).fetchall()
            return [(row[0], _program(connection, row)) for row in rows]

    def delete_program(self, key: str) -> bool:
        """See `Store`."""
        with self._write() as connection:
            program_id = key if is_id(key) else _holder(connection, key)
            return bool(connection.execute("DELETE FROM programs WHERE id = ?", (program_id,)).rowcount)

    def program_names(self) -> list[str]:
        """See `Store`."""
        query = "SELECT name FROM program_names ORDER BY number DESC LIMIT ?"
        with self._connection() as connection:
            return [name for (name,) in connection.execute(query, (SUGGESTED_NAMES,))]

    def _insert(self, connection: sqlite3.Connection, program: Program, blobs: Mapping[str, bytes], now: float) -> None:
        try:
            self._check_room(connection, program, blobs)
        except LimitExceededError:
            self._sweep(connection, now)
            self._check_room(connection, program, blobs)
        columns = "id, created_at, used_at, bytes, summary, document"
        row = (program.id, now, now, program.size, program.summary, program.document)
        connection.execute(f"INSERT INTO programs ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        rows = [(digest, len(data), data) for digest, data in blobs.items()]
        connection.executemany("INSERT OR IGNORE INTO blobs (digest, bytes, data) VALUES (?, ?, ?)", rows)
        bindings = [
            (program.id, place, name, binding.digest, binding.dtype, json.dumps(binding.shape))
            for place, (name, binding) in enumerate(program.bound.items())
        ]
        connection.executemany("INSERT INTO bindings VALUES (?, ?, ?, ?, ?, ?)", bindings)

    def _check_room(self, connection: sqlite3.Connection, program: Program, blobs: Mapping[str, bytes]) -> None:
        known = "SELECT 1 FROM blobs WHERE digest = ?"
        new = [data for digest, data in blobs.items() if connection.execute(known, (digest,)).fetchone() is None]
        count = connection.execute("SELECT COUNT(*) FROM programs").fetchone()[0]
        size = connection.execute(_SIZE).fetchone()[0]
        self._policy.check(count + 1, size + program.size + sum(map(len, new)))

    def _sweep_if_due(self) -> None:
        if self._sweeps.is_due():
            with self._write() as connection:
                self._sweep(connection, self._policy.clock())

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        unused = (self._policy.unused_since(now), SWEPT_ROWS)
        connection.execute(f"DELETE FROM programs WHERE number IN ({_UNUSED})", unused)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes: all of it is on the disk in the end, or nothing."""
        with self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that reads: whatever others write meanwhile, it sees one state."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else has.

        Raises:
            StoreUnavailableError: SQLite fails.
        """
        if self._is_closed:
            raise StoreUnavailableError("the store is closed: the server is stopping")
        try:
            self.open()
            connection = self._take()
        except (StoreError, sqlite3.Error) as error:
            raise _unavailable(error) from error
        try:
            yield connection
        except (sqlite3.DataError, OverflowError) as error:
            raise LimitExceededError(f"this is more than SQLite keeps in one piece: {error}") from error
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        finally:
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return _connect(self._path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


def _prepare(path: Path) -> None:
    """Makes the directory and the file, or makes sure that what is there is ours.

    Raises:
        StoreError: the setting names a place that cannot be used.
    """
    where = f'PULLBACK_DATA_DIR is "{path.parent}"'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{where}, which cannot be made: {os.strerror(error.errno or 0)}") from None
    try:
        connection = _connect(path)
    except sqlite3.Error as error:
        raise StoreError(f"{where}, where {FILE} cannot be opened: {error}") from None
    try:
        _initialise(connection)
        # What can only be read would fail with the first program.
        connection.execute("BEGIN IMMEDIATE")
        _check_schema(connection)
        connection.rollback()
    except sqlite3.Error as error:
        raise StoreError(f"{where}, whose {FILE} cannot be used: {error}") from None
    except StoreError as error:
        raise StoreError(f"{where}, whose {FILE} {error}") from None
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _initialise(connection: sqlite3.Connection) -> None:
    """Gives an empty file its tables."""
    if not _is_empty(connection):
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    if _is_empty(connection):
        for statement in _statements(_SCHEMA):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _check_schema(connection: sqlite3.Connection) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError("is a database of something else")
    version = _pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise StoreError(f"has schema version {version}; this release reads version {SCHEMA_VERSION}")


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
    return not tables and not _pragma(connection, "application_id") and not _pragma(connection, "user_version")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, which `executescript` would run outside of the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _holder(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT program FROM program_names WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _program(connection: sqlite3.Connection, row: Sequence[Any]) -> Program:
    _, program_id, document, summary, created_at, name = row
    query = "SELECT name, digest, dtype, shape FROM bindings WHERE program = ? ORDER BY place"
    bindings = connection.execute(query, (program_id,)).fetchall()
    bound = {name: Binding(digest, dtype, tuple(json.loads(shape))) for name, digest, dtype, shape in bindings}
    return Program(program_id, document, summary, bound, name, created_at)


def _kept(connection: sqlite3.Connection, program: Program) -> Program:
    row = connection.execute(f"SELECT {_COLUMNS} FROM programs WHERE id = ?", (program.id,)).fetchone()
    kept = _program(connection, row)
    return replace(kept, name=program.name or kept.name)


def _unavailable(error: Exception) -> StoreUnavailableError:
    _log.error("the store fails: %s", error)
    return StoreUnavailableError("the store does not answer just now")
