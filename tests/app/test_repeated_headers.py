"""Headers that a request has several times: each of them counts, and a worker looks at them."""

import gzip

import pytest

from tests.app.hot import Sent, ask, ask_all, new_app, sent

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
    app, reference = new_app(), new_app(prepared_requests=0)
    ask_all(app, [QUICKSTART] * 5)
    for body in (QUICKSTART.body, gzip.compress(QUICKSTART.body), gzip.compress(gzip.compress(QUICKSTART.body))):
        request = with_headers(*headers, body=body)
        answer = ask(app, request)
        assert answer == ask(app, request) == ask(reference, request)
        assert (answer.status, answer.document["type"]) == (415, "/problems/unsupported-media-type")
        for word in words:
            assert word in answer.document["detail"]
    assert app.inline.answered == 3


@pytest.mark.parametrize("again", [(JSON_TYPE,), ((b"content-encoding", b""),), ((b"content-encoding", b" , "),)])
def test_what_says_the_same_again_is_read(again: tuple[tuple[bytes, bytes], ...]) -> None:
    app, reference = new_app(), new_app(prepared_requests=0)
    request = with_headers(JSON_TYPE, *again)
    assert ask_all(app, [request] * 4) == ask_all(reference, [request] * 4)
    assert ask(app, request).document["values"] == {"out": 1.648721270700128}
    # An empty one says nothing, and stands there once.
    assert app.inline.answered == (3 if again == ((b"content-encoding", b""),) else 0)


HTML, ANY = (b"accept", b"text/html"), (b"accept", b"*/*")
MSGPACK, PLAIN = (b"accept", b"application/msgpack"), (b"accept", b"application/json;q=0.5")
COMPRESSED, NEVER_PLAIN = (b"accept-encoding", b"gzip"), (b"accept-encoding", b"identity;q=0")


@pytest.mark.parametrize(
    ("headers", "status", "content_type", "coding"),
    [
        ((HTML,), 406, b"application/problem+json", None),
        ((HTML, ANY), 200, b"application/json", None),
        ((ANY, HTML), 200, b"application/json", None),
        ((PLAIN, MSGPACK), 200, b"application/msgpack", None),
        ((HTML, MSGPACK), 200, b"application/msgpack", None),
        ((MSGPACK, PLAIN), 200, b"application/msgpack", None),
        ((NEVER_PLAIN,), 406, b"application/problem+json", None),
        ((NEVER_PLAIN, COMPRESSED), 200, b"application/json", b"gzip"),
        ((COMPRESSED, NEVER_PLAIN), 200, b"application/json", b"gzip"),
    ],
    ids=str,
)
def test_each_of_them_counts(
    headers: tuple[tuple[bytes, bytes], ...], status: int, content_type: bytes, coding: bytes | None
) -> None:
    app, reference = new_app(), new_app(prepared_requests=0)
    # The first of them alone is answered from what is known.
    ask_all(app, [QUICKSTART] * 5 + [with_headers(JSON_TYPE, headers[0])] * 5)
    known = app.inline.answered
    request = with_headers(JSON_TYPE, *headers)
    answers = ask_all(app, [request] * 4)
    assert answers == ask_all(reference, [request] * 4)
    found = dict(answers[0].headers)
    assert (answers[0].status, found[b"content-type"], found.get(b"content-encoding")) == (status, content_type, coding)
    assert app.inline.answered == known or len(headers) == 1


def test_the_first_id_and_the_first_origin_count() -> None:
    for workers in (False, True):
        app = new_app(cors_origins=("https://a.example", "https://b.example"), tiny_bytes=0 if workers else 1024)
        origins = [(b"origin", b"https://%s.example" % name) for name in (b"a", b"b")]
        request = Sent(QUICKSTART.path, QUICKSTART.body, (JSON_TYPE, ID, (b"x-request-id", b"other"), *origins))
        for answer in ask_all(app, [request] * 4):
            found = dict(answer.headers)
            assert found[b"x-request-id"] == b"same"
            assert found[b"access-control-allow-origin"] == b"https://a.example"
