"""Where what must last is kept: one small interface, and the stores behind it."""

from app.stores.base import (
    Binding,
    Listed,
    Policy,
    Program,
    Store,
    damaged,
)
from app.stores.errors import NameConflictError, StoreError, StoreUnavailableError, TooManySessionsError
from app.stores.memory import MemoryStore
from app.stores.sessions import SessionPolicy, SessionStore
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
