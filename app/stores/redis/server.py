"""A Redis or Valkey server: connections to it for many threads, scripts that happen whole or not, and its schema."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.stores.errors import StoreError, StoreUnavailableError

_log = logging.getLogger("pullback")

#: Every key begins with it.
PREFIX = "pullback:"
SCHEMA_VERSION = 1
#: How long an answer is waited for.
ANSWER_S = 10.0
CONNECT_S = 5.0


def check_url(url: str) -> None:
    """Makes sure that a URL, and the options in it, can be those of a server.

    Raises:
        ValueError: they cannot.
    """
    try:
        redis.Redis.from_url(url).connection_pool.make_connection()
    except (ValueError, TypeError):
        # The reason may have a part of a password in it.
        raise ValueError("expected scheme://[user:password@]host[:port][/number of the database]") from None


class Server:
    """A server by its URL. Threads that are at work have a connection each."""

    def __init__(self, url: str) -> None:
        # What is asked here may be asked twice: it is known again, or does nothing the second time.
        once_more = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        options = {"socket_timeout": ANSWER_S, "socket_connect_timeout": CONNECT_S, "protocol": 2, "retry": once_more}
        self._client = redis.Redis.from_url(url, **options)
        self._opening = threading.Lock()
        self._is_open = self._is_closed = False

    def open(self) -> None:
        """Makes sure that the server can be used; it happens by itself with the first use.

        Raises:
            StoreError: it cannot.
        """
        with self._opening:
            if not self._is_open:
                self._check_usable()
                self._is_open = True

    def close(self) -> None:
        """Closes all connections."""
        self._is_closed = True
        self._client.close()

    def ask(self, *command: Any) -> Any:
        """What a command answers.

        Raises:
            StoreUnavailableError: the server cannot be reached, or refuses; also in `together` and scripts.
        """
        with self._used():
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def together(self, *commands: Sequence[Any]) -> list[Any]:
        """What several commands answer, each by itself, sent at once."""
        # No transaction: a server whose memory is full refuses one even where it only reads.
        with self._used(), self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipeline.execute())

    def script(self, name: str) -> Callable[..., Any]:
        """Calls functions in Lua, by their names and with what they are given, from the file `name` beside this one.

        Each call happens whole, with nothing of others in between. Numbers are written so that they are read exactly.
        """
        text = (resources.files(__package__) / name).read_text(encoding="utf-8")
        script = self._client.register_script(text)

        def call(function: str, *given: Any) -> Any:
            with self._used():
                return script(keys=[PREFIX], args=[function, *given])

        return call

    @contextmanager
    def _used(self) -> Iterator[None]:
        if self._is_closed:
            raise StoreUnavailableError("the store is closed: the server is stopping")
        try:
            self.open()
            yield
        except (StoreError, redis.RedisError) as error:
            _log.error("the store fails: %s", error)
            raise StoreUnavailableError("the store does not answer just now") from error

    def _check_usable(self) -> None:
        key = f"{PREFIX}schema"
        try:
            # A server that can only be read is told here, and not with the first program.
            self._client.set(key, SCHEMA_VERSION, nx=True)
            found = self._client.get(key)
        except redis.RedisError as error:
            raise StoreError(f"PULLBACK_STORE names a Redis server that cannot be used: {error}") from None
        if not isinstance(found, bytes) or found != b"%d" % SCHEMA_VERSION:
            version = found.decode(errors="replace") if isinstance(found, bytes) else ""
            reason = f'has schema version "{version}" under {key}; this release reads version {SCHEMA_VERSION}'
            raise StoreError(f"PULLBACK_STORE names a Redis server that {reason}")
