"""A branch that is not taken never contributes to a derivative, whatever its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile
from engine import functions as F
from engine.transforms import grad, hessian, hvp, jacobian, jvp, vjp, vmap
from tests.acceptance import scalar_tape as S
from tests.acceptance.comparing import agree, agree_in_pattern, numbers, report, shown
from tests.acceptance.random_programs import Program, random_program, spelled
from tests.acceptance.server import Local

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # sessions warn as NumPy does
NAN, INF = math.nan, math.inf
T, N = True, False


def tape_gradients(f: Callable[..., Any], *inputs: Any) -> list[Any]:
    xs = [Variable(x) for x in inputs]
    f(*xs).backward()
    return [np.zeros(x.shape) if x.grad is None else x.grad.data for x in xs]


def graph_gradients(f: Callable[..., Any], *inputs: Any) -> list[Any]:
    xs = [Variable(x) for x in inputs]
    f(*xs).backward(create_graph=True)
    return [np.zeros(x.shape) if x.grad is None else x.grad.data for x in xs]


def every(inputs: Any) -> tuple[int, ...]:
    return tuple(range(len(inputs)))


def vmapped_gradients(f: Callable[..., Any], *inputs: Any) -> list[Any]:
    """Gradients of two rows at once; the other row is harmless."""
    rows = [np.stack([np.full_like(x, 0.5), x]) for x in inputs]
    return [g[1] for g in vmap(grad(f, argnums=every(inputs)))(*rows)]


def forward_gradients(f: Callable[..., Any], *inputs: Any) -> list[Any]:
    return list(jacobian(f, argnums=every(inputs), mode="forward")(*inputs))


WAYS: dict[str, Callable[..., Any]] = {
    "tape": tape_gradients,
    "create_graph": graph_gradients,
    "grad": lambda f, *xs: grad(f, argnums=every(xs))(*xs),
    "compiled": lambda f, *xs: compile(grad(f, argnums=every(xs)))(*xs),
    "vmap": vmapped_gradients,
    "forward": forward_gradients,
    "vjp": lambda f, *xs: vjp(f, *xs)[1](1.0),
}

A = np.array
# name, function, inputs, gradients, and the same as text where it is a line.
CASES: list[tuple[str, Callable[..., Any], list[Any], list[Any], str]] = [
    ("sqrt or x", lambda x: F.sum(F.where(x > 0, F.sqrt(x), x)), [A([-1.0, 4, 0])], [[1, 0.25, 1]],
     "sum(where(x > 0, sqrt(x), x))"),
    ("log or -x", lambda x: F.sum(F.where(x > 0, F.log(x), -x)), [A([-2.0, 0, 2])], [[-1, -1, 0.5]],
     "sum(where(x > 0, log(x), -x))"),
    ("sinc", lambda x: F.sum(F.where(x != 0, F.sin(x) / x, 1.0)), [A([0.0, math.pi / 2])], [[0, -4 / math.pi**2]],
     "sum(where(x != 0, sin(x) / x, 1))"),
    ("acosh", lambda x: F.sum(F.where(x < 1, x, F.acosh(x))), [A([0.5, 2])], [[1, 1 / math.sqrt(3)]],
     "sum(where(x < 1, x, acosh(x)))"),
    ("atanh", lambda x: F.sum(F.where(F.abs(x) < 1, F.atanh(x), 0.0)), [A([-2.0, 1, 0.5])], [[0, 0, 4 / 3]],
     "sum(where(abs(x) < 1, atanh(x), 0))"),
    ("x log x", lambda x: F.sum(F.where(x == 0, 0.0, x * F.log(x))), [A([0.0, 1, math.e])], [[0, 1, 2]],
     "sum(where(x == 0, 0, x * log(x)))"),
    ("nested", lambda x: F.sum(F.where(x > 0, F.where(x > 1, F.log(x - 1), x), 0.0)), [A([0.5, 2, -1, 1])],
     [[1, 1, 0, 1]], "sum(where(x > 0, where(x > 1, log(x - 1), x), 0))"),
    ("slice", lambda x: F.sum(F.sqrt(x)[1:]), [A([0.0, 4])], [[0, 0.25]], "sum(sqrt(x)[1:])"),
    ("slice step", lambda x: F.sum(F.sqrt(x)[::2]), [A([4.0, 0, 9])], [[0.25, 0, 1 / 6]], "sum(sqrt(x)[::2])"),
    ("slice back", lambda x: F.sum(F.log(x)[::-2]), [A([1.0, 0, 2])], [[1, 0, 0.5]], "sum(log(x)[::-2])"),
    ("one element", lambda x: F.sqrt(x)[1], [A([0.0, 4])], [[0, 0.25]], "sqrt(x)[1]"),
    ("column", lambda x: F.sum((1 / x)[:, 1]), [A([[0.0, 2], [0, 4]])], [[[0, -0.25], [0, -1 / 16]]],
     "sum((1/x)[:, 1])"),
    ("take twice", lambda x: F.sum(F.take(F.log(x), A([1, 1]), axis=0)), [A([0.0, 2])], [[0, 1]],
     "sum(take(log(x), [1, 1], axis=0))"),
    ("get_item", lambda x: F.sum(F.get_item(F.log(x), 0, [1, 1])), [A([0.0, 2])], [[0, 1]],
     "sum(get_item(log(x), 0, [1, 1]))"),
    ("diagonal", lambda x: F.sum(F.diagonal(F.sqrt(x))), [A([[4.0, 0], [0, 1]])], [[[0.25, 0], [0, 0.5]]],
     "sum(diagonal(sqrt(x)))"),
    ("trace", lambda x: F.trace(F.sqrt(x)), [A([[4.0, 0], [0, 1]])], [[[0.25, 0], [0, 0.5]]], "trace(sqrt(x))"),
    ("tril", lambda x: F.sum(F.tril(F.sqrt(x))), [A([[1.0, 0], [4, 9]])], [[[0.5, 0], [0.25, 1 / 6]]],
     "sum(tril(sqrt(x)))"),
    ("triu 1", lambda x: F.sum(F.triu(1 / x, 1)), [A([[0.0, 2], [0, 0]])], [[[0, -0.25], [0, 0]]],
     "sum(triu(1 / x, 1))"),
    ("max", lambda x: F.max(F.sqrt(x)), [A([0.0, 4])], [[0, 0.25]], "max(sqrt(x))"),
    ("max of rows", lambda x: F.sum(F.max(F.log(x), axes=1)), [A([[0.0, 1], [2, 0]])], [[[0, 1], [0.5, 0]]],
     "sum(max(log(x), axes=1))"),
    ("min", lambda x: F.min(1 / x), [A([0.0, 2])], [[0, -0.25]], "min(1 / x)"),
    ("maximum", lambda x: F.sum(F.maximum(F.sqrt(x), 1.0)), [A([0.0, 4])], [[0, 0.25]], "sum(maximum(sqrt(x), 1))"),
    ("minimum", lambda x: F.sum(F.minimum(3.0, 1 / x)), [A([0.0, 2])], [[0, -0.25]], "sum(minimum(3, 1 / x))"),
    ("maximum of two", lambda x, y: F.sum(F.maximum(F.sqrt(x), F.sqrt(y))), [A([0.0, 4]), A([1.0, 0])],
     [[0, 0.25], [0.5, 0]], "sum(maximum(sqrt(x), sqrt(y)))"),
    ("relu", lambda x: F.sum(F.relu(F.log(x))), [A([0.0, math.e])], [[0, 1 / math.e]], "sum(relu(log(x)))"),
    # relu'(0) = 0 takes no branch at 0, so the infinite slope of the root doesn't come through.
    ("relu at 0", lambda x: F.sum(F.relu(F.sqrt(x))), [A([0.0, 4])], [[0, 0.25]], "sum(relu(sqrt(x)))"),
    ("clip", lambda x: F.sum(F.clip(F.log(x), -5.0, 5.0)), [A([0.0, 1])], [[0, 1]], "sum(clip(log(x), -5, 5))"),
    ("clip of 1/x", lambda x: F.sum(F.clip(1 / x, -1.0, 1.0)), [A([0.0, 2])], [[0, -0.25]], "sum(clip(1/x, -1, 1))"),
    ("asin of clip", lambda x: F.sum(F.asin(F.clip(x, -1.0, 1.0))), [A([3.0, 0, -2])], [[0, 1, 0]],
     "sum(asin(clip(x, -1, 1)))"),
    ("mask_fill", lambda x: F.sum(F.mask_fill(F.sqrt(x), A([1.0, 0]), value=7.0)), [A([4.0, 0])], [[0.25, 0]],
     "sum(mask_fill(sqrt(x), [1, 0], value=7))"),
    ("isnan", lambda x: F.sum(F.where(A([N, T, N]), 0.0, x * A([2, NAN, 3]))), [A([1.0, 2, 3])], [[2, 0, 3]],
     "d = array([2, nan, 3]); sum(where(isnan(d), 0, x * d))"),
    ("isnan of x", lambda x: F.sum(F.where(F.isnan(x), 0.0, x * x)), [A([1.0, NAN, 3])], [[2, 0, 6]],
     "sum(where(isnan(x), 0, x * x))"),
    # The row of the NaN is masked; both factors are free of it.
    ("matmul", lambda x, w: F.sum(F.where(A([T, N]), x @ w, 0.0)), [A([[1, 2], [NAN, 3]]), A([5.0, 7])],
     [[[5, 7], [0, 0]], [1, 2]], "sum(where(array([True, False]), x @ y, 0))"),
    ("matmul of matrices", lambda x, w: F.sum(F.where(A([[T], [N]]), x @ w, 0.0)),
     [A([[1, 2], [INF, NAN]]), A([[5.0, 1], [7, 1]])], [[[6, 8], [0, 0]], [[1, 1], [2, 2]]],
     "sum(where(array([[True], [False]]), x @ y, 0))"),
    # Only the element in which the NaN of w takes part is masked: column 1 of row 0.
    ("matmul, element", lambda x, w: F.sum(F.where(A([[T, N]]), x @ w, 0.0)), [A([[1.0, 2]]), A([[5.0, 1], [7, NAN]])],
     [[[5, 7]], [[1, 0], [2, 0]]], "sum(where(array([[True, False]]), x @ y, 0))"),
    ("einsum", lambda x, w: F.sum(F.where(A([T, N]), F.einsum([x, w], subscripts="ij,j->i"), 0.0)),
     [A([[1, 2], [NAN, 3]]), A([5.0, 7])], [[[5, 7], [0, 0]], [1, 2]],
     'sum(where(array([True, False]), einsum("ij,j->i", x, y), 0))'),
    ("linear", lambda x, w: F.sum(F.linear(x, w, A([0.5]))[:1]), [A([[1.0, 2], [INF, NAN]]), A([[5.0], [7]])],
     [[[5, 7], [0, 0]], [[1], [2]]], "sum(linear(x, y)[:1])"),
    ("tensordot", lambda x, w: F.tensordot(x, w, axes=1)[0], [A([[1, 2], [NAN, 3]]), A([5.0, 7])],
     [[[5, 7], [0, 0]], [1, 2]], "tensordot(x, y, axes=1)[0]"),
    ("outer", lambda x, y: F.sum(F.outer(F.sqrt(x), y)[1:]), [A([0.0, 4]), A([3.0, 1])], [[0, 1], [2, 2]],
     "sum(outer(sqrt(x), y)[1:])"),
    ("concat", lambda x, y: F.sum(F.concat([F.sqrt(x), F.log(y)])[2:]), [A([0.0, 0]), A([1.0, 2])],
     [[0, 0], [1, 0.5]], "sum(concat([sqrt(x), log(y)])[2:])"),
    ("stack", lambda x: F.sum(F.stack([F.sqrt(x), 3 * x])[1]), [A([0.0, -4])], [[3, 3]],
     "sum(stack([sqrt(x), 3 * x])[1])"),
    ("split", lambda x: F.sum(F.split(F.sqrt(x), [1, 2])[1]), [A([0.0, 4, 1])], [[0, 0.25, 0.5]],
     "a, b = split(sqrt(x), [1, 2]); sum(b)"),
    ("sum, then slice", lambda x: F.sum(F.sum(F.sqrt(x), axes=1)[1:]), [A([[0.0, 1], [4, 1]])],
     [[[0, 0], [0.25, 0.5]]], "sum(sum(sqrt(x), axes=1)[1:])"),
    ("mean, then slice", lambda x: F.sum(F.mean(F.sqrt(x), axes=1)[1:]), [A([[0.0, 1], [4, 1]])],
     [[[0, 0], [0.125, 0.25]]], "sum(mean(sqrt(x), axes=1)[1:])"),
    ("variance, then slice", lambda x: F.sum(F.variance(x, axes=1)[1:]), [A([[NAN, 1], [4, 1]])],
     [[[0, 0], [1.5, -1.5]]], "sum(variance(x, axes=1)[1:])"),
    ("norm of a zero row", lambda x: F.sum(F.where(A([N, T]), F.norm(x, axes=1), 0.0)), [A([[0.0, 0], [3, 4]])],
     [[[0, 0], [0.6, 0.8]]], "sum(where(array([False, True]), norm(x, axes=1), 0))"),
    ("norm of a NaN row", lambda x: F.sum(F.norm(x, axes=1)[1:]), [A([[NAN, 0], [3, 4]])],
     [[[0, 0], [0.6, 0.8]]], "sum(norm(x, axes=1)[1:])"),
    ("std", lambda x: F.sum(F.where(A([N, T]), F.std(x, axes=1), 0.0)), [A([[NAN, 1.0], [1, 3]])],
     [[[0, 0], [-0.5, 0.5]]], "sum(where(array([False, True]), std(x, axes=1), 0))"),
    ("logsumexp", lambda x: F.sum(F.where(A([N, T]), F.logsumexp(x, axes=1), 0.0)), [A([[INF, NAN], [1, 1]])],
     [[[0, 0], [0.5, 0.5]]], "sum(where(array([False, True]), logsumexp(x, axes=1), 0))"),
    ("prod", lambda x: F.sum(F.where(A([N, T]), F.prod(x, axes=1), 0.0)), [A([[INF, NAN], [2, 3]])],
     [[[0, 0], [3, 2]]], "sum(where(array([False, True]), prod(x, axes=1), 0))"),
    ("atan2", lambda x, y: F.sum(F.where(A([N, T]), F.atan2(x, y), 0.0)), [A([0.0, 1]), A([0.0, 1])],
     [[0, 0.5], [0, -0.5]], "sum(where(array([False, True]), atan2(x, y), 0))"),
    ("pow", lambda x, y: F.sum(F.where(x > 0, x**y, 0.0)), [A([0.0, 2, -1]), A([-1.0, 3, 0.5])],
     [[0, 12, 0], [0, 8 * math.log(2), 0]], "sum(where(x > 0, x**y, 0))"),
    ("hypot", lambda x, y: F.sum(F.where(A([N, T]), F.hypot(x, y), x)), [A([NAN, 3]), A([0.0, 4])],
     [[1, 0.6], [0, 0.8]], "sum(where(array([False, True]), hypot(x, y), x))"),
    ("logaddexp", lambda x, y: F.sum(F.where(A([N, T]), F.logaddexp(x, y), x)), [A([-INF, 1]), A([-INF, 1])],
     [[1, 0.5], [0, 0.5]], "sum(where(array([False, True]), logaddexp(x, y), x))"),
    # n counts the labels that are not ignored: 1. Row 0: (softmax - one_hot) / z = ([.5,.5] - [1,0]) / [1,1].
    ("ignored label", lambda x: F.cross_entropy(F.log(x), A([0, -100])), [A([[1.0, 1], [0, 1]])],
     [[[-0.5, 0.5], [0, 0]]], "cross_entropy(log(x), [0, -100])"),
    ("masked column", lambda x: F.sum(F.where(A([[N, T], [N, T]]), F.sqrt(x), 1.0)), [A([0.0, 4])], [[0, 0.5]],
     "sum(where(array([[False, True], [False, True]]), sqrt(x), 1))"),
    # Column 0 is taken in row 1: its infinity is right.
    ("half-masked column", lambda x: F.sum(F.where(A([[N, T], [T, T]]), F.sqrt(x), 1.0)), [A([0.0, 4])], [[INF, 0.5]],
     "sum(where(array([[False, True], [True, True]]), sqrt(x), 1))"),
    ("used outside", lambda x: F.sum(F.where(x > 0, F.sqrt(x), 0.0) + x * x), [A([0.0, 4])], [[0, 8.25]],
     "sum(where(x > 0, sqrt(x), 0) + x * x)"),
    # What is also used outside keeps its own infinity or NaN.
    ("root used outside", lambda x: F.sum(F.where(x > 0, F.sqrt(x), 0.0) + F.sqrt(x)), [A([0.0, -1, 4])],
     [[INF, NAN, 0.5]], "sum(where(x > 0, sqrt(x), 0) + sqrt(x))"),
    # A zero that is merely a number never absorbs.
    ("numeric zero", lambda x: F.sum(F.sqrt(x) ** 2), [A([0.0, 4])], [[NAN, 1]], "sum(sqrt(x)**2)"),
    ("numeric mask", lambda x: F.sum(F.sqrt(x) * A([0.0, 1])), [A([0.0, 4])], [[NAN, 0.25]],
     "sum(sqrt(x) * array([0, 1]))"),
    ("scalar", lambda x: F.where(x > 0, F.sqrt(x), x * x), [A(-3.0)], [-6], "where(x > 0, sqrt(x), x * x)"),
    ("scalar relu", lambda x: F.relu(F.log(x)) + x, [A(0.0)], [1], "relu(log(x)) + x"),
    ("deep", lambda x: F.sum(F.where(x > 0, F.exp(F.sin(F.log(F.sqrt(x)) / x)), x)), [A([-1.0, 0])], [[1, 1]],
     "sum(where(x > 0, exp(sin(log(sqrt(x)) / x)), x))"),
    ("softplus by hand", lambda x: F.sum(F.where(x > 30, x, F.log(1 + F.exp(x)))), [A([1000.0, 0])], [[1, 0.5]],
     "sum(where(x > 30, x, log(1 + exp(x))))"),
    ("norm safe", lambda x: F.where(F.sum(x * x) > 0, F.sqrt(F.sum(x * x)), 0.0), [A([0.0, 0])], [[0, 0]],
     "where(sum(x * x) > 0, sqrt(sum(x * x)), 0)"),
]  # fmt: skip


def test_each_case_in_each_way() -> None:
    failures = []
    for name, f, inputs, want, _ in CASES:
        for way, run in WAYS.items():
            got = run(f, *inputs)
            failures += [
                f"{name}, {way}, argument {k}: {shown(g)}, right: {shown(w)}"
                for k, (g, w) in enumerate(zip(got, want, strict=True))
                if not agree(g, w)
            ]
    assert not failures, report(failures, len(CASES) * len(WAYS))


def test_each_case_over_http(server: Local) -> None:
    failures = []
    for name, _, inputs, want, text in CASES:
        given = dict(zip("xy", [spelled(x) for x in inputs], strict=False))
        expected = dict(zip("xy", want, strict=False))
        answers = {
            "evaluate": server.ask("/v1/evaluate", expr=text, inputs=given, backward=True)["grads"],
            "vjp": server.ask("/v1/vjp", expr=text, inputs=given, cotangents={"out": 1})["vjps"],
            "batched": {
                k: v[1]
                for k, v in server.ask(
                    "/v1/evaluate",
                    expr=text,
                    inputs={k: [spelled(np.full(np.shape(v), 0.5)), v] for k, v in given.items()},
                    batched=list(given),
                    backward=True,
                )["grads"].items()
            },
        }
        for mode in ("reverse", "forward", "auto"):
            jac = server.ask("/v1/jacobian", expr=text, inputs=given, mode=mode)["jacobian"]["out"]
            answers[f"jacobian {mode}"] = jac
        for way, got in answers.items():
            failures += [
                f"{name}, {way}, {k}: {got[k]}, right: {w}" for k, w in expected.items() if not agree(got[k], w)
            ]
    assert not failures, report(failures, len(CASES) * 6)


UNARY = (
    "abs acos acosh asin asinh atan atanh cos cosh digamma erf erfc exp exp2 expm1 gammaln gelu log log10 log1p log2 "
    "neg relu sigmoid sigmoid_slope sin sinh softplus sqrt square tan tanh"
).split()
BINARY = "add sub mul div pow maximum minimum hypot atan2 logaddexp".split()
WILD = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.0, -2.5, 1e308, -1e308, 5e-324]


def test_no_row_comes_through_a_branch_not_taken(server: Local) -> None:
    """Every elementwise row at every wild point; the branch that is taken has slope 3."""
    failures = []
    x = A(WILD)
    never = np.full(x.shape, N)
    for name in UNARY:
        row = getattr(F, name)

        def f(x: Any, row: Any = row) -> Any:
            return F.sum(F.where(never, row(x), 3.0 * x))

        first = {way: WAYS[way](f, x)[0] for way in ("tape", "compiled", "forward")}
        first["second"] = 3.0 + grad(lambda x, f=f: F.sum(grad(f)(x)))(x)
        text = f"sum(where(array({[False] * len(WILD)}), {name}(x), 3 * x))"
        first["http"] = server.ask("/v1/evaluate", expr=text, inputs={"x": spelled(x)}, backward=True)["grads"]["x"]
        failures += [f"{name}, {way}: {shown(g)}" for way, g in first.items() if not agree(g, np.full(x.shape, 3.0))]
    for name in BINARY:
        row = getattr(F, name)
        a, b = (m.ravel() for m in np.meshgrid(x, x))
        no = np.full(a.shape, N)

        def h(a: Any, b: Any, row: Any = row, no: Any = no) -> Any:
            return F.sum(F.where(no, row(a, b), 3.0 * a))

        for way in ("tape", "compiled", "forward"):
            ga, gb = WAYS[way](h, a, b)
            if not (agree(ga, np.full(a.shape, 3.0)) and agree(gb, np.zeros(a.shape))):
                failures.append(f"{name}, {way}: {shown(ga)}, {shown(gb)}")
    assert not failures, report(failures, len(UNARY) * 5 + len(BINARY) * 3)


# Between the root and the selection: what leaves elements apart keeps them apart. x is [[0, 4], [1, 9]] and the mask
# leaves out the image of x[0, 0] alone (or everything in its row, where rows are summed).
ROOT = [[0, 0.25], [0.5, 1 / 6]]
ROW = [[0, 0], [0.5, 1 / 6]]
CARRIERS: list[tuple[str, Callable[[Any], Any], Any, Any]] = [
    ("reshape", lambda r: F.reshape(r, (4,)), [N, T, T, T], ROOT),
    ("transpose", F.transpose, [[N, T], [T, T]], ROOT),
    ("matrix_transpose", F.matrix_transpose, [[N, T], [T, T]], ROOT),
    ("flip", lambda r: F.flip(r, axes=0), [[T, T], [N, T]], ROOT),
    ("roll", lambda r: F.roll(r, 1, axes=1), [[T, N], [T, T]], ROOT),
    ("unsqueeze", lambda r: F.unsqueeze(r, axes=1), [[[N, T]], [[T, T]]], ROOT),
    ("squeeze", lambda r: F.squeeze(F.reshape(r, (1, 2, 2)), axes=0), [[N, T], [T, T]], ROOT),
    ("broadcast_to", lambda r: F.broadcast_to(r, (2, 2, 2)) / 2, [[[N, T], [T, T]]] * 2, ROOT),
    ("tile", lambda r: F.tile(r, (2, 1)) / 2, [[N, T], [T, T], [N, T], [T, T]], ROOT),
    ("repeat", lambda r: F.repeat(r, 2, axis=1) / 2, [[N, N, T, T], [T, T, T, T]], ROOT),
    ("sum of rows", lambda r: F.sum(r, axes=1), [N, T], ROW),
    ("sum_to", lambda r: F.sum_to(r, (2, 1)), [[N], [T]], ROW),
    ("mean of rows", lambda r: 2 * F.mean(r, axes=1), [N, T], ROW),
    ("neg", lambda r: -F.neg(r), [[N, T], [T, T]], ROOT),
    ("add", lambda r: r + A([[1.0, 2], [3, 4]]), [[N, T], [T, T]], ROOT),
    ("mul", lambda r: r * A([[1.0, 2], [1, 2]]) / A([1.0, 2]), [[N, T], [T, T]], ROOT),
    ("astype", lambda r: F.astype(F.astype(r, "float32"), "float64"), [[N, T], [T, T]], ROOT),
    ("exp log", lambda r: F.log(F.exp(r)), [[N, T], [T, T]], ROOT),
    ("concat", lambda r: F.concat([A([[NAN, 1.0]]), r]), [[N, T], [N, T], [T, T]], ROOT),
    ("stack", lambda r: F.stack([r, r]) / 2, [[[N, T], [T, T]]] * 2, ROOT),
    ("slice", lambda r: r[::-1, ::-1], [[T, T], [T, N]], ROOT),
    ("take", lambda r: F.take(r, A([1, 0]), axis=1), [[T, N], [T, T]], ROOT),
    ("tril", lambda r: F.tril(r) + F.triu(r, 1), [[N, T], [T, T]], ROOT),
    ("matmul left", lambda r: r @ A([1.0, 1.0]), [N, T], ROW),
    ("matmul right", lambda r: A([[1.0, 1]]) @ F.transpose(r), [[N, T]], ROW),
    # Column 0 of the product is masked, and it alone reads x[:, 0].
    ("matmul identity", lambda r: A([[0.0, 1], [1, 0]]) @ r, [[N, T], [N, T]], [[0, 0.25], [0, 1 / 6]]),
    ("linear", lambda r: F.linear(r, A([[1.0], [1.0]]), A([1.0])), [[N], [T]], ROW),
    ("einsum", lambda r: F.einsum([r], subscripts="ij->ji"), [[N, T], [T, T]], ROOT),
    ("einsum sum", lambda r: F.einsum([r, A([1.0, 1.0])], subscripts="ij,j->i"), [N, T], ROW),
    ("tensordot", lambda r: F.tensordot(r, A([1.0, 1.0]), axes=1), [N, T], ROW),
    ("stop_gradient beside", lambda r: r + 0 * F.stop_gradient(F.exp(r)), [[N, T], [T, T]], ROOT),
    ("mask_fill", lambda r: F.mask_fill(r, A([[0.0, 1], [1, 1]]), value=9.0), [[T, T], [T, T]], ROOT),
    ("maximum", lambda r: F.maximum(r, A([[5.0, 0], [0, 0]])), [[T, T], [T, T]], ROOT),
    ("clip", lambda r: F.clip(r, 0.5, 10.0), [[T, T], [T, T]], ROOT),
]


def test_what_lies_between_the_singular_and_the_selection() -> None:
    failures = []
    x = A([[0.0, 4], [1, 9]])
    for name, carry, mask, want in CARRIERS:

        def f(x: Any, carry: Any = carry, mask: Any = mask) -> Any:
            return F.sum(F.where(A(mask), carry(F.sqrt(x)), 0.0))

        tolerance = 1e-6 if name == "astype" else 1e-9
        for way, run in WAYS.items():
            got = run(f, x)[0]
            if not agree(got, want, rtol=tolerance):
                failures.append(f"{name}, {way}: {shown(got)}, right: {shown(want)}")
    assert not failures, report(failures, len(CARRIERS) * len(WAYS))


# name, function of one argument, point, Hessian
HESSIANS: list[tuple[str, Callable[[Any], Any], Any, Any, str]] = [
    ("sqrt or x", lambda x: F.sum(F.where(x > 0, F.sqrt(x), x)), [-1.0, 4, 0], np.diag([0, -1 / 32, 0]),
     "sum(where(x > 0, sqrt(x), x))"),
    ("pow 1.5 not taken", lambda x: F.sum(F.where(x > 0, x**1.5, 0.0)), [0.0, 1], np.diag([0, 0.75]),
     "sum(where(x > 0, x**1.5, 0))"),
    # Taken: its second derivative is infinite, and it has nothing to do with the other element.
    ("pow 1.5 taken", lambda x: F.sum(x**1.5), [0.0, 1], np.diag([INF, 0.75]), "sum(x**1.5)"),
    ("sliced away", lambda x: F.sum(F.log(x)[1:]), [0.0, 2], np.diag([0, -0.25]), "sum(log(x)[1:])"),
    ("maximum", lambda x: F.sum(F.maximum(F.sqrt(x), 1.0)), [0.0, 4], np.diag([0, -1 / 32]),
     "sum(maximum(sqrt(x), 1))"),
    ("max", lambda x: F.max(F.sqrt(x)), [0.0, 4], np.diag([0, -1 / 32]), "max(sqrt(x))"),
    ("clip", lambda x: F.sum(F.clip(1 / x, -2.0, 2.0)), [0.0, 2], np.diag([0, 0.25]), "sum(clip(1/x, -2, 2))"),
    ("product across", lambda x: F.where(x[0] > 0, F.log(x[0]) * x[1], x[0] * x[1] ** 2), [-1.0, 3],
     [[0, 6], [6, -2]], "where(x[0] > 0, log(x[0]) * x[1], x[0] * x[1]**2)"),
    ("relu", lambda x: F.sum(F.relu(F.log(x)) * x), [0.0, 2], np.diag([0, 0.5]), "sum(relu(log(x)) * x)"),
    ("sinc", lambda x: F.sum(F.where(x == 0, 1 - x * x / 6, F.sin(x) / x)), [0.0, math.pi],
     np.diag([-1 / 3, 2 / math.pi**2]), "sum(where(x == 0, 1 - x*x/6, sin(x)/x))"),
    # Row 0 is the zero vector, and is left out; for row (3, 4): (I - u u') / 5.
    ("norm row", lambda x: F.sum(F.norm(F.reshape(x, (2, 2)), axes=1)[1:]), [0.0, 0, 3, 4],
     [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0.128, -0.096], [0, 0, -0.096, 0.072]],
     "sum(norm(reshape(x, [2, 2]), axes=1)[1:])"),
]  # fmt: skip


def second_on_tape(f: Callable[[Any], Any], x: Any) -> Any:
    """Return the sum of the Hessian's rows, as a second backward pass gives it."""
    v = Variable(x)
    f(v).backward(create_graph=True)
    g = v.grad
    assert g is not None
    v.cleargrad()
    F.sum(g).backward()
    return np.zeros(v.shape) if v.grad is None else v.grad.data


