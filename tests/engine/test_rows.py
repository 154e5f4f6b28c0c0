"""Every row of the table: derivatives against finite differences, inference against values, float32, documentation."""

from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine.graph.cost import cost_of
from engine.graph.trace import Trace
from engine.numerical import check_gradients
from engine.primitive import Example, Operation
from engine.table import OPERATIONS, rows
from engine.values import FLOAT32, Aval, aval, canonical, dtype_of, shape_of

CASES = [pytest.param(op, example, id=f"{op.name}-{n}") for op in rows() for n, example in enumerate(op.examples)]


def operands(op: Operation, example: Example) -> list[Any]:
    """Shapes are filled with numbers of the operand's domain, apart so that nothing ties; lists are values."""
    rng = np.random.default_rng(7)
    domains = op.domain * len(example.operands) if op.variadic else op.domain
    values: list[Any] = []
    for given, (low, high) in zip(example.operands, domains, strict=False):
        if isinstance(given, tuple):
            n = int(np.prod(given))
            spaced = low + (high - low) * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / max(n, 1)
            values.append(canonical(rng.permutation(spaced).reshape(given)))
        else:
            values.append(np.array(given) if isinstance(given, list) else float(given))
    return values


def attributes(op: Operation, example: Example) -> dict[str, Any]:
    return op.bind([0.0] * max(op.required, 1) if not op.variadic else [0.0], dict(example.attrs))[1]


def extra(op: Operation) -> dict[str, Any]:
    return {"rng": np.random.default_rng(3)} if op.random else {}


def outputs(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def is_shape(given: Any) -> bool:
    return isinstance(given, tuple)


def test_every_row_has_examples_and_documentation() -> None:
    for op in rows():
        assert op.examples, f"{op.name}: no test data"
        assert op.doc.endswith("."), f"{op.name}: no documentation"
        assert op.kind in {"elementwise", "linear", "bilinear", "other", "composite"}, op.name


@pytest.mark.parametrize(("op", "example"), CASES)
def test_gradients_agree_with_finite_differences_to_second_order(op: Operation, example: Example) -> None:
    if not op.is_differentiable:
        y = op.run(tuple(Variable(x) for x in operands(op, example)), attributes(op, example), **extra(op))
        assert y.creator is None
        return
    values = operands(op, example)
    attrs = attributes(op, example)
    places = [i for i, given in enumerate(example.operands) if is_moved(op, i, given)]

    def f(*xs: Any) -> Any:
        full = list(values)
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        ys = outputs(op.run(tuple(full), attrs, **extra(op)))
        total: Any = 0.0
        for k, y in enumerate(ys):
            if dtype_of(y).kind == "f":
                total = total + OPERATIONS["sum"].call(weights(y, k) * y)
        return total

    found = check_gradients(f, *[values[i] for i in places], order=2)
    assert found.ok, str(found)


def is_moved(op: Operation, place: int, given: Any) -> bool:
    """Labels, indices and masks stay what they are."""
    if op.body is None and not op.variadic and op.vjps[place] is None:
        return False
    return is_shape(given) or (isinstance(given, list) and (op.body is None or len(op.operands) == 1))


def weights(y: Any, k: int) -> Any:
    """Unequal weights, so that a sum does not hide errors."""
    shape = shape_of(y)
    return canonical(np.random.default_rng(11 + k).uniform(0.5, 1.5, shape))


@pytest.mark.parametrize(("op", "example"), CASES)
def test_inference_agrees_with_values(op: Operation, example: Example) -> None:
    values = operands(op, example)
    for dtype in (None, FLOAT32):
        given = [
            np.asarray(x, dtype=dtype) if dtype and is_shape(e) else x
            for x, e in zip(values, example.operands, strict=True)
        ]
        attrs = attributes(op, example)
        actual = outputs(op.run(tuple(Variable(x) for x in given), attrs, **extra(op)))
        trace = Trace()
        inferred = outputs(op.run(tuple(trace.input("x", known(x)) for x in given), attrs, **extra(op)))
        assert [(s.shape, s.dtype) for s in inferred] == [(y.shape, y.dtype) for y in actual]
        assert cost_of(trace, trace.live(inferred)).flops >= 0


def known(x: Any) -> Aval:
    return aval(Variable(x)._data)._replace(weak=None)


@pytest.mark.parametrize(("op", "example"), CASES)
def test_float32_stays_float32_and_agrees_with_float64(op: Operation, example: Example) -> None:
    values = operands(op, example)
    wide = outputs(op.run(tuple(values), attributes(op, example), **extra(op)))
    narrow_values = [
        np.asarray(x, np.float32) if is_shape(e) else x for x, e in zip(values, example.operands, strict=True)
    ]
    if not any(is_shape(e) for e in example.operands) or "dtype" in attributes(op, example):
        return
    narrow = outputs(op.run(tuple(narrow_values), attributes(op, example), **extra(op)))
    for a, b in zip(wide, narrow, strict=True):
        if dtype_of(a).kind == "f":
            assert dtype_of(b) == FLOAT32
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


FLOATING = [case for case in CASES if case.values[0].is_differentiable and any(map(is_shape, case.values[1].operands))]


@pytest.mark.parametrize(("op", "example"), FLOATING)
def test_gradients_in_float32_agree_with_float64(op: Operation, example: Example) -> None:
    def gradients(dtype: str) -> list[Any]:
        xs = [
            Variable(x, dtype=dtype) if is_shape(given) else x
            for x, given in zip(operands(op, example), example.operands, strict=True)
        ]
        for y in outputs(op.run(tuple(xs), attributes(op, example), **extra(op))):
            if isinstance(y, Variable) and y.creator is not None:
                y.backward()
        return [x.grad for x in xs if isinstance(x, Variable)]

    for wide, narrow in zip(gradients("float64"), gradients("float32"), strict=True):
        assert (wide is None) == (narrow is None)
        if wide is not None:
            assert narrow.dtype == FLOAT32
            np.testing.assert_allclose(narrow.data, wide.data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("op", "example"), CASES)
def test_variables_and_raw_values_give_the_same_bits(op: Operation, example: Example) -> None:
    values = operands(op, example)
    attrs = attributes(op, example)
    raw = outputs(op.run(tuple(values), attrs, **extra(op)))
    variables = tuple(Variable(x) for x in values)
    taped = outputs(op.run(variables, attrs, **extra(op)))
    # A result that were its operand would get the operand's gradient.
    assert not any(y is x for y in taped for x in variables)
    for a, b in zip(raw, taped, strict=True):
        assert isinstance(b, Variable)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b.data))


@pytest.mark.parametrize(("op", "example"), CASES)
def test_derivatives_run_on_symbols(op: Operation, example: Example) -> None:
    """A row's vjp is written in terms of other rows: where nothing is computed, it still knows shapes and dtypes."""
    if op.body is not None or not op.is_differentiable:
        return
    trace = Trace()
    xs = tuple(trace.input("x", known(x)) for x in operands(op, example))
    attrs = attributes(op, example)
    y = op.run(xs, attrs, **extra(op))
    g = trace.input("g", y.aval)
    if not y.aval.is_floating:
        return
    for x, gx in zip(xs, op.cotangents(g, y, xs, attrs), strict=True):
        if gx is not None:
            assert np.broadcast_shapes(gx.shape, x.shape) == gx.shape
            assert gx.dtype.kind == "f"
