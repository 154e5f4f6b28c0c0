"""Every knob of the server: a `PULLBACK_*` environment variable each."""

import ipaddress
import os
import re
import socket
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.clock import SYSTEM, Clock, SteadyClock
from app.programs import ProgramLimits
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.stores import Policy, SessionPolicy, SessionStore, SqliteStore, Store, StoreAddress
from app.wire.schemas import SHORTEST_LIFE_S
from engine.graph import Limits

PREFIX = "PULLBACK_"
_DEFAULTS = ProgramLimits()
_POLICY = Policy()
_SESSIONS = SessionPolicy()
_QUOTAS = Quotas()
#: In seconds; a calendar has no dates that are much further away.
LONGEST_LIFE_S = 1e10
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
#: What nobody is to read in a URL: who logs in, and a password among its options.
_SECRET = re.compile(r"(?<=://).*@|(?<=password=)[^&]*")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+", re.IGNORECASE)


class SettingsError(Exception):
    """Settings that cannot be used; its text is one readable line."""


class Settings(BaseSettings):
    """The server's settings; each field is read from the variable of its name with `PULLBACK_` before it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; other than loopback needs insecure."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, description="Processes.")
    insecure: bool = Field(False, description="Listen on more than loopback although there are no keys.")
    data_dir: Path = Field(Path("data"), description="Where what must last lies; made where it is not there.")
    store: str = Field(
        "sqlite",
        description="Storage of programs and sessions: sqlite, a file in data_dir; redis://host:port/0 (rediss://, "
        "unix://), a Redis or Valkey server; memory, a temporary file that is removed with the server.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses and networks of proxies whose word on who the client is counts, separated by commas; * "
        "for all.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the server, separated by commas; * for all."
    )
    access_log: bool = Field(True, description="One line a request on standard error.")
    drain_s: float = Field(
        0, ge=0, description="Time for which /readyz says 503 before a stopping server closes its port."
    )

    max_body_bytes: int = Field(32 * 2**20, ge=1, description="Size of a request's body.")
    max_depth: int = Field(
        _DEFAULTS.max_depth, ge=1, le=500, description="Nesting of documents, texts and inline nodes."
    )
    max_chain: int = Field(_DEFAULTS.max_chain, ge=1, le=2000, description="Operators in a row without parentheses.")
    max_nodes: int = Field(int(_DEFAULTS.cost.max_nodes), ge=1, description="Operations of a program and its gradient.")
    max_elements: int = Field(
        int(_DEFAULTS.cost.max_elements), ge=1, description="Elements of an array, and of an answer."
    )
    max_bytes: int = Field(
        int(_DEFAULTS.cost.max_bytes), ge=1, description="Bytes of all values of a program together."
    )
    max_flops: int = Field(int(_DEFAULTS.cost.max_flops), ge=1, description="Floating-point operations of a request.")

    program_ttl_s: float = Field(
        _POLICY.program_ttl_s,
        ge=SHORTEST_LIFE_S,
        description="Time for which a registered program without a name is kept without use.",
    )
    max_programs: int = Field(_POLICY.max_programs, ge=1, description="Registered programs.")
    max_store_bytes: int = Field(
        _POLICY.max_bytes, ge=1, description="Bytes of programs, their bound arrays and sessions together."
    )
    cache_bytes: int = Field(
        256 * 2**20, ge=0, description="Bytes of registered programs that a process keeps ready to run."
    )

    prepared_requests: int = Field(
        10_000, ge=0, description="Requests of which a process keeps all but the values ready to run."
    )
    prepared_bytes: int = Field(
        2**30, ge=0, description="Bytes of what is kept for these, at most; what is shared counts in each place."
    )

    session_ttl_s: float = Field(
        3600,
        ge=SHORTEST_LIFE_S,
        le=LONGEST_LIFE_S,
        description="Time for which a session is kept without use, where its maker says nothing.",
    )
    max_session_ttl_s: float = Field(
        7 * 24 * 3600, ge=SHORTEST_LIFE_S, le=LONGEST_LIFE_S, description="The longest that its maker may say."
    )
    session_grace_s: float = Field(
        _SESSIONS.grace_s, ge=0, description="Time for which it is known of a session that it expired."
    )
    max_sessions: int = Field(_SESSIONS.max_sessions, ge=1, description="Sessions.")
    max_sessions_per_client: int = Field(_SESSIONS.max_per_client, ge=1, description="Sessions of one client address.")
    max_session_bytes_per_client: int = Field(
        _SESSIONS.max_client_bytes, ge=1, description="Bytes of all sessions of one client address."
    )
    max_session_variables: int = Field(_QUOTAS.variables, ge=1, description="Ids and parameters of a session.")
    max_session_tape: int = Field(_QUOTAS.tape, ge=1, description="Variables of a session, nameless ones too.")
    max_session_bytes: int = Field(_QUOTAS.bytes, ge=1, description="Bytes of all values of a session.")
    max_commands: int = Field(_QUOTAS.commands, ge=1, description="Commands of one run.")
    session_cache_bytes: int = Field(
        512 * 2**20, ge=0, description="Bytes of sessions of which a process keeps a copy in memory."
    )

    deadline_s: float = Field(
        30,
        gt=0,
        description="Time that a request's work may take, waiting included; also for its body to arrive, and for the "
        "client to take each 256 KiB of an answer.",
    )
    max_concurrency: int = Field(
        min(os.cpu_count() or 1, 8), ge=1, description="Threads of a process for work that is not tiny."
    )
    max_queue: int = Field(64, ge=0, description="Requests of a process that may wait for such a thread.")
    tiny_bytes: int = Field(1024, ge=0, description="Bodies up to this size are read on the event loop.")
    tiny_flops: int = Field(50_000, ge=0, description="Programs up to this cost, all in all, run on the event loop.")

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str, given: ValidationInfo) -> str:
        if store not in ("sqlite", "memory") and not store.startswith(REDIS_SCHEMES):
            raise ValueError(f"expected sqlite, memory or a URL that begins with {', '.join(REDIS_SCHEMES)}")
        if store.startswith(REDIS_SCHEMES):
            from app.stores.redis.server import check_url

            check_url(store)
        workers = given.data.get("workers", 1)
        if store == "memory" and workers > 1:
            raise ValueError(f"each of the {workers} workers (PULLBACK_WORKERS) would keep programs of its own")
        return store

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f'"{origin}" is no origin; expected scheme://host[:port] without a path, or *')
        return origins

    def program_limits(self) -> ProgramLimits:
        """What programs are held to."""
        cost = Limits(self.max_nodes, self.max_elements, self.max_bytes, self.max_flops)
        return ProgramLimits(self.max_depth, self.max_chain, cost)

    def new_store(self, clock: Clock = SYSTEM, address: StoreAddress | None = None) -> Store:
        """Return the store, which is not opened yet.

        Args:
            clock: the time for expiry.
            address: `Store.address` of another process of the same server, which is then shared. Without it, `memory`
                is a new file that belongs to this process.
        """
        steady = SteadyClock(clock)
        policy = Policy(
            self.program_ttl_s, self.max_programs, self.max_store_bytes, steady, steady.moment, steady.resume
        )
        sessions = SessionPolicy(
            self.max_sessions,
            self.max_sessions_per_client,
            self.max_session_bytes_per_client,
            self.session_grace_s,
            steady,
        )
        if address is None and self.store == "memory":
            return SqliteStore.private(policy, sessions)
        kind, place = address or self._store_address()
        if kind == "redis":
            # Its client takes a tenth of the time in which a server starts; only a server that uses it waits for it.
            from app.stores.redis import RedisStore

            return RedisStore(place, policy, sessions)
        return SqliteStore(Path(place), policy, sessions, is_private=kind == "private")

    def _store_address(self) -> StoreAddress:
        is_redis = self.store.startswith(REDIS_SCHEMES)
        return StoreAddress("redis", self.store) if is_redis else StoreAddress("sqlite", str(self.data_dir))

    def new_sessions(self, store: SessionStore, clock: Clock = SYSTEM) -> Sessions:
        """Build the session manager for a store."""
        quotas = Quotas(
            self.max_session_variables,
            self.max_session_tape,
            self.max_session_bytes,
            self.max_commands,
            self.program_limits(),
        )
        return Sessions(
            store,
            quotas,
            ttl_s=min(self.session_ttl_s, self.max_session_ttl_s),
            max_ttl_s=self.max_session_ttl_s,
            cache_bytes=self.session_cache_bytes,
            deadline_s=self.deadline_s,
            clock=store.policy.clock,
            monotonic=clock.monotonic,
        )

    def public_limits(self) -> dict[str, float]:
        """The limits that a client may want to know, as `GET /v1` shows them."""
        names = (
            "max_body_bytes max_depth max_chain max_nodes max_elements max_bytes max_flops "
            "program_ttl_s max_programs max_store_bytes session_ttl_s max_session_ttl_s max_sessions "
            "max_sessions_per_client max_session_bytes_per_client max_session_variables max_session_tape "
            "max_session_bytes max_commands deadline_s"
        )
        return {name: getattr(self, name) for name in names.split()}

    def __str__(self) -> str:
        """All settings in one line; secrets print themselves masked."""
        return " ".join(f"{name}={_shown(value)}" for name, value in self)


def load_settings(**given: Any) -> Settings:
    """The settings from the environment; what is `given` goes before it.

    Raises:
        SettingsError: a value that cannot be used, named by its variable.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        reason = reason if "Value error" in first["msg"] else f"expected {reason}"
        raise SettingsError(f'{PREFIX}{name.upper()} is "{_shown(first["input"])}": {reason}') from None


def described(settings: Settings) -> list[tuple[str, str, str]]:
    """For each setting the name of its variable, its value, and what it means."""
    return [
        (PREFIX + name.upper(), _shown(getattr(settings, name)), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def unknown_variables() -> list[str]:
    """A sentence for each `PULLBACK_*` variable in the environment that no setting reads."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    found = []
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = get_close_matches(name.upper(), known, n=1)
            found.append(f"{name} is not a setting" + (f"; nearest: {near[0]}" if near else ""))
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def _shown(value: Any) -> str:
    """A value as it may be printed: of a URL not who may use it."""
    text = ",".join(value) or "-" if isinstance(value, tuple) else str(value)
    return _SECRET.sub("***", text)