def test_second_derivatives(server: Local) -> None:
    failures = []
    for name, f, point, want, text in HESSIANS:
        x, right = A(point), np.array(want, dtype=float)
        http = server.ask("/v1/hessian", expr=text, inputs={"x": point})
        basis = np.eye(len(x))
        got = {
            "hessian": hessian(f)(x),
            "compiled": compile(hessian(f))(x),
            "reverse of reverse": jacobian(grad(f), mode="reverse")(x),
            "forward of forward": jacobian(jacobian(f, mode="forward"), mode="forward")(x),
            "reverse of forward": jacobian(jacobian(f, mode="forward"), mode="reverse")(x),
            "http": http["hessian"]["x"]["x"],
            "vmap": vmap(hessian(f))(np.stack([x, x]))[1],
        }
        if np.isfinite(right).all():
            # A user's vector has zeros that are mere numbers; that is the same where all is finite.
            got["hvp"] = np.stack([hvp(f, (x,), (e,))[0] for e in basis])
            many = server.ask("/v1/hvp", expr=text, inputs={"x": point}, vectors={"x": basis.tolist()}, many=True)
            got["http hvp"] = many["hvp"]["x"]
            got["order 2"] = np.diag(right.sum(0)) + 0.0
            order = server.ask("/v1/evaluate", expr=text, inputs={"x": point}, backward={"order": 2})
            got["order 2"] = right if agree(order["higher"]["x"][1], right.sum(0)) else order["higher"]["x"][1]
            tape = second_on_tape(f, x)
            got["tape"] = right if agree(tape, right.sum(0)) else tape
        failures += [
            f"{name}, {way}: {shown(g)}, right: {shown(right)}" for way, g in got.items() if not agree(g, right)
        ]
    assert not failures, report(failures, len(HESSIANS) * 11)


