"""Infix text: what it means, and what is said of text that means nothing."""

import math
import warnings
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.errors import (
    ArityError,
    AutogradError,
    BadAttributeError,
    InvalidValueError,
    LimitExceededError,
    ProgramSyntaxError,
    UnknownOperationError,
)
from engine.core.table import OPERATIONS
from engine.programs import build, parse
from engine.programs.text.tokens import INSTEAD
from tests.engine.graphs import quickly, shown, shown_inputs, shown_outputs
from tests.sampling import examples

GRAPHS = {
    # Operators
    "x + y - z": ["_1 = add(x, y)", "out = sub(_1, z)"],
    "x * y / z": ["_1 = mul(x, y)", "out = div(_1, z)"],
    "a @ b": ["out = matmul(a, b)"],
    "-x ** 2": ["_1 = pow(x, 2)", "out = neg(_1)"],
    "2 ** -x": ["_1 = neg(x)", "out = pow(2, _1)"],
    "x ** y ** 3": ["_1 = pow(y, 3)", "out = pow(x, _1)"],
    "+x - +y": ["out = sub(x, y)"],
    "(x + y) * z": ["_1 = add(x, y)", "out = mul(_1, z)"],
    "x < 1": ["out = less(x, 1)"],
    "x <= 1": ["out = less_equal(x, 1)"],
    "x > 1": ["out = greater(x, 1)"],
    "x >= 1": ["out = greater_equal(x, 1)"],
    "x == 1": ["out = equal(x, 1)"],
    "x != 1": ["out = not_equal(x, 1)"],
    "(x > 0) * y": ["_1 = greater(x, 0)", "out = mul(_1, y)"],
    # Literals
    "2 * x": ["out = mul(2, x)"],
    "2.0 * x": ["out = mul(2.0, x)"],
    "1e-3 * .5 * 1_000 * 0x10": ["_1 = mul(0.001, 0.5)", "_2 = mul(_1, 1000)", "out = mul(_2, 16)"],
    "x * -2": ["out = mul(x, -2)"],
    "x - - 2": ["out = sub(x, -2)"],
    "--2": ["out = (2)"],
    "2 * 3": ["out = mul(2, 3)"],
    "x * pi + e - nan / inf": [
        f"_1 = mul(x, {math.pi})",
        f"_2 = add(_1, {math.e})",
        "_3 = div(nan, inf)",
        "out = sub(_2, _3)",
    ],
    "x + [1, 2, 3]": ["out = add(x, [1, 2, 3])"],
    "x + [1, 2.0]": ["out = add(x, [1.0, 2.0])"],
    "x @ [[1.0], [-1]]": ["out = matmul(x, [[1.0], [-1.0]])"],
    "x * (1, 2)": ["out = mul(x, [1, 2])"],
    "where([True, False], x, True)": ["out = where([True, False], x, True)"],
    "x * array([1, 2])": ["out = mul(x, float64[1.0, 2.0])"],
    'x * array([1, 2], dtype="float32")': ["out = mul(x, float32[1.0, 2.0])"],
    'x * array([1, 2], dtype="float32", shape=[2, 1])': ["out = mul(x, float32[[1.0], [2.0]])"],
    'x * array("AACAPwAAAEA=", "float32", [2])': ["out = mul(x, float32[1.0, 2.0])"],
    "x * array([], shape=[2, 0])": ["out = mul(x, float64[[], []])"],
    "x * array([[1], [2]], 'int64')": ["out = mul(x, int64[[1], [2]])"],
    "x * array(3)": ["out = mul(x, float64 3.0)"],
    "where(array([True]), x, y)": ["out = where(bool[True], x, y)"],
    # Constants
    "2": ["out = (2)"],
    "[1, 2]": ["out = ([1, 2])"],
    "True": ["out = (True)"],
    "pi": [f"out = ({math.pi})"],
    "a = 2; a * x": ["a = (2)", "out = mul(a, x)"],
    "a = array(2); a": ["a = (float64 2.0)"],
    # Calls
    "sum(x)": ["out = sum(x)"],
    "sum(x, 0)": ["out = sum(x, axes=0)"],
    "sum(x, [0, -1], True)": ["out = sum(x, axes=(0, -1), keepdims=True)"],
    "sum(x, axes=[])": ["out = sum(x, axes=())"],
    "sum(x, axis=(0, 1), keepdims=True)": ["out = sum(x, axes=(0, 1), keepdims=True)"],
    "sum(x, axis=None)": ["out = sum(x)"],
    "clip(x, -1, inf)": ["out = clip(x, min=-1, max=inf)"],
    "take(x, [0, 2], 1)": ["out = take(x, [0, 2], axis=1)"],
    "take(x, i, axis=1)": ["out = take(x, i, axis=1)"],
    "where(y=2, x=x + 1, condition=c)": ["_1 = add(x, 1)", "out = where(c, _1, 2)"],
    "linear(x, w)": ["out = linear(x, w)"],
    "linear(x, w, b=a * 2)": ["_1 = mul(a, 2)", "out = linear(x, w, _1)"],
    'astype(x, "float32")': ["out = astype(x, dtype=float32)"],
    "concat([a, b], axis=1)": ["out = concat(a, b, axis=1)"],
    "concat(a, b, axis=1)": ["out = concat(a, b, axis=1)"],
    "stack([a + 1, 2, array([1])])": ["_1 = add(a, 1)", "out = stack(_1, 2, float64[1.0])"],
    "subtract(x, 1)": ["out = sub(x, 1)"],
    "sum(\n  x,  # over all\n  axis=None,\n)": ["out = sum(x)"],
    "max * sin + max(max)": ["_1 = mul(max, sin)", "_2 = max(max)", "out = add(_1, _2)"],
    # Indices
    "x[0]": ["out = slice(x, index=(0,))"],
    "x[-1, 2]": ["out = slice(x, index=(-1, 2))"],
    "x[:, 1:3]": ["out = slice(x, index=(('slice', None, None, None), ('slice', 1, 3, None)))"],
    "x[::-1]": ["out = slice(x, index=(('slice', None, None, -1),))"],
    "x[..., newaxis]": ["out = slice(x, index=(Ellipsis, None))"],
    "x[None]": ["out = slice(x, index=(None,))"],
    "x[[0, 2]]": ["out = slice(x, index=(('ints', (0, 2)),))"],
    "x[()]": ["out = slice(x, index=())"],
    'slice(x, index=["1:", ":-2:3", "newaxis", 0])': [
        "out = slice(x, index=(('slice', 1, None, None), ('slice', None, -2, 3), None, 0))"
    ],
    "(x + 1)[0][1]": ["_1 = add(x, 1)", "_2 = slice(_1, index=(0,))", "out = slice(_2, index=(1,))"],
    "newaxis * x[newaxis]": ["_1 = slice(x, index=(None,))", "out = mul(newaxis, _1)"],
    # Statements
    "h = x + 1; g = h * 2\ng - 1": ["h = add(x, 1)", "g = mul(h, 2)", "out = sub(g, 1)"],
    "# first\ny = x * 2  # here\n\n\ny": ["y = mul(x, 2)"],
    "y = x * 2;": ["y = mul(x, 2)"],
    "y = x * 2\r\nz = y\rz + y": ["y = mul(x, 2)", "out = add(y, y)"],
    "\n    y = x * 2\n    y + 1\n  ": ["y = mul(x, 2)", "out = add(y, 1)"],
    "y = sqrt(x*x) + abs(x); y - 1": [
        "_1 = mul(x, x)",
        "_2 = sqrt(_1)",
        "_3 = abs(x)",
        "y = add(_2, _3)",
        "out = sub(y, 1)",
    ],
    "y = x + 1; y = y * 2; y": ["y_1 = add(x, 1)", "y = mul(y_1, 2)"],
    "y = x; y = y + 1; y = y * 2": ["y_1 = add(x, 1)", "y = mul(y_1, 2)"],
    "y = 2; y_1 = x; y = y * x; y = y + 1": ["y_2 = (2)", "y_3 = mul(y_2, x)", "y = add(y_3, 1)"],
    "where(y=sin(a), x=cos(b), condition=c)": ["_1 = cos(b)", "_2 = sin(a)", "out = where(c, _1, _2)"],
    "p, q = split(x, [1, 2]); q * 2": ["p, q = split(x, sizes=(1, 2))", "out = mul(q, 2)"],
    "p, q = split(x, 2); p = q; p": ["p_1, q = split(x, sizes=2)"],
    "(p, q) = split(x, 2)": ["p, q = split(x, sizes=2)"],
    "y = split(x, 1); y": ["y = split(x, sizes=1)"],
    "out = x + 1; out * 2": ["out = add(x, 1)", "out_ = mul(out, 2)"],
    "out * 2": ["out_ = mul(out, 2)"],
    # Aliases
    "a = x * 2; b = a; a = a + 1; a * b": ["b = mul(x, 2)", "a = add(b, 1)", "out = mul(a, b)"],
    "ｙ = ｘ * 2; y": ["y = mul(x, 2)"],
    "ﬁ * 2": ["out = mul(fi, 2)"],
    "(" * 80 + "x" + ")" * 80 + " * 2": ["out = mul(x, 2)"],
}


