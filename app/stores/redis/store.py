"""Programs and sessions in a Redis or Valkey server."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from app.errors import ForbiddenError
from app.stores.address import StoreAddress
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
from app.stores.redis.keys import RedisKeys
from app.stores.redis.server import PREFIX, SCHEMA_OF_DIGESTS, Server
from app.stores.redis.sessions import RedisSessions
from app.stores.sessions import SessionPolicy, SessionStore
from engine.core import LimitExceededError

T = TypeVar("T")

#: Key of the moment that was noted last.
_MOMENT = f"{PREFIX}moment"


class RedisStore:
    """A store in the server at a URL (redis://, rediss:// or unix://), laid out as `programs.lua` says."""

    def __init__(self, url: str, policy: Policy, sessions: SessionPolicy | None = None) -> None:
        self.address = StoreAddress("redis", url)
        self._server = Server(url, migrate=self._migrate, on_open=self._resume)
        self._sessions = RedisSessions(self._server, sessions or SessionPolicy(), policy)
        self.sessions: SessionStore = self._sessions
        self.keys: KeyStore = RedisKeys(self._server)
        self._call = self._server.script("programs.lua")
        self._policy = policy
        self._sweeps = Sweeps(policy)

    def _migrate(self, version: int) -> None:
        """Bring the data of an earlier release to this schema; it may be interrupted and repeated."""
        if version < SCHEMA_OF_DIGESTS:
            self._sessions.migrate()
        self._call("migrate")

    def open(self) -> None:
        """See `Store`; the first use does this too."""
        self._server.open()

    def close(self) -> None:
        """See `Store`."""
        self._server.close()

    def add_program(
        self, program: Program, blobs: Mapping[str, bytes], *, replace: bool, caller: Caller = ANYONE
    ) -> tuple[Program, bool]:
        """See `Store`."""
        self._sweep_if_due()
        return self._with_room(lambda: self._add_program(program, blobs, replace, caller))

    def _add_program(
        self, program: Program, blobs: Mapping[str, bytes], replace: bool, caller: Caller
    ) -> tuple[Program, bool]:
        now = self._policy.clock()
        bound = [[name, item.digest, item.dtype, item.shape] for name, item in program.bound.items()]
        texts = (program.summary, program.document, json.dumps(bound))
        given = (program.id, program.name or "", int(replace), now, *self._room(now), program.size, *texts)
        owner = _owner_arguments(caller)
        kind, *found = self._call("add", *owner, *given, len(blobs), *blobs.values(), *_lengths(blobs))
        if kind == b"conflict":
            raise NameConflictError(str(program.name), found[0].decode())
        if kind == b"taken":
            caller.check_takes(str(program.name), found[0].decode())
        if kind == b"quota":
            caller.allowance.check_programs(found[0])
        if kind == b"full":
            self._policy.check(*found)
        is_new, name, created_at, owner_before = found
        caller.note_taken(name.decode(), owner_before.decode())
        kept = dataclasses.replace(program, name=name.decode() or None, created_at=float(created_at))
        return kept, bool(is_new)

    def check_room(self, program: Program, blobs: Mapping[str, bytes], caller: Caller = ANYONE) -> None:
        """See `Store`."""
        if caller.allowance.programs is not None:
            claims = f"{PREFIX}claims:{caller.owner}"
            known, count = self._server.together(("ZSCORE", claims, program.id), ("ZCARD", claims))
            caller.allowance.check_programs(count + (known is None))

        def check() -> None:
            room = self._room(self._policy.clock())
            full = self._call("check_room", program.id, *room, program.size, *_lengths(blobs))
            if full is not None:
                self._policy.check(*full)

        self._with_room(check)

    def check(self) -> None:
        """See `Store`."""
        self._note_time()

    def resolve_program(self, key: str) -> str | None:
        """See `Store`; the time of use is written once in a while."""
        self._sweep_if_due()
        found = self._call("resolve", key, int(is_id(key)), self._policy.clock(), self._policy.precision_s)
        return None if found is None else str(found.decode())

    def load_program(self, program_id: str) -> Program | None:
        """See `Store`."""
        document, summary, bound, created_at, name = self._call("load", program_id)
        if document is summary is bound is created_at is None:
            return None
        try:
            bindings = {name: Binding(digest, dtype, tuple(shape)) for name, digest, dtype, shape in json.loads(bound)}
            made = float(created_at)
        except (ValueError, TypeError) as error:
            raise damaged(program_id, f"its bound arrays, or its time of creation: {error}") from error
        return Program(program_id, _text(document), _text(summary), bindings, _text(name) or None, made)

    def load_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        found = self._server.together(*(("HGET", f"{PREFIX}blob:{digest}", "data") for digest in digests))
        return {digest: data for digest, data in zip(digests, found, strict=True) if data is not None}

    def list_programs(self, limit: int, after: int, owner: str | None = None) -> list[Listed]:
        """See `Store`."""
        rows = iter(self._call("list", limit, after, *(() if owner is None else (owner,))))
        return [
            Listed(int(number), _text(key), _text(name) or None, _text(summary))
            for number, key, name, summary in zip(rows, rows, rows, rows, strict=True)
        ]

    def delete_program(self, key: str, caller: Caller = ANYONE) -> Deletion:
        """See `Store`."""
        about = (*_owner_arguments(caller), key, int(is_id(key)))
        # Asked before, so that a command that is sent twice does not drop a claim and then the program.
        for_all = caller.is_admin and not self._call("owns", *about)
        found = self._call("delete", *about, self._policy.clock(), int(for_all))
        if isinstance(found, bytes):
            raise ForbiddenError(f"the program {found.decode()} belongs to other keys alone")
        return Deletion(found)

    def program_names(self) -> list[str]:
        """See `Store`."""
        names = self._server.ask("ZREVRANGE", f"{PREFIX}named", 0, SUGGESTED_NAMES - 1)
        owners = self._server.ask("HMGET", f"{PREFIX}name-owners", *names) if names else []
        return [_text(name) for name, owner in zip(names, owners, strict=True) if not owner]

    def _room(self, now: float) -> tuple[float, int, int, int]:
        """Return the script's arguments for making room."""
        return self._policy.unused_since(now), SWEPT_ROWS, self._policy.max_programs, self._policy.max_bytes

    def _sweep_if_due(self) -> None:
        if self._sweeps.is_due():
            with suppress(StoreUnavailableError):
                self._call("sweep", self._policy.unused_since(self._policy.clock()), SWEPT_ROWS)
                self._note_time()

    def _with_room(self, write: Callable[[], T]) -> T:
        """Run `write`; where there is no room, once more after expired sessions were dropped."""
        try:
            return write()
        except LimitExceededError:
            if not self._sessions.sweep():
                raise
        return write()

    def _resume(self) -> None:
        found = self._server.ask("GET", _MOMENT)
        self._policy.resume(None if found is None else _text(found))

    def _note_time(self) -> None:
        self._server.ask("SET", _MOMENT, self._policy.moment())


def _owner_arguments(caller: Caller) -> tuple[str, int, int]:
    """Return owner, whether it is an admin, and the number of programs that it may have; -1: any."""
    most = caller.allowance.programs
    return caller.owner, int(caller.is_admin), -1 if most is None else most


def _lengths(blobs: Mapping[str, bytes]) -> list[str | int]:
    """Return digests and lengths by turns."""
    return [item for digest, data in blobs.items() for item in (digest, len(data))]


def _text(data: bytes | None) -> str:
    """Decode text; damage is for its reader to find."""
    return "" if data is None else data.decode(errors="replace")