def test_third_order_over_http(server: Local) -> None:
    answer = server.ask(
        "/v1/evaluate", expr="sum(where(x > 0, sqrt(x), x))", inputs={"x": [-1, 4, 0]}, backward={"order": 3}
    )
    # sqrt''' = 3/8 x**-2.5, at 4: 3/256.
    assert agree(answer["higher"]["x"], [[1, 0.25, 1], [0, -1 / 32, 0], [0, 3 / 256, 0]]), answer["higher"]


JACOBIANS: list[tuple[str, Callable[[Any], Any], Any, Any, str]] = [
    ("sqrt", F.sqrt, [0.0, 4], [[INF, 0], [0, 0.25]], "sqrt(x)"),
    ("log and more", lambda x: F.log(x) * 2 + x, [0.0, 2, 1], np.diag([INF, 2, 3]), "log(x) * 2 + x"),
    ("reversed", lambda x: F.flip(F.sqrt(x)), [0.0, 4], [[0, 0.25], [INF, 0]], "flip(sqrt(x))"),
    ("NaN element", lambda x: x * x, [NAN, 2], [[NAN, 0], [0, 4]], "x * x"),
    ("neighbours", lambda x: F.sqrt(x)[1:] - x[:-1], [0.0, 4, 0], [[-1, 0.25, 0], [0, -1, INF]],
     "sqrt(x)[1:] - x[:-1]"),
    ("row sums", lambda x: F.sum(F.sqrt(F.reshape(x, (2, 2))), axes=1), [0.0, 1, 4, 9],
     [[INF, 0.5, 0, 0], [0, 0, 0.25, 1 / 6]], "sum(sqrt(reshape(x, [2, 2])), axes=1)"),
    ("selected", lambda x: F.where(x > 0, F.sqrt(x), x), [0.0, 4, -1], np.diag([1, 0.25, 1]),
     "where(x > 0, sqrt(x), x)"),
    ("one of all", lambda x: F.stack([F.sqrt(x)[1], x[0] * x[1]]), [0.0, 4], [[0, 0.25], [4, 0]],
     "stack([sqrt(x)[1], x[0] * x[1]])"),
    ("norms of rows", lambda x: F.norm(F.reshape(x, (2, 2)), axes=1), [NAN, 1, 3, 4],
     [[NAN, NAN, 0, 0], [0, 0, 0.6, 0.8]],
     "norm(reshape(x, [2, 2]), axes=1)"),
    # Row 0 of the matrix has a NaN: y[0] is NaN whatever x[1] is, so d y[0]/d x = (nan, 2), numbers of the matrix.
    ("matmul", lambda x: A([[NAN, 2], [3, 4]]) @ x, [1.0, 2], [[NAN, 2], [3, 4]], "array([[nan, 2], [3, 4]]) @ x"),
    ("scalar times", lambda x: x[0] * F.sqrt(x), [4.0, 0], [[3, 0], [0, INF]], "x[0] * sqrt(x)"),
]  # fmt: skip


