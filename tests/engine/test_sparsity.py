"""Sparse Jacobians and Hessians, by few directions, against dense ones; patterns against numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import compile as compiled
from engine import functions as F
from engine import transforms
from engine.core.operation import Example, Operation
from engine.core.values import FLOAT64, Aval, aval, shape_of
from engine.plans import sparsity
from engine.plans.sparsity import Pattern, colouring, pattern
from engine.plans.trace import Trace
from engine.programs.derivatives import hessian, jacobian
from engine.programs.text.parser import parse
from tests.engine.cases import CASES, attributes, moved, operands, outputs
from tests.sampling import examples

LENGTH = 40
ROSENBROCK = parse("sum(100 * (x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)")
MODES = ("forward", "reverse", "auto")

#: Vectors of LENGTH elements made of others.
STEPS = (
    "sin({a})",
    "{a} * {b}",
    "{a} + 0.5 * {b}",
    "{a}[::-1]",
    "concat([{a}[1:], {b}[:1]])",
    "where({a} > {b}, {a}, {b}[::-1])",
    "maximum({a}, {b})",
    "clip({a}, -0.5, 0.5)",
    "reshape(transpose(reshape({a}, [8, 5])), [40])",
    "reshape(reshape({a}, [20, 2]) @ [[1.0, 2.0], [0.5, -1.0]], [40])",
    "reshape([[1.0, 0.3], [2.0, 0.5]] @ reshape({a}, [2, 20]), [40])",
    "reshape(reshape({a}, [10, 2, 2]) @ reshape({b}, [10, 2, 2]), [40])",
    "{a} * sum({b}[3:5])",
    "{a} + {b}[7]",
    "slice_add({a}, {b}[:3] ** 2, [[1, 1, 5]])",
    "take({a}, [39, 0, 0, 3])[1] * {b}",
    "scatter_add({a}, [1, 1, 5], {b}[:3])",
    "repeat(mean(reshape({a}, [20, 2]), axes=1), 2)",
    "reshape(softmax(reshape({a}, [10, 4])), [40])",
    "reshape(cumulative_sum(reshape({a}, [10, 4]), axis=1), [40])",
    "repeat(max(reshape({a}, [20, 2]), axes=1), 2) * {b}",
    "take({a}, argmax({b})) + {b}",
    "reshape(tril(reshape({a}, [8, 5])), [40])",
    "stop_gradient({a}) * {b}",
)


@contextmanager
def dense() -> Iterator[None]:
    """Everything is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsity, "SMALLEST", 10**9)
        yield


@st.composite
def vectors(draw: st.DrawFn) -> str:
    """A program that makes a vector of `x`, and of vectors that it made before."""
    names = ["x"]
    lines = []
    for n in range(draw(st.integers(1, 5))):
        step = draw(st.sampled_from(STEPS))
        name = f"v{n}"
        lines.append(f"{name} = {step.format(a=draw(st.sampled_from(names)), b=draw(st.sampled_from(names)))}")
        names.append(name)
    return "; ".join([*lines, names[-1]])


def point(seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(LENGTH)


def is_sparse(prepared: Any) -> bool:
    """Whether entries are put where they belong."""
    return "scatter_add" in prepared.source


def assert_same(found: Any, expected: Any) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * (1.0 + np.abs(expected).max(initial=0.0)))


def assert_as_dense(ask: Any) -> None:
    """The same document of matrices both ways."""
    found = ask()
    with dense():
        expected = ask()
    for name, blocks in expected.items():
        for other, block in blocks.items():
            assert_same(np.asarray(found[name][other]), np.asarray(block))


@settings(max_examples=examples(60), deadline=None)
@given(text=vectors(), seed=st.integers(0, 100))
def test_sparse_jacobians_are_the_dense_ones(text: str, seed: int) -> None:
    graph, inputs = parse(text), {"x": point(seed)}
    for mode in MODES:
        assert_as_dense(lambda mode=mode: jacobian(graph, inputs, mode=mode).run()["jacobian"])


@settings(max_examples=examples(60), deadline=None)
@given(text=vectors(), seed=st.integers(0, 100))
def test_sparse_hessians_are_the_dense_ones(text: str, seed: int) -> None:
    *lines, last = text.split("; ")
    graph = parse("; ".join([*lines, f"sum({last} * sin({last}))"]))
    assert_as_dense(lambda: hessian(graph, {"x": point(seed)}).run()["hessian"])