@pytest.mark.parametrize("text", GRAPHS, ids=[text[:40] for text in GRAPHS])
def test_nodes(text: str) -> None:
    assert shown(parse(text)) == GRAPHS[text]


OUTPUTS = {
    "x": ["x"],
    "x * 2": ["out"],
    "y = x": ["y: x"],
    "y = x; y": ["y: x"],
    "y = x * 2; y": ["y"],
    "y = x * 2; +y": ["out: y"],
    "y = x * 2; z = y; z, y, x": ["z: y", "y", "x"],
    "p, q = split(x, 2)": ["p", "q"],
    "p, q = split(x, 2); q, p": ["q", "p"],
    "y = x * 2; y,": ["y"],
    "pi": ["out"],
}


@pytest.mark.parametrize("text", OUTPUTS)
def test_outputs(text: str) -> None:
    assert shown_outputs(parse(text)) == OUTPUTS[text]


def test_aliases_name_nodes_and_inputs() -> None:
    assert parse("a = x; b = a * 2; c = b; d = c; b").aliases == {"a": "x", "c": "b", "d": "b"}


@pytest.mark.parametrize(
    ("text", "inputs"),
    [("b + a * b", ["b", "a"]), ("where(c, sin(a), b)", ["c", "a", "b"]), ("y = 2; y", []), ("sin(sin)", ["sin"])],
)
def test_inputs_stand_in_order_of_appearance(text: str, inputs: list[str]) -> None:
    assert shown_inputs(parse(text)) == inputs