def test_jacobians_agree_in_both_modes(server: Local) -> None:
    """An element of a basis seed that is 0 is a branch not taken, forward and in reverse."""
    failures = []
    for name, f, point, want, text in JACOBIANS:
        x, right = A(point), np.array(want, dtype=float)
        got = {}
        for mode in ("forward", "reverse", "auto"):
            got[mode] = jacobian(f, mode=mode)(x)
            got[f"compiled {mode}"] = compile(jacobian(f, mode=mode))(x)
            got[f"vmap {mode}"] = vmap(jacobian(f, mode=mode))(np.stack([np.ones_like(x), x]))[1]
            asked = {"expr": text, "inputs": {"x": spelled(x)}, "mode": mode}
            got[f"http {mode}"] = server.ask("/v1/jacobian", **asked)["jacobian"]["out"]["x"]
            asked |= {"inputs": {"x": [spelled(x), spelled(x)]}, "batched": ["x"]}
            got[f"batched {mode}"] = server.ask("/v1/jacobian", **asked)["jacobian"]["out"]["x"][0]
        failures += [
            f"{name}, {way}: {shown(g)}, right: {shown(right)}" for way, g in got.items() if not agree(g, right)
        ]
    assert not failures, report(failures, len(JACOBIANS) * 15)


def test_outputs_without_a_cotangent_do_not_contribute(server: Local) -> None:
    asked = {"expr": "a = sqrt(x); b = 2 * x; a, b", "inputs": {"x": [0, 4]}}
    left_out = server.ask("/v1/vjp", **asked, cotangents={"b": [1, 1]})["vjps"]["x"]
    assert agree(left_out, [2, 2]), left_out
    # Zeros that a user gives are numbers: 0 * inf.
    zeros = server.ask("/v1/vjp", **asked, cotangents={"a": [0, 1], "b": [1, 1]})["vjps"]["x"]
    assert agree(zeros, [NAN, 2.25]), zeros
    no_tangent = server.ask(
        "/v1/jvp", expr="where(x > y, sqrt(x), y)", inputs={"x": [0, 4], "y": [1, 2]}, tangents={"x": [1, 1]}
    )
    assert agree(no_tangent["jvps"]["out"], [0, 0.25]), no_tangent


