"""A SQLite file: connections to it for many threads, and transactions that happen whole or not at all."""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from app.stores.errors import StorageFullError, StoreError, StoreUnavailableError
from app.stores.sqlite.reserve import Reserve, is_full
from app.stores.sqlite.schema import SCHEMA_VERSION, check_schema, initialise
from engine.core import LimitExceededError

T = TypeVar("T")
_log = logging.getLogger("pullback")

#: Time for which a write waits for those of other processes.
BUSY_S = 10
#: Time for which SQLite asks for the lock of writers, at intervals of 1, 2 and 5 ms, before it is told to begin anew.
_ASKING_MS = 8
#: Pause before another attempt where SQLite itself does not wait.
_RETRY_S = 0.01
#: The journal is cut back to this size after a large write.
_JOURNAL_BYTES = 64 * 2**20
#: How SQLite opens a file that must be there, and one that it may create.
_EXISTING, _CREATED = "rw", "rwc"

#: Device and inode of a file; None where there is none.
FileId = tuple[int, int] | None


class Connection(sqlite3.Connection):
    """A connection that remembers which database and which journal it has opened."""

    files: tuple[FileId, FileId] = (None, None)


class Database:
    """A SQLite file, which is created with its directory where it is missing.

    Each working thread has a connection to itself; writes of one process come one after the other. A connection stays
    open from `open` to `close`, which tells other programs that the file is in use.

    path: the file.
    where: how messages name its directory.
    is_durable: whether what was written survives a crash of the machine; that of a process it survives anyway.
    on_open: called with a connection when the file has been opened.
    """

    def __init__(
        self,
        path: Path,
        where: str,
        *,
        is_durable: bool = True,
        on_open: Callable[[sqlite3.Connection], None] = lambda connection: None,
    ) -> None:
        self._path = path
        self._name = str(path)
        self._where = where
        self._is_durable = is_durable
        self._on_open = on_open
        self._reserve = Reserve(path.with_name(f"{path.name}-reserve"))
        self._file: FileId = None
        self._idle: deque[Connection] = deque()
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._is_open = self._is_closed = False

    def open(self) -> None:
        """Make sure that the file can be used; the first use does this too.

        Raises:
            StoreError: it cannot.
        """
        with self._opening:
            if not self._is_open:
                connection = _prepare(self._path, self._where, self._is_durable)
                self._file = connection.files[0]
                try:
                    self._on_open(connection)
                except sqlite3.Error as error:
                    connection.close()
                    raise StoreError(f"{self._where}, whose {self._path.name} cannot be read: {error}") from None
                self._idle.append(connection)
                self._is_open = True
                self.reserve()

    def close(self) -> None:
        """Close all connections; those in use, when they are given back."""
        self._is_closed = True
        self._close_idle()

    def reserve(self) -> None:
        """Keep some of the disk for deletes, as far as there is room."""
        if self._is_durable:
            self._reserve.take()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that writes: at the end all of it is on the disk, or nothing."""
        with self._writing, self._connection() as connection:
            _begin(connection)
            try:
                yield connection
                self._check_same(connection)
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def free(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which makes the content smaller, in a transaction that writes; it also works on a full disk."""
        try:
            with self.write() as connection:
                return work(connection)
        except StorageFullError:
            _log.warning("the disk is full; the reserve is given up so that deletes work")
            self._reserve.give_up()
            self._empty_journal()
            with self.write() as connection:
                found = work(connection)
            self._empty_journal()
            return found

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that reads: it sees one state, though others write meanwhile."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    def _empty_journal(self) -> None:
        """Move what is in the journal into the database, so that the next write begins at the journal's start."""
        with suppress(StoreUnavailableError), self._connection() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Lend a connection that nobody else has.

        Raises:
            StoreUnavailableError: SQLite fails.
        """
        if self._is_closed:
            raise StoreUnavailableError("the store is closed: the server is stopping")
        try:
            self.open()
            connection = self._take()
        except (StoreError, sqlite3.Error) as error:
            raise self._failure(error) from error
        try:
            yield connection
        except (sqlite3.DataError, OverflowError) as error:
            raise LimitExceededError(f"this is more than SQLite keeps in one piece: {error}") from error
        except sqlite3.Error as error:
            raise self._failure(error) from error
        finally:
            self._give_back(connection)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            connection = _connect(self._path, _EXISTING, self._is_durable)
        if connection.files[0] != self._file:
            connection.close()
            raise self._replaced()
        return connection

    def _give_back(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _check_same(self, connection: Connection) -> None:
        """Raise StoreUnavailableError where a commit would go into a file that nobody finds any more."""
        if _files(self._name) != connection.files:
            raise self._replaced()

    def _replaced(self) -> StoreUnavailableError:
        _log.error("%s, whose %s was removed or replaced while the server runs", self._where, self._path.name)
        return StoreUnavailableError(
            "the database file was removed or replaced while the server runs; nothing is kept until the file is back, "
            "or the server is restarted"
        )

    def _failure(self, error: Exception) -> StoreUnavailableError:
        _log.error("the store fails: %s", error)
        if isinstance(error, sqlite3.Error) and is_full(error, self._path):
            return StorageFullError("the disk of the store is full, and nothing was kept; delete programs or sessions")
        return StoreUnavailableError("the store does not answer just now")


def _prepare(path: Path, where: str, is_durable: bool) -> Connection:
    """Create the directory and the file, or make sure that the existing file is ours; return a connection to it.

    Raises:
        StoreError: the place cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{where}, which cannot be made: {os.strerror(error.errno or 0)}") from None
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return _opened(path, where, is_durable)
        except sqlite3.Error as error:
            # SQLite does not wait by itself for another process that switches to WAL or closes the last connection.
            if not is_busy(error) or time.monotonic() > deadline:
                raise StoreError(f"{where}, whose {path.name} cannot be used: {error}") from None
            time.sleep(_RETRY_S)


