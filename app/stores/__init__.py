"""Durable storage of programs and sessions: one interface, and two stores behind it, SQLite and Redis."""

from app.stores.address import StoreAddress
from app.stores.base import (
    Binding,
    Listed,
    Policy,
    Program,
    Store,
    damaged,
)
from app.stores.errors import (
    NameConflictError,
    StorageFullError,
    StoreError,
    StoreUnavailableError,
    TooManySessionsError,
)
from app.stores.sessions import SessionPolicy, SessionStore
from app.stores.sqlite import SqliteStore

__all__ = [
    "Binding",
    "Listed",
    "NameConflictError",
    "Policy",
    "Program",
    "SessionPolicy",
    "SessionStore",
    "SqliteStore",
    "StorageFullError",
    "Store",
    "StoreAddress",
    "StoreError",
    "StoreUnavailableError",
    "TooManySessionsError",
    "damaged",
]
