"""Whatever is sent, the answer is JSON, comes in time, and is never a server's error."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sampling import examples

if TYPE_CHECKING:
    from tests.app.conftest import Server

TIMEOUT_S = 10
MEDIA_TYPES = {"application/json", "application/problem+json"}
PATHS = ["/v1/evaluate", "/v1/infer", "/v1/programs"]
bounded = settings(
    max_examples=examples(100), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def assert_civil(server: Server, path: str, body: bytes) -> httpx.Response:
    """The answer to `body` is a result or a problem, and strictly JSON; one that takes too long raises."""
    headers = {"Content-Type": "application/json"}
    response = server.client.post(path, content=body, headers=headers, timeout=TIMEOUT_S)
    shown = body[:500]
    assert response.status_code < 500, f"{shown!r}: {response.text}"
    assert response.headers["content-type"].split(";")[0] in MEDIA_TYPES, shown
    answer = json.loads(response.content, parse_constant=lambda name: pytest.fail(f"a bare {name} for {shown!r}"))
    if response.status_code >= 400:
        assert {"type", "title", "status", "detail", "errors", "request_id"} <= answer.keys()
        assert answer["status"] == response.status_code
    return response


# Random documents

FIELDS = """
expr graph program inputs outputs backward nograd train seed batched encoding name bind replace
""".split()
NODE_FIELDS = ["nodes", "id", "op", "args", "attrs", "shape", "dtype", "data", "base64", "x", "of", "wrt", "cotangent"]
keys = st.sampled_from(FIELDS + NODE_FIELDS) | st.text(max_size=4)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.sampled_from(["x", "y", "sin", "add", "float64", "NaN", "all", "AAAA", "x + 1", "..."])
    | st.text(max_size=6)
)
documents = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5))
requests = st.dictionaries(st.sampled_from(FIELDS), documents, max_size=5)


@pytest.mark.parametrize("path", PATHS)
@given(body=st.binary(max_size=64))
@bounded
def test_random_bytes(server: Server, path: str, body: bytes) -> None:
    assert assert_civil(server, path, body).status_code >= 400


@pytest.mark.parametrize("path", PATHS)
@given(document=documents | requests)
@bounded
def test_random_documents(server: Server, path: str, document: Any) -> None:
    assert_civil(server, path, json.dumps(document).encode())


# Programs that are nearly right

FUNCTIONS = """
neg square exp log sin cos tanh sum mean variance max min transpose relu sigmoid softmax gelu abs sqrt sign log1p expm1
tan sinh atan asinh prod std cumulative_sum argmax argmin matrix_transpose zeros_like ones_like erf logsumexp trace
diagonal triu tril norm stop_gradient permute_dims squeeze flip accuracy sine solve
""".split()
PAIRS = (
    "add sub mul div pow maximum minimum atan2 matmul logaddexp outer mean_squared_error cross_entropy accuracy".split()
)
RIGHT = [
    *(f"{name}({{0}})" for name in FUNCTIONS),
    *(f"{name}({{0}}, {{1}})" for name in PAIRS),
    *("{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "{0} ** {1}", "{0} ** 2", "{0} @ {1}", "-{0}", "{0} > {1}"),
    *("where({0} > 0, {1}, {2})", "clip({0}, 0, 1)", "linear({0}, {1}, {2})", "mask_fill({0}, {1}, 9)"),
    *("sum({0}, axis=0)", "max({0}, axes=[-1], keepdims=True)", "mean({0}, axes=[])", "softmax({0}, axis=0)"),
    *("reshape({0}, [-1])", "broadcast_to({0}, [3, 2, 2])", "sum_to({0}, [1])", "unsqueeze({0}, 0)", "squeeze({0}, 0)"),
    *("concat([{0}, {1}], axis=0)", "stack([{0}, {1}], axis=0)", "tile({0}, [2])", "repeat({0}, 2)", "roll({0}, 1)"),
    *("{0}[0]", "{0}[-1]", "{0}[..., 0]", "{0}[::-1]", "{0}[newaxis]", "{0}[:, 1:]", "take({0}, [0, 1], 0)"),
    *("get_item({0}, 0, [1])", "dropout({0}, 0.5)", 'astype({0}, "float32")', "sum(split({0}, [1, 1], axis=0))"),
]
WRONG = [
    *(
        "{0} % {1}",
        "{0} ^ {1}",
        "{0} and {1}",
        "{0} < {1} < {2}",
        "{0}.T",
        "{0}({1})",
        "{0} {1}",
        "{0}, {1}",
        "[{0}, {1}]",
    ),
    *("sum({0}, foo=1)", "sum({0}, axis={1})", "sum({0}, axis=-7)", "sin({0}, {1})", "add({0})", "grad({0}, {1})"),
    *("{0}[9]", "{0}[0.5]", "{0}[{1}]", "{0}[::0]", "{0}[]", "{0}[0, 0, 0, 0]", "reshape({0}, [7])", '{0} + "x"'),
    *("lambda {0}: {1}", "({0}", "sum(*{0})", "tile({0}, [-1])", "transpose({0}, [0, 0])", "einsum({0})"),
]
NAMES = ["x", "y", "z", "w"]
ATOMS = [*NAMES * 3, "0", "1", "2.5", "1e400", "pi", "inf", "nan", "[0, 1]", "[[1.0], [2.0]]", "[]", "True", "h"]
VALID = [
    "h = tanh(x @ w + y); mean((h - z)**2)",
    "a, b = split(x, [1, 1], axis=0); where(a > b, a, b)",
    'y = clip(x, 0, 1) * array([1, 2], dtype="float32")  # typed\nconcat([y, y], axis=0)[1:]',
]


def filled(parts: tuple[str, str, str, str]) -> str:
    """A template with expressions, in parentheses unless they are short, in its places."""
    template, *inner = parts
    return template.format(*(part if part.isidentifier() else f"({part})" for part in inner))


expressions = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.tuples(st.sampled_from(RIGHT * 4 + WRONG), inner, inner, inner).map(filled),
    max_leaves=9,
)
statements = st.tuples(st.sampled_from(["h", "g", "h", "g", "x", "a, b", "pi", "_1"]), expressions).map(" = ".join)
programs = st.tuples(st.lists(statements, max_size=2), expressions).map(lambda parts: "\n".join([*parts[0], parts[1]]))


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """A good program with a few characters struck out or put in."""
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        added = draw(st.sampled_from(["", *"()[],;=.:*@'\"\\\n#0x_é\x00"]))
        text = text[:at] + added + text[at + draw(st.integers(0, 2)) :]
    return text


number = st.integers(-3, 3) | st.floats(-10, 10) | st.sampled_from([0.0, -0.0, 1e308, "NaN", "Infinity", "-Infinity"])
pair = st.lists(number, min_size=2, max_size=2)
values = st.one_of(
    number,
    pair,
    st.lists(pair, min_size=2, max_size=2),
    st.lists(number, max_size=3),
    st.lists(st.booleans(), min_size=2, max_size=2),
    st.lists(st.integers(0, 2), min_size=2, max_size=2).map(
        lambda data: {"shape": [2], "dtype": "int64", "data": data}
    ),
    st.sampled_from([True, [[], []], {"shape": [0, 2], "dtype": "float32", "data": []}]),
)
inputs = st.fixed_dictionaries(dict.fromkeys(NAMES, values))
names = st.lists(st.sampled_from([*NAMES, "h", "out", "_1"]), max_size=2)
backwards = st.booleans() | st.fixed_dictionaries(
    {},
    optional={
        "wrt": names,
        "of": st.sampled_from([*NAMES, "h", "out"]),
        "cotangent": values,
        "order": st.integers(0, 2),
        "create_graph": st.booleans(),
        "retain_grad": st.booleans(),
    },
)
options = {
    "backward": backwards,
    "nograd": st.booleans(),
    "outputs": names | st.just("all"),
    "train": st.booleans(),
    "seed": st.integers(-1, 2**70),
    "batched": names,
    "encoding": st.sampled_from(["nested", "flat", "base64", "binary"]),
}


def fitting(request: dict[str, Any]) -> dict[str, Any]:
    """`request` without the inputs that its text does not mention, so that more than that is looked at."""
    mentioned = set(re.findall(r"\b[a-z]\b", request["expr"]))
    return {**request, "inputs": {name: value for name, value in request["inputs"].items() if name in mentioned}}


def assert_kept(server: Server, request: dict[str, Any]) -> None:
    """A program is refused, or kept in a form that gives the same program again, as text and as a graph."""
    response = assert_civil(server, "/v1/programs", json.dumps(request).encode())
    if response.is_success:
        kept = server.client.get(response.headers["location"]).json()
        bind = request.get("bind", {})
        for form in ({"expr": kept["expr"], "inputs": kept["inputs"]}, {"graph": kept["graph"]}):
            again = server.client.post("/v1/programs", json={**form, "bind": bind})
            assert again.status_code == 200, f"{form}: {again.text}"
            assert again.json()["id"] == kept["id"]


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/infer"])
@given(request=st.fixed_dictionaries({"expr": programs | misspelt(), "inputs": inputs}).map(fitting))
@bounded
def test_random_programs(server: Server, path: str, request: dict[str, Any]) -> None:
    assert_civil(server, path, json.dumps(request).encode())


@given(
    request=st.fixed_dictionaries({"expr": programs | misspelt(), "inputs": inputs}).map(fitting), binds=st.booleans()
)
@bounded
def test_random_programs_are_kept(server: Server, request: dict[str, Any], binds: bool) -> None:
    bind = {"bind": request["inputs"]} if binds else {}
    assert_kept(server, {"expr": request["expr"], **bind})


@given(request=st.fixed_dictionaries({"expr": expressions, "inputs": inputs, "backward": st.just(True)}).map(fitting))
@bounded
def test_random_gradients(server: Server, request: dict[str, Any]) -> None:
    assert_civil(server, "/v1/evaluate", json.dumps(request).encode())


@given(request=st.fixed_dictionaries({"expr": expressions, "inputs": inputs}, optional=options).map(fitting))
@bounded
def test_random_options(server: Server, request: dict[str, Any]) -> None:
    assert_civil(server, "/v1/evaluate", json.dumps(request).encode())


# Graphs that are nearly right

ATTRIBUTES: list[dict[str, Any]] = [
    *[{}] * 12,
    *({"axes": [0]}, {"axis": -1}, {"keepdims": True}, {"shape": [2, 2]}, {"sizes": [1, 1]}, {"index": [0, "..."]}),
    *({"axes": "x"}, {"axis": None}, {"shape": [10**9, -1]}, {"sizes": [[1]]}, {"index": [{"step": 0}]}, {"foo": 1}),
]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """A few nodes whose arguments are inputs, literals, other nodes before or after them, and inline nodes."""
    count = draw(st.integers(1, 5))
    references = st.sampled_from([*NAMES, *(f"n{number}" for number in range(count))])

    def node(arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        attrs = st.sampled_from(ATTRIBUTES)
        one = {"op": st.sampled_from([*FUNCTIONS, "slice", "split"]), "args": st.tuples(arguments), "attrs": attrs}
        two = {"op": st.sampled_from(PAIRS), "args": st.tuples(arguments, arguments)}
        return st.fixed_dictionaries(one) | st.fixed_dictionaries(two)

    arguments = st.recursive(references | values, node, max_leaves=3)
    names = st.sampled_from([f"n{number}" for number in range(count)] * 8 + ["x", "pi", "_1", "", "max"])
    nodes = [{"id": draw(st.just(f"n{number}") | names), **draw(node(arguments))} for number in range(count)]
    return {"nodes": nodes, **draw(st.fixed_dictionaries({}, optional={"outputs": st.lists(references, max_size=2)}))}


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/infer"])
@given(graph=graphs(), inputs=inputs)
@bounded
def test_random_graphs(server: Server, path: str, graph: dict[str, Any], inputs: dict[str, Any]) -> None:
    mentioned = json.dumps(graph)
    used = {name: value for name, value in inputs.items() if f'"{name}"' in mentioned}
    assert_civil(server, path, json.dumps({"graph": graph, "inputs": used}).encode())


@given(graph=graphs())
@bounded
def test_random_graphs_are_kept(server: Server, graph: dict[str, Any]) -> None:
    assert_kept(server, {"graph": graph})


# What is known to trip up parsers and array libraries


def text(expr: str, x: Any = (1.0, 2.0), **fields: Any) -> bytes:
    return json.dumps({"expr": expr, "inputs": {"x": x}, **fields}).encode()


def array(shape: Any, data: Any = (), dtype: str = "float64") -> bytes:
    return text("x", {"shape": shape, "dtype": dtype, "data": data})


HOSTILE = {
    "100,000 open lists": b"[" * 100_000,
    "100,000 open objects": b'{"x":' * 100_000,
    "a list 70 deep": text("x", json.loads("[" * 70 + "1" + "]" * 70)),
    "a shape of 70 ones": array([1] * 70, [1]),
    "a shape beyond 64 bits": array([2**62, 4]),
    "an empty shape beyond 64 bits": array([0, 2**62, 8]),
    "an integer beyond 64 bits in a shape": array([2**80]),
    "an integer of 5,000 digits": b'{"expr": "x", "inputs": {"x": ' + b"9" * 5000 + b"}}",
    "a number beyond float64": b'{"expr": "x", "inputs": {"x": 1e999}}',
    "a number of 100,000 digits": b'{"expr": "x", "inputs": {"x": 0.' + b"3" * 100_000 + b"}}",
    "a lone surrogate as text": b'{"expr": "\\ud800 + x", "inputs": {"x": 1}}',
    "a lone surrogate as a name": b'{"expr": "x", "inputs": {"\\ud800": 1, "x": 1}}',
    "a lone surrogate as a value": b'{"expr": "x", "inputs": {"x": "\\udfff"}}',
    "UTF-16": '{"expr": "1"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"expr": "1"}',
    "a null character": text("x\x00 + 1"),
    "a carriage return": text("y = x\ry + 1"),
    "a form feed": text("\x0cx"),
    "an indented line": text("y = x\n  y + 1"),
    "a backslash": text("x + \\\n1"),
    "a tower of powers": text("x + 9**9**9**9"),
    "a literal of 5,000 digits": text("x + " + "9" * 5000),
    "a literal beyond float64": text("x * 1e999"),
    "a name of 1,000,000 letters": text("x" * 1_000_000 + " + x"),
    "10,000 arguments": text(f"add({', '.join(['x'] * 10_000)})"),
    "10,000 list items": text(f"concat([{', '.join(['x'] * 10_000)}], axis=0)"),
    "10,000 targets": text(f"{', '.join(f'a{i}' for i in range(10_000))} = split(x, [1, 1], axis=0); a0"),
    "10,000 indices": text(f"x[{', '.join(['0'] * 10_000)}]"),
    "10,000 subscripts": text("x" + "[0]" * 10_000),
    "10,000 comparisons": text(" < ".join(["x"] * 10_000)),
    "10,000 strings": text(" ".join(['"x"'] * 10_000)),
    "a slice beyond 64 bits": text("x[0:99999999999999999999999]"),
    "an index beyond 64 bits": text("x[99999999999999999999999]"),
    "an index out of range": text("x[7]"),
    "too many indices": text("x[0, 0, 0]"),
    "two ellipses": text("x[..., ...]"),
    "a step of zero": text("x[::0]"),
    "an axis out of range": text("sum(x, axis=5)"),
    "an axis beyond 64 bits": text("sum(x, axis=99999999999999999999999)"),
    "an axis twice": text("sum(x, axes=[0, 0])"),
    "an axis twice, once negative": text("sum(x, axes=[0, -1])"),
    "a roll beyond 64 bits": text("roll(x, 99999999999999999999999)"),
    "a negative repeat": text("repeat(x, -1)"),
    "a negative tile": text("tile(x, [-1])"),
    "a reshape with two unknowns": text("reshape(x, [-1, -1])"),
    "a reshape of nothing": text("reshape(x, [-1, 0])", []),
    "a negative broadcast": text("broadcast_to(x, [-1])"),
    "a permutation with repeats": text("transpose(x, [0, 0])", [[1, 2], [3, 4]]),
    "sizes that do not add up": text("a, b = split(x, [1, 5], axis=0); a"),
    "more targets than outputs": text("a, b, c = split(x, [1, 1], axis=0); a"),
    "an index into nothing": text("take(x, [99], 0)"),
    "a negative index out of range": text("get_item(x, 0, [-99])"),
    "a fraction as an index": text("take(x, [0.5], 0)"),
    "concat of nothing": text("concat([], axis=0) + x"),
    "stack of nothing": text("stack() + x"),
    "the maximum of nothing": text("max(x)", [], backward=True),
    "the index of the maximum of nothing": text("argmax(x)", []),
    "the mean of nothing": text("mean(x)", [], backward=True),
    "the softmax of nothing": text("softmax(x)", [], backward=True),
    "labels out of range": text("cross_entropy(x, [9, -5])", [[1, 2], [3, 4]]),
    "labels in fractions": text("cross_entropy(x, [0.5, 1])", [[1, 2], [3, 4]]),
    "matmul of scalars": text("x @ x", 1),
    "trace of a vector": text("trace(x)"),
    "a root of a negative number": text("x ** 0.5", -1, backward=True),
    "zero to the minus one": text("x ** -1", 0, backward=True),
    "an overflow": text("exp(x) ** 9", 1000, backward=True),
    "an int64 overflow": text("x * x * x", {"shape": [1], "dtype": "int64", "data": [2**62]}),
    "an int64 to a negative power": text("x ** -1", {"shape": [1], "dtype": "int64", "data": [0]}),
    "minus a bool": text("-x", True),
    "a bool minus a bool": text("x - x", [True, False]),
    "a ratio of one": text("dropout(x, 1.0)", train=True, seed=1),
    "a ratio of two": text("dropout(x, 2.0)", train=True, seed=1),
    "a negative seed": text("dropout(x, 0.5)", train=True, seed=-1),
    "a seed beyond 64 bits": text("dropout(x, 0.5)", train=True, seed=2**200),
    "a seed in fractions": text("dropout(x, 0.5)", train=True, seed=1.5),
    "a true order": text("x", backward={"order": True}),
    "wrt twice": text("x", backward={"wrt": ["x", "x"]}),
    "wrt nothing": text("x", backward={"wrt": []}),
    "outputs twice": text("x", outputs=["x", "x"]),
    "outputs nothing": text("x", outputs=[]),
    "batched twice": text("x", batched=["x", "x"]),
    "batched by a scalar": text("x", 1, batched=["x"]),
    "batched by another name": text("x", batched=["y"]),
    "binary in JSON": text("x", encoding="binary"),
    "an empty name": b'{"expr": "x", "inputs": {"": 1, "x": 1}}',
    "an empty graph": b'{"graph": {"nodes": []}, "inputs": {}}',
    "an empty id": b'{"graph": {"nodes": [{"id": "", "op": "sin", "args": [1]}]}}',
    "a node without an id": b'{"graph": {"nodes": [{"op": "sin", "args": [1]}]}}',
    "ids for one output": b'{"graph": {"nodes": [{"id": ["a", "b"], "op": "sin", "args": [1]}]}}',
    "one id for two outputs": (
        b'{"graph": {"nodes": [{"id": "a", "op": "split", "args": [[1, 2]], "attrs": {"sizes": [1, 1], "axis": 0}}]}}'
    ),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_request(server: Server, path: str, body: bytes) -> None:
    assert_civil(server, path, body)
    server.assert_well()
