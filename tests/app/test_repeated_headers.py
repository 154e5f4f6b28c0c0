"""Headers that a request has several times: each of them counts, on the hot path and past it."""

import gzip

import pytest

from tests.app.hot import Sent, ask, new_app, sent

QUICKSTART = sent("/v1/evaluate", {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True})
JSON_TYPE, OTHER_TYPE = (b"content-type", b"application/json"), (b"content-type", b"application/msgpack")
GZIP, ZSTD = (b"content-encoding", b"gzip"), (b"content-encoding", b"zstd")
NO_CODING = (b"content-encoding", b"identity")
ID = (b"x-request-id", b"same")


def with_headers(*headers: tuple[bytes, bytes], body: bytes = QUICKSTART.body) -> Sent:
    return Sent(QUICKSTART.path, body, (*headers, ID))


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((JSON_TYPE, OTHER_TYPE), ["application/json", "application/msgpack", "expected one"]),
        ((OTHER_TYPE, JSON_TYPE), ["application/json", "application/msgpack", "expected one"]),
        ((JSON_TYPE, (b"content-type", b"text/plain")), ["text/plain", "expected one"]),
        ((JSON_TYPE, (b"content-type", b"")), ["application/json", "expected one"]),
        (((b"content-type", b"application/json, application/json"),), ["application/json, application/json"]),
        ((JSON_TYPE, GZIP, GZIP), ["gzip,gzip", "once"]),
        ((JSON_TYPE, GZIP, ZSTD), ["gzip,zstd", "once"]),
        ((JSON_TYPE, NO_CODING, GZIP), ["identity,gzip", "once"]),
        ((JSON_TYPE, GZIP, (b"content-encoding", b"br")), ["gzip,br", "gzip", "zstd"]),
        ((JSON_TYPE, (b"content-encoding", b"gzip, gzip")), ["gzip, gzip", "once"]),
    ],
    ids=str,
)
def test_what_contradicts_is_unsupported(headers: tuple[tuple[bytes, bytes], ...], words: list[str]) -> None:
    app = new_app()
    for body in (QUICKSTART.body, gzip.compress(QUICKSTART.body), gzip.compress(gzip.compress(QUICKSTART.body))):
        request = with_headers(*headers, body=body)
        ask(app, QUICKSTART)
        answer = ask(app, request)
        assert answer == ask(app, request)
        assert (answer.status, answer.document["type"]) == (415, "/problems/unsupported-media-type")
        for word in words:
            assert word in answer.document["detail"]


@pytest.mark.parametrize("again", [(JSON_TYPE,), ((b"content-encoding", b""),), ((b"content-encoding", b" , "),)])
def test_what_says_the_same_again_is_read(again: tuple[tuple[bytes, bytes], ...]) -> None:
    app = new_app()
    request = with_headers(JSON_TYPE, *again)
    assert ask(app, request) == ask(app, request) == ask(app, request)
    assert ask(app, request).document["values"] == {"out": 1.648721270700128}