@pytest.mark.parametrize("step", STEPS)
def test_every_step_alone_in_every_mode(step: str) -> None:
    graph = parse(f"b = cos(x); {step.format(a='x', b='b')}")
    for mode in MODES:
        assert_as_dense(lambda mode=mode: jacobian(graph, {"x": point(3)}, mode=mode).run()["jacobian"])


@pytest.mark.parametrize(("op", "example"), [case for case in CASES if case.values[0].is_differentiable])
def test_patterns_hold_every_derivative(op: Operation, example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every row, of all its operands together."""
    monkeypatch.setattr(sparsity, "SMALLEST", 1)
    values, attrs, places = operands(op, example), attributes(op, example), moved(op, example)
    if op.random or not places or op.name == "grad":
        return
    trace = Trace()
    # Indices and masks are constants.
    symbols: list[Any] = list(values)
    for i in places:
        symbols[i] = trace.input(f"x{i}", Aval(shape_of(values[i]), FLOAT64))
    ys = [y for y in outputs(op.run(tuple(symbols), attrs)) if aval_of(y).is_floating]
    if not ys:
        return
    known = pattern(trace, ys, [symbols[i] for i in places])

    def smooth(*xs: Any) -> Any:
        full = list(values)
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        found = outputs(op.run(tuple(full), attrs))
        return [y for y in found if aval_of(y).is_floating]

    blocks = transforms.jacobian(smooth, tuple(range(len(places))))(*(values[i] for i in places))
    rows = [
        np.concatenate(
            [np.reshape(part, (aval_of(y).size, aval_of(values[i]).size)) for i, part in zip(places, row, strict=True)],
            axis=1,
        )
        for y, row in zip(ys, blocks, strict=True)
    ]
    matrix = np.concatenate(rows)
    if known is not None:
        assert known.shape == matrix.shape
        matrix[known.rows, known.columns] = 0.0
        assert not matrix.any()


def aval_of(y: Any) -> Aval:
    return y.aval if hasattr(y, "aval") else aval(y)


@settings(max_examples=examples(40), deadline=None)
@given(
    entries=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 39)), max_size=60),
)
def test_columns_of_one_colour_never_meet(entries: list[tuple[int, int]]) -> None:
    places = np.array(sorted(set(entries)), np.int64).reshape(-1, 2)
    found = colouring(Pattern(places[:, 0], places[:, 1], (20, 40)))
    if found is not None:
        assert found.count == found.colours.max() + 1 <= 20
        meetings = list(zip(places[:, 0].tolist(), found.colours[places[:, 1]].tolist(), strict=True))
        assert len(set(meetings)) == len(meetings)


def test_a_band_of_two_thousand_takes_few_directions() -> None:
    x = np.random.default_rng(0).standard_normal(2000)
    found = hessian(ROSENBROCK, {"x": x})
    with dense():
        assert 5 * found.cost.flops < hessian(ROSENBROCK, {"x": x}).cost.flops
    blocks = found.run()["hessian"]["x"]["x"]
    beside = -400.0 * x[:-1]
    np.testing.assert_allclose(np.diag(blocks, 1), beside, rtol=1e-12)
    np.testing.assert_allclose(np.diag(blocks, -1), beside, rtol=1e-12)
    own = np.append(1200.0 * x[:-1] ** 2 - 400.0 * x[1:] + 2.0, 0.0)
    np.testing.assert_allclose(np.diag(blocks), own + np.append(0.0, np.full(1999, 200.0)), rtol=1e-12)
    assert np.count_nonzero(blocks) == 3 * 2000 - 2


@pytest.mark.parametrize("mode", MODES)
def test_one_full_row_is_found_by_rows_and_one_full_column_by_columns(mode: str) -> None:
    for text, fast in (("concat([x[1:] ** 2, reshape(sum(x * x), [1])])", "reverse"), ("x[0] * x", "forward")):
        graph, inputs = parse(text), {"x": point(1)}
        assert_as_dense(lambda graph=graph, inputs=inputs: jacobian(graph, inputs, mode=mode).run()["jacobian"])
        assert is_sparse(jacobian(graph, inputs, mode=mode)) == (mode in ("auto", fast))


BLOCKS = "y = exp(x[:30]) * w[1] + x[10:] ** 3; z = sum(reshape(x, [20, 2]), axes=1); y, z"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_several_inputs_and_outputs(mode: str, dtype: str) -> None:
    inputs = {"x": point(1).astype(dtype), "w": np.array([0.5, 2.0], dtype)}
    assert_as_dense(lambda: jacobian(parse(BLOCKS), inputs, mode=mode).run()["jacobian"])
    graph = parse("sum((x[1:] * y[:-1]) ** 2) + sum(y * w[1])")
    inputs["y"] = point(2).astype(dtype)
    assert_as_dense(lambda: hessian(graph, inputs).run()["hessian"])
    assert_as_dense(lambda: hessian(graph, inputs, wrt=["y", "x"]).run()["hessian"])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_rows_of_a_batch(rows: int) -> None:
    x = np.random.default_rng(4).standard_normal((rows, LENGTH))
    options = {"batched": ["x"]}
    inputs = {"x": x, "w": point(2)}
    graph = parse("sum((w[1:] * x[1:]**2 - x[:-1])**2)")
    found = hessian(graph, inputs, **options)
    assert_as_dense(lambda: hessian(graph, inputs, **options).run()["hessian"])
    assert is_sparse(found)
    for mode in MODES:
        graph = parse("w * sin(x)[::-1] * x")
        assert_as_dense(lambda graph=graph, mode=mode: jacobian(graph, inputs, mode=mode, **options).run()["jacobian"])


def test_nodes_are_moved_although_what_reads_them_was_simplified() -> None:
    graph = parse("h = -x; k = -h; sum(k[1:] ** 2 * k[:-1])")
    found = hessian(graph, {"x": point(1)}, wrt=["h"])
    assert_as_dense(lambda: hessian(graph, {"x": point(1)}, wrt=["h", "x"]).run()["hessian"])
    assert is_sparse(found)
    assert np.count_nonzero(found.run()["hessian"]["h"]["h"]) == 3 * LENGTH - 3


def test_what_no_element_depends_on_is_exactly_zero_beside_infinities() -> None:
    x = np.full(LENGTH, 800.0)
    matrix = jacobian(parse("exp(x)"), {"x": x}).run()["jacobian"]["out"]["x"]
    np.testing.assert_array_equal(matrix, np.diag(np.full(LENGTH, np.inf)))


def test_a_plan_takes_other_values() -> None:
    found = hessian(ROSENBROCK, {"x": point(1)})
    with dense():
        expected = hessian(ROSENBROCK, {"x": point(2)}).run()["hessian"]["x"]["x"]
    assert_same(found.run({"x": point(2)})["hessian"]["x"]["x"], expected)


def rosenbrock(x: Any) -> Any:
    return F.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def test_compiled_hessians_take_few_directions() -> None:
    x = point(1)
    step = compiled(transforms.hessian(rosenbrock))
    assert "scatter_add" in step.source(x)
    assert_same(step(x), transforms.hessian(rosenbrock)(x))


def test_compiled_hessians_of_several_arguments_and_of_what_was_computed() -> None:
    def loss(p: Any, y: Any) -> Any:
        return F.sum(p["a"][1:] ** 3 * p["a"][:-1] * y[1:]) + F.sum(y * F.sin(p["b"]))

    def computed(p: Any, y: Any) -> Any:
        negated = {"a": -p["a"], "b": p["b"]}
        return transforms.hessian(lambda q, z: loss({"a": -q["a"], "b": q["b"]}, -z), (0, 1))(negated, -y)

    def twice(x: Any) -> Any:
        return transforms.hessian(lambda a, b: F.sum(a[1:] * b[:-1] ** 2), (0, 1))(x, x)

    p, y = {"a": point(1), "b": point(2)}, point(3)
    for f, args in ((transforms.hessian(loss, (0, 1)), (p, y)), (computed, (p, y)), (twice, (point(1),))):
        assert "scatter_add" in compiled(f).source(*args)
        for found, expected in zip(leaves(compiled(f)(*args)), leaves(f(*args)), strict=True):
            assert_same(found, expected)


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [tree]
