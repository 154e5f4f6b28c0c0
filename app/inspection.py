"""Sessions as the operator of a server sees them, from the store and not over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from app.assembly import new_sessions, new_store
from app.handles import HANDLE_PREFIX, digest_of, handle_of
from app.sessions import ids, runs
from app.sessions.manager import Sessions
from app.sessions.session import Module, Session, Steps
from app.settings import Settings
from app.stores import StoreError, StoreUnavailableError
from app.stores.errors import DamagedError
from app.stores.sessions import Head, SessionStore
from app.wire.media import JSON

#: Aspects of each variable in an export.
_ASPECTS = runs.ASPECTS


class InspectionError(Exception):
    """A session cannot be found or read; the text is one readable line."""


class Inspection:
    """The sessions of a store.

    A key is a handle, the beginning of one, or an id. Every method raises InspectionError where a key is not that of
    exactly one session. Ids are never shown: stores have only their digests.
    """

    def __init__(self, store: SessionStore, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    def lines(self) -> list[str]:
        """Return a line for each session: its handle, seq, bytes, time of expiry and name."""
        return [
            f"{handle_of(head.digest)}  seq {head.seq}  {head.bytes:,} bytes  expires {_time(head.expires_at)}"
            + (f"  {head.name}" if head.name else "")
            for head in self._store.list(_pass_over)
        ]

    def show(self, key: str) -> list[str]:
        """Return a line for a session, and one for each thing that it has."""
        found = self._find(key)
        about = [
            f"{handle_of(found.digest)}  seq {found.seq}  {found.bytes:,} bytes  life {found.ttl_s:g} s  "
            f"made {_time(found.created_at)}  expires {_time(found.expires_at)}"
        ]
        return about + self._sessions.look_at(found.digest, lambda session, _: list(_held(session)))

    def export(self, key: str) -> dict[str, Any]:
        """Return the values, gradients and states of all that a session has, in base64."""
        found = self._find(key)

        def see(session: Session, head: Head) -> dict[str, Any]:
            return {
                "handle": handle_of(head.digest),
                "seq": head.seq,
                "seed": session.seed,
                "nograd": session.nograd,
                "train": session.train,
                "ids": {name: runs.show(held, _ASPECTS, "base64", JSON) for name, held in session.ids.items()},
            }

        return self._sessions.look_at(found.digest, see)

    def delete(self, key: str) -> str:
        """Forget a session and return its handle."""
        found = self._find(key)
        self._sessions.delete_at(found.digest)
        return handle_of(found.digest)

    def _find(self, key: str) -> Head:
        is_id = key.startswith(ids.PREFIX)
        begin = digest_of(key) if is_id else key.removeprefix(HANDLE_PREFIX)
        found = [head for head in self._store.list(_pass_over) if head.digest.startswith(begin)]
        if len(found) != 1:
            how_many = f"{len(found)} sessions begin" if found else "no session begins"
            shown = handle_of(begin) if is_id else key
            raise InspectionError(f'{how_many} with "{shown}"; `pullback sessions list` shows all')
        return found[0]


def _pass_over(error: DamagedError) -> None:
    """Do nothing: the log says which session is damaged, and why."""


@contextmanager
def inspected(settings: Settings) -> Iterator[Inspection]:
    """Open the sessions of the store that settings name.

    Raises:
        InspectionError: the store cannot be used.
    """
    if settings.store == "memory":
        raise InspectionError("PULLBACK_STORE is memory: its sessions belong to the server, and end with it")
    store = new_store(settings)
    try:
        store.open()
        yield Inspection(store.sessions, new_sessions(store, settings))
    except (StoreError, StoreUnavailableError) as error:
        raise InspectionError(str(error)) from None
    finally:
        store.close()


def _held(session: Session) -> Iterator[str]:
    for name, held in session.ids.items():
        if isinstance(held, Module):
            yield f"  {name}: {held.group} {held.kind} {held.config}"
        elif isinstance(held, Steps):
            yield f"  {name}: optimizer {held.kind} {held.config} of {held.params}"
    for name, held in session.variables().items():
        about = runs.show(held, ("shape", "dtype", "creator"), "nested", JSON)
        by = f" by {about['creator']}" if about["creator"] else ""
        yield f"  {name}: {about['dtype']}{about['shape']}{by}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
