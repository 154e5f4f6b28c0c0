"""Plans against tapes: values and gradients of random programs, to the last bit where the same functions are called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Variable
from engine import functions as F
from engine.core.values import as_raw, aval, dtype_of, shape_of
from engine.plans.codegen.buffers import SMALLEST
from engine.plans.plan import Plan
from engine.plans.trace import Trace
from engine.programs.evaluate import Backward, prepare
from engine.programs.text.parser import parse
from engine.transforms import grad, value_and_grad
from engine.transforms.compilation import compile
from tests.engine.programs import PROGRAMS, Program
from tests.sampling import examples

Function = Callable[..., Any]

UNARY = (
    "neg abs square sqrt exp expm1 log log1p sin cos tan asin atan sinh cosh tanh asinh sigmoid softplus relu erf "
    "floor sign isnan isfinite logical_not gelu exp2 log10"
).split()
BINARY = "add sub mul div maximum minimum hypot atan2 logaddexp less equal logical_and remainder pow".split()
#: Operations that move elements, or take many to one; written for any number of axes.
OTHERS: dict[str, Function] = {
    "sum": lambda x: F.sum(x),
    "mean": lambda x: F.mean(x),
    "max": lambda x: F.max(x) if np.prod(shape_of(x)) else F.sum(x),
    "last sums": lambda x: F.sum(x, axes=-1, keepdims=True) if shape_of(x) else x + 1.0,
    "first sums": lambda x: F.sum(x, axes=0) if shape_of(x) else x * 2.0,
    "transpose": lambda x: F.transpose(x) if len(shape_of(x)) == 2 else -x,
    "reversed": lambda x: x[..., ::-1] if shape_of(x) else x,
    "first row": lambda x: x[:1] if shape_of(x) else x,
    "flat": lambda x: F.reshape(x, [-1]),
    "cumulative": lambda x: F.cumulative_sum(x, axis=0) if shape_of(x) else x,
    "clip": lambda x: F.clip(x, -0.5, 1.5),
    "stop": lambda x: F.stop_gradient(x) * x,
    "float32": lambda x: F.astype(x, "float32"),
    "where": lambda x: F.where(x > 0, x * x, 0.5),
    "joined rows": lambda x: F.concat([x[:2] * 2.0, F.tanh(x[2:])]) if shape_of(x) else x,
    "joined columns": lambda x: F.concat([F.exp(x[..., 1:]), -x[..., :1]], axis=-1) if shape_of(x) else x,
    "masked": lambda x: F.where(F.isfinite(x), x, -1.0),
    "power": lambda x: x**3 - x**-1,
    "exponential": lambda x: 2.0**x,
    "fraction": lambda x: F.abs(x) ** 1.5,
    "literals": lambda x: 2.0 * x - 1 + x / 3,
}
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -2e-310, 1e308, -1e308, 745.0, 1.0]


@dataclass(frozen=True, slots=True)
class Written:
    """A random program: each line is an operation and how far back its operands are."""

    lines: tuple[tuple[str, int, int], ...]

    def __call__(self, *inputs: Any) -> list[Any]:
        """All floating results, in order; what does not fit together by its shape is left out."""
        values = list(inputs)
        for name, first, second in self.lines:
            x, y = values[-1 - first % len(values)], values[-1 - second % len(values)]
            if name in OTHERS:
                found = OTHERS[name](x if dtype_of(x).kind == "f" else 0.5 * x)
            elif name in UNARY:
                found = getattr(F, name)(x if dtype_of(x).kind != "b" else F.where(x, 1.5, -0.5))
            elif fits(x, y):
                found = getattr(F, name)(x, y)
            else:
                continue
            values.append(found)
        return [x for x in values[len(inputs) :] if dtype_of(x).kind == "f"] or [values[0] * 1.0]

    def without(self, names: Sequence[str]) -> "Written":
        """The program without some operations."""
        return Written(tuple(line for line in self.lines if line[0] not in names))

    def loss(self, *inputs: Any) -> Any:
        """One number that depends on all."""
        weights = (1.0 + 0.25 * k for k in range(len(self.lines) + 1))
        return sum((w * F.sum(F.astype(y, "float64")) for w, y in zip(weights, self(*inputs), strict=False)), 0.0)


def fits(x: Any, y: Any) -> bool:
    try:
        np.broadcast_shapes(shape_of(x), shape_of(y))
    except ValueError:
        return False
    return dtype_of(x).kind == "f" or dtype_of(y).kind == "f"


programs = st.lists(
    st.tuples(st.sampled_from([*UNARY, *BINARY, *BINARY, *OTHERS]), st.integers(0, 4), st.integers(0, 4)),
    min_size=2,
    max_size=12,
).map(lambda lines: Written(tuple(lines)))

KINDS = ["float", "float32 number", "array", "single", "integers", "truths", "0-d", "0-d integer", "special", "wide"]


def drawn(kind: str, seed: int, shape: tuple[int, ...]) -> Any:
    """An input of some kind."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * rng.choice([0.5, 2.0, 30.0])
    if kind in ("float", "float32 number", "0-d", "0-d integer"):
        number = float(rng.choice([*SPECIAL, 0.75, -1.5, 2.25]))
        if kind == "0-d integer":
            return np.array(rng.integers(-3, 4))
        makers: dict[str, Function] = {"float": float, "float32 number": np.float32, "0-d": np.array}
        with np.errstate(over="ignore"):
            return makers[kind](number)
    if kind == "special":
        x = rng.choice([*SPECIAL, 0.5, -2.0], shape)
    if kind == "wide":
        x = rng.standard_normal((*shape[:-1], 2 * shape[-1]))[..., ::2].T if shape else x
    dtype = {"single": np.float32, "integers": np.int64, "truths": bool}.get(kind, np.float64)
    return x.astype(dtype) if dtype is not bool else x > 0


