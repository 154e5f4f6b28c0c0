"""Plans of numbers: every row gives at every edge what it gives on the tape, to the last bit, and never raises."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import AutogradError
from engine.core.operation import Operation
from engine.core.table import rows
from engine.core.values import FLOAT64, Aval
from engine.plans.codegen.kernel import Kernel
from engine.plans.codegen.structure import Structure
from engine.plans.trace import Trace
from engine.transforms import grad, jvp, value_and_grad
from engine.transforms.compilation import compile

EDGES = [
    *(0.0, -0.0, 5e-324, -5e-324, 2.2e-308, -1e-310, math.inf, -math.inf, math.nan),
    *(1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, 0.1, math.pi, -27.5, 171.0),
    *(709.9, 745.2, -745.2, 1e5, 2.0**53, 1e16, -1e16, 1e154, -1e200, 1.7e308, -1.7976931348623157e308),
]
FEW = [0.0, -0.0, 5e-324, math.inf, -math.inf, math.nan, 1.0, -2.0, 0.5, 1e308]
ELEMENTWISE = [op for op in rows() if op.kind == "elementwise" and not any(a.name == "n" for a in op.attributes)]
SCALAR = [op for op in ELEMENTWISE if op.lowering.scalar is not None]

every_row = pytest.mark.parametrize("op", ELEMENTWISE, ids=str)
every_scalar_row = pytest.mark.parametrize("op", SCALAR, ids=str)


def operands(op: Operation) -> list[tuple[float, ...]]:
    """All edges of one operand, all pairs of two, fewer of three."""
    return list(itertools.product(EDGES if len(op.operands) < 3 else FEW, repeat=len(op.operands)))


def attributes(op: Operation) -> dict[str, Any]:
    """Defaults, and numbers where there are none."""
    given = {"value": 2.5, "min": -1.0, "max": 2.0}
    return {a.name: a.parse(given.get(a.name, a.default), op.name) for a in op.attributes}


def traced(op: Operation, divides: bool = False) -> Kernel:
    """The code of one row; with `divides`, of 1 / x beside it, x being one operand more."""
    trace = Trace()
    xs = [trace.input(f"x{k}", Aval((), FLOAT64)) for k in range(len(op.operands) + divides)]
    outputs = [op.run(tuple(xs[: len(op.operands)]), attributes(op))]
    if divides:
        outputs.append(1.0 / xs[-1])
    return Kernel(Structure(trace, outputs, inputs=xs))


def bits(value: Any) -> str:
    """What tells values apart, but for the signs of NaN."""
    array = np.asarray(value.data if isinstance(value, Variable) else value)
    return f"{array.dtype}{array.shape}{array.tolist()!r}"


def on_tape(op: Operation, xs: tuple[float, ...]) -> str:
    with np.errstate(all="ignore"):
        return bits(op.run(tuple(Variable(x) for x in xs), attributes(op)))


@every_row
def test_values_at_the_edges(op: Operation) -> None:
    program = traced(op)
    for xs in operands(op):
        assert bits(program(xs)[0]) == on_tape(op, xs), xs


@every_scalar_row
def test_rows_of_numbers_make_code_of_numbers(op: Operation) -> None:
    """Guarded code gives the same, be it needed or not."""
    program = traced(op)
    assert program.is_scalar
    assert "errstate" not in program.source and "array(" not in program.source.replace("asarray(", "")
    for xs in operands(op):
        assert bits(program.guarded(*xs)[0]) == on_tape(op, xs), xs


@every_scalar_row
def test_what_stands_beside_a_division_by_zero(op: Operation) -> None:
    """The whole is computed again, guarded, and the row gives the same as before."""
    program = traced(op, divides=True)
    for xs in operands(op):
        for zero, quotient in [(0.0, math.inf), (-0.0, -math.inf), (4.0, 0.25)]:
            found = program([*xs, zero])
            assert bits(found[0]) == on_tape(op, xs), xs
            assert found[1] == quotient


@every_row
def test_arrays_at_the_edges(op: Operation) -> None:
    """In small arrays, and in ones that are written into buffers."""
    edges = EDGES if len(op.operands) == 2 else FEW * 13
    columns = [np.array(column) for column in zip(*operands(op), strict=True)]
    for given in (columns, [np.resize(column, len(edges) ** 2 + 4000) for column in columns]):
        f = compile(lambda *xs: 1.0 * op.run(tuple(x + 0.0 for x in xs), attributes(op)))
        with np.errstate(all="ignore"):
            expected = 1.0 * op.run(tuple(Variable(x) + 0.0 for x in given), attributes(op))
        found = f(*given)
        np.testing.assert_array_equal(found, expected.data, strict=True)
        numbers = ~np.isnan(found)
        np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected.data)[numbers])


DIFFERENTIABLE = [op for op in ELEMENTWISE if op.is_differentiable]


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=str)
def test_gradients_at_the_edges(op: Operation) -> None:
    places = tuple(k for k, vjp in enumerate(op.vjps) if vjp is not None)

    def f(*xs: float) -> Any:
        return op.run(xs, attributes(op))

    second = grad(lambda *xs: sum(grad(f, places)(*xs), 0.0), places)
    for g in (value_and_grad(f, places), second):
        h = compile(g)
        for xs in operands(op)[:: 1 if len(op.operands) == 1 else 3]:
            with np.errstate(all="ignore"):
                expected = g(*xs)
            found = h(*xs)
            assert repr(found) == repr(expected), xs


PROGRAMS: dict[str, tuple[Any, tuple[float, ...]]] = {
    "division by zero, and on from there": (lambda x, y: F.exp(-1.0 / x) + F.atan(y / x) * F.sin(y), (0.0, 2.0)),
    "overflow, and on from there": (lambda x, y: F.tanh(F.exp(x)) + y / F.exp(x), (1000.0, 2.0)),
    "outside of a domain, but not chosen": (lambda x, y: F.where(x > 0, F.log(x), y * F.sqrt(x)), (-1.0, 2.0)),
    "only the gradient divides": (lambda x, y: F.sqrt(x) + F.hypot(x, y), (0.0, 0.0)),
    "only the gradient overflows": (lambda x, y: F.acosh(1.0 + x) + F.cosh(y) / 1e300, (0.0, 710.4)),
    "powers": (lambda x, y: x**y + x**-1 + x**0.5 + x**0 + x**3, (0.0, -2.0)),
    "powers of what is negative": (lambda x, y: x**y + (-x) ** 1.5, (-8.0, 1 / 3)),
    "masks": (lambda x, y: (x > y) * x + (x == y) * 2.5 - F.logical_not(x) * y, (0.0, 0.0)),
    "truths of truths": (lambda x, y: F.where((x < y) == (y < x), x, y) + ((x < y) < (y < x)) * 3.0, (1.0, 2.0)),
    "steps": (lambda x, y: F.floor(x / y) + F.remainder(x, y) + F.sign(y), (2.0, 0.0)),
    "not a number": (lambda x, y: F.maximum(x, y) + F.minimum(y, x) + F.relu(x) + F.clip(y, -1, 1), (math.nan, 1.0)),
    "infinite minus infinite": (lambda x, y: x - y + x * 0.0 + F.sin(x), (math.inf, math.inf)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_reach_an_edge_on_their_way(name: str) -> None:
    """Value, gradient and the gradient of that, at the edge and beside it, in turn."""
    f, at = PROGRAMS[name]

    def value(*xs: float) -> Any:
        return jvp(f, xs, (0.0, 0.0))[0]

    for g in (value, value_and_grad(f, (0, 1)), grad(lambda *xs: sum(grad(f, (0, 1))(*xs), 0.0), (0, 1))):
        h = compile(f if g is value else g)
        for xs in (at, (0.75, 1.25), at, (-0.0, 5e-324), (1e308, -1e308), at):
            with np.errstate(all="ignore"):
                expected = g(*xs)
            assert repr(h(*xs)) == repr(expected), xs


def test_a_name_in_code_is_one_thing() -> None:
    """Names of rows are no names of values, buffers, arguments or of what the code calls besides."""
    own = {"np", "special", "errstate", "asarray", "float64", "canonical", "plan", "entry", "seed", "steps", "step"}
    own |= {"results", "OtherFormError", "as_raw", "ndarray", "guarded", "float", "bool", "type", "len", "list"}
    for op in rows():
        assert op.name not in own
        assert not (op.name[0] in "vxcbwpquyrso" and op.name[1:].isdigit())
        assert not op.name.endswith("_array")


def test_errors_of_shape_stay_what_they_are() -> None:
    """A mistake is told where the program is traced, not hidden by the guard."""
    with pytest.raises(AutogradError, match=r"matmul|axes"):
        compile(lambda x: x @ x)(2.0)
