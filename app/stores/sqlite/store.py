"""Programs and sessions in one SQLite file."""

import dataclasses
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from app.errors import ForbiddenError
from app.stores.address import PrivateDirectory, StoreAddress
from app.stores.base import (
    SUGGESTED_NAMES,
    SWEPT_ROWS,
    Binding,
    Deletion,
    Listed,
    Policy,
    Program,
    Sweeps,
    damaged,
    is_id,
)
from app.stores.errors import NameConflictError, StoreUnavailableError
from app.stores.keys import KeyStore
from app.stores.owners import ANYONE, Caller
from app.stores.sessions import SessionPolicy, SessionStore
from app.stores.sqlite.database import Database
from app.stores.sqlite.keys import SqliteKeys
from app.stores.sqlite.sessions import SqliteSessions
from engine.core import LimitExceededError

T = TypeVar("T")

FILE = "pullback.sqlite3"

_FIRST_NAME = "(SELECT name FROM program_names WHERE program = programs.id ORDER BY number LIMIT 1)"
#: Programs of an owner, and the oldest name that it gave one.
_OWN = "program_claims AS claims JOIN programs ON programs.id = claims.program WHERE claims.owner = ?"
_OWN_NAME = (
    "(SELECT name FROM program_names AS given WHERE given.program = programs.id AND given.owner = claims.owner "
    "ORDER BY given.number LIMIT 1)"
)
_CLAIMED = "SELECT 1 FROM program_claims WHERE owner = ? AND program = ?"
_USED = "UPDATE programs SET used_at = ? WHERE id = ?"
#: Name of the fact that is the moment that was noted last.
_MOMENT = "moment"
_UNUSED = """
    SELECT number FROM programs
    WHERE used_at < ? AND NOT EXISTS (SELECT 1 FROM program_names WHERE program = programs.id)
    ORDER BY used_at LIMIT ?
"""


