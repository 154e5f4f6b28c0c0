"""A pool of worker processes, one call at a time each, which are killed at the deadline or when the client has gone.

The pool is elastic. `short` workers are there for work of all kinds. Work that takes longer than 100 ms is long: its
process gets a lower priority and is no longer counted, and a new one is forked in its place, up to `long` of them; a
process that has done long work is thrown away. So a few long jobs never keep the others waiting. When all places for
long work are taken, and others wait, work that turns out to be long is stopped and waits for such a place.
One worker more is kept free for clients that have not used much more than others lately.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import DeadlineExceededError, OverloadedError, WorkerDiedError
from app.http.messages import Answer, Call, Work
from app.http.spool import Spool
from app.stores import StorageFullError
from app.telemetry import Histogram, PoolFigures
from app.workers import frames
from app.workers.jobs import Job, Sizes, Worker
from app.workers.memory import Lane, too_large, used_bytes
from app.workers.nursery import Channel, Nursery
from app.workers.offers import Offers
from app.workers.schedule import LONG_S, Pace, Paces, Queues, Shares

_log = logging.getLogger("pullback")

#: Takes the client of a call and the processor time that it took, in seconds.
Charge = Callable[[str, float], None]

#: Work that takes longer than this gets a place for long work; it is looked at every 100 ms.
_LONG_WALL_S = 0.9 * LONG_S
#: And work that has hardly computed in this time.
_LONG_WAIT_S = 0.29
#: Priority of long work, as `nice` counts it.
_NICE = 15
#: A server that has had no worker for so long is not ready.
_EMPTY_S = 3.0
#: Time until a job is tried again whose process has ended.
_RETRY_S = 0.05
#: After a worker that died young, the next one comes later: seconds, doubled each time, up to a limit.
_YOUNG_S = 1.0
_BACKOFF_S, _LONGEST_BACKOFF_S, _MOST_DOUBLED = 0.05, 2.0, 6


class Processes:
    """Pool of worker processes.

    Args:
        nursery: makes and kills processes.
        sizes: how many there are, and their memory.
        spool: room for long answers.
        queue: how many calls of each pace may wait.
        deadline_s: for the answer to a call, waiting included.

    charge: called with the client of each call that was worked on, and its processor time; of one whose process was
        killed, the time since it began.
    """

    def __init__(self, nursery: Nursery, sizes: Sizes, spool: Spool, queue: int, deadline_s: float) -> None:
        self._offers = Offers(spool, self._on_full)
        self.charge: Charge = lambda client, cpu_s: None
        self._nursery = nursery
        self._sizes = sizes
        self._deadline_s = deadline_s
        self._paces = Paces()
        self._shares = Shares()
        self._queues: Queues[Job] = Queues(queue, self._shares)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._long: set[Worker] = set()
        self._expected = 0
        self._early_deaths = 0
        self._empty_since: float | None = None
        self._is_closed = False
        #: Number of processes that ended, by reason, and durations in the queue.
        self._ended: Counter[str] = Counter()
        self._waits = Histogram()
        self._lane: Lane[Worker] = Lane(sizes.large_bytes, self._on_excess)

    async def start(self) -> None:
        """Fork the first workers, and wait for one of them.

        Raises:
            WorkerDiedError: none can be made.
        """
        await self._nursery.start(self._on_worker)
        self._fill()
        await self._nursery.first_worker()

    def close(self) -> None:
        """Take no more calls, and end all processes."""
        self._is_closed = True
        self._offers.clear()
        for job in self._queues.clear():
            _refuse(job, OverloadedError("the server is stopping"))
        for worker in [*self._busy, *self._long]:
            if worker.job is not None:
                _refuse(worker.job, OverloadedError("the server is stopping"))
        self._nursery.close()

    async def answer(self, call: Call, kind: object, receive: Receive, waited_s: float = 0.0) -> Answer:
        """Let a worker answer a call; `waited_s` of the deadline are over.

        Raises:
            OverloadedError: there is no room in the queue, or all places for long work are taken.
            DeadlineExceededError: it took too long; its process was killed.
            ClientDisconnect: the client went away; its process was killed.
            WorkerDiedError: its process ended.
        """
        if self._is_closed:
            raise OverloadedError("the server is stopping")
        pace = self._paces.of(kind)
        if not self._idle and not self._queues.has_room(pace, call.client):
            raise self._full(pace, call.client)
        loop = asyncio.get_running_loop()
        left_s = max(self._deadline_s - waited_s, 0.0)
        job = Job(call, kind, pace, loop.create_future(), receive, loop.time() + left_s, time.monotonic())
        job.timer = loop.call_later(min(LONG_S, left_s), self._look, job)
        self._push(job)
        try:
            return await job.future
        finally:
            job.timer.cancel()
            if job.watch is not None:
                job.watch.cancel()
            if not job.future.done() or job.future.cancelled():
                self._drop(job, "gone")
            # Else an exception, whose traceback has this frame, keeps the job, which keeps the exception, and all of
            # the body until the collector comes.
            job.timer = job.watch = None
            del job

    def figures(self) -> PoolFigures:
        """Return the figures of the pool."""
        workers = {"idle": len(self._idle), "short": len(self._busy), "long": len(self._long)}
        queued = {pace.name.lower(): self._queues.count(pace) for pace in Pace}
        return PoolFigures(workers, queued, self._waits, self._ended)

    def fault(self) -> str:
        """Return a sentence where no process can be made; empty as long as there are some, or may be soon."""
        since = self._empty_since
        if since is None or time.monotonic() - since < _EMPTY_S:
            return ""
        return f"there has been no worker process for {_EMPTY_S:g} s"

    # Workers

    def _on_worker(self, pid: int, channel: Channel) -> None:
        """Take in a process that was forked."""
        self._expected -= 1
        self._empty_since = None
        worker = Worker(pid, channel, own_bytes=used_bytes(pid))
        self._idle.append(worker)
        # It may have ended already, and is forgotten then.
        channel.listen(lambda frame: self._on_frame(worker, frame), lambda: self._on_end(worker))
        self._dispatch()

    def _fill(self) -> None:
        """Fork as many workers as are missing."""
        while not self._is_closed and len(self._idle) + len(self._busy) + self._expected < self._sizes.short:
            self._expected += 1
            doubled = min(self._early_deaths, _MOST_DOUBLED)
            delay_s = min(_BACKOFF_S * 2**doubled, _LONGEST_BACKOFF_S) if doubled else 0.0
            self._nursery.fork(delay_s)

    def _on_frame(self, worker: Worker, frame: frames.Frame) -> None:
        job = worker.job
        assert job is not None
        if frame.kind == frames.WANT:
            self._on_want(worker, job)
            return
        if frame.kind == frames.OFFER:
            self._offers.add(worker, *frame.about)
            return
        answer, cpu_s = frames.to_answer(frame, worker.file)
        worker.file = None
        self._paces.note(job.kind, cpu_s, self._lane.has(worker))
        self._charge(job, cpu_s)
        self._early_deaths = 0
        if not job.future.done():
            now = time.monotonic()
            work = Work(worker.pid, job.started - job.pushed, now - job.started, now)
            job.future.set_result(answer._replace(way="worker", work=work))
        worker.job, job.worker = None, None
        if self._lane.has(worker):
            # A process that has been large stays large.
            self._retire(worker, "large")
        elif worker.is_nice:
            self._retire(worker, "long")
        else:
            worker.is_long = False
            self._long.discard(worker)
            self._busy.discard(worker)
            self._idle.append(worker)
            if len(self._idle) + len(self._busy) + self._expected > self._sizes.short:
                # Another one was forked in its place; the one that has rested longest goes.
                self._retire(self._idle[0], "spare")
        self._dispatch()

    def _on_full(self, worker: Worker, error: StorageFullError) -> None:
        """Refuse work whose answer finds no room on the disk."""
        job = worker.job
        assert job is not None
        _refuse(job, error)
        self._drop(job, "disk")

    def _on_want(self, worker: Worker, job: Job) -> None:
        """Let a worker that ran out of memory have more, or its job wait for the place where there is more."""
        if self._lane.is_free():
            self._lane.enter(worker)
            worker.channel.send(frames.Frame(frames.GRANT, (self._lane.asked_bytes,)))
            return
        self._drop(job, "postponed")
        self._wait_again(job, Pace.LARGE)

    def _on_excess(self, worker: Worker) -> None:
        """Stop work that uses more memory than may be used."""
        job = worker.job
        assert job is not None
        _refuse(job, too_large(self._sizes.large_bytes))
        self._drop(job, "memory")

    def _on_end(self, worker: Worker) -> None:
        """Notice that a process has ended, whoever killed it."""
        if self._is_closed:
            return
        self._ended["died"] += 1
        if time.monotonic() - worker.born < _YOUNG_S:
            self._early_deaths += 1
        job = worker.job
        if job is not None:
            worker.job, job.worker = None, None
            self._charge_elapsed(job)
            _log.error("the worker process %d ended while it answered the request %s", worker.pid, job.call.request_id)
            self._on_death(job)
        self._forget(worker)

    def _on_death(self, job: Job) -> None:
        """Try a job again whose process has ended: with more memory, for want of which libraries may crash."""
        if job.call.is_repeatable and job.pace is not Pace.LARGE:
            job.pace = Pace.LARGE
            # Others may end with it, and have not been heard of yet.
            asyncio.get_running_loop().call_later(_RETRY_S, self._retry, job)
            return
        _refuse(job, WorkerDiedError("the process that worked on the request has ended; it may be tried again"))

    def _retry(self, job: Job) -> None:
        """Let a job whose process has ended wait for another."""
        if not job.future.done():
            self._push(job)

    def _retire(self, worker: Worker, reason: str) -> None:
        """Kill a process and make room for another."""
        self._ended[reason] += 1
        self._nursery.kill(worker.pid)
        worker.channel.close()
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        self._lane.leave(worker)
        if worker.file is not None:
            worker.file.close()
        self._busy.discard(worker)
        self._long.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not (self._idle or self._busy or self._long) and self._empty_since is None:
            self._empty_since = time.monotonic()
        self._fill()
        self._dispatch()

    # Jobs

    def _push(self, job: Job) -> None:
        """Let a job wait for a worker, if there is none for it."""
        self._queues.push(job)
        self._dispatch()
        left = self._queues.overflow(job)
        if left is not None:
            _refuse(left, self._full(left.pace, left.client))

    def _full(self, pace: Pace, client: str) -> OverloadedError:
        """Return the refusal of a job that has no place in a queue."""
        wait_s = max(self._wait_s(pace), self._queues.until_room_s(pace, client))
        detail = "the server is busy and its queue is full (setting PULLBACK_MAX_QUEUE)"
        return OverloadedError(detail, min(wait_s, self._deadline_s))

    def _wait_s(self, pace: Pace) -> float:
        """Return when the jobs of a pace that wait now are done: as many more have room then."""
        workers = {Pace.LONG: self._sizes.long, Pace.LARGE: 1}.get(pace, self._sizes.short - self._sizes.kept_free)
        return min(max(self._queues.wait_s(pace, workers), 1.0), self._deadline_s)

    def _dispatch(self) -> None:
        """Give waiting jobs to idle workers."""
        now = time.monotonic()
        while self._idle:
            may_be_long = len(self._long) < self._sizes.long
            job = self._queues.next(
                may_be_long=may_be_long,
                may_be_large=may_be_long and self._lane.is_free(),
                may_go=lambda client: len(self._idle) > self._sizes.kept_free or not self._shares.is_heavy(client),
            )
            if job is None:
                return
            worker = self._chosen(job.kind)
            worker.job, job.worker = job, worker
            job.started = now
            job.cpu_s = _cpu_s(worker.pid)
            # It counts from now on, or a client with many connections would have all workers at once.
            job.counted_s = min(self._queues.means[job.pace].seconds, LONG_S)
            self._shares.note(job.client, job.counted_s, now)
            self._waits.observe(now - job.pushed)
            if job.kind not in worker.recent:
                worker.recent.append(job.kind)
            self._busy.add(worker)
            is_large = job.pace is Pace.LARGE
            worker.channel.send(frames.of_call(job.call, self._lane.asked_bytes if is_large else 0))
            if is_large:
                self._lane.enter(worker)
            if job.pace >= Pace.LONG:
                self._promote(worker)

    def _chosen(self, kind: object) -> Worker:
        """Remove and return an idle worker, the one that did the last job of this kind if it is there."""
        for at, worker in enumerate(self._idle):
            if kind in worker.recent:
                return self._idle.pop(at)
        return self._idle.pop()

    def _promote(self, worker: Worker) -> None:
        """Give a worker one of the places for long work."""
        worker.is_long = True
        self._busy.remove(worker)
        self._long.add(worker)
        self._slow_down(worker)
        self._fill()

    def _slow_down(self, worker: Worker) -> None:
        """Let a worker that computes for long, and does not only wait, stand back behind others from now on."""
        job = worker.job
        assert job is not None
        if not worker.is_nice and (job.pace >= Pace.LONG or _cpu_s(worker.pid) - job.cpu_s >= LONG_S / 2):
            # Without privileges there is no way back: it will be thrown away.
            worker.is_nice = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, worker.pid, _NICE)

    def _look(self, job: Job) -> None:
        """Look at a job that is not done after 100 ms, and again each time."""
        loop = asyncio.get_running_loop()
        if job.future.done():
            return
        if loop.time() >= job.until:
            limit = f"{self._deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
            where = "waited for a worker" if job.worker is None else "took"
            _refuse(job, DeadlineExceededError(f"the request {where} longer than {limit}; it was stopped"))
            self._drop(job, "deadline")
            return
        if job.watch is None:
            job.watch = asyncio.ensure_future(self._watch(job))
        worker = job.worker
        if worker is not None:
            # It counts while it goes on, not only when it is done.
            job.counted_s += LONG_S
            self._shares.note(job.client, LONG_S, time.monotonic())
        if worker is not None and worker.is_long:
            self._slow_down(worker)
        elif worker is not None and self._is_long(job, worker):
            if len(self._long) < self._sizes.long:
                self._promote(worker)
            elif self._is_in_the_way(job, worker):
                self._postpone(job)
        if not job.future.done():
            job.timer = loop.call_at(min(loop.time() + LONG_S, job.until), self._look, job)

    def _is_long(self, job: Job, worker: Worker) -> bool:
        """Return whether a job is long: one that has hardly computed, on a busy machine or waiting, has more time."""
        elapsed_s = time.monotonic() - job.started
        return elapsed_s >= (_LONG_WALL_S if _cpu_s(worker.pid) - job.cpu_s >= LONG_S / 4 else _LONG_WAIT_S)

    def _is_in_the_way(self, job: Job, worker: Worker) -> bool:
        """Return whether others wait for a worker while a job computes, and does not only wait for the store.

        A job whose answer waits for room is in the way too.
        """
        are_waiting = self._queues.count(Pace.SHORT) or self._queues.count(Pace.UNKNOWN)
        is_at_work = worker.is_offering or _cpu_s(worker.pid) - job.cpu_s >= LONG_S / 2
        return bool(are_waiting) and is_at_work

    def _postpone(self, job: Job) -> None:
        """Stop work that turned out to be long, for which there is no place, and let it wait for one."""
        self._drop(job, "postponed")
        self._wait_again(job, Pace.LONG)

    def _wait_again(self, job: Job, pace: Pace) -> None:
        """Let a job wait whose work was stopped, for a place of another kind."""
        self._paces.set(job.kind, pace)
        job.pace = pace
        if job.call.is_repeatable:
            self._push(job)
        else:
            detail = "all places for long work are taken (setting PULLBACK_MAX_LONG_WORKERS)"
            _refuse(job, OverloadedError(detail, self._wait_s(pace)))

    async def _watch(self, job: Job) -> None:
        """Drop a job whose client goes away."""
        while (await job.receive())["type"] != "http.disconnect":
            pass
        # Work that is done soon is cheaper than a new process.
        while job.worker is not None and time.monotonic() - job.started < LONG_S:
            await asyncio.sleep(LONG_S / 4)
        if not job.future.done():
            _refuse(job, ClientDisconnect())
            self._drop(job, "gone")

    def _drop(self, job: Job, reason: str) -> None:
        """Stop working on a job, or take it out of its queue."""
        worker = job.worker
        if worker is None:
            with contextlib.suppress(ValueError, KeyError):
                self._queues.remove(job)
            return
        worker.job, job.worker = None, None
        self._charge_elapsed(job)
        self._retire(worker, reason)

    def _charge_elapsed(self, job: Job) -> None:
        """Charge work whose process has not lived to say what it took."""
        self._charge(job, time.monotonic() - job.started)

    def _charge(self, job: Job, seconds: float) -> None:
        """Charge the processor time of a job that is done, or was stopped."""
        held_s = time.monotonic() - job.started
        # What turned out to be long has left its place to others.
        pace = job.pace if held_s < LONG_S else max(job.pace, Pace.LONG)
        self._queues.means[pace].note(held_s)
        self.charge(job.client, seconds)
        self._shares.note(job.client, seconds - job.counted_s, time.monotonic())
        job.counted_s = 0.0


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process, in seconds; 0 if it has ended."""
    with contextlib.suppress(OSError):
        # The clock of a process, as Linux numbers them (clock_getcpuclockid).
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def _refuse(job: Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
