"""Smooth rows against mpmath in RELATIVE error: saturated, tiny, huge and boundary points.

Allowed are 8 eps for values and slopes, beside what an argument that is itself rounded once would change (its
conditioning), and 1e-9 for second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

from engine import Variable, compile
from engine import functions as F
from engine.transforms import grad, jacobian, jvp, vmap
from tests.acceptance.comparing import report
from tests.acceptance.server import Local

Real = Callable[[Any], Any]
ONE = mp.mpf(1)
C = mp.sqrt(2 / mp.pi)
K = mp.mpf("0.044715")


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))


def sigmoid1(x: Any) -> Any:
    return sigmoid(x) * sigmoid(-x)


def sigmoid2(x: Any) -> Any:
    return -sigmoid1(x) * mp.tanh(x / 2)


def sigmoid3(x: Any) -> Any:
    return sigmoid1(x) * (1 - 6 * sigmoid1(x))


def gelu_parts(x: Any) -> tuple[Any, Any, Any]:
    u = 2 * C * (x + K * x**3)
    return u, 2 * C * (1 + 3 * K * x**2), 2 * C * 6 * K * x


def gelu(x: Any) -> Any:
    return x * sigmoid(gelu_parts(x)[0])


def gelu1(x: Any) -> Any:
    u, u1, _ = gelu_parts(x)
    return sigmoid(u) + x * sigmoid1(u) * u1


def gelu2(x: Any) -> Any:
    u, u1, u2 = gelu_parts(x)
    return 2 * sigmoid1(u) * u1 + x * (sigmoid2(u) * u1**2 + sigmoid1(u) * u2)


def powers(p: Any) -> tuple[Real, Real, Real]:
    return (lambda x: x**p), (lambda x: p * x ** (p - 1)), (lambda x: p * (p - 1) * x ** (p - 2))


E = 2 / mp.sqrt(mp.pi)
SMALL = [1e-300, 1e-160, 1e-20, 1e-10, 1e-8, 3e-6, 1e-4, 0.01, 0.1, 0.3, 0.5]
MIDDLE = [0.9, 1.0, 1.3, 2.0, 3.5, 5.0, 7.0, 10.0, 14.0]
LARGE = [17.0, 19.0, 19.07, 20.0, 25.0, 37.0, 40.0, 80.0, 300.0, 354.0, 372.0, 700.0]
HUGE = [1e4, 1e6, 1e8, 1e12, 1e50, 1e100, 1e150, 1e155, 1e200, 1e300]
BELOW_ONE = [0.9, 0.99, 1 - 1e-6, 1 - 1e-10, 1 - 2**-53]
ABOVE_ONE = [1 + 2**-52, 1 + 1e-10, 1 + 1e-6, 1.01, 1.5, 2.0, 10.0, 1e5, 1e10, 1e100, 1e155, 1e200, 1e300]


def signed(*lists: list[float]) -> list[float]:
    return [s * x for xs in lists for x in xs for s in (1, -1)]


POSITIVE = SMALL + MIDDLE + LARGE + HUGE
EVERYWHERE = signed(SMALL, MIDDLE, LARGE, HUGE)
# row: function, first and second derivative in mpmath, points
ROWS: dict[str, tuple[Real, Real, Real, list[float]]] = {
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2, lambda x: -2 * mp.tanh(x) * mp.sech(x) ** 2, EVERYWHERE),
    "sigmoid": (sigmoid, sigmoid1, sigmoid2, EVERYWHERE),
    "sigmoid_slope": (sigmoid1, sigmoid2, sigmoid3, EVERYWHERE),
    "softplus": (lambda x: mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x)), sigmoid, sigmoid1, EVERYWHERE),
    "gelu": (gelu, gelu1, gelu2, signed(SMALL, MIDDLE[:7], [8.0, 10.0, 12.0, 20.0, 1e6, 1e100])),
    "erf": (
        mp.erf,
        lambda x: E * mp.exp(-x * x),
        lambda x: -2 * x * E * mp.exp(-x * x),
        signed(SMALL, MIDDLE, LARGE[:7]),
    ),
    "erfc": (
        mp.erfc,
        lambda x: -E * mp.exp(-x * x),
        lambda x: 2 * x * E * mp.exp(-x * x),
        signed(SMALL, MIDDLE, LARGE[:5]),
    ),
    "exp": (mp.exp, mp.exp, mp.exp, signed(SMALL, MIDDLE, LARGE)),
    "exp2": (
        lambda x: mp.mpf(2) ** x,
        lambda x: mp.mpf(2) ** x * mp.ln2,
        lambda x: mp.mpf(2) ** x * mp.ln2**2,
        signed(SMALL, MIDDLE, LARGE),
    ),
    "expm1": (mp.expm1, mp.exp, mp.exp, signed(SMALL, MIDDLE, LARGE)),
    "log": (mp.log, lambda x: 1 / x, lambda x: -1 / x**2, POSITIVE + BELOW_ONE + ABOVE_ONE[:4]),
    "log2": (lambda x: mp.log(x) / mp.ln2, lambda x: 1 / (x * mp.ln2), lambda x: -1 / (x**2 * mp.ln2), POSITIVE),
    "log10": (lambda x: mp.log10(x), lambda x: 1 / (x * mp.ln10), lambda x: -1 / (x**2 * mp.ln10), POSITIVE),
    "log1p": (
        mp.log1p,
        lambda x: 1 / (1 + x),
        lambda x: -1 / (1 + x) ** 2,
        [*POSITIVE, *(-x for x in SMALL), *(-x for x in BELOW_ONE)],
    ),
    "sqrt": (mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), lambda x: -1 / (4 * x * mp.sqrt(x)), POSITIVE),
    "square": (lambda x: x * x, lambda x: 2 * x, lambda x: mp.mpf(2), EVERYWHERE),
    "sin": (mp.sin, mp.cos, lambda x: -mp.sin(x), signed(SMALL, MIDDLE, LARGE, [1e6, 1e15])),
    "cos": (mp.cos, lambda x: -mp.sin(x), lambda x: -mp.cos(x), signed(SMALL, MIDDLE, LARGE, [1e6, 1e15])),
    "tan": (
        mp.tan,
        lambda x: mp.sec(x) ** 2,
        lambda x: 2 * mp.tan(x) * mp.sec(x) ** 2,
        signed(SMALL, MIDDLE, [1.5, 1.57]),
    ),
    "sinh": (mp.sinh, mp.cosh, mp.sinh, signed(SMALL, MIDDLE, LARGE)),
    "cosh": (mp.cosh, mp.sinh, mp.cosh, signed(SMALL, MIDDLE, LARGE)),
    "asin": (
        mp.asin,
        lambda x: 1 / mp.sqrt((1 - x) * (1 + x)),
        lambda x: x / mp.sqrt((1 - x) * (1 + x)) ** 3,
        signed(SMALL, BELOW_ONE),
    ),
    "acos": (
        mp.acos,
        lambda x: -1 / mp.sqrt((1 - x) * (1 + x)),
        lambda x: -x / mp.sqrt((1 - x) * (1 + x)) ** 3,
        signed(SMALL, BELOW_ONE),
    ),
    "atan": (mp.atan, lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2, EVERYWHERE),
    "asinh": (
        mp.asinh,
        lambda x: 1 / mp.sqrt(1 + x * x),
        lambda x: -x / mp.sqrt(1 + x * x) ** 3,
        EVERYWHERE,
    ),
    "acosh": (
        mp.acosh,
        lambda x: 1 / mp.sqrt((x - 1) * (x + 1)),
        lambda x: -x / mp.sqrt((x - 1) * (x + 1)) ** 3,
        ABOVE_ONE,
    ),
    "atanh": (
        mp.atanh,
        lambda x: 1 / ((1 - x) * (1 + x)),
        lambda x: 2 * x / ((1 - x) * (1 + x)) ** 2,
        signed(SMALL, BELOW_ONE),
    ),
    "gammaln": (
        mp.loggamma,
        mp.digamma,
        lambda x: mp.psi(1, x),
        [1e-300, 1e-20, 1e-8, 1e-4, 0.1, 0.5, 1.5, 2.5, 5.0, 20.0, 1e3, 1e8, 1e20, 1e150],
    ),
    "digamma": (
        mp.digamma,
        lambda x: mp.psi(1, x),
        lambda x: mp.psi(2, x),
        [1e-100, 1e-20, 1e-8, 1e-4, 0.1, 0.5, 1.0, 2.5, 5.0, 20.0, 1e3, 1e8],
    ),
    "neg": (lambda x: -x, lambda x: -ONE, lambda x: 0 * ONE, EVERYWHERE),
    # The same through operators.
    "x ** 3": (*powers(3), signed(SMALL, MIDDLE, LARGE)),
    "x ** 1.5": (*powers(mp.mpf("1.5")), POSITIVE),
    "x ** 0.5": (*powers(mp.mpf("0.5")), POSITIVE),
    "x ** -1": (*powers(-1), signed(SMALL, MIDDLE, LARGE)),
    "1 / x": (*powers(-1), signed(SMALL, MIDDLE, LARGE)),
}
OPERATORS: dict[str, Real] = {
    "x ** 3": lambda x: x**3,
    "x ** 1.5": lambda x: x**1.5,
    "x ** 0.5": lambda x: x**0.5,
    "x ** -1": lambda x: x**-1.0,
    "1 / x": lambda x: 1 / x,
}


def row(name: str) -> Any:
    return OPERATORS.get(name) or getattr(F, name)


class Wanted:
    """What mpmath says at the points, as floats, with what may be missing of it."""

    def __init__(self, name: str, dtype: str) -> None:
        f, f1, f2, points = ROWS[name]
        info = np.finfo(dtype)
        with mp.workdps(60):
            self.points = np.array([x for x in dict.fromkeys(points) if self.fits(x, info)], dtype=dtype)
            exact = [mp.mpf(float(x)) for x in self.points]
            rows = [[g(x) for x in exact] for g in (f, f1, f2)]
            # The third derivative is approximated by a difference quotient of the second: only an allowance.
            bump = mp.mpf(10) ** -20
            third = [(f2(x * (1 + bump)) - f2(x)) / (x * bump) if x != 1 else 0 * x for x in exact]
            self.rows, self.allowed = [], []
            second = 1e-9 if dtype == "float64" else 1e-2
            for k, (values, following) in enumerate(zip(rows, [*rows[1:], third], strict=True)):
                eps = 8 * float(info.eps) if k < 2 else second
                turned = [abs(x * d) for x, d in zip(exact, following, strict=True)]
                shaky = 8 * float(info.eps)
                tiny = float(info.tiny)
                self.rows.append(values)
                self.allowed.append([eps * abs(v) + shaky * t + 4 * tiny for v, t in zip(values, turned, strict=True)])
            self.max = float(info.max)

    @staticmethod
    def fits(x: float, info: Any) -> bool:
        return float(info.tiny) * 16 < abs(x) < float(info.max) and (
            info.bits == 64 or abs(np.float32(x)) != 1 or abs(x) == 1
        )

    def faults(self, order: int, got: Any) -> list[str]:
        found = []
        got = np.asarray(got)
        for x, y, right, allowed in zip(self.points, got, self.rows[order], self.allowed[order], strict=True):
            if abs(right) > self.max * 0.99:
                # Beyond the largest number: infinity of that sign. Just below it, either will do.
                ok = abs(right) < self.max * 1.01 or y == math.copysign(math.inf, right)
            else:
                ok = bool(np.isfinite(y)) and abs(mp.mpf(float(y)) - right) <= allowed
            if not ok:
                found.append(f"order {order} at {x!r}: {y!r}, right: {mp.nstr(right, 12)}")
        return found


def both_on_tape(f: Any, points: Any) -> tuple[Any, Any, Any]:
    x = Variable(points)
    y = f(x)
    y.backward(create_graph=True)
    first = x.grad
    assert first is not None
    x.cleargrad()
    first.backward()
    second = np.zeros(x.shape) if x.grad is None else x.grad.data
    return y.data, first.data, second


def test_arrays_on_the_tape() -> None:
    failures, cases = [], 0
    for dtype in ("float64", "float32"):
        for name in ROWS:
            wanted = Wanted(name, dtype)
            for order, got in enumerate(both_on_tape(row(name), wanted.points)):
                cases += len(wanted.points)
                failures += [f"{name} {dtype} {fault}" for fault in wanted.faults(order, got)]
    assert not failures, report(failures, cases)


def test_other_ways_to_the_same_derivatives(server: Local) -> None:
    failures, cases = [], 0
    for name in ROWS:
        wanted, f = Wanted(name, "float64"), row(name)
        x = wanted.points
        ones = np.ones_like(x)

        def second(v: Any, f: Any = f) -> Any:
            return grad(lambda u: F.sum(grad(lambda w: F.sum(f(w)))(u)))(v)

        ways: dict[str, list[tuple[int, Any]]] = {
            "compiled": [
                (0, compile(f)(x)),
                (1, compile(grad(lambda v, f=f: F.sum(f(v))))(x)),
                (2, compile(second)(x)),
            ],
            "jvp": [
                (1, jvp(f, (x,), (ones,))[1]),
                (2, jvp(lambda v, f=f, ones=ones: jvp(f, (v,), (ones,))[1], (x,), (ones,))[1]),
            ],
            "vmap": [(1, vmap(grad(f))(x)), (2, vmap(grad(grad(f)))(x))],
            "scalars": [
                (0, [f(Variable(float(v))).item() for v in x]),
                (1, [both_on_tape(f, float(v))[1] for v in x]),
                (2, [both_on_tape(f, float(v))[2] for v in x]),
            ],
        }
        g1, g2 = compile(grad(f)), compile(grad(grad(f)))
        ways["compiled scalars"] = [(1, [g1(float(v)) for v in x]), (2, [g2(float(v)) for v in x])]
        text = f"y = {name}" if name in OPERATORS else f"y = {name}(x)"
        answer = server.ask("/v1/evaluate", expr=text, inputs={"x": x.tolist()}, backward={"order": 2})
        high = [[float(str(v).replace("Infinity", "inf")) for v in g] for g in answer["higher"]["x"]]
        ways["http"] = [(1, high[0]), (2, high[1])]
        for way, orders in ways.items():
            for order, got in orders:
                cases += len(x)
                failures += [f"{name} {way} {fault}" for fault in wanted.faults(order, got)]
    assert not failures, report(failures, cases)


def test_boundaries() -> None:
    """Values and slopes at the end of a domain are the limits from within."""
    inf = math.inf
    cases: list[tuple[Any, float, float, float]] = [
        (F.asin, 1.0, math.pi / 2, inf),
        (F.asin, -1.0, -math.pi / 2, inf),
        (F.acos, 1.0, 0.0, -inf),
        (F.acos, -1.0, math.pi, -inf),
        (F.acosh, 1.0, 0.0, inf),
        (F.atanh, 1.0, inf, inf),
        (F.atanh, -1.0, -inf, inf),
        (F.log, 0.0, -inf, inf),
        (F.log1p, -1.0, -inf, inf),
        (F.sqrt, 0.0, 0.0, inf),
        (F.tanh, inf, 1.0, 0.0),
        (F.tanh, -inf, -1.0, 0.0),
        (F.sigmoid, inf, 1.0, 0.0),
        (F.sigmoid, -inf, 0.0, 0.0),
        (F.softplus, inf, inf, 1.0),
        (F.softplus, -inf, 0.0, 0.0),
        (F.atan, inf, math.pi / 2, 0.0),
        (F.asinh, inf, inf, 0.0),
        (F.asinh, -inf, -inf, 0.0),
        (F.acosh, inf, inf, 0.0),
        (F.erf, inf, 1.0, 0.0),
        (F.erfc, -inf, 2.0, 0.0),
        (F.exp, -inf, 0.0, 0.0),
        (F.exp, inf, inf, inf),
        (F.expm1, -inf, -1.0, 0.0),
        (F.log, inf, inf, 0.0),
        (F.log1p, inf, inf, 0.0),
        (F.sqrt, inf, inf, 0.0),
    ]
    failures = []
    for f, x, value, slope in cases:
        for way, point in {"scalar": x, "array": np.array([x])}.items():
            got = both_on_tape(f, point)
            y, g = float(np.squeeze(got[0])), float(np.squeeze(got[1]))
            if not (math.isclose(y, value, rel_tol=1e-15) and g == slope):
                failures.append(f"{f.__name__}({x}), {way}: {y}, slope {g}; right: {value}, slope {slope}")
    assert not failures, report(failures, len(cases) * 2)


def test_rows_of_two_operands_that_saturate() -> None:
    """logaddexp's slopes are sigmoids; hypot's and atan2's stand at any scale."""
    failures = []
    for gap in [1e-10, 0.5, 5.0, 20.0, 37.0, 50.0, 300.0, 700.0]:
        for base in (0.0, 1.0):
            a, b = base, base + gap
            got = grad(F.logaddexp, argnums=(0, 1))(a, b)
            want = [float(sigmoid(mp.mpf(a) - mp.mpf(b))), float(sigmoid(mp.mpf(b) - mp.mpf(a)))]
            # a - b is rounded once; its conditioning is the gap itself.
            if not np.allclose(got, want, rtol=1e-15 * (8 + 2 * abs(gap)), atol=0):
                failures.append(f"logaddexp({a}, {b}): {got}, right: {want}")
    for scale in [1e-300, 1e-200, 1e-160, 1e-5, 1.0, 1e160, 1e200, 1e300]:
        a, b = 3.0 * scale, 4.0 * scale
        got = grad(F.hypot, argnums=(0, 1))(a, b)
        if not np.allclose(got, [0.6, 0.8], rtol=1e-14, atol=0):
            failures.append(f"hypot at scale {scale}: {got}")
        got = grad(F.norm)(np.array([a, b]))
        if not np.allclose(got, [0.6, 0.8], rtol=1e-14, atol=0):
            failures.append(f"norm at scale {scale}: {got}")
    assert not failures, report(failures, 32)


