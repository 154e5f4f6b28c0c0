"""Processes of the server that somebody kills."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from tests.chaos.attack import Aim, attack
from tests.chaos.attacks.programs import evaluate
from tests.chaos.footprint import children


async def _busy(aim: Aim) -> None:
    await aim.flood(8, lambda number: evaluate(f"sum(cumulative_sum(sin(broadcast_to(x * {number}.5, [200000]))))"))


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# Whoever is worked on by a process that is killed has to ask again.
@attack(lost=0.3, small_ms=1000)
async def killed_workers(aim: Aim) -> None:
    """A process of the server that forks no others is killed five times a second, under load."""

    async def kill() -> None:
        while aim.is_on():
            workers = [pid for zygote in children(aim.pid) for pid in children(zygote)]
            if workers:
                _kill(workers[int(aim.now() * 5) % len(workers)])
                aim.outcomes["killed"] += 1
            await asyncio.sleep(0.2)

    await asyncio.gather(_busy(aim), kill())


# A new one imports everything, which takes a second and more.
@attack(lost=0.5, small_ms=4000)
async def killed_zygote(aim: Aim) -> None:
    """The process that forks workers is killed once, in the middle of load."""

    async def kill() -> None:
        await asyncio.sleep(aim.seconds / 4)
        for zygote in children(aim.pid):
            _kill(zygote)
            aim.outcomes["killed"] += 1

    await asyncio.gather(_busy(aim), kill())
