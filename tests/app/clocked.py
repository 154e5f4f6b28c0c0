"""A server whose clock a test moves, in the folder that `PULLBACK_TEST_CLOCK` names.

It also has an operation `hold`, which gives its operand once the test opens the gate.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.clock import Clock
from app.main import Pullback, create_app
from app.settings import PREFIX, load_settings
from engine.rows import unary

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTING = "test_clock"
CLOCKED = ("uvicorn", "--factory", "tests.app.clocked:clocked_app", "--host", "127.0.0.1")
PAUSE_S = 0.01


class SharedClock:
    """Seconds in a file that several processes read, and a gate that holds up work between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seconds, self._gate, self._held = folder / "seconds", folder / "gate", folder / "held"
        self._readings = 0

    @classmethod
    def made(cls, folder: Path, tick: float = 0.0) -> SharedClock:
        """Return a new clock that goes on by `tick` seconds each time that a process reads it."""
        folder.mkdir()
        clock = cls(folder)
        clock._set(1_000_000.0, tick)
        return clock

    def __call__(self) -> float:
        seconds, tick = map(float, self._seconds.read_text().split())
        self._readings += 1
        return seconds + tick * self._readings

    def advance(self, seconds: float) -> None:
        self._set(self() + seconds)

    def _set(self, seconds: float, tick: float = 0.0) -> None:
        written = self.folder / "written"
        written.write_text(f"{seconds} {tick}")
        written.replace(self._seconds)

    @contextlib.contextmanager
    def closed_gate(self) -> Iterator[None]:
        """While inside, `hold` does not return."""
        self._gate.touch()
        try:
            yield
        finally:
            self._gate.unlink()

    def wait_until_held(self) -> None:
        """Return when `hold` waits at the gate."""
        while not self._held.exists():
            time.sleep(PAUSE_S)

    def hold(self, x: Any) -> Any:
        """Return `x` when the gate is open."""
        while self._gate.exists():
            self._held.touch()
            time.sleep(PAUSE_S)
        return x


def clocked_app() -> Pullback:
    """Make the application for the clock that the environment names."""
    clock = SharedClock(Path(os.environ[PREFIX + SETTING.upper()]))
    unary("hold", clock.hold, lambda g, y, x: g, doc="Its operand, later.")
    # The pool of processes has the system's clock, and operations of its own.
    return create_app(load_settings(isolation="threads"), Clock(clock, clock))
