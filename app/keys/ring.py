"""All keys of a store in memory, so that a request costs one look into a dictionary."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from app.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from app.keys.rates import LIGHT_UNITS, UNITS_OF_A_SECOND, Cells, buckets, shared_cells
from app.keys.scopes import PATHS, Access, Scope, needed
from app.keys.tokens import digest_of, sent_key
from app.stores.errors import StoreUnavailableError
from app.stores.keys import KeyRecord, KeyStore
from app.stores.owners import ANYONE, GUEST, Caller

_log = logging.getLogger("pullback")

#: Time between two looks at the store: a revoked key holds at most so much longer.
REFRESH_S = 1.0
#: Ways to write one header that are remembered of each key.
_SPELLINGS = 4


class Key:
    """A key that holds, as requests meet it.

    id: its public part. scopes: names of scopes; `is_admin` stands for all of them.
    paths: the paths without names in them that it may ask.
    caller: owner of what it makes.
    is_limited: whether it has rates.
    """

    __slots__ = ("_bytes", "_clock", "_units", "caller", "id", "is_admin", "is_limited", "paths", "scopes")

    def __init__(self, record: KeyRecord, cells: Cells, clock: Callable[[], float]) -> None:
        self.id = record.id
        self.scopes = frozenset(record.scopes)
        self.is_admin = Scope.ADMIN in self.scopes
        self.paths = frozenset(path for path in PATHS if self.may_use(needed(path)))
        self.caller = Caller(record.id, self.is_admin, record.allowance)
        self._units, self._bytes = buckets(record.rates, record.number, cells)
        self.is_limited = self._units is not None or self._bytes is not None
        self._clock = clock

    def may_use(self, access: Scope | Access) -> bool:
        """Return whether the key has what a path needs."""
        return self.is_admin or access is Access.KEY or access in self.scopes

    def check_rates(self) -> None:
        """Raise RateLimitedError unless the key may use a unit and a byte now."""
        now = self._clock()
        if self._units is not None and (wait_s := self._units.wait_s(now)) > 0:
            raise self._used_up("work", wait_s)
        if self._bytes is not None and (wait_s := self._bytes.wait_s(now)) > 0:
            raise self._used_up("bytes", wait_s)

    def _used_up(self, what: str, wait_s: float) -> RateLimitedError:
        detail = f"the key {self.id} has used up its {what} for now; the next request may come in {wait_s:.1f} s"
        return RateLimitedError(f"{detail} (`pullback keys create` sets the rates of a key)", wait_s)

    def charge_light(self) -> None:
        """Charge an answer of the event loop."""
        if self._units is not None:
            self._units.charge(LIGHT_UNITS, self._clock())

    def charge_work(self, cpu_s: float) -> None:
        """Charge processor time."""
        if self._units is not None:
            self._units.charge(cpu_s * UNITS_OF_A_SECOND, self._clock())

    def charge_bytes(self, nbytes: int) -> None:
        """Charge bytes of a request or an answer."""
        if self._bytes is not None:
            self._bytes.charge(nbytes, self._clock())


class _State(NamedTuple):
    """Keys by digest and by id; `by_header` has those that were seen; `until` is when the first of them ends."""

    by_digest: dict[str, Key]
    by_id: dict[str, Key]
    by_header: dict[bytes | None, Key]
    until: float


@dataclass(frozen=True, slots=True)
class _Read:
    """Records as they were read, under their revision."""

    revision: int
    records: tuple[KeyRecord, ...]


class KeyRing:
    """Keys of a store, looked at again every second on a thread of its own.

    Once there has been a key, also a revoked one, requests need one. While the store does not answer, the keys that
    were read last hold on: whatever needs no store is answered meanwhile.

    Args:
        store: of the keys.
        wall: returns seconds since 1970, by which rotated keys end.
        monotonic: returns seconds, the same ones in all processes of the machine, for rates.
        cells: paid times of the keys, in the file that the environment names if none are given.
    """

    def __init__(
        self,
        store: KeyStore,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        cells: Cells | None = None,
    ) -> None:
        self._store = store
        self._wall = wall
        self._monotonic = monotonic
        self._cells = shared_cells() if cells is None else cells
        self._state = _State({}, {}, {}, float("inf"))
        #: Keys by the header that was sent; those that hold and were seen.
        self.by_header = self._state.by_header
        self._read: _Read | None = None
        self._is_failing = False
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        #: Unknown counts as yes: a server that was not started as it should be lets nobody in without a look.
        self.is_needed = True
        self._was_needed = False
        #: Caller of requests that need no key.
        self.guest = GUEST

    def load(self) -> None:
        """Read all keys.

        Raises:
            StoreUnavailableError: they cannot be read.
        """
        revision = self._store.revision()
        if self._read is None or revision != self._read.revision:
            before = self._read
            # A damaged key lets nobody in. The first time it is not known whether there are others, and nobody starts.
            found = _Read(revision, tuple(self._store.list(None if before is None else _log_damage)))
            # Read only once it holds: what fails is tried again.
            self._arrange(found.records)
            self._read = found
            if before is not None:
                _log_changes(before.records, found.records)
        elif self._wall() >= self._state.until:
            self._arrange(self._read.records)

    def watch(self) -> None:
        """Read all keys, and from now on every second; raises as `load`."""
        self.load()
        self._thread = threading.Thread(target=self._refresh, name="pullback-keys", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._end.set()

    def enter(self, path: str, authorization: bytes | None, is_local: Callable[[], bool]) -> Key | None:
        """Return the key of a request that may go on; None where it needs none.

        Args:
            path: of the request.
            authorization: its header of this name.
            is_local: returns whether it comes from this machine.

        Raises:
            UnauthorizedError: it has no key that holds.
            ForbiddenError: its key does not have the scope.
            RateLimitedError: its key has used up what it may use for now.
        """
        if self._read is None:
            self.load()
        if not self.is_needed:
            return None
        scope = needed(path)
        if scope is Access.OPEN or (scope is Access.LOCAL and is_local()):
            return None
        key = self.find(authorization)
        if key is None:
            raise _unauthorized(authorization)
        if not key.may_use(scope):
            wanted = Scope.ADMIN if scope is Access.LOCAL else scope
            raise ForbiddenError(f"the key {key.id} does not have the scope {wanted}, which {path} needs", wanted)
        key.check_rates()
        return key

    def find(self, authorization: bytes | None) -> Key | None:
        """Return the key of a header, None unless it holds."""
        if authorization is None:
            return None
        state = self._state
        key = state.by_header.get(authorization)
        if key is not None:
            return key
        sent = sent_key(authorization)
        key = None if sent is None else state.by_digest.get(digest_of(sent))
        if key is not None:
            if len(state.by_header) >= _SPELLINGS * len(state.by_digest):
                state.by_header.clear()
            state.by_header[authorization] = key
        return key

    def charge(self, client: str, cpu_s: float) -> None:
        """Charge processor time of a worker to a client, if that is a key."""
        key = self._state.by_id.get(client)
        if key is not None:
            key.charge_work(cpu_s)

    def _refresh(self) -> None:
        while not self._end.wait(REFRESH_S):
            try:
                self.load()
                self._is_failing = False
            except StoreUnavailableError as error:
                if not self._is_failing and not self._end.is_set():
                    _log.error("the keys cannot be read just now, and stay as they are: %s", error)
                self._is_failing = True
            except Exception:  # noqa: BLE001 - logged, and tried again
                # Without this thread no key would be revoked any more.
                if not self._is_failing:
                    _log.exception("the keys cannot be read just now, and stay as they are")
                self._is_failing = True

    def _arrange(self, records: tuple[KeyRecord, ...]) -> None:
        """Make the dictionaries from records; requests go on with the old ones until then."""
        now, until = self._wall(), float("inf")
        by_digest, by_id = {}, {}
        for record in records:
            ends = [record.revoked_at, record.former_until] if record.former else [record.revoked_at]
            until = min([until, *(end for end in ends if end is not None and end > now)])
            if record.revoked_at is not None and record.revoked_at <= now:
                continue
            key = by_id[record.id] = by_digest[record.digest] = Key(record, self._cells, self._monotonic)
            if record.former and record.former_until > now:
                by_digest[record.former] = key
        self._state = _State(by_digest, by_id, {}, until)
        self.by_header = self._state.by_header
        # Set after the keys are in their places, as other threads read it; once needed, always needed.
        self.is_needed = self._was_needed = self._was_needed or bool(records)
        self.guest = GUEST if self.is_needed else ANYONE


def _unauthorized(authorization: bytes | None) -> UnauthorizedError:
    if authorization is None:
        return UnauthorizedError("a key is needed: send it as Authorization: Bearer <key>", was_given=False)
    if sent_key(authorization) is None:
        return UnauthorizedError(
            "the header Authorization has no key; expected Bearer pb_<id>_<secret>", was_given=False
        )
    return UnauthorizedError("the key is unknown or was revoked", was_given=True)


def _log_damage(error: StoreUnavailableError) -> None:
    _log.error("keys: %s; the others hold, and this one does not", error)


def _log_changes(before: Iterable[KeyRecord], after: Iterable[KeyRecord]) -> None:
    """Log what happened to keys since they were read the last time, here or elsewhere."""
    known = {record.id: record for record in before}
    for record in after:
        old = known.get(record.id)
        if old == record:
            continue
        what = "is new" if old is None else "was rotated" if old.digest != record.digest else "was changed"
        if record.revoked_at is not None and (old is None or old.revoked_at is None):
            what = "was revoked"
        _log.info("keys: the key %s %s", record.id, what)
