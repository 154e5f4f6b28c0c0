"""Every malformed request gets the right status, problem and words, and the next good request its answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.app.conftest import Server

STATUS = {
    "unknown-path": 404,
    "method-not-allowed": 405,
    "body-too-large": 413,
    "unsupported-media-type": 415,
    "not-acceptable": 406,
    "malformed-body": 400,
    "unknown-program": 404,
    "invalid-request": 422,
    "syntax-error": 422,
    "unknown-op": 422,
    "wrong-arity": 422,
    "bad-attribute": 422,
    "unknown-name": 422,
    "cycle": 422,
    "shape-mismatch": 422,
    "not-differentiable": 422,
    "nograd": 422,
    "not-supported": 422,
    "limit-exceeded": 413,
}
PROBLEM_FIELDS = {"type", "title", "status", "detail", "errors", "request_id"}
REQUEST_ID = "test-malformed.1"
JSON_TYPE = {"Content-Type": "application/json"}
GOOD = b'{"expr": "x", "inputs": {"x": 1}}'


@dataclass(frozen=True, slots=True)
class Case:
    """A request that must be refused: what is sent, the problem's slug, and words that have to be in its text."""

    title: str
    slug: str
    words: tuple[str, ...]
    body: bytes | None = field(repr=False)
    method: str = "POST"
    path: str = "/v1/evaluate"
    headers: dict[str, str] = field(default_factory=dict)


def case(title: str, slug: str, words: str, request: Any, **other: Any) -> Case:
    """A case with a JSON body; `words` are separated by spaces."""
    return Case(title, slug, tuple(words.split()), json.dumps(request).encode(), headers=JSON_TYPE, **other)


def raw(title: str, slug: str, words: str, body: bytes | None = GOOD, **other: Any) -> Case:
    """A case whose body, path, method or headers are themselves the mistake."""
    return Case(title, slug, tuple(words.split()), body, **{"headers": JSON_TYPE, **other})


def register(title: str, slug: str, words: str, request: Any) -> Case:
    """A case of registering a program."""
    return case(f"register: {title}", slug, words, request, path="/v1/programs")


def syntax(text: str, words: str = "", title: str = "") -> Case:
    """Infix text that is refused, as every syntax error, with its line and column."""
    return case(f"syntax: {title or text!r}", "syntax-error", f"line column {words}", {"expr": text})


def value(title: str, words: str, given: Any) -> Case:
    """An input that is no value."""
    return case(f"value: {title}", "invalid-request", words, {"expr": "x", "inputs": {"x": given}})


def flat(shape: Any, dtype: Any, data: Any) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "data": data}


def infix(expr: str, inputs: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"expr": expr, "inputs": inputs or {}, **fields}


def node(name: Any, op: str, *args: Any, **fields: Any) -> dict[str, Any]:
    return {"id": name, "op": op, "args": list(args), **fields}


