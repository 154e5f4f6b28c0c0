"""What the wire contract promises to a request that is right."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.problem_table import BY_SLUG, KINDS, Where
from tests.sampling import examples

if TYPE_CHECKING:
    from tests.app.conftest import Server

Array = npt.NDArray[Any]
Inputs = dict[str, Any]


def flat(shape: list[int], dtype: str, data: list[Any]) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "data": data}


def packed(array: Array) -> dict[str, Any]:
    """`array` as an array object with base64 of its little-endian bytes."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "base64": base64.b64encode(data).decode()}


def numbers(value: Any) -> Any:
    """Nested lists with the words for non-finite numbers read as numbers."""
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return float(value) if isinstance(value, str) else value


def decode(value: Any) -> Array:
    """A value of an answer, in whichever form, as an array."""
    if not isinstance(value, dict):
        return np.array(numbers(value))
    dtype = np.dtype(value["dtype"])
    if "base64" in value:
        array: Array = np.frombuffer(base64.b64decode(value["base64"], validate=True), dtype.newbyteorder("<"))
    else:
        array = np.array(numbers(value["data"]), dtype)
    return array.reshape(value["shape"])


def assert_close(value: Any, expected: Any) -> None:
    actual, wanted = decode(value), np.asarray(expected)
    assert actual.shape == wanted.shape
    if actual.size:
        assert (actual.dtype.kind == "b") == (wanted.dtype.kind == "b"), f"{value} against {expected}"
    np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-12)


def spelled(array: Array) -> list[float | str]:
    """A vector as JSON has it, with words for what is not finite."""
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [words.get(str(x), x) for x in array.tolist()]


def as_written(value: Any) -> str:
    """`value` with every bit in sight: 0.0 is not -0.0, true is not 1; 3 and 3.0 are one."""
    return repr(json.loads(json.dumps(value), parse_int=float))


def only(values: dict[str, Any]) -> Any:
    (value,) = values.values()
    return value


# Values

F64 = np.array([[1.0, 2.0], [3.0, 4.0]])
F32 = np.array([0.5, 1.5], np.float32)
I64 = np.array([1, -2, 3])
MASK = np.array([True, False])

VALUES: list[tuple[Any, str, Any]] = [
    (3, "nested", 3),
    (0.1, "nested", 0.1),
    (-0.0, "nested", -0.0),
    (True, "nested", True),
    ([True, False], "nested", [True, False]),
    ("NaN", "nested", "NaN"),
    ("Infinity", "nested", "Infinity"),
    ([1, "-Infinity", "NaN"], "nested", [1, "-Infinity", "NaN"]),
    ([[1, 2], [3, 4]], "nested", [[1, 2], [3, 4]]),
    ([[[1.5]]], "nested", [[[1.5]]]),
    ([], "nested", []),
    ([[], []], "nested", [[], []]),
    (flat([2, 2], "float64", [1, 2, 3, 4]), "nested", [[1, 2], [3, 4]]),
    (flat([], "float64", [7]), "nested", 7),
    (flat([2], "bool", [True, False]), "nested", [True, False]),
    (flat([3], "int64", [1, -2, 3]), "nested", [1, -2, 3]),
    (flat([2], "int64", [1.0, 2.0]), "nested", [1, 2]),
    (flat([2], "float32", [0.5, "NaN"]), "nested", [0.5, "NaN"]),
    (flat([2, 0], "float64", []), "nested", [[], []]),
    (packed(F64), "nested", F64.tolist()),
    (packed(F32), "nested", F32.tolist()),
    (packed(I64), "nested", I64.tolist()),
    (packed(MASK), "nested", MASK.tolist()),
    (3, "flat", flat([], "float64", [3])),
    (True, "flat", flat([], "bool", [True])),
    ([[1, 2], [3, 4]], "flat", flat([2, 2], "float64", [1, 2, 3, 4])),
    ([1, "Infinity"], "flat", flat([2], "float64", [1, "Infinity"])),
    ([[], []], "flat", flat([2, 0], "float64", [])),
    (flat([0, 3], "float32", []), "flat", flat([0, 3], "float32", [])),
    (packed(I64), "flat", flat([3], "int64", [1, -2, 3])),
    (packed(F32), "flat", flat([2], "float32", [0.5, 1.5])),
    (2.5, "base64", packed(np.array(2.5))),
    (F64.tolist(), "base64", packed(F64)),
    (flat([2], "float32", [0.5, 1.5]), "base64", packed(F32)),
    (flat([3], "int64", [1, -2, 3]), "base64", packed(I64)),
    ([True, False], "base64", packed(MASK)),
    ([], "base64", packed(np.array([]))),
]


@pytest.mark.parametrize(("value", "encoding", "expected"), VALUES)
def test_value_in_and_out(server: Server, value: Any, encoding: str, expected: Any) -> None:
    answer = server.evaluate(expr="x", inputs={"x": value}, encoding=encoding)
    assert answer["values"].keys() == {"x"}
    assert as_written(answer["values"]["x"]) == as_written(expected)


def test_nested_is_the_default_encoding(server: Server) -> None:
    assert server.evaluate(expr="x", inputs={"x": packed(F64)})["values"] == {"x": [[1, 2], [3, 4]]}


def test_gradients_take_the_encoding_too(server: Server) -> None:
    answer = server.evaluate(expr="x ** 2", inputs={"x": 3}, backward=True, encoding="flat")
    assert answer["grads"] == {"x": flat([], "float64", [6])}


@pytest.mark.parametrize("encoding", ["nested", "flat"])
def test_int64_is_exact(server: Server, encoding: str) -> None:
    exact = [2**53 + 1, 2**63 - 1, -(2**63)]
    value = server.evaluate(expr="x", inputs={"x": flat([3], "int64", exact)}, encoding=encoding)["values"]["x"]
    assert (value if encoding == "nested" else value["data"]) == exact


