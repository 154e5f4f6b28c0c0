"""Every knob of the server: a `PULLBACK_*` environment variable each."""

import ipaddress
import os
import re
import socket
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.edge_limits import EdgeLimits
from app.programs import ProgramLimits
from app.sessions.session import Quotas
from app.stores import Policy, SessionPolicy
from app.wire.codecs import DocumentLimits
from app.wire.schemas import SHORTEST_LIFE_S
from engine.graph import Limits

PREFIX = "PULLBACK_"
_DEFAULTS = ProgramLimits()
_POLICY = Policy()
_SESSIONS = SessionPolicy()
_QUOTAS = Quotas()
_EDGE = EdgeLimits()
#: Items of a MessagePack document that are no elements of arrays: nodes, names, lists of lists.
_ITEMS_BESIDE_ELEMENTS = 100_000
#: In seconds; a calendar has no dates that are much further away.
LONGEST_LIFE_S = 1e10
#: How the URLs of Redis and Valkey begin.
REDIS = ("redis://", "rediss://", "unix://")
#: What nobody is to read in a URL: who logs in, and a password among its options.
_SECRET = re.compile(r"(?<=://).*@|(?<=password=)[^&]*")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+", re.IGNORECASE)

_HOST = re.compile(r"\*|[a-z0-9._-]+|[0-9a-f]*(:[0-9a-f.]*){2,}", re.IGNORECASE)


class SettingsError(Exception):
    """Settings that cannot be used; its text is one readable line."""


