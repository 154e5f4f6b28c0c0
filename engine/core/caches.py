"""Thread-safe caches, bounded in entries and in bytes; a missing entry is made by one thread at a time."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class Lru(Generic[Key, Kept]):
    """Thread-safe mapping that evicts the least recently used entries above its limits.

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
        self._making: dict[Key, tuple[threading.RLock, int]] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Kept | None:
        """Return the value of `key`, or None; this counts as a use."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Kept, size: int) -> None:
        """Store a value of `size` bytes under `key`, unless it alone exceeds a limit."""
        with self._lock:
            if size > self._limit_bytes or not self._limit_entries:
                return
            if key in self._kept:
                self.nbytes -= self._kept.pop(key)[1]
            self._kept[key] = value, size
            self.nbytes += size
            while self.nbytes > self._limit_bytes or len(self._kept) > self._limit_entries:
                _, (_, freed) = self._kept.popitem(last=False)
                self.nbytes -= freed

    def pop(self, key: Key) -> Kept | None:
        """Remove the entry of `key` and return its value, or None."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self.nbytes -= found[1]
            return found[0]

    def get_or_make(self, key: Key, make: Callable[[], Kept], size_of: Callable[[Kept], int]) -> Kept:
        """Return the value of `key`; if it is missing, one thread makes and stores it while the others wait.

        An error of `make` propagates to its caller; the next waiting thread tries again.
        """
        found = self.get(key)
        if found is not None:
            return found
        with self.making(key):
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found, size_of(found))
            return found

    @contextmanager
    def making(self, key: Key) -> Iterator[None]:
        """Serialize threads that make the value of the same key."""
        with self._lock:
            # Making a value may request the same key: a reentrant lock turns a deadlock into a RecursionError.
            lock, waiting = self._making.get(key) or (threading.RLock(), 0)
            self._making[key] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._making[key]
                if waiting == 1:
                    del self._making[key]
                else:
                    self._making[key] = lock, waiting - 1