def graph(*nodes: Any, given: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A request for a graph: `given` are the inputs' values, `fields` stand in the graph beside its nodes."""
    return {"graph": {"nodes": list(nodes), **fields}, "inputs": given or {}}


def nested(depth: int, inner: Any, wrap: Any) -> Any:
    """`inner`, wrapped `depth` times."""
    for _ in range(depth):
        inner = wrap(inner)
    return inner


X = {"x": 1.0}
SQUARES = {"x": [[1.0, 2.0], [3.0, 4.0]]}

ENVELOPE = [
    raw("path: unknown", "unknown-path", "", path="/v1/nothing"),
    raw("path: unknown, by GET", "unknown-path", "", None, method="GET", path="/nothing", headers={}),
    raw("path: long work is not built yet", "unknown-path", "", path="/v1/minimize"),
    raw("path: unknown, before anything else", "unknown-path", "", b"{", path="/v2/x", headers={"Accept": "text/html"}),
    raw("method: GET of evaluate", "method-not-allowed", "", None, method="GET", headers={}),
    raw("method: DELETE of evaluate", "method-not-allowed", "", None, method="DELETE", headers={}),
    raw("method: PUT of infer", "method-not-allowed", "", method="PUT", path="/v1/infer"),
    raw("method: POST of ops", "method-not-allowed", "", path="/v1/ops"),
    raw("method: POST of healthz", "method-not-allowed", "", path="/healthz"),
    raw(
        "method: before the media type", "method-not-allowed", "", method="PUT", headers={"Content-Type": "text/plain"}
    ),
    raw("media: plain text", "unsupported-media-type", "application/json", headers={"Content-Type": "text/plain"}),
    raw("media: XML", "unsupported-media-type", "application/json", headers={"Content-Type": "application/xml"}),
    raw("media: a form", "unsupported-media-type", "", headers={"Content-Type": "application/x-www-form-urlencoded"}),
    raw("media: CBOR", "unsupported-media-type", "application/msgpack", headers={"Content-Type": "application/cbor"}),
    raw(
        "media: JSON that says it is MessagePack", "malformed-body", "", headers={"Content-Type": "application/msgpack"}
    ),
    raw("media: of infer", "unsupported-media-type", "", path="/v1/infer", headers={"Content-Type": "text/csv"}),
    raw(
        "media: before accept and body",
        "unsupported-media-type",
        "",
        b"{",
        headers={"Content-Type": "text/plain", "Accept": "text/html"},
    ),
    raw("accept: HTML", "not-acceptable", "application/json", headers={**JSON_TYPE, "Accept": "text/html"}),
    raw("accept: an image", "not-acceptable", "", headers={**JSON_TYPE, "Accept": "image/png, image/*;q=0.5"}),
    raw("accept: CBOR", "not-acceptable", "application/msgpack", headers={**JSON_TYPE, "Accept": "application/cbor"}),
    raw("accept: JSON at weight 0", "not-acceptable", "", headers={**JSON_TYPE, "Accept": "application/json;q=0"}),
    raw("accept: before the body", "not-acceptable", "", b"{", headers={**JSON_TYPE, "Accept": "text/html"}),
]

BODIES = [
    raw("body: empty", "malformed-body", "", b""),
    raw("body: JSON for MessagePack", "malformed-body", "", headers={"Content-Type": "application/msgpack"}),
    raw("body: blank", "malformed-body", "", b" \n"),
    raw("body: truncated", "malformed-body", "", b'{"expr": "x", "inputs": {"x": 1'),
    raw("body: goes on after its end", "malformed-body", "", GOOD + b" {}"),
    raw("body: single quotes", "malformed-body", "", b"{'expr': 'x'}"),
    raw("body: trailing comma", "malformed-body", "", b'{"expr": "1",}'),
    raw("body: not UTF-8", "malformed-body", "UTF-8", b'{"expr": "\xff\xfe"}'),
    raw("body: the same key twice", "malformed-body", "expr", b'{"expr": "x", "expr": "y", "inputs": {"x": 1}}'),
    raw(
        "body: the same input twice",
        "malformed-body",
        "alpha",
        b'{"expr": "alpha", "inputs": {"alpha": 1, "alpha": 2}}',
    ),
    raw("body: the same key, once escaped", "malformed-body", "x", b'{"expr": "x", "inputs": {"x": 1, "\\u0078": 2}}'),
    raw("body: bare NaN", "malformed-body", "NaN", b'{"expr": "x", "inputs": {"x": NaN}}'),
    raw("body: bare Infinity", "malformed-body", "", b'{"expr": "x", "inputs": {"x": [1, Infinity]}}'),
    raw("body: bare -Infinity", "malformed-body", "", b'{"expr": "x", "inputs": {"x": -Infinity}}'),
    raw("body: of infer, truncated", "malformed-body", "", b'{"expr": ', path="/v1/infer"),
    case("body: a list", "invalid-request", "", [{"expr": "1"}]),
    case("body: a string", "invalid-request", "", "x ** 2"),
    case("body: a number", "invalid-request", "", 3),
    case("body: null", "invalid-request", "", None),
]

FIELDS = [
    case("field: no program", "invalid-request", "expr graph", {}),
    case("field: no program, only inputs", "invalid-request", "expr graph", {"inputs": X}),
    case(
        "field: two programs", "invalid-request", "expr graph", {"expr": "x", **graph(node("y", "sin", "x"), given=X)}
    ),
    case("field: input for inputs", "invalid-request", "input inputs", {"expr": "x", "input": X}),
    case("field: backwards for backward", "invalid-request", "backwards backward", infix("x", X, backwards=True)),
    case(
        "field: two unknown at once", "invalid-request", "outptus ecoding", infix("x", X, outptus=["x"], ecoding="flat")
    ),
    case("field: wtr in backward", "invalid-request", "wtr wrt", infix("x", X, backward={"wtr": ["x"]})),
    case("field: expr is a number", "invalid-request", "expr", {"expr": 5}),
    case("field: expr is null", "invalid-request", "expr", {"expr": None}),
    case("field: graph is a list", "invalid-request", "graph", {"graph": []}),
    case("field: inputs is a list", "invalid-request", "inputs", {"expr": "x", "inputs": [1]}),
    case("field: backward is a word", "invalid-request", "backward", infix("x", X, backward="yes")),
    case("field: train is a word", "invalid-request", "train", infix("x", X, train="yes")),
    case("field: nograd is a number", "invalid-request", "nograd", infix("x", X, nograd=2)),
    case("field: seed is a word", "invalid-request", "seed", infix("x", X, seed="abc")),
    case("field: outputs is a number", "invalid-request", "outputs", infix("x", X, outputs=5)),
    case("field: batched is a number", "invalid-request", "batched", infix("x", X, batched=5)),
    case("field: wrt holds a number", "invalid-request", "wrt", infix("x", X, backward={"wrt": [5]})),
    case(
        "field: encoding is unknown",
        "invalid-request",
        "encoding hex nested flat base64",
        infix("x", X, encoding="hex"),
    ),
    case("field: order 0", "invalid-request", "order", infix("x", X, backward={"order": 0})),
    case("field: order 13", "invalid-request", "order 12", infix("x", X, backward={"order": 13})),
    case("field: random without a seed", "invalid-request", "seed", infix("dropout(x, 0.5)", X, train=True)),
    case("field: unknown in infer", "invalid-request", "input inputs", {"expr": "x", "input": X}, path="/v1/infer"),
    case("field: unknown, before the text is read", "invalid-request", "wtr", infix("x +", wtr=1)),
    case("input: unused", "invalid-request", "prise price", infix("price * 2", {"price": 1, "prise": 2})),
    case("input: misspelt", "invalid-request", "prise price", infix("price * 2", {"prise": 1})),
    case("input: no name", "invalid-request", "2x", infix("x", {**X, "2x": 1})),
    case("input: named as a constant", "invalid-request", "pi", infix("x * pi", {**X, "pi": 3})),
]

VALUES = [
    value("ragged", "x 7", [[1, 2]] * 7 + [[1, 2, 3]]),
    value("ragged, two deep", "x 1", [[[1, 2], [3, 4]], [[5, 6], [7]]]),
    value("a number beside a list", "x", [1, [2]]),
    value("null", "x null", None),
    value("null in a list", "x null 7", [0] * 7 + [None]),
    value("null two deep", "x null 5", [[0] * 6, [0] * 5 + [None]]),
    value("true among numbers", "x 7", [0] * 7 + [True]),
    value("a number among booleans", "x 7", [False] * 7 + [3]),
    value("a word", "x abc", "abc"),
    value("nan in small letters", "x nan", "nan"),
    value("a number as text", "x 7", [0] * 7 + ["3"]),
    value("an empty object", "x", {}),
    value("an object of another kind", "x", {"re": 1, "im": 2}),
    value("unknown field in an array", "x dtyp dtype", {"shape": [1], "dtyp": "float64", "data": [1]}),
    value("unknown dtype", "x float16 float32", flat([2], "float16", [1, 2])),
    value("shape is a number", "x shape", flat(2, "float64", [1, 2])),
    value("shape has a fraction", "x shape", flat([1.5], "float64", [1])),
    value("shape is negative", "x shape", flat([-1], "float64", [1])),
    value("less data than shape", "x 3 2", flat([3], "float64", [1, 2])),
    value("more data than shape", "x 2 4", flat([2], "float64", [1, 2, 3, 4])),
    value("null in flat data", "x null 7", flat([8], "float64", [0] * 7 + [None])),
    value("fractions as int64", "x int64", flat([2], "int64", [1, 2.5])),
    value("NaN as int64", "x int64", flat([1], "int64", ["NaN"])),
    value("too large for int64", "x int64", flat([1], "int64", [2**63])),
    value("2 as bool", "x bool", flat([1], "bool", [2])),
    value("too large for float32", "x float32", flat([1], "float32", [1e300])),
    value("base64 of a wrong length", "x base64", {"shape": [3], "dtype": "float64", "base64": "AAAAAAAAAAA="}),
    value("base64 that is none", "x base64", {"shape": [1], "dtype": "float64", "base64": "!!!"}),
    value("base64 beside data", "x base64 data", {**flat([1], "float64", [1]), "base64": "AAAAAAAA8D8="}),
    value("an array without data", "x data", {"shape": [1], "dtype": "float64"}),
]

TEXT = [
    syntax("", title="empty"),
    syntax("  \n# nothing", title="only a comment"),
    syntax("x ^ 2", "**"),
    syntax("y = x\nz = y ^ 2", "** 2", title="^ on the second line"),
    syntax("x and y", "and"),
    syntax("x or y", "or"),
    syntax("not x", "not"),
    syntax("0 < x < 1"),
    syntax("x % 2", "%"),
    syntax("x // 2", "//"),
    syntax("x if y else z", "where"),
    syntax("lambda * 2", "lam"),
    syntax("lambda x: x ** 2"),
    syntax("(x + 1"),
    syntax("x + 1)"),
    syntax("x +"),
    syntax("2 x"),
    syntax("x.T"),
    syntax("x.__class__.__bases__"),
    syntax("sin(x).real"),
    syntax("sin(x)(y)"),
    syntax("f'{x}'"),
    syntax("[v * 2 for v in x]"),
    syntax("sum(v for v in x)"),
    syntax("{'a': x}"),
    syntax("sin(*x)"),
    syntax("sum(x, **y)"),
    syntax("(y := x)"),
    syntax("import os"),
    syntax("def f(x): return x"),
    syntax("while x: y = 1"),
    syntax("x & y", "&"),
    syntax("x in y"),
    syntax("x is y"),
    syntax("2j * x"),
    syntax("x = x + 1", "x input"),
    syntax("y = x + 1; x = y", "x input"),
    syntax("y = x; y += 1; y", title="an augmented assignment"),
    syntax("x[0] = 1; x", title="an assignment to an element"),
    syntax("sin(x); y = cos(x)", title="a statement that is no assignment"),
    syntax("pi = 3; pi * x", "pi"),
    syntax("e = 2; e * x", "e"),
    syntax("nan = 1; nan * x", "nan"),
    syntax("_1 = x; _1 * 2", "_1"),
    syntax("class = x; class"),
    syntax("α * 2", "α"),
]

OPERATIONS = [
    case("op: sine", "unknown-op", "sine sin", infix("sine(x)", X)),
    case("op: two unknown at once", "unknown-op", "sine sin cosin cos", infix("sine(x) + cosin(x)", X)),
    case("op: of Python", "unknown-op", "__import__", infix("__import__(x)", X)),
    case("op: before missing inputs", "unknown-op", "sine", infix("sine(x)")),
    case("op: before arity", "unknown-op", "sine sin", infix("sine(x) + cos(x, x)", X)),
    case("op: in a graph", "unknown-op", "matmull matmul h", graph(node("h", "matmull", "x", "x"), given=SQUARES)),
    case("op: inline", "unknown-op", "tahn tanh", graph(node("y", "sin", {"op": "tahn", "args": ["x"]}), given=X)),
    case("op: in infer", "unknown-op", "sine sin", infix("sine(x)", X), path="/v1/infer"),
    case("arity: two for one", "wrong-arity", "sin", infix("sin(x, x)", X)),
    case("arity: none for one", "wrong-arity", "sin", infix("sin() + x", X)),
    case("arity: one for two", "wrong-arity", "atan2", infix("atan2(x)", X)),
    case("arity: two for three", "wrong-arity", "where", infix("where(x, x)", X)),
    case("arity: in a graph", "wrong-arity", "add h", graph(node("h", "add", "x"), given=X)),
    case("arity: too many in a graph", "wrong-arity", "cos h", graph(node("h", "cos", "x", "x"), given=X)),
    case("arity: before attributes", "wrong-arity", "sin", infix("sin(x, x) + sum(x, foo=1)", X)),
    case("attribute: keepdim", "bad-attribute", "sum keepdim keepdims", infix("sum(x, keepdim=True)", SQUARES)),
    case("attribute: of another library", "bad-attribute", "softmax dim", infix("softmax(x, dim=1)", SQUARES)),
    case("attribute: axis and axes", "bad-attribute", "sum axis axes", infix("sum(x, axis=0, axes=0)", SQUARES)),
    case("attribute: an axis in words", "bad-attribute", "sum", infix('sum(x, axis="rows")', SQUARES)),
    case("attribute: half an axis", "bad-attribute", "sum", infix("sum(x, axes=[0.5])", SQUARES)),
    case("attribute: a shape in fractions", "bad-attribute", "reshape", infix("reshape(x, [1.5])", SQUARES)),
    case("attribute: unknown dtype", "bad-attribute", "float16 float32", infix('astype(x, "float16")', X)),
    case(
        "attribute: in a graph",
        "bad-attribute",
        "sum keepdim keepdims s",
        graph(node("s", "sum", "x", attrs={"keepdim": True}), given=X),
    ),
    case(
        "attribute: an index in words",
        "bad-attribute",
        "slice abc",
        graph(node("s", "slice", "x", attrs={"index": ["abc"]}), given=SQUARES),
    ),
]

NAMES = [
    case("name: missing input", "unknown-name", "price", infix("price * x", X)),
    case("name: two missing at once", "unknown-name", "price rate", infix("price * rate * x", X)),
    case("name: no inputs at all", "unknown-name", "x", {"expr": "sin(x)"}),
    case("name: missing in a graph", "unknown-name", "price", graph(node("y", "mul", "x", "price"), given=X)),
    case("name: an operation that is not called", "unknown-name", "sin", infix("sin * x", X)),
    case("name: in outputs", "unknown-name", "hidden", infix("h = x * 2; h", X, outputs=["hidden"])),
    case("name: in wrt", "unknown-name", "price", infix("x * 2", X, backward={"wrt": ["price"]})),
    case("name: in of", "unknown-name", "price", infix("x * 2", X, backward={"of": "price"})),
]

GRAPHS = [
    case("graph: nodes is an object", "invalid-request", "nodes", {"graph": {"nodes": {}}, "inputs": {}}),
    case("graph: without nodes", "invalid-request", "nodes", {"graph": {"outputs": ["y"]}, "inputs": {}}),
    case("graph: a node is a string", "invalid-request", "nodes", graph("y", given=X)),
    case("graph: without op", "invalid-request", "op", graph({"id": "y", "args": ["x"]}, given=X)),
    case("graph: arg for args", "invalid-request", "arg args", graph({"id": "y", "op": "sin", "arg": ["x"]}, given=X)),
    case("graph: args is a string", "invalid-request", "args", graph({"id": "y", "op": "sin", "args": "x"}, given=X)),
    case(
        "graph: attribute beside attrs",
        "invalid-request",
        "axes",
        graph(node("s", "sum", "x", axes=[0]), given=SQUARES),
    ),
    case("graph: an id twice", "invalid-request", "y", graph(node("y", "sin", "x"), node("y", "cos", "x"), given=X)),
    case("graph: an id that is no name", "invalid-request", "2y", graph(node("2y", "sin", "x"), given=X)),
    case("graph: a reserved id", "invalid-request", "_1", graph(node("_1", "sin", "x"), given=X)),
    case("graph: an id named as a constant", "invalid-request", "pi", graph(node("pi", "sin", "x"), given=X)),
    case("graph: an id that Python keeps", "invalid-request", "lam", graph(node("lambda", "sin", "x"), given=X)),
    case(
        "graph: two ends, no outputs",
        "invalid-request",
        "outputs",
        graph(node("y", "sin", "x"), node("z", "cos", "x"), given=X),
    ),
    case("graph: null in a literal", "invalid-request", "null", graph(node("y", "add", "x", [1, None]), given=X)),
    case("graph: ragged literal", "invalid-request", "y", graph(node("y", "add", "x", [[1, 2], [3]]), given=X)),
    case(
        "graph: declared shape",
        "invalid-request",
        "x 3",
        graph(node("y", "sin", "x"), given={"x": [1, 2]}, inputs={"x": {"shape": [3], "dtype": "float64"}}),
    ),
    case(
        "graph: declared rank",
        "invalid-request",
        "x",
        graph(node("y", "sin", "x"), given={"x": [1, 2]}, inputs={"x": {"shape": [None, 2], "dtype": "float64"}}),
    ),
    case(
        "graph: declared dtype",
        "invalid-request",
        "x int64",
        graph(node("y", "sin", "x"), given={"x": [1, 2.5]}, inputs={"x": {"shape": [2], "dtype": "int64"}}),
    ),
    case("cycle: of two", "cycle", "a b", graph(node("a", "sin", "b"), node("b", "cos", "a"), outputs=["a"])),
    case("cycle: of one", "cycle", "a", graph(node("a", "add", "a", "x"), outputs=["a"], given=X)),
    case(
        "cycle: away from the output",
        "cycle",
        "a b c",
        graph(
            node("y", "sin", "x"),
            node("a", "sin", "c"),
            node("b", "sin", "a"),
            node("c", "sin", "b"),
            outputs=["y"],
            given=X,
        ),
    ),
]

A_B = {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}
X_W = {"x": [[0.0] * 3] * 2, "w": [[0.0] * 5] * 4}
K = flat([], "int64", [2])
SHAPES_ONLY = {"a": {"shape": [2], "dtype": "float64"}, "b": {"shape": [3], "dtype": "float64"}}

SHAPES = [
    case("shape: add", "shape-mismatch", "add 2 3", infix("a + b", A_B)),
    case("shape: matmul names its node", "shape-mismatch", "matmul 3 4 h", infix("h = x @ w; h * 2", X_W)),
    case("shape: in a graph", "shape-mismatch", "matmul 3 4 h", graph(node("h", "matmul", "x", "w"), given=X_W)),
    case("shape: reshape", "shape-mismatch", "reshape 5", infix("reshape(x, [5])", SQUARES)),
    case("shape: concat", "shape-mismatch", "concat", infix("concat([x, w], axis=0)", X_W)),
    case("shape: broadcast_to", "shape-mismatch", "broadcast_to 3 2", infix("broadcast_to(x, [2])", {"x": [1, 2, 3]})),
    case("shape: batches", "shape-mismatch", "a b 2 3", infix("a * b", A_B, batched=["a", "b"])),
    case(
        "shape: cotangent", "shape-mismatch", "cotangent", infix("x", {"x": [1, 2]}, backward={"cotangent": [1, 2, 3]})
    ),
    case("shape: infer, from values", "shape-mismatch", "add 2 3", infix("a + b", A_B), path="/v1/infer"),
    case("shape: infer, from shapes", "shape-mismatch", "add 2 3", infix("a + b", SHAPES_ONLY), path="/v1/infer"),
]

GRADIENTS = [
    case("gradient: by nothing", "not-differentiable", "floating k", infix("k * 0.5", {"k": K}, backward=True)),
    case("gradient: without inputs", "not-differentiable", "inputs", infix("2 * 0.5", {}, backward=True)),
    case("gradient: of a mask", "not-differentiable", "bool", infix("x > 0", X, backward=True)),
    case("gradient: of an index", "not-differentiable", "int64", infix("argmax(x)", {"x": [1, 2]}, backward=True)),
    case(
        "gradient: by an int64", "not-differentiable", "k int64", infix("x * k", {**X, "k": K}, backward={"wrt": ["k"]})
    ),
    case(
        "gradient: by a bool",
        "not-differentiable",
        "b bool",
        infix("where(b, x, 0)", {**X, "b": True}, backward={"wrt": ["b"]}),
    ),
    case("gradient: by a mask", "not-differentiable", "m bool", infix("m = x > 0; m * x", X, backward={"wrt": ["m"]})),
    case("nograd: beside backward", "nograd", "nograd backward", infix("x", X, nograd=True, backward=True)),
    case("nograd: beside {}", "nograd", "nograd backward", infix("x", X, nograd=True, backward={})),
    case("nograd: beside options", "nograd", "nograd backward", infix("x", X, nograd=True, backward={"wrt": ["x"]})),
]

PROGRAMS = [
    case("program: no such id", "unknown-program", f"p_{'0' * 32}", {"program": f"p_{'0' * 32}", "inputs": X}),
    case("program: no such name", "unknown-program", "nowhere", {"program": "nowhere", "inputs": X}),
    case("program: what is no key at all", "unknown-program", "", {"program": "\0 / ' ?", "inputs": X}),
    case("program: unknown goes before the rest", "unknown-program", "nowhere", {"program": "nowhere", "input": X}),
    case("program: a number", "invalid-request", "program string", {"program": 7, "inputs": X}),
    case("program: beside a text", "invalid-request", "expr program", {"program": "nowhere", "expr": "x", "inputs": X}),
    register("no program", "invalid-request", "expr graph", {"name": "n"}),
    register("unknown field", "invalid-request", "nam name", infix("x", nam="n")),
    register("inputs as values", "invalid-request", "inputs x object", infix("x", X)),
    register("a wrong dtype", "invalid-request", "float16 float64", infix("x", {"x": {"dtype": "float16"}})),
    register("a wrong length", "invalid-request", "-2 shape", infix("x", {"x": {"shape": [-2]}})),
    register(
        "a declaration of no input",
        "invalid-request",
        "y inputs x",
        {**graph(node("s", "sin", "x")), "inputs": {"y": {"shape": []}}},
    ),
    register("bind: no such input", "unknown-name", "y x", infix("x + 1", bind={"y": 1})),
    register("bind: a ragged value", "invalid-request", "bind x 1", infix("x + 1", bind={"x": [1, [2]]})),
    register(
        "bind: a declared shape", "invalid-request", "x 2 3", infix("x", {"x": {"shape": [3]}}, bind={"x": [1, 2]})
    ),
    register("bind: a list", "invalid-request", "bind object", infix("x", bind=[1])),
    register("name: as an id", "invalid-request", "name p_", infix("x", name="p_1")),
    register("name: empty", "invalid-request", "name letters", infix("x", name="")),
    register("name: a digit first", "invalid-request", "name 2nd begins", infix("x", name="2nd")),
    register("name: a slash", "invalid-request", "name a/b", infix("x", name="a/b")),
    register("name: not ASCII", "invalid-request", "name für", infix("x", name="für")),
    register("name: too long", "invalid-request", "name 201 200", infix("x", name="n" * 201)),
    register("name: a number", "invalid-request", "name string", infix("x", name=1)),
    register("replace: without a name", "invalid-request", "replace name", infix("x", replace=True)),
    register("several mistakes", "invalid-request", "p_1 bind y", infix("sine(x", name="p_1", bind={"y": None})),
    register("syntax", "syntax-error", "line column", infix("x +", name="fine")),
    register("an operation", "unknown-op", "sine sin", infix("sine(x)")),
    register("nodes", "limit-exceeded", "", infix("y = x;" + "y = -y;" * 300_000 + "y")),
    register("of another that is not there", "unknown-program", "nowhere", {"program": "nowhere", "name": "p_1"}),
    raw("program: no JSON", "malformed-body", "", b"{", path="/v1/programs"),
    raw("program: PUT", "method-not-allowed", "GET DELETE", path="/v1/programs/x", method="PUT"),
    raw("program: GET of none", "unknown-program", "nowhere", None, path="/v1/programs/nowhere", method="GET"),
    raw("program: DELETE of none", "unknown-program", "nowhere", None, path="/v1/programs/nowhere", method="DELETE"),
    case(
        "a gradient program of random draws",
        "not-supported",
        "create_graph random",
        infix("dropout(x)", X, backward={"create_graph": True}, train=True, seed=1),
    ),
    raw("page: limit 0", "invalid-request", "limit 0 1", None, path="/v1/programs?limit=0", method="GET"),
    raw("page: limit 101", "invalid-request", "limit 100", None, path="/v1/programs?limit=101", method="GET"),
    raw("page: limit x", "invalid-request", "limit integer", None, path="/v1/programs?limit=x", method="GET"),
    raw("page: no cursor", "invalid-request", "after next", None, path="/v1/programs?after=-1", method="GET"),
    raw("page: unknown field", "invalid-request", "lim limit", None, path="/v1/programs?lim=1", method="GET"),
]

INLINE = nested(200, "x", lambda inner: {"op": "sin", "args": [inner]})
HUGE = {"shape": [100_000, 100_000]}
LIMITS = [
    case("limit: broadcast_to", "limit-exceeded", "", infix("broadcast_to(x, [100000, 100000])", X)),
    case("limit: of a graph", "limit-exceeded", "", graph(node("y", "broadcast_to", "x", attrs=HUGE), given=X)),
    case("limit: of a middle step", "limit-exceeded", "", infix("sum(broadcast_to(x, [100000, 100000]))", X)),
    case("limit: more than 64 bits", "limit-exceeded", "", infix("broadcast_to(x, [4294967296, 4294967296, 4])", X)),
    case("limit: parentheses", "limit-exceeded", "100", infix("(" * 200 + "x" + ")" * 200, X)),
    case("limit: calls", "limit-exceeded", "100", infix("sin(" * 200 + "x" + ")" * 200, X)),
    case("limit: brackets in a text", "limit-exceeded", "100", infix("x + " + "[" * 200 + "1" + "]" * 200, X)),
    case("limit: 3,000 terms", "limit-exceeded", "", infix(" + ".join(["x"] * 3000), X)),
    case("limit: 3,000 minus signs", "limit-exceeded", "", infix("-" * 3000 + "x", X)),
    case("limit: 3,000 powers", "limit-exceeded", "", infix("**".join(["x"] * 3000), X)),
    case(
        "limit: lists in a value", "limit-exceeded", "100", infix("x", {"x": nested(200, 1.0, lambda inner: [inner])})
    ),
    case(
        "limit: objects in a field",
        "limit-exceeded",
        "100",
        infix("x", X, backward=nested(200, {}, lambda inner: {"of": inner})),
    ),
    case("limit: inline nodes", "limit-exceeded", "100", graph({"id": "y", "op": "sin", "args": [INLINE]}, given=X)),
    case("limit: 300,000 nodes", "limit-exceeded", "", infix("y = x;" + "y = -y;" * 300_000 + "y", X)),
]

CASES = [
    *ENVELOPE,
    *BODIES,
    *FIELDS,
    *VALUES,
    *TEXT,
    *OPERATIONS,
    *NAMES,
    *GRAPHS,
    *SHAPES,
    *GRADIENTS,
    *PROGRAMS,
    *LIMITS,
]


def words_of(problem: dict[str, Any]) -> str:
    """All that a problem tells its reader."""
    errors = [f"{error['msg']} {json.dumps(error['loc'], ensure_ascii=False)}" for error in problem["errors"]]
    return "\n".join([problem["detail"], *errors])


def assert_says(text: str, word: str) -> None:
    """`word` is in `text`, not as a part of a longer word; capitals do not matter."""
    assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE), f"no {word!r} in: {text}"


