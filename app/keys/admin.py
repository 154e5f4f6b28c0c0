"""Administration of keys: creation, rotation and revocation, each with a line in the log."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.audit import COMMAND_LINE, audit
from app.keys.scopes import Scope
from app.keys.tokens import digest_of, new_id, new_key
from app.stores.keys import MOST_KEYS, KeyRecord, KeyStore, Rates
from app.stores.owners import Allowance

#: Smaller rates and quotas are none.
LEAST = 1e-6
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")

_log = logging.getLogger("pullback")


class KeyAdminError(Exception):
    """An act that is not possible; its text is one readable line."""


class KeyAdmin:
    """Keys of a store, for whoever runs the server.

    Args:
        store: of the keys.
        clock: seconds since 1970.
    """

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def create(self, name: str, scopes: Sequence[str], rates: Rates, allowance: Allowance) -> str:
        """Create a key and return it: it is shown here and never again.

        Raises:
            KeyAdminError: a name, a scope or a number cannot be used, or there are too many keys.
        """
        if not _NAME.fullmatch(name):
            raise KeyAdminError("the name of a key has 1 to 100 letters, and no control characters")
        unknown = [scope for scope in scopes if scope not in tuple(Scope)]
        if unknown or not scopes:
            named = f'"{unknown[0]}" is no scope' if unknown else "a key needs a scope"
            raise KeyAdminError(f"{named}; expected some of {', '.join(Scope)}")
        for what, number in (*_numbers(rates), *allowance._asdict().items()):
            if number is not None and not LEAST <= number < float("inf"):
                raise KeyAdminError(f"{what} is {number:g}; expected a number from {LEAST:g} on")
        if len(self.records()) >= MOST_KEYS:
            raise KeyAdminError(f"there are {MOST_KEYS:,} keys, as many as may be")
        key_id = new_id()
        key = new_key(key_id)
        ordered = tuple(scope for scope in Scope if scope in scopes)
        record = KeyRecord(0, key_id, name, digest_of(key.encode()), ordered, rates, allowance, self._clock())
        self._store.add(record)
        audit(COMMAND_LINE, f"create the key {key_id} with the scopes {', '.join(ordered)}")
        return key

    def records(self) -> list[KeyRecord]:
        """Return all keys, the revoked ones too; of one that is damaged the log has the number."""
        return self._store.list(lambda error: _log.error("%s", error))

    def revoke(self, key_id: str) -> None:
        """Let a key, and its former secret, hold no more.

        Raises:
            KeyAdminError: there is no such key.
        """
        self._change(key_id, lambda record: replace(record, revoked_at=self._clock(), former="", former_until=0.0))
        audit(COMMAND_LINE, f"revoke the key {key_id}")

    def rotate(self, key_id: str, grace_s: float) -> str:
        """Give a key a new secret, and return it; all else stays, and so does what it owns.

        Args:
            key_id: of the key.
            grace_s: time for which the old secret holds on. One that was replaced before holds no more.

        Raises:
            KeyAdminError: there is no such key, or it was revoked.
        """
        if not 0 <= grace_s < float("inf"):
            raise KeyAdminError(f"the grace period is {grace_s:g} s; expected a number of at least 0")
        key = new_key(key_id)

        def rotated(record: KeyRecord) -> KeyRecord:
            until = self._clock() + grace_s
            return replace(record, digest=digest_of(key.encode()), former=record.digest, former_until=until)

        self._change(key_id, rotated)
        audit(COMMAND_LINE, f"rotate the key {key_id}; the old secret holds for {grace_s:g} s more")
        return key

    def _change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> None:
        while True:
            record = next((record for record in self.records() if record.id == key_id), None)
            if record is None:
                raise KeyAdminError(f'there is no key "{key_id}"; `pullback keys list` shows all')
            if record.revoked_at is not None:
                raise KeyAdminError(f"the key {key_id} was revoked already")
            if self._store.swap(record, change(record)):
                return


def _numbers(rates: Rates) -> list[tuple[str, float | None]]:
    return [("rate", rates.units_s), ("burst", rates.burst), ("bytes per second", rates.bytes_s)]
