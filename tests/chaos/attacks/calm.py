"""No attack at all, which is what the others are compared with. Where this one fails, the machine is too busy."""

from __future__ import annotations

import asyncio

from tests.chaos.attack import Aim, attack


@attack()
async def calm(aim: Aim) -> None:
    """Nothing: what honest clients see without an attack, on this machine and now."""
    await asyncio.sleep(aim.seconds)
