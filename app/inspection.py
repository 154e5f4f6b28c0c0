"""Sessions of a store, for its operator: listed, shown, exported and deleted without HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from app.assembly import new_sessions, new_store
from app.sessions import runs
from app.sessions.manager import Sessions
from app.sessions.session import Module, Session, Steps
from app.settings import Settings
from app.stores import StoreError, StoreUnavailableError
from app.stores.sessions import LOGGED, Head, SessionStore
from app.wire.media import JSON

#: Aspects of each variable in an export.
_ASPECTS = runs.ASPECTS


class InspectionError(Exception):
    """A session that cannot be found or read; its text is one readable line."""


class Inspection:
    """The sessions of a store.

    Methods take an id or the first letters of one; they raise InspectionError unless exactly one session has them.
    """

    def __init__(self, store: SessionStore, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    def lines(self) -> list[str]:
        """Return a line for each session: first letters of its id, number, bytes, time of expiry, name."""
        return [
            f"{head.id[:LOGGED]}  seq {head.seq}  {head.bytes:,} bytes  expires {_time(head.expires_at)}"
            + (f"  {head.name}" if head.name else "")
            for head in self._store.list()
        ]

    def show(self, key: str) -> list[str]:
        """Describe a session, its whole id included, and its content, one line each."""
        found = self._find(key)
        about = [
            f"{found.id}  seq {found.seq}  {found.bytes:,} bytes  life {found.ttl_s:g} s  "
            f"made {_time(found.created_at)}  expires {_time(found.expires_at)}"
        ]
        return about + self._sessions.look(found.id, lambda session, _: list(_held(session)))

    def export(self, key: str) -> dict[str, Any]:
        """Return all values, gradients and states of a session, in base64."""
        found = self._find(key)

        def see(session: Session, head: Head) -> dict[str, Any]:
            return {
                "id": head.id,
                "seq": head.seq,
                "seed": session.seed,
                "nograd": session.nograd,
                "train": session.train,
                "ids": {name: runs.show(held, _ASPECTS, "base64", JSON) for name, held in session.ids.items()},
            }

        return self._sessions.look(found.id, see)

    def delete(self, key: str) -> str:
        """Delete a session and return its id."""
        found = self._find(key)
        self._sessions.delete(found.id)
        return found.id

    def _find(self, key: str) -> Head:
        found = [head for head in self._store.list() if head.id.startswith(key)]
        if len(found) != 1:
            how_many = f"{len(found)} sessions begin" if found else "no session begins"
            raise InspectionError(f'{how_many} with "{key}"; `pullback sessions list` shows all')
        return found[0]


@contextmanager
def inspected(settings: Settings) -> Iterator[Inspection]:
    """Open the store of the settings for inspection.

    Raises:
        InspectionError: the store cannot be used.
    """
    if settings.store == "memory":
        raise InspectionError("PULLBACK_STORE is memory: its sessions are in the server's process alone")
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