def assert_problem(response: httpx.Response, slug: str) -> dict[str, Any]:
    """The answer has the form that RFC 9457 and the contract give to every problem, and is of this kind."""
    assert response.headers["content-type"].split(";")[0] == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    assert PROBLEM_FIELDS <= problem.keys()
    assert problem["type"].rpartition("/problems/")[2] == slug, problem
    assert response.status_code == problem["status"] == STATUS[slug]
    assert problem["title"] and problem["detail"]
    assert all({"loc", "msg"} <= error.keys() and error["msg"] for error in problem["errors"])
    assert problem["errors"] or problem["status"] != 422
    assert response.headers["x-request-id"] == problem["request_id"]
    assert response.headers["pullback-version"]
    return problem


@pytest.mark.parametrize("given", CASES, ids=[case.title[:60] for case in CASES])
def test_malformed_request(server: Server, given: Case) -> None:
    headers = {**given.headers, "X-Request-ID": REQUEST_ID}
    response = server.client.request(given.method, given.path, content=given.body, headers=headers)
    problem = assert_problem(response, given.slug)
    assert problem["request_id"] == REQUEST_ID
    text = words_of(problem)
    for word in given.words:
        assert_says(text, word)
    if given.slug == "limit-exceeded":
        assert re.search(r"PULLBACK_[A-Z]", text), f"no setting that raises the limit in: {text}"
    server.assert_well()


