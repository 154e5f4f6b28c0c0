"""Rates of keys: what was measured is charged afterwards, and whoever has used up its share waits.

The algorithm is GCRA with weights: of each key one number is kept, the time at which all that it used will have been
paid for at its rate. A request is let in while that time lies at most a burst ahead, and pushes it on by its cost. The
cost is known only after the work, and may lead into debt, which delays the next request by as much.

Processes of one server share these numbers in a file that is mapped into the memory of each. They are written without
a lock: where two processes charge one key within the same fraction of a microsecond, one of both charges is lost, which
costs less than a lock for all the others would.
"""

import mmap
import os
from pathlib import Path
from typing import Protocol

from app.stores.keys import MOST_KEYS, Rates

#: Environment variable with the file that processes of one server share; it is no setting.
SHARED = "_PULLBACK_RATES"
#: Cost of an answer of the event loop, in units; those of workers are measured.
LIGHT_UNITS = 0.1
UNITS_OF_A_SECOND = 1000.0
#: Numbers of a key: paid time of its units, and of its bytes.
_CELLS = 2
_FLOAT_BYTES = 8
SHARED_BYTES = (MOST_KEYS + 1) * _CELLS * _FLOAT_BYTES


class Cells(Protocol):
    """Paid times of all keys."""

    def __getitem__(self, at: int, /) -> float: ...

    def __setitem__(self, at: int, value: float, /) -> None: ...


def shared_cells(path: str | None = None) -> Cells:
    """Return the cells in the file that the environment names, or private ones where it names none."""
    path = os.environ.get(SHARED) if path is None else path
    if not path:
        return memoryview(mmap.mmap(-1, SHARED_BYTES)).cast("d")
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), SHARED_BYTES)).cast("d")


class Bucket:
    """Share of a key in units or bytes, which fills up at a rate.

    Args:
        cells: paid times.
        at: place of this one among them.
        rate: units a second.
        burst: units that may be used at once.
    """

    __slots__ = ("_at", "_cells", "_slack_s", "_unit_s")

    def __init__(self, cells: Cells, at: int, rate: float, burst: float) -> None:
        self._cells = cells
        self._at = at
        self._unit_s = 1.0 / rate
        self._slack_s = max(burst - 1.0, 0.0) / rate

    def wait_s(self, now: float) -> float:
        """Return the seconds until one unit is there; 0 or less: it is there now."""
        return self._cells[self._at] - now - self._slack_s

    def charge(self, units: float, now: float) -> None:
        """Use units, whether they are there or not; negative ones are given back."""
        cells, at = self._cells, self._at
        paid = cells[at]
        cells[at] = (paid if paid > now else now) + units * self._unit_s


def buckets(rates: Rates, number: int, cells: Cells) -> tuple[Bucket | None, Bucket | None]:
    """Return the buckets of a key for units and for bytes, None where it may use as much as it likes."""
    units = nbytes = None
    if rates.units_s is not None:
        units = Bucket(cells, _CELLS * number, rates.units_s, rates.burst or max(rates.units_s, 1.0))
    if rates.bytes_s is not None:
        nbytes = Bucket(cells, _CELLS * number + 1, rates.bytes_s, rates.bytes_s)
    return units, nbytes
