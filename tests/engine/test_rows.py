"""Every row of the table: derivatives against finite differences, inference against values, float32, documentation."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine.core.attributes import Attribute
from engine.core.backward import gradients
from engine.core.operation import Example, Operation
from engine.core.table import CALLS, rows
from engine.core.values import FLOAT32, FLOAT64, Aval, aval, canonical, dtype_of, shape_of
from engine.plans.cost import cost_of
from engine.plans.plan import Plan
from engine.plans.step import Stream
from engine.plans.trace import Trace
from engine.tracers.reverse import Tape
from engine.transforms import jvp, vjp, vmap
from engine.transforms.numerical import check_gradients
from tests.engine.cases import CASES, attributes, extra, is_shape, moved, operands, outputs, weights


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
    places = moved(op, example)

    def f(*xs: Any) -> Any:
        full = list(values)
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        ys = outputs(op.run(tuple(full), attrs, **extra(op)))
        total: Any = 0.0
        for k, y in enumerate(ys):
            if dtype_of(y).kind == "f":
                total = total + CALLS["sum"](weights(y, k) * y)
        return total

    found = check_gradients(f, *[values[i] for i in places], order=2)
    assert not found.differs, str(found)


@pytest.mark.sampled(one_in=4, each=["op"])
@pytest.mark.parametrize(("op", "example"), CASES)
def test_rows_call_rows_with_attributes_in_canonical_form(
    op: Operation, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls between rows are not parsed: see `row_call`."""

    def checked(other: Operation, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(args: Any, attrs: dict[str, Any], **more: Any) -> Any:
            wrong = {a.name: attrs[a.name] for a in other.attributes if repr(attrs[a.name]) != _parsed(a, attrs)}
            assert not wrong, f"{op.name} calls {other.name}"
            return run(args, attrs, **more)

        return call

    for other in rows():
        monkeypatch.setattr(other, "run", checked(other, other.run))
    values, attrs, places = operands(op, example), attributes(op, example), moved(op, example)
    random = {"rng": Stream(0)} if op.random else {}

    def f(*xs: Any) -> Any:
        full = list(values)
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        return [y for y in outputs(op.run(tuple(full), attrs, **random)) if dtype_of(y).kind == "f"]

    def second(*xs: Any) -> Any:
        ys, back = vjp(f, *xs)
        return back([weights(y, k) for k, y in enumerate(ys)])

    given = [values[i] for i in places]
    if given:
        trace = Trace()
        xs = [trace.input(f"x{i}", known(x)) for i, x in enumerate(given)]
        jvp(second, xs, xs)
        rowed = [trace.input(f"rows of x{i}", Aval((3, *known(x).shape), known(x).dtype)) for i, x in enumerate(given)]
        vmap(second)(*rowed)


def _parsed(a: Attribute, attrs: dict[str, Any]) -> str:
    return repr(a.parse(attrs[a.name], "row"))


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
        streams = {"rng": Stream(0)} if op.random else {}
        inferred = outputs(op.run(tuple(trace.input("x", known(x)) for x in given), attrs, **streams))
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


DTYPES = pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)
# `grad` looks for a tape below its operands: it is at home in programs, and in functions of variables.
ON_ITS_OWN = [case for case in CASES if case.values[0].name != "grad"]
SMOOTH = [case for case in ON_ITS_OWN if moved(*case.values)]


def in_dtype(op: Operation, example: Example, dtype: np.dtype[Any]) -> list[Any]:
    """Operands, those that are differentiated in a dtype."""
    places = moved(op, example) or range(len(example.operands))
    return [canonical(np.asarray(x, dtype)) if i in places else x for i, x in enumerate(operands(op, example))]


