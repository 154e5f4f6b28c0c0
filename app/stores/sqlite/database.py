"""A SQLite file: its tables, connections to it for many threads, and transactions that end or never happened."""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.stores.errors import StoreError, StoreUnavailableError
from engine.core import LimitExceededError

_log = logging.getLogger("pullback")

#: Marks the file as one of ours: "PLBK" in ASCII.
APPLICATION_ID = 0x504C424B
#: How long a write waits for those of other processes.
BUSY_S = 10
#: How long to wait before trying again where SQLite itself does not wait.
_RETRY_S = 0.01
#: The journal is cut back to this size after a large write.
_JOURNAL_BYTES = 64 * 2**20

#: One after the other they make the schema; a file says how many of them it has had.
_SCHEMAS = (
    # The sizes stand in indices of their own, so that adding them up does not read what they are the sizes of.
    """
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
""",
    """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    ttl_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    name TEXT,
    client TEXT NOT NULL,
    key BLOB UNIQUE,
    request BLOB,
    status INTEGER,
    media_type TEXT,
    answer BLOB,
    document BLOB NOT NULL
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CREATE INDEX sessions_client ON sessions (client, expires_at);
CREATE TABLE session_arrays (
    session INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (session, number)
);
""",
    "ALTER TABLE sessions ADD COLUMN revision TEXT NOT NULL DEFAULT '';",
)
SCHEMA_VERSION = len(_SCHEMAS)


class Database:
    """A SQLite file, which is made with its directory where it is not there.

    Each thread that is at work has a connection to itself; writes of one process come one after the other.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._is_open = self._is_closed = False

    def open(self) -> None:
        """Makes sure that the file can be used; it happens by itself with the first use.

        Raises:
            StoreError: it cannot.
        """
        with self._opening:
            if not self._is_open:
                _prepare(self._path)
                self._is_open = True

    def close(self) -> None:
        """Closes all connections; those that are in use, when they are given back."""
        self._is_closed = True
        self._close_idle()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
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
    def read(self) -> Iterator[sqlite3.Connection]:
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
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            _check_usable(path, where)
            return
        except sqlite3.Error as error:
            # SQLite does not wait by itself for whoever else switches to WAL or closes the last connection.
            if not _is_busy(error) or time.monotonic() > deadline:
                raise StoreError(f"{where}, whose {path.name} cannot be used: {error}") from None
            time.sleep(_RETRY_S)


def _check_usable(path: Path, where: str) -> None:
    """Makes the file if it is not there, and tries it.

    Raises:
        StoreError: it cannot be opened, or is none of ours.
        sqlite3.Error: it cannot be read or written.
    """
    try:
        connection = _connect(path)
    except sqlite3.Error as error:
        if _is_busy(error):
            raise
        raise StoreError(f"{where}, where {path.name} cannot be opened: {error}") from None
    try:
        _initialise(connection)
        connection.execute("BEGIN IMMEDIATE")
        _check_schema(connection)
        # What can only be read would fail with the first program, and SQLite begins to write there without a complaint.
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.rollback()
    except StoreError as error:
        raise StoreError(f"{where}, whose {path.name} {error}") from None
    finally:
        connection.close()


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another process is in the way, which may not last."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    # Text that was damaged is for those who read it to find; SQLite would fail with all that stands beside it.
    connection.text_factory = lambda data: data.decode(errors="replace")
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _initialise(connection: sqlite3.Connection) -> None:
    """Gives a file the tables that it lacks; one of a later release is left alone."""
    if not _is_empty(connection) and not _is_older(connection):
        return
    if _is_empty(connection):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    if _is_empty(connection) or _is_older(connection):
        for schema in _SCHEMAS[_pragma(connection, "user_version") :]:
            for statement in _statements(schema):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _is_older(connection: sqlite3.Connection) -> bool:
    is_ours = _pragma(connection, "application_id") == APPLICATION_ID
    return is_ours and 0 < _pragma(connection, "user_version") < SCHEMA_VERSION


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


def _unavailable(error: Exception) -> StoreUnavailableError:
    _log.error("the store fails: %s", error)
    return StoreUnavailableError("the store does not answer just now")