@pytest.mark.parametrize("encoding", ["nested", "flat", "base64"])
@given(data=st.lists(st.floats(), min_size=1, max_size=20))
@settings(max_examples=examples(50), deadline=None, derandomize=True)
def test_float64_reads_back_bit_for_bit(server: Server, encoding: str, data: list[float]) -> None:
    array = np.array([math.nan if math.isnan(x) else x for x in data])
    for sent in (packed(array), flat([len(data)], "float64", spelled(array)), spelled(array)):
        value = server.evaluate(expr="x", inputs={"x": sent}, encoding=encoding)["values"]["x"]
        np.testing.assert_array_equal(decode(value).astype(float).view(np.int64), array.view(np.int64))


@pytest.mark.parametrize("encoding", ["nested", "flat", "base64"])
@given(data=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
@settings(max_examples=examples(50), deadline=None, derandomize=True)
def test_float32_reads_back_bit_for_bit(server: Server, encoding: str, data: list[float]) -> None:
    array = np.array(data, np.float32)
    value = server.evaluate(expr="x", inputs={"x": packed(array)}, encoding=encoding)["values"]["x"]
    np.testing.assert_array_equal(decode(value).astype(np.float32).view(np.int32), array.view(np.int32))


# Infix text

A = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
V = [1.0, -2.0, 3.0]
a, v = np.array(A), np.array(V)
HALF = [0.1, -0.5, 0.9]
half = np.array(HALF)
SCORES = [[0.1, 0.9, 0.3], [0.8, 0.2, 0.4]]
scores = np.array(SCORES)
soft = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

SYNTAX: list[tuple[str, Inputs, Any]] = [
    ("0.26*(x**2 + y**2) - 0.48*x*y", {"x": 1, "y": 2}, 0.26 * 5 - 0.96),
    ("-x ** 2", {"x": 3}, -9),
    ("2 ** -x", {"x": 3}, 0.125),
    ("x ** 2 ** 3", {"x": 2}, 256),
    ("+x - -x", {"x": 3}, 6),
    ("1 - x / 4 - 2", {"x": 2}, -1.5),
    ("1e-3 * x + .5", {"x": 2}, 0.502),
    ("a @ v", {"a": A, "v": V}, a @ v),
    ("v > 0", {"v": V}, v > 0),
    ("v >= 1", {"v": V}, v >= 1),
    ("v < 1", {"v": V}, v < 1),
    ("v <= 1", {"v": V}, v <= 1),
    ("v == 3", {"v": V}, v == 3),
    ("v != 3", {"v": V}, v != 3),
    ("pi * e", {}, math.pi * math.e),
    ("nan", {}, math.nan),
    ("x * inf", {"x": -1}, -math.inf),
    ("# twice\ny = x * 2  # here\n\n\ny + 1", {"x": 3}, 7),
    ("h = x + 1; g = h * 2\ng - 1", {"x": 3}, 7),
    ("y = x + 1; y = y * 2; y", {"x": 3}, 8),
    ("sum(\n  x\n)", {"x": V}, 2),
    ("max * beta + sum(sin)", {"max": 2, "beta": 3, "sin": [1, 2]}, 9),
    ("max(max)", {"max": V}, 3),
    ("ｘ * 2", {"x": 3}, 6),  # fullwidth: NFKC makes it x
    ("x + [1, 2, 3]", {"x": V}, v + np.array([1, 2, 3])),
    ("a @ [[1.0], [0], [-1]]", {"a": A}, a @ [[1.0], [0], [-1]]),
    ("x * array([1, 2, 3])", {"x": V}, v * [1, 2, 3]),
    ("a[0]", {"a": A}, a[0]),
    ("a[-1]", {"a": A}, a[-1]),
    ("a[1, 2]", {"a": A}, a[1, 2]),
    ("a[:, 1:3]", {"a": A}, a[:, 1:3]),
    ("a[::-1]", {"a": A}, a[::-1]),
    ("a[0:2, ::2]", {"a": A}, a[0:2, ::2]),
    ("a[..., 0]", {"a": A}, a[..., 0]),
    ("a[:, newaxis, :]", {"a": A}, a[:, np.newaxis, :]),
    ("a[:, 3:]", {"a": A}, a[:, 3:]),
    ("(a * 2)[0] + a[1]", {"a": A}, 2 * a[0] + a[1]),
    ("(" * 80 + "x" + ")" * 80, {"x": 3}, 3),
    (" + ".join(["x"] * 900), {"x": 1}, 900),
]

CALLS: list[tuple[str, Inputs, Any]] = [
    ("clip(v, 0, 1)", {"v": V}, np.clip(v, 0, 1)),
    ("clip(v, min=0, max=1)", {"v": V}, np.clip(v, 0, 1)),
    ("max(a, 0)", {"a": A}, a.max(0)),
    ("min(a, axis=1, keepdims=True)", {"a": A}, a.min(1, keepdims=True)),
    ("sum(a)", {"a": A}, 21),
    ("sum(a, 0)", {"a": A}, a.sum(0)),
    ("sum(a, [0])", {"a": A}, a.sum(0)),
    ("sum(a, axis=1)", {"a": A}, a.sum(1)),
    ("sum(a, axes=[0], keepdims=True)", {"a": A}, a.sum(0, keepdims=True)),
    ("sum(a, axes=[-1, 0])", {"a": A}, 21),
    ("sum(a, axes=[])", {"a": A}, a),
    ("sum(x)", {"x": []}, 0),
    ("sum(x, axis=1)", {"x": [[], []]}, [0, 0]),
    ("prod(v)", {"v": V}, -6),
    ("mean(a, axes=[0, 1])", {"a": A}, 3.5),
    ("variance(a, axis=0)", {"a": A}, a.var(0)),
    ("std(a)", {"a": A}, a.std()),
    ("reshape(a, [3, 2])", {"a": A}, a.reshape(3, 2)),
    ("reshape(a, [-1, 2])", {"a": A}, a.reshape(3, 2)),
    ("transpose(a)", {"a": A}, a.T),
    ("transpose(a, [1, 0])", {"a": A}, a.T),
    ("matrix_transpose(a)", {"a": A}, a.T),
    ("permute_dims(a, [1, 0])", {"a": A}, a.T),
    ("broadcast_to(v, [2, 3])", {"v": V}, [V, V]),
    ("sum_to(a, [1, 3])", {"a": A}, a.sum(0, keepdims=True)),
    ("unsqueeze(v, 0)", {"v": V}, [V]),
    ("expand_dims(v, 0)", {"v": V}, [V]),
    ("squeeze(x, 0)", {"x": [V]}, v),
    ("concat([a, a], axis=0)", {"a": A}, np.concatenate([a, a])),
    ("concat(a, a, axis=1)", {"a": A}, np.concatenate([a, a], 1)),
    ("concatenate([a, a], axis=0)", {"a": A}, np.concatenate([a, a])),
    ("stack([v, v], axis=0)", {"v": V}, [V, V]),
    ("take(a, [0, 2], 1)", {"a": A}, a[:, [0, 2]]),
    ("get_item(a, 1, [0, 2])", {"a": A}, a[:, [0, 2]]),
    ("roll(v, 1)", {"v": V}, np.roll(v, 1)),
    ("flip(v, 0)", {"v": V}, v[::-1]),
    ("repeat(v, 2)", {"v": V}, np.repeat(v, 2)),
    ("tile(v, [2])", {"v": V}, np.tile(v, 2)),
    ("triu(a)", {"a": A}, np.triu(a)),
    ("tril(a)", {"a": A}, np.tril(a)),
    ("trace(a)", {"a": A}, 6),
    ("diagonal(a)", {"a": A}, [1, 5]),
    ("outer(v, v)", {"v": V}, np.outer(v, v)),
    ("norm(v)", {"v": V}, math.sqrt(14)),
    ("cumulative_sum(v)", {"v": V}, np.cumsum(v)),
    ("cumsum(v, 0)", {"v": V}, np.cumsum(v)),
    ("argmax(v)", {"v": V}, 2),
    ("argmin(a, 1)", {"a": A}, [0, 0]),
    ("where(v > 0, v, 0)", {"v": V}, [1, 0, 3]),
    ("where(c, 1, 0)", {"c": [True, False]}, [1, 0]),
    ("maximum(v, 0)", {"v": V}, [1, 0, 3]),
    ("minimum(0, v)", {"v": V}, [0, -2, 0]),
    ("pow(v, 2)", {"v": V}, v**2),
    ("power(v, 2)", {"v": V}, v**2),
    ("subtract(1, v)", {"v": V}, 1 - v),
    ("multiply(v, v)", {"v": V}, v * v),
    ("divide(1, v)", {"v": V}, 1 / v),
    ("negative(v)", {"v": V}, -v),
    ("abs(v) + sign(v)", {"v": V}, abs(v) + np.sign(v)),
    ("zeros_like(v) + ones_like(v)", {"v": V}, [1, 1, 1]),
    ("stop_gradient(v)", {"v": V}, v),
    ("tan(x) + atan(x) + arctan(x)", {"x": HALF}, np.tan(half) + 2 * np.arctan(half)),
    ("asin(x) + acos(x)", {"x": HALF}, [math.pi / 2] * 3),
    ("sinh(x) / cosh(x) - tanh(x)", {"x": HALF}, [0, 0, 0]),
    ("asinh(x) - atanh(x)", {"x": HALF}, np.arcsinh(half) - np.arctanh(half)),
    ("acosh(cosh(x))", {"x": HALF}, np.arccosh(np.cosh(half))),
    ("atan2(x, y)", {"x": V, "y": HALF}, np.arctan2(v, half)),
    ("log1p(expm1(x))", {"x": HALF}, half),
    ("erf(x)", {"x": HALF}, [math.erf(x) for x in HALF]),
    ("logsumexp(v)", {"v": V}, np.log(np.exp(v).sum())),
    ("logaddexp(x, y)", {"x": V, "y": HALF}, np.logaddexp(v, half)),
    ("relu(v)", {"v": V}, [1, 0, 3]),
    ("sigmoid(v)", {"v": V}, 1 / (1 + np.exp(-v))),
    ("gelu(v)", {"v": V}, 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))),
    ("softmax(x)", {"x": SCORES}, soft),
    ("softmax(x, axis=0)", {"x": SCORES}, np.exp(scores) / np.exp(scores).sum(0)),
    ("linear(a, w, b)", {"a": A, "w": [[1.0], [2.0], [3.0]], "b": [0.5]}, a @ [[1.0], [2.0], [3.0]] + 0.5),
    ("mean_squared_error(x, y)", {"x": V, "y": HALF}, np.mean((v - half) ** 2)),
    ("cross_entropy(x, t)", {"x": SCORES, "t": [1, 2]}, -np.mean(np.log([soft[0, 1], soft[1, 2]]))),
    ("cross_entropy(x, labels)", {"x": SCORES, "labels": [1, -100]}, -np.log(soft[0, 1])),
    ("cross_entropy(x, t, ignore_index=1)", {"x": SCORES, "t": [1, 2]}, -np.log(soft[1, 2])),
    ("accuracy(x, t)", {"x": SCORES, "t": [1, 1]}, 0.5),
    ("mask_fill(v, m, value=9)", {"v": V, "m": [1, 0, 1]}, [1, 9, 3]),
    ("mask_fill(v, m, 9)", {"v": V, "m": [True, False, True]}, [1, 9, 3]),
]