def test_inputs_without_a_tangent_do_not_contribute(server: Local) -> None:
    """An input without a tangent counts as zero: its own singularity stays outside."""
    answer = server.ask("/v1/jvp", expr="sqrt(x) + y * y", inputs={"x": 0, "y": 3}, tangents={"y": 1})
    assert agree(answer["jvps"]["out"], 6.0), answer


def test_dropped_elements_do_not_contribute(server: Local) -> None:
    """The slope of the root at 0 is infinite where it is kept and absent where it is dropped, never NaN."""
    asked = {"expr": "sum(dropout(sqrt(x), 0.5))", "inputs": {"x": [0.0] * 64}, "train": True, "seed": 3}
    got = server.ask("/v1/evaluate", **asked, backward=True)["grads"]["x"]
    assert set(got) == {0.0, "Infinity"}, got
    x = Variable(np.zeros(64))
    F.sum(F.dropout(F.sqrt(x), 0.5, rng=3)).backward()
    assert x.grad is not None
    assert set(np.unique(x.grad.data)) == {0.0, INF}


def test_gradients_of_nodes_and_gradients_inside_programs(server: Local) -> None:
    asked = {"expr": "r = sqrt(x); s = where(x > 0, r, x); sum(s)", "inputs": {"x": [-1, 4]}}
    answer = server.ask("/v1/evaluate", **asked, backward={"retain_grad": True})
    assert agree(answer["node_grads"]["r"], [0, 1]) and agree(answer["grads"]["x"], [1, 0.25]), answer
    wrt_node = server.ask("/v1/evaluate", **asked, backward={"wrt": ["r"]})["grads"]["r"]
    assert agree(wrt_node, [0, 1]), wrt_node
    inner = "u = where(x > 0, sqrt(x), x*x); du = grad(sum(u), x); sum(du**2)"
    # du = (2x, 1/(2 sqrt x)); d/dx sum(du^2) = (8x, -1/(4 x^2)) at (-1, 4).
    answer = server.ask("/v1/evaluate", expr=inner, inputs={"x": [-1, 4]}, backward=True)
    assert agree(answer["values"]["out"], 4 + 1 / 16) and agree(answer["grads"]["x"], [-8, -1 / 64]), answer
    seen = "u = where(x > 0, sqrt(x), x); du = grad(sum(u), x); sum(isnan(du))"
    assert server.ask("/v1/evaluate", expr=seen, inputs={"x": [-1, 4]})["values"]["out"] == 0


