"""Clocks that the server reads: tests pass others, which stand still until they are moved."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Time of sessions and programs.

    wall: returns seconds since 1970, for expiry.
    monotonic: returns seconds since any moment, for deadlines.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


SYSTEM = Clock()
