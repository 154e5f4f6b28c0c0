"""Ports for the servers of tests, which several processes may start at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

#: Below the ports of outgoing connections: none of these takes a port between its choice and its use.
_FIRST, _LAST = 10_000, 32_000
#: Each process has an order of its own, so that two of them rarely choose the same port at the same time.
_ORDER = itertools.cycle(random.Random(os.getpid()).sample(range(_FIRST, _LAST), _LAST - _FIRST))


def free_port() -> int:
    """Return a port that nobody has bound, and that this process has not been given before."""
    for port in _ORDER:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the order never ends")
