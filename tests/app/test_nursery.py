"""Where forks and starts fail for a while, worker processes come back."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from app.errors import WorkerDiedError
from app.http.messages import Call
from app.http.spool import Spool
from app.workers import nursery as nurseries
from app.workers.jobs import Sizes
from app.workers.pool import Processes
from tests.app.test_processes import QUICK, evaluate, processes, run, served, started, until


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(nurseries, "_AGAIN_S", 0.02)


class Failing:
    """A stand-in for a function that fails a few times."""

    def __init__(self, function: Any, times: int) -> None:
        self.function, self.left = function, times

    def __call__(self, *given: Any, **more: Any) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self.function(*given, **more)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("which", ["worker", "zygote"])
def test_processes_come_back_once_files_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1) as app:
            zygote, worker, _ = await started(before, 3)
            failing = Failing(socket.socketpair, 3)
            monkeypatch.setattr(socket, "socketpair", failing)
            os.kill(worker if which == "worker" else zygote, signal.SIGKILL)
            await until(lambda: not failing.left)
            assert (await evaluate(app, QUICK)).status == 200
            monkeypatch.undo()

    run(work)


class NoNursery:
    """A nursery that only counts."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    def fork(self, delay_s: float) -> None:
        self.delays.append(delay_s)

    def kill(self, pid: int) -> None:
        """There is nobody."""


class Ended:
    """A channel of a process that has ended before anybody listened."""

    def listen(self, on_frame: Any, on_end: Any) -> None:
        on_end()


def pool(nursery: NoNursery) -> Processes:
    return Processes(nursery, Sizes(1, 1, 1, 1), Spool(Path(), 1), 10, 5.0)  # type: ignore[arg-type]


def test_a_process_that_ends_at_once_is_replaced_and_never_given_work() -> None:
    async def work() -> None:
        nursery = NoNursery()
        found = pool(nursery)
        found._fill()
        found._on_worker(2**22 + 1, Ended())  # type: ignore[arg-type]
        assert found.figures().workers == {"idle": 0, "short": 0, "long": 0}
        assert len(nursery.delays) == 2

    asyncio.run(work())


def test_the_time_between_two_forks_is_bounded_however_many_failed() -> None:
    async def work() -> None:
        nursery = NoNursery()
        found = pool(nursery)
        found._fill()
        for _ in range(3000):
            found._on_worker(2**22 + 1, Ended())  # type: ignore[arg-type]
        assert nursery.delays[0] == 0.0
        assert nursery.delays[:8] == sorted(nursery.delays[:8])
        assert max(nursery.delays) == nursery.delays[-1] <= 2.0

    asyncio.run(work())


class Silent:
    """A channel of a process that works until it ends."""

    def __init__(self) -> None:
        self.sent = 0

    def listen(self, on_frame: Any, on_end: Any) -> None:
        self.end = on_end

    def send(self, frame: Any) -> None:
        self.sent += 1

    def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize(("path", "tries"), [("/v1/evaluate", 2), ("/v1/sessions/s_1/run", 1)])
def test_work_whose_process_ends_is_tried_once_more_and_is_not_to_blame(path: str, tries: int) -> None:
    async def never() -> Any:
        await asyncio.Event().wait()

    async def work() -> None:
        found = pool(NoNursery())
        call = Call("POST", path, b"", [], "", "id")
        task = asyncio.ensure_future(found.answer(call, "kind", never))
        for _ in range(tries):
            channel = Silent()
            found._on_worker(2**22 + 1, channel)  # type: ignore[arg-type]
            await until(lambda channel=channel: channel.sent == 1)
            channel.end()
        with pytest.raises(WorkerDiedError):
            await task

    asyncio.run(work())
