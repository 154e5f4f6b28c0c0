"""Caches: bounded in entries and in bytes, for any number of threads; what is missing is made by one at a time."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
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
        self._making: dict[Key, tuple[threading.RLock, int]] = {}
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
        """What is kept under a key, which is then kept no longer."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self.nbytes -= found[1]
            return found[0]

    def found_or_made(self, key: Key, make: Callable[[], Kept], size_of: Callable[[Kept], int]) -> Kept:
        """What is kept under a key. Where many ask for what is not, one makes it and the others wait.

        Whatever `make` raises reaches who called it; the next one tries again.
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
        """While one makes what belongs to a key, others who would do the same wait."""
        with self._lock:
            # What is made may ask for itself: that is an endless recursion, and no deadlock.
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
