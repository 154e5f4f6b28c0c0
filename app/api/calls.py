"""What all calls with a program have in common: bytes in, checked, run where it belongs, bytes out."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from fastapi.responses import Response

from app.limits import DeadlineExceededError, Workers
from app.registry import Registry
from app.settings import Settings
from app.wire import media
from app.wire.document import parse
from app.wire.schemas import PROGRAM_KEYS, ProgramSource, check
from engine.errors import InvalidValueError
from engine.graph.cost import Cost

#: Python's share of an operation, in floating-point operations that NumPy does meanwhile.
_FLOPS_PER_NODE = 500
_BYTES_PER_FLOP = 8
#: What a body has in it that is not tiny however short it is: registered programs are read and written, and derivatives
#: of derivatives grow. An escape may spell any of these.
_NEVER_TINY = (b'"program"', b'"create_graph"', b'"order"', b'"grad"', b"grad(", b"grad (", b"\\u")

Model = TypeVar("Model", bound=ProgramSource)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was checked: what running it costs, and how to; `run` gives the answer's bytes."""

    cost: Cost
    run: Callable[[], bytes]

    @property
    def flops(self) -> int:
        """All of the cost in one figure: time goes into operations, into the memory of results, and into Python."""
        return self.cost.flops + self.cost.bytes // _BYTES_PER_FLOP + self.cost.nodes * _FLOPS_PER_NODE


async def answer(
    request: Request, read: Callable[[bytes, Settings, Registry], Call], *, is_light: bool = True
) -> Response:
    """The answer to a request.

    What is tiny is done at once, for handing it to a thread would cost more than doing it; all else runs on a thread.

    Args:
        request: whose body is not yet read.
        read: checks a body and says what running it costs.
        is_light: whether what is short may be tiny; else all runs on a thread.
    """
    settings: Settings = request.app.state.settings
    workers: Workers = request.app.state.workers
    registry: Registry = request.app.state.registry
    body = await receive(request)
    if not is_light or len(body) > settings.tiny_bytes or any(mark in body for mark in _NEVER_TINY):
        content = await workers.run(lambda: read(body, settings, registry).run())
    else:
        call = read(body, settings, registry)
        content = call.run() if call.flops <= settings.tiny_flops else await workers.run(call.run)
    return Response(content, media_type=media.JSON)


async def receive(request: Request) -> bytes:
    """The body of a request that is JSON and wants JSON."""
    settings: Settings = request.app.state.settings
    try:
        async with asyncio.timeout(settings.deadline_s):
            body = await media.read_body(request, settings.max_body_bytes)
    except TimeoutError:
        limit = f"{settings.deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
        raise DeadlineExceededError(f"the body did not arrive within {limit}") from None
    media.check_content(request)
    media.check_accept(request)
    return body


def checked(model: type[Model], body: bytes, settings: Settings, registry: Registry) -> Model:
    """The body as a request.

    Raises:
        UnknownProgramError: it names a program that is not there, which goes before all else that is wrong with it.
        InvalidValueError: with every field that is wrong.
    """
    document = parse(body, settings.max_depth)
    try:
        return check(model, document)
    except InvalidValueError:
        if isinstance(document, dict) and [key for key in PROGRAM_KEYS if key in document] == ["program"]:
            named = document["program"]
            if isinstance(named, str):
                registry.check(named)
        raise