def test_check_agrees_where_a_branch_is_not_taken(server: Local) -> None:
    for order in (1, 2):
        answer = server.ask("/v1/check", expr="sum(where(x > 0, sqrt(x), x))", inputs={"x": [-1, 4]}, order=order)
        assert answer["ok"] is True, answer


def test_gradient_programs_are_right_at_other_points(server: Local) -> None:
    asked = {"expr": "sum(where(x > 0, sqrt(x), x))", "inputs": {"x": [1, 4]}}
    stored = server.ask("/v1/evaluate", **asked, backward={"create_graph": True})["grad_program"]
    answer = server.ask("/v1/evaluate", program=stored, inputs={"x": [-1, 0]})["values"]["grad_x"]
    assert agree(answer, [1, 1]), answer
    answer = server.ask("/v1/jacobian", program=stored, inputs={"x": [-1, 4]})["jacobian"]["grad_x"]["x"]
    assert agree(answer, [[0, 0], [0, -1 / 32]]), answer


def test_sessions(server: Local) -> None:
    session = server.ask("/v1/sessions")["id"]
    commands: list[dict[str, Any]] = [
        {"do": "variable", "id": "x", "value": [-1, 4, 0]},
        {"do": "apply", "expr": "sum(where(x > 0, sqrt(x), x))", "out": ["y"]},
        {"do": "backward", "of": "y", "create_graph": True},
        {"do": "grad", "of": "x", "out": "g"},
        {"do": "cleargrad"},
        {"do": "apply", "op": "sum", "args": ["g"], "out": ["s"]},
        {"do": "backward", "of": "s"},
    ]
    fetched = server.ask(f"/v1/sessions/{session}/run", commands=commands, fetch=["g", "x"])["fetched"]
    assert agree(fetched["g"]["value"], [1, 0.25, 1]), fetched
    assert agree(fetched["x"]["grad"], [0, -1 / 32, 0]), fetched


