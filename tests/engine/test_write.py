"""Programs written as documents and as text: how they read, and that both are read back as the same program."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.errors import AutogradError, InvalidValueError
from engine.core.table import OPERATIONS, rows
from engine.graph import Graph, Node, Output
from engine.graph.generated_names import named
from engine.programs import build, parse
from engine.programs.identity import program_id
from engine.programs.text.write import as_document, as_text, declarations
from tests.engine.graphs import quickly, shown
from tests.engine.test_build import GRAPHS as DOCUMENTS
from tests.engine.test_expression import GRAPHS as TEXTS
from tests.sampling import examples


def read_back(program: Graph) -> list[Graph]:
    """A program through its text, and through its document as JSON."""
    return [parse(as_text(program), declarations(program)), build(json.loads(json.dumps(as_document(program))))]


def assert_same(program: Graph) -> None:
    for again in read_back(program):
        assert shown(again) == shown(program)
        assert (again.inputs, again.outputs, again.aliases) == (program.inputs, program.outputs, program.aliases)
        assert program_id(again) == program_id(program)


# How it reads

READS = {
    "x+y*2-(z-1)/-w": "x + y * 2 - (z - 1) / -w",
    "a-(b-c)": "a - (b - c)",
    "(a-b)-c": "a - b - c",
    "a/(b*c)": "a / (b * c)",
    "(a**b)**c": "(a ** b) ** c",
    "a**(b**c)": "a ** b ** c",
    "(-x)**2": "(-x) ** 2",
    "-(x**2)": "-x ** 2",
    "-(x*y)": "-(x * y)",
    "(-x)*y": "-x * y",
    "(-2)**x": "(-2) ** x",
    "x**(-2)": "x ** -2",
    "2**-x": "2 ** -x",
    "neg(2) * neg(neg(x))": "neg(2) * --x",
    "neg(-0.0) + (-0.0)": "neg(-0.0) + -0.0",
    "(a<b)==(c<d)": "(a < b) == (c < d)",
    "(a<b)+c<d": "(a < b) + c < d",
    "(a+b)[0]": "(a + b)[0]",
    "sin(a)[0][1:]": "sin(a)[0][1:]",
    "(-a)[0]": "(-a)[0]",
    "-a[0]": "-a[0]",
    "a[::2, 1:-1, ..., newaxis, [0, -1], [[1], [2]]]": "a[::2, 1:-1, ..., newaxis, [0, -1], [[1], [2]]]",
    "slice(2, ['newaxis'])": 'slice(2, index=["newaxis"])',
    "slice([1, 2], [[0, 1], '1:', ':', '::-1', -1, '...'])": (
        'slice([1, 2], index=[[0, 1], "1:", ":", "::-1", -1, "..."])'
    ),
    "slice(x, ['1:2'])": "x[1:2]",
    "add(x, 1) - subtract(y, 2)": "x + 1 - (y - 2)",
    "matmul(x, y.T)".replace(".T", "[0]"): "x @ y[0]",
    "sum(x, 0, True)": "sum(x, axes=0, keepdims=True)",
    "norm(x, 'inf')": "norm(x, ord=inf)",
    "clip(x, -1, nan)": "clip(x, min=-1, max=nan)",
    "mask_fill(x, m, -inf)": "mask_fill(x, m, value=-inf)",
    "linear(x, w, b=0.5)": "linear(x, w, b=0.5)",
    "linear(b=y, w=w, x=x)": "linear(x, w, y)",
    "stack([1, 2])": "stack(1, 2)",
    "stack([[1, 2], x])": "stack([[1, 2], x])",
    "concat(x, [1, 2], axis=-1)": "concat(x, [1, 2], axis=-1)",
    "concat([array([1]), x])": "concat(array([1.0]), x)",
    "3.141592653589793 * 2.718281828459045 * -3.141592653589793": "pi * e * -3.141592653589793",
    "1e400 - 1e-400 + 1e22": "inf - 0.0 + 1e+22",
    "[1, nan, -inf]": "[1.0, nan, -inf]",
    "[[], []] * [True]": "[[], []] * [True]",
    "array(True) * array(-0.0)": "array(True) * array(-0.0)",
    "array([0.1, 3.4e38, nan, 1e-45], 'float32')": 'array([0.1, 3.4e+38, nan, 1e-45], dtype="float32")',
    "array(7, 'float32')": 'array(7.0, dtype="float32")',
    "array([], 'bool')": 'array([], dtype="bool")',
    "array([], shape=[0, 3])": 'array([], dtype="float64", shape=[0, 3])',
    "array([-1], dtype='int64', shape=[1, 1])": 'array([[-1]], dtype="int64")',
    "y = x; y": "y = x",
    "y = x; y, x": "y = x\ny, x",
    "x": "x",
    "y = 2": "y = 2",
    "p, q = split(x, 2); q": "p, q = split(x, sizes=2)\nq",
    "a = x * 2; b = a; c = a; a * b": "a = x * 2\nb = a\nc = a\na * a",
    "y = x * 2; y = y * y; y + y": "y_1 = x * 2\ny = y_1 * y_1\ny + y",
    "out = x * 2; out + 1": "out = x * 2\nout + 1",
    "out = x * 2; y = out + 1; out": "out = x * 2\ny = out + 1\nout",
    "a = sin(x); out = cos(a)": "a = sin(x)\ncos(a)",
    "out_ = cos(x)": "out_ = cos(x)",
}


@pytest.mark.parametrize("given_text", READS, ids=[text[:40] for text in READS])
def test_text(given_text: str) -> None:
    program = parse(given_text)
    assert as_text(program) == READS[given_text]
    assert_same(program)


def test_documents() -> None:
    declared: dict[str, Any] = {"x": {"shape": [-1, 2], "dtype": "float32"}, "unused": {}}
    program = parse(
        "c = array([1, 2], 'float32'); h = tanh(2 * x[..., 1:, [0]] + nan); p, q = split(h, [1, 1]); d = q;"
        "linear(p, [inf, 1], b=[-0.0]) * clip(q, max=inf) * True * array(3)",
        declared,
    )
    index = {"index": ["...", {"start": 1}, [0]]}
    assert as_document(program) == {
        "nodes": [
            {"id": "c", "value": {"shape": [2], "dtype": "float32", "data": [1.0, 2.0]}},
            {
                "id": "h",
                "op": "tanh",
                "args": [
                    {
                        "op": "add",
                        "args": [
                            {"op": "mul", "args": [2, {"op": "slice", "args": ["x"], "attrs": index}]},
                            {"value": "NaN"},
                        ],
                    }
                ],
            },
            {"id": ["p", "q"], "op": "split", "args": ["h"], "attrs": {"sizes": [1, 1]}},
            {
                "id": "out",
                "op": "mul",
                "args": [
                    {
                        "op": "mul",
                        "args": [
                            {
                                "op": "mul",
                                "args": [
                                    {"op": "linear", "args": ["p", ["Infinity", 1.0]], "attrs": {"b": [-0.0]}},
                                    {"op": "clip", "args": ["q"], "attrs": {"max": "Infinity"}},
                                ],
                            },
                            True,
                        ],
                    },
                    {"shape": [], "dtype": "float64", "data": [3.0]},
                ],
            },
            {"id": "d", "alias": "q"},
        ],
        "outputs": ["out"],
        "inputs": {"x": {"shape": [-1, 2], "dtype": "float32"}, "unused": {}},
    }


def test_large_constants_are_bytes() -> None:
    for dtype in ("float64", "float32", "int64", "bool"):
        array = {"shape": [101], "dtype": dtype, "data": [1] * 101 if dtype != "bool" else [True] * 101}
        program = build({"nodes": [{"id": "y", "op": "sum", "args": [array]}]})
        assert set(as_document(program)["nodes"][0]["args"][0]) == {"shape", "dtype", "base64"}
        assert f'", dtype="{dtype}", shape=[101])' in as_text(program)
        assert_same(program)


def test_deep_expressions_stand_beside_each_other() -> None:
    nodes = as_document(parse("sin(" * 30 + "x" + ")" * 30))["nodes"]
    assert len(nodes) == 4
    assert [n.get("id") for n in nodes] == [None, None, None, "out"]
    assert '{"node": 2}' in json.dumps(nodes[3])


# Both are read back

EVERY = [row for row in rows() if row.outputs is None]


@pytest.mark.parametrize("given_text", TEXTS, ids=[text[:40] for text in TEXTS])
def test_every_text_is_read_back(given_text: str) -> None:
    assert_same(parse(given_text))


@pytest.mark.parametrize("described", [row[0] for row in DOCUMENTS.values()], ids=DOCUMENTS)
def test_every_document_is_read_back(described: dict[str, Any]) -> None:
    assert_same(build(described))


@pytest.mark.parametrize("op", EVERY, ids=[op.name for op in EVERY])
def test_every_operation_is_read_back(op: Any) -> None:
    for example in op.examples:
        args = [f"x{i}" if isinstance(x, tuple) else x for i, x in enumerate(example.operands)]
        attrs = {key: list(value) if isinstance(value, tuple) else value for key, value in example.attrs.items()}
        assert_same(build({"nodes": [{"id": "y", "op": op.name, "args": args, "attrs": attrs}]}))


DEEP: dict[str, str] = {
    "a sum": "x" + " + x" * 999,
    "a sum of literals": "1" + " + 1" * 999,
    "powers": "x" + " ** x" * 999,
    "calls": "sin(" * 99 + "x" + ")" * 99,
    "calls in calls": "neg(a + " * 99 + "x" + ")" * 99,
    "negative bases": "(neg(" * 49 + "x" + ") ** 2)" * 49,
    "signs": "-" * 99 + "x",
    "indices": "x" + "[0]" * 900,
    "parentheses": "(" * 90 + "x" + " + x)" * 90,
    "brackets on the right": "2 ** (" * 90 + "x" + " * 2)" * 90,
    "products in a long sum": " + ".join(["(a * b)"] * 900),
    "two long chains": "(" + " + ".join("a" * 900) + ") + " + " + ".join("b" * 900),
    "lists": "[" * 32 + "1" + "]" * 32,
    "lists in calls": "sin(" * 60 + "[" * 32 + "1" + "]" * 32 + ")" * 60,
    "statements": "y = x; " + "y = y * y + 1; " * 2_000 + "y",
}


@pytest.mark.parametrize("given_text", DEEP.values(), ids=DEEP)
def test_what_is_nested_to_the_limits_is_read_back(given_text: str) -> None:
    with quickly():
        assert_same(parse(given_text))


def test_long_programs_are_written_quickly() -> None:
    program = parse("y0 = x; " + "; ".join(f"y{i + 1} = sin(y{i}) * x + {i}.5" for i in range(3_500)))
    with quickly():
        found, written = as_document(program), as_text(program)
    assert len(found["nodes"]) == 3_501 and written.count("\n") == 3_500


def test_what_has_no_name_and_needs_one_is_not_written() -> None:
    sine, cosine = OPERATIONS["sin"], OPERATIONS["add"]
    once = Node(("_1",), sine, ("x",), {}, False, ())
    twice = Node(("y",), cosine, ("_1", "_1"), {}, True, ())
    inputs = parse("x").inputs
    for write in (as_document, as_text):
        with pytest.raises(InvalidValueError, match='"y" need names'):
            write(Graph(inputs, (once, twice), ()))
        with pytest.raises(InvalidValueError, match='"_1" needs a name'):
            write(Graph(inputs, (once,), ()))


# Programs that were made by code


def nameless(program: Graph) -> Graph:
    """A program whose nodes have numbers for names, as code may make them."""
    numbers = {i: f"_{n}" for n, i in enumerate((i for node in program.nodes for i in node.ids), 1)}
    nodes = tuple(
        replace(
            node,
            ids=tuple(numbers[i] for i in node.ids),
            args=tuple(numbers.get(x, x) if isinstance(x, str) else x for x in node.args),
            is_named=False,
        )
        for node in program.nodes
    )
    outputs = tuple(Output(o.name, numbers.get(o.id, o.id)) for o in program.outputs)
    aliases = {name: numbers.get(of, of) for name, of in program.aliases.items()}
    return replace(program, nodes=nodes, outputs=outputs, aliases=aliases)


NAMED = {
    "y = sin(x) * 2": "y = sin(x) * 2",
    "a = sin(x); b = cos(z); y = a * b": "y = sin(x) * cos(z)",
    "a = sin(x); b = cos(z); y = b * a": "t1 = sin(x)\nt2 = cos(z)\ny = t2 * t1",
    "a = sin(x); y = a * a": "t1 = sin(x)\ny = t1 * t1",
    "a = sin(x); b = cos(x); y = -b; y": "t1 = sin(x)\ny = -cos(x)",
    "a = sin(x); b = cos(a); c = exp(t1); y = b + c; y, a": "a = sin(x)\ny = cos(a) + exp(t1)\ny, a",
    "a = 2; y = a * x": "t1 = 2\ny = t1 * x",
    "p, q = split(x, 2); y = p + q": "t1, t2 = split(x, sizes=2)\ny = t1 + t2",
    "y = sin(x); z = y; y, z": "y = sin(x)\nz = y\ny, z",
    "y = " + "sin(" * 15 + "x" + ")" * 15: f"t1 = {'sin(' * 12}x{')' * 12}\ny = sin(sin(sin(t1)))",
}


@pytest.mark.parametrize("given_text", NAMED, ids=[text[:40] for text in NAMED])
def test_programs_made_by_code_get_the_names_that_they_need(given_text: str) -> None:
    program = named(nameless(parse(given_text)))
    assert as_text(program) == NAMED[given_text]
    assert_same(program)


# Random programs

numbers = st.one_of(
    st.integers(-(2**64), 2**64),
    st.floats(),
    st.sampled_from([0, -0.0, 0.5, -2, 1e22, float("nan"), float("inf")]),
)
lists = st.one_of(
    st.lists(numbers, max_size=3),
    st.lists(st.booleans(), max_size=3),
    st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), max_size=2),
)


def spelled(value: Any) -> str:
    """A literal as text, spelled in another way than `text` does."""
    if isinstance(value, list):
        return f"({''.join(spelled(item) + ',' for item in value)})" if value else "[]"
    if isinstance(value, float) and not np.isfinite(value):
        return "nan" if np.isnan(value) else "+inf" if value > 0 else "-inf"
    return repr(value)


def strong(value: Any, dtype: str) -> str:
    return f"array({spelled(value)}, '{dtype}')"


INPUTS = ["x", "y", "w", "max", "NaN", "_a"]
literals = st.one_of(
    numbers.map(spelled),
    st.booleans().map(repr),
    lists.map(spelled),
    st.builds(strong, st.lists(st.booleans(), max_size=2) | st.booleans(), st.sampled_from(["bool", "int64"])),
    st.builds(strong, st.lists(st.integers(-9, 9), max_size=2), st.sampled_from(["float64", "float32", "int64"])),
    st.builds(strong, st.floats(width=32), st.sampled_from(["float64", "float32"])),
    st.builds("array([], '{}', [{}, 0, 2])".format, st.sampled_from(["float32", "bool"]), st.integers(0, 2)),
)
items = st.sampled_from(["0", "-1", ":", "1:", ":-2", "::2", "...", "newaxis", "[0, 1]", "[]", "[[0], [1]]"])
indices = st.lists(items, min_size=1, max_size=3).filter(lambda found: found.count("...") < 2).map(", ".join)
CALLS = [
    "sin({})",
    "neg({})",
    "sum({}, [0, -1], True)",
    "mean({}, axis=0)",
    "norm({}, 'inf')",
    "reshape({}, -1)",
    "transpose({}, [1, 0])",
    "clip({}, -inf, 2.5)",
    "astype({}, 'float32')",
    "dropout({}, 0.25)",
    "get_item({}, 0, [[0, 1], [1, 0]])",
    "one_hot({}, 3)",
    "repeat({}, 2, axis=0)",
    "softmax({}, 0)",
    "add({}, {})",
    "power({}, {})",
    "take({}, {}, 1)",
    "linear({}, {}, b={})",
    "where(y={}, x={}, condition={})",
    "mask_fill({}, {}, nan)",
    "concat([{}, {}], axis=1)",
    "stack({}, {}, axis=-1)",
    "slice_add({}, {}, ['1:', '...', [0, 1], 'newaxis'])",
]


def expressions(names: list[str]) -> st.SearchStrategy[str]:
    operators = ["+", "-", "*", "/", "**", "@", "<", ">=", "=="]
    return st.recursive(
        st.sampled_from([*INPUTS, *names]) | literals,
        lambda inner: st.one_of(
            st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
            st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
            st.builds("-({})".format, inner),
            st.builds("({})[{}]".format, inner, indices),
            st.builds(lambda form, *args: form.format(*args), st.sampled_from(CALLS), inner, inner, inner),
        ),
        max_leaves=6,
    )


NAMES = ["h", "g", "out", "ｙ１", "out_", "h_1"]
lengths = st.none() | st.integers(-1, 3)
declared_inputs = st.dictionaries(
    st.sampled_from([*INPUTS, "unused", "unused_2"]),
    st.fixed_dictionaries(
        {}, optional={"shape": st.lists(lengths, max_size=3), "dtype": st.sampled_from(["float64", "float32", "bool"])}
    ),
    max_size=4,
)


@st.composite
def texts(draw: Callable[..., Any]) -> str:
    """Statements that may read what was assigned before, and assign again."""
    names: list[str] = []
    statements = []
    for _ in range(draw(st.integers(0, 5))):
        value = draw(expressions(names))
        if draw(st.integers(0, 4)) == 0:
            targets = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=3, unique=True))
            value = f"split({value}, {[1] * len(targets)}, axis=-1)"
        else:
            targets = [draw(st.sampled_from(NAMES))]
        statements.append(f"{', '.join(targets)} = {value}")
        names = [*dict.fromkeys([*names, *targets])]
    if not statements or draw(st.booleans()):
        outputs = st.lists(st.sampled_from([*names, "x"]), min_size=1, max_size=3, unique=True).map(", ".join)
        statements.append(draw(outputs | expressions(names)))
    return "; ".join(statements)


@pytest.mark.thorough
@given(texts(), declared_inputs)
@settings(max_examples=examples(300))
def test_random_texts_are_read_back(given_text: str, declared: dict[str, Any]) -> None:
    try:
        program = parse(given_text, declared)
    except AutogradError:
        # A random program may take a sign of True, or mix numbers and bools in a list.
        return
    assert_same(program)
    made = nameless(program)
    assert_same(named(made))
    assert [node.op for node in named(made).nodes] == [node.op for node in program.nodes]


@st.composite
def documents(draw: Callable[..., Any]) -> dict[str, Any]:
    """Nodes in any order, of which one may read the other where that makes no cycle."""
    count = draw(st.integers(1, 6))
    names = [f"n{i}" for i in range(count)]
    nodes: list[dict[str, Any]] = []
    words = st.sampled_from(["NaN", "Infinity", "-Infinity"])
    value = st.one_of(numbers.filter(math.isfinite), st.booleans(), lists.map(_with_words), st.builds(_array, lists))
    for i, name in enumerate(names):
        earlier = names[:i]
        leaf = st.one_of(
            st.sampled_from([*INPUTS, *earlier]), value, st.builds(lambda item: {"value": item}, value | words)
        )
        argument = st.recursive(leaf, _calls, max_leaves=5)
        kind = draw(st.integers(0, 5))
        if kind == 0:
            nodes.append({"id": name, "alias": draw(st.sampled_from([*INPUTS, *earlier]))})
        elif kind == 1:
            nodes.append({"id": name, "value": draw(value | words)})
        else:
            nodes.append({"id": name, **draw(_calls(argument))})
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    return {"nodes": draw(st.permutations(nodes)), "outputs": outputs, "inputs": draw(declared_inputs)}


def _with_words(items: list[Any]) -> list[Any]:
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [words.get(str(item), item) if isinstance(item, float) else item for item in items]


def _array(items: list[Any]) -> dict[str, Any]:
    dtype = "bool" if np.array(items).dtype == bool else "float64"
    array = np.array(items, dtype)
    return {"shape": list(array.shape), "dtype": dtype, "data": _with_words(array.reshape(-1).tolist())}


def _calls(argument: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    def call(op: str, count: int, attrs: dict[str, Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
        args = st.lists(argument, min_size=count, max_size=count)
        return st.builds(lambda found: {"op": op, "args": found, **({"attrs": attrs} if attrs else {})}, args)

    return st.one_of(
        call("sin", 1),
        call("add", 2),
        call("subtract", 2),
        call("where", 3),
        call("stack", 2, {"axis": 1}),
        call("concat", 3),
        call("linear", 2, {"b": [1, 2]}),
        call("linear", 2, {"b": "NaN"}),
        call("clip", 1, {"max": "Infinity"}),
        call("slice", 1, {"index": [{"start": 1, "step": -1}, "newaxis", [0, 1], "..."]}),
        call("dropout", 1),
    )


@pytest.mark.thorough
@given(documents())
@settings(max_examples=examples(150))
def test_random_documents_are_read_back(described: dict[str, Any]) -> None:
    assert_same(build(described))
