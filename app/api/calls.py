"""What all calls with a program have in common: bytes in, checked, run where it belongs, bytes out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response

from app.api.replies import answer_type, reply
from app.limits import DeadlineExceededError, Workers
from app.programs.registry import Registry
from app.settings import Settings
from app.wire import bodies, compression, media
from app.wire.codecs import Message
from app.wire.schemas import PROGRAM_KEYS, ProgramSource, check
from engine.core import InvalidValueError

#: What a body has in it that is not tiny however short it is: registered programs are read and written, and derivatives
#: of derivatives grow. An escape may spell any of these.
_NEVER_TINY = {
    media.JSON: (b'"program"', b'"create_graph"', b'"order"', b'"grad"', b"grad(", b"grad (", b"\\u"),
    media.MSGPACK: (b"program", b"create_graph", b"order", b"grad"),
}

Model = TypeVar("Model", bound=ProgramSource)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was checked: the weight of running it, and how to; `run` gives the answer's bytes."""

    weight: int
    run: Callable[[], bytes]


async def answer(
    request: Request, read: Callable[[Message, Settings, Registry], Call], *, is_light: bool = True
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
    message = await receive(request)
    body, marks = message.body, _NEVER_TINY[message.media_type]
    if not is_light or len(body) > settings.tiny_bytes or any(mark in body for mark in marks):
        content = await workers.run(lambda: read(message, settings, registry).run())
    else:
        call = read(message, settings, registry)
        content = call.run() if call.weight <= settings.tiny_flops else await workers.run(call.run)
    return await reply(request, content, message.answer_type)


async def receive(request: Request, spoken: Sequence[str] = media.SPOKEN) -> Message:
    """The body of a request, inflated, in a media type that is `spoken`, whose answer can be written."""
    settings: Settings = request.app.state.settings
    try:
        async with asyncio.timeout(settings.deadline_s):
            body = await bodies.read_body(request, settings.max_body_bytes)
    except TimeoutError:
        limit = f"{settings.deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
        raise DeadlineExceededError(f"the body did not arrive within {limit}") from None
    coding = compression.request_coding(",".join(request.headers.getlist("content-encoding")))
    media_type = media.request_type(*request.headers.getlist("content-type"), spoken=spoken)
    wanted = answer_type(request, media_type if media_type in media.SPOKEN else media.JSON)
    if coding != compression.IDENTITY:
        workers: Workers = request.app.state.workers
        packed = body
        body = await workers.run(lambda: compression.inflate(packed, coding, settings.max_body_bytes))
    return Message(body, media_type, wanted)


def checked(model: type[Model], message: Message, settings: Settings, registry: Registry) -> Model:
    """The body as a request; raises what `validated` raises."""
    return validated(model, message.document(settings.max_depth), message.answer_type, registry)


def validated(model: type[Model], document: Any, answer_type: str, registry: Registry) -> Model:
    """A document as a request.

    Raises:
        UnknownProgramError: it names a program that is not there, which goes before all else that is wrong with it.
        InvalidValueError: with every field that is wrong.
    """
    try:
        return check(model, document, answer_type)
    except InvalidValueError:
        if isinstance(document, dict) and [key for key in PROGRAM_KEYS if key in document] == ["program"]:
            named = document["program"]
            if isinstance(named, str):
                registry.resolve(named)
        raise