def test_declared_inputs_come_first() -> None:
    declared = {"b": {"shape": [-1, None, 3], "dtype": "float32"}, "ｃ": {}}
    assert shown_inputs(parse("a * b", declared)) == ["b[None, None, 3] float32", "c", "a"]


def test_generated_ids_are_not_names() -> None:
    graph = parse("h = sin(x) + 1; h * 2")
    assert [(node.ids, node.is_named) for node in graph.nodes] == [(("_1",), False), (("h",), True), (("out",), True)]


def test_nodes_know_their_place() -> None:
    graph = parse("  h = sin(x); g = (\n  ｘ * h) * 2")
    assert [node.loc for node in graph.nodes] == [("expr", 1, 7), ("expr", 2, 3), ("expr", 1, 19)]


def test_both_forms_give_one_graph() -> None:
    text = parse("a = square(x); b = exp(a[0]) * 2; y = clip(b, 0, 1)")
    nodes = [
        {"id": "a", "op": "square", "args": ["x"]},
        {
            "id": "b",
            "op": "mul",
            "args": [{"op": "exp", "args": [{"op": "slice", "args": ["a"], "attrs": {"index": [0]}}]}, 2],
        },
        {"id": "y", "op": "clip", "args": ["b"], "attrs": {"min": 0, "max": 1}},
    ]
    graph = build({"nodes": nodes})
    assert shown(text) == shown(graph)
    assert (text.inputs, text.outputs) == (graph.inputs, graph.outputs)