@pytest.mark.parametrize(("expr", "inputs", "expected"), SYNTAX + CALLS, ids=[row[0][:40] for row in SYNTAX + CALLS])
def test_infix(server: Server, expr: str, inputs: Inputs, expected: Any) -> None:
    assert_close(only(server.evaluate(expr=expr, inputs=inputs)["values"]), expected)


OUTPUTS: list[tuple[str, Inputs, dict[str, Any]]] = [
    ("x * 2", {"x": 3}, {"out": 6}),
    ("y = x * 2", {"x": 3}, {"y": 6}),
    ("y = x * 2; y", {"x": 3}, {"y": 6}),
    ("y = x * 2; y + 0", {"x": 3}, {"out": 6}),
    ("y = x * 2; z = y + 1; y, z", {"x": 3}, {"y": 6, "z": 7}),
    ("p, q = split(x, [1, 2], axis=0); p, q", {"x": V}, {"p": [1], "q": [-2, 3]}),
    ("p, q = split(x, [1, 2], axis=0); q * 2", {"x": V}, {"out": [-4, 6]}),
    ("x", {"x": 3}, {"x": 3}),
]


@pytest.mark.parametrize(("expr", "inputs", "expected"), OUTPUTS, ids=[row[0] for row in OUTPUTS])
def test_names_of_outputs(server: Server, expr: str, inputs: Inputs, expected: dict[str, Any]) -> None:
    assert server.evaluate(expr=expr, inputs=inputs)["values"] == expected


