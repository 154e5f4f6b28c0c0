"""Every smooth row in relative error, against mpmath: values, first and second derivatives where digits cancel.

The points are tiny, huge, saturated, at a boundary and just inside of it. A value and a slope may be wrong by 8 units
of the last place beside the conditioning of the argument, a second derivative by 64.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from mpmath import mp, mpf

from engine import Variable, compile
from engine import functions as F
from engine.core.table import rows
from engine.transforms import grad, jacobian, vmap

Array = npt.NDArray[Any]
#: A function of one number, exact to many digits.
Exact = Callable[[Any], Any]

inf, nan = math.inf, math.nan
#: Digits of the exact results.
DIGITS = 60
#: Units of the last place that a value, a slope and a second derivative may be wrong by.
UNITS = (8.0, 8.0, 64.0)
#: Relative step that conditioning is measured with.
STEP = mpf(10) ** -30


class Reference(NamedTuple):
    """A row by formulas that lose no digits.

    exact: the function, its derivative and its second derivative, for lowest < x < highest.
    points: beside the common ones. limits: the three at boundaries and at infinity.
    has_poles: at 0, -1, -2, ...; there is no limit. call: the function, where it is not the row's.
    most_condition: conditioning excuses no more. An argument of 1e22 is exact, whatever a sine makes of it.
    """

    exact: tuple[Exact, Exact, Exact]
    points: tuple[float, ...] = ()
    limits: Mapping[float, tuple[float, float, float]] = MappingProxyType({})
    lowest: float = -inf
    highest: float = inf
    has_poles: bool = False
    most_condition: float = inf
    call: Callable[[Any], Any] | None = None


def sech(x: Any) -> Any:
    return 1 / mp.cosh(x)


def expit(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))


def bell(x: Any) -> Any:
    """The derivative of expit."""
    return expit(x) * expit(-x)


def complement(x: Any) -> Any:
    """1 - x * x."""
    return (1 - x) * (1 + x)


def gauss(x: Any) -> Any:
    """The derivative of erf."""
    return 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)


def inner(x: Any, order: int = 0) -> Any:
    """Argument of the sigmoid in gelu, and its derivatives."""
    scale, cubic = 2 * mp.sqrt(2 / mp.pi), mpf(44715) / 10**6
    return scale * (x + cubic * x**3, 1 + 3 * cubic * x**2, 6 * cubic * x)[order]


def gelu_curvature(x: Any) -> Any:
    u, slope, curvature = (inner(x, order) for order in range(3))
    return bell(u) * (2 * slope - x * slope**2 * mp.tanh(u / 2) + x * curvature)


def log_gamma(x: Any) -> Any:
    return mp.loggamma(x) if x > 0 else mp.log(mp.pi / abs(mp.sinpi(x))) - mp.loggamma(1 - x)


def psi(order: int) -> Exact:
    def found(x: Any) -> Any:
        if x > 0:
            return mp.psi(order, x)
        mirrored = (-1) ** order * mp.psi(order, 1 - x)
        c, s = mp.cospi(x), mp.sinpi(x)
        cotangent = (c / s, -1 / s**2, 2 * c / s**3, -2 * (1 + 2 * c**2) / s**4, 8 * c * (2 + c**2) / s**5)[order]
        return mirrored - mp.pi ** (order + 1) * cotangent

    return found


LN2, LN10 = mp.ln2, mp.ln10
#: Between the poles of the gamma function, close to them, and where its logarithm and digamma are 0.
BETWEEN_POLES = (-0.5, -1.0 + 1e-9, -1.0 - 1e-9, -1.5, -2.0 - 1e-9, -2.4570247382208006, -3.5, -10.25, -30.125)
AROUND_ZEROS = (1.0 - 1e-9, 1.0 + 1e-9, 2.0 - 1e-9, 2.0 + 1e-9, 1.4616321449683623, 1.46, -0.504083008264455)
HALF_PI = math.pi / 2
WAVES = (HALF_PI, -HALF_PI, math.pi, 1.5707963, 3.1415926, 4.71238898038469, 1e22, 355.0, 1e5)
NO_LIMIT = {inf: (nan, nan, nan), -inf: (nan, nan, nan)}
FLAT = {-inf: (0.0, 0.0, 0.0)}

SMOOTH: dict[str, Reference] = {
    "acos": Reference(
        (mp.acos, lambda x: -1 / mp.sqrt(complement(x)), lambda x: -x / complement(x) ** mpf(1.5)),
        limits={1.0: (0.0, -inf, -inf), -1.0: (math.pi, -inf, inf)},
        lowest=-1,
        highest=1,
    ),
    "acosh": Reference(
        (
            mp.acosh,
            lambda x: 1 / mp.sqrt((x - 1) * (x + 1)),
            lambda x: -x / ((x - 1) * (x + 1)) ** mpf(1.5),
        ),
        limits={1.0: (0.0, inf, -inf), inf: (inf, 0.0, 0.0)},
        lowest=1,
    ),
    "asin": Reference(
        (mp.asin, lambda x: 1 / mp.sqrt(complement(x)), lambda x: x / complement(x) ** mpf(1.5)),
        limits={1.0: (HALF_PI, inf, inf), -1.0: (-HALF_PI, inf, -inf)},
        lowest=-1,
        highest=1,
    ),
    "asinh": Reference(
        (mp.asinh, lambda x: 1 / mp.sqrt(1 + x * x), lambda x: -x / (1 + x * x) ** mpf(1.5)),
        limits={inf: (inf, 0.0, 0.0), -inf: (-inf, 0.0, 0.0)},
    ),
    "atan": Reference(
        (mp.atan, lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2),
        limits={inf: (HALF_PI, 0.0, 0.0), -inf: (-HALF_PI, 0.0, 0.0)},
    ),
    "atan_slope": Reference(
        (
            lambda x: 1 / (1 + x * x),
            lambda x: -2 * x / (1 + x * x) ** 2,
            lambda x: 2 * (3 * x * x - 1) / (1 + x * x) ** 3,
        ),
        (math.sqrt(1 / 3),),
        {inf: (0.0, 0.0, 0.0), -inf: (0.0, 0.0, 0.0)},
    ),
    "asinh_slope": Reference(
        (
            lambda x: 1 / mp.sqrt(1 + x * x),
            lambda x: -x / (1 + x * x) ** mpf(1.5),
            lambda x: (2 * x * x - 1) / (1 + x * x) ** mpf(2.5),
        ),
        (math.sqrt(0.5),),
        {inf: (0.0, 0.0, 0.0), -inf: (0.0, 0.0, 0.0)},
    ),
    "one_minus_square": Reference(
        (complement, lambda x: -2 * x, lambda x: mpf(-2)), (), {inf: (-inf, -inf, -2.0), -inf: (-inf, inf, -2.0)}
    ),
    "tanh_slope": Reference(
        (
            lambda x: sech(x) ** 2,
            lambda x: -2 * sech(x) ** 2 * mp.tanh(x),
            lambda x: sech(x) ** 2 * (4 * mp.tanh(x) ** 2 - 2 * sech(x) ** 2),
        ),
        (354.0, 372.0, 0.6584789484624084),
        {inf: (0.0, 0.0, 0.0), -inf: (0.0, 0.0, 0.0)},
    ),
    "atanh": Reference(
        (mp.atanh, lambda x: 1 / complement(x), lambda x: 2 * x / complement(x) ** 2),
        limits={1.0: (inf, inf, inf), -1.0: (-inf, inf, -inf)},
        lowest=-1,
        highest=1,
    ),
    "cos": Reference((mp.cos, lambda x: -mp.sin(x), lambda x: -mp.cos(x)), WAVES, NO_LIMIT, most_condition=1.0),
    "cosh": Reference((mp.cosh, mp.sinh, mp.cosh), (), {inf: (inf, inf, inf), -inf: (inf, -inf, inf)}),
    "digamma": Reference(
        (psi(0), psi(1), psi(2)),
        BETWEEN_POLES + AROUND_ZEROS,
        {0.0: (-inf, inf, -inf), inf: (inf, 0.0, 0.0)},
        -50.0,
        has_poles=True,
    ),
    "erf": Reference((mp.erf, gauss, lambda x: -2 * x * gauss(x)), (), {inf: (1.0, 0.0, 0.0), -inf: (-1.0, 0.0, 0.0)}),
    "erfc": Reference(
        (lambda x: mp.erfc(x) if x < 1e6 else mp.exp(-x * x), lambda x: -gauss(x), lambda x: 2 * x * gauss(x)),
        (26.5,),
        {inf: (0.0, 0.0, 0.0), -inf: (2.0, 0.0, 0.0)},
    ),
    "gaussian": Reference(
        (
            lambda x: mp.exp(-x * x),
            lambda x: -2 * x * mp.exp(-x * x),
            lambda x: (4 * x * x - 2) * mp.exp(-x * x),
        ),
        (math.sqrt(0.5),),
        {inf: (0.0, 0.0, 0.0), -inf: (0.0, 0.0, 0.0)},
    ),
    "exp": Reference((mp.exp, mp.exp, mp.exp), (), {inf: (inf, inf, inf), **FLAT}),
    "exp2": Reference(
        (lambda x: mpf(2) ** x, lambda x: LN2 * mpf(2) ** x, lambda x: LN2**2 * mpf(2) ** x),
        (1023.5, -1021.5),
        {inf: (inf, inf, inf), **FLAT},
    ),
    "expm1": Reference((mp.expm1, mp.exp, mp.exp), (), {inf: (inf, inf, inf), -inf: (-1.0, 0.0, 0.0)}),
    "gammaln": Reference(
        (log_gamma, psi(0), psi(1)),
        BETWEEN_POLES + AROUND_ZEROS,
        {0.0: (inf, -inf, inf), inf: (inf, inf, 0.0)},
        -50.0,
        has_poles=True,
    ),
    "gelu": Reference(
        (
            lambda x: x * expit(inner(x)),
            lambda x: expit(inner(x)) + x * bell(inner(x)) * inner(x, 1),
            gelu_curvature,
        ),
        (-0.7524614220710162, -9.0, 9.0, -12.0, 29.9, 30.1),
        {inf: (inf, 1.0, 0.0), **FLAT},
    ),
    "log": Reference(
        (mp.log, lambda x: 1 / x, lambda x: -1 / x**2), (), {0.0: (-inf, inf, -inf), inf: (inf, 0.0, 0.0)}, 0.0
    ),
    "log10": Reference(
        (lambda x: mp.log(x) / LN10, lambda x: 1 / (x * LN10), lambda x: -1 / (x**2 * LN10)),
        (),
        {0.0: (-inf, inf, -inf), inf: (inf, 0.0, 0.0)},
        0.0,
    ),
    "log1p": Reference(
        (mp.log1p, lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
        (),
        {-1.0: (-inf, inf, -inf), inf: (inf, 0.0, 0.0)},
        -1.0,
    ),
    "log2": Reference(
        (lambda x: mp.log(x) / LN2, lambda x: 1 / (x * LN2), lambda x: -1 / (x**2 * LN2)),
        (),
        {0.0: (-inf, inf, -inf), inf: (inf, 0.0, 0.0)},
        0.0,
    ),
    "neg": Reference((lambda x: -x, lambda x: -mpf(1), lambda x: mpf(0)), (), {inf: (-inf, -1.0, 0.0)}),
    "polygamma": Reference(
        (psi(1), psi(2), psi(3)),
        BETWEEN_POLES,
        {inf: (0.0, 0.0, 0.0)},
        -50.0,
        has_poles=True,
        call=lambda x: F.polygamma(x, 1),
    ),
    "sigmoid": Reference(
        (expit, bell, lambda x: -bell(x) * mp.tanh(x / 2)), (), {inf: (1.0, 0.0, 0.0), -inf: (0.0, 0.0, 0.0)}
    ),
    "sigmoid_slope": Reference(
        (
            bell,
            lambda x: -bell(x) * mp.tanh(x / 2),
            lambda x: bell(x) * (mp.tanh(x / 2) ** 2 - sech(x / 2) ** 2 / 2),
        ),
        (1.3169578969248166,),
        {inf: (0.0, 0.0, 0.0), -inf: (0.0, 0.0, 0.0)},
    ),
    "sin": Reference((mp.sin, mp.cos, lambda x: -mp.sin(x)), WAVES, NO_LIMIT, most_condition=1.0),
    "sinh": Reference((mp.sinh, mp.cosh, mp.sinh), (), {inf: (inf, inf, inf), -inf: (-inf, inf, -inf)}),
    "softplus": Reference(
        (lambda x: mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x)), expit, bell),
        (),
        {inf: (inf, 1.0, 0.0), **FLAT},
    ),
    "sqrt": Reference(
        (mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), lambda x: -1 / (4 * x * mp.sqrt(x))),
        (),
        {0.0: (0.0, inf, -inf), inf: (inf, 0.0, 0.0)},
        0.0,
    ),
    "square": Reference((lambda x: x * x, lambda x: 2 * x, lambda x: mpf(2)), (), {inf: (inf, inf, 2.0)}),
    "tan": Reference(
        (mp.tan, lambda x: mp.sec(x) ** 2, lambda x: 2 * mp.sec(x) ** 2 * mp.tan(x)),
        WAVES,
        NO_LIMIT,
        most_condition=1.0,
    ),
    "tanh": Reference(
        (mp.tanh, lambda x: sech(x) ** 2, lambda x: -2 * sech(x) ** 2 * mp.tanh(x)),
        (354.0, 372.0),
        {inf: (1.0, 0.0, 0.0), -inf: (-1.0, 0.0, 0.0)},
    ),
}
#: What a row does not hold, as its documentation says: (row, order) -> whether it is so at a point.
NOT_HELD: dict[tuple[str, int], Callable[[float], bool]] = {
    # SciPy computes the logarithm of 1 / x there, which overflows.
    ("gammaln", 0): lambda x: 0.0 < abs(x) < 1 / FORMATS["float64"].largest,
}
#: Piecewise linear, or with attributes that choose: what they do at their kinks is another table's business.
NOT_SMOOTH = {"abs", "clip", "relu"}

SIZES = (5e-324, 1e-310, 1e-300, 1e-200, 1e-160, 1e-154, 1e-100, 1e-50, 1e-45, 1e-40, 1e-37, 1e-20, 1e-10, 1e-8, 1e-5)
SIZES += (1e-3, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0, 1.1, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0, 10.0, 14.0, 17.0)
SIZES += (19.07, 20.0, 25.0, 30.0, 36.7, 37.0, 40.0, 44.0, 60.0, 80.0, 88.0, 88.8, 100.0, 300.0, 700.0, 709.0, 709.7)
SIZES += (710.4, 720.0, 744.0, 800.0, 1e4, 1e7, 1e8, 1e12, 1e16, 1e19, 1e20, 1e30, 1e38, 3e38, 1e50, 1e100, 1e153)
SIZES += (1e154, 1e155, 1e200, 1e300, 1.7e308)


def points_of(reference: Reference, dtype: Any) -> Iterator[float]:
    """The points inside of the domain: all sizes, the numbers beside 1 and beside boundaries, and the row's own."""
    sides = [float(np.nextafter(dtype(x), dtype(to))) for x in (1.0, -1.0, 2.0, -2.0) for to in (-inf, inf)]
    near = [x + s * d for x in (1.0, -1.0) for s in (1.0, -1.0) for d in (1e-12, 1e-8, 1e-6, 1e-3)]
    signed = [s * x for x in (0.0, *SIZES) for s in (1.0, -1.0)]
    with np.errstate(all="ignore"):
        rounded = {str(dtype(x)): float(dtype(x)) for x in (*signed, *sides, *near, *reference.points)}
    for x in rounded.values():
        is_pole = x in reference.limits or (reference.has_poles and x <= 0 and x == np.floor(x))
        if math.isfinite(x) and not is_pole and reference.lowest < x < reference.highest:
            yield x