SYNTAX = [
    # text, line, column, words of the message
    ("", 1, 1, "statement"),
    ("  \n# nothing", 1, 1, "statement"),
    ("x ^ 2", 1, 3, "^ **"),
    ("y = x\nz = y ^ 2", 2, 7, "a ** b"),
    ("x and y", 1, 3, "and logical_and(a, b)"),
    ("x or y", 1, 3, "or logical_or(a, b)"),
    ("not x", 1, 1, "not logical_not(a)"),
    ("x & y", 1, 3, "& logical_and(a, b)"),
    ("x | y", 1, 3, "| logical_or(a, b)"),
    ("~x", 1, 1, "~ logical_not(a)"),
    ("!x", 1, 1, "! logical_not(a)"),
    ("x % 2", 1, 3, "% remainder(a, b)"),
    ("x // 2", 1, 3, "// floor_divide(a, b)"),
    ("x << 2", 1, 3, "<<"),
    ("x >> 2", 1, 3, ">>"),
    ("x in y", 1, 3, "in"),
    ("x is y", 1, 3, "is =="),
    ("x if y else z", 1, 3, "where(condition, x, y)"),
    ("y + (0 < x < 1)", 1, 6, "logical_and(a < b, b < c)"),
    ("0 < x == 1", 1, 1, "logical_and"),
    # What Python has and this language has not
    ("lambda * 2", 1, 1, "lambda lam"),
    ("lambda x: x", 1, 1, "lam"),
    ("ｌambda * 2", 1, 1, "lam"),
    ("x.T", 1, 2, "transpose(x)"),
    ("x.__class__", 1, 2, "attributes"),
    ("sin(x)(y)", 1, 1, "called names"),
    ("f'{x}'", 1, 1, "prefix"),
    ("rb'x'", 1, 1, "prefix"),
    ("'''x'''", 1, 3, "operator"),
    ("'a' 'b'", 1, 5, "operator"),
    ("'a\\n'", 1, 1, "backslash"),
    ("[v for v in x]", 1, 4, "for arrays"),
    ("{'a': x}", 1, 1, "{"),
    ("sin(*x)", 1, 5, "unpack"),
    ("sum(x, **y)", 1, 8, "unpack"),
    ("(y := x)", 1, 4, ":= statement"),
    ("y = x; y += 1", 1, 10, "+= y = y + 1"),
    ("y = x; y **= 2", 1, 10, "**="),
    ("x: int = 3", 1, 2, ":"),
    ("x -> y", 1, 3, "->"),
    ("x \\\n + 1", 1, 3, "parentheses"),
    ("import os", 1, 1, "import statements"),
    ("def f(x): return x", 1, 1, "def"),
    ("while x: y = 1", 1, 1, "while"),
    ("class = x", 1, 1, "class class_"),
    ("y = await x", 1, 5, "await"),
    ("2j * x", 1, 1, "complex"),
    ("a = b = x", 1, 9, "a = b"),
    # Operators and operands
    ("x +", 1, 4, "missing +"),
    ("(x + )", 1, 5, "missing +"),
    ("x * / y", 1, 5, "missing /"),
    ("* x", 1, 1, "*"),
    ("y = ", 1, 4, "missing ="),
    ("= y", 1, 1, "missing ="),
    ("2 x", 1, 3, "missing 2 x"),
    ("sin(x) y", 1, 8, "missing ) y"),
    ("2x", 1, 1, "2x 2 * x"),
    ("x²", 1, 1, "x² x ** 2"),
    ("f(,)", 1, 3, "missing ,"),
    ("f(x,,)", 1, 5, "here"),
    ("x[]", 1, 3, "here"),
    ("f(a=1, x)", 1, 9, "positional"),
    ("x, = = y", 1, 6, "missing ="),
    # Brackets and lines
    ("y = x\n(x + 1", 2, 1, "( closed"),
    ("x + 1)", 1, 6, ") closes"),
    ("(x]", 1, 3, "] ("),
    ("(a; b)", 1, 3, "( closed ;"),
    ("y = x\n  y + 1", 2, 3, "indented"),
    ("x;; y", 1, 3, ";"),
    ("; x", 1, 1, ";"),
    # Names, numbers and characters
    ("α * 2", 1, 1, "α"),
    ("y = x; _1 = y", 1, 8, "_1 reserved"),
    ("_1 * 2", 1, 1, "_1 reserved"),
    ("0777", 1, 1, "0777"),
    ("1__0", 1, 1, "1__0"),
    ("0xzz", 1, 1, "0xzz"),
    ("0x1for", 1, 1, "0x1for"),
    ("1if x else 2", 1, 1, "1if"),
    ("9" * 5000 + " * x", 1, 1, "float64"),
    ("x − 1", 1, 3, "MINUS SIGN"),
    ("ｘ + (é ^ 2)", 1, 6, "é"),
    ("'é' + x ^ 2", 1, 9, "^"),
    ("x\x00", 1, 2, "U+0000"),
    ("\x0cx", 1, 1, "U+000C"),
    ("x\xa0+ 1", 1, 2, "NO-BREAK SPACE"),
    ("\ufeffx", 1, 1, "U+FEFF"),
    ("# \ud800\nx", 1, 3, "U+D800"),
    ('"x', 1, 1, "string line"),
    ("x $ y", 1, 3, "$"),
    # Assignments and outputs
    ("x = x + 1", 1, 1, "x input line 1, column 5"),
    ("y = x + 1\nx = y", 2, 1, "x input line 1, column 5"),
    ("y = x; x = 1", 1, 8, "x input line 1, column 5"),
    ("pi = 3; pi * x", 1, 1, "pi constant pi_"),
    ("a, e = split(x, 2)", 1, 4, "e constant"),
    ("True = 2", 1, 1, "True"),
    ("x[0] = 1; x", 1, 1, "names"),
    ("f(x) = 1", 1, 1, "assign"),
    ("a, a = split(x, 2)", 1, 4, "a twice"),
    ("() = f(x)", 1, 1, "nothing"),
    ("a, b = x", 1, 8, "several"),
    ("a, b = array([1, 2])", 1, 8, "several"),
    ("p, q = split(x, 2); a, b = p", 1, 28, "several"),
    ("sin(x); y = cos(x)", 1, 1, "last"),
    ("x, y + 1", 1, 4, "assign"),
    ("x, pi", 1, 4, "assign"),
    ("x, x", 1, 4, "x twice"),
    ("-None", 1, 1, "None sign"),
    ("+'a'", 1, 1, "sign"),
    ("-True", 1, 1, "True sign"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), SYNTAX, ids=[row[0][:30] for row in SYNTAX])