def test_long_programs_are_written_as_statements(server: Server) -> None:
    answer = server.evaluate(expr="y = x;" + "y = y + 1;" * 2000 + "y", inputs={"x": 0.5}, backward=True)
    assert (answer["values"], answer["grads"]) == ({"y": 2000.5}, {"x": 1})


def test_outputs_picks_steps_by_name(server: Server) -> None:
    answer = server.evaluate(expr="h = x * 2; g = h + 1; g * g", inputs={"x": 3}, outputs=["g", "h"], backward=True)
    assert answer["values"] == {"g": 7, "h": 6}
    assert answer["grads"] == {"x": 28}


def test_outputs_all_shows_every_step_as_written(server: Server) -> None:
    answer = server.evaluate(expr="y = sqrt(x*x) + abs(x); y - 1", inputs={"x": 3}, outputs="all")
    steps = {"_1": 9, "_2": 3, "_3": 3, "y": 6, "out": 5}
    assert {name: answer["values"][name] for name in steps} == steps


WEAK = {"x": flat([2], "float32", [1, 2])}
WHOLE = {"x": flat([2], "int64", [1, 2])}

DTYPES: list[tuple[str, Inputs, str]] = [
    ("2 * x", WEAK, "float32"),
    ("x / 3", WEAK, "float32"),
    ("x + 0.1", WEAK, "float32"),
    ("x ** 0.5", WEAK, "float32"),
    ("maximum(x, 0)", WEAK, "float32"),
    ("where(x > 1, x, 0)", WEAK, "float32"),
    ("clip(x, 0, 1)", WEAK, "float32"),
    ("sin(x)", WEAK, "float32"),
    ("mean(x)", WEAK, "float32"),
    ('x * array([1, 2], dtype="float32")', WEAK, "float32"),
    ('x * array([1, 2], dtype="float64")', WEAK, "float64"),
    ("x + y", {**WEAK, "y": 1}, "float64"),
    ("x > 1", WEAK, "bool"),
    ("argmax(x)", WEAK, "int64"),
    ("2 * x", WHOLE, "int64"),
    ("x / 2", WHOLE, "float64"),
    ("sin(x)", WHOLE, "float64"),
    ('astype(x, "float32")', WHOLE, "float32"),
    ("x * 2", {"x": 3}, "float64"),
    ('array([1, 2], dtype="int64")', {}, "int64"),
]


@pytest.mark.parametrize(("expr", "inputs", "dtype"), DTYPES, ids=[f"{row[0]} to {row[2]}" for row in DTYPES])
def test_dtype(server: Server, expr: str, inputs: Inputs, dtype: str) -> None:
    assert only(server.evaluate(expr=expr, inputs=inputs, encoding="flat")["values"])["dtype"] == dtype


NOT_FINITE: list[tuple[str, Any, Any]] = [
    ("1 / x", 0.0, "Infinity"),
    ("-1 / x", [0.0, 1.0], ["-Infinity", -1]),
    ("log(x)", [-1.0, 0.0, 1.0], ["NaN", "-Infinity", 0]),
    ("exp(x)", 1000, "Infinity"),
]


@pytest.mark.parametrize(("expr", "x", "expected"), NOT_FINITE)
def test_results_that_are_not_finite_are_words(server: Server, expr: str, x: Any, expected: Any) -> None:
    assert server.evaluate(expr=expr, inputs={"x": x})["values"] == {"out": expected}


def test_gradients_that_are_not_finite_are_words(server: Server) -> None:
    answer = server.evaluate(expr="log(x)", inputs={"x": 0.0}, backward=True)
    assert (answer["values"], answer["grads"]) == ({"out": "-Infinity"}, {"x": "Infinity"})


# Graphs


def node(name: Any, op: str, *args: Any, **fields: Any) -> dict[str, Any]:
    return {"id": name, "op": op, "args": list(args), **fields}


SPLIT = node(["p", "q"], "split", "x", attrs={"sizes": [1, 2], "axis": 0})
ROWS = {"x": {"shape": [-1, 2], "dtype": "float64"}}
COLUMNS = {"x": {"shape": [2, None], "dtype": "float64"}}

