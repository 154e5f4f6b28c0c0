"""Sessions in a SQLite file."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from app.stores.sessions import SWEPT_SESSIONS, Answered, Change, Content, Head, SessionPolicy
from app.stores.sqlite.database import Database

_HEAD = "id, seq, created_at, expires_at, ttl_s, bytes, name, revision"
#: A session that has ended has no document.
_ENDED = "document = x''"
_ANSWER = "request, status, media_type, answer"


class SqliteSessions:
    """Rows of a database, which has its tables."""

    def __init__(self, database: Database, policy: SessionPolicy) -> None:
        self._database = database
        self.policy = policy

    def create(self, head: Head, content: Change, client: str, key: bytes | None) -> tuple[str, bool]:
        """See `SessionStore`."""
        with self._database.write() as connection:
            now = self.policy.clock()
            self._sweep(connection, now)
            if key is not None:
                row = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    return str(row[0]), False
            living = f"SELECT COUNT(*) FROM sessions WHERE expires_at > ? AND NOT {_ENDED}"
            count = connection.execute(living, (now,)).fetchone()[0]
            of_client = connection.execute(f"{living} AND client = ?", (now, client)).fetchone()[0]
            self.policy.check(count, of_client)
            columns = f"{_HEAD}, {_ANSWER}, client, key, document"
            row = (*_head_row(head), *_answer_row(content.answered), client, key, content.document)
            inserted = connection.execute(f"INSERT INTO sessions ({columns}) VALUES ({'?, ' * 14}?)", row)
            _add_arrays(connection, int(inserted.lastrowid or 0), content)
            return head.id, True

    def head(self, session_id: str) -> Head | None:
        """See `SessionStore`."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {_HEAD}, {_ENDED} FROM sessions WHERE id = ?", (session_id,)).fetchone()
        return None if row is None else _head(row)

    def load(self, session_id: str) -> Content | None:
        """See `SessionStore`."""
        query = f"SELECT {_HEAD}, {_ENDED}, {_ANSWER}, number, document FROM sessions WHERE id = ?"
        with self._database.read() as connection:
            row = connection.execute(query, (session_id,)).fetchone()
            if row is None:
                return None
            *fields, request, status, media_type, answer, number, document = row
            head = _head(fields)
            if head.is_over(self.policy.clock()):
                return None
            arrays = dict(connection.execute("SELECT number, data FROM session_arrays WHERE session = ?", (number,)))
        answered = None if request is None else Answered(request, status, media_type, answer)
        return Content(head, document, arrays, answered)

    def save(self, head: Head, revision: str, change: Change) -> bool:
        """See `SessionStore`."""
        with self._database.write() as connection:
            query = f"SELECT number FROM sessions WHERE id = ? AND revision = ? AND NOT {_ENDED}"
            row = connection.execute(query, (head.id, revision)).fetchone()
            if row is None:
                return False
            number = int(row[0])
            columns = f"{_HEAD}, {_ANSWER}, document".replace(",", " = ?,")
            fields = (*_head_row(head), *_answer_row(change.answered), change.document, number)
            connection.execute(f"UPDATE sessions SET {columns} = ? WHERE number = ?", fields)
            gone = [(number, array) for array in change.dropped]
            connection.executemany("DELETE FROM session_arrays WHERE session = ? AND number = ?", gone)
            _add_arrays(connection, number, change)
            return True

    def touch(self, session_id: str, expires_at: float) -> None:
        """See `SessionStore`."""
        query = f"UPDATE sessions SET expires_at = ? WHERE id = ? AND expires_at < ? AND NOT {_ENDED}"
        with self._database.write() as connection:
            connection.execute(query, (expires_at, session_id, expires_at))

    def end(self, head: Head) -> None:
        """See `SessionStore`."""
        query = "SELECT number FROM sessions WHERE id = ? AND revision = ? AND expires_at = ?"
        with self._database.write() as connection:
            for (number,) in connection.execute(query, (head.id, head.revision, head.expires_at)).fetchall():
                _end(connection, number)

    def delete(self, session_id: str) -> bool:
        """See `SessionStore`."""
        with self._database.write() as connection:
            return bool(connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,)).rowcount)

    def list(self) -> list[Head]:
        """See `SessionStore`."""
        with self._database.read() as connection:
            return [_head(row) for row in connection.execute(f"SELECT {_HEAD}, {_ENDED} FROM sessions ORDER BY number")]

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        """Lets go of what sessions held that expired, and of those that expired long ago altogether."""
        old = "SELECT number FROM sessions WHERE expires_at <= ? LIMIT ?"
        connection.execute(f"DELETE FROM sessions WHERE number IN ({old})", (now - self.policy.grace_s, SWEPT_SESSIONS))
        ended = f"SELECT number FROM sessions WHERE expires_at <= ? AND NOT {_ENDED} LIMIT ?"
        for (number,) in connection.execute(ended, (now, SWEPT_SESSIONS)).fetchall():
            _end(connection, number)


def _end(connection: sqlite3.Connection, number: int) -> None:
    emptied = "UPDATE sessions SET document = x'', answer = NULL, request = NULL WHERE number = ?"
    connection.execute(emptied, (number,))
    connection.execute("DELETE FROM session_arrays WHERE session = ?", (number,))


def _head(row: Sequence[Any]) -> Head:
    """The head of a row that begins with its columns and ends with whether the session has ended."""
    *fields, has_ended = row
    return Head(*(*fields, bool(has_ended)))


def _head_row(head: Head) -> tuple[object, ...]:
    return (head.id, head.seq, head.created_at, head.expires_at, head.ttl_s, head.bytes, head.name, head.revision)


def _answer_row(answered: Answered | None) -> tuple[object, ...]:
    if answered is None:
        return (None, None, None, None)
    return (answered.request, answered.status, answered.media_type, answered.content)


def _add_arrays(connection: sqlite3.Connection, session: int, change: Change) -> None:
    rows = [(session, number, data) for number, data in change.new.items()]
    connection.executemany("INSERT INTO session_arrays (session, number, data) VALUES (?, ?, ?)", rows)
