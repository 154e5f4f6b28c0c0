"""Sessions in a Redis or Valkey server."""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from app.stores.base import Policy
from app.stores.owners import UNLIMITED, Allowance
from app.stores.redis.server import PREFIX, Server
from app.stores.sessions import (
    HEAD_FIELDS,
    SWEPT_SESSIONS,
    Change,
    Content,
    CreationKey,
    Head,
    OnDamage,
    SessionPolicy,
    damaged_session,
    read_all,
    read_content,
    read_head,
)

_HEAD = (*HEAD_FIELDS, "ended")
#: Scripts write this one themselves.
_EXPIRY = "expires_at"
#: Fields of the content beside the arrays, whose fields are their numbers.
_DOCUMENT, _ANSWERED = b"document", b"answered"
_SESSIONS = f"{PREFIX}sessions"
_DIGEST = re.compile(rb"[0-9a-f]{64}")


class RedisSessions:
    """Sessions in a server, laid out as `sessions.lua` says; `limits` are those of programs and sessions together."""

    def __init__(self, server: Server, policy: SessionPolicy, limits: Policy) -> None:
        self._server = server
        self._limits = limits
        self.policy = policy
        self._call = server.script("sessions.lua")

    def create(
        self, head: Head, content: Change, client: str, key: CreationKey | None, allowance: Allowance = UNLIMITED
    ) -> bytes | None:
        """See `SessionStore`."""
        keys = (b"", b"") if key is None else (key.digest, key.sealed)
        per_client = _lowest(self.policy.max_per_client, allowance.sessions)
        limits = (self.policy.max_sessions, per_client, *self._byte_limits(allowance))
        fields = _head_fields(head)
        given = (head.digest, client, *keys, *self._sweeping(), *limits, head.bytes, head.expires_at, len(fields))
        kind, *found = self._call("create", *given, *fields, *_content_fields(content))
        if kind == b"full":
            self.policy.check(int(found[0]), int(found[1]), allowance)
        if kind == b"large":
            self._check_bytes(int(found[0]), int(found[1]), allowance)
        return bytes(found[0]) if kind == b"known" else None

    def head(self, digest: str) -> Head | None:
        """See `SessionStore`."""
        return _head(self._server.ask(*_head_query(digest)))

    def load(self, digest: str) -> Content | None:
        """See `SessionStore`."""
        found, fields = self._call("load", digest, *_HEAD)
        head = _head(found)
        if head is None or head.is_over(self.policy.clock()):
            return None
        content = dict(zip(fields[::2], fields[1::2], strict=True))
        if _DOCUMENT not in content:
            return None
        document, answered = content.pop(_DOCUMENT, b""), content.pop(_ANSWERED, b"")
        try:
            last = msgspec.msgpack.decode(answered, type=tuple[bytes, int, str, bytes]) if answered else None
        except msgspec.MsgspecError as error:
            raise damaged_session(digest, error) from error
        return read_content(head, document, content, last)

    def save(self, head: Head, revision: str, change: Change, allowance: Allowance = UNLIMITED) -> bool:
        """See `SessionStore`."""
        fields, dropped = _head_fields(head), change.dropped
        room = (*self._sweeping(), *self._byte_limits(allowance), head.bytes, int(change.shrinks))
        given = (head.digest, revision, head.revision, *room, head.expires_at, len(fields), len(dropped))
        kind, *found = self._call("save", *given, *fields, *dropped, *_content_fields(change))
        if kind == b"large":
            self._check_bytes(int(found[0]), int(found[1]), allowance)
        return bool(kind == b"stored")

    def touch(self, digest: str, expires_at: float) -> None:
        """See `SessionStore`."""
        self._call("touch", digest, expires_at)

    def end(self, head: Head) -> None:
        """See `SessionStore`."""
        self._call("end", head.digest, head.revision, head.expires_at)

    def delete(self, digest: str) -> bool:
        """See `SessionStore`."""
        return bool(self._call("delete", digest))

    def list(self, on_damage: OnDamage | None = None) -> list[Head]:
        """See `SessionStore`."""
        digests = self._server.ask("ZRANGE", _SESSIONS, 0, -1)
        found = self._server.together(*(_head_query(digest.decode()) for digest in digests))
        return read_all((partial(_head, each) for each in found), on_damage)

    def sweep(self) -> bool:
        """Drop the content of expired sessions; return whether there was any."""
        return bool(self._call("sweep", *self._sweeping()))

    def migrate(self) -> None:
        """Name sessions that were stored by their ids by the digests of these; it may be interrupted and repeated."""
        for session_id in self._server.ask("ZRANGE", _SESSIONS, 0, -1):
            if not _DIGEST.fullmatch(session_id):
                self._call("migrate", session_id, hashlib.sha256(session_id).hexdigest())

    def _sweeping(self) -> tuple[float, float, int]:
        now = self.policy.clock()
        return now, now - self.policy.grace_s, SWEPT_SESSIONS

    def _byte_limits(self, allowance: Allowance) -> tuple[int, int]:
        return _lowest(self.policy.max_client_bytes, allowance.session_bytes), self._limits.max_bytes

    def _check_bytes(self, of_client: int, size: int, allowance: Allowance) -> None:
        self.policy.check_bytes(of_client, allowance)
        self._limits.check_bytes(size)


def _lowest(limit: int, quota: int | None) -> int:
    return limit if quota is None else min(limit, quota)


def _head_query(digest: str) -> tuple[str, ...]:
    return ("HMGET", f"{PREFIX}session:{digest}", *_HEAD)


def _head_fields(head: Head) -> list[Any]:
    """Return fields and values by turns, without those that scripts write."""
    named = ((name, getattr(head, name)) for name in HEAD_FIELDS if name != _EXPIRY)
    return [item for name, value in named for item in (name, "" if value is None else value)]


def _content_fields(change: Change) -> list[Any]:
    answered = b""
    if change.answered is not None:
        given = change.answered
        answered = msgspec.msgpack.encode((given.request, given.status, given.media_type, given.content))
    arrays = (item for pair in change.new.items() for item in pair)
    return [_DOCUMENT, change.document, _ANSWERED, answered, *arrays]


def _head(found: Sequence[bytes | None]) -> Head | None:
    if found[0] is None:
        return None
    digest, *values, ended = (_text(field) for field in found)
    # A name that nobody gave is empty here.
    given = dict(zip(HEAD_FIELDS, (digest, *values), strict=True))
    return read_head(
        digest, [value or None if name == "name" else value for name, value in given.items()], ended == "1"
    )


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode(errors="replace")