def test_syntax_errors_say_where_and_what_instead(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(ProgramSyntaxError) as caught:
        parse(text)
    error = caught.value
    assert (error.line, error.column) == (line, column), error
    assert error.text == text.replace("\r", "").split("\n")[line - 1]
    assert error.faults[0].loc == ("expr", line, column)
    assert error.detail.startswith(f"line {line}, column {column}: ")
    for word in words.split():
        assert word in error.detail


FAULTS: list[tuple[str, type[AutogradError], list[tuple[int, int]], str]] = [
    ("sine(x)", UnknownOperationError, [(1, 1)], "sine sin line 1, column 1"),
    ("sine(x) + cosin(x)", UnknownOperationError, [(1, 1), (1, 11)], "sine"),
    ("(sine(x) +\n cosin(x))", UnknownOperationError, [(1, 2), (2, 2)], "sine"),
    ("y = foo(x)\nz = bar(y); y, z", UnknownOperationError, [(1, 5), (2, 5)], "foo"),
    ("__import__(x)", UnknownOperationError, [(1, 1)], "__import__"),
    ("e(x)", UnknownOperationError, [(1, 1)], '"e"'),
    ("sine(x) + cos(x, x)", UnknownOperationError, [(1, 1)], "sine"),
    ("x" * 150 + "(x)", UnknownOperationError, [(1, 1)], "..."),
    ("sin(x, x)", ArityError, [(1, 1)], "sin(x) 2"),
    ("y * sin()", ArityError, [(1, 5)], "sin"),
    ("where(x, x)", ArityError, [(1, 1)], "where(condition, x, y)"),
    ("concat([])", ArityError, [(1, 1)], "concat"),
    ("array()", ArityError, [(1, 1)], "array(value, dtype=None, shape=None)"),
    ("array(1, 'int64', [], 2)", ArityError, [(1, 1)], "array(value, dtype=None, shape=None)"),
    ("array([1], 'int64', 2)", InvalidValueError, [(1, 1)], "shape 2 list"),
    ("array([1], shape=[2])", InvalidValueError, [(1, 1)], "1 elements [2] 2"),
    ("array('AA', shape=[1])", InvalidValueError, [(1, 1)], "base64"),
    ("sin(x, x) + sum(x, foo=1)", ArityError, [(1, 1)], "sin"),
    ("sum(x, keepdim=True)", BadAttributeError, [(1, 1)], "keepdim keepdims"),
    ("sum(x, axis=0, axis=1)", BadAttributeError, [(1, 1)], "axis twice"),
    ("sum(x, axis=y)", BadAttributeError, [(1, 1)], "axes y"),
    ("n = 1; sum(x, axis=n)", BadAttributeError, [(1, 8)], "axes n"),
    ("sum(x, axes=[0, y + 1])", BadAttributeError, [(1, 1)], "axes add(...)"),
    ("reshape(x, 2 * 3)", BadAttributeError, [(1, 1)], "shape mul(...)"),
    ("x[y]", BadAttributeError, [(1, 1)], "index y take"),
    ("x[0, [y]]", BadAttributeError, [(1, 1)], "index take"),
    ("x[0.5]", BadAttributeError, [(1, 1)], "index 0.5"),
    ("x[::0]", BadAttributeError, [(1, 1)], "step"),
    ("x[..., ...]", BadAttributeError, [(1, 1)], "..."),
    ("x[(('slice',),)]", BadAttributeError, [(1, 1)], "index"),
    ("array([1], 'float16')", BadAttributeError, [(1, 1)], "float16 float32"),
    ("array([1], dtyp='float32')", BadAttributeError, [(1, 1)], "dtyp dtype"),
    ("array([1], value=2)", BadAttributeError, [(1, 1)], "value twice"),
    ("array([1], int64)", BadAttributeError, [(1, 1)], "dtype int64"),
    ("sum([x, y])", InvalidValueError, [(1, 1)], "literals stack"),
    ("x * ([y], 1)", InvalidValueError, [(1, 1)], "literals stack"),
    ("array([x])", InvalidValueError, [(1, 1)], "literals stack"),
    ("array([1.5], dtype='int64')", InvalidValueError, [(1, 1)], "1.5 [0] int64"),
    ("x + [[1, 2], [3]]", InvalidValueError, [(1, 1)], "[1] rectangular"),
    ("x + [1, True] * [2, None]", InvalidValueError, [(1, 5), (1, 5)], "true [1]"),
    ("x + None", InvalidValueError, [(1, 1)], "null"),
    ("x + 'a'", InvalidValueError, [(1, 1)], '"a"'),
    ("y = 'a'; y", InvalidValueError, [(1, 5)], '"a"'),
    ("...", InvalidValueError, [(1, 1)], "..."),
    ("x * 0x1" + "0" * 300, InvalidValueError, [(1, 1)], "float64"),
    ("split(x, [1, 1])", InvalidValueError, [(1, 1)], "split 2 outputs"),
    ("sin(split(x, 2))", InvalidValueError, [(1, 5)], "split 2 outputs"),
    ("a, b, c = split(x, 2)", InvalidValueError, [(1, 11)], "split 2 outputs 3"),
    ("a, b = sin(x)", InvalidValueError, [(1, 8)], "sin 1 output 2"),
    ("a, b = split(x, -1)", InvalidValueError, [(1, 8)], "split -1"),
]


@pytest.mark.parametrize(("text", "kind", "places", "words"), FAULTS, ids=[row[0][:30] for row in FAULTS])
def test_faults_say_where(text: str, kind: type[AutogradError], places: list[tuple[int, int]], words: str) -> None:
    with pytest.raises(AutogradError) as caught:
        parse(text)
    assert type(caught.value) is kind
    assert [fault.loc for fault in caught.value.faults] == [("expr", *place) for place in places]
    for word in words.split():
        assert word in caught.value.detail


def test_declarations_are_checked_before_the_text() -> None:
    declared: Any = {"x": {"shap": [1]}, "pi": {}, "y": {"shape": [1.5], "dtype": "float16"}, "z": 3}
    with pytest.raises(InvalidValueError) as caught:
        parse("x +", declared)
    expected = {("x", "shap"), ("pi",), ("y", "shape", 0), ("y", "dtype"), ("z",)}
    assert {fault.loc for fault in caught.value.faults} == {("inputs", *place) for place in expected}


def test_declared_inputs_are_not_assigned_to() -> None:
    with pytest.raises(ProgramSyntaxError, match="declared"):
        parse("x = 1", {"x": {}})


def test_hints_name_operations_that_exist() -> None:
    named = {name for hint in INSTEAD.values() for name in hint.replace("(", "( ").split() if name.endswith("(")}
    assert {"logical_and(", "where(", "remainder("} <= named
    assert {name.strip("(") for name in named} <= set(OPERATIONS)


# Limits


def nested_chains(levels: int, terms: int) -> str:
    text = "x"
    for _ in range(levels):
        text = f"({text})" + " + x" * terms
    return text


LIMITS = {
    "parentheses": ("(" * 101 + "x" + ")" * 101, "depth 101 100"),
    "100,000 parentheses": ("(" * 100_000 + "x" + ")" * 100_000, "depth"),
    "100,000 open lists": ("[" * 100_000, "depth"),
    "100,000 calls": ("sin(" * 100_000, "depth"),
    "100,000 minus signs": ("-" * 100_000 + "x", "depth"),
    "signs in parentheses": ("(-" * 51 + "x" + ")" * 51, "depth"),
    "signs and powers": ("x ** -" * 101 + "x", "depth"),
    "1,001 operators": (" + ".join(["x"] * 1002), "chain 1,001 1,000"),
    "100,000 terms": (" + ".join(["x"] * 100_000), "chain"),
    "100,000 powers": ("**".join(["x"] * 100_000), "chain"),
    "100,000 comparisons": (" < ".join(["x"] * 100_000), "chain"),
    "100,000 indices": ("x" + "[0]" * 100_000, "chain"),
    "chains inside chains": (nested_chains(6, 900), "nested"),
    "powers inside powers": (
        "x**" * 900 + "(" + "x**" * 900 + "(" + "x**" * 900 + "(" + "x**" * 900 + "x)))",
        "nested",
    ),
    "300,000 statements": ("y = x;" + "y = -y;" * 300_000 + "y", "nodes 100,000"),
    "300,000 numbers": ("[" + "1, " * 300_000 + "]", "nodes"),
    "300,000 assignments": ("a = 1\n" * 300_000, "nodes"),
}


@pytest.mark.parametrize(("text", "words"), LIMITS.values(), ids=LIMITS)
def test_limits(text: str, words: str) -> None:
    with quickly(), pytest.raises(LimitExceededError) as caught:
        parse(text, max_nodes=100_000)
    for word in words.split():
        assert word in caught.value.detail
    assert words == "nested" or caught.value.limit == words.split()[0]


ALLOWED = {
    "100 parentheses": "(" * 100 + "x" + ")" * 100,
    "99 brackets and signs": "sum((-" * 33 + "x" + "))" * 33,
    "1,000 additions": " + ".join(["x"] * 1001),
    "1,000 powers": "**".join(["x"] * 1001),
    "600 signed terms": " + ".join(["-x"] * 600),
    "600 indexed terms": " + ".join(["x[0]"] * 600),
    "chains in a list": f"stack([{', '.join([' + '.join(['x'] * 600)] * 3)}])",
    "chains side by side": nested_chains(2, 900),
    "2,000 statements": "y = x;" + "y = y + 1;" * 2000 + "y",
    "10,000 operands": f"stack([{', '.join(['x'] * 10_000)}])",
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_within_limits(text: str) -> None:
    with quickly():
        assert parse(text).outputs


def test_limits_are_parameters() -> None:
    with pytest.raises(LimitExceededError, match="limit is 3"):
        parse("((((x))))", max_depth=3)
    with pytest.raises(LimitExceededError, match="limit is 3"):
        parse("x + x + x + x + x", max_chain=3)
    with pytest.raises(LimitExceededError, match="limit is 3"):
        parse("a = sin(x); b = sin(x)\nc = x[0]; -x", max_nodes=3)
    assert len(parse("a = sin(x); b = sin(x); array([-1, -2]) + c", max_nodes=3).nodes) == 3


def test_many_faults_end_the_search() -> None:
    with quickly(), pytest.raises(UnknownOperationError) as caught:
        parse("\n".join(f"y{i} = foo{i}(x)" for i in range(20_000)))
    assert len(caught.value.faults) == 100


SLOW_IF_QUADRATIC = {
    "names": ", ".join(f"a{i}" for i in range(20_000)),
    "keywords": f"sum(x, {', '.join(f'k{i}=1' for i in range(20_000))})",
    "one keyword": f"sum(x, {', '.join(['k=1'] * 20_000)})",
    "letters beyond ASCII": f"stack([{', '.join(['ｘ + 1'] * 10_000)}])",
    "combining letters": "é" + "̣́" * 100_000,
    "blank lines": "(x" + "\n" * 200_000 + ")",
    "statements on a line": ";".join(f"a{i} = x" for i in range(10_000)),
    "a long name": "x" * 1_000_000 + "(x)",
    "a long number": "0." + "3" * 100_000,
    "a long integer": "1" + "_1" * 100_000,
    "a long string": "'" + "a" * 1_000_000,
    "slices": f"x[{':' * 50_000}]",
    "quotes": "'" * 100_001,
}


@pytest.mark.thorough
@pytest.mark.parametrize("text", SLOW_IF_QUADRATIC.values(), ids=SLOW_IF_QUADRATIC)
def test_long_texts_take_linear_time(text: str) -> None:
    assert_civil(text)


# Properties


def assert_civil(text: str) -> None:
    """A sound graph or an error of ours comes, in time and without a warning."""
    graph = None
    with quickly(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(AutogradError):
            graph = parse(text)
    assert not caught
    if graph is not None:
        known = {i.name for i in graph.inputs}
        count = len(known)
        for node in graph.nodes:
            assert known.issuperset(arg for arg in node.args if isinstance(arg, str))
            known.update(node.ids)
            count += len(node.ids)
        assert len(known) == count
        assert graph.outputs
        assert known.issuperset(o.id for o in graph.outputs)
        assert known.isdisjoint(graph.aliases)


TOKENS = """
x y h out
pi newaxis sin sum split concat array stack grad 1 2.5 0 1e400 0x1f 7j "float32" 'a' True None + - * / ** @ < ==
!= = ; , : ( ) [ ] ... . % // ^ & | ~ := += and not if else lambda for in is # \\ ' " é ｘ axis=0 keepdims=True _1 {
""".split()


@given(st.lists(st.sampled_from([*TOKENS, "\n", " ", "\t", "\r", "\x0c", "\x00"]), max_size=30).map(" ".join))
@settings(max_examples=examples(500))
def test_random_tokens(text: str) -> None:
    assert_civil(text)


@given(st.text(max_size=40) | st.text(alphabet="x1.+-*/()[]{},;:=<>!'\"\\\n# eEjJ_0é\x00\ud800", max_size=40))
@settings(max_examples=examples(500))
def test_random_text(text: str) -> None:
    assert_civil(text)


VALID = [
    "h = tanh(x @ w + b); mean((h - t)**2)",
    "a, b = split(x, [1, 1], axis=0)\nwhere(a > b, a[..., newaxis], b)",
    'y = clip(x, 0, 1) * array([1, 2], dtype="float32")  # typed\nconcat([y, y], axis=0)[1:]',
]


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """A good program with a few characters struck out or put in."""
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        put = draw(st.sampled_from(["", *"()[],;=.:*@'\"\\\n#0x_é%^&!-", " if ", " not ", "**", "//", "\t"]))
        text = text[:at] + put + text[at + draw(st.integers(0, 3)) :]
    return text


@given(misspelt())
@settings(max_examples=examples(500))
def test_misspelt_programs(text: str) -> None:
    assert_civil(text)


leaves = st.sampled_from(["x", "y", "2", "0.5", "3.0"])
arithmetic = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(inner, st.sampled_from([" + ", "-", " * ", "*-", " - -"]), inner).map("".join)
        | inner.map("({})".format)
        | inner.map("-{}".format)
        | inner.map("abs({})".format)
        | st.tuples(inner, st.sampled_from(["<", "<=", "==", "!=", ">"]), inner).map(
            lambda p: "(1.0 * ({}{}{}))".format(*p)
        )
    ),
    max_leaves=12,
)


@given(arithmetic)
@settings(max_examples=examples(300))
def test_arithmetic_is_python_s(text: str) -> None:
    values: dict[str, Any] = {"x": 0.75, "y": -1.5}
    expected = eval(text, {"abs": abs}, dict(values))
    graph = parse(text)
    for node in graph.nodes:
        args = [values[arg] if isinstance(arg, str) else arg.value for arg in node.args]
        values[node.ids[0]] = node.op.run(tuple(args), node.attrs) if node.op else args[0]
    assert float(values[graph.outputs[0].id]) == pytest.approx(float(expected), rel=1e-12, abs=1e-12)