GRAPHS: dict[str, tuple[dict[str, Any], Inputs, dict[str, Any]]] = {
    "one node": ({"nodes": [node("y", "square", "x")], "outputs": ["y"]}, {"x": 3}, {"y": 9}),
    "the last node is the output": ({"nodes": [node("h", "square", "x"), node("y", "neg", "h")]}, {"x": 3}, {"y": -9}),
    "nodes in any order": ({"nodes": [node("y", "neg", "h"), node("h", "square", "x")]}, {"x": 3}, {"y": -9}),
    "inline node": ({"nodes": [node("y", "neg", {"op": "square", "args": ["x"]})]}, {"x": 3}, {"y": -9}),
    "inline node with attributes": (
        {"nodes": [node("y", "neg", {"op": "sum", "args": ["x"], "attrs": {"axes": [0]}})]},
        {"x": A},
        {"y": [-5, -7, -9]},
    ),
    "literals": ({"nodes": [node("y", "add", {"op": "mul", "args": [2, "x"]}, [1, 2])]}, {"x": 3}, {"y": [7, 8]}),
    "an array literal": ({"nodes": [node("y", "add", "x", flat([2], "float64", [1, 2]))]}, {"x": 3}, {"y": [4, 5]}),
    "a true literal": ({"nodes": [node("y", "where", [True, False], "x", 0)]}, {"x": 3}, {"y": [3, 0]}),
    "an argument twice": ({"nodes": [node("y", "mul", "x", "x")]}, {"x": 3}, {"y": 9}),
    "several outputs of a node": ({"nodes": [SPLIT], "outputs": ["p", "q"]}, {"x": V}, {"p": [1], "q": [-2, 3]}),
    "one of several outputs": ({"nodes": [SPLIT, node("y", "sum", "q")], "outputs": ["y"]}, {"x": V}, {"y": 1}),
    "two outputs": (
        {"nodes": [node("y", "neg", "x"), node("z", "square", "y")], "outputs": ["y", "z"]},
        {"x": 3},
        {"y": -3, "z": 9},
    ),
    "an integer axis": ({"nodes": [node("y", "sum", "x", attrs={"axis": 1})]}, {"x": A}, {"y": [6, 15]}),
    "declared rows": (
        {"nodes": [node("y", "sum", "x", attrs={"axes": [1]})], "inputs": ROWS},
        {"x": [V[:2]]},
        {"y": [-1]},
    ),
    "declared columns": ({"nodes": [node("y", "sum", "x")], "inputs": COLUMNS}, {"x": A}, {"y": 21}),
    "an input named like an operation": ({"nodes": [node("y", "neg", "max")]}, {"max": 3}, {"y": -3}),
    "a node named like an operation": (
        {"nodes": [node("y", "neg", "sin"), node("sin", "neg", "x")]},
        {"x": 3},
        {"y": 3},
    ),
    "slice by integer": ({"nodes": [node("y", "slice", "x", attrs={"index": [0]})]}, {"x": A}, {"y": A[0]}),
    "slice by steps": (
        {"nodes": [node("y", "slice", "x", attrs={"index": [0, {"start": 0, "stop": 3, "step": 2}]})]},
        {"x": A},
        {"y": [1, 3]},
    ),
    "slice with newaxis": (
        {"nodes": [node("y", "slice", "x", attrs={"index": ["...", "newaxis", 0]})]},
        {"x": A},
        {"y": [[1], [4]]},
    ),
}


@pytest.mark.parametrize(("graph", "inputs", "expected"), GRAPHS.values(), ids=GRAPHS)
def test_graph(server: Server, graph: dict[str, Any], inputs: Inputs, expected: dict[str, Any]) -> None:
    assert server.evaluate(graph=graph, inputs=inputs)["values"] == expected


def test_declared_dtype_is_the_input_s(server: Server) -> None:
    graph = {"nodes": [node("y", "mul", 2, "x")], "inputs": {"x": {"shape": [2], "dtype": "float32"}}}
    answer = server.evaluate(graph=graph, inputs={"x": [0.5, 1]}, encoding="flat")
    assert answer["values"] == {"y": flat([2], "float32", [1, 2])}


def test_graph_and_text_agree(server: Server) -> None:
    nodes = [node("a", "square", "x"), node("b", "exp", "a"), node("y", "mul", "b", "x")]
    inputs = {"x": HALF}
    by_graph = server.evaluate(graph={"nodes": nodes, "outputs": ["y"]}, inputs=inputs, backward=True)
    by_text = server.evaluate(expr="a = square(x); b = exp(a); y = b * x", inputs=inputs, backward=True)
    assert (by_graph["values"], by_graph["grads"]) == (by_text["values"], by_text["grads"])


# Backward

KX = {"k": flat([], "int64", [2]), "x": V}

GRADIENTS: list[tuple[str, Inputs, Any, dict[str, Any]]] = [
    ("sum(x ** 2)", {"x": V}, True, {"x": 2 * v}),
    ("sum(x ** 2)", {"x": V}, {}, {"x": 2 * v}),
    ("x ** 2", {"x": V}, True, {"x": 2 * v}),
    ("x ** 2", {"x": V}, {"cotangent": [10, 0, -1]}, {"x": [20, 0, -6]}),
    ("x ** 2", {"x": V}, {"cotangent": flat([3], "float64", [10, 0, -1])}, {"x": [20, 0, -6]}),
    ("x * y", {"x": 3, "y": 4}, True, {"x": 4, "y": 3}),
    ("x * y", {"x": 3, "y": 4}, {"wrt": ["y"]}, {"y": 3}),
    ("h = x * 3; h ** 2", {"x": 2}, {"wrt": ["h"]}, {"h": 12}),
    ("h = x * 3; h ** 2", {"x": 2}, {"wrt": ["h", "x"]}, {"h": 12, "x": 36}),
    ("h = x * 3; h ** 2", {"x": 2}, {"of": "h"}, {"x": 3}),
    ("p = x * 2; q = x * 3; p, q", {"x": 1}, {"of": "q"}, {"x": 3}),
    ("x * y", {"x": A, "y": V}, True, {"x": [V, V], "y": a.sum(0)}),
    ("x @ w", {"x": A, "w": [[1.0], [2.0], [3.0]]}, True, {"x": [[1, 2, 3]] * 2, "w": [[5], [7], [9]]}),
    ("a * 2", {"a": [[], []]}, True, {"a": np.zeros((2, 0))}),
    ("x * k", KX, True, {"x": [2, 2, 2]}),
    ("where(m, x, 0)", {"m": [True, False, True], "x": V}, True, {"x": [1, 0, 1]}),
    ("p = x * 2; q = y * 3; p, q", {"x": 1, "y": V}, {"of": "p"}, {"x": 2, "y": [0, 0, 0]}),
    ("sign(x) * y", {"x": V, "y": 2}, True, {"x": [0, 0, 0], "y": 1}),
    ("stop_gradient(x) * y", {"x": 3, "y": 2}, True, {"x": 0, "y": 3}),
    ("(x > 0) * y", {"x": V, "y": 2}, True, {"x": [0, 0, 0], "y": 2}),
    ("stop_gradient(x)", {"x": V}, True, {"x": [0, 0, 0]}),
    (
        "cross_entropy(x, t)",
        {"x": SCORES, "t": [1, 2]},
        True,
        {"x": (soft - np.array([[0, 1, 0], [0, 0, 1]])) / 2, "t": [0, 0]},
    ),
    ("x ** 3", {"x": 2}, {"order": 1, "create_graph": False, "retain_grad": False}, {"x": 12}),
]


