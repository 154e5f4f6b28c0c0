"""Sessions in the memory of one process."""

import dataclasses
import threading
from dataclasses import dataclass

from app.stores.sessions import SWEPT_SESSIONS, Answered, Change, Content, Head, SessionPolicy


@dataclass(slots=True)
class _Entry:
    head: Head
    client: str
    key: bytes | None
    document: bytes
    arrays: dict[int, bytes]
    answered: Answered | None


class MemorySessions:
    """A dictionary behind one lock."""

    def __init__(self, policy: SessionPolicy) -> None:
        self.policy = policy
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._keys: dict[bytes, str] = {}

    def create(self, head: Head, content: Change, client: str, key: bytes | None) -> tuple[str, bool]:
        """See `SessionStore`."""
        with self._lock:
            self._sweep()
            if key is not None and key in self._keys:
                return self._keys[key], False
            now = self.policy.clock()
            living = [entry.client for entry in self._entries.values() if not entry.head.is_over(now)]
            self.policy.check(len(living), living.count(client))
            self._entries[head.id] = _Entry(head, client, key, content.document, dict(content.new), content.answered)
            if key is not None:
                self._keys[key] = head.id
            return head.id, True

    def head(self, session_id: str) -> Head | None:
        """See `SessionStore`."""
        with self._lock:
            entry = self._entries.get(session_id)
            return None if entry is None else entry.head

    def load(self, session_id: str) -> Content | None:
        """See `SessionStore`."""
        with self._lock:
            entry = self._entries.get(session_id)
            if entry is None or entry.head.is_over(self.policy.clock()):
                return None
            return Content(entry.head, entry.document, dict(entry.arrays), entry.answered)

    def save(self, head: Head, revision: str, change: Change) -> bool:
        """See `SessionStore`."""
        with self._lock:
            entry = self._entries.get(head.id)
            if entry is None or entry.head.revision != revision or entry.head.has_ended:
                return False
            for number in change.dropped:
                del entry.arrays[number]
            entry.arrays |= change.new
            entry.head, entry.document, entry.answered = head, change.document, change.answered
            return True

    def touch(self, session_id: str, expires_at: float) -> None:
        """See `SessionStore`."""
        with self._lock:
            entry = self._entries.get(session_id)
            if entry is not None and not entry.head.has_ended and entry.head.expires_at < expires_at:
                entry.head = dataclasses.replace(entry.head, expires_at=expires_at)

    def end(self, head: Head) -> None:
        """See `SessionStore`."""
        with self._lock:
            entry = self._entries.get(head.id)
            if entry is not None and entry.head == head:
                self._end(entry)

    def delete(self, session_id: str) -> bool:
        """See `SessionStore`."""
        with self._lock:
            return self._delete(session_id)

    def list(self) -> list[Head]:
        """See `SessionStore`."""
        with self._lock:
            return [entry.head for entry in self._entries.values()]

    def _end(self, entry: _Entry) -> None:
        entry.document, entry.arrays, entry.answered = b"", {}, None
        entry.head = dataclasses.replace(entry.head, has_ended=True)

    def _delete(self, session_id: str) -> bool:
        entry = self._entries.pop(session_id, None)
        if entry is not None and entry.key is not None:
            del self._keys[entry.key]
        return entry is not None

    def _sweep(self) -> None:
        """Lets go of what sessions held that expired, and of those that expired long ago altogether."""
        now = self.policy.clock()
        ended = [entry for entry in self._entries.values() if entry.head.expires_at <= now]
        for entry in ended[:SWEPT_SESSIONS]:
            self._end(entry)
            if entry.head.expires_at <= now - self.policy.grace_s:
                self._delete(entry.head.id)
