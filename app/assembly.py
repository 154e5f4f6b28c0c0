"""Stores, session managers and worker processes as the settings ask for them."""

from app.clock import SYSTEM, Clock
from app.sessions.manager import Sessions
from app.sessions.session import Quotas
from app.settings import REDIS, Settings
from app.stores import MemoryStore, Policy, SessionPolicy, SqliteStore, Store
from app.workers.nursery import Nursery


def new_store(settings: Settings, clock: Clock = SYSTEM) -> Store:
    """Make the store that the settings name; it is not opened yet."""
    policy = Policy(settings.program_ttl_s, settings.max_programs, settings.max_store_bytes, clock=clock.wall)
    sessions = SessionPolicy(
        settings.max_sessions, settings.max_sessions_per_client, settings.session_grace_s, clock.wall
    )
    if settings.store == "memory":
        return MemoryStore(policy, sessions)
    if settings.store.startswith(REDIS):
        # Its client takes a tenth of the time in which a server starts.
        from app.stores.redis import RedisStore

        return RedisStore(settings.store, policy, sessions)
    return SqliteStore(settings.data_dir, policy, sessions)


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
        clock=clock.wall,
        monotonic=clock.monotonic,
    )


def new_nursery(settings: Settings) -> Nursery:
    """Make the nursery of worker processes, each of which has its own service."""
    return Nursery("app.service:worker_service", settings.model_dump_json(), settings.worker_bytes, settings.log_format)
