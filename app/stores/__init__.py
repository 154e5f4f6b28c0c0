"""Where what must last is kept: one small interface, and the stores behind it."""

from app.settings import Settings
from app.stores.base import (
    Binding,
    NameConflictError,
    Policy,
    Program,
    Store,
    StoreError,
    StoreUnavailableError,
)
from app.stores.memory import MemoryStore
from app.stores.sqlite import SqliteStore

__all__ = [
    "Binding",
    "MemoryStore",
    "NameConflictError",
    "Policy",
    "Program",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "store_of",
]


def store_of(settings: Settings) -> Store:
    """The store that the settings name; it is not opened yet."""
    policy = Policy(settings.program_ttl_s, settings.max_programs, settings.max_store_bytes)
    return MemoryStore(policy) if settings.store == "memory" else SqliteStore(settings.data_dir, policy)
