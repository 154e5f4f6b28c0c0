"""Rewriting changes no bit: identities, those that are none, common and dead steps, and the size of derivatives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import InvalidValueError
from engine.core.tracer import Symbol
from engine.core.values import FLOAT32, FLOAT64, INT64, Aval, aval, canonical
from engine.plans.plan import Plan
from engine.plans.step import Stream
from engine.plans.trace import Trace
from engine.programs.evaluate import Backward, prepare
from engine.programs.text.parser import parse

Array = npt.NDArray[Any]
Function = Callable[..., Any]

DTYPES = pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)

#: Values at which identities of real numbers fail, and some at which they hold.
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1.5, -2.75, 3.0, 1e-30, 0.1]


def numbers(dtype: np.dtype[Any]) -> Array:
    limits = np.finfo(dtype)
    edges = [limits.smallest_subnormal, -limits.smallest_subnormal, limits.tiny, limits.max, -limits.max, limits.eps]
    drawn = np.random.default_rng(3).standard_normal(14) * 10.0 ** np.arange(-7, 7)
    return np.array([*SPECIAL, *edges, *drawn], dtype)


def pairs(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Every number with every other."""
    x, y = np.meshgrid(numbers(dtype), numbers(dtype))
    return x.ravel(), y.ravel()


def rewritten(f: Function, *xs: Any) -> tuple[Function, list[str]]:
    """A function after rewriting, for values such as these, and the operations that are left of it."""
    trace = Trace()
    y = f(*(trace.input(f"x{i}", aval(x)._replace(weak=None)) for i, x in enumerate(xs)))
    left = [trace.steps[p].op.name for p in trace.live([y]) if trace.steps[p].op]
    plan = Plan(trace, [y])
    return lambda *xs: plan.run({f"x{i}": x for i, x in enumerate(xs)})[0], left


def traced(f: Function, *xs: Any) -> tuple[Any, list[str]]:
    """What a function gives after rewriting, and the operations that are left of it."""
    run, left = rewritten(f, *xs)
    return run(*xs), left


def eagerly(f: Function, *xs: Any) -> Any:
    with np.errstate(all="ignore"):
        return f(*map(Variable, xs)).data


