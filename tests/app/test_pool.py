"""Choice of workers for jobs: one is kept free for clients that use little, short work of the gone is finished."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from app.api.problems import explain
from app.errors import OverloadedError
from app.http.messages import Answer, Call
from app.http.spool import Spool
from app.workers import pool as pools
from app.workers.jobs import Job, Sizes
from app.workers.pool import Processes
from app.workers.schedule import LONG_S, SHORT_S, Pace
from tests import virtual_time
from tests.app.pools import Channel, NoNursery

SHORT = 2


class Pool:
    """A pool without processes."""

    def __init__(self, kept_free: int = 1, queue: int = 10) -> None:
        sizes = Sizes(SHORT + kept_free, 1, 1, 1, kept_free)
        self.nursery = NoNursery()
        self.pool = Processes(self.nursery, sizes, Spool(Path(), 1), queue, 30.0)  # type: ignore[arg-type]
        self.pool._expected = sizes.short
        self.channels = [Channel() for _ in range(SHORT + kept_free)]
        for pid, channel in enumerate(self.channels):
            self.pool._on_worker(2**22 + pid, channel)  # type: ignore[arg-type]

    def ask(self, client: str, receive: Any = None) -> asyncio.Task[Answer]:
        call = Call("POST", "/v1/evaluate", b"", [], client, "id")
        return asyncio.ensure_future(self.pool.answer(call, object(), receive or never))

    def busy(self) -> dict[str, list[Channel]]:
        """The channels of workers with a job, by client."""
        found: dict[str, list[Channel]] = {}
        for worker in self.pool._busy | self.pool._long:
            if worker.job is not None:
                found.setdefault(worker.job.client, []).append(worker.channel)  # type: ignore[arg-type]
        return found


async def never() -> Any:
    await asyncio.Event().wait()


def test_who_uses_much_leaves_a_worker_to_others() -> None:
    async def work() -> None:
        pool = Pool()
        first = pool.ask("heavy")
        await asyncio.sleep(0)
        pool.busy()["heavy"][0].answer(2.0)
        await first
        many = [pool.ask("heavy") for _ in range(5)]
        await asyncio.sleep(0)
        assert {client: len(channels) for client, channels in pool.busy().items()} == {"heavy": SHORT}
        light = pool.ask("light")
        await asyncio.sleep(0)
        pool.busy()["light"][0].answer(0.01)
        assert (await light).status == 200
        for task in many:
            task.cancel()

    virtual_time.run(work())


def test_alike_clients_use_all_workers() -> None:
    async def work() -> None:
        pool = Pool()
        for client in "abab":
            task = pool.ask(client)
            await asyncio.sleep(0)
            pool.busy()[client][0].answer(2.0)
            await task
        tasks = [pool.ask(client) for client in "ababab"]
        await asyncio.sleep(0)
        assert sum(map(len, pool.busy().values())) == SHORT + 1
        for task in tasks:
            task.cancel()

    virtual_time.run(work())


@pytest.mark.parametrize(("run_s", "wait_s"), [(0.001, 1.0), (1.0, 5.0), (1000.0, 30.0)])
def test_who_is_refused_is_told_when_the_queue_is_done(
    run_s: float, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        monkeypatch.setattr(pools.time, "monotonic", asyncio.get_running_loop().time)
        pool = Pool(kept_free=0)
        for _ in range(100):
            pool.pool._queues.means[Pace.UNKNOWN].note(run_s)
        # Two are worked on, ten wait, and one has no place.
        tasks = [pool.ask("a") for _ in range(SHORT + 11)]
        await asyncio.sleep(0)
        (refused,) = [task for task in tasks if task.done()]
        error = refused.exception()
        assert isinstance(error, OverloadedError)
        assert error.wait_s == pytest.approx(wait_s, rel=1e-2)
        for task in tasks:
            task.cancel()

    virtual_time.run(work())


def test_what_is_worked_on_counts_as_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(pools.time, "monotonic", asyncio.get_running_loop().time)
        pool = Pool(kept_free=0)
        task = pool.ask("a")
        await asyncio.sleep(0)
        assert pool.pool._shares.used["a"] == pytest.approx(SHORT_S)
        pool.busy()["a"][0].answer(0.01)
        await task
        assert pool.pool._shares.used["a"] == pytest.approx(0.01)

    virtual_time.run(work())


def test_a_pool_without_a_queue_works_on_as_much_as_it_has_workers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(pools.time, "monotonic", asyncio.get_running_loop().time)
        pool = Pool(kept_free=0, queue=0)
        tasks = [pool.ask(client) for client in "abcd"]
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [k >= SHORT for k in range(4)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(work())


def test_a_worker_that_only_waited_stays_and_is_not_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(pools.time, "monotonic", asyncio.get_running_loop().time)
        pool = Pool(kept_free=0)
        asked = len(pool.nursery.delays)
        task = pool.ask("a")
        await asyncio.sleep(5 * LONG_S)
        # It counts as long, and another one was asked for in its place.
        assert pool.pool.figures().workers == {"idle": SHORT - 1, "short": 0, "long": 1}
        assert len(pool.nursery.delays) == asked + 1
        pool.busy()["a"][0].answer(0.01)
        await task
        pool.pool._on_worker(2**22 + SHORT, Channel())  # type: ignore[arg-type]
        assert pool.pool.figures().workers == {"idle": SHORT, "short": 0, "long": 0}

    virtual_time.run(work())


def test_a_refusal_says_when_to_come_again() -> None:
    call = Call("POST", "/v1/evaluate", b"", [], "", "id")
    answer = explain(call, OverloadedError("the queue is full", 4.2))
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"5")


def test_a_process_is_not_killed_for_short_work_whose_client_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(pools.time, "monotonic", asyncio.get_running_loop().time)
        pool = Pool(kept_free=0)
        blocking = [pool.ask("a"), pool.ask("a")]
        # After 100 ms in the queue it is looked at whether its client has gone.
        left = asyncio.Event()

        async def later() -> Any:
            await left.wait()
            return {"type": "http.disconnect"}

        task = pool.ask("b", later)
        await asyncio.sleep(2 * LONG_S)
        pool.busy()["a"][0].answer(0.01)
        await asyncio.sleep(0)
        (channel,) = pool.busy()["b"]
        left.set()
        await asyncio.sleep(LONG_S / 2)
        assert not channel.is_closed
        channel.answer(0.01)
        assert (await task).status == 200
        assert not channel.is_closed
        for each in blocking:
            each.cancel()

    virtual_time.run(work())


@pytest.mark.parametrize("end", ["refused", "gone", "answered late", "died"])
def test_no_job_is_left_to_the_collector(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job has the body of a request: megabytes that nobody counts any more."""

    async def work() -> None:
        monkeypatch.setattr(pools.time, "monotonic", asyncio.get_running_loop().time)
        pool = Pool(kept_free=0, queue=0)
        leave = asyncio.Event()

        async def receive() -> Any:
            await leave.wait()
            return {"type": "http.disconnect"}

        tasks = [pool.ask(client, receive) for client in ("ab" if end != "refused" else "abcdef")]
        await asyncio.sleep(5 * LONG_S)
        if end == "gone":
            leave.set()
            await asyncio.sleep(LONG_S)
        for channels in pool.busy().values():
            for channel in list(channels):
                channel.end() if end == "died" else channel.answer(0.01)
        await asyncio.sleep(40.0)
        assert all(task.done() for task in tasks)
        for task in tasks:
            task.exception()

    gc.collect()
    gc.disable()
    try:
        virtual_time.run(work())
        left = [each for each in gc.get_objects() if isinstance(each, Job)]
    finally:
        gc.enable()
    assert left == []
