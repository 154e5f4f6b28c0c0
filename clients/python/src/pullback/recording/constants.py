"""Arrays that are no variables: each is sent once, and known again by what it holds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np

from pullback.recording.entries import Entry
from pullback.recording.outbox import Outbox

#: So many bytes of them, and so many, are kept on the server.
_MOST_BYTES = 64 * 2**20
_MOST = 1000

Array = np.ndarray[Any, Any]


class Constants:
    """Those of one session; what was not used for longest is forgotten first."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._known: OrderedDict[tuple[Any, ...], tuple[str, Entry, int]] = OrderedDict()
        self._nbytes = 0

    def id_of(self, array: Array) -> str:
        """What an array is called on the server. Its content is looked at: who changes it has another one."""
        data = np.ascontiguousarray(array)
        key = data.shape, str(data.dtype), hashlib.blake2b(data.reshape(-1).view(np.uint8).data).digest()
        known = self._known.pop(key, None)
        if known is not None and known[1].error is None:
            self._known[key] = known
            return known[0]
        name = self._outbox.new_id()
        entry = self._outbox.record({"do": "variable", "id": name, "value": data.copy(), "constant": True})
        self._known[key] = name, entry, data.nbytes
        self._nbytes += data.nbytes
        while len(self._known) > 1 and (self._nbytes > _MOST_BYTES or len(self._known) > _MOST):
            _, (old, maker, nbytes) = self._known.popitem(last=False)
            self._nbytes -= nbytes
            self._outbox.forget(old, maker)
        return name