inputs = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16)), min_size=1, max_size=3)
#: A tape that goes back takes numbers that it has saved in the precision of what they meet, a plan in their own.
SINGLE = ["single", "float32 number"]
DOUBLE = [kind for kind in KINDS if kind not in SINGLE]
of_one_precision = st.sampled_from([SINGLE, DOUBLE]).flatmap(
    lambda kinds: st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 2**16)), min_size=1, max_size=3)
)
#: What gives another precision than it is given.
TURNING = "float32 isnan isfinite logical_not less equal logical_and".split()
shapes = st.sampled_from([(3,), (2, 3), (0,), (2, 0), (1,), (3, 3)])


def assert_same_bits(found: Sequence[Any], expected: Sequence[Any], lines: Any) -> None:
    """Shapes, dtypes and all elements, signs of zeros with them; a NaN is a NaN."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        np.testing.assert_array_equal(one, other, strict=True, err_msg=str(lines))
        numbers = ~np.isnan(other)
        np.testing.assert_array_equal(np.signbit(one)[numbers], np.signbit(other)[numbers], err_msg=str(lines))


def on_tape(f: Function, args: Sequence[Any]) -> list[Any]:
    """Values by way of variables."""
    with np.errstate(all="ignore"):
        return [y.data if isinstance(y, Variable) else as_raw(y) for y in f(*[Variable(as_raw(x)) for x in args])]


def planned(f: Function, args: Sequence[Any]) -> list[Any]:
    """Values by way of a plan; numbers have the dtypes that they have on a tape."""
    trace = Trace()
    values = [as_raw(x) for x in args]
    symbols = [trace.input(f"x{k}", aval(x)._replace(weak=None)) for k, x in enumerate(values)]
    plan = Plan(trace, list(f(*symbols)))
    given = {f"x{k}": x for k, x in enumerate(values)}
    found = plan.run(given)
    assert_same_bits(plan.run(given), found, plan.source)
    return found


def slopes(f: Function, args: Sequence[Any]) -> Function:
    """The gradients by all floating arguments."""
    places = tuple(k for k, x in enumerate(args) if np.asarray(x).dtype.kind == "f")
    return grad(f, places) if places else lambda *xs: ()


def slopes_on_tape(f: Function, args: Sequence[Any]) -> list[Any]:
    """The same by way of variables."""
    xs = [Variable(as_raw(x)) for x in args]
    with np.errstate(all="ignore"):
        y = f(*xs)
        if isinstance(y, Variable) and y.creator is not None:
            y.backward()
        return [np.zeros_like(x.data) if x.grad is None else x.grad.data for x in xs if x.dtype.kind == "f"]


@settings(max_examples=examples(300))
@given(programs, inputs, shapes)
def test_values_of_programs(program: Written, kinds: list[tuple[str, int]], shape: tuple[int, ...]) -> None:
    args = [drawn(kind, seed, shape) for kind, seed in kinds]
    assert_same_bits(planned(program, args), on_tape(program, args), program.lines)


@settings(max_examples=examples(300))
@given(programs, of_one_precision, shapes)
def test_gradients_of_programs(program: Written, kinds: list[tuple[str, int]], shape: tuple[int, ...]) -> None:
    args = [drawn(kind, seed, shape) for kind, seed in kinds]
    program = program.without(TURNING if kinds[0][0] in SINGLE else ["float32"])
    found = compile(slopes(program.loss, args))(*args)
    assert_same_bits(found, slopes_on_tape(program.loss, args), program.lines)


@settings(max_examples=examples(100))
@given(programs, st.lists(st.integers(0, 2**16), min_size=1, max_size=2), shapes)
def test_second_gradients_of_programs(program: Written, seeds: list[int], shape: tuple[int, ...]) -> None:
    args = [drawn("special" if seed % 2 else "array", seed, shape) for seed in seeds]
    first = slopes(program.without(["float32"]).loss, args)
    second = slopes(lambda *xs: sum((F.sum(F.sin(y)) for y in first(*xs)), 0.0), args)
    with np.errstate(all="ignore"):
        expected = second(*args)
    assert_same_bits(compile(second)(*args), expected, program.lines)


@settings(max_examples=examples(60))
@given(programs, of_one_precision, st.sampled_from([(SMALLEST - 1,), (SMALLEST,), (40, 40), (3, 700)]))
def test_programs_that_write_into_buffers(
    program: Written, kinds: list[tuple[str, int]], shape: tuple[int, ...]
) -> None:
    # Sums round in the order of memory, which is that of rows in buffers.
    kinds = [("special" if kind == "wide" else kind, seed) for kind, seed in kinds]
    args = [drawn(kind, seed, shape) for kind, seed in kinds]
    program = program.without(TURNING if kinds[0][0] in SINGLE else ["float32"])
    kept = [np.array(x) for x in args]
    assert_same_bits(planned(program, args), on_tape(program, args), program.lines)
    h = compile(slopes(program.loss, args))
    first, second = h(*args), h(*args)
    for found in (first, second):
        assert_same_bits(found, slopes_on_tape(program.loss, args), program.lines)
    assert_same_bits(args, kept, program.lines)


@settings(max_examples=examples(100))
@given(
    st.lists(
        st.tuples(st.sampled_from([*UNARY, *BINARY, *BINARY]), st.integers(0, 4), st.integers(0, 4)),
        min_size=2,
        max_size=15,
    ),
    st.lists(st.sampled_from([*SPECIAL, 0.5, -1.25, 3.0]), min_size=2, max_size=2),
)
def test_programs_of_numbers(lines: list[tuple[str, int, int]], xs: list[float]) -> None:
    program = Written(tuple(lines))
    g = value_and_grad(program.loss, (0, 1))
    with np.errstate(all="ignore"):
        value, gradient = g(*xs)
    found = compile(g)(*xs)
    assert_same_bits([found[0], *found[1]], [value, *gradient], lines)


BESIDE_TRUTHS: dict[str, Function] = {
    "maximum": lambda x, y: F.maximum(-x, x > y),
    "minimum": lambda x, y: F.minimum(x > y, y - x),
    "atan2": lambda x, y: F.atan2(F.expm1(x), y == y),
    "hypot": lambda x, y: F.hypot(x, y == y),
    "pow": lambda x, y: F.exp(x) ** (y == y) + (y > x) ** x,
    "operators": lambda x, y: (x > y) - x * (y > x) + y / (y == y),
    "where": lambda x, y: F.where(x > y, x == y, y) + F.where(x, y > x, x),
}


@pytest.mark.parametrize("name", BESIDE_TRUTHS)
def test_numbers_beside_truths(name: str) -> None:
    f = BESIDE_TRUTHS[name]
    for x in (0.0, -0.0, 1.5, -0.3, 1.1, np.inf, np.nan):
        for y in (0.0, -0.0, 2.5, -0.7, -np.inf):
            assert_same_bits(planned(lambda *xs: [f(*xs)], [x, y]), on_tape(lambda *xs: [f(*xs)], [x, y]), name)


every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


@every_program
def test_known_programs_as_text_and_compiled(program: Program) -> None:
    """The plan of the text, that of the function and the tape: values and gradients of each output, in turn."""
    for name in program.outputs:
        names = list(program.floating)
        if not names:
            continue

        def loss(*xs: Any, name: str = name, names: list[str] = names) -> Any:
            return F.sum(program(dict(zip(names, xs, strict=True)))[name])

        g = value_and_grad(loss, tuple(range(len(names))))
        xs = [program.inputs[n] for n in names]
        value, found = compile(g)(*xs)
        expected_value, expected = g(*xs)
        close([value, *found], [expected_value, *expected])
        backward = Backward(of=name, wrt=tuple(names))
        answer = prepare(parse(program.text), dict(program.inputs), outputs=[name], backward=backward).run()
        close([np.sum(answer.values[name]), *(answer.grads or {}).values()], [expected_value, *expected])


def close(found: Sequence[Any], expected: Sequence[Any]) -> None:
    """Equal but for the order in which sums round."""
    for one, other in zip(found, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        precision = 1e-12 if other.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(one, other, rtol=precision, atol=precision * np.max(np.abs(other), initial=1e-3))
