"""Stand-ins for the processes of a pool."""

from __future__ import annotations

from typing import Any

from app.http.messages import Answer
from app.workers import frames


class NoNursery:
    """A nursery that makes no processes.

    delays: of the forks that were asked for.
    """

    def __init__(self) -> None:
        self.delays: list[float] = []

    def fork(self, delay_s: float) -> None:
        self.delays.append(delay_s)

    def kill(self, pid: int) -> None:
        """There is nobody."""


class Channel:
    """A channel of a process that answers, and ends, when the test says so.

    sent: kinds of the frames that it was sent.
    """

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.is_closed = False

    def listen(self, on_frame: Any, on_end: Any) -> None:
        self.hear, self.end = on_frame, on_end

    def send(self, frame: frames.Frame) -> None:
        self.sent.append(frame.kind)

    def answer(self, cpu_s: float) -> None:
        self.hear(frames.of_answer(Answer(200, [], b"1"), cpu_s, is_in_file=False))

    def offer(self, nbytes: int) -> None:
        self.hear(frames.Frame(frames.OFFER, (nbytes,)))

    def close(self) -> None:
        self.is_closed = True
