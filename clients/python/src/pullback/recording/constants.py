"""Cache of constants: arrays that are not variables are sent once, and recognized by their content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np

from pullback.recording.entries import Entry
from pullback.recording.outbox import Outbox

#: Limits of the constants of a session that stay on the server.
_MOST_BYTES = 64 * 2**20
_MOST = 1000

Array = np.ndarray[Any, Any]


class Constants:
    """Constants of one session; the least recently used ones are deleted first."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._known: OrderedDict[tuple[Any, ...], tuple[str, Entry, int]] = OrderedDict()
        self._nbytes = 0

    def id_of(self, array: Array) -> str:
        """Return the id of an array on the server; send the array if no constant has its content."""
        key = content_of(array)
        known = self._known.pop(key, None)
        if known is not None and known[1].error is None:
            self._known[key] = known
            return known[0]
        if known is not None:
            self._nbytes -= known[2]
        data = np.ascontiguousarray(array)
        name = self._outbox.new_id()
        entry = self._outbox.record({"do": "variable", "id": name, "value": data.copy(), "constant": True})
        self._known[key] = name, entry, data.nbytes
        self._nbytes += data.nbytes
        return name

    def trim(self) -> None:
        """Delete the least recently used constants above the limits; call it after the command that needs them."""
        while len(self._known) > 1 and (self._nbytes > _MOST_BYTES or len(self._known) > _MOST):
            self._drop()

    def clear(self) -> None:
        """Delete all constants, when the session is full."""
        while self._known:
            self._drop()

    def _drop(self) -> None:
        _, (name, maker, nbytes) = self._known.popitem(last=False)
        self._nbytes -= nbytes
        self._outbox.forget(name, maker)


def content_of(array: Array) -> tuple[Any, ...]:
    """Return a key of an array's content: shape, dtype and a digest of its bytes."""
    data = np.ascontiguousarray(array)
    digest = hashlib.blake2b(data.reshape(-1).view(np.uint8).data if data.size else b"").digest()
    return np.shape(array), str(data.dtype), digest
