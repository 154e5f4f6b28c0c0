"""Calls of the server with arrays in them, and the problems that it answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from tests.app.test_contract import decode, packed
from tests.app.test_malformed import assert_says, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.app.conftest import Server

STATUS = {
    "unknown-path": 404,
    "method-not-allowed": 405,
    "unknown-program": 404,
    "name-conflict": 409,
    "limit-exceeded": 413,
    "deadline-exceeded": 504,
}
UNPROCESSABLE = 422


def sendable(document: Any) -> Any:
    """`document` with every array in it as an array object."""
    match document:
        case dict():
            return {key: sendable(item) for key, item in document.items()}
        case list() | tuple():
            return [sendable(item) for item in document]
        case np.ndarray():
            return packed(document)
    return document


def received(document: Any) -> Any:
    """`document` with an array in place of every array object that has base64."""
    match document:
        case {"base64": _}:
            return decode(document)
        case dict():
            return {key: received(item) for key, item in document.items()}
        case list():
            return [received(item) for item in document]
    return document


def ask(server: Server, path: str, **request: Any) -> Any:
    """The answer to a request that has to succeed; arrays travel bit for bit both ways."""
    return received(server.ask(path, **sendable(request), encoding="base64"))


def evaluate(server: Server, **request: Any) -> Any:
    """The answer of `/v1/evaluate`, with arrays."""
    return ask(server, "/v1/evaluate", **request)


def assert_close(actual: Any, expected: Any, rtol: float = 1e-12) -> None:
    """Both have the same keys, lengths and shapes all the way down, and the same numbers within `rtol`."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, item in expected.items():
            assert_close(actual[key], item, rtol)
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for left, right in zip(actual, expected, strict=True):
            assert_close(left, right, rtol)
    else:
        assert np.shape(actual) == np.shape(expected)
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol)


def problem_text(response: httpx.Response, slugs: str, words: Iterable[str] = ()) -> str:
    """All that a problem tells its reader; it has to be one of `slugs` (separated by |) and to say `words`."""
    assert response.headers["content-type"].split(";")[0] == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    slug = problem["type"].rpartition("/problems/")[2]
    assert slug in slugs.split("|"), problem
    assert response.status_code == problem["status"] == STATUS.get(slug, UNPROCESSABLE)
    assert problem["title"] and problem["detail"]
    assert problem["errors"] or problem["status"] != UNPROCESSABLE
    assert problem["request_id"] == response.headers["x-request-id"]
    text = words_of(problem)
    for word in words:
        assert_says(text, word)
    return text


def refused(server: Server, slugs: str, words: str, path: str, **request: Any) -> str:
    """The text of the problem that a POST of `request` is answered with; `words` are separated by spaces."""
    return problem_text(server.client.post(path, json=sendable(request)), slugs, words.split())