class Format(NamedTuple):
    """A floating-point format: its type, the unit of the last place of 1, the smallest normal number, the largest."""

    dtype: Any
    eps: float
    tiny: float
    largest: float


FORMATS = {
    name: Format(dtype, *(float(getattr(np.finfo(dtype), field)) for field in ("eps", "tiny", "max")))
    for name, dtype in (("float64", np.float64), ("float32", np.float32))
}


def with_condition(f: Exact, x: float, most: float) -> tuple[Any, float]:
    """The exact result, and the relative change of it over that of x."""
    y = f(mpf(x))
    if not y or not x:
        return y, 0.0
    return y, min(float(abs((f(mpf(x) * (1 + STEP)) - y) / y) / STEP), most)


@cache
def exact_results(name: str, format_name: str) -> tuple[list[float], list[list[tuple[Any, float]]]]:
    """The points of a row, and for value, slope and second derivative the exact results with their conditioning."""
    reference = SMOOTH[name]
    with mp.workdps(DIGITS):
        points = list(points_of(reference, FORMATS[format_name].dtype))
        results = [[with_condition(f, x, reference.most_condition) for x in points] for f in reference.exact]
    limits = list(reference.limits)
    for order, found in enumerate(results):
        found += [(mpf(reference.limits[x][order]), 0.0) for x in limits]
    return points + limits, results