@pytest.mark.sampled(one_in=4, each=["op"])
@DTYPES
@pytest.mark.parametrize(("op", "example"), SMOOTH)
def test_forward_mode_is_reverse_mode_transposed(op: Operation, example: Example, dtype: np.dtype[Any]) -> None:
    """<c, J t> == <J^T c, t>, for each operand that moves alone and for all that move together."""
    values, attrs, places = in_dtype(op, example, dtype), attributes(op, example), moved(op, example)
    rng = np.random.default_rng(5)

    def f(*xs: Any) -> list[Any]:
        given = dict(zip(places, xs, strict=True))
        ys = outputs(op.run(tuple(given.get(i, x) for i, x in enumerate(values)), attrs, **extra(op)))
        return [y for y in ys if dtype_of(y).kind == "f"]

    xs = [values[i] for i in places]
    ys, pullback = vjp(f, *xs)
    cotangents = [like(y, rng) for y in ys]
    slopes = pullback(cotangents)
    for alone in [None, *range(len(places))]:
        tangents = [like(x, rng) if alone in (None, k) else zeros_like(x) for k, x in enumerate(xs)]
        values_again, found = jvp(f, xs, tangents)
        assert [(shape_of(t), dtype_of(t)) for t in found] == [(shape_of(y), dtype_of(y)) for y in ys]
        for y, again, t in zip(ys, values_again, found, strict=True):
            np.testing.assert_array_equal(again, y)
            # The mean of nothing is NaN wherever it goes.
            np.testing.assert_array_equal(np.isnan(t), np.isnan(y))
        forward, reverse = inner(cotangents, map(np.nan_to_num, found)), inner(slopes, tangents)
        eps = 1e-13 if dtype == FLOAT64 else 1e-5
        assert abs(forward - reverse) <= eps * (1 + inner(map(np.abs, slopes), map(np.abs, tangents)))


def like(x: Any, rng: np.random.Generator) -> Any:
    return canonical(rng.standard_normal(shape_of(x)).astype(dtype_of(x)))


def zeros_like(x: Any) -> Any:
    return canonical(np.zeros(shape_of(x), dtype_of(x)))


def inner(xs: Iterable[Any], ys: Iterable[Any]) -> float:
    return sum(float(np.sum(np.multiply(x, y, dtype=FLOAT64))) for x, y in zip(xs, ys, strict=True))


@pytest.mark.sampled(one_in=4, each=["op"])
@DTYPES
@pytest.mark.parametrize(("op", "example"), ON_ITS_OWN)
def test_a_trace_gives_the_bits_of_the_tape(op: Operation, example: Example, dtype: np.dtype[Any]) -> None:
    """Values and gradients; random rows draw from the same stream."""
    values, attrs, places = in_dtype(op, example, dtype), attributes(op, example), moved(op, example)
    seed, stream = 3, Stream(0)

    variables = [Variable(x) for x in values]
    drawn = {"rng": stream.generator(seed)} if op.random else {}
    ys = outputs(op.run(tuple(variables), attrs, **drawn))
    cotangents = {k: canonical(np.asarray(weights(y, k), y.dtype)) for k, y in enumerate(ys) if y.creator is not None}
    slopes = gradients_of([(ys[k], g) for k, g in cotangents.items()], [variables[i] for i in places])
    expected = [y.data for y in ys] + slopes

    trace, tape = Trace(), Tape(1)
    symbols = [trace.input(f"x{i}", known(x)) for i, x in enumerate(values)]
    leaves = tuple(tape.leaf(s) if i in places else s for i, s in enumerate(symbols))
    taped = outputs(op.run(leaves, attrs, **({"rng": stream} if op.random else {})))
    roots = [(taped[k], trace.constant(g)) for k, g in cotangents.items()]
    steps = [tape.data(y) for y in taped] + gradients_of(roots, [leaves[i] for i in places])
    found = Plan(trace, steps).run({f"x{i}": v.data for i, v in enumerate(variables)}, seed)
    for actual, wanted in zip(found, expected, strict=True):
        assert (type(actual), dtype_of(actual)) == (type(wanted), dtype_of(wanted))
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize(
    ("op", "example"), [case for case in CASES if case.values[0].lowering.emit or case.values[0].lowering.begin]
)
def test_what_is_emitted_computes_what_forward_does(op: Operation, example: Example) -> None:
    for dtype in (FLOAT64, FLOAT32):
        values = [np.asarray(x, dtype) for x in operands(op, example)]
        attrs = attributes(op, example)
        expected = op.forward(*values, **attrs)
        found = (
            op.lowering.emit(*map(aval, values), **attrs)(*values)
            if op.lowering.emit
            else op.lowering.finish(op.lowering.begin(*values, **attrs))
        )
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("op", "example"), [case for case in CASES if case.values[0].lowering.is_fresh])
def test_what_counts_as_fresh_shares_no_memory(op: Operation, example: Example) -> None:
    values = [np.asarray(x) for x in operands(op, example)]
    y = op.forward(*values, **attributes(op, example))
    assert not any(np.shares_memory(y, x) for x in values)


def gradients_of(roots: list[tuple[Any, Any]], xs: list[Any]) -> list[Any]:
    """Gradients as the values of a tape hold them; zeros where there is no way."""
    found = gradients(roots, xs, create_graph=False) if roots else [None] * len(xs)
    return [CALLS["zeros_like"](x._data) if g is None else g for x, g in zip(xs, found, strict=True)]
