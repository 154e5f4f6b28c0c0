"""A store in the memory of one process: what it keeps ends with it."""

from app.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
