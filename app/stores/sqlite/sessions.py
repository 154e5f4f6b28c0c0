"""Sessions in a SQLite file."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from app.stores.base import Policy
from app.stores.owners import UNLIMITED, Allowance
from app.stores.sessions import (
    HEAD_FIELDS,
    SWEPT_SESSIONS,
    Answered,
    Change,
    Content,
    CreationKey,
    Head,
    OnDamage,
    SessionPolicy,
    read_all,
    read_content,
    read_head,
)
from app.stores.sqlite.database import Database
from engine.core import LimitExceededError

T = TypeVar("T")

#: A head is read from these columns and `_ENDED`.
_HEAD = ", ".join(HEAD_FIELDS)
_head_row: Callable[[Head], tuple[Any, ...]] = attrgetter(*HEAD_FIELDS)
#: The document of a session that has ended is empty.
_ENDED = "document = x''"
_ANSWER = "request, status, media_type, answer"


class SqliteSessions:
    """Rows of a database that has its tables; `limits` are those of programs and sessions together."""

    def __init__(self, database: Database, policy: SessionPolicy, limits: Policy) -> None:
        self._database = database
        self._limits = limits
        self.policy = policy

    def create(
        self, head: Head, content: Change, client: str, key: CreationKey | None, allowance: Allowance = UNLIMITED
    ) -> bytes | None:
        """See `SessionStore`."""
        return self.with_room(lambda: self._create(head, content, client, key, allowance))

    def _create(
        self, head: Head, content: Change, client: str, key: CreationKey | None, allowance: Allowance
    ) -> bytes | None:
        with self._database.write() as connection:
            now = self.policy.clock()
            self._sweep(connection, now)
            if key is not None:
                row = connection.execute("SELECT sealed FROM sessions WHERE key = ?", (key.digest,)).fetchone()
                if row is not None:
                    return bytes(row[0])
            living = f"SELECT COUNT(*) FROM sessions WHERE expires_at > ? AND NOT {_ENDED}"
            count = connection.execute(living, (now,)).fetchone()[0]
            of_client = connection.execute(f"{living} AND client = ?", (now, client)).fetchone()[0]
            self.policy.check(count, of_client, allowance)
            columns = f"{_HEAD}, {_ANSWER}, client, key, sealed, document"
            keys = (None, None) if key is None else (key.digest, key.sealed)
            row = (*_head_row(head), *_answer_row(content.answered), client, *keys, content.document)
            places = ", ".join("?" * len(row))
            inserted = connection.execute(f"INSERT INTO sessions ({columns}) VALUES ({places})", row)
            self._check_bytes(connection, client, allowance)
            _add_arrays(connection, int(inserted.lastrowid or 0), content)
            return None

    def head(self, digest: str) -> Head | None:
        """See `SessionStore`."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {_HEAD}, {_ENDED} FROM sessions WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else _head(row)

    def load(self, digest: str) -> Content | None:
        """See `SessionStore`."""
        query = f"SELECT {_HEAD}, {_ENDED}, {_ANSWER}, number, document FROM sessions WHERE digest = ?"
        with self._database.read() as connection:
            row = connection.execute(query, (digest,)).fetchone()
            if row is None:
                return None
            *fields, request, status, media_type, answer, number, document = row
            head = _head(fields)
            if head.is_over(self.policy.clock()):
                return None
            arrays = dict(connection.execute("SELECT number, data FROM session_arrays WHERE session = ?", (number,)))
        answered = None if request is None else (request, status, media_type, answer)
        return read_content(head, document, arrays, answered)

    def save(self, head: Head, revision: str, change: Change, allowance: Allowance = UNLIMITED) -> bool:
        """See `SessionStore`."""

        def work(connection: sqlite3.Connection) -> bool:
            return self._save(connection, head, revision, change, allowance)

        def write() -> bool:
            with self._database.write() as connection:
                return work(connection)

        return self._database.free(work) if change.shrinks else self.with_room(write)

    def _save(
        self, connection: sqlite3.Connection, head: Head, revision: str, change: Change, allowance: Allowance
    ) -> bool:
        query = f"SELECT number, client, bytes FROM sessions WHERE digest = ? AND revision = ? AND NOT {_ENDED}"
        row = connection.execute(query, (head.digest, revision)).fetchone()
        if row is None:
            return False
        number, client, before = row
        columns = f"{_HEAD}, {_ANSWER}, document".replace(",", " = ?,")
        fields = (*_head_row(head), *_answer_row(change.answered), change.document, number)
        connection.execute(f"UPDATE sessions SET {columns} = ? WHERE number = ?", fields)
        if head.bytes > before and not change.shrinks:
            self._check_bytes(connection, client, allowance)
        gone = [(number, array) for array in change.dropped]
        connection.executemany("DELETE FROM session_arrays WHERE session = ? AND number = ?", gone)
        _add_arrays(connection, number, change)
        return True

    def touch(self, digest: str, expires_at: float) -> None:
        """See `SessionStore`."""
        query = f"UPDATE sessions SET expires_at = ? WHERE digest = ? AND expires_at < ? AND NOT {_ENDED}"
        with self._database.write() as connection:
            connection.execute(query, (expires_at, digest, expires_at))

    def end(self, head: Head) -> None:
        """See `SessionStore`."""
        query = "SELECT number FROM sessions WHERE digest = ? AND revision = ? AND expires_at = ?"

        def work(connection: sqlite3.Connection) -> None:
            for (number,) in connection.execute(query, (head.digest, head.revision, head.expires_at)).fetchall():
                _end(connection, number)

        self._database.free(work)

    def delete(self, digest: str) -> bool:
        """See `SessionStore`."""
        query = "DELETE FROM sessions WHERE digest = ?"
        return self._database.free(lambda connection: bool(connection.execute(query, (digest,)).rowcount))

    def list(self, on_damage: OnDamage | None = None) -> list[Head]:
        """See `SessionStore`."""
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {_HEAD}, {_ENDED} FROM sessions ORDER BY number").fetchall()
        return read_all((partial(_head, row) for row in rows), on_damage)

    def _sweep(self, connection: sqlite3.Connection, now: float) -> bool:
        """Forget sessions that expired long ago, drop the content of other expired ones; return whether any were."""
        old = "SELECT number FROM sessions WHERE expires_at <= ? LIMIT ?"
        long_ago = (now - self.policy.grace_s, SWEPT_SESSIONS)
        forgotten = connection.execute(f"DELETE FROM sessions WHERE number IN ({old})", long_ago).rowcount
        query = f"SELECT number FROM sessions WHERE expires_at <= ? AND NOT {_ENDED} LIMIT ?"
        ended = connection.execute(query, (now, SWEPT_SESSIONS)).fetchall()
        for (number,) in ended:
            _end(connection, number)
        return bool(forgotten or ended)

    def with_room(self, write: Callable[[], T]) -> T:
        """Run `write`; where there is no room, once more after expired sessions were dropped."""
        try:
            return write()
        except LimitExceededError:
            # In a transaction of its own: what was dropped stays dropped, though there is not enough room yet.
            if not self._sweep_now():
                raise
        return write()

    def _sweep_now(self) -> bool:
        return self._database.free(lambda connection: self._sweep(connection, self.policy.clock()))

    def _check_bytes(self, connection: sqlite3.Connection, client: str, allowance: Allowance) -> None:
        """Raise LimitExceededError where the client, or all together, have more bytes than allowed."""
        of_client = connection.execute("SELECT bytes FROM client_usage WHERE client = ?", (client,)).fetchone()[0]
        self.policy.check_bytes(of_client, allowance)
        self._limits.check_bytes(connection.execute("SELECT SUM(bytes) FROM usage").fetchone()[0])


def _end(connection: sqlite3.Connection, number: int) -> None:
    emptied = "UPDATE sessions SET document = x'', answer = NULL, request = NULL, bytes = 0 WHERE number = ?"
    connection.execute(emptied, (number,))
    connection.execute("DELETE FROM session_arrays WHERE session = ?", (number,))


def _head(row: Sequence[Any]) -> Head:
    """Return the head of a row that begins with its columns and ends with whether the session has ended."""
    *values, has_ended = row
    return read_head(str(values[0]), values, bool(has_ended))


def _answer_row(answered: Answered | None) -> tuple[object, ...]:
    if answered is None:
        return (None, None, None, None)
    return (answered.request, answered.status, answered.media_type, answered.content)


def _add_arrays(connection: sqlite3.Connection, session: int, change: Change) -> None:
    rows = [(session, number, data) for number, data in change.new.items()]
    connection.executemany("INSERT INTO session_arrays (session, number, data) VALUES (?, ?, ?)", rows)