def error(found: float, exact: Any, condition: float, units: float, known: Format) -> float:
    """How many times the allowed error a result is wrong by; below the smallest normal number it may be lost."""
    if not exact and condition == inf:
        return 0.0 if math.isfinite(found) else inf
    if mp.isnan(exact) or mp.isinf(exact):
        return 0.0 if found == float(exact) or (found != found and mp.isnan(exact)) else inf
    if not math.isfinite(found):
        is_beyond = abs(exact) > known.largest * (1 - known.eps * units * (1 + condition))
        return 0.0 if is_beyond and found == math.copysign(inf, exact) else inf
    allowed = known.eps * units * (1 + condition) * max(abs(exact), known.tiny / known.eps / units)
    if abs(exact) < known.tiny:
        allowed = mpf(known.tiny)
    return float(abs(mpf(found) - exact) / allowed)


def on_scalar_tape(f: Callable[[Any], Any], points: list[float]) -> list[list[float]]:
    found: list[list[float]] = [[], [], []]
    for point in points:
        x = Variable(point)
        y = f(x)
        y.backward(create_graph=True)
        slope = x.grad
        assert slope is not None
        x.cleargrad()
        plain = f(Variable(point))
        if slope.creator is not None:
            slope.backward()
        curvature = 0.0 if x.grad is None else x.grad.item()
        found[0].append(plain.item())
        found[1].append(slope.item())
        found[2].append(curvature)
    return found


