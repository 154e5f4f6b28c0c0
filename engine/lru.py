"""A cache that forgets what was not used for the longest time, bounded in entries and in bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class Lru(Generic[Key, Kept]):
    """Values by key, for any number of threads.

    >>> kept = Lru(limit_entries=2, limit_bytes=100)
    >>> for name in "abac":
    ...     kept.put(name, name.upper(), 10)
    >>> kept.get("a"), kept.get("b"), len(kept), kept.nbytes
    ('A', None, 2, 20)
    """

    def __init__(self, limit_entries: int, limit_bytes: int) -> None:
        self._limit_entries = limit_entries
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Kept, int]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Kept | None:
        """What is kept under a key, which counts as a use."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Kept, size: int) -> None:
        """Keeps a value of `size` bytes in place of what the key had, unless it alone is beyond a limit."""
        with self._lock:
            if key in self._kept:
                self.nbytes -= self._kept.pop(key)[1]
            if size > self._limit_bytes or not self._limit_entries:
                return
            self._kept[key] = value, size
            self.nbytes += size
            while self.nbytes > self._limit_bytes or len(self._kept) > self._limit_entries:
                _, (_, freed) = self._kept.popitem(last=False)
                self.nbytes -= freed