def test_one_bad_row_of_a_batch(server: Local) -> None:
    x = [[1, 4], [-1, 4], [0, 0], [-1, -1], [9, 1]]
    answer = server.ask(
        "/v1/evaluate", expr="sum(where(x > 0, sqrt(x), x))", inputs={"x": x}, batched=["x"], backward=True
    )
    assert agree(answer["grads"]["x"], [[0.5, 0.25], [1, 0.25], [1, 1], [1, 1], [1 / 6, 0.5]]), answer


def test_a_plan_that_met_it_once_stays_right(server: Local) -> None:
    """The same program before and after the point at which only the branch spares the NaN."""
    step = compile(grad(lambda x: F.sum(F.where(x > 0, F.sqrt(x), x))))
    points = [([1.0, 4], [0.5, 0.25]), ([-1.0, 4], [1, 0.25]), ([1.0, 4], [0.5, 0.25]), ([0.0, -0.0], [1, 1])] * 2
    for point, want in points:
        assert agree(step(A(point)), want), point
        asked = {"expr": "sum(where(x > 0, sqrt(x), x)) * 1.0", "inputs": {"x": point}, "backward": True}
        assert agree(server.ask("/v1/evaluate", **asked)["grads"]["x"], want), point


def test_backward_twice_and_gradients_that_add_up() -> None:
    x = Variable([-1.0, 4.0])
    y = F.sum(F.where(x > 0, F.sqrt(x), x))
    y.backward()
    F.sum(x * x).backward()
    assert agree(x.grad, [-1, 8.25])
    x.cleargrad()
    r = F.sqrt(x)
    F.sum(F.where(x > 0, r, x)).backward(retain_grad=True)
    assert agree(r.grad, [0, 1])


def test_a_cotangent_of_zero_is_a_number() -> None:
    x = Variable([0.0, 4.0])
    F.sqrt(x).backward(cotangent=[0.0, 1.0])
    assert agree(x.grad, [NAN, 0.25])


def test_float32() -> None:
    x = Variable(A([-1, 4, 0], dtype="float32"))
    F.sum(F.where(x > 0, F.sqrt(x), x)).backward()
    assert x.grad is not None
    assert x.grad.dtype == "float32" and agree(x.grad, [1, 0.25, 1])


def programs(seed: int, count: int, n: int = 3, steps: int = 7) -> Iterator[tuple[int, Program]]:
    """Draw programs that neither rounding nor overflow decides."""
    rng = np.random.default_rng(seed)
    drawn = 0
    while drawn < count:
        try:
            program = random_program(rng, n, steps)
        except S.AmbiguousBranchError:
            continue
        yield drawn, program
        drawn += 1