def first_orders(f: Callable[[Any], Any], points: list[float]) -> list[list[float]]:
    """Slopes as a pass gives them that records nothing."""
    found = []
    for point in points:
        x = Variable(point)
        f(x).backward()
        assert x.grad is not None
        found.append(x.grad.item())
    return [[f(point) for point in points], found]


def three(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def total(x: Any) -> Any:
        return F.sum(f(x))

    return lambda x: (f(x), grad(total)(x), grad(lambda x: F.sum(grad(total)(x)))(x))


def on_arrays(f: Callable[[Any], Any], points: Array) -> list[Array]:
    return list(three(f)(points))


def compiled_on_arrays(f: Callable[[Any], Any], points: Array) -> list[Array]:
    return list(compile(three(f))(points))


def compiled_on_scalars(f: Callable[[Any], Any], points: list[float]) -> list[Any]:
    code = compile(three(f))
    return list(zip(*map(code, points), strict=True))


WAYS: dict[str, tuple[str, Callable[[Any, Any], Sequence[Any]]]] = {
    "tape of scalars": ("float64", on_scalar_tape),
    "first order of scalars": ("float64", first_orders),
    "arrays": ("float64", on_arrays),
    "compiled arrays": ("float64", compiled_on_arrays),
    "compiled scalars": ("float64", compiled_on_scalars),
    "float32": ("float32", on_arrays),
    "compiled float32": ("float32", compiled_on_arrays),
}


def test_the_table_has_every_smooth_row_of_one_operand() -> None:
    found = {op.name for op in rows() if op.kind == "elementwise" and len(op.operands) == 1 and op.is_differentiable}
    assert found == SMOOTH.keys() | NOT_SMOOTH


@pytest.mark.parametrize("name", SMOOTH)
def test_rows_keep_their_digits(name: str) -> None:
    f = SMOOTH[name].call or getattr(F, name)
    wrong = []
    for way, (format_name, run) in WAYS.items():
        known = FORMATS[format_name]
        points, expected = exact_results(name, format_name)
        with np.errstate(all="ignore"):
            given = points if "scalars" in way else np.array(points, known.dtype)
            found = run(f, given)
        for order, results in enumerate(found):
            for x, y, (exact, condition) in zip(points, results, expected[order], strict=True):
                if (name, order) in NOT_HELD and NOT_HELD[name, order](x):
                    continue
                times = error(float(y), exact, condition, UNITS[order], known)
                if not times <= 1.0:
                    wrong.append(f"{way}, order {order}: at {x!r} {y!r}, exact {mp.nstr(exact, 17)}: {times:.3g} times")
    assert not wrong, "\n".join([f"{name}: {len(wrong)} wrong", *wrong])


class Pair(NamedTuple):
    """A row of two operands: the function, its two slopes, and its second derivatives by (a, a), (a, b) and (b, b)."""

    exact: tuple[Callable[[Any, Any], Any], ...]
    first: tuple[float, ...]
    second: tuple[float, ...]


SIGNED = tuple(s * x for x in (1e-300, 1e-200, 1e-100, 1e-20, 0.3, 1.0, 2.5, 1e20, 1e100, 1e200) for s in (1.0, -1.0))
POSITIVE = tuple(x for x in SIGNED if x > 0)
#: Beyond, second derivatives have factors such as the square of 1 / x, which overflow or vanish where they do not.
SECOND_ORDERS = (1e-101, 1e101)
SCORES = tuple(s * x for x in (0.0, 1e-20, 1e-3, 1.0, 19.0, 40.0, 300.0, 700.0, 1e4, 1e10) for s in (1.0, -1.0))

PAIRS: dict[str, Pair] = {
    "atan2": Pair(
        (
            mp.atan2,
            lambda a, b: b / (a * a + b * b),
            lambda a, b: -a / (a * a + b * b),
            lambda a, b: -2 * a * b / (a * a + b * b) ** 2,
            lambda a, b: (a - b) * (a + b) / (a * a + b * b) ** 2,
            lambda a, b: 2 * a * b / (a * a + b * b) ** 2,
        ),
        SIGNED,
        SIGNED,
    ),
    "div": Pair(
        (
            lambda a, b: a / b,
            lambda a, b: 1 / b,
            lambda a, b: -a / b**2,
            lambda a, b: mpf(0),
            lambda a, b: -1 / b**2,
            lambda a, b: 2 * a / b**3,
        ),
        SIGNED,
        SIGNED,
    ),
    "hypot": Pair(
        (
            mp.hypot,
            lambda a, b: a / mp.hypot(a, b),
            lambda a, b: b / mp.hypot(a, b),
            lambda a, b: b * b / mp.hypot(a, b) ** 3,
            lambda a, b: -a * b / mp.hypot(a, b) ** 3,
            lambda a, b: a * a / mp.hypot(a, b) ** 3,
        ),
        SIGNED,
        SIGNED,
    ),
    "logaddexp": Pair(
        (
            lambda a, b: max(a, b) + mp.log1p(mp.exp(-abs(a - b))),
            lambda a, b: expit(a - b),
            lambda a, b: expit(b - a),
            lambda a, b: bell(a - b),
            lambda a, b: -bell(a - b),
            lambda a, b: bell(a - b),
        ),
        SCORES,
        SCORES,
    ),
    "mul": Pair(
        (
            lambda a, b: a * b,
            lambda a, b: b,
            lambda a, b: a,
            lambda a, b: mpf(0),
            lambda a, b: mpf(1),
            lambda a, b: mpf(0),
        ),
        SIGNED,
        SIGNED,
    ),
    "pow": Pair(
        (
            lambda a, b: a**b,
            lambda a, b: b * a ** (b - 1),
            lambda a, b: a**b * mp.log(a),
            lambda a, b: b * (b - 1) * a ** (b - 2),
            lambda a, b: a ** (b - 1) * (1 + b * mp.log(a)),
            lambda a, b: a**b * mp.log(a) ** 2,
        ),
        (*POSITIVE, 1.0 + 2.0**-52, 1.0 - 2.0**-53, 1.0 + 1e-9),
        (-2.5, -2.0, -1.0, -0.5, 1e-20, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, 1e8),
    ),
}


def conditioned(f: Callable[[Any, Any], Any], a: float, b: float) -> tuple[Any, float]:
    """The exact result, and its relative change over those of the operands: infinite where it passes through 0."""
    x, y = mpf(a), mpf(b)
    result = f(x, y)
    moved = [f(x * (1 + STEP), y), f(x, y * (1 + STEP))]
    if not result:
        return result, inf if any(moved) else 0.0
    return result, float(sum(abs((m - result) / result) for m in moved) / STEP)


def all_orders(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def total(a: Any, b: Any) -> Any:
        return F.sum(f(a, b))

    def both(a: Any, b: Any) -> Any:
        da, db = grad(total, (0, 1))(a, b)
        daa, dab = grad(lambda a, b: F.sum(grad(total, 0)(a, b)), (0, 1))(a, b)
        return f(a, b), da, db, daa, dab, grad(lambda b: F.sum(grad(total, 1)(a, b)))(b)

    return both


PAIR_WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "scalars": lambda f, a, b: list(zip(*map(all_orders(f), a, b), strict=True)),
    "compiled scalars": lambda f, a, b: list(zip(*map(compile(all_orders(f)), a, b), strict=True)),
    "arrays": lambda f, a, b: all_orders(f)(np.array(a), np.array(b)),
    "compiled arrays": lambda f, a, b: compile(all_orders(f))(np.array(a), np.array(b)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_rows_of_two_operands_keep_their_digits(name: str) -> None:
    pair = PAIRS[name]
    points = [(a, b) for a in pair.first for b in pair.second]
    with mp.workdps(DIGITS):
        expected = [[conditioned(f, a, b) for a, b in points] for f in pair.exact]
    wrong = []
    for way, run in PAIR_WAYS.items():
        with np.errstate(all="ignore"):
            found = run(getattr(F, name), *map(list, zip(*points, strict=True)))
        for k, results in enumerate(found):
            units = UNITS[2] if k > 2 else UNITS[0]
            for point, y, (exact, condition) in zip(points, results, expected[k], strict=True):
                if k > 2 and not all(SECOND_ORDERS[0] < abs(x) < SECOND_ORDERS[1] for x in point):
                    continue
                times = error(float(y), exact, condition, units, FORMATS["float64"])
                if not times <= 1.0:
                    wrong.append(f"{way}, {k}: at {point} {y!r}, exact {mp.nstr(exact, 17)}: {times:.3g} times")
    assert not wrong, "\n".join([f"{name}: {len(wrong)} wrong", *wrong])


#: Scores of which one is far above the rest, or none.
SCORE_ROWS = (
    [40.0, 0.0],
    [0.0, 40.0, -3.0],
    [37.0, 0.0, 0.5],
    [800.0, 100.0],
    [0.3, -0.2, 1.0],
    [0.0, -1e-3],
    [17.0, 0.0],
)
SCORE_ROWS += ([1.0, 1.0], [1e-20, -300.0], [0.0, -36.9, -37.1], [1e4, 9.98e3, 0.0])


def shares(x: list[float]) -> tuple[list[Any], list[Any]]:
    """The softmax, and 1 - softmax."""
    e = [mp.exp(mpf(each)) for each in x]
    return [each / sum(e) for each in e], [sum(e[:k] + e[k + 1 :]) / sum(e) for k in range(len(e))]


def exact_scores(x: list[float], label: int) -> dict[str, list[Any]]:
    """Values and derivatives of softmax and what is made of it."""
    p, rest = shares(x)
    n = range(len(x))
    logs = [-mp.log1p(rest[k] / p[k]) for k in n]
    slopes = [[p[i] * rest[i] if i == j else -p[i] * p[j] for j in n] for i in n]
    return {
        "logsumexp": [mpf(max(x)) - logs[x.index(max(x))]],
        "log_softmax": logs,
        "softmax": p,
        "softmax'": [each for row in slopes for each in row],
        "log_softmax'": [rest[i] if i == j else -p[j] for i in n for j in n],
        "cross_entropy": [-logs[label]],
        "cross_entropy'": [-rest[i] if i == label else p[i] for i in n],
        "cross_entropy''": [each for row in slopes for each in row],
    }


def found_scores(x: Array, label: int) -> dict[str, Any]:
    def loss(x: Any) -> Any:
        return F.cross_entropy(F.reshape(x, (1, -1)), np.array([label]))

    return {
        "logsumexp": F.logsumexp(x),
        "log_softmax": F.log_softmax(x),
        "softmax": F.softmax(x),
        "softmax'": jacobian(F.softmax, mode="reverse")(x),
        "log_softmax'": jacobian(F.log_softmax, mode="reverse")(x),
        "cross_entropy": loss(x),
        "cross_entropy'": grad(loss)(x),
        "cross_entropy''": jacobian(grad(loss), mode="reverse")(x),
    }


def test_saturated_scores_keep_their_digits() -> None:
    wrong = []
    for scores in SCORE_ROWS:
        for label in range(len(scores)):
            with mp.workdps(800):
                expected = exact_scores(scores, label)
            x = np.array(scores)
            ways = {
                "eager": found_scores(x, label),
                "compiled": compile(lambda x, label=label: found_scores(x, label))(x),
                "batched": {
                    k: v[1] for k, v in vmap(lambda x, label=label: found_scores(x, label))(np.array([x, x])).items()
                },
            }
            for way, found in ways.items():
                for name, values in expected.items():
                    for y, exact in zip(np.ravel(found[name]), values, strict=True):
                        # Differences of scores are rounded.
                        condition = max(map(abs, scores))
                        if error(float(y), exact, condition, UNITS[0], FORMATS["float64"]) > 1.0:
                            wrong.append(
                                f"{way} {name}, scores {scores}, label {label}: {y!r}, exact {mp.nstr(exact, 17)}"
                            )
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong])
