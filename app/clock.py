"""Clocks of the server. Tests pass others, which stand still until they are moved."""

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("pullback")

#: A larger difference between the wall clock and the passing of time is a step of the clock.
STEP_S = 60.0
#: Time for which a step must stand before it is followed.
SETTLED_S = 3600.0
#: After a start of the machine it is believed that the store was not used for so long; a larger gap counts as a step.
PLAUSIBLE_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time of sessions and programs.

    wall: returns seconds since 1970, for expiry.
    monotonic: returns seconds since any moment, for deadlines.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


SYSTEM = Clock()
#: Changes with every start of the machine, and with it the monotonic clock.
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class SteadyClock:
    """Wall clock for expiry, which does not follow a step until it has stood for `SETTLED_S`.

    A clock that is set to another year for a moment would expire all sessions and programs at once. Meanwhile time
    passes at the rate of the monotonic clock. Steps of up to `STEP_S` are followed at once.

    A new process goes on from the moment that others have noted in the store.

    Not covered: a wrong clock at the very first start, when there is nothing to compare with; one that stays wrong for
    longer than `SETTLED_S`; a step of less than `PLAUSIBLE_S` forward while the machine is off, which looks like a
    pause; processes on several hosts whose clocks differ.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._boot = ""
        with suppress(OSError):
            self._boot = _BOOT.read_text().strip()
        self._lock = threading.Lock()
        #: Difference between this clock and the monotonic one.
        self._offset = clock.wall() - clock.monotonic()
        #: The difference after a step, and the monotonic time at which it was first seen.
        self._stepped: tuple[float, float] | None = None

    def __call__(self) -> float:
        """Return seconds since 1970."""
        with self._lock:
            ticks = self._clock.monotonic()
            offset = self._clock.wall() - ticks
            if abs(offset - self._offset) <= STEP_S:
                self._offset, self._stepped = offset, None
            elif self._stepped is None or abs(offset - self._stepped[0]) > STEP_S:
                _log.warning("the clock was set by %+.0f s; not followed for %.0f s", offset - self._offset, SETTLED_S)
                self._stepped = offset, ticks
            elif ticks - self._stepped[1] >= SETTLED_S:
                _log.warning("the clock was set by %+.0f s and has stayed so; followed now", offset - self._offset)
                self._offset, self._stepped = offset, None
            return ticks + self._offset

    def moment(self) -> str:
        """Return the time now as text, for another process to go on from."""
        return json.dumps([self(), self._clock.monotonic(), self._boot])

    def resume(self, moment: str | None) -> None:
        """Go on from the moment that another process has noted; None, or damaged text, begins anew.

        In the same run of the machine the monotonic clock tells how much time has passed since. Otherwise a clock that
        is behind, or ahead by more than `PLAUSIBLE_S`, counts as one that has stepped.
        """
        with self._lock:
            ticks = self._clock.monotonic()
            self._offset, self._stepped = self._clock.wall() - ticks, None
            with suppress(ValueError, TypeError):
                latest, noted, boot = json.loads(moment or "")
                if boot and boot == self._boot:
                    self._offset = latest - noted
                elif not latest - STEP_S <= ticks + self._offset <= latest + PLAUSIBLE_S:
                    self._offset = latest - ticks
