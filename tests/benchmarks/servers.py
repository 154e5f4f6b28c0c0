"""What our server stands beside: the quickstart by hand in FastAPI with pydantic, and in ASGI with nothing else."""

import math
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel


def by_hand(x: float) -> tuple[float, float]:
    """Value and gradient of square(exp(square(x)))."""
    y = math.exp(x * x)
    return y * y, 4.0 * x * y * y


class Request(BaseModel):
    """The same request as ours."""

    expr: str
    inputs: dict[str, float]
    backward: bool = False


class Answer(BaseModel):
    """Ours, but for the program's id."""

    values: dict[str, float]
    grads: dict[str, float]


pydantic = FastAPI()


@pydantic.post("/v1/evaluate")
async def evaluate(request: Request) -> Answer:
    value, gradient = by_hand(request.inputs["x"])
    return Answer(values={"out": value}, grads={"x": gradient})


@pydantic.get("/readyz")
async def readyz() -> None:
    """Serves."""


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The quickstart at one path; at /echo, what was sent."""
    if scope["method"] == "GET":
        await respond(send, b"")
        return
    message = await receive()
    pieces = [message["body"]]
    while message["more_body"]:
        message = await receive()
        pieces.append(message["body"])
    body = b"".join(pieces)
    if scope["path"] == "/echo":
        await respond(send, body)
        return
    value, gradient = by_hand(orjson.loads(body)["inputs"]["x"])
    await respond(send, orjson.dumps({"values": {"out": value}, "grads": {"x": gradient}}))


async def respond(send: Any, body: bytes) -> None:
    """A whole response."""
    length = b"%d" % len(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
