"""JSON's -0 is -0.0 wherever a number is meant, as in MessagePack, on every way that a value can come and go."""

import json
from typing import Any

import pytest

from app.main import Pullback
from app.wire.document import loads, parse
from app.wire.media import JSON, MSGPACK
from tests.app.hot import Received, Sent, ask, ask_all, new_app, sent

HEADERS = ((b"content-type", JSON.encode()), (b"x-request-id", b"same"))
#: Stands for the number.
Z = -0.0
X = {"x": Z}
ARRAY = {"shape": [2], "data": [Z, 1]}
GRAPH = {"nodes": [{"id": "y", "op": "mul", "args": ["x", Z]}, {"id": "z", "op": "add", "args": ["y", [Z, Z]]}]}
SUM = {"id": "y", "op": "sum", "args": ["x"], "attrs": {"axes": [Z]}}
CLIP = {"nodes": [{"id": "y", "op": "clip", "args": ["x"], "attrs": {"min": Z, "max": 1}}]}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("evaluate", {"expr": "1 / x", "inputs": X, "backward": True}),
    ("evaluate", {"expr": "1 / x + 0 * y", "inputs": {"x": Z, "y": 1.5}}),
    *(("evaluate", {"expr": "x", "inputs": X, "encoding": form}) for form in ("nested", "flat", "base64")),
    ("evaluate", {"expr": "x * 2", "inputs": {"x": [Z, 1]}}),
    ("evaluate", {"expr": "x * 2", "inputs": {"x": [[Z], [Z]]}, "batched": ["x"]}),
    ("evaluate", {"expr": "x * 2", "inputs": {"x": [Z, -0.5] * 5000}}),
    ("evaluate", {"expr": "x * 2", "inputs": {"x": ARRAY | {"dtype": "float64"}}}),
    ("evaluate", {"expr": "x * 2", "inputs": {"x": ARRAY | {"dtype": "float32"}}, "encoding": "flat"}),
    ("evaluate", {"expr": "x", "inputs": {"x": ARRAY | {"dtype": "int64"}}}),
    ("evaluate", {"expr": "x", "inputs": {"x": {"shape": [2], "dtype": "int64", "data": [Z, 2**53 + 1]}}}),
    ("evaluate", {"expr": "take(x, i)", "inputs": {"x": [Z], "i": [Z]}}),
    ("evaluate", {"graph": GRAPH, "inputs": {"x": 1}}),
    ("evaluate", {"graph": CLIP, "inputs": {"x": -1}}),
    ("evaluate", {"graph": {"nodes": [SUM]}, "inputs": {"x": [Z, Z]}}),
    ("evaluate", {"expr": "x * x", "inputs": {"x": 1}, "backward": {"cotangent": Z}}),
    ("evaluate", {"expr": "dropout(x, 0.5)", "inputs": {"x": Z}, "train": True, "seed": 0}),
    ("vjp", {"expr": "x * x", "inputs": X, "cotangents": {"out": Z}}),
    ("jvp", {"expr": "x * x", "inputs": X, "tangents": X}),
    ("jacobian", {"expr": "x * y", "inputs": X | {"y": 2}}),
    ("hessian", {"expr": "x**3", "inputs": X}),
    ("hvp", {"expr": "x**3", "inputs": X, "vectors": {"x": 1}}),
    ("check", {"expr": "x * x", "inputs": X}),
]
RUN = {
    "commands": [
        {"do": "variable", "id": "x", "value": Z},
        {"do": "variable", "id": "c", "value": [Z, Z], "constant": True},
        {"do": "variable", "id": "w", "value": 1},
        {"do": "assign", "id": "w", "value": Z},
        {"do": "apply", "op": "mul", "args": ["x", [1, Z]], "out": ["y"]},
        {"do": "apply", "op": "add", "args": [Z, Z], "out": ["z"]},
        {"do": "apply", "op": "dropout", "args": ["x"], "attrs": {"ratio": Z}, "out": ["d"], "seed": 0},
        {"do": "backward", "of": "x", "cotangent": Z},
    ],
    "fetch": ["x", "c", "w", "y", "z", "d"],
}


