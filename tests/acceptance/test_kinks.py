"""The table of kinks, over operands jointly, and what compositions make of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile
from engine import functions as F
from engine.transforms import grad, hessian, jacobian, jvp, vmap
from tests.acceptance.comparing import agree, report, shown
from tests.acceptance.random_programs import spelled
from tests.acceptance.server import Local

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # sessions warn as NumPy does
NAN, INF = math.nan, math.inf
A = np.array
Function = Callable[..., Any]

# name, function, point, gradients of its sum by operand, and the same as text
FIRST: list[tuple[str, Function, list[Any], list[Any], str]] = [
    ("abs", F.abs, [0.0], [0], "abs(x)"),
    ("abs of -0", F.abs, [-0.0], [0], "abs(x)"),
    ("abs of NaN", F.abs, [NAN], [NAN], "abs(x)"),
    ("abs operator", abs, [A([0.0, -2, NAN, 3])], [[0, -1, NAN, 1]], "abs(x)"),
    ("relu", F.relu, [A([0.0, -0.0, 1, -1, NAN])], [[0, 0, 1, 0, NAN]], "relu(x)"),
    ("clip", lambda x: F.clip(x, -1.0, 1.0), [A([-1.0, 1, 0, 2, -2, NAN])], [[0, 0, 1, 0, 0, NAN]],
     "clip(x, -1, 1)"),
    ("clip min only", lambda x: F.clip(x, min=0.0), [A([0.0, 1, -1, NAN])], [[0, 1, 0, NAN]], "clip(x, min=0)"),
    ("clip max only", lambda x: F.clip(x, max=0.0), [A([0.0, 1, -1, NAN])], [[0, 0, 1, NAN]], "clip(x, max=0)"),
    ("clip to a point", lambda x: F.clip(x, 2.0, 2.0), [A([1.0, 2, 3])], [[0, 0, 0]], "clip(x, 2, 2)"),
    # Ties are shared equally between operands, constants included.
    ("maximum with 0", lambda x: F.maximum(x, 0.0), [A([0.0, 1, -1, -0.0])], [[0.5, 1, 0, 0.5]], "maximum(x, 0)"),
    ("0 first", lambda x: F.maximum(0.0, x), [A([0.0, 1, -1])], [[0.5, 1, 0]], "maximum(0, x)"),
    ("minimum with 2", lambda x: F.minimum(x, 2.0), [A([2.0, 1, 3])], [[0.5, 1, 0]], "minimum(x, 2)"),
    ("maximum of two", F.maximum, [A([1.0, 2, 0]), A([1.0, 1, 3])], [[0.5, 1, 0], [0.5, 0, 1]], "maximum(x, y)"),
    ("minimum of two", F.minimum, [A([1.0, 2, 0]), A([1.0, 1, 3])], [[0.5, 0, 1], [0.5, 1, 0]], "minimum(x, y)"),
    ("maximum of itself", lambda x: F.maximum(x, x), [A([1.0, -3])], [[1, 1]], "maximum(x, x)"),
    ("maximum of infinities", F.maximum, [A([INF, -INF]), A([INF, -INF])], [[0.5, 0.5], [0.5, 0.5]], "maximum(x, y)"),
    ("maximum with NaN", lambda x: F.maximum(x, A([NAN, 1.0])), [A([1.0, 2])], [[NAN, 1]],
     "maximum(x, array([nan, 1]))"),
    ("minimum with NaN", lambda x: F.minimum(A([NAN, 3.0]), x), [A([1.0, 2])], [[NAN, 1]],
     "minimum(array([nan, 3]), x)"),
    ("maximum at NaN", lambda x: F.maximum(x, 0.0), [A([NAN])], [[NAN]], "maximum(x, 0)"),
    ("maximum broadcast", F.maximum, [A([1.0, 2]), A(1.0)], [[0.5, 1], 0.5], "maximum(x, y)"),
    ("max", F.max, [A([1.0, 3, 3, 0])], [[0, 0.5, 0.5, 0]], "max(x)"),
    ("max of three", F.max, [A([2.0, 2, 2])], [[1 / 3] * 3], "max(x)"),
    ("min of rows", lambda x: F.min(x, axes=1), [A([[1.0, 1], [0, 2]])], [[[0.5, 0.5], [1, 0]]], "min(x, axes=1)"),
    ("norm inf", lambda x: F.norm(x, ord=math.inf), [A([3.0, -3, 1])], [[0.5, -0.5, 0]], ""),
    ("norm 1", lambda x: F.norm(x, ord=1), [A([0.0, -3, 1])], [[0, -1, 1]], "norm(x, ord=1)"),
    ("norm", F.norm, [A([0.0, 0])], [[0, 0]], "norm(x)"),
    ("norm rows", lambda x: F.norm(x, axes=1), [A([[0.0, 0], [3, 4]])], [[[0, 0], [0.6, 0.8]]], "norm(x, axes=1)"),
    ("norm of a scalar", lambda x: F.norm(F.reshape(x, (1,))), [0.0], [0], "norm(reshape(x, [1]))"),
    ("norm at NaN", F.norm, [A([NAN, 1.0])], [[NAN, NAN]], "norm(x)"),
    ("hypot", F.hypot, [0.0, 0.0], [0, 0], "hypot(x, y)"),
    ("hypot half", F.hypot, [A([0.0, 3]), A([-2.0, 4])], [[0, 0.6], [-1, 0.8]], "hypot(x, y)"),
    ("hypot of itself", lambda x: F.hypot(x, x), [0.0], [0], "hypot(x, x)"),
    ("hypot with 0", lambda x: F.hypot(x, 0.0), [0.0], [0], "hypot(x, 0)"),
    ("std", F.std, [A([5.0, 5, 5])], [[0, 0, 0]], "std(x)"),
    ("std rows", lambda x: F.std(x, axes=1), [A([[2.0, 2], [1, 3]])], [[[0, 0], [-0.5, 0.5]]], "std(x, axes=1)"),
    ("std corrected", lambda x: F.std(x, correction=1), [A([5.0, 5])], [[0, 0]], "std(x, correction=1)"),
    ("sqrt", F.sqrt, [A([0.0, 4])], [[INF, 0.25]], "sqrt(x)"),
    ("pow 2", lambda x: x**2, [A([0.0, -3])], [[0, -6]], "x**2"),
    ("pow 1", lambda x: x**1, [A([0.0, -3])], [[1, 1]], "x**1"),
    ("pow 0", lambda x: x**0, [A([0.0, -3])], [[0, 0]], "x**0"),
    ("pow 0.5", lambda x: x**0.5, [A([0.0, 4])], [[INF, 0.25]], "x**0.5"),
    ("pow 1.5", lambda x: x**1.5, [A([0.0, 4])], [[0, 3]], "x**1.5"),
    ("pow 3", lambda x: x**3, [A([0.0, -1])], [[0, 3]], "x**3"),
    # d/dy x**y = x**y log x: its limit for x -> 0 with y > 0 is 0.
    ("pow of 0", lambda x, y: x**y, [0.0, 2.0], [0, 0], "x**y"),
    ("atan2", F.atan2, [0.0, 0.0], [NAN, NAN], "atan2(x, y)"),
    ("atan2 axes", F.atan2, [A([0.0, 2]), A([2.0, 0])], [[0.5, 0], [0, -0.5]], "atan2(x, y)"),
    ("logaddexp of -inf", F.logaddexp, [-INF, -INF], [0, 0], "logaddexp(x, y)"),
    ("logaddexp with -inf", F.logaddexp, [A([-INF, 2]), A([1.0, -INF])], [[0, 1], [1, 0]], "logaddexp(x, y)"),
    ("logaddexp of equals", F.logaddexp, [3.0, 3.0], [0.5, 0.5], "logaddexp(x, y)"),
    ("logsumexp of -inf", F.logsumexp, [A([-INF, -INF])], [[0, 0]], "logsumexp(x)"),
    ("logsumexp with -inf", F.logsumexp, [A([-INF, 1.0])], [[0, 1]], "logsumexp(x)"),
    ("maximum twice", lambda x: F.maximum(F.maximum(x, 0.0), 0.0), [A([0.0])], [[0.25]], "maximum(maximum(x, 0), 0)"),
    ("relu by hand", lambda x: (x + F.abs(x)) / 2, [A([0.0, 2, -2])], [[0.5, 1, 0]], "(x + abs(x)) / 2"),
    ("log of abs", lambda x: F.log(F.abs(x)), [A([-2.0, 4])], [[-0.5, 0.25]], "log(abs(x))"),
    ("abs of a difference", lambda x, y: F.abs(x - y), [1.0, 1.0], [0, 0], "abs(x - y)"),
    # NaN in gives NaN out through every smooth row too.
    ("tanh of NaN", F.tanh, [A([NAN])], [[NAN]], "tanh(x)"),
    ("sigmoid of NaN", F.sigmoid, [A([NAN])], [[NAN]], "sigmoid(x)"),
    ("gelu of NaN", F.gelu, [A([NAN])], [[NAN]], "gelu(x)"),
    ("erf of NaN", F.erf, [A([NAN])], [[NAN]], "erf(x)"),
    ("softplus of NaN", F.softplus, [A([NAN])], [[NAN]], "softplus(x)"),
    ("square of NaN", F.square, [A([NAN])], [[NAN]], "square(x)"),
    ("pow of NaN", lambda x: x**3, [A([NAN])], [[NAN]], "x**3"),
    ("sqrt of NaN", F.sqrt, [A([NAN, -1])], [[NAN, NAN]], "sqrt(x)"),
]  # fmt: skip


def summed(f: Function) -> Function:
    return lambda *xs: F.sum(f(*xs))


def on_tape(f: Function, *xs: Any) -> list[Any]:
    variables = [Variable(x) for x in xs]
    summed(f)(*variables).backward()
    return [0.0 if v.grad is None else v.grad.data for v in variables]


def by_forward(f: Function, *xs: Any) -> list[Any]:
    return list(jacobian(summed(f), argnums=tuple(range(len(xs))), mode="forward")(*xs))


def by_jvp(f: Function, *xs: Any) -> list[Any]:
    """One operand at a time, all its elements moved one after the other."""
    found = []
    for k, x in enumerate(xs):
        flat = np.zeros(np.size(x))
        for i in range(flat.size):
            tangents = [np.zeros(np.shape(y)) for y in xs]
            tangents[k].flat[i] = 1.0
            flat[i] = jvp(summed(f), xs, tangents)[1]
        found.append(flat.reshape(np.shape(x)))
    return found


WAYS: dict[str, Function] = {
    "tape": on_tape,
    "grad": lambda f, *xs: grad(summed(f), argnums=tuple(range(len(xs))))(*xs),
    "compiled": lambda f, *xs: compile(grad(summed(f), argnums=tuple(range(len(xs)))))(*xs),
    "forward": by_forward,
    "vmap": lambda f, *xs: [
        g[0] for g in vmap(grad(summed(f), argnums=tuple(range(len(xs)))))(*(np.stack([x, x]) for x in xs))
    ],
}


def test_first_derivatives_at_kinks(server: Local) -> None:
    failures, cases = [], 0
    for name, f, point, want, text in FIRST:
        got = {way: run(f, *point) for way, run in WAYS.items()}
        if all(np.isfinite(x).all() for x in point) and all(np.isfinite(np.asarray(w)).all() for w in want):
            got["jvp"] = by_jvp(f, *point)
        if text:
            given = dict(zip("xy", [spelled(np.asarray(x)) for x in point], strict=False))
            answer = server.ask("/v1/evaluate", expr=f"sum({text})", inputs=given, backward=True)["grads"]
            got["http"] = [answer[k] for k in given]
        cases += len(got)
        failures += [
            f"{name}, {way}, operand {k}: {shown(g)}, right: {shown(w)}"
            for way, all_got in got.items()
            for k, (g, w) in enumerate(zip(all_got, want, strict=True))
            if not agree(g, w)
        ]
    assert not failures, report(failures, cases)


def test_values_at_kinks_are_not_rewritten() -> None:
    x = A([0.0, -0.0, 3, -4, NAN, INF, -INF])
    rows: dict[str, tuple[Function, Any]] = {
        "abs": (F.abs, np.abs(x)),
        "relu": (F.relu, np.where(np.isnan(x), NAN, np.where(x > 0, x, 0))),
        "clip": (lambda v: F.clip(v, -1.0, 1.0), np.clip(x, -1, 1)),
        "maximum": (lambda v: F.maximum(v, 1.0), np.maximum(x, 1)),
        "hypot": (lambda v: F.hypot(v, 0.0), np.hypot(x, 0)),
        "norm": (lambda v: F.norm(F.reshape(v, (7, 1)), axes=1), np.hypot(x, 0)),
        "norm squared": (lambda v: F.norm(F.reshape(v, (7, 1)), axes=1) ** 2, np.hypot(x, 0) ** 2),
        "abs squared": (lambda v: F.abs(v) ** 2, np.abs(x) ** 2),
    }
    failures = []
    for name, (f, want) in rows.items():
        for way, got in {"eager": f(Variable(x)), "compiled": compile(f)(x), "raw": f(x)}.items():
            if not agree(got, want, rtol=1e-15):
                failures.append(f"{name}, {way}: {shown(got)}, right: {shown(want)}")
    assert not failures, report(failures, len(rows) * 3)


Z = [0.0, 0.0]
NANS = [[NAN, NAN], [NAN, NAN]]
# Compositions that are smooth although a part of them is not: name, function, point, gradient, Hessian, text.
COMPOSED: list[tuple[str, Function, Any, Any, Any, str]] = [
    ("norm ** 2", lambda x: F.norm(x) ** 2, Z, Z, [[2, 0], [0, 2]], "norm(x)**2"),
    ("norm * norm", lambda x: F.norm(x) * F.norm(x), Z, Z, [[2, 0], [0, 2]], "norm(x) * norm(x)"),
    ("square(norm)", lambda x: F.square(F.norm(x)), Z, Z, [[2, 0], [0, 2]], "square(norm(x))"),
    ("n * n, once", lambda x: (lambda n: n * n)(F.norm(x)), Z, Z, [[2, 0], [0, 2]], "n = norm(x); n * n"),
    ("norm ** 3", lambda x: F.norm(x) ** 3, Z, Z, [[0, 0], [0, 0]], "norm(x)**3"),
    ("norm ** 4", lambda x: F.norm(x) ** 4, Z, Z, [[0, 0], [0, 0]], "norm(x)**4"),
    ("norm ** 2.5", lambda x: F.norm(x) ** 2.5, Z, Z, [[0, 0], [0, 0]], "norm(x)**2.5"),
    ("3 norm ** 2 + x0", lambda x: 3 * F.norm(x) ** 2 + x[0], Z, [1, 0], [[6, 0], [0, 6]], "3 * norm(x)**2 + x[0]"),
    ("half", lambda x: 0.5 * F.norm(x) ** 2, Z, Z, [[1, 0], [0, 1]], "0.5 * norm(x)**2"),
    ("exp of norm ** 2", lambda x: F.exp(-(F.norm(x) ** 2)), Z, Z, [[-2, 0], [0, -2]], "exp(-norm(x)**2)"),
    ("rows", lambda x: F.sum(F.norm(F.reshape(x, (2, 2)), axes=1) ** 2), [0.0, 0, 3, 4], [0, 0, 6, 8], 2 * np.eye(4),
     "sum(norm(reshape(x, [2, 2]), axes=1)**2)"),
    ("keepdims", lambda x: F.sum(F.norm(x, axes=0, keepdims=True) ** 2), Z, Z, [[2, 0], [0, 2]],
     "sum(norm(x, axes=0, keepdims=True)**2)"),
    ("three elements", lambda x: F.norm(x) ** 2, [0.0, 0, 0], [0, 0, 0], 2 * np.eye(3), "norm(x)**2"),
    ("norm of A x", lambda x: F.norm(A([[1.0, 2], [0, 1]]) @ x) ** 2, Z, Z, [[2, 4], [4, 10]],
     "norm(array([[1, 2], [0, 1]]) @ x)**2"),
    ("norm of a difference", lambda x: F.norm(x - A([1.0, 2])) ** 2, [1.0, 2], Z, [[2, 0], [0, 2]],
     "norm(x - array([1, 2]))**2"),
    ("hypot ** 2", lambda x: F.hypot(x[0], x[1]) ** 2, Z, Z, [[2, 0], [0, 2]], "hypot(x[0], x[1])**2"),
    ("square of hypot", lambda x: F.square(F.hypot(x[0], x[1])), Z, Z, [[2, 0], [0, 2]],
     "square(hypot(x[0], x[1]))"),
    ("abs ** 2", lambda x: F.sum(F.abs(x) ** 2), [0.0, -3], [0, -6], [[2, 0], [0, 2]], "sum(abs(x)**2)"),
    ("square of abs", lambda x: F.sum(F.square(F.abs(x))), [0.0, 3], [0, 6], [[2, 0], [0, 2]], "sum(square(abs(x)))"),
    # Nowhere a kink: the same function must stay as it is.
    ("norm ** 2 beside 0", lambda x: F.norm(x) ** 2, [3.0, 4], [6, 8], [[2, 0], [0, 2]], "norm(x)**2"),
    ("norm beside 0", F.norm, [3.0, 4], [0.6, 0.8], [[0.128, -0.096], [-0.096, 0.072]], "norm(x)"),
    # Everything else: the second derivative at the kink is not known, and says so.
    ("norm", F.norm, Z, Z, NANS, "norm(x)"),
    ("hypot", lambda x: F.hypot(x[0], x[1]), Z, Z, NANS, "hypot(x[0], x[1])"),
    ("std", F.std, [5.0, 5], Z, NANS, "std(x)"),
    ("2 norm", lambda x: 2 * F.norm(x), Z, Z, NANS, "2 * norm(x)"),
    # Piecewise-linear rows keep the second derivative 0.
    ("relu", lambda x: F.sum(F.relu(x)), [0.0, 1], [0, 1], [[0, 0], [0, 0]], "sum(relu(x))"),
    ("abs", lambda x: F.sum(F.abs(x)), [0.0, -1], [0, -1], [[0, 0], [0, 0]], "sum(abs(x))"),
    ("clip", lambda x: F.sum(F.clip(x, 0.0, 1.0)), [0.0, 0.5], [0, 1], [[0, 0], [0, 0]], "sum(clip(x, 0, 1))"),
    ("max", F.max, [1.0, 1], [0.5, 0.5], [[0, 0], [0, 0]], "max(x)"),
    ("maximum", lambda x: F.sum(F.maximum(x, 0.0)), [0.0, 1], [0.5, 1], [[0, 0], [0, 0]], "sum(maximum(x, 0))"),
    ("norm 1", lambda x: F.norm(x, ord=1), [0.0, 1], [0, 1], [[0, 0], [0, 0]], "norm(x, ord=1)"),
]  # fmt: skip


def second_on_tape(f: Function, x: Any) -> Any:
    rows = []
    for k in range(len(x)):
        v = Variable(x)
        f(v).backward(create_graph=True)
        g = v.grad
        assert g is not None
        v.cleargrad()
        g[k].backward()
        rows.append(np.zeros(len(x)) if v.grad is None else v.grad.data)
    return np.stack(rows)


def test_composed_kinks(server: Local) -> None:
    """NaN is wanted wherever the Hessian is not known; a zero there would be a wrong number."""
    failures, cases = [], 0
    for name, f, point, slope, want, text in COMPOSED:
        x, right = A(point), np.array(want, dtype=float)
        http = server.ask("/v1/hessian", expr=text, inputs={"x": point})
        order = server.ask("/v1/evaluate", expr=text, inputs={"x": point}, backward={"order": 2})
        first = {
            "tape": on_tape(f, x)[0],
            "grad": grad(f)(x),
            "compiled": compile(grad(f))(x),
            "http": http["grads"]["x"],
        }
        second = {
            "hessian": hessian(f)(x),
            "compiled hessian": compile(hessian(f))(x),
            "reverse of reverse": jacobian(grad(f), mode="reverse")(x),
            "http": http["hessian"]["x"]["x"],
        }
        if np.isfinite(right).all():
            second["tape"] = second_on_tape(f, x)
            second["forward of forward"] = jacobian(jacobian(f, mode="forward"), mode="forward")(x)
            first["order 2"] = slope if agree(order["higher"]["x"][1], right.sum(1)) else order["higher"]["x"]
        cases += len(first) + len(second)
        failures += [f"{name}, {w}: {shown(g)}, right: {shown(slope)}" for w, g in first.items() if not agree(g, slope)]
        failures += [
            f"{name}, second, {w}: {shown(g)}, right: {shown(right)}" for w, g in second.items() if not agree(g, right)
        ]
    assert not failures, report(failures, cases)


def test_higher_powers_of_the_norm_on_a_line() -> None:
    """norm((x,))**p is |x|**p: for p = 2 all derivatives are those of x**2, to the third order."""
    f = lambda x: F.norm(F.reshape(x, (1,))) ** 2  # noqa: E731
    d1, d2 = grad(f), grad(grad(f))
    assert agree([d1(0.0), d2(0.0), d1(2.0), d2(2.0)], [0, 2, 4, 2])
    assert agree(grad(d2)(2.0), 0)


def test_kinks_in_float32() -> None:
    x = Variable(A([0, 1], dtype="float32"))
    F.sum(F.maximum(x, 0.0) + F.abs(x) + F.relu(x) + F.clip(x, 0.0, 1.0)).backward()
    assert x.grad is not None
    # 0.5 + 0 + 0 + 0 and 1 + 1 + 1 + 0
    assert x.grad.dtype == "float32" and agree(x.grad, [0.5, 3])


def test_kinks_of_scalars() -> None:
    """Scalars are floats inside, and have code of their own."""
    cases: list[tuple[Function, float, float]] = [
        (F.abs, 0.0, 0),
        (F.relu, 0.0, 0),
        (lambda x: F.clip(x, 0.0, 1.0), 1.0, 0),
        (lambda x: F.maximum(x, 0.0), 0.0, 0.5),
        (lambda x: F.minimum(0.0, x), 0.0, 0.5),
        (F.sqrt, 0.0, INF),
        (lambda x: x**2, 0.0, 0),
        (lambda x: F.hypot(x, 0.0), 0.0, 0),
        (F.relu, NAN, NAN),
        (F.abs, NAN, NAN),
        (lambda x: F.clip(x, 0.0, 1.0), NAN, NAN),
        (lambda x: F.maximum(x, NAN), 1.0, NAN),
        (lambda x: F.abs(x) * F.abs(x), 0.0, 0),
    ]
    failures = []
    for k, (f, at, want) in enumerate(cases):
        x = Variable(at)
        f(x).backward()
        found = {"tape": x.grad, "grad": grad(f)(at), "compiled": compile(grad(f))(at), "jvp": jvp(f, (at,), (1.0,))[1]}
        failures += [f"case {k}, {way}: {shown(g)}, right: {want}" for way, g in found.items() if not agree(g, want)]
    assert not failures, report(failures, len(cases) * 4)


def test_both_operands_nan_in_maximum() -> None:
    for f in (F.maximum, F.minimum):
        for a, b in [(NAN, 1.0), (1.0, NAN), (NAN, NAN), (NAN, INF)]:
            got = grad(f, argnums=(0, 1))(a, b)
            assert all(math.isnan(g) for g in got), (f, a, b, got)


def test_gammaln_and_the_determinant() -> None:
    """gammaln(-inf) is +inf, as in SciPy; second derivatives of det are polynomials, at singular matrices too."""
    assert F.gammaln(Variable(-INF)).item() == INF
    assert agree(F.gammaln(A([-INF, INF])), [INF, INF])
    rng = np.random.default_rng(5)
    failures = []
    for n, rank in [(2, 1), (3, 2), (3, 1), (4, 3), (4, 2), (4, 1), (4, 0), (5, 4), (5, 3), (6, 4)]:
        m = rng.integers(-2, 3, (n, rank)).astype(float) @ rng.integers(-2, 3, (rank, n)).astype(float)
        # d2 det / dm_ij dm_kl is a signed minor without rows i, k and columns j, l.
        want = np.zeros((n, n, n, n))
        for i, j, k, l in np.ndindex(want.shape):  # noqa: E741
            if i != k and j != l:
                minor = np.delete(np.delete(m, (i, k), 0), (j, l), 1)
                sign = (-1) ** (i + j + k + l) * (1 if (i < k) == (j < l) else -1)
                want[i, j, k, l] = sign * (np.linalg.det(minor) if n > 2 else 1.0)
        got = {"hessian": hessian(F.det)(m), "reverse": jacobian(grad(F.det), mode="reverse")(m)}
        failures += [f"{n}, rank {rank}, {way}" for way, h in got.items() if not agree(h, want, 1e-7, 1e-7)]
    assert not failures, report(failures, 20)


def test_det_of_batches_of_which_one_is_singular(server: Local) -> None:
    m = np.stack([np.eye(4), np.diag([0.0, 0, 2, 3])])
    answer = server.ask("/v1/hessian", expr="det(m)", inputs={"m": m.tolist()}, batched=["m"])
    h = np.array(answer["hessian"]["m"]["m"], dtype=float)
    # For diag(0, 0, 2, 3): d2 det / dm00 dm11 = 6 = -d2 det / dm01 dm10.
    assert h[1, 0, 0, 1, 1] == pytest.approx(6) and h[1, 0, 1, 1, 0] == pytest.approx(-6)
    assert np.count_nonzero(np.abs(h[1]) > 1e-9) == 4
