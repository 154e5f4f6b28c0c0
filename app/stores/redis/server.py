"""A Redis or Valkey server: connections to it for many threads, atomic scripts, and its schema."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.stores.errors import StorageFullError, StoreError, StoreUnavailableError

_log = logging.getLogger("pullback")

#: Beginning of every key.
PREFIX = "pullback:"
#: From version 2 on sessions stand under the digests of their ids, and their bytes are counted; from 3 on programs have
#: owners.
SCHEMA_OF_DIGESTS = 2
SCHEMA_VERSION = 3
_SCHEMA = f"{PREFIX}schema"
#: Timeout of a response.
ANSWER_S = 10.0
CONNECT_S = 5.0
#: How Redis says it in a script's error.
_OUT_OF_MEMORY = "command not allowed when used memory"


def check_url(url: str) -> None:
    """Raise ValueError where a URL, or an option in it, cannot be that of a server."""
    try:
        redis.Redis.from_url(url).connection_pool.make_connection()
    except (ValueError, TypeError):
        # The reason may have a part of a password in it.
        raise ValueError("expected scheme://[user:password@]host[:port][/number of the database]") from None


class Server:
    """A server by its URL. Each working thread has a connection to itself.

    url: of the server.
    migrate: called with the schema version of the data where that is an earlier one.
    on_open: called when the server was found to be usable.
    """

    def __init__(
        self,
        url: str,
        migrate: Callable[[int], None] = lambda version: None,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._migrate = migrate
        self._on_open = on_open
        # All commands may be sent twice: the second time is recognized, or does nothing.
        once_more = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        options = {"socket_timeout": ANSWER_S, "socket_connect_timeout": CONNECT_S, "protocol": 2, "retry": once_more}
        self._client = redis.Redis.from_url(url, **options)
        self._opening = threading.RLock()
        self._is_open = self._is_closed = False

    def open(self) -> None:
        """Make sure that the server can be used; the first use does this too.

        Raises:
            StoreError: it cannot.
        """
        with self._opening:
            if self._is_open:
                return
            # The migration comes through here again; other threads wait for the lock.
            self._is_open = True
            try:
                self._check_usable()
                self._on_open()
            except BaseException:
                self._is_open = False
                raise

    def close(self) -> None:
        """Closes all connections."""
        self._is_closed = True
        self._client.close()

    def ask(self, *command: Any) -> Any:
        """Return the response to a command.

        Raises:
            StoreUnavailableError: the server cannot be reached, or refuses; also in `together` and scripts.
        """
        with self._used():
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def together(self, *commands: Sequence[Any]) -> list[Any]:
        """Return the responses to several commands that are sent at once; each is a transaction of its own."""
        # No transaction: a server whose memory is full refuses one even where it only reads.
        with self._used(), self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipeline.execute())

    def script(self, name: str) -> Callable[..., Any]:
        """Return a function that calls Lua functions of the file `name` beside this one, by name and with arguments.

        Each call is atomic. Numbers are written so that they are read exactly.
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
            if isinstance(error, redis.OutOfMemoryError) or _OUT_OF_MEMORY in str(error):
                msg = "the memory of the store is full, and nothing was kept; delete programs or sessions"
                raise StorageFullError(msg) from error
            raise StoreUnavailableError("the store does not answer just now") from error

    def _check_usable(self) -> None:
        try:
            if self._is_cluster():
                reason = "is part of a cluster, whose scripts reach one node only; name a server without cluster mode"
                raise StoreError(f"PULLBACK_STORE names a Redis server that {reason}")
            if policy := self._eviction():
                reason = f'drops data when its memory is full (maxmemory-policy is "{policy}"); set it to "noeviction"'
                raise StoreError(f"PULLBACK_STORE names a Redis server that {reason}")
            # A server that can only be read is refused here, and not with the first program.
            self._client.set(_SCHEMA, SCHEMA_VERSION, nx=True)
            found = self._client.get(_SCHEMA)
            version = found.decode(errors="replace") if isinstance(found, bytes) else ""
            if version in map(str, range(1, SCHEMA_VERSION)):
                self._migrate(int(version))
                self._client.set(_SCHEMA, SCHEMA_VERSION)
                return
        except (redis.RedisError, StoreUnavailableError) as error:
            raise StoreError(f"PULLBACK_STORE names a Redis server that cannot be used: {error}") from None
        if version != str(SCHEMA_VERSION):
            reason = f'has schema version "{version}" under {_SCHEMA}; this release reads version {SCHEMA_VERSION}'
            raise StoreError(f"PULLBACK_STORE names a Redis server that {reason}")

    def _eviction(self) -> str:
        """Return the policy by which the server evicts keys that never expire, as all of ours; empty if it does not."""
        try:
            found = self._client.info("memory")
        except redis.ResponseError:
            # A user without the right to ask.
            return ""
        policy = str(found.get("maxmemory_policy", ""))
        return policy if policy.startswith("allkeys-") and int(found.get("maxmemory", 0)) else ""

    def _is_cluster(self) -> bool:
        try:
            return bool(self._client.info("cluster").get("cluster_enabled"))
        except redis.ResponseError:
            # A user without the right to ask: a cluster then refuses the first script.
            return False
