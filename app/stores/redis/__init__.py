"""A store in a Redis or Valkey server, for processes on any number of hosts."""

from app.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
