"""A store in one SQLite file, for all threads and processes of one host; stored data survives a crash."""

from app.stores.sqlite.store import FILE, SqliteStore

__all__ = ["FILE", "SqliteStore"]
