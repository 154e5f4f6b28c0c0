"""Requests to sessions that are wrong, over the socket: what each is answered with, and that nothing came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.scripts import back, do, expr, op, var

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.app.conftest import Server

INVALID, UNKNOWN, BAD = "invalid-request", "unknown-variable", "bad-attribute"
STATUS = {
    "malformed-body": 400,
    UNKNOWN: 404,
    "unknown-session": 404,
    "unknown-path": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "sequence-conflict": 409,
    "name-conflict": 409,
    "limit-exceeded": 413,
    "unsupported-media-type": 415,
}
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]

#: The slug, what the problem says, and one command.
COMMANDS: list[tuple[str, str, Any]] = [
    (INVALID, '"do" is missing', {}),
    (INVALID, 'do is "aply"; nearest: apply', do("aply")),
    (INVALID, '"do" is missing', {"do": 5}),
    (INVALID, "commands.0 is 5; expected an object", 5),
    (INVALID, "unknown field", var("y", 1.0, constnat=True)),
    (INVALID, '"value" is missing', do("variable", id="y")),
    (INVALID, "rectangular", var("y", [1, [2]])),
    (INVALID, "expected a number", var("y", None)),
    (INVALID, "expected a number", var("y", "one")),
    (INVALID, "id is 5; expected a string", var(5, 1.0)),  # type: ignore[arg-type]
    (INVALID, "is no name", var("", 1.0)),
    (INVALID, "is no name", var("a b", 1.0)),
    (INVALID, "is no name", var("m.w", 1.0)),
    (INVALID, "is no name", var("é\u0000", 1.0)),
    (INVALID, "is a constant (3.14", var("pi", 1.0)),
    (INVALID, "200", var("y" * 201, 1.0)),
    (INVALID, "unknown dtype", var("y", {"shape": [1], "dtype": "complex64", "data": [1]})),
    (INVALID, "larger than any memory", var("y", {"shape": [2**60, 9], "dtype": "float64", "data": []})),
    ("name-conflict", '"m" is a model, which cannot be rebound', var("m", 1.0)),
    (
        "name-conflict",
        '"x" is a variable, which cannot be rebound',
        do("layer", id="x", kind="rnn", config={"hidden_size": 1}),
    ),
    (INVALID, 'exactly one of "op" and "expr"', do("apply")),
    (INVALID, 'exactly one of "op" and "expr"', do("apply", op="sin", expr="x", args=["x"])),
    (INVALID, "operands within", do("apply", expr="x", args=["x"])),
    ("unknown-op", "nearest: sin", op("y", "sinn", "x")),
    ("wrong-arity", "sin: got 2 args", op("y", "sin", "x", "x")),
    ("wrong-arity", "add", op("y", "add", "x")),
    (UNKNOWN, 'no "q" in this session', op("y", "sin", "q")),
    (UNKNOWN, "nearest: x", expr("y", "xx + 1")),
    (UNKNOWN, "nearest: m.linear[0].w", op("y", "sum", "m.linear[0].ww")),
    (UNKNOWN, "does not exist yet", op("y", "sum", "lazy.w")),
    (INVALID, '"m" is a model; expected a variable', op("y", "sin", "m")),
    (BAD, "axes", op("y", "sum", "x", axes="first")),
    (BAD, 'unknown attribute "axs"', op("y", "sum", "x", axs=0)),
    (BAD, "axis", op("y", "sum", "x", axes=7)),
    (INVALID, "out names 2 ids for 1 results", op("y z", "sin", "x")),
    ("shape-mismatch", "add", op("y", "add", [1, 2], [1, 2, 3])),
    ("syntax-error", "line 1, column 4", expr("y", "x + ")),
    ("syntax-error", "there is no statement", expr("y", "")),
    ("limit-exceeded", "PULLBACK_MAX_ELEMENTS", op("y", "broadcast_to", "x", shape=[10**5, 10**5])),
    ("limit-exceeded", "PULLBACK_MAX_ELEMENTS", do("layer", id="l", kind="lstm", config={"hidden_size": 10**5})),
    ("limit-exceeded", "PULLBACK_MAX_ELEMENTS", do("layer", id="l", kind="lstm", config={"hidden_size": 1e5})),
    ("limit-exceeded", "PULLBACK_MAX_ELEMENTS", do("layer", id="l", kind="rnn", config={"hidden_size": 1e300})),
    (UNKNOWN, '"q"', back("q")),
    (INVALID, "expected a variable", back("o")),
    ("not-differentiable", "is a constant", back("c")),
    ("shape-mismatch", "cotangent", back("x", cotangent=[1, 2, 3])),
    (UNKNOWN, '"q"', back("x", cotangent="q")),
    ("no-gradient", '"x" has no gradient', do("grad", of="x", out="g")),
    (INVALID, 'exactly one of "value" and "from"', do("assign", id="x")),
    (INVALID, 'exactly one of "value" and "from"', do("assign", id="x", value=1, **{"from": "x"})),
    (INVALID, "expected a variable", do("assign", id="m", value=1)),
    (UNKNOWN, '"q"', do("cleargrad", ids=["q"])),
    (INVALID, "delete its layer instead", do("delete", ids=["m.linear[0].w"])),
    (UNKNOWN, '"x"', do("delete", ids=["x", "x"])),
    (INVALID, "nothing to set", do("set")),
    (INVALID, "nograd is 1; expected true or false", do("set", nograd=1)),
    (INVALID, 'no layer of kind "liner"; nearest: linear', do("layer", id="l", kind="liner")),
    (BAD, "out_size is missing", do("layer", id="l", kind="linear")),
    (
        BAD,
        'unknown attribute "out_sise"; nearest: out_size',
        do("layer", id="l", kind="linear", config={"out_sise": 1}),
    ),
    (BAD, "out_size", do("layer", id="l", kind="linear", config={"out_size": -1})),
    (BAD, "activation", do("model", id="l", kind="mlp", config={"out_sizes": [1], "activation": "reluu"})),
    (BAD, "unknown attribute", do("layer", id="l", kind="linear", config={"out_size": 1, "rng": 5})),
    ("wrong-arity", "got 0 arguments; expected 1", do("call", id="m", args=[])),
    ("shape-mismatch", "linear", do("call", id="m", args=[[[1, 2, 3]]])),
    (INVALID, "expected a layer or a model", do("call", id="x", args=["x"])),
    ("unknown-name", "unexpected", do("load", id="m", state={"w": 1})),
    (INVALID, "no optimizer of kind", do("optimizer", id="p", kind="adamm", params="m")),
    (BAD, "beta1", do("optimizer", id="p", kind="adam", config={"beta1": 2}, params="m")),
    (BAD, "unknown attribute", do("optimizer", id="p", kind="sgd", config={"lr": 1}, params="m")),
    (INVALID, "expected a layer or a model", do("optimizer", id="p", kind="sgd", params="x")),
    (UNKNOWN, '"q"', do("optimizer", id="p", kind="sgd", params=["x", "q"])),
    ("not-differentiable", "is a constant", do("optimizer", id="p", kind="sgd", params=["c"])),
    (INVALID, 'a hook needs a "kind"', do("optimizer", id="p", kind="sgd", params="m", hooks=[{}])),
    (INVALID, "no hook of kind", do("optimizer", id="p", kind="sgd", params="m", hooks=[{"kind": "clip"}])),
    (BAD, "max is missing", do("optimizer", id="p", kind="sgd", params="m", hooks=[{"kind": "clip_grad"}])),
    (INVALID, "expected an optimizer", do("step", id="m")),
]

#: A step of what is no leaf any more.
COMPUTED = [
    var("a", 1.0),
    do("optimizer", id="of_a", kind="sgd", params=["a"]),
    op("a", "mul", "a", 2.0),
    back("a", retain_grad=True),
    do("step", id="of_a"),
]

#: The slug, what the problem says, and a run.
RUNS: list[tuple[str, str, Any]] = [
    (INVALID, "the body is a list", []),
    (INVALID, "unknown field", {"comands": []}),
    (INVALID, "commands is 5; expected a list", {"commands": 5}),
    (INVALID, "fetch is", {"fetch": "x"}),
    (INVALID, 'expected an id, or {"id", "what"}', {"fetch": [5]}),
    (INVALID, "expected a list of value", {"fetch": [{"id": "x", "what": ["colour"]}]}),
    (UNKNOWN, '"q"', {"fetch": ["x", "q"]}),
    (INVALID, "encoding", {"encoding": "hex"}),
    (INVALID, "JSON cannot carry", {"encoding": "binary"}),
    ("sequence-conflict", "seq is 0; expected 2", {"seq": 0}),
    (INVALID, "seq is", {"seq": "2"}),
    (INVALID, "seq is", {"seq": 1.5}),
    (INVALID, "seq is", {"seq": True}),
    ("sequence-conflict", "expected 2", {"seq": 7}),
    ("sequence-conflict", "expected 2", {"seq": 2**62}),
    (INVALID, "seq is", {"seq": 2**70}),
    ("limit-exceeded", "PULLBACK_MAX_COMMANDS", {"commands": [do("cleargrad")] * 10_001}),
    ("limit-exceeded", "PULLBACK_MAX_DEPTH", {"commands": [var("y", DEEP)]}),
    (INVALID, "command 4 (step): step: parameter a was computed by mul; expected a leaf", {"commands": COMPUTED}),
]


@pytest.fixture(scope="module")
def place(server: Server) -> Iterator[str]:
    """A session in which everything is there that may be used wrongly."""
    path = f"/v1/sessions/{server.client.post('/v1/sessions', json={'seed': 1}).json()['id']}"
    commands = [
        var("x", 2.0),
        var("c", 1.0, constant=True),
        do("model", id="m", kind="mlp", config={"out_sizes": [2, 1]}),
        do("layer", id="lazy", kind="linear", config={"out_size": 2}),
        do("optimizer", id="o", kind="adam", params="m"),
        do("call", id="m", args=[[[1.0, 2.0]]], out=["p"]),
    ]
    answer = server.client.post(f"{path}/run", json={"commands": commands})
    assert answer.status_code == 200, answer.text
    yield path
    seen = server.client.get(path).json()
    assert seen["seq"] == 1
    assert list(variables(server, path)) == ["x", "c", "p"]


def variables(server: Server, path: str) -> Iterator[str]:
    for found in server.client.get(f"{path}/variables").json()["variables"]:
        if "." not in found["id"]:
            yield found["id"]


def assert_refused(answer: Any, slug: str, words: str) -> Any:
    problem = answer.json()
    assert answer.status_code == STATUS.get(slug, 422), problem
    assert problem["type"] == f"/problems/{slug}", problem
    assert words in " ".join([problem["detail"], *(error["msg"] for error in problem["errors"])]), problem
    return problem


@pytest.mark.parametrize(("slug", "words", "command"), COMMANDS, ids=[str(n) for n in range(len(COMMANDS))])
def test_a_command_that_is_wrong(server: Server, place: str, slug: str, words: str, command: Any) -> None:
    first = var("x", 99.0)
    answer = server.client.post(f"{place}/run", json={"commands": [first, command]})
    problem = assert_refused(answer, slug, words.replace("commands.0", "commands.1"))
    if slug != "malformed-body":
        assert problem["errors"][0]["loc"][:2] == ["commands", 1]
    assert server.client.get(f"{place}/variables/x").json()["value"] == 2.0


@pytest.mark.parametrize(("slug", "words", "body"), RUNS, ids=[str(n) for n in range(len(RUNS))])
def test_a_run_that_is_wrong(server: Server, place: str, slug: str, words: str, body: Any) -> None:
    assert_refused(server.client.post(f"{place}/run", json=body), slug, words)


def test_requests_that_are_none(server: Server, place: str) -> None:
    client, kind = server.client, {"Content-Type": "application/json"}
    for content, slug in ((b"{", "malformed-body"), (b"", "malformed-body"), (b'{"seq":1,"seq":2}', "malformed-body")):
        assert_refused(client.post(f"{place}/run", content=content, headers=kind), slug, "")
    assert_refused(client.post(f"{place}/run", content=b"{}"), "unsupported-media-type", "application/json")
    assert_refused(client.post(f"{place}/run", json={}, headers={"Accept": "text/html"}), "not-acceptable", "")
    assert_refused(client.get(f"{place}/run"), "method-not-allowed", "POST")
    assert_refused(client.post(f"{place}/runs", json={}), "unknown-path", "")
    for session in ("s_", "s_" + "0" * 32, "x", "s_%00", "..%2f", "s_" + "0" * 5000):
        answer = client.post(f"/v1/sessions/{session}/run", json={})
        assert answer.status_code == 404, answer.text
    # What is wrong with a session's request is said after whether there is a session.
    assert_refused(client.post("/v1/sessions/s_0/run", json=[]), "unknown-session", "")
    for body, words in (
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 1e-6}, "at least 0.1"),
        ({"ttl_s": 0.0999}, "at least 0.1"),
        ({"ttl_s": -1}, "at least 0.1"),
        ({"ttl_s": "NaN"}, "ttl_s"),
        ({"ttl_s": "5"}, "ttl_s"),
        ({"ttl_s": 10**9}, "PULLBACK_MAX_SESSION_TTL_S"),
        ({"name": 5}, "name"),
        ({"sead": 1}, "nearest: seed"),
        ([], "the body is a list"),
    ):
        assert_refused(client.post("/v1/sessions", json=body), INVALID, words)
    key = {"Idempotency-Key": "k" * 256}
    assert_refused(client.post("/v1/sessions", json={}, headers=key), INVALID, "256 letters")
    assert_refused(client.patch(place, json={"seq": 9}), "sequence-conflict", "expected 2")
    nan = json.dumps({"commands": [var("y", float("nan"))]})
    assert_refused(client.post(f"{place}/run", content=nan, headers=kind), "malformed-body", "NaN")
