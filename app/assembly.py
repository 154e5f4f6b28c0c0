"""Stores, session managers and worker processes as the settings ask for them."""

import json
import tempfile
from pathlib import Path

from app.clock import SYSTEM, Clock, SteadyClock
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.settings import REDIS, Settings
from app.stores import Policy, SessionPolicy, SqliteStore, Store, StoreAddress
from app.workers.nursery import Nursery


def new_store(settings: Settings, clock: Clock = SYSTEM, address: StoreAddress | None = None) -> Store:
    """Make the store that the settings name; it is not opened yet.

    Args:
        settings: they name the store and its limits.
        clock: the time for expiry.
        address: `Store.address` of another process of the same server, which is then shared. Without it, `memory` is a
            new file that belongs to this process.
    """
    steady = SteadyClock(clock)
    policy = Policy(
        settings.program_ttl_s, settings.max_programs, settings.max_store_bytes, steady, steady.moment, steady.resume
    )
    sessions = SessionPolicy(
        settings.max_sessions,
        settings.max_sessions_per_client,
        settings.max_session_bytes_per_client,
        settings.session_grace_s,
        steady,
    )
    if address is None and settings.store == "memory":
        return SqliteStore.private(policy, sessions)
    kind, place = address or _named(settings)
    if kind == "redis":
        # Its client takes a tenth of the time in which a server starts.
        from app.stores.redis import RedisStore

        return RedisStore(place, policy, sessions)
    return SqliteStore(Path(place), policy, sessions, is_private=kind == "private")


def _named(settings: Settings) -> StoreAddress:
    is_redis = settings.store.startswith(REDIS)
    return StoreAddress("redis", settings.store) if is_redis else StoreAddress("sqlite", str(settings.data_dir))


def spool_folder(store: StoreAddress) -> Path:
    """Return the folder of files for long answers: that of the store, or the system's for temporary files."""
    return Path(tempfile.gettempdir() if store.kind == "redis" else store.place)


def new_sessions(store: Store, settings: Settings, clock: Clock = SYSTEM) -> Sessions:
    """Build the session manager for a store."""
    quotas = Quotas(
        settings.max_session_variables,
        settings.max_session_tape,
        settings.max_session_bytes,
        settings.max_commands,
        settings.program_limits(),
    )
    return Sessions(
        store.sessions,
        quotas,
        ttl_s=min(settings.session_ttl_s, settings.max_session_ttl_s),
        max_ttl_s=settings.max_session_ttl_s,
        cache_bytes=settings.session_cache_bytes,
        deadline_s=settings.deadline_s,
        clock=store.sessions.policy.clock,
        monotonic=clock.monotonic,
    )


def new_nursery(settings: Settings, store: StoreAddress) -> Nursery:
    """Make the nursery of worker processes, each of which has its own service over the store at an address."""
    given = json.dumps({"settings": settings.model_dump(mode="json"), "store": store})
    return Nursery("app.service:worker_service", given, settings.worker_bytes, settings.log_format)