def test_every_slug_has_a_case() -> None:
    assert {given.slug for given in CASES} == STATUS.keys() - {"body-too-large"}


def test_request_id_is_made_where_none_is_sent(server: Server) -> None:
    problems = [assert_problem(server.client.get("/v1/nothing"), "unknown-path") for _ in range(2)]
    first, second = (problem["request_id"] for problem in problems)
    assert first
    assert first != second


def test_method_not_allowed_names_the_allowed_one(server: Server) -> None:
    assert "POST" in server.client.get("/v1/evaluate").headers["allow"]


def test_body_declared_too_long_is_refused_unread(server: Server) -> None:
    url = httpx.URL(server.base_url)
    with contextlib.closing(http.client.HTTPConnection(url.host, url.port or 80, timeout=60)) as connection:
        connection.request("POST", "/v1/evaluate", GOOD, {**JSON_TYPE, "Content-Length": str(10**12)})
        answer = connection.getresponse()
        content = answer.read()
        response = httpx.Response(answer.status, headers=answer.getheaders(), content=content)
    assert_problem(response, "body-too-large")
    server.assert_well()


def endless_body() -> Iterator[bytes]:
    """The bytes of a chunked request whose body never ends, as far as 1 GiB."""
    yield b"POST /v1/evaluate HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    yield b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(4096):
        yield b"40000\r\n" + b" " * 0x40000 + b"\r\n"


def send_until_answered(connection: socket.socket, pieces: Iterator[bytes], timeout_s: float) -> bytes:
    """Send until something comes back; return its first bytes."""
    pending, deadline = memoryview(b""), time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        readable, writable, _ = select.select([connection], [connection], [], timeout_s)
        if readable:
            return connection.recv(4096)
        if writable:
            pending = pending or memoryview(next(pieces))
            pending = pending[connection.send(pending) :]
    pytest.fail(f"no answer within {timeout_s} s")


def test_body_without_end_is_refused(server: Server) -> None:
    url = httpx.URL(server.base_url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        answer = send_until_answered(connection, endless_body(), timeout_s=60)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    server.assert_well()