class SqliteStore:
    """A store in the file FILE of a directory.

    directory: where the file is, or is created.
    policy, sessions: the limits.
    is_private: whether the file belongs to one server, and need not survive a crash of the machine.
    """

    def __init__(
        self, directory: Path, policy: Policy, sessions: SessionPolicy | None = None, *, is_private: bool = False
    ) -> None:
        named = f'the temporary directory is "{directory}"' if is_private else f'PULLBACK_DATA_DIR is "{directory}"'
        self.address = StoreAddress("private" if is_private else "sqlite", str(directory))
        self._database = Database(directory / FILE, named, is_durable=not is_private, on_open=self._resume)
        self._sessions = SqliteSessions(self._database, sessions or SessionPolicy(), policy)
        self.sessions: SessionStore = self._sessions
        self.keys: KeyStore = SqliteKeys(self._database.read, self._database.write)
        self._owned: PrivateDirectory | None = None
        self._policy = policy
        self._sweeps = Sweeps(policy)

    @classmethod
    def private(cls, policy: Policy, sessions: SessionPolicy | None = None) -> "SqliteStore":
        """Return a store in a new temporary directory, which `close`, or the end of this process, removes.

        Other processes of the server open it by its address; to them it is not their own, and they leave it.
        """
        directory = PrivateDirectory()
        store = cls(directory.path, policy, sessions, is_private=True)
        store._owned = directory
        return store

    def open(self) -> None:
        """See `Store`; the first use does this too."""
        self._database.open()

    def close(self) -> None:
        """See `Store`."""
        self._database.close()
        if self._owned is not None:
            self._owned.close()

    def _resume(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (_MOMENT,)).fetchone()
        self._policy.resume(None if row is None else row[0])

    def add_program(
        self, program: Program, blobs: Mapping[str, bytes], *, replace: bool, caller: Caller = ANYONE
    ) -> tuple[Program, bool]:
        """See `Store`."""
        self._sweep_if_due()
        return self._sessions.with_room(lambda: self._add_program(program, blobs, replace, caller))

    def _add_program(
        self, program: Program, blobs: Mapping[str, bytes], replace: bool, caller: Caller
    ) -> tuple[Program, bool]:
        with self._database.write() as connection:
            now = self._policy.clock()
            holder, owner = _holder(connection, program.name) if program.name else (None, "")
            if program.name and holder and holder != program.id:
                caller.check_takes(program.name, owner)
                if not replace:
                    raise NameConflictError(program.name, holder)
            if not connection.execute(_USED, (now, program.id)).rowcount:
                self._insert(connection, program, blobs, now)
            is_new = _claim(connection, program.id, caller)
            if program.name and holder != program.id:
                caller.note_taken(program.name, owner if holder else caller.owner)
                # The former holder may have no other name: its time without use begins now.
                connection.execute(_USED, (now, holder))
                connection.execute("DELETE FROM program_names WHERE name = ?", (program.name,))
                row = (program.name, program.id, caller.owner)
                connection.execute("INSERT INTO program_names (name, program, owner) VALUES (?, ?, ?)", row)
            query = f"SELECT {_FIRST_NAME}, created_at FROM programs WHERE id = ?"
            name, created_at = connection.execute(query, (program.id,)).fetchone()
            return dataclasses.replace(program, name=program.name or name, created_at=created_at), is_new

    def check_room(self, program: Program, blobs: Mapping[str, bytes], caller: Caller = ANYONE) -> None:
        """See `Store`; it writes only where unused programs or expired sessions have to be dropped."""
        with self._database.read() as connection:
            if connection.execute(_CLAIMED, (caller.owner, program.id)).fetchone() is None:
                caller.allowance.check_programs(_claims(connection, caller.owner) + 1)
            known = connection.execute("SELECT 1 FROM programs WHERE id = ?", (program.id,)).fetchone()
            if known is not None or self._has_room(connection, program, blobs):
                return

        def make_room() -> None:
            with self._database.write() as connection:
                self._make_room(connection, program, blobs, self._policy.clock())

        self._sessions.with_room(make_room)

    def check(self) -> None:
        """See `Store`."""
        with self._database.write() as connection:
            connection.execute("SELECT number FROM programs LIMIT 1").fetchone()
            self._note_time(connection)
        self._database.reserve()

    def resolve_program(self, key: str) -> str | None:
        """See `Store`; the time of use is written once in a while."""
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
            # A program that can be read is found though the disk is full.
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

    def list_programs(self, limit: int, after: int, owner: str | None = None) -> list[Listed]:
        """See `Store`."""
        if owner is None:
            query = f"SELECT number, id, {_FIRST_NAME}, summary FROM programs WHERE number > ? ORDER BY number LIMIT ?"
            given: tuple[object, ...] = (after, limit)
        else:
            later = "claims.number > ? ORDER BY claims.number LIMIT ?"
            query = f"SELECT claims.number, id, {_OWN_NAME}, summary FROM {_OWN} AND {later}"
            given = (owner, after, limit)
        with self._database.read() as connection:
            return [Listed(*row) for row in connection.execute(query, given)]

    def delete_program(self, key: str, caller: Caller = ANYONE) -> Deletion:
        """See `Store`."""
        return self._database.free(lambda connection: self._delete(connection, key, caller))

    def _delete(self, connection: sqlite3.Connection, key: str, caller: Caller) -> Deletion:
        program_id = key if is_id(key) else _holder(connection, key)[0]
        if connection.execute("SELECT 1 FROM programs WHERE id = ?", (program_id,)).fetchone() is None:
            return Deletion.NONE
        dropped = 0
        for owner in caller.owned:
            own = (program_id, owner)
            dropped += connection.execute("DELETE FROM program_claims WHERE program = ? AND owner = ?", own).rowcount
            connection.execute("DELETE FROM program_names WHERE program = ? AND owner = ?", own)
        if not dropped and not caller.is_admin:
            raise ForbiddenError(f"the program {program_id} belongs to other keys alone")
        left = "SELECT 1 FROM program_claims WHERE program = ?"
        if dropped and connection.execute(left, (program_id,)).fetchone() is not None:
            connection.execute(_USED, (self._policy.clock(), program_id))
        else:
            connection.execute("DELETE FROM programs WHERE id = ?", (program_id,))
        return Deletion.OWN if dropped else Deletion.FOR_ALL

    def program_names(self) -> list[str]:
        """See `Store`."""
        query = "SELECT name FROM program_names WHERE owner = '' ORDER BY number DESC LIMIT ?"
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
        """Drop unused programs where there is no room for a new one; LimitExceededError if there still is none."""
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
        count = connection.execute("SELECT number FROM usage WHERE kind = 'programs'").fetchone()[0]
        size = connection.execute("SELECT SUM(bytes) FROM usage").fetchone()[0]
        self._policy.check(count + 1, size + program.size + sum(map(len, new)))

    def _sweep_if_due(self) -> None:
        if self._sweeps.is_due():
            with suppress(StoreUnavailableError), self._database.write() as connection:
                self._sweep(connection, self._policy.clock())
                self._note_time(connection)

    def _note_time(self, connection: sqlite3.Connection) -> None:
        row = (_MOMENT, self._policy.moment())
        connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", row)

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        unused = (self._policy.unused_since(now), SWEPT_ROWS)
        connection.execute(f"DELETE FROM programs WHERE number IN ({_UNUSED})", unused)


def _holder(connection: sqlite3.Connection, name: str) -> tuple[str | None, str]:
    """Return the program of a name, None if there is none, and the owner of the name."""
    row = connection.execute("SELECT program, owner FROM program_names WHERE name = ?", (name,)).fetchone()
    return (None, "") if row is None else (str(row[0]), str(row[1]))


def _claim(connection: sqlite3.Connection, program_id: str, caller: Caller) -> bool:
    """Make the caller an owner of a program; return False if it is one already.

    Raises:
        LimitExceededError: it would have more programs than allowed.
    """
    claimed = "INSERT OR IGNORE INTO program_claims (owner, program) VALUES (?, ?)"
    if not connection.execute(claimed, (caller.owner, program_id)).rowcount:
        return False
    if caller.allowance.programs is not None:
        caller.allowance.check_programs(_claims(connection, caller.owner))
    return True


def _claims(connection: sqlite3.Connection, owner: str) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM program_claims WHERE owner = ?", (owner,)).fetchone()[0])


def _bindings(connection: sqlite3.Connection, program_id: str) -> dict[str, Binding]:
    query = "SELECT name, digest, dtype, shape FROM bindings WHERE program = ? ORDER BY place"
    rows = connection.execute(query, (program_id,)).fetchall()
    try:
        return {name: Binding(digest, dtype, tuple(json.loads(shape))) for name, digest, dtype, shape in rows}
    except (ValueError, TypeError) as error:
        raise damaged(program_id, f"the shape of a bound array: {error}") from error
