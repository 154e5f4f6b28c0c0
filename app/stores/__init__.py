"""Where what must last is kept: one small interface, and the stores behind it."""

from app.stores.base import (
    Binding,
    Listed,
    NameConflictError,
    Policy,
    Program,
    Store,
    StoreError,
    StoreUnavailableError,
    damaged,
)
from app.stores.memory import MemoryStore
from app.stores.sessions import SessionPolicy, SessionStore, TooManySessionsError
from app.stores.sqlite import SqliteStore

__all__ = [
    "Binding",
    "Listed",
    "MemoryStore",
    "NameConflictError",
    "Policy",
    "Program",
    "SessionPolicy",
    "SessionStore",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "TooManySessionsError",
    "damaged",
]
