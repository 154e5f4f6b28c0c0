"""Sessions in a Redis or Valkey server."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.stores.redis.server import PREFIX, Server
from app.stores.sessions import SWEPT_SESSIONS, Answered, Change, Content, Head, SessionPolicy, damaged_session

_HEAD = ("id", "seq", "created_at", "expires_at", "ttl_s", "bytes", "name", "revision", "ended")
_SET_BY_SCRIPTS = ("expires_at", "ended")
#: A hash has so many of its fields beside the arrays, whose fields are their numbers.
_DOCUMENT, _ANSWERED = b"document", b"answered"


class RedisSessions:
    """Sessions in a server; `sessions.lua` says what lies where."""

    def __init__(self, server: Server, policy: SessionPolicy) -> None:
        self._server = server
        self.policy = policy
        self._call = server.script("sessions.lua")

    def create(self, head: Head, content: Change, client: str, key: bytes | None) -> tuple[str, bool]:
        """See `SessionStore`."""
        now = self.policy.clock()
        limits = (SWEPT_SESSIONS, self.policy.max_sessions, self.policy.max_per_client)
        times = (now, now - self.policy.grace_s)
        fields = _head_fields(head)
        given = (head.id, client, key or b"", *times, *limits, head.expires_at, len(fields), *fields)
        kind, *found = self._call("create", *given, *_content_fields(content))
        if kind == b"full":
            self.policy.check(*found)
        session_id = found[0].decode()
        return session_id, session_id == head.id

    def head(self, session_id: str) -> Head | None:
        """See `SessionStore`."""
        return _head(self._server.ask(*_head_query(session_id)))

    def load(self, session_id: str) -> Content | None:
        """See `SessionStore`."""
        found, fields = self._call("load", session_id, *_HEAD)
        head = _head(found)
        if head is None or head.is_over(self.policy.clock()):
            return None
        content = dict(zip(fields[::2], fields[1::2], strict=True))
        if _DOCUMENT not in content:
            return None
        document, answered = content.pop(_DOCUMENT, b""), content.pop(_ANSWERED, b"")
        try:
            arrays = {int(number): data for number, data in content.items()}
            return Content(head, document, arrays, Answered(*msgspec.msgpack.decode(answered)) if answered else None)
        except (ValueError, TypeError) as error:
            raise damaged_session(session_id, error) from error

    def save(self, head: Head, revision: str, change: Change) -> bool:
        """See `SessionStore`."""
        fields, dropped = _head_fields(head), change.dropped
        given = (head.id, revision, head.revision, head.expires_at, len(fields), len(dropped), *fields, *dropped)
        return bool(self._call("save", *given, *_content_fields(change)))

    def touch(self, session_id: str, expires_at: float) -> None:
        """See `SessionStore`."""
        self._call("touch", session_id, expires_at)

    def end(self, head: Head) -> None:
        """See `SessionStore`."""
        self._call("end", head.id, head.revision, head.expires_at)

    def delete(self, session_id: str) -> bool:
        """See `SessionStore`."""
        return bool(self._call("delete", session_id))

    def list(self) -> list[Head]:
        """See `SessionStore`."""
        ids = self._server.ask("ZRANGE", f"{PREFIX}sessions", 0, -1)
        found = self._server.together(*(_head_query(session_id.decode()) for session_id in ids))
        return [head for head in map(_head, found) if head is not None]


def _key(session_id: str) -> str:
    return f"{PREFIX}session:{session_id}"


def _head_query(session_id: str) -> tuple[str, ...]:
    return ("HMGET", _key(session_id), *_HEAD)


def _head_fields(head: Head) -> list[Any]:
    """Fields and values by turns, without those that stand in several places."""
    named = ((name, getattr(head, name)) for name in _HEAD if name not in _SET_BY_SCRIPTS)
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
    key, seq, created_at, expires_at, ttl_s, size, name, revision, ended = (_text(field) for field in found)
    try:
        times = (float(created_at), float(expires_at), float(ttl_s))
        return Head(key, int(seq), *times, int(size), name or None, revision, ended == "1")
    except ValueError as error:
        raise damaged_session(key, error) from error


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode(errors="replace")
