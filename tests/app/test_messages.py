"""Requests and answers as plain data, and asking an ASGI application without an event loop."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from starlette.responses import Response

from app.http.messages import Answer, Call, Measure, ask, ask_at_once, new_answer

CALL = Call("POST", "/v1/x", b"a=1", [(b"accept", b"a"), (b"accept", b"b")], "10.0.0.1", "id", b"body")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked."""
    message = await receive()
    assert message == {"type": "http.request", "body": CALL.body, "more_body": False}
    assert scope["state"]["call"] is CALL
    words = [scope["method"], scope["root_path"], scope["path"], scope["query_string"].decode(), scope["client"][0]]
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": " ".join(words).encode(), "more_body": True})
    await send({"type": "http.response.body"})


def test_both_ways_of_asking_agree() -> None:
    expected = Answer(201, [(b"x-own", b"1")], b"POST  /v1/x a=1 10.0.0.1")
    assert ask_at_once(echo, CALL) == asyncio.run(ask(echo, CALL)) == expected


def test_an_application_may_be_told_where_it_is() -> None:
    assert asyncio.run(ask(echo, CALL, "/api")).body == b"POST /api /api/v1/x a=1 10.0.0.1"


def test_an_application_that_waits_is_refused_and_ended() -> None:
    """It is not left hanging either: what it holds is given back before its caller goes on."""
    ended = []

    class Never:
        def __await__(self) -> Any:
            yield "nothing will ever come of this"

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        try:
            await Never()
        finally:
            ended.append(True)

    with pytest.raises(RuntimeError, match=r"POST /v1/x waits for something, which a worker cannot"):
        ask_at_once(waits, CALL)
    assert ended == [True]


def test_an_application_that_waits_on_a_loop_is_refused_as_well() -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        with pytest.raises(RuntimeError, match="waits for something"):
            ask_at_once(waits, CALL)

    asyncio.run(run())


def test_what_an_application_raises_is_raised() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        ask_at_once(broken, CALL)


def test_headers_that_stand_there_twice() -> None:
    assert (CALL.values(b"accept"), CALL.value(b"accept")) == (["a", "b"], "a,b")
    assert (CALL.values(b"origin"), CALL.value(b"origin")) == ([], "")


def test_answers_are_plain_data() -> None:
    answer = new_answer(b"{}", "application/json", 201, {"Location": "/v1/programs/p_1"})
    assert answer == Answer(
        201,
        [(b"content-length", b"2"), (b"content-type", b"application/json"), (b"location", b"/v1/programs/p_1")],
        b"{}",
    )
    measured = answer._replace(measure=Measure(0.5, True, 7, 0.25))
    assert pickle.loads(pickle.dumps((CALL, measured))) == (CALL, measured)


@pytest.mark.parametrize("answer", [new_answer(b"{}", "text/plain", 200, {"Vary": "Accept"}), Answer(204, [], b"")])
def test_answers_are_responses_of_starlette(answer: Answer) -> None:
    found = answer.response()
    assert isinstance(found, Response)
    assert (found.status_code, found.raw_headers, found.body) == answer[:3]