def as_integers(document: Any) -> bytes:
    """A document as JSON that writes -0 for -0.0."""
    text = json.dumps(document)
    return text.replace("-0.0", "-0").replace('"seed": 0', '"seed": -0').encode()


def signs(found: Any) -> Any:
    """An answer of either encoding in a form that tells zeros apart, arrays as lists."""
    return json.loads(json.dumps(found), parse_float=str)


def answered(received: Received) -> Any:
    assert received.status == 200, received.body
    return signs(received.document)


@pytest.fixture(scope="module")
def app() -> Pullback:
    return new_app()


def test_it_is_that_of_messagepack(app: Pullback) -> None:
    wrong = []
    for call, document in CASES:
        path = f"/v1/{call}"
        expected = answered(ask(app, sent(path, document, MSGPACK, (b"accept", JSON.encode()))))
        for written in (as_integers(document), as_integers(document).replace(b" ", b""), json.dumps(document).encode()):
            # At first nothing is known, later the request, and then its template.
            request = Sent(path, written, HEADERS)
            found = list(map(answered, ask_all(app, [request] * 5)))
            wrong += [(document, each, expected) for each in found if each != expected]
    assert wrong == []
    whole = as_integers({"expr": "1 / x", "inputs": X})
    assert ask(app, Sent("/v1/evaluate", whole, HEADERS)).document["values"] == {"out": "-Infinity"}


def test_in_programs_and_sessions(app: Pullback) -> None:
    registered = {"expr": "a / x", "bind": {"a": [Z, 1]}, "name": "bound"}
    made = [ask(app, Sent("/v1/programs", as_integers(registered), HEADERS))]
    made.append(ask(app, sent("/v1/programs", registered, MSGPACK, (b"accept", JSON.encode()))))
    assert made[0].document["id"] == made[1].document["id"]
    bound = ask(app, Sent("/v1/evaluate", b'{"program": "bound", "inputs": {"x": -0}}', HEADERS))
    assert bound.document["values"] == {"out": ["NaN", "-Infinity"]}
    found = []
    for form in (JSON, MSGPACK):
        seeded = Sent("/v1/sessions", b'{"seed": -0}', HEADERS)
        path = f"/v1/sessions/{ask(app, seeded).document['id']}"
        run = sent(f"{path}/run", RUN, MSGPACK, (b"accept", JSON.encode()))
        found.append(answered(ask(app, Sent(f"{path}/run", as_integers(RUN), HEADERS) if form == JSON else run)))
    assert found[0] == found[1]
    fetched = found[0]["fetched"]
    assert fetched["x"] == {"value": "-0.0", "grad": "-0.0"}
    assert [fetched[name]["value"] for name in "cwz"] == [["-0.0", "-0.0"], "-0.0", "-0.0"]


def test_what_is_read() -> None:
    for text, expected in {
        "-0": -0.0,
        "[-0,-0 ,\t-0\n]": [-0.0, -0.0, -0.0],
        "[1e-0, 2E-0, -0.0, -0e1, -0.5, 0, -10, 1.5e-01]": [1.0, 2.0, -0.0, -0.0, -0.5, 0, -10, 0.15],
        '{"-0": "-0", "a": ["-0, -0]", "\\"-0", "\\\\", -0, "[-0"]}': {
            "-0": "-0",
            "a": ["-0, -0]", '"-0', "\\", -0.0, "[-0"],
        },
        '{"seed": -0, "inputs": {"seed": -0}}': {"seed": 0, "inputs": {"seed": -0.0}},
    }.items():
        assert repr(loads(text.encode())) == repr(expected)
        assert repr(parse(text.encode(), 100)) == repr(expected)


@pytest.mark.parametrize("text", ["-00", "[-0, -01]", "[-0 -0]", "{-0: 1}", '[-0, "', "-0-0", "[1-0, -0]", "[-0, 1.]"])
def test_what_is_no_json_is_refused_where_it_was_written(text: str) -> None:
    with pytest.raises(Exception, match=r"line 1") as caught:
        parse(f"[{text}".encode(), 100)
    with pytest.raises(json.JSONDecodeError) as plain:
        json.loads(f"[{text}")
    assert type(caught.value).__name__ == "MalformedBodyError" and plain.value.lineno == 1
