"""What all calls with a program have in common: bytes in, checked, run where it belongs, bytes out."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from app.limits import DeadlineExceededError, Workers
from app.settings import Settings
from app.wire import media
from engine.graph.cost import Cost

#: Python's share of an operation, in floating-point operations that NumPy does meanwhile.
_FLOPS_PER_NODE = 500
_BYTES_PER_FLOP = 8


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was checked: what running it costs, and how to; `run` gives the answer's bytes."""

    cost: Cost
    run: Callable[[], bytes]

    @property
    def flops(self) -> int:
        """All of the cost in one figure: time goes into operations, into the memory of results, and into Python."""
        return self.cost.flops + self.cost.bytes // _BYTES_PER_FLOP + self.cost.nodes * _FLOPS_PER_NODE


async def answer(request: Request, read: Callable[[bytes, Settings], Call]) -> Response:
    """The answer to a request.

    What is tiny is done at once, for handing it to a thread would cost more than doing it; all else runs on a thread.

    Args:
        request: whose body is not yet read.
        read: checks a body and says what running it costs.
    """
    settings: Settings = request.app.state.settings
    workers: Workers = request.app.state.workers
    try:
        async with asyncio.timeout(settings.deadline_s):
            body = await media.read_body(request, settings.max_body_bytes)
    except TimeoutError:
        limit = f"{settings.deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
        raise DeadlineExceededError(f"the body did not arrive within {limit}") from None
    media.check_content(request)
    media.check_accept(request)
    if len(body) > settings.tiny_bytes:
        content = await workers.run(lambda: read(body, settings).run())
    else:
        call = read(body, settings)
        content = call.run() if call.flops <= settings.tiny_flops else await workers.run(call.run)
    return Response(content, media_type=media.JSON)
