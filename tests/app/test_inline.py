"""The event loop answers what was measured as cheap, with the same bytes as a worker, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.http.inline import LONGEST_BODY
from app.http.preparations import Hit
from app.main import Pullback
from app.wire import examples
from app.wire.media import JSON, MSGPACK
from tests.app.hot import Document, Sent, ask, ask_all, but_for_signs_of_nan, new_app, sent
from tests.sampling import examples as tried

EXAMPLES: dict[str, tuple[str, Document]] = {
    f"{path} {name}": (f"/v1/{path}", example["value"])
    for path, group in (
        ("evaluate", examples.EVALUATE),
        ("vjp", examples.VJP),
        ("jvp", examples.JVP),
        ("jacobian", examples.JACOBIAN),
        ("hessian", examples.HESSIAN),
        ("hvp", examples.HVP),
    )
    for name, example in group.items()
}
REGISTERED = {"evaluate program"}
STORING = {"evaluate create_graph"}
KEPT = [name for name in EXAMPLES if name not in REGISTERED | STORING]
QUICKSTART = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True}
MEDIA = (JSON, MSGPACK)
#: Bodies that ask what QUICKSTART asks, but for which a worker has to look: too long, deep, or with a key twice.
UNUSUAL = [
    json.dumps(QUICKSTART).encode() + b" " * (LONGEST_BODY + 1),
    json.dumps(QUICKSTART | {"inputs": {"x": [[]] * 65}}).encode(),
    json.dumps(QUICKSTART).replace('"x"', '"x": 1, "x"').encode(),
    json.dumps(QUICKSTART).replace('"expr"', '"expr": "x", "expr"').encode(),
    json.dumps(QUICKSTART).replace('"x"', '"\\u0078"').encode(),
]


def with_programs(**settings: Any) -> Pullback:
    """An application that has the programs which the examples name."""
    app = new_app(**settings)
    for example in examples.REGISTER.values():
        assert ask(app, sent("/v1/programs", example["value"])).status in (200, 201)
    return app


@pytest.fixture(scope="module")
def hot() -> Pullback:
    return with_programs()


@pytest.fixture(scope="module")
def cold() -> Pullback:
    """Nothing is kept here: each request is checked from the beginning."""
    return with_programs(prepared_requests=0)


def answered(app: Pullback, request: Sent) -> int:
    """Return how often the event loop answers this request itself."""
    before = app.inline.answered
    ask(app, request)
    found: int = app.inline.answered - before
    return found


@pytest.mark.parametrize("media_type", MEDIA)
@pytest.mark.parametrize("name", KEPT)
def test_what_was_asked_before_is_answered_at_once(cold: Pullback, name: str, media_type: str) -> None:
    app = with_programs()
    path, document = EXAMPLES[name]
    request = sent(path, document, media_type)
    assert [answered(app, request) for _ in range(5)] == [0, 0, 1, 1, 1]
    assert ask(app, request) == ask(cold, request)
    assert len(app.service.preparations.kept) == len(app.inline.preparations.kept) == 1


@pytest.mark.parametrize("name", sorted(REGISTERED | STORING))
def test_what_concerns_the_store_is_never_answered_at_once(cold: Pullback, name: str) -> None:
    app = with_programs()
    request = sent(*EXAMPLES[name])
    assert [answered(app, request) for _ in range(4)] == [0, 0, 0, 0]
    assert ask(app, request) == ask(cold, request)
    assert len(app.service.preparations.kept) == (name in REGISTERED)
    assert not len(app.inline.preparations.kept)


def test_values_encodings_and_seeds_are_not_part_of_a_question() -> None:
    app = new_app()
    dropout: Document = {"expr": "dropout(x, 0.5)", "inputs": {"x": [1, 2, 3, 4]}, "train": True}
    requests = [sent("/v1/evaluate", {**dropout, "seed": seed, "encoding": "flat"}) for seed in range(5)]
    requests += [sent("/v1/evaluate", {**dropout, "seed": 7, "inputs": {"x": [i, -i, 0.5, i]}}) for i in range(5)]
    assert sum(answered(app, request) for request in requests) == 8
    reference = new_app(prepared_requests=0)
    assert ask_all(app, requests) == ask_all(reference, requests)


# Both ways

numbers = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70)
    | st.integers(-3, 3)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", True, None, "text", 0.5, -0.0, 1e39])
)


@st.composite
def like(draw: st.DrawFn, value: Any) -> Any:
    """A value much like another: mostly of the same form."""
    if isinstance(value, list) and draw(st.integers(0, 9)):
        return [draw(like(item)) for item in value]
    if isinstance(value, dict) and draw(st.integers(0, 5)):
        return {**value, **({"data": draw(like(value["data"]))} if "data" in value else {})}
    return draw(st.floats(-4, 4) if draw(st.integers(0, 5)) else numbers)


JUNK = st.sampled_from([None, True, 0, 1.5, "x", [], {}, ["x"], {"x": 1}, "all", "binary", "flat", -1, 2**64])
FIELDS = "expr graph program inputs outputs backward nograd train seed batched encoding wrt of many tangents".split()


@st.composite
def variants(draw: st.DrawFn) -> tuple[str, Document, Document]:
    """A path, a request that is right, and one like it: of other values, or not right at all."""
    path, document = EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))]
    varied = dict(document)
    for field in ("inputs", "cotangents", "tangents", "vectors"):
        if field in varied:
            varied[field] = {name: draw(like(value)) for name, value in varied[field].items()}
    if isinstance(varied.get("backward"), dict) and "cotangent" in varied["backward"]:
        cotangent = draw(like(varied["backward"]["cotangent"]))
        varied["backward"] = {**varied["backward"], "cotangent": cotangent}
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        field = draw(st.sampled_from([*FIELDS, *document, "unknown"]))
        if draw(st.booleans()):
            varied[field] = draw(JUNK)
        else:
            varied.pop(field, None)
    return path, document, varied


ACCEPTED = st.sampled_from([b"", b"*/*", b"application/json", b"application/msgpack", b"text/html", b"*/*, x/y;q=0"])
CODINGS = st.sampled_from([b"", b"gzip", b"identity;q=0, gzip", b"identity;q=0"])


@st.composite
def spellings(draw: st.DrawFn, document: Document) -> bytes:
    """JSON of a document, with spaces, escapes, keys twice and bad ends."""
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 0, 1])))
    match draw(st.integers(0, 12)):
        case 0:
            text = text.replace('"x"', '"x": 1, "x"')
        case 1:
            text = text.replace(":", "\\u003a", 1)
        case 2:
            text = text.replace('{"', '{"expr": "x:y", "', 1)
        case 3:
            text = text.replace("x", "\\u0078")
        case 4:
            text = text[: draw(st.integers(0, len(text)))]
        case 5:
            text = text.replace("[", "[" * draw(st.integers(1, 120)))
        case 6:
            text = text + draw(st.sampled_from([" ", "x", "{}", "\x00"]))
        case 7:
            text = text.replace('"inputs"', draw(st.sampled_from(['"inputs": {}, "inputs"', '"in:puts": 1, "inputs"'])))
    return text.encode()


@pytest.mark.sampled(one_in=3)
@given(st.data())
@settings(max_examples=tried(400), derandomize=True, suppress_health_check=list(HealthCheck))
def test_both_ways_agree(hot: Pullback, cold: Pullback, data: st.DataObject) -> None:
    path, right, varied = data.draw(variants())
    media_type, accept, coding = data.draw(st.sampled_from(MEDIA)), data.draw(ACCEPTED), data.draw(CODINGS)
    headers = [(name, value) for name, value in ((b"accept", accept), (b"accept-encoding", coding)) if value]
    ask_all(hot, [sent(path, right, media_type, *headers)] * 3)
    try:
        request = sent(path, varied, media_type, *headers)
    except (TypeError, OverflowError):
        # An integer that this media type has no form for.
        request = sent(path, right, media_type, *headers)
    if media_type == JSON:
        body = data.draw(spellings(varied))
        request = Sent(path, body, (*request.headers[:-1], (b"content-length", b"%d" % len(body))))
    expected = ask(cold, request)
    for found in ask_all(hot, [request] * 2):
        assert found == expected or but_for_signs_of_nan(found) == but_for_signs_of_nan(expected)


# What is not its business


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "GET"},
        {"method": "HEAD"},
        {"method": "OPTIONS"},
        {"method": "PUT"},
        {"path": "/v1/evaluat"},
        {"path": "/v1/infer"},
        {"path": "/v1/check"},
        {"pieces": 3},
        {"body": b""},
        {"body": b"{"},
        {"headers": ()},
        {"headers": ((b"content-type", b"application/json"), (b"content-type", b"application/json"))},
        {"headers": ((b"content-type", b"application/json"), (b"expect", b"100-continue"))},
        {"headers": ((b"content-type", b"application/json"), (b"content-length", b"99999999999"))},
        {"headers": ((b"content-type", b"application/json"), (b"content-encoding", b"gzip"))},
        {"headers": ((b"content-type", b"application/json"), (b"accept", b"text/html"))},
        {"headers": ((b"content-type", b"application/json"), (b"accept", b"*/*"), (b"accept", b"text/html"))},
        {"headers": ((b"content-type", b"application/json"), (b"accept-encoding", b"identity;q=0"))},
        {"headers": ((b"content-type", b"text/plain"),)},
        *({"body": body, "headers": ((b"content-type", b"application/json"),)} for body in UNUSUAL),
    ],
    ids=str,
)
def test_what_is_unusual_is_handed_on(hot: Pullback, cold: Pullback, changed: Document) -> None:
    request = sent("/v1/evaluate", QUICKSTART)
    ask_all(hot, [request] * 5)
    assert answered(hot, request) == 1
    fields = {name: getattr(request, name) for name in ("path", "body", "headers", "method", "pieces")}
    fields |= changed
    fields["headers"] = (*(h for h in fields["headers"] if h[0] != b"x-request-id"), (b"x-request-id", b"same"))
    unusual = Sent(**fields)
    assert [answered(hot, unusual) for _ in range(4)] == [0, 0, 0, 0]
    assert ask(hot, unusual) == ask(cold, unusual)


def test_bodies_are_held_to_their_limit_here_as_well() -> None:
    app = new_app(max_body_bytes=50)
    for request in (sent("/v1/evaluate", QUICKSTART), Sent("/v1/evaluate", sent("", QUICKSTART).body, pieces=3)):
        refused = ask(app, request)
        assert (refused.status, refused.document["type"]) == (413, "/problems/body-too-large")
    assert not app.pool.calls
    small = sent("/v1/evaluate", {"expr": "x", "inputs": {"x": 1}})
    assert [answered(app, small) for _ in range(3)] == [0, 0, 1]


def test_depth_below_what_values_may_have_leaves_all_to_the_application() -> None:
    app = new_app(max_depth=20)
    request = sent("/v1/evaluate", QUICKSTART)
    assert [answered(app, request) for _ in range(4)] == [0, 0, 0, 0]


def test_origins_and_request_ids_are_as_the_application_has_them() -> None:
    origin = "https://sheet.example"
    app, reference = new_app(cors_origins=(origin,)), new_app(cors_origins=(origin,), prepared_requests=0)
    for sender in (origin, "https://other.example"):
        request = sent("/v1/evaluate", QUICKSTART, JSON, (b"origin", sender.encode()))
        answers = ask_all(app, [request] * 5)
        assert answers == ask_all(reference, [request] * 5)
        assert ((b"access-control-allow-origin", origin.encode()) in answers[0].headers) == (sender == origin)
    assert app.inline.answered == 8
    bad = Sent("/v1/evaluate", request.body, ((b"content-type", b"application/json"), (b"x-request-id", b"a b")))
    ids = {dict(answer.headers)[b"x-request-id"] for answer in ask_all(app, [bad] * 600)}
    assert len(ids) == 600 and all(len(name) == 16 for name in ids)


# What may change between two requests


def test_a_name_that_moves_and_a_program_that_goes_are_seen_at_once() -> None:
    app = new_app()
    call = sent("/v1/evaluate", {"program": "f", "inputs": {"x": 3.0}})

    def register(expr: str) -> str:
        answer = ask(app, sent("/v1/programs", {"expr": expr, "name": "f", "replace": True}))
        found: str = answer.document["id"]
        return found

    def value() -> Any:
        return [answer.document["values"] for answer in ask_all(app, [call] * 3)]

    register("x * 2")
    assert value() == [{"out": 6.0}] * 3
    second = register("x * 5")
    assert value() == [{"out": 15.0}] * 3
    register("x * 2")
    assert value() == [{"out": 6.0}] * 3
    by_id = sent("/v1/evaluate", {"program": second, "inputs": {"x": 3.0}})
    assert [answer.document["values"] for answer in ask_all(app, [by_id] * 3)] == [{"out": 15.0}] * 3
    assert ask(app, Sent(f"/v1/programs/{second}", b"", method="DELETE")).status == 204
    assert ask(app, by_id).status == 404
    assert app.inline.answered == 0


@pytest.mark.parametrize("media_type", MEDIA)
def test_values_that_cannot_be_run_on_are_refused_with_the_same_words(media_type: str) -> None:
    app, reference = new_app(), new_app(prepared_requests=0)
    call = {"expr": "cross_entropy(x, t)", "inputs": {"x": [[1, 2], [3, 4]], "t": [0, 1]}, "backward": {"wrt": ["x"]}}
    assert [answered(app, sent("/v1/evaluate", call, media_type)) for _ in range(3)] == [0, 0, 1]
    wrong = sent("/v1/evaluate", {**call, "inputs": {"x": [[1, 2], [3, 4]], "t": [0, 9]}}, media_type)
    assert ask_all(app, [wrong] * 3) == ask_all(reference, [wrong] * 3)
    assert ask(app, wrong).status == 422


# What goes wrong


def test_a_bug_is_answered_as_a_problem_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app()
    request = sent("/v1/evaluate", {"expr": "sum(x)", "inputs": {"x": [1.0, 2.0]}})
    assert [answered(app, request) for _ in range(3)] == [0, 0, 1]

    def broken(self: Hit) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(Hit, "run", broken)
    calls = len(app.pool.calls)
    answer = ask(app, request)
    assert (answer.status, answer.document["type"]) == (500, "/problems/internal-error")
    assert {b"x-request-id", b"pullback-version"} <= dict(answer.headers).keys()
    assert "a bug" in caplog.text and "request same" in caplog.text
    assert len(app.pool.calls) == calls


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    app = new_app(deadline_s=0.2)
    request = sent("/v1/evaluate", QUICKSTART)
    answers: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "headers": list(request.headers),
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 30))
    assert answers[0]["status"] == 504
