"""Programs, and what else there is, in one SQLite file."""

import dataclasses
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from app.stores.base import (
    SUGGESTED_NAMES,
    SWEPT_ROWS,
    Binding,
    Listed,
    Policy,
    Program,
    Sweeps,
    damaged,
    is_id,
)
from app.stores.errors import NameConflictError, StoreUnavailableError
from app.stores.sessions import SessionPolicy, SessionStore
from app.stores.sqlite.database import Database
from app.stores.sqlite.sessions import SqliteSessions
from engine.core import LimitExceededError

FILE = "pullback.sqlite3"

_FIRST_NAME = "(SELECT name FROM program_names WHERE program = programs.id ORDER BY number LIMIT 1)"
_SIZE = "SELECT (SELECT COALESCE(SUM(bytes), 0) FROM programs) + (SELECT COALESCE(SUM(bytes), 0) FROM blobs)"
_UNUSED = """
    SELECT number FROM programs
    WHERE used_at < ? AND NOT EXISTS (SELECT 1 FROM program_names WHERE program = programs.id)
    ORDER BY used_at LIMIT ?
"""


class SqliteStore:
    """A store in the file FILE of a directory."""

    def __init__(self, directory: Path, policy: Policy, sessions: SessionPolicy | None = None) -> None:
        self._database = Database(directory / FILE)
        self.sessions: SessionStore = SqliteSessions(self._database, sessions or SessionPolicy())
        self._policy = policy
        self._sweeps = Sweeps(policy)

    def open(self) -> None:
        """See `Store`; it happens by itself with the first use."""
        self._database.open()

    def close(self) -> None:
        """See `Store`."""
        self._database.close()

    def add_program(self, program: Program, blobs: Mapping[str, bytes], *, replace: bool) -> tuple[Program, bool]:
        """See `Store`."""
        self._sweep_if_due()
        with self._database.write() as connection:
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
            query = f"SELECT {_FIRST_NAME}, created_at FROM programs WHERE id = ?"
            name, created_at = connection.execute(query, (program.id,)).fetchone()
            return dataclasses.replace(program, name=program.name or name, created_at=created_at), is_new

    def check_room(self, program: Program, blobs: Mapping[str, bytes]) -> None:
        """See `Store`; it writes only where something has to give way."""
        with self._database.read() as connection:
            known = connection.execute("SELECT 1 FROM programs WHERE id = ?", (program.id,)).fetchone()
            if known is not None or self._has_room(connection, program, blobs):
                return
        with self._database.write() as connection:
            self._make_room(connection, program, blobs, self._policy.clock())

    def check(self) -> None:
        """See `Store`."""
        with self._database.read() as connection:
            connection.execute("SELECT number FROM programs LIMIT 1").fetchone()

    def resolve_program(self, key: str) -> str | None:
        """See `Store`; what it writes is that the program was used, and this not every time."""
        self._sweep_if_due()
        by_name = "JOIN program_names ON program = id WHERE name = ?"
        query = f"SELECT id, used_at FROM programs {'WHERE id = ?' if is_id(key) else by_name}"
        with self._database.read() as connection:
            row = connection.execute(query, (key,)).fetchone()
        if row is None:
            return None
        program_id, used_at = row
        now = self._policy.clock()
        if now - used_at > self._policy.precision_s:
            # What can be read is answered, though the disk be full.
            with suppress(StoreUnavailableError), self._database.write() as connection:
                connection.execute("UPDATE programs SET used_at = ? WHERE id = ?", (now, program_id))
        return str(program_id)

    def load_program(self, program_id: str) -> Program | None:
        """See `Store`."""
        query = f"SELECT document, summary, {_FIRST_NAME}, created_at FROM programs WHERE id = ?"
        with self._database.read() as connection:
            row = connection.execute(query, (program_id,)).fetchone()
            if row is None:
                return None
            document, summary, name, created_at = row
            return Program(program_id, document, summary, _bindings(connection, program_id), name, created_at)

    def load_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        found = {}
        with self._database.read() as connection:
            for digest in digests:
                row = connection.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
                if row is not None:
                    found[digest] = row[0]
        return found

    def list_programs(self, limit: int, after: int) -> list[Listed]:
        """See `Store`."""
        query = f"SELECT number, id, {_FIRST_NAME}, summary FROM programs WHERE number > ? ORDER BY number LIMIT ?"
        with self._database.read() as connection:
            return [Listed(*row) for row in connection.execute(query, (after, limit))]

    def delete_program(self, key: str) -> bool:
        """See `Store`."""
        with self._database.write() as connection:
            program_id = key if is_id(key) else _holder(connection, key)
            return bool(connection.execute("DELETE FROM programs WHERE id = ?", (program_id,)).rowcount)

    def program_names(self) -> list[str]:
        """See `Store`."""
        query = "SELECT name FROM program_names ORDER BY number DESC LIMIT ?"
        with self._database.read() as connection:
            return [name for (name,) in connection.execute(query, (SUGGESTED_NAMES,))]

    def _insert(self, connection: sqlite3.Connection, program: Program, blobs: Mapping[str, bytes], now: float) -> None:
        self._make_room(connection, program, blobs, now)
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

    def _make_room(
        self, connection: sqlite3.Connection, program: Program, blobs: Mapping[str, bytes], now: float
    ) -> None:
        """Lets the unused give way where there is no room for a program.

        Raises:
            LimitExceededError: there still is none.
        """
        if not self._has_room(connection, program, blobs):
            self._sweep(connection, now)
            self._check_room(connection, program, blobs)

    def _has_room(self, connection: sqlite3.Connection, program: Program, blobs: Mapping[str, bytes]) -> bool:
        try:
            self._check_room(connection, program, blobs)
        except LimitExceededError:
            return False
        return True

    def _check_room(self, connection: sqlite3.Connection, program: Program, blobs: Mapping[str, bytes]) -> None:
        known = "SELECT 1 FROM blobs WHERE digest = ?"
        new = [data for digest, data in blobs.items() if connection.execute(known, (digest,)).fetchone() is None]
        count = connection.execute("SELECT COUNT(*) FROM programs").fetchone()[0]
        size = connection.execute(_SIZE).fetchone()[0]
        self._policy.check(count + 1, size + program.size + sum(map(len, new)))

    def _sweep_if_due(self) -> None:
        if self._sweeps.is_due():
            with suppress(StoreUnavailableError), self._database.write() as connection:
                self._sweep(connection, self._policy.clock())

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        unused = (self._policy.unused_since(now), SWEPT_ROWS)
        connection.execute(f"DELETE FROM programs WHERE number IN ({_UNUSED})", unused)


def _holder(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT program FROM program_names WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _bindings(connection: sqlite3.Connection, program_id: str) -> dict[str, Binding]:
    query = "SELECT name, digest, dtype, shape FROM bindings WHERE program = ? ORDER BY place"
    rows = connection.execute(query, (program_id,)).fetchall()
    try:
        return {name: Binding(digest, dtype, tuple(json.loads(shape))) for name, digest, dtype, shape in rows}
    except (ValueError, TypeError) as error:
        raise damaged(program_id, f"the shape of a bound array: {error}") from error