def _opened(path: Path, where: str, is_durable: bool) -> Connection:
    """Return a connection to the file, which is created if it is missing, after it was tried.

    Raises:
        StoreError: it cannot be opened, or is not ours.
        sqlite3.Error: it cannot be read or written.
    """
    try:
        connection = _connect(path, _CREATED, is_durable)
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise
        raise StoreError(f"{where}, where {path.name} cannot be opened: {error}") from None
    try:
        initialise(connection)
        connection.execute("BEGIN IMMEDIATE")
        check_schema(connection)
        # A file that can only be read would fail with the first program, and SQLite starts a transaction without a
        # complaint.
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.rollback()
        _configure(connection, path, is_durable)
    except BaseException as error:
        connection.close()
        if isinstance(error, StoreError):
            raise StoreError(f"{where}, whose {path.name} {error}") from None
        raise
    return connection


def _begin(connection: sqlite3.Connection) -> None:
    """Start a transaction that writes, when other processes let it.

    SQLite itself asks at longer and longer intervals, so that a process that waits starves beside busy ones.
    """
    connection.execute(f"PRAGMA busy_timeout = {_ASKING_MS}")
    deadline = time.monotonic() + BUSY_S
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(1e3 * BUSY_S)}")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process is in the way, which may not last."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _connect(path: Path, mode: str, is_durable: bool) -> Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=Connection
    )
    # Damaged text is for its reader to find; SQLite would fail with all that stands beside it.
    connection.text_factory = lambda data: data.decode(errors="replace")
    try:
        _configure(connection, path, is_durable)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _configure(connection: Connection, path: Path, is_durable: bool) -> None:
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'OFF'}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
    # Where SQLite is built to overwrite what is deleted, a delete would write as much as it frees.
    connection.execute("PRAGMA secure_delete = FAST")
    # Reading opens the journal, which stays the same for as long as the connection is open.
    connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    connection.files = _files(str(path))


def _files(path: str) -> tuple[FileId, FileId]:
    return _file_id(path), _file_id(path + "-wal")


def _file_id(path: str) -> FileId:
    try:
        # Every write asks; Path.stat takes four times as long.
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino
