"""Memory and processor time of a process and all that it has started, sampled beside everything else."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: Between two samples. One takes a millisecond or two a process, in the kernel.
EVERY_S = 0.2
_TICK = os.sysconf("SC_CLK_TCK")
#: A process that takes more than this share of a processor is busy.
_BUSY = 0.5


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """Return a process and all that came from it."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found


def pss_mb(pid: int) -> float:
    """Return the memory of a process, what it shares divided among those that share it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK
    return 0.0


def disk_mb(folder: Path) -> float:
    """Return the size of all files of a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total / 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of all processes at a time; `busy` of them, the first one not counted, had a processor for the most."""

    at: float
    pss_mb: float
    busy: int


@dataclass(slots=True)
class Footprint:
    """Samples of a process and its family, taken by a thread between `start` and `stop`."""

    pid: int
    samples: list[Sample] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take samples."""
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def peak_mb(self, since: float = 0.0) -> float:
        """Return the most memory at any time since then."""
        return max((sample.pss_mb for sample in self.samples if sample.at >= since), default=0.0)

    def _sample(self) -> None:
        last: dict[int, float] = {}
        while not self._ended.wait(EVERY_S):
            pids = family(self.pid)
            spent = {pid: cpu_s(pid) for pid in pids}
            busy = sum(spent[pid] - last.get(pid, spent[pid]) > _BUSY * EVERY_S for pid in pids[1:])
            last = spent
            self.samples.append(Sample(time.monotonic(), sum(map(pss_mb, pids)), busy))