class Settings(BaseSettings):
    """The server's settings; each field is read from the variable of its name with `PULLBACK_` before it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; other than loopback needs keys or insecure."
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
    log_format: Literal["text", "json"] = Field("text", description="Form of the lines of the log: text or json.")
    drain_s: float = Field(
        0, ge=0, description="Time for which /readyz says 503 before a stopping server closes its port."
    )

    max_header_bytes: int = Field(_EDGE.header_bytes, ge=256, description="Size of a request's line and header.")
    max_header_fields: int = Field(_EDGE.header_fields, ge=1, description="Fields of a request's header.")
    header_timeout_s: float = Field(
        _EDGE.header_s, gt=0, description="Time for a request's header, from its first byte to its last."
    )
    keep_alive_s: float = Field(
        5, gt=0, description="Time for which a connection is kept open between two requests; others may need its place."
    )
    min_transfer_rate: int = Field(
        _EDGE.rate, ge=0, description="Bytes a second at which a body has to arrive, and an answer to be taken."
    )
    transfer_grace_s: float = Field(_EDGE.grace_s, gt=0, description="Time before that rate is asked for.")
    max_connections: int = Field(
        _EDGE.connections,
        ge=1,
        description="Connections of a process; fewer where it may not open so many files and 200 more. 16 more are for "
        "this host alone.",
    )
    max_connections_per_address: int = Field(
        _EDGE.connections_per_address,
        ge=1,
        description="Connections of a process from one address; for one behind trusted_proxies, requests at once.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names beside localhost by which a server that listens on loopback may be asked, separated by "
        "commas; * for all.",
    )

    max_body_bytes: int = Field(32 * 2**20, ge=1, description="Size of a request's body.")
    max_bytes_in_flight: int = Field(
        128 * 2**20,
        ge=1,
        description="Bytes of all bodies and answers that a process holds while they are read, worked on and sent.",
    )
    max_answer_file_bytes: int = Field(
        512 * 2**20,
        ge=1,
        description="Bytes of all answers of more than a mebibyte: each lies in a file until its client has read it.",
    )
    max_document_bytes: int = Field(
        512 * 2**20,
        ge=1,
        description="Estimated bytes of a parsed document: 72 for a list or object, 32 for an item, 100 for a key.",
    )
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
    max_sessions_per_client: int = Field(
        _SESSIONS.max_per_client, ge=1, description="Sessions of one client: a key, or an address."
    )
    max_session_bytes_per_client: int = Field(
        _SESSIONS.max_client_bytes, ge=1, description="Bytes of all sessions of one client."
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
    isolation: Literal["auto", "processes", "threads"] = Field(
        "auto",
        description="Where requests are worked on: in processes, which are killed at the deadline, or on threads, "
        "which cannot be; auto: processes where the system can fork them safely (Linux).",
    )
    max_concurrency: int = Field(
        min(os.cpu_count() or 1, 8), ge=1, description="Processes (or threads) of a server for work of all kinds."
    )
    max_long_workers: int = Field(
        max(min(os.cpu_count() or 1, 8), 3), ge=1, description="Processes beside these for work that takes over 0.1 s."
    )
    worker_bytes: int = Field(
        64 * 2**20, ge=2**20, description="Bytes that each such process may take beside its code."
    )
    max_worker_bytes: int = Field(
        360 * 2**20, ge=2**20, description="Bytes that one of them at a time may take, which needs more."
    )
    max_queue: int = Field(
        64, ge=0, description="Requests that may wait for a process (or thread), short and long ones each."
    )
    tiny_bytes: int = Field(
        1024,
        ge=0,
        le=1024,
        description="Bodies up to this size may be read on the event loop, if measured cheap; 1024 at most.",
    )
    tiny_flops: int = Field(
        50_000,
        ge=0,
        description="Programs up to this estimated cost may run on the event loop, if measured cheap.",
    )

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str, given: ValidationInfo) -> str:
        if store not in ("sqlite", "memory") and not store.startswith(REDIS):
            raise ValueError(f"expected sqlite, memory or a URL that begins with {', '.join(REDIS)}")
        if store.startswith(REDIS):
            from app.stores.redis.server import check_url

            check_url(store)
        workers = given.data.get("workers", 1)
        if store == "memory" and workers > 1:
            raise ValueError(f"each of the {workers} workers (PULLBACK_WORKERS) would keep programs of its own")
        return store

    @field_validator("cors_origins", "trusted_proxies", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f'"{host}" is no name of a host; expected one without scheme, port and path, or *')
        return tuple(host.lower().removesuffix(".") for host in hosts)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            if proxy != "*":
                try:
                    ipaddress.ip_network(proxy)
                except ValueError as error:
                    raise ValueError(f"{error}; expected addresses, networks such as 10.0.0.0/8, or *") from None
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f'"{origin}" is no origin; expected scheme://host[:port] without a path, or *')
        return origins

    def has_processes(self) -> bool:
        """Return whether requests are worked on in processes."""
        return self.isolation == "processes" or (self.isolation == "auto" and sys.platform == "linux")

    def edge_limits(self) -> EdgeLimits:
        """Limits of connections."""
        return EdgeLimits(
            header_bytes=self.max_header_bytes,
            header_fields=self.max_header_fields,
            header_s=self.header_timeout_s,
            connections=self.max_connections,
            connections_per_address=self.max_connections_per_address,
            rate=self.min_transfer_rate,
            grace_s=self.transfer_grace_s,
            trusted_proxies=self.trusted_proxies,
            allowed_hosts=self.allowed_hosts,
        )

    def document_limits(self) -> DocumentLimits:
        """Limits on bodies as documents."""
        return {
            "max_depth": self.max_depth,
            "max_bytes": self.max_document_bytes,
            "max_items": self.max_elements + _ITEMS_BESIDE_ELEMENTS,
        }

    def program_limits(self) -> ProgramLimits:
        """Limits of programs."""
        cost = Limits(self.max_nodes, self.max_elements, self.max_bytes, self.max_flops)
        return ProgramLimits(self.max_depth, self.max_chain, cost)

    def public_limits(self) -> dict[str, float]:
        """The limits that a client may want to know, as `GET /v1` shows them."""
        names = (
            "max_header_bytes max_header_fields max_body_bytes max_document_bytes "
            "max_depth max_chain max_nodes max_elements max_bytes max_flops "
            "program_ttl_s max_programs max_store_bytes session_ttl_s max_session_ttl_s max_sessions "
            "max_sessions_per_client max_session_bytes_per_client max_session_variables max_session_tape "
            "max_session_bytes max_commands deadline_s"
        )
        return {name: getattr(self, name) for name in names.split()}

    def __str__(self) -> str:
        """All settings in one line; secrets print themselves masked."""
        return " ".join(f"{name}={shown(value)}" for name, value in self)


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
        raise SettingsError(f'{PREFIX}{name.upper()} is "{shown(first["input"])}": {reason}') from None


def described(settings: Settings) -> list[tuple[str, str, str]]:
    """For each setting the name of its variable, its value, and what it means."""
    return [
        (PREFIX + name.upper(), shown(getattr(settings, name)), field.description or "")
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
    """Return whether only this machine can reach a server that listens on `host`."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def shown(value: Any) -> str:
    """Return a value as it may be printed: of a URL not who may use it."""
    text = ",".join(value) or "-" if isinstance(value, tuple) else str(value)
    return _SECRET.sub("***", text)