def test_sums_of_saturated_slopes() -> None:
    """The Jacobian and a chain see the same slopes: d tanh(sinh x) = sech(sinh x)**2 cosh x."""
    x = np.array([2.0, 3.5, 4.0, 5.0])
    with mp.workdps(40):
        want = [float(mp.sech(mp.sinh(v)) ** 2 * mp.cosh(v)) for v in map(mp.mpf, x)]
    got = np.diag(jacobian(lambda v: F.tanh(F.sinh(v)))(x))
    # sinh(5) = 74 is rounded: its conditioning in sech**2 is 2 * 74 eps.
    assert np.allclose(got, want, rtol=1e-13, atol=0), (got, want)


def test_check_does_not_say_ok_where_its_differences_cancel(server: Local) -> None:
    """tanh(20) and sigmoid(40) are 1 to the last bit on both sides: their differences are 0 whatever the slope is."""
    failures = []
    for text, x in [("tanh(x)", 22.0), ("sigmoid(x)", 45.0), ("erf(x)", 8.0), ("1 - exp(-x)", 60.0)]:
        answer = server.ask("/v1/check", expr=text, inputs={"x": x})
        if answer["ok"] is True:
            failures.append(f"{text} at {x}: {answer}")
    for text, x in [("tanh(x)", 0.5), ("sin(x)", 1.0), ("exp(x)", 3.0), ("x**3", 2.0), ("x * 0 + 3", 1.0)]:
        answer = server.ask("/v1/check", expr=text, inputs={"x": x})
        if answer["ok"] is not True:
            failures.append(f"{text} at {x}: {answer}")
    assert not failures, report(failures, 9)