@pytest.mark.parametrize(("expr", "inputs", "backward", "expected"), GRADIENTS)
def test_backward(server: Server, expr: str, inputs: Inputs, backward: Any, expected: dict[str, Any]) -> None:
    grads = server.evaluate(expr=expr, inputs=inputs, backward=backward)["grads"]
    assert grads.keys() == expected.keys()
    for name, grad in expected.items():
        assert_close(grads[name], grad)


@pytest.mark.parametrize("backward", [False, None])
def test_no_backward_no_gradients(server: Server, backward: bool | None) -> None:
    fields = {} if backward is None else {"backward": backward}
    assert not server.evaluate(expr="x ** 2", inputs={"x": 3}, **fields).get("grads")


def test_retain_grad_gives_the_gradient_of_every_node(server: Server) -> None:
    answer = server.evaluate(
        expr="h = x * 3; m = h > 0; y = h ** 2 + m", inputs={"x": 2}, backward={"retain_grad": True}
    )
    assert answer["grads"] == {"x": 36}
    node_grads = answer["node_grads"]
    assert (node_grads["h"], node_grads["y"]) == (12, 1)
    assert "m" not in node_grads


def test_nograd_stands_beside_backward_false(server: Server) -> None:
    assert server.evaluate(expr="x ** 2", inputs={"x": 3}, nograd=True, backward=False)["values"] == {"out": 9}


# Random operations

MANY = {"x": [1.0] * 1000}


def dropped(server: Server, seed: int, **fields: Any) -> dict[str, Any]:
    return server.evaluate(expr="dropout(x, 0.5)", inputs=MANY, train=True, seed=seed, **fields)


def test_dropout_is_inactive_unless_trained(server: Server) -> None:
    for fields in ({}, {"train": False}, {"train": False, "seed": 1}):
        assert server.evaluate(expr="dropout(x, 0.5)", inputs=MANY, **fields)["values"] == {"out": MANY["x"]}


def test_dropout_follows_its_seed(server: Server) -> None:
    first, again, other = (dropped(server, seed)["values"]["out"] for seed in (7, 7, 8))
    assert first == again != other
    assert set(first) == {0.0, 2.0}
    assert 400 < first.count(0.0) < 600


def test_dropout_s_mask_is_the_same_backward(server: Server) -> None:
    answer = dropped(server, 7, backward=True)
    assert answer["grads"]["x"] == answer["values"]["out"]


def test_every_random_node_has_a_stream_of_its_own(server: Server) -> None:
    expr = "p = dropout(x, 0.5); q = dropout(x, 0.5); p, q"
    values = server.evaluate(expr=expr, inputs=MANY, train=True, seed=7)["values"]
    assert values["p"] != values["q"]


def test_every_row_of_a_batch_has_a_stream_of_its_own(server: Server) -> None:
    rows = {"x": [MANY["x"]] * 2}
    answer = server.evaluate(expr="dropout(x, 0.5)", inputs=rows, train=True, seed=7, batched=["x"])
    first, second = answer["values"]["out"]
    assert first != second


def test_train_without_a_random_operation_needs_no_seed(server: Server) -> None:
    assert server.evaluate(expr="x * 2", inputs={"x": 3}, train=True)["values"] == {"out": 6}


# Batches

ROW = np.random.default_rng(0)
X43, X4, X4_23 = ROW.normal(size=(4, 3)), ROW.normal(size=4), ROW.normal(size=(4, 2, 3))
W3, W32 = ROW.normal(size=3), ROW.normal(size=(3, 2))

BATCHES: list[tuple[str, dict[str, Array], list[str], Any]] = [
    ("tanh(x @ w)", {"x": X43, "w": W32}, ["x"], True),
    ("sum(x * w) ** 2", {"x": X43, "w": W3}, ["x"], True),
    ("x * y + y", {"x": X4, "y": X4}, ["x", "y"], True),
    ("max(x) * sum(w)", {"x": X43, "w": W3}, ["x"], True),
    ("softmax(x, axis=0)[1]", {"x": X43}, ["x"], True),
    ("reshape(x, [3, 1]) * w", {"x": X43, "w": W3}, ["x"], True),
    ("transpose(x) @ x", {"x": X4_23}, ["x"], True),
    ("concat([x, w], axis=0)[2:5] * x[0]", {"x": X43, "w": W3}, ["x"], True),
    ("x * w", {"x": X4, "w": W3}, ["x"], {"wrt": ["w"]}),
    ("h = x * w; sum(h ** 2)", {"x": X43, "w": W3}, ["x"], {"wrt": ["h", "w"]}),
    ("p = w * 2; q = sum(x * w); p, q", {"x": X43, "w": W3}, ["x"], {"of": "q"}),
    ("sum(x * w)", {"x": X43, "w": X43 + 1}, ["w", "x"], True),
    ("x > 0", {"x": X43}, ["x"], False),
]