def assert_bits(found: Any, expected: Any) -> None:
    """The same dtype and bits; any NaN is as good as another."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan], expected[~nan])
    np.testing.assert_array_equal(np.signbit(found[~nan]), np.signbit(expected[~nan]))


def assert_bits_of_scalars(f: Function, xs: tuple[Array, Array], operations: list[str]) -> None:
    scalars = [(canonical(np.asarray(x)), canonical(np.asarray(y))) for x, y in zip(*xs, strict=True)]
    run, left = rewritten(f, *scalars[0])
    assert left == operations
    assert_bits(np.array([run(*at) for at in scalars]), np.array([eagerly(f, *at) for at in scalars]))


#: name -> (function of two values, the operations that it comes down to)
IDENTITIES: dict[str, tuple[Function, list[str]]] = {
    "x*1": (lambda x, y: x * 1.0, []),
    "1*x": (lambda x, y: 1 * x, []),
    "x*-1": (lambda x, y: x * -1.0, ["neg"]),
    "-x*y": (lambda x, y: -x * y, ["mul", "neg"]),
    "x*-y": (lambda x, y: x * -y, ["mul", "neg"]),
    "-x*-y": (lambda x, y: -x * -y, ["mul"]),
    "x/1": (lambda x, y: x / 1.0, []),
    "-x/y": (lambda x, y: -x / y, ["div", "neg"]),
    "x/-y": (lambda x, y: x / -y, ["div", "neg"]),
    "-x/-y": (lambda x, y: -x / -y, ["div"]),
    "x+-0": (lambda x, y: x + -0.0, []),
    "-0+x": (lambda x, y: -0.0 + x, []),
    "x+-y": (lambda x, y: x + -y, ["sub"]),
    "-x+y": (lambda x, y: -x + y, ["sub"]),
    "-x+-y": (lambda x, y: -x + -y, ["neg", "sub"]),
    "x-0": (lambda x, y: x - 0.0, []),
    "x--y": (lambda x, y: x - -y, ["add"]),
    "neg(neg(x))": (lambda x, y: F.neg(F.neg(x)), []),
    "-(-x*y)": (lambda x, y: -(-x * y), ["mul"]),
    "x**0": (lambda x, y: x**0, []),
    "x**1": (lambda x, y: x**1.0, []),
    "x**2": (lambda x, y: x**2, ["square"]),
    "zeros_like": (lambda x, y: F.zeros_like(x) + y, ["add"]),
    "ones_like": (lambda x, y: F.ones_like(x) * y, []),
    "y*x-x*y": (lambda x, y: y * x - x * y, ["mul", "sub"]),
    "y+x-(x+y)": (lambda x, y: y + x - (x + y), ["add", "sub"]),
    "hypot": (lambda x, y: F.hypot(y, x) * F.hypot(x, y), ["hypot", "mul"]),
    "logaddexp": (lambda x, y: F.logaddexp(y, x) * F.logaddexp(x, y), ["logaddexp", "mul"]),
    "equal": (lambda x, y: F.where(y == x, 1.0, 2.0) + F.where(x == y, 1.0, 2.0), ["equal", "where", "add"]),
    "not_equal": (lambda x, y: F.where(y != x, x, y) + F.where(x != y, x, y), ["not_equal", "where", "add"]),
}


@DTYPES
@pytest.mark.parametrize("name", IDENTITIES)
def test_an_identity_changes_no_bit(name: str, dtype: np.dtype[Any]) -> None:
    f, operations = IDENTITIES[name]
    xs = pairs(dtype)
    found, left = traced(f, *xs)
    assert_bits(found, eagerly(f, *xs))
    # Of constants of many elements, the operation that repeats a number is left.
    assert [op for op in left if op != "broadcast_to"] == operations
    assert_bits_of_scalars(f, xs, operations)


#: name -> (function of two values, the same in NumPy, the operations that stay)
FORBIDDEN: dict[str, tuple[Function, Function, list[str]]] = {
    "x+0": (lambda x, y: x + 0.0, lambda x, y: x + 0.0, ["add"]),
    "0+x": (lambda x, y: 0.0 + x, lambda x, y: 0.0 + x, ["add"]),
    "x--0": (lambda x, y: x - -0.0, lambda x, y: x - -0.0, ["sub"]),
    "0-x": (lambda x, y: 0.0 - x, lambda x, y: 0.0 - x, ["sub"]),
    "-0-x": (lambda x, y: -0.0 - x, lambda x, y: -0.0 - x, ["sub"]),
    "-(x-y)": (lambda x, y: -(x - y), lambda x, y: -(x - y), ["sub", "neg"]),
    "-(x+y)": (lambda x, y: -(x + y), lambda x, y: -(x + y), ["add", "neg"]),
    "x*0": (lambda x, y: x * 0.0, lambda x, y: x * 0.0, ["mul"]),
    "-0*x": (lambda x, y: -0.0 * x, lambda x, y: -0.0 * x, ["mul"]),
    "0/x": (lambda x, y: 0.0 / x, lambda x, y: 0.0 / x, ["div"]),
    "x/0": (lambda x, y: x / 0.0, lambda x, y: x / 0.0, ["div"]),
    "x-x": (lambda x, y: x - x, lambda x, y: x - x, ["sub"]),
    "x/x": (lambda x, y: x / x, lambda x, y: x / x, ["div"]),
    "x*y/y": (lambda x, y: x * y / y, lambda x, y: x * y / y, ["mul", "div"]),
    "x+y-y": (lambda x, y: x + y - y, lambda x, y: x + y - y, ["add", "sub"]),
    "3*(0.1*x)": (lambda x, y: 3.0 * (0.1 * x), lambda x, y: 3.0 * (0.1 * x), ["mul", "mul"]),
    "x+0.1+0.2": (lambda x, y: x + 0.1 + 0.2, lambda x, y: x + 0.1 + 0.2, ["add", "add"]),
    "x*(y*0.1)": (lambda x, y: x * (y * 0.1), lambda x, y: x * (y * 0.1), ["mul", "mul"]),
    "x*y+x*3": (lambda x, y: x * y + x * 3.0, lambda x, y: x * y + x * 3.0, ["mul", "mul", "add"]),
    "x/3": (lambda x, y: x / 3.0, lambda x, y: x / 3.0, ["div"]),
    "x**-1": (lambda x, y: x**-1.0, lambda x, y: np.power(x, -1.0), ["pow"]),
    "x**0.5": (lambda x, y: x**0.5, lambda x, y: np.power(x, 0.5), ["pow"]),
    "x**3": (lambda x, y: x**3, lambda x, y: np.power(x, 3), ["pow"]),
    "exp(log(x))": (lambda x, y: F.exp(F.log(x)), lambda x, y: np.exp(np.log(x)), ["log", "exp"]),
    "sqrt(x*x)": (lambda x, y: F.sqrt(x * x), lambda x, y: np.sqrt(x * x), ["mul", "sqrt"]),
    "maximum(x, x)": (lambda x, y: F.maximum(x, x), lambda x, y: np.maximum(x, x), ["maximum"]),
    "maximum(y, x)": (
        lambda x, y: F.maximum(x, y) * F.maximum(y, x),
        lambda x, y: np.maximum(x, y) * np.maximum(y, x),
        ["maximum", "maximum", "mul"],
    ),
    "minimum(y, x)": (
        lambda x, y: F.minimum(x, y) * F.minimum(y, x),
        lambda x, y: np.minimum(x, y) * np.minimum(y, x),
        ["minimum", "minimum", "mul"],
    ),
    "where(True, x, y)": (lambda x, y: F.where(True, x, y), lambda x, y: x, ["where"]),
}


@DTYPES
@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_would_change_bits_is_left_alone(name: str, dtype: np.dtype[Any]) -> None:
    f, in_numpy, operations = FORBIDDEN[name]
    xs = pairs(dtype)
    found, left = traced(f, *xs)
    assert left == operations
    with np.errstate(all="ignore"):
        assert_bits(found, in_numpy(*xs))
    assert_bits_of_scalars(f, xs, operations)


#: name -> (function of an array of shape (n, 1), the operations that it comes down to)
LAYOUTS: dict[str, tuple[Function, list[str]]] = {
    "reshape to the same": (lambda x: F.reshape(x, x.shape), []),
    "two reshapes": (lambda x: F.reshape(F.reshape(x, (1, -1)), (-1, 2, 1)), ["reshape"]),
    "reshape there and back": (lambda x: F.reshape(F.reshape(x, (-1,)), x.shape), []),
    "broadcast to the same": (lambda x: F.broadcast_to(x, x.shape), []),
    "two broadcasts": (
        lambda x: F.broadcast_to(F.broadcast_to(x, (x.shape[0], 3)), (2, x.shape[0], 3)),
        ["broadcast_to"],
    ),
    "transpose of nothing": (lambda x: F.transpose(x, (0, -1)), []),
    "a true transpose": (lambda x: F.transpose(x), ["transpose"]),
    "sum_to the same": (lambda x: F.sum_to(x, x.shape), []),
    "sum over a unit axis": (lambda x: F.sum(x, axes=1), ["sum"]),
    "sum over no axis": (lambda x: F.sum(x, axes=()), ["sum"]),
    "sum_to without a unit axis": (lambda x: F.sum_to(x, (1,)), ["sum_to"]),
    "sum of a broadcast": (lambda x: F.sum(F.broadcast_to(x, (x.shape[0], 3)), axes=1), ["broadcast_to", "sum"]),
    "mean over a unit axis": (lambda x: F.mean(x, axes=1), ["mean"]),
}


@DTYPES
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, dtype: np.dtype[Any]) -> None:
    f, operations = LAYOUTS[name]
    x = numbers(dtype).reshape(-1, 1)
    found, left = traced(f, x)
    assert left == operations
    assert_bits(found, eagerly(f, x))


@DTYPES
def test_an_operation_repeats_its_operands_itself(dtype: np.dtype[Any]) -> None:
    column, row = numbers(dtype).reshape(-1, 1), numbers(dtype)
    shape = (row.size, row.size)
    for f in (F.add, F.mul, F.sub, F.div, F.maximum, F.atan2):
        for there in (
            lambda x, y, f=f: f(F.broadcast_to(x, shape), F.add(y, np.zeros(shape, dtype))),
            lambda x, y, f=f: f(F.add(x, np.zeros(shape, dtype)), F.broadcast_to(y, shape)),
        ):
            found, left = traced(there, column, row)
            assert left == ["add", f.__name__]
            assert_bits(found, eagerly(there, column, row))
    # Where no other operand has the shape, one has to be repeated.
    assert traced(lambda x: F.broadcast_to(x, shape) * 2.0, row)[1] == ["broadcast_to", "mul"]


@DTYPES
def test_astype_is_never_left_out(dtype: np.dtype[Any]) -> None:
    for target in (str(dtype), "int64", "bool"):
        found, left = traced(lambda x, to=target: F.astype(x, to), np.array([1.0, -0.0, 2.0], dtype))
        assert left == ["astype"]
        np.testing.assert_array_equal(found, np.array([1.0, -0.0, 2.0]).astype(target))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.sum(F.tanh(F.reshape(F.reshape(F.transpose(x), (2000,)), (40, 50)))),
        lambda x: F.sum(F.tanh(F.astype(F.broadcast_to(F.reshape(x, (2000,)), (2, 2000)), "float64"))),
    ],
    ids=["reshapes", "astype"],
)
def test_sums_over_copies_round_as_they_do_on_the_tape(f: Function) -> None:
    x = np.random.default_rng(0).standard_normal((50, 40))
    found, _ = traced(f, x)
    assert_bits(found, eagerly(f, x))


def test_an_identity_that_would_change_the_dtype_is_none() -> None:
    narrow = np.array([1.5, -0.0], np.float32)
    for f in (lambda x: x * np.float64(1.0), lambda x: x - np.zeros(2), lambda x: x / np.float64(1.0)):
        found, left = traced(f, narrow)
        assert found.dtype == FLOAT64
        assert len(left) == 1
    for f in (lambda x: x * 1.0, lambda x: x**1.0, lambda x: x / 1, lambda x: x + -0.0):
        assert traced(f, np.array([3, 4]))[0].dtype == FLOAT64
    assert traced(lambda x: x * 1, np.array([3, 4]))[0].dtype == INT64


def test_equal_operations_are_one_step() -> None:
    x = np.array([0.3, -0.0])
    assert traced(lambda x: F.sin(x) + F.sin(x), x)[1] == ["sin", "add"]
    assert traced(lambda x: F.sum(x, axes=0) * F.sum(x, axes=0), x)[1] == ["sum", "mul"]
    assert traced(lambda x: F.clip(x, -0.0, 1.0) * F.clip(x, -0.0, 1.0), x)[1] == ["clip", "mul"]
    assert traced(lambda x: x * np.ones(2) + x * np.ones(2), x)[1] == ["mul", "add"]


def test_operations_that_only_look_equal_are_two() -> None:
    x = np.array([0.0, -0.0, np.nan])
    for f in (
        lambda x: F.div(1.0, x * 0.0) - F.div(1.0, x * -0.0),
        lambda x: F.div(1.0, F.clip(x, 0.0, 2.0)) - F.div(1.0, F.clip(x, -0.0, 2.0)),
        lambda x: F.div(1.0, F.full_like(x, 0.0)) - F.div(1.0, F.full_like(x, -0.0)),
        lambda x: F.div(1.0, x * np.zeros(3)) - F.div(1.0, x * -np.zeros(3)),
    ):
        assert_bits(traced(f, x)[0], eagerly(f, x))
        assert len(set(traced(f, x)[1])) < len(traced(f, x)[1])


def test_one_and_true_and_one_point_zero_are_three_constants() -> None:
    trace = Trace()
    known = [trace.constant(value, is_weak=True) for value in (1, True, 1.0)]
    assert len({symbol.index for symbol in known}) == 3
    assert trace.constant(1.0).index not in {symbol.index for symbol in known}
    assert trace.constant(1.0).index == trace.constant(1.0).index
    n = np.array([2, 3])
    found = [traced(lambda n, c=c: n + c, n)[0].dtype for c in (1, True, 1.0)]
    assert found == [INT64, INT64, FLOAT64]


def test_random_steps_are_not_folded_and_merged_only_within_a_stream() -> None:
    trace = Trace()
    x = trace.input("x", Aval((50,), FLOAT64))
    a, b = (F.dropout_mask(x, 0.5, rng=Stream(place)) for place in (0, 1))
    c = F.dropout_mask(trace.constant(2.5), 0.0, rng=Stream(2))
    same = F.dropout_mask(x, 0.5, rng=Stream(0))
    assert len({s.index for s in (a, b, c)}) == 3
    assert same.index == a.index
    assert trace.known(c) is None
    masks = Plan(trace, [a, b, c, same]).run({"x": np.ones(50)}, seed=4)
    assert not np.array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[3])
    assert masks[2] == 1.0


def test_constants_are_computed_at_once_up_to_a_size() -> None:
    def of_constant(value: Any, f: Function) -> Function:
        return lambda x: x + f(x.recorder.constant(value) if isinstance(x, Symbol) else value)

    assert traced(of_constant(0.5, lambda c: F.sin(c) * 2), 1.0)[1] == ["add"]
    for n, operations in ((16, ["add"]), (17, ["exp", "add"])):
        found, left = traced(of_constant(np.arange(float(n)), F.exp), np.ones(n))
        assert left == operations
        assert_bits(found, 1.0 + np.exp(np.arange(float(n))))
    for f in (lambda c: F.div(1.0, c), F.log, F.sqrt, lambda c: F.pow(c, 0.5), F.neg):
        for c in (-0.0, 0.0, -np.inf, np.nan, 5e-324):
            assert_bits(traced(of_constant(c, f), 0.0)[0], 0.0 + eagerly(f, c))


def test_dead_steps_are_not_run() -> None:
    trace = Trace()
    x = trace.input("x", Aval((2,), FLOAT64))
    F.one_hot(x, classes=3)
    y = F.sin(x)
    plan = Plan(trace, [y])
    assert plan.cost.nodes == 1
    np.testing.assert_array_equal(plan.run({"x": np.array([7.0, 8.0])})[0], np.sin([7.0, 8.0]))
    with pytest.raises(InvalidValueError, match="label"):
        Plan(trace, [y, F.one_hot(x, classes=3)]).run({"x": np.array([7.0, 8.0])})


#: Operations of the n-th derivative, and of all n together: what they are, and a little more for other spellings of
#: rows. Without common steps and identities they grow as 2**n: the ninth of 1 / (1 + x**2) had thousands.
SIZES = [
    ("sin(x)", 12, 2, 4),
    ("sin(x)", 11, 2, 4),
    ("x**10", 5, 6, 21),
    ("x**10", 9, 9, 54),
    ("x**10", 12, 1, 54),
    ("tanh(x)", 4, 20, 22),
    ("tanh(x)", 8, 90, 96),
    ("tanh(x)", 12, 240, 250),
    ("1/(1 + x**2)", 3, 38, 45),
    ("1/(1 + x**2)", 9, 500, 650),
    ("100*(y - x**2)**2 + (1 - x)**2", 2, 13, 23),
    ("100*(y - x**2)**2 + (1 - x)**2", 4, 1, 30),
    ("sum(100*(v[1:] - v[:-1]**2)**2 + (1 - v[:-1])**2)", 1, 20, 25),
    ("sum(100*(v[1:] - v[:-1]**2)**2 + (1 - v[:-1])**2)", 2, 22, 40),
]


@pytest.mark.parametrize(("text", "order", "nodes", "together"), SIZES)
def test_derivatives_do_not_swell(text: str, order: int, nodes: int, together: int) -> None:
    graph = parse(text)
    given = {"x": 0.5, "y": 2.0, "v": np.arange(6.0)}
    inputs = {i.name: given[i.name] for i in graph.inputs}
    wrt = ("v",) if "v" in inputs else ("x",)
    prepared = prepare(graph, inputs, backward=Backward(wrt=wrt, order=order, create_graph=True))
    assert prepared.grad_graph is not None
    assert len(prepared.grad_graph.nodes) <= nodes
    assert prepared.cost.nodes <= together


@pytest.mark.parametrize("order", range(1, 13))
def test_every_derivative_of_sine_is_one_operation_or_two(order: int) -> None:
    prepared = prepare(parse("sin(x)"), {"x": 1.0}, backward=Backward(order=order, create_graph=True))
    assert prepared.grad_graph is not None
    assert len(prepared.grad_graph.nodes) <= 2


def test_size_grows_with_the_length_of_a_program_not_its_paths() -> None:
    """Each square reads its operand twice: there are 2**n paths through n of them."""
    text = "; ".join(f"x{i + 1} = x{i}*x{i}" for i in range(200))
    inputs = {"x0": 1.0}
    prepared = prepare(parse(text), inputs, backward=Backward(create_graph=True))
    assert prepared.cost.nodes <= 3 * 200 + 10


VIEWS: dict[str, Function] = {
    "two transposes back": lambda x: F.transpose(F.transpose(x)),
    "two transposes": lambda x: F.transpose(F.transpose(x, (1, 2, 0)), (0, 2, 1)),
    "two reshapes": lambda x: F.reshape(F.reshape(x[0, 1], (5, 1)), (1, 5))[0],
    "a place in slices": lambda x: x[1:][:, ::-1][0, 1:3],
    "steps of both signs": lambda x: x[::-2, ..., 1:][-1, 2],
    "three slices": lambda x: x[..., 0][1:][::-1],
    "an empty one": lambda x: x[:, 2:2][1:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_views_are_one(name: str) -> None:
    x = np.arange(60.0).reshape(3, 4, 5)
    found, left = traced(VIEWS[name], x)
    assert len(left) == {"two transposes back": 0, "two reshapes": 3}.get(name, 1)
    np.testing.assert_array_equal(found, eagerly(VIEWS[name], x))


def test_slices_of_slices_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)

    def bounds() -> slice:
        start, stop = (None if rng.random() < 0.3 else int(rng.integers(-7, 8)) for _ in range(2))
        return slice(start, stop, int(rng.choice([-3, -2, -1, 1, 2, 3])))

    x = np.arange(42.0).reshape(6, 7)
    for _ in range(300):
        first, second = (bounds(), bounds()), (bounds(), bounds())
        found, left = traced(lambda x, first=first, second=second: x[first][second], x)
        assert left == ["slice"], (first, second)
        np.testing.assert_array_equal(found, x[first][second])


def test_what_does_more_than_slice_stays() -> None:
    x = np.arange(12.0).reshape(3, 4)
    for f in (lambda x: x[[0, 2]][1:], lambda x: x[1:][[1, 0]], lambda x: x[:, None][1:], lambda x: x[1:][None]):
        found, left = traced(f, x)
        assert left == ["slice", "slice"]
        np.testing.assert_array_equal(found, eagerly(f, x))
