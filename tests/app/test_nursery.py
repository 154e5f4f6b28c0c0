"""Worker processes come back where forks and starts failed for a while; no message about them is lost."""

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
from app.workers import frames
from app.workers import nursery as nurseries
from app.workers import pool as pools
from app.workers.jobs import Sizes
from app.workers.pool import Processes
from tests.app.pools import Channel, NoNursery
from tests.app.test_processes import BUSY, QUICK, cpu_s, evaluate, processes, run, served, started, until


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(nurseries, "_AGAIN_S", 0.02)


class Failing:
    """A stand-in for a function that fails a few times."""

    def __init__(self, function: Any, times: int) -> None:
        self.function, self.left = function, times
        self.error = OSError(errno.EMFILE, "Too many open files")

    def __call__(self, *given: Any, **more: Any) -> Any:
        if self.left:
            self.left -= 1
            raise self.error
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


def test_a_process_that_forks_nobody_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nurseries, "_LOOK_S", 0.05)
    monkeypatch.setattr(nurseries, "_SILENT_S", 0.3)

    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1) as app:
            zygote, worker, _ = await started(before, 3)
            os.kill(zygote, signal.SIGSTOP)
            # While nobody is needed, nobody asks for it.
            assert (await evaluate(app, QUICK)).status == 200
            os.kill(worker, signal.SIGKILL)
            await until(lambda: zygote not in processes())
            await started(before, 3)
            assert (await evaluate(app, QUICK)).status == 200

    run(work)


def test_a_kill_that_is_not_done_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nurseries, "_LOOK_S", 0.05)
    monkeypatch.setattr(nurseries, "_SILENT_S", 0.3)

    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1, deadline_s=1.5) as app:
            zygote, *workers = await started(before, 3)
            task = evaluate(app, BUSY)
            # It is long: another one was forked in its place, so that nobody asks for one when it is killed.
            await started(before, 4)
            os.kill(zygote, signal.SIGSTOP)
            assert (await task).status == 504
            await until(lambda: not processes() & {zygote, *workers})
            await started(before, 3)
            assert (await evaluate(app, QUICK)).status == 200

    run(work)


def test_what_has_no_room_in_the_socket_is_sent_later_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        before = processes()
        async with served(tmp_path, max_concurrency=1, deadline_s=0.5) as app:
            zygote, *_ = await started(before, 3)
            with monkeypatch.context() as patch:
                full = Failing(socket.send_fds, 3)
                full.error = BlockingIOError(errno.EAGAIN, "no room")
                patch.setattr(socket, "send_fds", full)
                # Each process that is killed at its deadline is asked for anew; the right one is killed.
                found = await asyncio.gather(*(evaluate(app, BUSY) for _ in range(2)))
                assert {answer.status for answer in found} == {504}
                await until(lambda: not full.left)
            later = await started(before, 3)
            assert later[0] == zygote
            spent = cpu_s(set(later))
            assert (await evaluate(app, QUICK)).status == 200
            assert cpu_s(set(later)) - spent < 0.3

    run(work)


def test_a_server_without_workers_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(pools, "_EMPTY_S", 0.0)
        found = pool(NoNursery())
        assert not found.fault()
        channel = Channel()
        found._on_worker(2**22 + 1, channel)  # type: ignore[arg-type]
        assert not found.fault()
        channel.end()
        assert "no worker process" in found.fault()
        found._on_worker(2**22 + 2, Channel())  # type: ignore[arg-type]
        assert not found.fault()

    asyncio.run(work())


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


@pytest.mark.parametrize(("path", "tries"), [("/v1/evaluate", 2), ("/v1/sessions/s_1/run", 1)])
def test_work_whose_process_ends_is_tried_once_more_and_is_not_to_blame(path: str, tries: int) -> None:
    async def never() -> Any:
        await asyncio.Event().wait()

    async def work() -> None:
        found = pool(NoNursery())
        call = Call("POST", path, b"", [], "", "id")
        task = asyncio.ensure_future(found.answer(call, "kind", never))
        for _ in range(tries):
            channel = Channel()
            found._on_worker(2**22 + 1, channel)  # type: ignore[arg-type]
            await until(lambda channel=channel: channel.sent == [frames.CALL])
            channel.end()
        with pytest.raises(WorkerDiedError):
            await task

    asyncio.run(work())