def evaluated(server: Server, inputs: dict[str, Array], **fields: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Values and gradients as arrays."""
    answer = server.evaluate(inputs={name: packed(x) for name, x in inputs.items()}, encoding="base64", **fields)
    values, grads = answer["values"], answer.get("grads") or {}
    return {name: decode(x) for name, x in values.items()}, {name: decode(x) for name, x in grads.items()}


@pytest.mark.parametrize(("expr", "inputs", "batched", "backward"), BATCHES, ids=[row[0] for row in BATCHES])
def test_batch_equals_the_loop(
    server: Server, expr: str, inputs: dict[str, Array], batched: list[str], backward: Any
) -> None:
    together = evaluated(server, inputs, expr=expr, batched=batched, backward=backward)
    rows = [
        evaluated(
            server,
            {name: x[row] if name in batched else x for name, x in inputs.items()},
            expr=expr,
            backward=backward,
        )
        for row in range(4)
    ]
    for part, whole in enumerate(together):
        assert whole.keys() == rows[0][part].keys()
        for name, stacked in whole.items():
            expected = np.stack([row[part][name] for row in rows])
            assert stacked.shape == expected.shape
            np.testing.assert_allclose(stacked, expected, rtol=1e-12, atol=1e-12)


def test_cotangent_of_a_batch_has_its_axis(server: Server) -> None:
    answer = server.evaluate(
        expr="x * w", inputs={"x": [1, 2], "w": 3}, batched=["x"], backward={"cotangent": [10, 100]}
    )
    assert answer["grads"] == {"x": [30, 300], "w": [10, 200]}


def test_batch_without_rows(server: Server) -> None:
    values, grads = evaluated(server, {"x": np.zeros((0, 3)), "w": W32}, expr="x @ w", batched=["x"], backward=True)
    assert values["out"].shape == (0, 2)
    assert (grads["x"].shape, grads["w"].shape) == ((0, 3), (0, 3, 2))


# Infer


def objects(document: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document, at any depth."""
    if isinstance(document, dict):
        yield document
    if isinstance(document, dict | list):
        for item in document.values() if isinstance(document, dict) else document:
            yield from objects(item)


@pytest.mark.parametrize(
    "x",
    [
        {"shape": [7, 3], "dtype": "float64"},
        flat([7, 3], "float64", [0.5] * 21),
        [[0.5] * 3] * 7,
    ],
    ids=["shape", "flat", "nested"],
)
def test_infer_tells_the_shapes_of_all_nodes(server: Server, x: Any) -> None:
    answer = server.ask(
        "/v1/infer", expr="h = x @ w; s = sum(h, axis=0); s > 0", inputs={"x": x, "w": np.ones((3, 5)).tolist()}
    )
    found = {(tuple(item["shape"]), item["dtype"]) for item in objects(answer) if {"shape", "dtype"} <= item.keys()}
    assert {((7, 5), "float64"), ((5,), "float64"), ((5,), "bool")} <= found
    assert answer["cost"]


def test_infer_takes_a_graph(server: Server) -> None:
    graph = {"nodes": [node("y", "sin", "x")]}
    answer = server.ask("/v1/infer", graph=graph, inputs={"x": {"shape": [11, 13], "dtype": "float32"}})
    assert any(item.get("shape") == [11, 13] and item.get("dtype") == "float32" for item in objects(answer))


# Operations

NAMED = """
add sub mul div neg pow square exp log sin cos tanh sum mean variance max min sum_to broadcast_to reshape transpose
matmul clip get_item concat split squeeze unsqueeze relu sigmoid softmax gelu linear mean_squared_error cross_entropy
mask_fill dropout accuracy abs sqrt sign maximum minimum log1p expm1 tan sinh cosh asin acos atan atan2 asinh acosh
atanh where stack take flip roll repeat tile prod std cumulative_sum argmax argmin matrix_transpose astype zeros_like
ones_like erf logsumexp logaddexp trace diagonal triu tril norm outer stop_gradient slice
""".split()
ALIASES = "subtract multiply divide power negative permute_dims expand_dims concatenate arctan cumsum".split()


def test_ops_lists_every_operation(server: Server) -> None:
    rows = [item for item in objects(server.client.get("/v1/ops").json()) if {"name", "operands"} <= item.keys()]
    assert all({"aliases", "operands", "attributes"} <= row.keys() for row in rows)
    assert set(NAMED) - {row["name"] for row in rows} == set()
    known = {row["name"] for row in rows} | {alias for row in rows for alias in row["aliases"]}
    assert set(ALIASES) - known == set()


@pytest.mark.parametrize("name", NAMED)
def test_one_operation(server: Server, name: str) -> None:
    response = server.client.get(f"/v1/ops/{name}")
    assert response.status_code == 200
    assert response.json()["name"] == name


def test_an_operation_shows_its_attributes(server: Server) -> None:
    text = json.dumps(server.client.get("/v1/ops/softmax").json()["attributes"])
    assert '"axis"' in text
    assert re.search(r"-1\b", text)


def test_unknown_operation_is_not_found(server: Server) -> None:
    response = server.client.get("/v1/ops/sine")
    assert response.status_code == 404
    assert response.headers["content-type"].split(";")[0] == "application/problem+json"


# Around it

SLUGS = """
unknown-path method-not-allowed unauthorized forbidden rate-limited overloaded unavailable storage-full body-too-large
unsupported-media-type not-acceptable malformed-body unknown-program unknown-session unknown-variable unknown-job
expired-session sequence-conflict name-conflict invalid-request syntax-error unknown-op wrong-arity bad-attribute
unknown-name cycle shape-mismatch not-scalar not-differentiable nograd no-gradient not-supported limit-exceeded
deadline-exceeded wrong-host headers-too-large request-timeout malformed-request
""".split()
PAGES = ["/v1", "/v1/ops", "/v1/ops/sin", "/healthz", "/readyz", "/openapi.json", "/docs", "/problems/unknown-op"]
GOOD = {"expr": "x * 2", "inputs": {"x": 3}}


def test_root_tells_what_this_is(server: Server) -> None:
    answer = server.client.get("/v1").json()
    assert answer["name"]
    assert answer["version"]
    assert answer["limits"]
    assert answer["contract"] == 1


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_has_version_and_request_id(server: Server, path: str) -> None:
    response = server.client.get(path)
    assert response.status_code == 200
    assert response.headers["pullback-version"] == server.client.get("/v1").headers["pullback-version"]
    assert response.headers["x-request-id"]


def test_request_id_is_taken(server: Server) -> None:
    response = server.client.post("/v1/evaluate", json=GOOD, headers={"X-Request-ID": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"


def test_request_id_is_made(server: Server) -> None:
    first, second = (server.client.post("/v1/evaluate", json=GOOD).headers["x-request-id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("slug", SLUGS)
def test_every_problem_has_a_page(server: Server, slug: str) -> None:
    response = server.client.get(f"/problems/{slug}")
    assert response.status_code == 200
    assert slug in response.text


def test_unknown_problem_has_no_page(server: Server) -> None:
    assert server.client.get("/problems/no-such-problem").status_code == 404


def test_docs_is_a_page(server: Server) -> None:
    assert server.client.get("/docs").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "accept",
    ["application/json", "*/*", "application/*", "text/html;q=0.9, application/json;q=0.1", "text/html, */*;q=0.1"],
)
def test_accept(server: Server, accept: str) -> None:
    response = server.client.post("/v1/evaluate", json=GOOD, headers={"Accept": accept})
    assert response.status_code == 200
    assert response.json()["values"] == {"out": 6}


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_content_type(server: Server, media_type: str) -> None:
    response = server.client.post("/v1/evaluate", content=json.dumps(GOOD), headers={"Content-Type": media_type})
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_cors_is_off(server: Server, method: str) -> None:
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    response = server.client.request(method, "/v1/evaluate", json=GOOD, headers=headers)
    assert not [name for name in response.headers if name.startswith("access-control-")]


# OpenAPI


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
            yield method.upper(), path, item[method]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or what its `$ref` points to."""
    while "$ref" in schema:
        reference, schema = schema["$ref"], document
        for key in reference.removeprefix("#/").split("/"):
            schema = schema[key]
    return schema


def examples(document: dict[str, Any], holder: dict[str, Any]) -> list[Any]:
    """The examples of a media type or a parameter, its schema's included."""
    schema = resolved(document, holder.get("schema", {}))
    named = [resolved(document, example)["value"] for example in holder.get("examples", {}).values()]
    single = [part["example"] for part in (holder, schema) if "example" in part]
    return [*named, *single, *schema.get("examples", [])]


def example_requests(document: dict[str, Any]) -> Iterator[tuple[str, str, str | None, Any]]:
    """Method, path, media type and body of every request that the document gives as an example."""
    for method, path, operation in operations(document):
        url = path
        for parameter in operation.get("parameters", []):
            for example in examples(document, parameter)[:1]:
                url = url.replace("{" + parameter["name"] + "}", str(example))
        if "{" in url:
            continue
        if "requestBody" not in operation:
            yield method, url, None, None
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            for example in examples(document, content):
                yield method, url, media_type, example


@pytest.fixture(scope="module")
def openapi(server: Server) -> dict[str, Any]:
    document: dict[str, Any] = server.client.get("/openapi.json").json()
    return document


def test_openapi_is_3_1_with_operation_ids(openapi: dict[str, Any]) -> None:
    assert openapi["openapi"].startswith("3.1")
    ids = [operation["operationId"] for _, _, operation in operations(openapi)]
    assert len(set(ids)) == len(ids)
    assert openapi["paths"]["/v1/evaluate"]["post"]["operationId"] == "evaluate"


def test_openapi_shows_every_path(openapi: dict[str, Any]) -> None:
    paths = "/v1/evaluate /v1/infer /v1/programs /v1/programs/{program} /v1/ops /v1/ops/{name} /v1"
    assert set(paths.split()) <= openapi["paths"].keys()


def test_openapi_lists_each_problem_where_it_may_happen(openapi: dict[str, Any]) -> None:
    listed: dict[str, list[str]] = {}
    for method, path, operation in operations(openapi):
        for status, response in operation["responses"].items():
            slugs = response["description"].split(", ") if int(status) >= 400 else []
            assert len(slugs) == len(set(slugs)) and all(BY_SLUG[slug].status == int(status) for slug in slugs)
            listed.setdefault(f"{method} {path}", []).extend(slugs)
    assert {kind.slug for kind in KINDS if kind.errors} <= {slug for slugs in listed.values() for slug in slugs}
    groups = {"/v1/evaluate": Where.CALL, "/v1/sessions/{session}/run": Where.SESSION, "/v1/programs": Where.STORE}
    for path, where in groups.items():
        found = [slugs for place, slugs in listed.items() if place.split()[1] == path]
        assert found and all({kind.slug for kind in KINDS if where in kind.where} <= set(slugs) for slugs in found)


def test_openapi_says_how_calls_of_sessions_are_repeated(openapi: dict[str, Any]) -> None:
    found = openapi["components"]["schemas"]
    for call in ("Variable", "Apply", "Backward", "ClearGrad"):
        request = found[f"{call}Request"]
        assert {"seq", "encoding"} <= request["properties"].keys()
        assert "do" not in request.get("required", ())
    commands = found["RunRequest"]["properties"]["commands"]["items"]
    for do, reference in commands["discriminator"]["mapping"].items():
        assert {"$ref": reference} in commands["oneOf"]
        command = found[reference.rpartition("/")[2]]
        assert command["properties"]["do"] == {"const": do} and "do" in command["required"]
    [key] = openapi["paths"]["/v1/sessions"]["post"]["parameters"]
    assert (key["name"], key["in"], key["required"]) == ("Idempotency-Key", "header", False)
    state = openapi["paths"]["/v1/sessions/{session}/state/{variable}"]
    assert "application/safetensors" in state["put"]["requestBody"]["content"]
    assert "application/safetensors" in state["get"]["responses"]["200"]["content"]


def test_openapi_has_an_example_of_each_kind(openapi: dict[str, Any]) -> None:
    bodies = [(path, body) for method, path, _, body in example_requests(openapi) if method == "POST"]
    for path in ("/v1/evaluate", "/v1/infer", "/v1/programs"):
        assert [body for other, body in bodies if other == path], f"no example for {path}"
    for kind in ("expr", "graph", "program", "backward", "batched"):
        assert any(kind in body for path, body in bodies if path == "/v1/evaluate"), f"no example with {kind}"


@pytest.mark.parametrize("is_drawn", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["rest", "drawn"])
def test_every_example_in_openapi_is_answered(server: Server, openapi: dict[str, Any], is_drawn: bool) -> None:
    """Those that Graphviz draws, and the rest."""
    # Some examples name programs that others register.
    registering = ("POST", "/v1/programs")
    found = sorted(example_requests(openapi), key=lambda example: example[:2] != registering)
    for method, path, media_type, body in found:
        if (method, path) != registering and path.endswith(".svg") != is_drawn:
            continue
        headers = {"Content-Type": media_type} if media_type else {}
        content = json.dumps(body) if media_type else None
        response = server.client.request(method, path, content=content, headers=headers)
        assert response.is_success, f"{method} {path} {body}: {response.text}"