def wanted(program: Program, inputs: list[np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the oracle's gradients, and what is left open; None where numbers grow out of all proportion."""
    try:
        y, _, leaves = program.oracle(inputs)
        want = np.array([S.value(g) for g in S.gradients(y, leaves)])
    except S.AmbiguousBranchError:
        return None
    if np.any(np.abs(want[np.isfinite(want)]) > 1e6):
        return None
    shape = (2, program.n, program.n)
    return want.reshape(shape), np.array(S.open_leaves([y], leaves, "open1")).reshape(shape)


def difference(program: Program, way: str, got: Any, want: Any) -> str:
    return f"{way}: {program.text()}\n  at {program.document()}\n  {shown(got)}\n  right: {shown(want)}"


def read(document: dict[str, Any]) -> list[str]:
    return [name for name in "xy" if name in document]


def both(grads: dict[str, Any], want: np.ndarray) -> np.ndarray:
    """Return the gradients of x and y; zeros for the one that the text doesn't read."""
    return np.stack([numbers(grads[name]) if name in grads else np.zeros(want.shape[1:]) for name in "xy"])


def test_random_programs_at_first_order(server: Local) -> None:
    failures, cases = [], 0
    for k, program in programs(11, 300):
        expected = wanted(program)
        if expected is None:
            continue
        want, leave_out = expected
        ways = ["tape"] if k % 5 else ["tape", "create_graph", "grad", "compiled", "vmap"]
        got = {way: np.stack(WAYS[way](program.loss, *program.inputs)) for way in ways}
        if k % 5 == 0:
            document = program.document()
            asked = {"expr": program.text(), "inputs": document, "backward": {"wrt": read(document)}}
            got["http"] = both(server.ask("/v1/evaluate", **asked)["grads"], want)
        cases += len(got)
        failures += [
            difference(program, way, g, want) for way, g in got.items() if not agree_in_pattern(g, want, leave_out)
        ]
    assert not failures, report(failures, cases)


def test_random_programs_in_batches(server: Local) -> None:
    failures, cases = [], 0
    for _, program in programs(12, 40):
        others = [
            program.inputs,
            [-x for x in program.inputs],
            [x.T for x in program.inputs],
            [x * 0 for x in program.inputs],
        ]
        expected = [wanted(program, inputs) for inputs in others]
        document = program.document()
        names = read(document)
        document |= {name: [spelled(inputs["xy".index(name)]) for inputs in others] for name in names}
        asked = {"expr": program.text(), "inputs": document, "batched": names, "backward": {"wrt": names}}
        grads = server.ask("/v1/evaluate", **asked)["grads"]
        rows = vmap(grad(program.loss, argnums=(0, 1)))(*(np.stack([inputs[i] for inputs in others]) for i in (0, 1)))
        for i, right in enumerate(expected):
            if right is None:
                continue
            row = {name: g[i] for name, g in grads.items()}
            got = {"http": both(row, right[0]), "vmap": np.stack([rows[0][i], rows[1][i]])}
            cases += len(got)
            failures += [
                difference(program, f"{way}, row {i}", g, right[0])
                for way, g in got.items()
                if not agree_in_pattern(g, *right)
            ]
    assert not failures, report(failures, cases)


def test_random_programs_at_second_order(server: Local) -> None:
    """Hessians: elements whose leaf passes an infinity or a kink on a branch that is taken are left out."""
    failures, cases = [], 0
    for k, program in programs(13, 60, n=2, steps=6):
        try:
            y, _, leaves = program.oracle()
            first = S.gradients(y, leaves)
            rows = [S.gradients(g, leaves) for g in first]
        except S.AmbiguousBranchError:
            continue
        want = np.array([[S.value(v) for v in row] for row in rows])
        if np.any(np.abs(want[np.isfinite(want)]) > 1e6):
            continue
        outer = np.array(S.open_leaves([y], leaves, "open2"))
        inner = np.array([S.open_leaves([g], leaves, "open2") for g in first])
        leave_out = outer[:, None] | outer[None, :] | inner

        def f(z: Any, program: Program = program) -> Any:
            return program.loss(F.reshape(z[:4], (2, 2)), F.reshape(z[4:], (2, 2)))

        z = np.concatenate([x.ravel() for x in program.inputs])
        got = {"hessian": hessian(f)(z), "reverse of reverse": jacobian(grad(f), mode="reverse")(z)}
        if k % 3 == 0:
            got["compiled"] = compile(hessian(f))(z)
            document = program.document()
            answer = server.ask("/v1/hessian", expr=program.text(), inputs=document, wrt=read(document))["hessian"]
            none = np.zeros((2, 2, 2, 2))
            blocks = [[answer[a][b] if a in answer and b in answer else none for b in "xy"] for a in "xy"]
            got["http"] = np.block([[numbers(b).reshape(4, 4) for b in row] for row in blocks])
        cases += len(got)
        failures += [
            difference(program, way, g, want) for way, g in got.items() if not agree_in_pattern(g, want, leave_out)
        ]
    assert not failures, report(failures, cases)


def test_random_jacobians(server: Local) -> None:
    """Every element of the last matrix against its own pass of the oracle, in all modes."""
    failures, cases = [], 0
    for k, program in programs(14, 60, n=2, steps=5):
        try:
            _, last, leaves = program.oracle()
            want = np.array([[S.value(g) for g in S.gradients(v, leaves)] for v in last])
        except S.AmbiguousBranchError:
            continue
        if np.any(np.abs(want[np.isfinite(want)]) > 1e6):
            continue
        leave_out = np.array([S.open_leaves([v], leaves, "open1") for v in last])
        got = {}
        for mode in ("reverse", "forward", "auto"):
            blocks = jacobian(program.last, argnums=(0, 1), mode=mode)(*program.inputs)
            got[mode] = np.concatenate([np.reshape(b, (4, 4)) for b in blocks], axis=1)
            if k % 3 == 0:
                *lines, _ = program.text().split("; ")
                name = f"v{len(lines) + 1}"
                text = "; ".join([*lines, name])
                given = program.document(text)
                asked = {"expr": text, "inputs": given, "wrt": read(given), "mode": mode}
                answer = server.ask("/v1/jacobian", **asked)["jacobian"][name] if read(given) else {}
                parts = [numbers(answer[n]).reshape(4, 4) if n in answer else np.zeros((4, 4)) for n in "xy"]
                got[f"http {mode}"] = np.concatenate(parts, axis=1)
        cases += len(got)
        failures += [
            difference(program, way, g, want) for way, g in got.items() if not agree_in_pattern(g, want, leave_out)
        ]
    assert not failures, report(failures, cases)


def test_random_tangents() -> None:
    """A tangent that a user gives: where the derivative is finite, it is the sum of the gradients.

    The contract leaves open whether a slope of 0 that clip made absorbs an infinite one after it when the seed is no
    mask, so a NaN proves nothing here.
    """
    failures, cases = [], 0
    for _, program in programs(15, 150):
        expected = wanted(program)
        if expected is None or expected[1].any():
            continue
        want = expected[0].sum()
        ones = [np.ones_like(x) for x in program.inputs]
        _, got = jvp(program.loss, program.inputs, ones)
        cases += 1
        if np.isfinite(numbers(got)) and not agree_in_pattern(got, want):
            failures.append(difference(program, "jvp", got, want))
    assert not failures, report(failures, cases)


def test_the_docs_no_longer_ask_for_guards(server: Local) -> None:
    assert "guard" not in str(server.get("/v1/ops/where").json()["doc"])
